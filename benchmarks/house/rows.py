"""Where finished tuples wait until a minute is over, and the statements that take them."""

import sqlite3
from typing import Any, Final

__all__ = ["Rows"]

Row = tuple[Any, ...]

_COMMON: Final = (
    "session_id, execution_start_ts, duration_ms, status, trace_id, span_id, parent_span_id, link_trace_id, "
    "link_span_id, error_type, error_message, traceback_id, attributes, extra, error_group_id"
)


def _insert(table: str, columns: str) -> str:
    return f"INSERT INTO {table} ({columns}) VALUES ({', '.join('?' * len(columns.split(',')))})"


_PLAIN: Final = _insert(
    "handler_invocations", "session_id, execution_start_ts, duration_ms, trace_id, span_id, listener_id, status"
)
_HANDLER: Final = _insert("handler_invocations", f"{_COMMON}, listener_id, queue_ms")
_JOB: Final = _insert("job_executions", f"{_COMMON}, job_id, scheduled_ts")
_SPAN: Final = _insert(
    "spans",
    "session_id, trace_id, span_id, parent_span_id, name, kind, start_ns, duration_ns, status, attributes",
)
_LOG: Final = _insert(
    "log_records", "session_id, trace_id, run_span_id, span_id, logged_at, level, logger, message, attributes"
)


class Rows:
    """What a minute left, in the order the writer would have taken it."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self.plain: list[Row] = []
        self.handlers: list[Row] = []
        self.jobs: list[Row] = []
        self.spans: list[Row] = []
        self.logs: list[Row] = []
        self.runs = self.errors = 0

    def write(self) -> None:
        self.runs += len(self.plain) + len(self.handlers) + len(self.jobs)
        for statement, rows in (
            (_PLAIN, self.plain),
            (_HANDLER, self.handlers),
            (_JOB, self.jobs),
            (_SPAN, self.spans),
            (_LOG, self.logs),
        ):
            if rows:
                self._conn.executemany(statement, rows)
                rows.clear()
