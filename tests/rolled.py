"""Rollups of a file's rows, made by plain Python: for tests of what reads them."""

import sqlite3
from collections import defaultdict
from typing import Any

from handspan.store.histogram import encode, histogram_of

LATE_MS = 5000.0

ROWS = """
    SELECT 'handler' AS kind, listener_id, session_id, execution_start_ts, duration_ms, status, error_type, queue_ms,
           NULL AS due
    FROM handler_invocations
    UNION ALL
    SELECT 'job', job_id, session_id, execution_start_ts, duration_ms, status, error_type,
           (execution_start_ts - scheduled_ts) * 1000, scheduled_ts
    FROM job_executions
"""


def roll_up(conn: sqlite3.Connection, *, resolutions: tuple[int, ...] = (60, 3600, 86_400)) -> None:
    """Count every row there is into a table of rollups that is emptied first."""
    buckets: dict[tuple[Any, ...], list[tuple[Any, ...]]] = defaultdict(list)
    for kind, registration, session, start, *rest in conn.execute(ROWS):
        for resolution in resolutions:
            buckets[resolution, int(start // resolution * resolution), kind, registration, session].append(tuple(rest))
    rows = [(*key, *figures(runs)) for key, runs in buckets.items()]
    alone = not conn.in_transaction
    if alone:
        conn.execute("BEGIN")
    conn.execute("DELETE FROM rollups")
    conn.executemany(f"INSERT INTO rollups VALUES ({', '.join('?' * 17)})", rows)
    if alone:
        conn.execute("COMMIT")


def figures(runs: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    ns = [max(0, round(run[0] * 1e6)) for run in runs]
    errors = [run[2] for run in runs if run[1] == "error"]
    delays = [run[3] for run in runs if run[3] is not None]
    return (
        len(runs), len(errors), sum(run[1] == "cancelled" for run in runs), errors.count("DependencyError"),
        errors.count("TimeoutError"), errors.count("ProcessInterrupted"),
        sum(run[4] is not None and run[3] > LATE_MS for run in runs),
        max(0, round(max(delays) * 1e6)) if delays else None, sum(ns), min(ns), max(ns),
        None if len(runs) <= 2 else encode(histogram_of(ns)),
    )  # fmt: skip
