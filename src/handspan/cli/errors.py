"""``errors`` and ``error``: what fails, by group; and one group whole, which may be said to be mended."""

from contextlib import closing
from enum import StrEnum
from typing import Annotated, Final

import typer

from handspan.cli import error_views
from handspan.cli.completion import group_ids
from handspan.cli.options import A_DAY, A_WEEK, DEFAULT_DB, App, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import show, show_json
from handspan.clock import to_epoch, to_ns
from handspan.store.connection import explained
from handspan.store.error_groups import reopen as reopen_group
from handspan.store.error_groups import resolve as resolve_group
from handspan.store.opening import open_for_writing
from handspan.store.queries import failures
from handspan.store.queries.error_groups import (
    GroupFilter,
    GroupOrder,
    GroupPage,
    GroupState,
    WholeGroup,
    list_groups,
    whole_group,
)
from handspan.store.queries.runs import RunRow
from handspan.store.reading import stored_revision
from handspan.store.service import DatabaseService

__all__ = ["error", "errors"]

LISTED: Final = 20
LISTED_RUNS: Final = 10
HIGHEST_ID: Final = 2**63 - 1
BUSY_TIMEOUT: Final = 5.0  # seconds to wait for the recording process between its commits


class StateName(StrEnum):
    """What is known of a group."""

    OPEN = "open"
    RESOLVED = "resolved"
    REGRESSED = "regressed"


class SortName(StrEnum):
    """What comes first."""

    LAST = "last"
    COUNT = "count"


_STATES: Final[dict[StateName, GroupState]] = {
    StateName.OPEN: "open",
    StateName.RESOLVED: "resolved",
    StateName.REGRESSED: "regressed",
}
_SORTS: Final[dict[SortName, GroupOrder]] = {SortName.LAST: "last_seen", SortName.COUNT: "count"}


def errors(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    app: App = None,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Only of this handler or job: name or app.name, * and ?."),
    ] = None,
    type_: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="Only of this error type, * and ?.")
    ] = None,
    state: Annotated[StateName | None, typer.Option("--state", help="Only those that are so.")] = None,
    sort: Annotated[
        SortName, typer.Option("--sort", help="The most recent first, or the most frequent.")
    ] = SortName.LAST,
    limit: Limit = LISTED,
) -> None:
    """What fails: each kind of failure, how often and since when."""
    at = now()
    which = GroupFilter(app, name, None if state is None else _STATES[state], type_)

    async def question(service: DatabaseService) -> tuple[GroupPage, list[RunRow], str]:
        span = await period(service, since, at, until)
        page = await list_groups(service, at, span.window, which, by=_SORTS[sort], limit=limit)
        recent = await failures.recent_errors(service, span.window, limit=limit) if json else []
        return page, recent, span.words

    page, recent, words = ask(db, question, app=app)
    if json:
        more = {"more": page.after is not None, "pending": page.pending}
        show_json({"since": since, "until": until, "groups": page.groups, **more, "recent": recent})
    else:
        show(*error_views.errors(page, at, words, limit, which))


def error(
    id: Annotated[  # noqa: A002 - what --help calls it
        int,
        typer.Argument(
            metavar="ID",
            min=1,
            max=HIGHEST_ID,
            help="Of the group: `handspan errors` lists them.",
            autocompletion=group_ids,
        ),
    ],
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_WEEK,
    until: Until = None,
    resolve: Annotated[bool, typer.Option("--resolve", help="It is mended: tell me if it comes back.")] = False,
    reopen: Annotated[bool, typer.Option("--reopen", help="It is not.")] = False,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=1_000, help="At most so many runs.")
    ] = LISTED_RUNS,
) -> None:
    """One kind of failure, whole; say that it is mended."""
    if resolve and reopen:
        raise typer.BadParameter("--resolve and --reopen exclude each other", param_hint="'--resolve'")
    at = now()
    if resolve or reopen:
        _set(db, id, to_epoch(to_ns(at)) if resolve else None)

    async def question(service: DatabaseService) -> tuple[WholeGroup, str]:
        span = await period(service, since, at, until)
        found = await whole_group(service, at, id, span.window, limit=limit)
        if found is None:
            raise _unknown(id)
        return found, span.words

    found, words = ask(db, question)
    if json:
        show_json({"since": since, "until": until, "error": found})
    elif resolve or reopen:
        show(error_views.changed(found.group))
    else:
        show(*error_views.error(found, at, words, limit))


def _set(db: str, group_id: int, resolved_at: float | None) -> None:
    """One short transaction, also while an application records: it asks at each commit with a failure in it."""
    stored_revision(db)  # says so if there is no file: writing would make one
    with closing(open_for_writing(db, busy_timeout=BUSY_TIMEOUT)) as conn, explained(db):
        known = reopen_group(conn, group_id) if resolved_at is None else resolve_group(conn, group_id, resolved_at)
    if not known:
        raise _unknown(group_id)


def _unknown(group_id: int) -> typer.BadParameter:
    return typer.BadParameter(f"there is no error group {group_id}; `handspan errors` lists them", param_hint="'ID'")
