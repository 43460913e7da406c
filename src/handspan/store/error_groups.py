"""Error groups, the writing side: each failing row gets its group's id, each group its count, in the rows' transaction.

Counting happens in memory and is written once a segment, so an error storm is one UPDATE. All groups of a registration
are known once one of them was asked for; with what never varies remembered as it came, the same failure again is
one look into a dictionary.

Whoever names users in messages would make a group of each: past :data:`MESSAGES` of one error type and place, and
past :data:`GROUPS` of a registration, failures go into a group for all others.
"""

import json
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, NamedTuple

from handspan.serialize import clean_text
from handspan.store.grouping import LONGEST, LOOKED_AT, application_frame, fingerprint, normalise
from handspan.store.statements import statements

__all__ = ["ANY_ERROR", "ANY_MESSAGE", "GROUPS", "MESSAGES", "ErrorGroups", "Failure", "reopen", "resolve"]

_SQL: Final = statements("sql/error_groups.sql")
HOUR: Final = 3600
ROWS: Final = 256  # of one statement: x 9 columns = 2,304 variables, under SQLite's default 32,766
MESSAGES: Final = 50  # of one error type in one place of one registration
GROUPS: Final = 250  # of one registration
ANY_MESSAGE: Final = "<any other message>"
ANY_ERROR: Final = "<any other error>"
SEEN: Final = 2_048  # failures remembered as they came: at most 500 characters each
FRAMES: Final = 512  # as many as tracebacks
HELD: Final = 20_000  # groups remembered

_Parent = tuple[str, int]
"""Kind and id of a registration."""


class Failure(NamedTuple):
    """A failing row, as far as its group is concerned. Texts as they are stored, but for the traceback's."""

    kind: str
    """``handler`` or ``job``."""
    registration_id: int
    error_type: str | None
    error_message: str | None
    traceback_text: str | None
    traceback_id: int | None
    seen_at: float
    """When the run started: what it is found by everywhere else."""
    trace_id: bytes
    span_id: bytes


@dataclass
class _Known:
    """The groups of one registration."""

    ids: dict[bytes, int] = field(default_factory=dict)
    messages: Counter[tuple[str, str | None]] = field(default_factory=Counter)


class _Seen(NamedTuple):
    """What a group is made of."""

    error_type: str
    frame: str | None
    message: str

    def fingerprint(self) -> bytes:
        return fingerprint(*self)


