"""Figures over many buckets: by registration, over time, as a roll, as a verdict; who was late."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

from benchmarks.questions.agreeing import exact_percentile, figures_differ, same_counts
from benchmarks.questions.case import HOUR, Case, Plain, Question
from handspan.clock import to_epoch, to_ns
from handspan.store.queries import figures, schedule, series
from handspan.store.queries.shapes import ALL_TIME
from handspan.store.verdict import verdict

__all__ = ["QUESTIONS"]

_BY_REGISTRATION: Final = """
SELECT 'handler' AS kind, listener_id AS id, count(*) AS runs, sum(status = 'error') AS errors,
       sum(status = 'cancelled') AS cancelled, coalesce(sum(error_type = 'TimeoutError'), 0) AS timeouts,
       coalesce(sum(error_type = 'DependencyError'), 0) AS dependency_failures,
       coalesce(sum(error_type = 'ProcessInterrupted'), 0) AS interrupted, 0 AS late, avg(duration_ms) AS avg_ms
FROM handler_invocations WHERE execution_start_ts >= :since GROUP BY 2
UNION ALL
SELECT 'job', job_id, count(*), sum(status = 'error'), sum(status = 'cancelled'),
       coalesce(sum(error_type = 'TimeoutError'), 0), coalesce(sum(error_type = 'DependencyError'), 0),
       coalesce(sum(error_type = 'ProcessInterrupted'), 0), sum(execution_start_ts - scheduled_ts > 5), avg(duration_ms)
FROM job_executions WHERE execution_start_ts >= :since GROUP BY 2
"""
_BY_VERSION: Final = """
SELECT s.service_version AS version, sum(r.runs) AS runs, sum(r.errors) AS errors, sum(r.total) / sum(r.runs) AS avg_ms
FROM (SELECT session_id, count(*) AS runs, sum(status = 'error') AS errors, sum(duration_ms) AS total
      FROM handler_invocations WHERE execution_start_ts >= :week_ago GROUP BY 1
      UNION ALL
      SELECT session_id, count(*), sum(status = 'error'), sum(duration_ms)
      FROM job_executions WHERE execution_start_ts >= :week_ago GROUP BY 1) AS r
