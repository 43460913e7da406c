"""The options commands share, and what their texts mean."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Final, TypeVar

import typer
from whenever import Instant

from handspan.cli.completion import app_keys, handler_names, job_names
from handspan.settings import Settings
from handspan.store.queries import apps
from handspan.store.queries.sessions import newest_session_start
from handspan.store.queries.shapes import Window
from handspan.store.queries.windows import length_of, now
from handspan.store.queries.windows import moment as moment_of
from handspan.store.service import DatabaseService

__all__ = [
    "A_DAY", "A_WEEK", "DEFAULT_DB", "App", "Db", "Handler", "Job", "Json", "Limit", "Period", "Since", "Until", "ask",
    "moment", "now", "period",
]  # fmt: skip

_T = TypeVar("_T")

DEFAULT_DB: Final = Settings.db
A_DAY: Final = "24h"
A_WEEK: Final = "7d"
LARGEST_LIMIT: Final = 10_000
NAMED: Final = 5  # apps a line has room for

Db = Annotated[str, typer.Option("--db", metavar="PATH", envvar="HANDSPAN_DB", help="The database file.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]
Since = Annotated[str, typer.Option("--since", metavar="WHEN", help="15m, 6h, 7d, an ISO date or time, or restart.")]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Up to then; likewise. Now if not given.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=LARGEST_LIMIT, help="At most so many rows.")]
App = Annotated[str | None, typer.Option("--app", metavar="KEY", help="Only of this app.", autocompletion=app_keys)]
Handler = Annotated[
    str | None,
    typer.Option(
        "--handler", metavar="NAME", help="Only of this handler: name or app.name, * and ?.",
        autocompletion=handler_names,
    ),
]  # fmt: skip
Job = Annotated[
    str | None,
    typer.Option("--job", metavar="NAME", help="Only of this job, likewise.", autocompletion=job_names),
]


@dataclass(frozen=True)
class Period:
    """A window, and how to say it in a sentence."""

    window: Window
    words: str
    """``in the last 6 h``, ``since the restart``; empty for all time."""


def ask(
    path: str, question: Callable[[DatabaseService], Awaitable[_T]], *, app: str | None = None, any_schema: bool = False
) -> _T:
    """One question to one file, from the command line's side of the event loop. ``app``: whose answers are wanted."""
    import asyncio  # 30 ms that `db path` and --help need not wait for

    async def answer() -> _T:
        async with DatabaseService(path, any_schema=any_schema) as db:
            if app is not None:
                await _refuse_unknown(db, app)
            return await question(db)

    return asyncio.run(answer())


async def _refuse_unknown(db: DatabaseService, app: str) -> None:
    """Of an app that nobody has, `failing` would say that nothing fails."""
    known = await apps.app_keys(db)
    if known and app not in known:
        close = get_close_matches(app, known)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(known[:NAMED])}"
        raise typer.BadParameter(f"there is no app {app!r}; {hint}", param_hint="'--app'")


async def period(db: DatabaseService, since: str | None, at: Instant, until: str | None = None) -> Period:
    """What ``--since`` and ``--until`` mean; None is all time. The first instant belongs to it, the last does not."""
    start = None if since is None else await moment(db, since, at, "'--since'")
    end = None if until is None else await moment(db, until, at, "'--until'", after=start)
    if start is not None and end is not None and start >= end:
        raise typer.BadParameter(f"{until!r} is not after {since!r}", param_hint="'--until'")
    return Period(Window(start, end), " ".join(filter(None, (_since_words(since), _until_words(until)))))


def _since_words(text: str | None) -> str:
    if text is None:
        return ""
    if text.strip().lower() == "restart":
        return "since the restart"
    length = length_of(text)
    return f"since {text.strip()}" if length is None else f"in the last {length}"


def _until_words(text: str | None) -> str:
    if text is None:
        return ""
    length = length_of(text)
    return f"until {text.strip()}" if length is None else f"until {length} ago"


async def moment(
    db: DatabaseService, text: str, at: Instant, option: str, after: Instant | None = None
) -> Instant | None:
    """One text that says when; None is a restart that never was."""
    if text.strip().lower() == "restart":
        return await newest_session_start(db)
    try:
        return moment_of(text, at, after)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
