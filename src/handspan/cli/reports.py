"""``runs``, ``sessions``, ``losses``: ask, then show or print JSON."""

from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Final

import typer

from handspan.cli import views
from handspan.cli.options import DEFAULT_DB, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import show, show_json
from handspan.records import Status
from handspan.store.queries import ledger, registrations
from handspan.store.queries import sessions as session_queries
from handspan.store.queries.runs import Kind, RunFilter, list_runs
from handspan.store.service import DatabaseService

__all__ = ["A_DAY", "App", "losses", "refuse_unknown", "runs", "sessions"]

A_DAY: Final = "24h"
A_WEEK: Final = "7d"
LISTED_RUNS: Final = 20
LISTED_LOSSES: Final = 50


class StatusName(StrEnum):
    """How a run ended."""

    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"


_STATUSES: Final[dict[StatusName, Status]] = {
    StatusName.SUCCESS: "success",
    StatusName.ERROR: "error",
    StatusName.CANCELLED: "cancelled",
}

App = Annotated[str | None, typer.Option("--app", metavar="KEY", help="Only of this app.")]


def runs(
    db: Db = DEFAULT_DB,
    json: Json = False,
    handler: Annotated[
        str | None, typer.Option("--handler", metavar="NAME", help="Only of this handler: name or app.name, * and ?.")
    ] = None,
    job: Annotated[str | None, typer.Option("--job", metavar="NAME", help="Only of this job, likewise.")] = None,
    status: Annotated[StatusName | None, typer.Option("--status", help="Only those that ended so.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="15m, 6h, 7d, an ISO date or time, or restart.")
    ] = None,
    until: Until = None,
    app: App = None,
    limit: Limit = LISTED_RUNS,
) -> None:
    """Runs of handlers and jobs, newest first."""
    at = now()
    which = RunFilter(handler, job, app, None if status is None else _STATUSES[status])

    async def question(service: DatabaseService) -> views.RunsView:
        span = await period(service, since, at, until)
        page = await list_runs(service, which, span.window, limit=limit)
        if not page.runs:
            for kind in which.kinds():
                await refuse_unknown(service, kind, which.name_of(kind))
        newest = page if page.runs else await list_runs(service, limit=1)
        return views.RunsView(page, span.words, which, newest.runs[0] if newest.runs else None)

    found = ask(db, question)
    if json:
        show_json({"since": since, "until": until, "runs": found.page.runs, "more": found.page.after is not None})
    else:
        show(*views.runs(found, at, limit))


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
        found = await session_queries.list_sessions(service, at, span.window, limit=limit)
        return await session_queries.with_counts(service, found), span.words

    found, words = ask(db, question)
    if json:
        show_json({"since": since, "until": until, "sessions": found})
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


async def refuse_unknown(db: DatabaseService, kind: Kind, name: str | None) -> None:
    """A name nobody registered is a slip of the pen rather than an empty answer."""
    if name is None:
        return
    known = await registrations.known_names(db, kind)
    if any(fnmatchcase(full, pattern) for full in known for pattern in (name, f"*.{name}")):
        return
    short = {full.rpartition(".")[2]: full for full in known}
    close = get_close_matches(name, known, n=1) or [short[s] for s in get_close_matches(name, list(short), n=1)]
    hint = f"; did you mean {close[0]}?" if close else f"; `handspan {kind}s` lists them"
    raise typer.BadParameter(f"there is no {kind} {name!r}{hint}", param_hint=f"'--{kind}'")
