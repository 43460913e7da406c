"""What a dead session had in flight becomes what it was: runs that failed with ``ProcessInterrupted``.

They go in as any other record does, so that whatever is told of runs elsewhere is told of these, too.
"""

import sqlite3
from typing import Any, Final

from handspan.clock import instant_from_ns
from handspan.records import (
    ERROR,
    ListenerRegistration,
    Registration,
    ScheduledJobRegistration,
    Segment,
    Session,
    SpanRecord,
)
from handspan.store.commit import write_records
from handspan.store.parents import Parents
from handspan.store.statements import statements

__all__ = ["INTERRUPTED_MESSAGE", "interrupt"]

_SQL: Final = statements("sql/sessions.sql")

INTERRUPTED_MESSAGE: Final = "The process ended while this ran."


def interrupt(conn: sqlite3.Connection, parents: Parents, session_id: int) -> None:
    """Inside the caller's transaction, which has ended the session and clears ``running`` afterwards."""
    cursor = conn.cursor()
    cursor.row_factory = sqlite3.Row
    rows = cursor.execute(_SQL["in_flight"], {"session_id": session_id}).fetchall()
    if not rows:
        return
    first = rows[0]
    session = Session(first["instance_id"], first["service"], first["namespace"], started_at=instant_from_ns(0))
    registrations = {_number(row): _registration(row) for row in rows}
    records = [_record(row) for row in rows]
    # Idempotent: one that ended, and whose segment was committed in another order, is a row already.
    write_records(conn, parents, Segment(0, session, records, registrations, idempotent=True), session_id)


def _record(row: sqlite3.Row) -> SpanRecord:
    lasted = max(0.0, row["stopped_at"] - row["execution_start_ts"])
    return SpanRecord(
        row["trace_id"],
        row["span_id"],
        _ns(row["execution_start_ts"]),
        round(lasted * 1e9),
        ERROR,
        _number(row),
        parent_span_id=row["parent_span_id"],
        link_trace_id=row["link_trace_id"],
        link_span_id=row["link_span_id"],
        scheduled_ns=None if row["scheduled_ts"] is None else _ns(row["scheduled_ts"]),
        queue_ns=None if row["queue_ms"] is None else round(row["queue_ms"] * 1e6),
        error_type="ProcessInterrupted",
        error_message=INTERRUPTED_MESSAGE,
    )


def _number(row: sqlite3.Row) -> int:
    """Those a session gives are positive."""
    return -2 * int(row["listener_id"]) if row["job_id"] is None else -2 * int(row["job_id"]) - 1


def _registration(row: sqlite3.Row) -> Registration:
    """By its natural key, which finds the row it came from."""
    of: dict[str, Any] = {name: row[name] for name in ("app_key", "instance_index", "handler_method")}
    if row["job_id"] is None:
        return ListenerRegistration(name=row["name"], topic=row["topic"], inferred=True, **of)
    return ScheduledJobRegistration(job_name=row["name"], inferred=True, **of)


def _ns(seconds: float) -> int:
    """Stored seconds are whole microseconds."""
    return round(seconds * 1e6) * 1000
