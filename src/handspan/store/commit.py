"""One segment, one transaction: rows, parents, rollups, what still runs, what was lost, the session's mark.

Rows go in by multi-row INSERTs, and that is not about SQLite. ``executemany`` gives up the GIL once a
row; under a busy event loop each return waits for the 5 ms switch interval: 317 rows/s measured, against
16,500 with 256 rows a statement (idle: 159,000 and 169,000). Between statements the loop gets its turn,
so a chunk is also the longest this thread keeps the GIL from it (about 1 ms).
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from typing import Any, Final

from handspan.records import Loss, Segment, SpanRecord
from handspan.store.parents import Parents
from handspan.store.rows import Row, Target, plan
from handspan.store.statements import statements

__all__ = ["add_losses", "commit_segment", "transaction", "write_records"]

_SQL: Final = statements("sql/commit.sql")
CHUNK_ROWS: Final = 256  # x 17 columns = 4,352 variables, under SQLite's default 32,766


def commit_segment(conn: sqlite3.Connection, parents: Parents, segment: Segment, now: float) -> None:
    """Commit it or raise with nothing written. A parent that somebody deleted is made again, once."""
    try:
        _attempt(conn, parents, segment, now)
    except sqlite3.IntegrityError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_CONSTRAINT_FOREIGNKEY:
            raise
        _attempt(conn, parents, segment, now)


class transaction:  # noqa: N801 - read as a statement: with transaction(conn, parents): ...
    """BEGIN IMMEDIATE ... COMMIT; on any failure ROLLBACK, and the caches forget what was not written."""

    def __init__(self, conn: sqlite3.Connection, parents: Parents) -> None:
        self._conn, self._parents = conn, parents

    def __enter__(self) -> None:
        self._conn.execute("BEGIN IMMEDIATE")

    def __exit__(self, exc_type: type[BaseException] | None, *_: object) -> None:
        try:
            if exc_type is None:
                self._conn.execute("COMMIT")
                return
        except BaseException:
            self._undo()
            raise
        self._undo()

    def _undo(self) -> None:
        self._parents.forget()
        if self._conn.in_transaction:  # FULL and IOERR may have rolled back already
            self._conn.execute("ROLLBACK")


def _attempt(conn: sqlite3.Connection, parents: Parents, segment: Segment, now: float) -> None:
    with transaction(conn, parents):
        session_id = parents.session_id(segment.session, now)
        write_records(conn, parents, segment, session_id)
        add_losses(conn, session_id, segment.losses)
        conn.execute(_SQL["mark_segment"], {"number": segment.number, "now": now, "session_id": session_id})


def write_records(conn: sqlite3.Connection, parents: Parents, segment: Segment, session_id: int) -> None:
    """Rows, and what is told of them elsewhere (rollups, error groups), inside the caller's transaction."""
    for target, records, to_rows in plan(segment, session_id, parents):
        fresh = _not_yet_stored(conn, target, records) if segment.idempotent else records
        _insert(conn, target, target.each(fresh), to_rows)
        if target.kind is not None:
            parents.rollups.count(target.kind, session_id, fresh, partial(_parent_id, parents, segment))
    parents.rollups.write()
    parents.error_groups.write()
    ended = [(session_id, record.span_id) for record in segment.records if record.was_running]
    if ended:
        conn.executemany(_SQL["end_running"], ended)


def _parent_id(parents: Parents, segment: Segment, number: int) -> int:
    return parents.registration_id(segment.session, number, segment.registrations[number])


def add_losses(conn: sqlite3.Connection, session_id: int, losses: Iterable[Loss]) -> None:
    """Ledger entries, inside the caller's transaction."""
    for loss in losses:
        values = {"hour": loss.hour_ns // 10**9, "session_id": session_id, "stage": loss.stage}
        conn.execute(_SQL["add_loss"], values | {"kind": loss.kind, "reason": loss.reason, "count": loss.count})


def _insert(
    conn: sqlite3.Connection, target: Target, records: Sequence[Any], to_rows: Callable[[Sequence[Any]], Iterable[Row]]
) -> None:
    start, size = 0, CHUNK_ROWS
    while start < len(records):  # a remainder goes in halving sizes: eight statements at most, all of them cached
        if len(records) - start < size:
            size //= 2
            continue
        values: list[Any] = []
        for row in to_rows(records[start : start + size]):
            values.extend(row)
        conn.execute(_insert_statement(target, size), values)
        start += size


@cache
def _insert_statement(target: Target, rows: int) -> str:
    """``INSERT ... VALUES (...), (...)``. Composed of constants only, never of data."""
    return f"{target.verb} INTO {target.table} ({target.columns}) VALUES {', '.join([target.values] * rows)}"


def _not_yet_stored(conn: sqlite3.Connection, target: Target, records: list[SpanRecord]) -> list[SpanRecord]:
    if target.exists is None:
        return records
    exists, seen, found = _SQL[target.exists], set(), []
    for record in records:
        key = (record.trace_id, record.span_id)
        values = {"trace_id": record.trace_id, "span_id": record.span_id}
        if key not in seen and conn.execute(exists, values).fetchone() is None:
            found.append(record)
        seen.add(key)
    return found
