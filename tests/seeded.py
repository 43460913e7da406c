"""A small house in a file: every kind of row the readers meet, the same on every call.

Built from ``schema.sql`` with plain sqlite3, so that readers are tested without the writer.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from handspan.store import schema
from handspan.store.backfill import backfill, start_over
from handspan.store.connection import APPLICATION_ID
from handspan.store.parents import Parents

NOW = 1_780_000_000.0
"""2026-05-28T20:26:40Z: the moment the file was left at."""

HOUR = 3600.0
DAY = 24 * HOUR

SERVICES = [(1, "house", ""), (2, "garage", "")]

# id, service, instance, started, heartbeat, stopped, reason, version, host, pid
SESSIONS = [
    (1, 1, "first", NOW - 5 * DAY, NOW - 2 * DAY, NOW - 2 * DAY, "crash", "1.0", "pi", 101),
    (2, 1, "second", NOW - 2 * DAY + 60, NOW - DAY, NOW - DAY, "clean_shutdown", "1.0", "pi", 102),
    (3, 2, "third", NOW - 30 * HOUR, NOW - 25 * HOUR, NOW - 25 * HOUR, "unknown", None, "pi", 103),
    (4, 1, "fourth", NOW - 6 * HOUR, NOW - 10, None, None, "1.1", "elsewhere", 104),
]

# id, service, app, instance, name, topic, retired
LISTENERS = [
    (1, 1, "lights", 0, "on_motion", "binary_sensor.*", None),
    (2, 1, "lights", 1, "on_motion", "binary_sensor.*", None),
    (3, 1, "flaky", 0, "on_push", "mobile_app.*", None),
    (4, 1, "presence", 0, "arrived", "person.*", None),
    (5, 1, "old", 0, "on_thing", "thing", NOW - 4 * DAY),
    (6, 2, "lights", 0, "on_motion", "binary_sensor.*", None),
]

# id, service, app, instance, name, trigger, value, next run
JOBS = [
    (1, 1, "energy", 0, "sample", "interval", "30 s", NOW + 20),
    (2, 1, "energy", 0, "rollup", "cron", "0 * * * *", NOW - 300),
    (3, 1, "house", 0, "good_night", None, None, None),
]

ERRORS = ["TimeoutError", "DependencyError", "ValueError", "ProcessInterrupted"]
TRACEBACK = '  File "apps/flaky.py", line 42, in on_push\n    await gateway.send(event)\n'


def build(path: Path, *, rows: bool = True) -> str:
    """The file, ready to be read; ``rows=False``: one nothing was recorded into."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = WAL").fetchone()
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        directory = schema.migrations_dir()
        conn.execute("BEGIN")
        for statement in schema.split_statements(schema.schema_sql(directory)):
            conn.execute(statement)
        conn.execute("INSERT INTO alembic_version VALUES (?)", (schema.head_revision(directory),))
        if rows:
            fill(conn)
        conn.execute("COMMIT")
        start_over(conn)
        for _ in backfill(conn, Parents(conn)):
            pass
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return str(path)


