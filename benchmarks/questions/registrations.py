"""Handlers, jobs and the overview: figures of a window, by registration and in all."""

from typing import Any, Final

from benchmarks.house.cast import WEEK
from benchmarks.questions.agreeing import exact_percentile, figures_differ, same_counts
from benchmarks.questions.case import Case, Plain, Question
from handspan.store.queries import registrations, sessions, status

__all__ = ["QUESTIONS"]

_FIGURES: Final = """
SELECT {column} AS id, count(*) AS runs, sum(status = 'error') AS errors, sum(status = 'cancelled') AS cancelled,
       coalesce(sum(error_type = 'TimeoutError'), 0) AS timeouts, avg(duration_ms) AS avg_ms
FROM {table} WHERE execution_start_ts >= :{since}{more} GROUP BY 1
"""
HANDLERS: Final = {"table": "handler_invocations", "column": "listener_id"}
JOBS: Final = {"table": "job_executions", "column": "job_id"}


def _plain(kind: str, since: str) -> Plain:
    def exact(case: Case, key: int, share: float, runs: int) -> float:
        start = case.values(f":{since}")[since]
        return exact_percentile(case, kind, key, start, case.end, share, runs)

    names = HANDLERS if kind == "handler" else JOBS
    sql = _FIGURES.format(**names, since=since, more="")
    return Plain(sql, figures_differ(lambda found: {each.id: each.activity for each in found}, _id, exact))


def _id(row: Any) -> Any:
    return row["id"]


_KINDS: Final = Plain(
    "SELECT 'handler' AS kind, count(*) AS runs, sum(status = 'error') AS errors FROM handler_invocations"
    " WHERE execution_start_ts >= :day_ago"
    " UNION ALL SELECT 'job', count(*), sum(status = 'error') FROM job_executions WHERE execution_start_ts >= :day_ago",
    same_counts(
        lambda found: {
            "handler": (found.handlers.runs, found.handlers.failures.errors),
            "job": (found.jobs.runs, found.jobs.failures.errors),
        },
        lambda row: (row["kind"], (row["runs"], row["errors"])),
    ),
)


def _sessions_differ(answer: Any, rows: Any, case: Case) -> str:
    """Of those that began within the week: of older ones the rows are gone in part, and rollups know more."""
    whole = {each.id: each for each in answer if each.started_at >= case.at(case.end - WEEK)}
    differ = same_counts(
        lambda found: {number: (each.counts.runs, each.counts.errors) for number, each in found.items()},
        lambda row: (row["session_id"], (row["runs"], row["errors"])),
    )
    return differ(whole, [row for row in rows if row["session_id"] in whole], case)


_BY_SESSION: Final = Plain(
    "SELECT session_id, sum(runs) AS runs, sum(errors) AS errors FROM ("
    " SELECT session_id, count(*) AS runs, sum(status = 'error') AS errors FROM handler_invocations GROUP BY 1"
    " UNION ALL SELECT session_id, count(*), sum(status = 'error') FROM job_executions GROUP BY 1) GROUP BY 1",
    _sessions_differ,
)


async def _sessions(db: Any, case: Case) -> Any:
    return await sessions.with_counts(db, await sessions.list_sessions(db, case.now, case.week, limit=20))


QUESTIONS: Final = (
    Question("status: 24 h", lambda db, c: status.summary(db, c.now, c.day), _KINDS),
    Question("status: 7 d", lambda db, c: status.summary(db, c.now, c.week)),
    Question("handlers: 24 h", lambda db, c: registrations.list_handlers(db, c.day), _plain("handler", "day_ago")),
    Question("handlers: 7 d", lambda db, c: registrations.list_handlers(db, c.week), _plain("handler", "week_ago")),
    Question(
        "handlers: one hour", lambda db, c: registrations.list_handlers(db, c.hour), _plain("handler", "hour_ago")
    ),
    Question("jobs: 24 h", lambda db, c: registrations.list_jobs(db, c.day), _plain("job", "day_ago")),
    Question("jobs: 7 d", lambda db, c: registrations.list_jobs(db, c.week), _plain("job", "week_ago")),
    Question("sessions of a week, with what each ran", _sessions, _BY_SESSION),
    Question("names for completion", lambda db, _: registrations.known_names(db, "handler")),
)