JOIN sessions AS s ON s.id = r.session_id GROUP BY 1
"""
_LATE: Final = """
SELECT job_id, count(*) AS runs, sum(execution_start_ts - scheduled_ts > 5) AS late
FROM job_executions WHERE execution_start_ts >= :day_ago GROUP BY 1
"""


def _registrations(since: str) -> Plain:
    def exact(case: Case, key: tuple[str, int], share: float, runs: int) -> float:
        return exact_percentile(case, *key, case.values(f":{since}")[since], case.end, share, runs)

    sql = _BY_REGISTRATION.replace(":since", f":{since}")
    return Plain(sql, figures_differ(lambda found: found, lambda row: (row["kind"], row["id"]), exact))


def _versions() -> Plain:
    return Plain(
        _BY_VERSION,
        figures_differ(
            lambda found: {key.service_version: each for key, each in found.items()}, lambda row: row["version"]
        ),
    )


def _points(start: str) -> Plain:
    """Runs and errors by the step of a series, from its own beginning."""

    def differs(answer: Any, rows: Sequence[sqlite3.Row], case: Case) -> str:
        del rows  # timed only: where a series begins is up to its step
        points, step = answer.points, answer.step_s
        begin = to_epoch(to_ns(points[0].started_at))
        plain = case.conn.execute(
            "SELECT cast((execution_start_ts - ?1) / ?2 AS INTEGER) AS n, count(*) AS runs,"
            " sum(status = 'error') AS errors"
            " FROM (SELECT execution_start_ts, status FROM handler_invocations UNION ALL"
            " SELECT execution_start_ts, status FROM job_executions) WHERE execution_start_ts >= ?1 GROUP BY 1",
            (begin, step),
        ).fetchall()
        if begin < case.end - 7 * 24 * HOUR:  # the first one's rows were pruned in part
            plain, points = plain[1:], [points[0], *points[1:]]
        first = plain[0]["n"] if plain else 0
        mine = {n: (each.runs, each.errors) for n, each in enumerate(points) if n >= first}
        differ = same_counts(lambda _: mine, lambda row: (row["n"], (row["runs"], row["errors"])))
        return differ({n: pair for n, pair in mine.items() if pair != (0, 0)}, plain, case)

    return Plain(
        "SELECT cast(execution_start_ts / 300 AS INTEGER) AS n, count(*) AS runs, sum(status = 'error') AS errors,"
        " max(duration_ms) FROM (SELECT execution_start_ts, status, duration_ms FROM handler_invocations"
        " UNION ALL SELECT execution_start_ts, status, duration_ms FROM job_executions)"
        f" WHERE execution_start_ts >= :{start} GROUP BY 1",
        differs,
    )


def _roll() -> Plain:
    def differs(answer: Any, rows: Sequence[sqlite3.Row], case: Case) -> str:
        del rows
        plain = case.conn.execute(
            "SELECT 'handler' AS kind, listener_id AS id, count(*) AS runs, sum(status = 'error') AS errors"
            " FROM handler_invocations WHERE execution_start_ts >= ?1 GROUP BY 2 UNION ALL"
            " SELECT 'job', job_id, count(*), sum(status = 'error') FROM job_executions"
            " WHERE execution_start_ts >= ?1 GROUP BY 2",
            (answer.grid.start,),
        ).fetchall()
        differ = same_counts(
            lambda found: {
                (row.kind, row.id): (row.total_runs, row.total_errors) for row in found.rows if row.total_runs
            },
            lambda row: ((row["kind"], row["id"]), (row["runs"], row["errors"])),
        )
        return differ(answer, plain, case)

    return Plain(
        "SELECT listener_id, cast(execution_start_ts / 1800 AS INTEGER) AS n, count(*) AS runs,"
        " sum(status = 'error') AS errors FROM handler_invocations WHERE execution_start_ts >= :day_ago GROUP BY 1, 2",
        differs,
    )


async def _one(db: Any, window: Any) -> Any:
    return await figures.figures(db, window, figures.Which("handler", 1))


_SCHEDULE: Final = Plain(
    _LATE,
    same_counts(
        lambda found: {job.id: (job.runs, job.late) for job in found if job.runs},
        lambda row: (row["job_id"], (row["runs"], row["late"])),
    ),
)

QUESTIONS: Final = (
    Question("verdict", lambda db, c: verdict(db, c.now)),
    Question(
        "figures by registration: 24 h", lambda db, c: figures.by_registration(db, c.day), _registrations("day_ago")
    ),
    Question(
        "figures by registration: 7 d", lambda db, c: figures.by_registration(db, c.week), _registrations("week_ago")
    ),
    Question("figures by registration: 90 d", lambda db, c: figures.by_registration(db, c.last(90 * 24 * HOUR))),
    Question("figures by registration: a year", lambda db, c: figures.by_registration(db, c.last(365 * 24 * HOUR))),
    Question("figures by registration: all time", lambda db, c: figures.by_registration(db, ALL_TIME)),
    Question("figures of one handler: 7 d", lambda db, c: _one(db, c.week)),
    Question("figures of one handler: 90 d", lambda db, c: _one(db, c.last(90 * 24 * HOUR))),
    Question("figures by version: 7 d", lambda db, c: figures.figures(db, c.week, by=("version",)), _versions()),
    Question("series of all: 24 h", lambda db, c: series.total_series(db, c.day, c.now), _points("day_ago")),
    Question("series of all: 7 d", lambda db, c: series.total_series(db, c.week, c.now), _points("week_ago")),
    Question("series of all: 90 d", lambda db, c: series.total_series(db, c.last(90 * 24 * HOUR), c.now)),
    Question("series of one handler: 24 h", lambda db, c: series.registration_series(db, "handler", 1, c.day, c.now)),
    Question("series of one handler: 7 d", lambda db, c: series.registration_series(db, "handler", 1, c.week, c.now)),
    Question("heatmap of one handler: 7 d", lambda db, c: series.heatmap(db, "handler", 1, c.week, c.now)),
    Question("roll: 24 h", lambda db, c: series.roll(db, c.day, c.now), _roll()),
    Question("roll: 6 d", lambda db, c: series.roll(db, c.last(6 * 24 * HOUR), c.now), _roll()),
    Question("roll: 7 d", lambda db, c: series.roll(db, c.week, c.now)),
    Question("roll: 90 d", lambda db, c: series.roll(db, c.last(90 * 24 * HOUR), c.now)),
    Question("jobs and their schedules: 24 h", lambda db, c: schedule.job_schedules(db, c.day, c.now), _SCHEDULE),
    Question("what handlers refused: 24 h", lambda db, c: schedule.refusals(db, c.day)),
)
