"""Rollups of whatever runs a test's file has, in a few lines of Python: what the store's writer is compared with."""

import sqlite3
from collections import defaultdict

from handspan.store.histogram import encode, histogram_of

LATE_S = 5.0
RAW = """
    SELECT 'handler', listener_id, session_id, execution_start_ts, duration_ms, status, error_type, queue_ms / 1e3
    FROM handler_invocations
    UNION ALL
    SELECT 'job', job_id, session_id, execution_start_ts, duration_ms, status, error_type,
           execution_start_ts - scheduled_ts
    FROM job_executions
"""


def roll_up(conn: sqlite3.Connection) -> None:
    """Instead of whatever rollups there are."""
    groups = defaultdict(list)
    for kind, registration, session, start, *run in conn.execute(RAW):
        for resolution in (60, 3600, 86400):
            groups[resolution, int(start // resolution) * resolution, kind, registration, session].append(run)
    conn.execute("DELETE FROM rollups")
    for key, runs in groups.items():
        took = [round(duration * 1e6) for duration, _, _, _ in runs]
        errors = [error for _, status, error, _ in runs if status == "error"]
        delays = [delay for *_, delay in runs if delay is not None]
        row = (
            *key, len(runs), len(errors), sum(status == "cancelled" for _, status, _, _ in runs),
            errors.count("DependencyError"), errors.count("TimeoutError"), errors.count("ProcessInterrupted"),
            sum(delay > LATE_S for delay in delays) if key[2] == "job" else 0,
            round(max(delays) * 1e9) if delays else None, sum(took), min(took), max(took),
            encode(histogram_of(took)) if len(runs) > 2 else None,
        )  # fmt: skip
        conn.execute(f"INSERT INTO rollups VALUES ({', '.join('?' * len(row))})", row)
