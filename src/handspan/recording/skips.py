"""What did not run: counted in memory, until the writer takes the counts to the store.

A predicate refuses thousands of events a second on the event loop, so counting is a clock, a lock and an addition: 0.8
us measured beside eight busy neighbours, where a dict's increment took 0.13. Nothing is journaled: a ``kill -9`` loses
what was counted since the last write, 30 s at most. By the hour, as the store keeps it.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from whenever import Instant

from handspan.clock import Clock, SystemClock, to_ns
from handspan.commands import Handle
from handspan.reasons import REASONS, Reason, Skipped

__all__ = ["Skips"]

_log = logging.getLogger("handspan")

MAX_ENTRIES: Final = (
    20_000  # some 4 MB: what a stalled database leaves of a day of sixty busy registrations, often over
)
MOST: Final = 10**12  # at once: a sum past 64 bits would take all other counts along


class Skips:
    """The counts of one session. A forked child :meth:`begin`\\ s anew."""

    def __init__(self, owner: object, clock: Clock) -> None:
        self._owner = owner
        self._wall_ns = time.time_ns if isinstance(clock, SystemClock) else clock.wall_ns  # a third of the cost
        self.on_first: Callable[[], None] = lambda: None
        """Called when there is something to write again, on whatever thread that is."""
        self._said: set[str] = set()
        self.begin()

    def begin(self) -> None:
        """Nothing is counted, and nobody is in here: what was, is the parent's."""
        self._mutex = threading.RLock()  # reentrant: a signal's handler may publish, too
        self._now: dict[tuple[int, str], Skipped] = {}
        self._others: dict[tuple[int, str, int], Skipped] = {}  # of hours that are over, or that were given
        self.dropped = 0

    def add(self, handle: Handle, reason: Reason, count: int = 1, *, at: Instant | None = None) -> None:
        """Something that was registered did not run. Never raises, never waits for the database.

        ``reason``: one of :data:`handspan.reasons.REASONS`; any other is not counted, which is logged once.
        ``at``: when it would have run, if that was not now.
        """
        try:
            if at is None and 0 < count <= MOST:
                now = self._wall_ns()
                with self._mutex:
                    known = self._now.get((handle.number, reason))
                    # One of this very registration, so of this Telemetry, and of a reason that was looked at.
                    if known is not None and known.registration is handle.registration and now < known.ends_ns:
                        known.count += count
                        known.last_ns = now
                        return
            self._begin_one(handle, reason, count, at)
        except Exception:  # noqa: BLE001 - called on the way of an event: nothing of ours may reach it
            self._say("failed", "handspan failed in counting what did not run; the application is not affected.")

    def _begin_one(self, handle: Handle, reason: Reason, count: int, at: Instant | None) -> None:
        if handle.owner is not self._owner or reason not in REASONS or count < 1:
            self._refuse(handle, reason, count)
            return
        count = min(int(count), MOST)
        now = self._wall_ns() if at is None else to_ns(at)
        with self._mutex:
            first = not self.waiting
            self._open(Skipped(handle.number, handle.registration, reason, count, now, now), current=at is None)
        if first:
            self.on_first()

    def _open(self, entry: Skipped, *, current: bool) -> None:
        if len(self._now) + len(self._others) >= MAX_ENTRIES:
            self.dropped += entry.count
            return
        if current:
            before = self._now.get((entry.number, entry.reason))
            if before is not None:
                self._keep(before)
            self._now[entry.number, entry.reason] = entry
        else:
            self._keep(entry)

    def _keep(self, entry: Skipped) -> None:
        known = self._others.setdefault((entry.number, entry.reason, entry.ends_ns), entry)
        if known is not entry:
            known.count += entry.count
            known.first_ns, known.last_ns = min(known.first_ns, entry.first_ns), max(known.last_ns, entry.last_ns)

    @property
    def waiting(self) -> bool:
        """There is something to write."""
        return bool(self._now or self._others)

    def take(self) -> list[Skipped]:
        """All that was counted, one entry for each registration, reason and hour; it is the caller's to write, or to
        :meth:`put_back`."""
        if not self.waiting:
            return []
        with self._mutex:
            for entry in self._now.values():
                self._keep(entry)
            taken, self._now, self._others = list(self._others.values()), {}, {}
            dropped, self.dropped = self.dropped, 0
        if dropped:
            _log.warning("%s events or runs that were skipped are not counted: there was no room.", dropped)
        return taken

    def put_back(self, entries: list[Skipped]) -> None:
        """They could not be written."""
        with self._mutex:
            for entry in entries:
                self._keep(entry)

    def _refuse(self, handle: Handle, reason: str, count: int) -> None:
        if count < 1:
            return
        if reason not in REASONS:
            self._say(str(reason), f"{reason!r} is no reason not to run: {', '.join(REASONS)} are. It is not counted.")
        else:
            self._say("owner", f"{handle!r} belongs to another Telemetry: what it skips is not counted here.")

    def _say(self, what: str, sentence: str) -> None:
        try:
            if what not in self._said and len(self._said) < len(REASONS):  # a bound: reasons may be made up
                self._said.add(what)
                _log.error(sentence, exc_info=what == "failed")
        except Exception:  # noqa: BLE001, S110 - logging itself is broken: there is nobody left to tell
            pass