class _Tally:
    """What this transaction adds to one group."""

    __slots__ = ("hours", "newest", "times")

    def __init__(self, first: Failure) -> None:
        self.times: list[float] = []
        self.hours: Counter[int] = Counter()
        self.newest = first

    def add(self, failure: Failure) -> None:
        self.times.append(failure.seen_at)
        self.hours[int(failure.seen_at // HOUR) * HOUR] += 1
        if failure.seen_at >= self.newest.seen_at:
            self.newest = failure


class ErrorGroups:
    """On one connection, inside the caller's transaction: :meth:`of` for each failing row that is inserted, then
    :meth:`write` once, before COMMIT; after a rollback :meth:`forget`. That makes counts exactly those of the rows.

    What is remembered may be gone (another process pruned it): a foreign-key failure says so, and whoever cannot begin
    again after one forgets beforehand."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._seen: OrderedDict[Hashable, int] = OrderedDict()
        self._frames: OrderedDict[int, str | None] = OrderedDict()
        self._known: OrderedDict[_Parent, _Known] = OrderedDict()
        self._tallies: dict[int, _Tally] = {}

    def forget(self) -> None:
        """What was counted is not in the file, and what is remembered may not be."""
        self._seen.clear()
        self._frames.clear()
        self._known.clear()
        self._tallies.clear()

    def of(self, failure: Failure) -> int:
        """The id of its group, found or made; counted. Only for rows with the status ``error``."""
        return self.of_all([failure])[0]

    def of_all(self, failures: Sequence[Failure]) -> list[int]:
        """Of many at once: those never met before cost three statements together."""
        keys = [_as_it_came(failure) for failure in failures]
        unknown = {key: failure for key, failure in zip(keys, failures, strict=True) if key not in self._seen}
        if unknown:
            self._find_or_make(unknown)
        found = [self._seen[key] for key in keys]
        for key, failure, group_id in zip(keys, failures, found, strict=True):
            self._seen.move_to_end(key)
            tally = self._tallies.get(group_id)
            if tally is None:
                tally = self._tallies[group_id] = _Tally(failure)
            tally.add(failure)
        return found

    def write(self) -> None:
        """What was counted since the last time."""
        tallies, self._tallies = self._tallies, {}
        if not tallies:
            return
        returned = self._returned(tallies)
        counts = [
            (group_id, len(tally.times), min(tally.times), tally.newest.seen_at, tally.newest.error_message,
             tally.newest.trace_id, tally.newest.span_id, tally.newest.traceback_id, returned.get(group_id))
            for group_id, tally in tallies.items()
        ]  # fmt: skip
        hours = [(hour, group_id, n) for group_id, tally in tallies.items() for hour, n in tally.hours.items()]
        self._run("count_groups", counts)
        self._run("count_hours", hours)
        self._shrink()

    def _returned(self, tallies: dict[int, _Tally]) -> dict[int, float]:
        """The first time after it was resolved, of those that came back. Asked each time: the command line resolves."""
        resolved = self._ask("resolved_groups", [(group_id,) for group_id in tallies])
        after = {
            group_id: [seen for seen in tallies[group_id].times if round(seen * 1e6) > at] for group_id, at in resolved
        }
        return {group_id: min(times) for group_id, times in after.items() if times}

    # --- finding and making ---------------------------------------------------------------------------

    def _find_or_make(self, unknown: dict[Hashable, Failure]) -> None:
        parents = {(failure.kind, failure.registration_id) for failure in unknown.values()}
        self._load(parents.difference(self._known))
        places: dict[Hashable, tuple[_Parent, bytes]] = {}
        fresh: dict[tuple[_Parent, bytes], tuple[Any, ...]] = {}
        for key, failure in unknown.items():
            parent = (failure.kind, failure.registration_id)
            known = self._known[parent]
            seen = self._place(known, self._look_at(failure))
            print_ = seen.fingerprint()
            places[key] = (parent, print_)
            if print_ not in known.ids:
                known.ids[print_] = 0  # takes its room at once
                known.messages[seen.error_type, seen.frame] += 1
                fresh[parent, print_] = (*parent, print_, *seen, failure.seen_at, failure.trace_id, failure.span_id)
        if fresh:
            self._run("insert_groups", list(fresh.values()))
            self._load({parent for parent, _ in fresh})
        gone: dict[Hashable, Failure] = {}
        for key, (parent, print_) in places.items():
            group_id = self._known[parent].ids.get(print_)
            if group_id is None:
                gone[key] = unknown[key]  # remembered, but another process has pruned it
            else:
                self._seen[key] = group_id
        if gone:
            self._find_or_make(gone)  # what is known now is of this transaction: they are made

    def _look_at(self, failure: Failure) -> _Seen:
        frame = None
        if failure.traceback_id is not None and failure.traceback_text is not None:
            if failure.traceback_id not in self._frames:
                self._frames[failure.traceback_id] = application_frame(clean_text(failure.traceback_text))
            self._frames.move_to_end(failure.traceback_id)
            frame = self._frames[failure.traceback_id]
        return _Seen((failure.error_type or "error")[:LONGEST], frame, normalise(failure.error_message or ""))

    @staticmethod
    def _place(known: _Known, seen: _Seen) -> _Seen:
        """Its own group, or one for all others."""
        crowded = known.messages[seen.error_type, seen.frame] >= MESSAGES
        if seen.fingerprint() in known.ids or not (crowded or len(known.ids) >= GROUPS):
            return seen
        seen = seen._replace(message=ANY_MESSAGE)
        if seen.fingerprint() in known.ids or len(known.ids) < GROUPS + MESSAGES:
            return seen
        return _Seen(ANY_ERROR, None, ANY_MESSAGE)

    def _load(self, parents: Iterable[_Parent]) -> None:
        wanted = sorted(parents)
        for parent in wanted:
            self._known[parent] = _Known()
            self._known.move_to_end(parent)
        for kind, registration_id, print_, group_id, error_type, frame in self._ask("groups_of", wanted):
            known = self._known[kind, registration_id]
            known.ids[bytes.fromhex(print_)] = group_id
            known.messages[error_type, frame] += 1

    def _shrink(self) -> None:
        for remembered, most in ((self._seen, SEEN), (self._frames, FRAMES)):
            while len(remembered) > most:
                remembered.popitem(last=False)
        held = sum(len(known.ids) for known in self._known.values())
        while held > HELD:
            _, known = self._known.popitem(last=False)
            held -= len(known.ids)

    # --- statements of many rows ----------------------------------------------------------------------

    def _run(self, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
        for sql, values in _batches(name, rows):
            self._conn.execute(sql, values)

    def _ask(self, name: str, rows: Sequence[tuple[Any, ...]]) -> list[Any]:
        answers = [self._conn.execute(sql, values).fetchone()[0] for sql, values in _batches(name, rows)]
        return [each for answer in answers for each in json.loads(answer)]


def _as_it_came(failure: Failure) -> Hashable:
    """The same again is of the same group: no more of the message is looked at."""
    message = failure.error_message
    message = message if message is None or len(message) <= LOOKED_AT else message[: LOOKED_AT + 1]
    return failure.kind, failure.registration_id, failure.error_type, message, failure.traceback_id


def _batches(name: str, rows: Sequence[tuple[Any, ...]]) -> Iterable[tuple[str, list[Any]]]:
    for start in range(0, len(rows), ROWS):
        batch = rows[start : start + ROWS]
        size = 1 << (len(batch) - 1).bit_length()  # nine statements of each kind, all of them cached
        width = len(batch[0])
        values = [value for row in batch for value in row]
        yield _statement(name, width, size), values + [None] * (width * (size - len(batch)))


@cache
def _statement(name: str, columns: int, rows: int) -> str:
    """Composed of constants only, never of data."""
    return _SQL[name].format(rows=", ".join([f"({', '.join('?' * columns)})"] * rows))


def resolve(conn: sqlite3.Connection, group_id: int, now: float) -> bool:
    """Mended, as far as anybody knows: a failure that starts later makes it regressed. False: there is none."""
    return conn.execute(_SQL["resolve"], {"id": group_id, "now": now}).rowcount > 0


def reopen(conn: sqlite3.Connection, group_id: int) -> bool:
    """Open again, as if it had never been resolved."""
    return conn.execute(_SQL["reopen"], {"id": group_id}).rowcount > 0