def fill(conn: sqlite3.Connection) -> None:
    put(conn, "services (id, name, namespace)", SERVICES)
    put(conn, "sessions (id, service_id, instance_id, started_at, last_heartbeat_at, stopped_at, stop_reason, "
              "service_version, host, pid)", SESSIONS)  # fmt: skip
    put(conn, "listeners (id, service_id, app_key, instance_index, name, topic, retired_at, handler_method, "
              "first_registered_at, last_registered_at)",
        [(*row, row[4], NOW - 5 * DAY, NOW - 6 * HOUR) for row in LISTENERS])  # fmt: skip
    put(conn, "scheduled_jobs (id, service_id, app_key, instance_index, job_name, trigger_type, trigger_value, "
              "next_run_ts, handler_method, first_registered_at, last_registered_at)",
        [(*row, row[4], NOW - 5 * DAY, NOW - 6 * HOUR) for row in JOBS])  # fmt: skip
    put(conn, "tracebacks (id, hash, text)", [(1, b"hash", TRACEBACK)])
    columns = "session_id, execution_start_ts, duration_ms, status, trace_id, span_id, error_type, error_message, "
    columns += "traceback_id"
    put(conn, f"handler_invocations (listener_id, {columns})", invocations())
    put(conn, f"job_executions (job_id, {columns}, scheduled_ts)", [(*row, row[2] - 0.25) for row in executions()])
    put(conn, "running (session_id, span_id, trace_id, listener_id, execution_start_ts)",
        [(4, b"r" * 8, b"R" * 16, 4, NOW - 3)])  # fmt: skip
    put(conn, "registration_holders (session_id, kind, registration_id)",
        [(4, "handler", 1), (4, "handler", 2), (4, "job", 1)])  # fmt: skip
    put(conn, "losses (hour, session_id, stage, kind, reason, count)",
        [(int(NOW - 2 * HOUR), 4, "store", "handler", "queue_full", 12),
         (int(NOW - 3 * DAY), 1, "store", "job", "shutdown", 2),
         (int(NOW - 2 * HOUR), 4, "tempo", "span", "rejected", 7)])  # fmt: skip
    put(conn, "incidents (session_id, started_at, ended_at, kind, detail, count)",
        [(1, NOW - 4 * DAY, None, "corrupt_database", "image is malformed; set aside as house.db.corrupt-x", 31),
         (4, NOW - 3 * HOUR, NOW - 3 * HOUR + 42, "database_unavailable", "locked by another process", None),
         (1, NOW - 9 * DAY, NOW - 9 * DAY + 5, "database_unavailable", "too old for status", None)])  # fmt: skip
    fill_error_groups(conn)
    hour = int(NOW // HOUR * HOUR)
    put(conn, "skips (hour, kind, registration_id, session_id, reason, count, first_at, last_at)",
        [(hour, "handler", 1, 4, "predicate", 340, hour + 1, NOW - 2),
         (hour - 3600, "handler", 1, 4, "predicate", 60, hour - 3000, hour - 100),
         (hour, "handler", 1, 4, "debounce", 4, hour + 5, hour + 6),
         (hour, "job", 1, 4, "overlapped", 2, hour + 10, hour + 40),
         (hour - 30 * 3600, "job", 2, 4, "down", 3, hour - 30 * 3600, hour - 30 * 3600 + 60),
         (hour - 50 * 3600, "job", 2, 1, "missed", 9, hour - 50 * 3600 + 1, hour - 50 * 3600 + 2)])  # fmt: skip


def invocations() -> Iterator[tuple[Any, ...]]:
    """300 over four days, for listeners 1, 2, 3, 5 and 6; the third fails often. 4 has only what is running."""
    for n in range(300):
        listener = (1, 2, 1, 3, 6, 1, 3, 5)[n % 8]
        age = 4 * DAY * (1 - n / 300)
        if listener == 5 and age < 4 * DAY - HOUR:
            listener = 1
        failing = (listener == 3 and n % 3 == 0) or n % 50 == 49
        yield run_row(
            listener, n, NOW - 5 - age, "error" if failing else "cancelled" if n % 60 == 7 else "success", n % 4
        )


def executions() -> Iterator[tuple[Any, ...]]:
    """90 of the first two jobs, each at the very instant of some invocation: order needs more than time."""
    for n in range(90):
        age = 4 * DAY * (1 - (n * 3) / 300)
        yield run_row(1 if n % 4 else 2, 10_000 + n, NOW - 5 - age, "error" if n % 30 == 12 else "success", (n + 1) % 4)


def run_row(parent: int, n: int, start: float, status: str, error: int) -> tuple[Any, ...]:
    session = next((s[0] for s in reversed(SESSIONS) if s[3] <= start and s[0] != 3), 1)
    if parent == 6:
        session = 3
    duration = 0.05 * (n * 37 % 101) + (900 if n % 41 == 0 else 2)
    failed = status == "error"
    return (
        parent, session, round(start, 6), round(duration, 3), status,
        n.to_bytes(4, "big") * 4, n.to_bytes(8, "big"),
        ERRORS[error] if failed else None, f"no answer after {n} tries" if failed else None,
        1 if failed and error != 3 else None,
    )  # fmt: skip


def put(conn: sqlite3.Connection, into: str, rows: Any) -> None:
    rows = list(rows)
    marks = ", ".join("?" * len(rows[0]))
    conn.executemany(f"INSERT INTO {into} VALUES ({marks})", rows)


def raw(path: str, sql: str, *params: Any) -> list[Any]:
    """Plain SQL over the rows, to compare with. Reads as others do, so it leaves nothing beside the file."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as conn:
        return conn.execute(sql, params).fetchall()


def fill_error_groups(conn: sqlite3.Connection) -> None:
    """Of the failing rows that are there. None was resolved: tests that want one say so."""
    for table, kind, parent in (
        ("handler_invocations", "handler", "listener_id"),
        ("job_executions", "job", "job_id"),
    ):
        conn.execute(
            f"INSERT INTO error_groups (kind, registration_id, fingerprint, error_type, frame, message, first_seen_at, "
            f"last_seen_at, count, sample_message, sample_trace_id, sample_span_id, traceback_id) "
            f"SELECT '{kind}', {parent}, {parent} || error_type, error_type, "
            f"CASE WHEN traceback_id IS NOT NULL THEN 'apps/flaky.py in on_push' END, 'no answer after <n> tries', "
            f"min(execution_start_ts), max(execution_start_ts), count(*), error_message, trace_id, span_id, "
            f"traceback_id FROM {table} WHERE status = 'error' GROUP BY {parent}, error_type"
        )
        conn.execute(
            f"UPDATE {table} SET error_group_id = (SELECT id FROM error_groups WHERE kind = '{kind}' "
            f"AND registration_id = {parent} AND error_type = {table}.error_type) WHERE status = 'error'"
        )
        conn.execute(
            f"INSERT INTO error_group_hours SELECT CAST(execution_start_ts AS INTEGER) / 3600 * 3600, error_group_id, "
            f"count(*) FROM {table} WHERE status = 'error' GROUP BY 1, 2"
        )
