"""Rollups made from raw rows in plain Python, bucket by bucket: what the writer is to have written."""

import sqlite3
from collections import defaultdict
from typing import Any

from handspan.store.histogram import encode, histogram_of

LATE = 5.0
ROWS = """
    SELECT 'handler', listener_id, session_id, execution_start_ts, duration_ms, status, error_type, queue_ms * 1e6, 0
    FROM handler_invocations
    UNION ALL
    SELECT 'job', job_id, session_id, execution_start_ts, duration_ms, status, error_type,
           round((execution_start_ts - scheduled_ts) * 1e6) * 1000, coalesce(execution_start_ts - scheduled_ts > 5, 0)
    FROM job_executions
"""


def roll_up(conn: sqlite3.Connection) -> None:
    """Fill the table anew."""
    buckets: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for kind, registration, session, start, *rest in conn.execute(ROWS).fetchall():
        for resolution in (60, 3600, 86400):
            bucket = int(start) // resolution * resolution
            buckets[resolution, bucket, kind, registration, session].append(tuple(rest))
    conn.execute("DELETE FROM rollups")
    conn.executemany(f"INSERT INTO rollups VALUES ({', '.join('?' * 17)})",
                     [(*key, *summed(rows)) for key, rows in buckets.items()])  # fmt: skip


def summed(rows: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    """(duration_ms, status, error_type, delay_ns, late) of each run of a bucket, as its columns."""
    durations = [round(row[0] * 1e6) for row in rows]
    failed = [row[2] for row in rows if row[1] == "error"]
    delays = [int(row[3]) for row in rows if row[3] is not None]
    return (
        len(rows), len(failed), sum(row[1] == "cancelled" for row in rows),
        failed.count("DependencyError"), failed.count("TimeoutError"), failed.count("ProcessInterrupted"),
        sum(row[4] for row in rows), max(delays, default=None),
        sum(durations), min(durations), max(durations),
        encode(histogram_of(durations)) if len(rows) > 2 else None,
    )  # fmt: skip
