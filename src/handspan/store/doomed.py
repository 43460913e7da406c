"""The rows chosen to go, and how they go: counted in the ledger and deleted in one short transaction.

Choosing is reading, into a temporary table, and holds no lock that anybody waits for; deleting goes by id.
A dry run chooses by the same statements and deletes nothing, so what it says is what would happen.
Counting is ``INSERT ... SELECT``: to fetch the rows would cost a wait for the GIL each, with the lock held.
"""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Generator, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final, Literal

from handspan.store.batches import LARGEST_BATCH, Batches
from handspan.store.statements import statements

__all__ = ["DAY", "HOUR", "KINDS", "NO_ROW", "Doomed", "Gone", "RunKind", "as_ns", "for_kind", "ids"]

RunKind = Literal["handler", "job"]
_SQL: Final = statements("sql/retention.sql")
KINDS: Final[tuple[RunKind, RunKind]] = ("handler", "job")
HOUR: Final = 3600
DAY: Final = 86_400
NO_ROW: Final = -(2**63)
LAST_ROW: Final = 2**63 - 1
_FOR_JOBS: Final = {
    "handler_invocations": "job_executions",
    "listener_id": "job_id",
    "listeners": "scheduled_jobs",
    "'listener'": "'scheduled_job'",
    "'handler": "'job",
    "l.once = 1": "l.repeat = 0",
}


def as_ns(seconds: float) -> int:
    """Within what SQLite can hold: a retention of a million days reaches back further."""
    return int(min(max(seconds * 1e9, -(2.0**62)), 2.0**62))


def for_kind(sql: str, kind: str) -> str:
    """A statement about handlers, for jobs. Names of ours only, never data."""
    if kind == "job":
        for name, other in _FOR_JOBS.items():
            sql = sql.replace(name, other)
    return sql


def ids(text: str | None) -> list[int]:
    """Of a ``group_concat``."""
    return [int(each) for each in text.split(",")] if text else []


@dataclass
class Gone:
    """What went, or would go: rows of one kind, for one reason, of one registration where they have one."""

    kind: str
    reason: str
    worth: str | None
    service: str | None
    app_key: str | None
    instance_index: int | None
    name: str | None
    topic: str | None
    rows: int = 0
    bytes: int = 0
    """Roughly: what is in them, without what SQLite adds."""
    oldest: float | None = None
    newest: float | None = None


