"""What failed, and what was lost."""

from typing import Final

from benchmarks.questions.agreeing import same_counts, same_value
from benchmarks.questions.case import Plain, Question
from handspan.store.queries import failures, ledger, sessions

__all__ = ["QUESTIONS"]

QUESTIONS: Final = (
    Question("errors: 24 h", lambda db, c: failures.error_groups(db, c.day)),
    Question("errors: 7 d", lambda db, c: failures.error_groups(db, c.week)),
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
