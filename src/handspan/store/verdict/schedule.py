"""Rules about what did not happen: missed and overlapped runs, a next run that is past, silence."""

import math
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from whenever import Instant

from handspan.clock import to_ns
from handspan.store.queries.shapes import instant
from handspan.store.verdict.habit import DAY, HOUR
from handspan.store.verdict.shapes import Figure, Finding, Known, Rule
from handspan.store.verdict.telling import about, see_registration
from handspan.wording import amount, clock, took

__all__ = [
    "ACTIVE_HOURS",
    "Due",
    "Lives",
    "Pauses",
    "Skipped",
    "is_news",
    "longest_pause",
    "overdue",
    "quiet",
    "skipped",
]

SMALL: Final = 0.01
"""Of the runs: a job of every ten seconds misses one in a hundred when the machine is busy."""
OVERLAPS: Final = 3
"""One overlap is a run that took long; the next one tells."""
UNUSUAL: Final = 9.0  # nats: about one chance in ten thousand
ACTIVE_HOURS: Final = 20
"""Hours with runs, without which nobody knows its pauses."""
BUSY: Final = 12
"""Runs in each of its hours: then no pause is longer than half of one."""
OVERDUE: Final = 60.0
"""Seconds past due: a commit and a busy scheduler take some."""


class Lives:
    """When at least one session lived, from intervals in any order."""

    def __init__(self, lives: Iterable[tuple[float, float]]) -> None:
        self._starts: list[float] = []
        self._ends: list[float] = []
        self._before: list[float] = []  # seconds lived before each
        for start, end in sorted(lives):
            if self._ends and start <= self._ends[-1]:
                self._ends[-1] = max(self._ends[-1], end)
            elif end > start:
                self._before.append(self._before[-1] + self._ends[-1] - self._starts[-1] if self._ends else 0.0)
                self._starts.append(start)
                self._ends.append(end)

    def between(self, start: float, end: float) -> float:
        """Seconds lived."""
        return self._until(end) - self._until(start)

    def _until(self, moment: float) -> float:
        place = bisect_right(self._starts, moment) - 1
        if place < 0:
            return 0.0
        return self._before[place] + min(moment, self._ends[place]) - self._starts[place]


@dataclass(frozen=True)
class Skipped:
    """Runs of a job that did not happen, of one reason."""

    reason: str
    count: int
    first_at: float
    last_at: float
    runs: int
    """What did run in the window."""
    before: int
    """Likewise skipped in the habit."""
    window_days: float
    habit_days: float


def is_news(found: Skipped) -> bool:
    """The first of its kind in the habit's time, or many more than ever."""
    least = OVERLAPS if found.reason == "overlapped" else 1
    if found.count < least or found.count < SMALL * (found.runs + found.count):
        return False
    if not found.before:
        return True
    usual = (found.before + 1) / max(found.habit_days, found.window_days) * found.window_days
    return found.count > 2 * usual and found.count * math.log(found.count / usual) - (found.count - usual) >= UNUSUAL


def skipped(known: Known, found: Skipped, now: Instant) -> Finding:
    since = instant(found.first_at)
    runs = amount(found.count, "run")
    when = f"since {clock(since, now)}" if found.count > 1 else f"at {clock(since, now)}"
    what = {
        "down": f"missed {runs} {when} while the process was down",
        "overlapped": f"skipped {runs} {when} because the one before still ran",
    }.get(found.reason, f"missed {runs} {when}")
    usual = found.before / found.habit_days * found.window_days if found.habit_days else 0.0
    rule: Rule = "overlapped" if found.reason == "overlapped" else "missed"
    return about(
        known, rule, "notice" if rule == "overlapped" or found.reason == "down" else "trouble", since,
        f"{known.title} {what}{_usually(known, found, usual, now)}.", see_registration(known, since, now),
        now=Figure(found.count, "runs", found.runs + found.count),
        habit=Figure(round(usual, 3), "runs") if found.habit_days else None,
        weight=float(found.count),
    )  # fmt: skip


def _usually(known: Known, found: Skipped, usual: float, now: Instant) -> str:
    """The habit, as long as it is: none of what was registered in the window."""
    if found.before:
        return f", {usual:.1f} in {took(found.window_days * DAY * 1000)} is its habit"
    if found.habit_days >= 1:
        return f", which it never did in the {amount(int(found.habit_days), 'day')} before"
    if found.habit_days:
        return f", which it never did in the {took(found.habit_days * DAY * 1000)} before"
    age = max(0, to_ns(now) / 1e9 - known.registered_at)
    return f"; it was registered {took(age * 1000)} ago, so there is no habit yet"


@dataclass(frozen=True)
class Due:
    """A job that a living session holds."""

    next_run: float
    last_run: float | None
    running_since: float | None


def overdue(known: Known, due: Due, now: Instant, now_s: float) -> Finding | None:
    if now_s - due.next_run < OVERDUE:
        return None
    since = instant(due.next_run)
    why = "has not started"
    if due.running_since is not None:
        started = instant(due.running_since)
        why = (
            f"waits for the run of {clock(started, now)}, which still runs ({took((now_s - due.running_since) * 1000)})"
        )
    last = (
        ""
        if due.last_run is None or due.running_since is not None
        else f"; it last ran at {clock(instant(due.last_run), now)}"
    )
    late = Figure(now_s - due.next_run, "seconds")
    words = f"{known.title} was due at {clock(since, now)} and {why}{last}."
    return about(known, "overdue", "trouble", since, words, see_registration(known, since, now), now=late)


@dataclass(frozen=True)
class Pauses:
    """A registration's longest usual silence, and its present one, in seconds that some session lived."""

    longest: float
    silent: float
    hours: int


def longest_pause(active: Sequence[tuple[int, int]], last_run: float, now: float, lives: Lives) -> Pauses | None:
    """``active`` are (hour, runs), ascending, the newest included. None with too few to know."""
    if len(active) < ACTIVE_HOURS:
        return None
    busy = min(runs for _, runs in active) >= BUSY
    longest = HOUR / 2 if busy else float(HOUR)
    for (earlier, _), (later, _) in pairwise(active):
        if later - earlier > HOUR:
            longest = max(longest, lives.between(earlier, later))
    return Pauses(longest, lives.between(last_run, now), len(active))


def quiet(known: Known, pauses: Pauses, last_run: float, now: Instant, factor: float) -> Finding | None:
    if pauses.silent < max(HOUR, factor * pauses.longest):
        return None
    since = instant(last_run)
    asleep = (to_ns(now) - to_ns(since)) / 1e9 - pauses.silent > HOUR / 60
    how_long = took(pauses.silent * 1000)
    when = f"since {clock(since, now)}"
    silent = f"{when}, {how_long} of it with a process alive" if asleep else f"for {how_long}, {when}"
    words = f"{known.title} has been silent {silent}; its longest usual pause is {took(pauses.longest * 1000)}."
    return about(
        known, "gone_quiet", "trouble", since, words, see_registration(known, since, now),
        now=Figure(pauses.silent, "seconds"), habit=Figure(pauses.longest, "seconds"),
        weight=pauses.silent / pauses.longest,
    )  # fmt: skip
