"""Runs one by one: the newest, the failed, the slow, those of a moment; and what hangs on one."""

from typing import Any, Final

from benchmarks.questions.agreeing import same_list
from benchmarks.questions.case import Case, Plain, Question
from handspan.store.queries import runs
from handspan.store.queries.runs import RunFilter

__all__ = ["ALL", "QUESTIONS", "keys", "row_key"]

LIMIT: Final = 50

ALL: Final = """
SELECT * FROM (
    SELECT 'handler' AS kind, id, listener_id AS of, status, session_id, execution_start_ts, duration_ms
    FROM handler_invocations
    UNION ALL
    SELECT 'job', id, job_id, status, session_id, execution_start_ts, duration_ms FROM job_executions)
"""


def keys(found: Any) -> list[tuple[str, int]]:
    return [(run.kind, run.id) for run in getattr(found, "runs", found)]


def row_key(row: Any) -> tuple[str, int]:
    return row["kind"], row["id"]


def _newest(where: str, *, limit: int = LIMIT) -> Plain:
    sql = f"{ALL} WHERE {where} ORDER BY execution_start_ts DESC, kind DESC, id DESC LIMIT {limit}"
    return Plain(sql, same_list(keys, row_key))


async def _page_20(db: Any, case: Case) -> Any:
    """Deep in a list: each page begins below the last row of the one before."""
    page = await runs.list_runs(db, RunFilter(), case.week, limit=LIMIT, after=getattr(case, "deep", None))
    if not hasattr(case, "deep"):
        for _ in range(19):
            page = await runs.list_runs(db, RunFilter(), case.week, limit=LIMIT, after=page.after)
        case.deep = page.after  # type: ignore[attr-defined]  # once a file
    return page


QUESTIONS: Final = (
    Question("runs: the newest", lambda db, c: runs.list_runs(db, limit=LIMIT), _newest("1")),
    Question("runs: the twenty-first page", _page_20),
    Question(
        "runs: of the busiest handler",
        lambda db, c: runs.list_runs(db, RunFilter(handler="energy.on_power"), c.day, limit=LIMIT),
        _newest("kind = 'handler' AND of = :busiest AND execution_start_ts >= :day_ago"),
    ),
    Question(
        "runs: that failed in the last hour",
        lambda db, c: runs.list_runs(db, RunFilter(status="error"), c.hour, limit=LIMIT),
        _newest("status = 'error' AND execution_start_ts >= :hour_ago"),
    ),
    Question(
        "runs: cancelled, a week",
        lambda db, c: runs.list_runs(db, RunFilter(status="cancelled"), c.week, limit=LIMIT),
        _newest("status = 'cancelled' AND execution_start_ts >= :week_ago"),
    ),
    Question(
        "runs: in two minutes of the storm",
        lambda db, c: runs.list_runs(db, window=c.between(c.end - c.storm, c.end - c.storm - 120), limit=LIMIT),
        _newest("execution_start_ts >= :storm AND execution_start_ts < :storm + 120"),
    ),
    Question("handler: its newest with tracebacks", lambda db, c: runs.last_invocations(db, c.failing, c.week)),
    Question("job: its newest with tracebacks", lambda db, c: runs.last_executions(db, c.stopped, c.week)),
)
