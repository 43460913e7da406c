"""``handlers``, ``jobs``, ``errors``, ``sessions``, ``losses``: ask, then show or print JSON."""

from typing import Annotated, Final

import typer

from handspan.cli import views
from handspan.cli.options import DEFAULT_DB, Db, Json, Limit, Since, ask, now, period
from handspan.cli.output import show, show_json
from handspan.store.queries import failures, ledger, registrations
from handspan.store.queries import sessions as session_queries
from handspan.store.service import DatabaseService

__all__ = ["A_DAY", "App", "errors", "handlers", "jobs", "losses", "sessions"]

A_DAY: Final = "24h"
A_WEEK: Final = "7d"
LISTED_REGISTRATIONS: Final = 200
LISTED_RUNS: Final = 20
LISTED_LOSSES: Final = 50


App = Annotated[str | None, typer.Option("--app", metavar="KEY", help="Only of this app.")]


def handlers(
    db: Db = DEFAULT_DB, json: Json = False, since: Since = A_DAY, app: App = None, limit: Limit = LISTED_REGISTRATIONS
) -> None:
    """Each handler: its runs, failures and latency."""
    at = now()

    async def question(service: DatabaseService) -> tuple[list[registrations.HandlerSummary], str]:
        span = await period(service, since, at)
        return await registrations.list_handlers(service, span.window, app=app, limit=limit), span.words

    found, words = ask(db, question)
    if json:
        show_json({"since": since, "handlers": found})
    else:
        show(*views.handlers(found, at, words, limit))


def jobs(
    db: Db = DEFAULT_DB, json: Json = False, since: Since = A_DAY, app: App = None, limit: Limit = LISTED_REGISTRATIONS
) -> None:
    """Each job: its runs, failures and latency, and when it runs next."""
    at = now()

    async def question(service: DatabaseService) -> tuple[list[registrations.JobSummary], str]:
        span = await period(service, since, at)
        return await registrations.list_jobs(service, span.window, app=app, limit=limit), span.words

    found, words = ask(db, question)
    if json:
        show_json({"since": since, "jobs": found})
    else:
        show(*views.jobs(found, at, words, limit))


def errors(db: Db = DEFAULT_DB, json: Json = False, since: Since = A_DAY, limit: Limit = LISTED_RUNS) -> None:
    """What failed, by error type, handler and job."""
    at = now()

    async def question(service: DatabaseService) -> tuple[list[failures.ErrorGroup], list[views.RunRow], str]:
        span = await period(service, since, at)
        groups = await failures.error_groups(service, span.window, limit=limit)
        recent = await failures.recent_errors(service, span.window, limit=limit) if json else []
        return groups, recent, span.words

    groups, recent, words = ask(db, question)
    if json:
        show_json({"since": since, "groups": groups, "recent": recent})
    else:
        show(*views.errors(groups, at, words, limit))


def sessions(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Only those that reach into this time.")
    ] = None,
    limit: Limit = LISTED_RUNS,
) -> None:
    """Each run of a process: how long, how it ended, what it ran."""
    at = now()

    async def question(service: DatabaseService) -> tuple[list[session_queries.SessionSummary], str]:
        span = await period(service, since, at)
        found = await session_queries.list_sessions(service, at, span.window, limit=limit)
        return await session_queries.with_counts(service, found), span.words

    found, words = ask(db, question)
    if json:
        show_json({"since": since, "sessions": found})
    else:
        show(*views.sessions(found, at, words, limit))


def losses(db: Db = DEFAULT_DB, json: Json = False, since: Since = A_WEEK, limit: Limit = LISTED_LOSSES) -> None:
    """What was lost: by hour, session, stage, kind and reason."""
    at = now()

    async def question(service: DatabaseService) -> tuple[ledger.LossPage, str]:
        span = await period(service, since, at)
        return await ledger.list_ledger(service, span.window, limit=limit), span.words

    found, words = ask(db, question)
    if json:
        sums = {"total": found.total, "pruned": found.pruned, "abandoned_journals": found.abandoned_journals}
        show_json({"since": since, **sums, "entries": found.entries, "losses": found.losses})
    else:
        show(*views.losses(found, at, words, limit))
