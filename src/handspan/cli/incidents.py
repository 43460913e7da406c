"""``incidents``: what happened to recording that is not a run."""

from typing import Final

from handspan.cli import incidents_view
from handspan.cli.options import DEFAULT_DB, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import show, show_json
from handspan.store.queries.ledger import IncidentRow, list_incidents
from handspan.store.service import DatabaseService

__all__ = ["incidents"]

A_MONTH: Final = "30d"
LISTED: Final = 50


def incidents(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_MONTH,
    until: Until = None,
    limit: Limit = LISTED,
) -> None:
    """What happened to recording: damage, a database that was away."""
    at = now()

    async def question(service: DatabaseService) -> tuple[list[IncidentRow], str]:
        span = await period(service, since, at, until)
        return await list_incidents(service, span.window, limit=limit + 1), span.words

    found, words = ask(db, question)
    if json:
        show_json({"since": since, "until": until, "incidents": found[:limit], "more": len(found) > limit})
    else:
        show(*incidents_view.incidents(found, at, words, limit))
