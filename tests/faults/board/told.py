"""What a file tells of its runs elsewhere, beside its rows: rollups, error groups and their hours, log lines.

Made anew from the rows by plain Python and compared. Only for a file nothing was pruned of: then all agree to the run.
"""

import math
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping
from typing import Any

from handspan.store.histogram import decode, histogram_of

ROWS = """
    SELECT 'handler', listener_id, session_id, execution_start_ts, duration_ms, status, error_type, queue_ms, NULL,
           error_group_id, trace_id, span_id
    FROM handler_invocations
    UNION ALL
    SELECT 'job', job_id, session_id, execution_start_ts, duration_ms, status, error_type,
           (execution_start_ts - scheduled_ts) * 1000, scheduled_ts, error_group_id, trace_id, span_id
    FROM job_executions
"""
BUCKETS = """
    SELECT resolution, bucket_start, kind, registration_id, session_id, runs, errors, cancelled, dependency_failures,
           timeouts, interrupted, late, max_delay_ns, sum_ns, min_ns, max_ns, histogram
    FROM rollups
"""
GROUPS = "SELECT id, count FROM error_groups"
HOURS = "SELECT hour, error_group_id, count FROM error_group_hours"
RECORDS = "SELECT session_id, trace_id, run_span_id FROM log_records"
ALONE = ("DependencyError", "TimeoutError", "ProcessInterrupted")
LINES = 2
"""Each run of ``on_family`` logs so many."""
TALKATIVE = """
    SELECT count(*) FROM handler_invocations AS i JOIN listeners AS l ON l.id = i.listener_id
    WHERE l.handler_method LIKE '%on_family' AND i.status = 'success' AND :lines <> (
        SELECT count(*) FROM log_records AS r WHERE substr(r.trace_id, 1, 4) = substr(i.trace_id, 1, 4)
        AND r.trace_id = i.trace_id AND r.run_span_id = i.span_id)
"""
LONGEST_NS = 10**16  # what handspan counts of one run's duration
LATE_MS = 5000
MICROSECOND = 1000  # due moments are stored as REAL seconds: a difference of two is as exact as that


class Told:
    """``wrong``: runs and lines something else is told of than the rows say."""

    def __init__(self) -> None:
        self.wrong = 0
        self.problems: list[str] = []

    def compare(self, what: str, told: Mapping[Any, int], true: Mapping[Any, int]) -> None:
        keys = [key for key in told.keys() | true.keys() if told.get(key, 0) != true.get(key, 0)]
        if keys:
            self.wrong += sum(abs(told.get(key, 0) - true.get(key, 0)) for key in keys)
            first = min(keys, key=repr)
            self.problems.append(
                f"{what} of {len(keys)} differ from the rows; {first}: told {told.get(first, 0)}, "
                f"true {true.get(first, 0)}"
            )

    def say(self, wrong: int, text: str) -> None:
        if wrong:
            self.wrong += wrong
            self.problems.append(text)


def listen(conn: sqlite3.Connection) -> Told:
    """All that is told, beside all that is true."""
    told, rows = Told(), conn.execute(ROWS).fetchall()
    _rollups(conn, rows, told)
    _groups(conn, rows, told)
    _lines(conn, rows, told)
    return told


def _rollups(conn: sqlite3.Connection, rows: list[Any], told: Told) -> None:
    buckets: defaultdict[Hashable, list[Any]] = defaultdict(list)
    for row in rows:
        for resolution in (60, 3600, 86_400):
            buckets[resolution, math.floor(row[3] // resolution) * resolution, *row[:3]].append(row)
    stored = {tuple(row[:5]): row[5:] for row in conn.execute(BUCKETS)}
    true = {key: _figures(found) for key, found in buckets.items()}
    names = ("runs", "errors", "cancelled", *ALONE, "late")
    for place, name in enumerate(names):
        told.compare(
            f"rollups' {name}", {k: v[place] for k, v in stored.items()}, {k: v[place] for k, v in true.items()}
        )
    off = [key for key, found in stored.items() if key in true and not _close(found, true[key])]
    told.say(len(off), f"durations or delays of {len(off)} rollups differ from the rows, as of {off[:1]}")


def _figures(rows: list[Any]) -> tuple[Any, ...]:
    ns = [min(max(0, round(row[4] * 1e6)), LONGEST_NS) for row in rows]
    errors = [row[6] for row in rows if row[5] == "error"]
    delays = [row[7] for row in rows if row[7] is not None]
    late = sum(row[8] is not None and row[7] > LATE_MS for row in rows)
    alone = [errors.count(name) for name in ALONE]
    delay = max(0, round(max(delays) * 1e6)) if delays else None
    cancelled = sum(row[5] == "cancelled" for row in rows)
    return len(ns), len(errors), cancelled, *alone, late, delay, sum(ns), min(ns), max(ns), histogram_of(ns)


def _close(stored: tuple[Any, ...], true: tuple[Any, ...]) -> bool:
    *_, delay, total, shortest, longest, histogram = stored
    if (delay is None) != (true[7] is None) or abs((delay or 0) - (true[7] or 0)) > MICROSECOND:
        return False
    if (total, shortest, longest) != true[8:11]:
        return False
    return decode(histogram, stored[0], shortest, longest) == true[11]


def _groups(conn: sqlite3.Connection, rows: list[Any], told: Told) -> None:
    failures = [row for row in rows if row[5] == "error"]
    told.say(sum(row[9] is None for row in failures), "failures are in no error group")
    told.say(sum(row[9] is not None for row in rows if row[5] != "error"), "runs that did not fail are in error groups")
    told.compare("error groups' counts", dict(conn.execute(GROUPS)), Counter(row[9] for row in failures))
    hours = Counter((math.floor(row[3] // 3600) * 3600, row[9]) for row in failures)
    told.compare("error groups' hours", {(hour, group): n for hour, group, n in conn.execute(HOURS)}, hours)


def _lines(conn: sqlite3.Connection, rows: list[Any], told: Told) -> None:
    runs = {(row[2], row[10], row[11]) for row in rows}
    loose = sum(run not in runs for run in conn.execute(RECORDS))
    told.say(loose, f"{loose} log lines belong to no run")
    (short,) = conn.execute(TALKATIVE, {"lines": LINES}).fetchone()
    told.say(short, f"{short} runs have more or fewer log lines than they wrote")
