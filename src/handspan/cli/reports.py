"""``sessions``, ``losses``: ask, then show or print JSON."""

from typing import Annotated, Final

import typer

from handspan.cli import views
from handspan.cli.options import A_WEEK, DEFAULT_DB, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import show, show_json
from handspan.store.queries import ledger
from handspan.store.queries import sessions as session_queries
from handspan.store.service import DatabaseService

__all__ = ["losses", "sessions"]

LISTED_RUNS: Final = 20
LISTED_LOSSES: Final = 50


def sessions(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Only those that reach into this time.")
    ] = None,
    until: Until = None,
    limit: Limit = LISTED_RUNS,
) -> None:
    """Each run of a process: how long, how it ended, what it ran."""
    at = now()

    async def question(service: DatabaseService) -> tuple[list[session_queries.SessionSummary], str]:
        span = await period(service, since, at, until)
        found = await session_queries.list_sessions(service, at, span.window, limit=limit + 1)
        return await session_queries.with_counts(service, found), span.words

    found, words = ask(db, question)
    if json:
        show_json({"since": since, "until": until, "sessions": found[:limit], "more": len(found) > limit})
    else:
        show(*views.sessions(found, at, words, limit))


def losses(
    db: Db = DEFAULT_DB, json: Json = False, since: Since = A_WEEK, until: Until = None, limit: Limit = LISTED_LOSSES
) -> None:
    """What was lost: by hour, session, stage, kind and reason."""
    at = now()

    async def question(service: DatabaseService) -> tuple[ledger.LossPage, str]:
        span = await period(service, since, at, until)
        return await ledger.list_ledger(service, span.window, limit=limit), span.words

    found, words = ask(db, question)
    if json:
        sums = {"total": found.total, "pruned": found.pruned, "abandoned_journals": found.abandoned_journals}
        show_json({"since": since, "until": until, **sums, "entries": found.entries, "losses": found.losses})
    else:
        show(*views.losses(found, at, words, limit))