class Doomed:
    """One pass's victims on one connection. ``dry``: they pile up instead of going."""

    def __init__(self, conn: sqlite3.Connection, batches: Batches, now: float, *, dry: bool, detailed: bool) -> None:
        self._conn, self._batches, self.dry, self._detailed = conn, batches, dry, detailed or dry
        self._hour = int(now // HOUR * HOUR)  # of the drop, as for every other loss; the row's own hour is gone with it
        self._batch, self._waiting = 0, 0
        self._details: dict[tuple[Any, ...], Gone] = {}
        self.rows: defaultdict[str, int] = defaultdict(int)
        """By kind."""
        if not dry:
            conn.execute("PRAGMA temp_store = MEMORY")  # a batch at a time; all of a dry run's may be millions
        for name in ("doomed", "doomed_batches", "habits", "spared", "forget_habits"):
            conn.execute(_SQL[name])
        self.any_spans = bool(conn.execute(_SQL["any_spans"]).fetchone()[0])

    @property
    def room(self) -> int:
        """How many a batch still takes; at least half a batch."""
        return (LARGEST_BATCH if self.dry else self._batches.size) - self._waiting

    @property
    def details(self) -> list[Gone]:
        return sorted(self._details.values(), key=lambda gone: (-gone.rows, gone.kind, gone.reason, gone.name or ""))

    def values(self, values: dict[str, Any]) -> dict[str, Any]:
        return {"batch": self._batch, "room": max(1, self.room), **values}

    # --- choosing -----------------------------------------------------------------------------------

    def runs(
        self, kind: RunKind, parent: int, reason: str, *, since: float = -math.inf, before: float = math.inf,
        worth: str | None = None, limit: int | None = None,
    ) -> Iterator[None]:  # fmt: skip
        """The oldest ``limit`` runs of one registration in a time, a window of its index at a time."""
        values: dict[str, Any] = {"parent": parent, "reason": reason, "before": before, "worth": worth}
        values |= {"ts": since, "row": NO_ROW}
        while limit is None or limit > 0:
            window = max(1, self.room)
            edge = self._ask(for_kind(_SQL["run_window"], kind), values | {"window": window})
            last_ts, last_row = edge or (math.inf, LAST_ROW)
            room = window if limit is None else min(window, limit)
            chosen = self.choose(
                for_kind(_SQL["doom_runs"], kind), values | {"last_ts": last_ts, "last_row": last_row, "room": room}
            )
            if limit is not None:
                limit -= chosen
            if self._waiting * 2 >= self._batches.size or self.dry:
                yield from self.flush()
            elif chosen == 0 and edge:
                yield  # a long stretch of what stays
            if edge is None:
                return
            values |= {"ts": last_ts, "row": last_row}

    def spans(self, statement: str, values: dict[str, Any], limit: int | None = None) -> Iterator[int]:
        """One statement's spans, as often as it finds any; yields how many, after each batch."""
        values = {"row": NO_ROW, **values}
        while limit is None or limit > 0:
            room = self.room if limit is None else min(self.room, limit)
            chosen = self.choose(_SQL[statement], values | {"room": room})
            if not chosen:
                return
            if self.dry:
                values["row"] = self._ask(_SQL["doomed_edge"], self.values({}))[0]
            for _ in self.flush():
                pass
            if limit is not None:
                limit -= chosen
            yield chosen

    def choose(self, sql: str, values: dict[str, Any]) -> int:
        chosen = self._conn.execute(sql, self.values(values)).rowcount
        self._waiting += chosen
        return chosen

    # --- going --------------------------------------------------------------------------------------

    def flush(self) -> Iterator[None]:
        """Delete what was chosen: the spans of traces that lose their last run first, so that none are left behind."""
        if not self._waiting:
            return
        if self.dry:
            if self.any_spans:
                self.choose(_SQL["doom_their_spans"], {"room": -1})
            self._note()
        else:
            if self.any_spans:
                yield from self._delete_spans()
            for kind in KINDS:
                if self._ask("SELECT 1 FROM temp.doomed WHERE kind = ? LIMIT 1", (kind,)):
                    lines = yield from self._delete_lines(kind)
                    names = ("count_runs", "delete_lines", "delete_runs")
                    self._delete(kind, [for_kind(_SQL[name], kind) for name in names], {"room": -1}, lines)
            self._note()
            self._conn.execute(_SQL["spared"])
        self._batch, self._waiting = self._batch + 1, 0
        yield

    def delete(self, kind: str, sql: str, values: dict[str, Any], *, before: Iterable[str] = ()) -> None:
        """What has no entry in the ledger: leftovers."""
        if self._waiting and not self.dry:
            self._delete(kind, [*before, sql], values)
        if self._waiting:
            self._note()
        if not self.dry:
            self._conn.execute(_SQL["spared"])
        self._batch, self._waiting = self._batch + 1, 0

    def batch(self, rows: int) -> AbstractContextManager[None]:
        """A transaction about so many rows of what needs no choosing."""
        return self._batches.one(rows)

    def clear(self) -> None:
        """Of what was chosen and is not to go."""
        self._waiting = 0

    def _delete_spans(self) -> Iterator[None]:
        while True:
            size = self._batches.size
            (own,) = self._ask("SELECT count(*) FROM temp.doomed WHERE kind = 'span'", ())
            chosen = own or self._conn.execute(_SQL["doom_their_spans"], self.values({"room": size})).rowcount
            if not chosen:
                return
            self._waiting += chosen
            self._delete("span", [_SQL["count_spans"], _SQL["delete_spans"]])
            self._note("span")
            self._conn.execute(_SQL["spare_spans"])
            self._waiting -= chosen
            yield

    def _delete_lines(self, kind: RunKind) -> Generator[None, None, int]:
        """What was logged in them, as long as that is more than a batch: a run may have a hundred lines. How many are
        left, to go with the runs."""
        while True:
            size = self._batches.size
            (left,) = self._ask(for_kind(_SQL["doomed_lines"], kind), {"room": size})
            if left < size:
                return int(left)
            with self._batches.one(size):
                self._conn.execute(for_kind(_SQL["delete_lines"], kind), {"room": size})
            yield

    def _delete(self, kind: str, sql: list[str], values: dict[str, Any] | None = None, lines: int = 0) -> None:
        deleted = 0
        with self._batches.one(self._waiting + lines):
            for each in sql:
                deleted = self._conn.execute(each, {"hour": self._hour, **(values or {})}).rowcount
        self.rows[kind] += deleted

    def _note(self, kind: str | None = None) -> None:
        """For whoever wants to know by registration, while the registrations are still there."""
        if not self._detailed:
            return
        for row in self._conn.execute(_SQL["report"], {"batch": self._batch}).fetchall():
            if kind is not None and row[0] != kind:
                continue
            found = self._details.setdefault(tuple(row[:8]), Gone(*row[:8]))
            found.rows += row[8]
            found.bytes += row[9]
            if self.dry:
                self.rows[row[0]] += row[8]
            if row[10] is not None:
                found.oldest = row[10] if found.oldest is None else min(found.oldest, row[10])
                found.newest = row[11] if found.newest is None else max(found.newest, row[11])

    def _ask(self, sql: str, values: Any) -> Any:
        return self._conn.execute(sql, values).fetchone()
