"""One segment, one transaction: rows, parents, what still runs, what was lost, the session's mark.

Rows go in by multi-row INSERTs, and that is not about SQLite. ``executemany`` gives up the GIL once a
row; under a busy event loop each return waits for the 5 ms switch interval: 317 rows/s measured, against
16,500 with 256 rows a statement (idle: 159,000 and 169,000). Between statements the loop gets its turn,
so a chunk is also the longest this thread keeps the GIL from it (about 1 ms).
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from handspan.clock import to_epoch
from handspan.records import ListenerRegistration, Segment, SpanRecord
from handspan.serialize import attributes_json, clean_text
from handspan.store.parents import Parents
from handspan.store.statements import statements

__all__ = ["commit_segment", "transaction"]

_SQL: Final = statements("sql/commit.sql")
CHUNK_ROWS: Final = 256  # x 16 columns = 4,096 variables, under SQLite's default 32,766

Row = tuple[Any, ...]

_COMMON: Final = (
    "session_id, execution_start_ts, duration_ms, status, trace_id, span_id, parent_span_id, link_trace_id, "
    "link_span_id, error_type, error_message, traceback_id, attributes, extra"
)
_TABLES: Final = {
    "handler_invocations": f"{_COMMON}, listener_id, queue_ms",
    "job_executions": f"{_COMMON}, job_id, scheduled_ts",
    "spans": "session_id, trace_id, span_id, parent_span_id, name, kind, start_ns, duration_ns, status, attributes, "
    "extra",
    "running": "session_id, trace_id, span_id, parent_span_id, link_trace_id, link_span_id, execution_start_ts, "
    "listener_id, job_id, scheduled_ts, queue_ms",
}
_EXISTS: Final = {
    "handler_invocations": "invocation_exists",
    "job_executions": "execution_exists",
    "spans": "span_exists",
}


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
        for table, records, to_row in _plan(segment, session_id, parents):
            fresh = _not_yet_stored(conn, table, records) if segment.idempotent and table in _EXISTS else records
            _insert(conn, table, fresh, to_row)
        ended = [(session_id, record.span_id) for record in segment.records if record.was_running]
        if ended:
            conn.executemany(_SQL["end_running"], ended)
        for loss in segment.losses:
            values = {"hour": loss.hour_ns // 10**9, "session_id": session_id, "stage": loss.stage}
            conn.execute(_SQL["add_loss"], values | {"kind": loss.kind, "reason": loss.reason, "count": loss.count})
        conn.execute(_SQL["mark_segment"], {"number": segment.number, "now": now, "session_id": session_id})


def _plan(  # noqa: C901 - four tables, one closure each
    segment: Segment, session_id: int, parents: Parents
) -> Iterable[tuple[str, list[SpanRecord], Callable[[SpanRecord], Row]]]:
    """Which records go where, and how each becomes a row."""
    registrations = segment.registrations
    handlers: list[SpanRecord] = []
    jobs: list[SpanRecord] = []
    others: list[SpanRecord] = []
    for record in segment.records:
        if not record.registration:
            others.append(record)
        elif isinstance(registrations[record.registration], ListenerRegistration):
            handlers.append(record)
        else:
            jobs.append(record)

    parent_ids: dict[int, int] = {}

    def parent_of(record: SpanRecord) -> int:
        found = parent_ids.get(record.registration)
        if found is None:
            number = record.registration
            found = parents.registration_id(segment.session, number, registrations[number])
            parent_ids[number] = found
        return found

    def common(record: SpanRecord) -> Row:
        traceback = record.error_traceback
        return (
            session_id,
            to_epoch(record.start_ns),
            record.duration_ns / 1e6,
            record.status,
            record.trace_id,
            record.span_id,
            record.parent_span_id,
            record.link_trace_id,
            record.link_span_id,
            _text(record.error_type),
            _text(record.error_message),
            None if traceback is None else parents.traceback_id(traceback),
            None if record.attributes is None else attributes_json(record.attributes),
            None if record.extra is None else attributes_json(record.extra),
        )

    def handler_row(record: SpanRecord) -> Row:
        return (*common(record), parent_of(record), _milliseconds(record.queue_ns))

    def job_row(record: SpanRecord) -> Row:
        return (*common(record), parent_of(record), _epoch(record.scheduled_ns))

    def span_row(record: SpanRecord) -> Row:
        return (
            session_id,
            record.trace_id,
            record.span_id,
            record.parent_span_id,
            clean_text(record.name or ""),
            record.kind,
            record.start_ns,
            record.duration_ns,
            record.status,
            None if record.attributes is None else attributes_json(record.attributes),
            None if record.extra is None else attributes_json(record.extra),
        )

    def running_row(record: SpanRecord) -> Row:
        parent = parent_of(record)
        is_handler = isinstance(registrations[record.registration], ListenerRegistration)
        return (
            session_id,
            record.trace_id,
            record.span_id,
            record.parent_span_id,
            record.link_trace_id,
            record.link_span_id,
            to_epoch(record.start_ns),
            parent if is_handler else None,
            None if is_handler else parent,
            _epoch(record.scheduled_ns),
            _milliseconds(record.queue_ns),
        )

    yield "handler_invocations", handlers, handler_row
    yield "job_executions", jobs, job_row
    yield "spans", others, span_row
    yield "running", segment.running, running_row


def _insert(
    conn: sqlite3.Connection, table: str, records: Sequence[SpanRecord], to_row: Callable[[SpanRecord], Row]
) -> None:
    whole = len(records) - len(records) % CHUNK_ROWS
    for start in range(0, whole, CHUNK_ROWS):
        values: list[Any] = []
        for record in records[start : start + CHUNK_ROWS]:
            values.extend(to_row(record))
        conn.execute(_insert_statement(table, CHUNK_ROWS), values)
    rest, size = records[whole:], CHUNK_ROWS // 2
    while rest:  # halving sizes: any remainder in at most eight statements, all of them cached
        if len(rest) >= size:
            conn.execute(_insert_statement(table, size), [value for record in rest[:size] for value in to_row(record)])
            rest = rest[size:]
        size //= 2


_statements: dict[tuple[str, int], str] = {}


def _insert_statement(table: str, rows: int) -> str:
    """``INSERT ... VALUES (...), (...)``. Composed of the constants above only, never of data."""
    key = (table, rows)
    if key not in _statements:
        columns = _TABLES[table]
        one = f"({', '.join('?' * len(columns.split(',')))})"
        _statements[key] = f"INSERT INTO {table} ({columns}) VALUES {', '.join([one] * rows)}"
    return _statements[key]


def _not_yet_stored(conn: sqlite3.Connection, table: str, records: list[SpanRecord]) -> list[SpanRecord]:
    exists, seen, found = _SQL[_EXISTS[table]], set(), []
    for record in records:
        key = (record.trace_id, record.span_id)
        values = {"trace_id": record.trace_id, "span_id": record.span_id}
        if key not in seen and conn.execute(exists, values).fetchone() is None:
            found.append(record)
        seen.add(key)
    return found


def _text(value: str | None) -> str | None:
    return None if value is None else clean_text(value)


def _milliseconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e6


def _epoch(ns: int | None) -> float | None:
    return None if ns is None else to_epoch(ns)
