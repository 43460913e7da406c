"""One run and what hangs on it; moments; what was slow; texts of failures."""

from typing import Any, Final

from benchmarks.questions.agreeing import same_list, same_value
from benchmarks.questions.case import Case, Plain, Question
from benchmarks.questions.runs import ALL, keys, row_key
from handspan.store.queries import listing, logs, moments, one_run, references, slow, traces
from handspan.store.queries.runs import RunFilter

__all__ = ["QUESTIONS"]

LIMIT: Final = 50


def _at(moment: str) -> Plain:
    """Runs with start <= at < end, the longest running first, as many as are listed."""
    sql = f"{ALL} WHERE execution_start_ts <= :{moment} AND execution_start_ts + duration_ms / 1000 > :{moment}"
    return Plain(
        f"{sql} ORDER BY execution_start_ts, kind, id LIMIT 100", same_list(lambda found: keys(found.finished), row_key)
    )


def _slow(where: str) -> Plain:
    sql = f"{ALL} WHERE {where} ORDER BY duration_ms DESC, kind, id LIMIT {LIMIT}"
    return Plain(sql, same_list(keys, row_key))


def _page(where: str) -> Plain:
    sql = f"{ALL} WHERE {where} ORDER BY execution_start_ts DESC, kind DESC, id DESC LIMIT {LIMIT}"
    return Plain(sql, same_list(keys, row_key))


async def _detail(db: Any, case: Case) -> Any:
    """As ``handspan run`` does: from the beginning of an id."""
    found = await references.find(db, references.parse(case.failed["trace"][:12]), case.now)
    return await one_run.run_detail(db, found.runs[0], case.now)


async def _by_span(db: Any, case: Case) -> Any:
    return await references.find(db, references.parse(case.failed["span"]), case.now)


QUESTIONS: Final = (
    Question(
        "runs: that ran when it crashed",
        lambda db, c: moments.running_at(db, c.at(c.crash - 1), c.now),
        _at("before_crash"),
    ),
    Question("runs: that ran in the storm", lambda db, c: moments.running_at(db, c.at(c.storm), c.now), _at("storm")),
    Question("runs: that run now", lambda db, c: moments.in_flight(db, c.now)),
    Question(
        "slow: of the last day",
        lambda db, c: slow.slowest_runs(db, RunFilter(), c.day, limit=LIMIT),
        _slow("execution_start_ts >= :day_ago"),
    ),
    Question(
        "slow: of a week",
        lambda db, c: slow.slowest_runs(db, RunFilter(), c.week, limit=LIMIT),
        _slow("execution_start_ts >= :week_ago"),
    ),
    Question(
        "slow: of one handler, a week",
        lambda db, c: slow.slowest_runs(db, RunFilter(handler="climate.on_temperature"), c.week, limit=LIMIT),
        _slow("kind = 'handler' AND of = :slower AND execution_start_ts >= :week_ago"),
    ),
    Question(
        "runs: longer than ten seconds, a week",
        lambda db, c: listing.run_page(db, RunFilter(at_least_ms=10_000.0), c.week, limit=LIMIT),
        _page("duration_ms >= 10000 AND execution_start_ts >= :week_ago"),
    ),
    Question(
        "runs: of an older session",
        lambda db, c: listing.run_page(db, RunFilter(session_id=c.older_session), c.week, limit=LIMIT),
        _page("session_id = :older_session AND execution_start_ts >= :week_ago"),
    ),
    Question(
        "runs: of one handler that failed, a week",
        lambda db, c: listing.run_page(
            db, RunFilter(handler="climate.on_temperature", status="error"), c.week, limit=LIMIT
        ),
        _page("kind = 'handler' AND status = 'error' AND of = :slower AND execution_start_ts >= :week_ago"),
    ),
    Question(
        "runs: whose failure says a word",
        lambda db, c: listing.failures_saying(
            db, "refused the connection", RunFilter(status="error"), c.week, limit=LIMIT
        ),
    ),
    Question("run: the whole of one that failed", _detail),
    Question("run: by its span id alone", _by_span),
    Question("trace: of a run that set others off", lambda db, c: traces.trace(db, c.cause["trace"], c.now)),
    Question(
        "run: what it logged",
        lambda db, c: logs.run_logs(db, c.failed["trace"], c.failed["span"]),
        Plain(
            "SELECT count(*) FROM log_records WHERE trace_id = :trace AND run_span_id = :span",
            same_value(lambda found: len(found.lines)),
        ),
    ),
)
