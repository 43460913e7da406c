"""What failed, and what was lost."""

from typing import Final

from benchmarks.questions.agreeing import same_counts, same_value
from benchmarks.questions.case import Plain, Question
from handspan.store.queries import error_groups, ledger, sessions

__all__ = ["QUESTIONS"]

_GROUPS: Final = """
SELECT error_group_id AS id, count(*) AS n FROM (
    SELECT error_group_id, execution_start_ts FROM handler_invocations
    UNION ALL SELECT error_group_id, execution_start_ts FROM job_executions)
WHERE execution_start_ts >= :since AND error_group_id IS NOT NULL GROUP BY 1
"""


def _groups(since: str) -> Plain:
    return Plain(
        _GROUPS.replace(":since", f":{since}"),
        same_counts(lambda found: {each.id: each.count for each in found.groups}, lambda row: (row["id"], row["n"])),
    )


QUESTIONS: Final = (
    Question("errors: 24 h", lambda db, c: error_groups.list_groups(db, c.now, c.day, limit=1000), _groups("day_ago")),
    Question("errors: 7 d", lambda db, c: error_groups.list_groups(db, c.now, c.week, limit=1000), _groups("week_ago")),
    Question(
        "losses: 7 d",
        lambda db, c: ledger.list_ledger(db, c.week),
        Plain(
            "SELECT coalesce(sum(count), 0) FROM losses WHERE hour >= :week_ago - 3599",
            same_value(lambda found: found.total),
        ),
    ),
    Question(
        "losses: by reason",
        lambda db, c: sessions.list_losses(db, c.week),
        Plain(
            "SELECT stage, kind, reason, sum(count) AS count FROM losses WHERE hour >= :week_ago - 3599"
            " GROUP BY 1, 2, 3",
            same_counts(
                lambda found: {(each.stage, each.kind, each.reason): each.count for each in found},
                lambda row: ((row["stage"], row["kind"], row["reason"]), row["count"]),
            ),
        ),
    ),
    Question("incidents: 7 d", lambda db, c: ledger.list_incidents(db, c.week)),
)
