"""The options commands share, and what their texts mean."""

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, TypeVar

import typer
from whenever import Instant

from handspan.clock import SystemClock, instant_from_ns, to_ns
from handspan.settings import Settings
from handspan.store.queries.sessions import newest_session_start
from handspan.store.queries.shapes import Window
from handspan.store.service import DatabaseService

__all__ = ["DEFAULT_DB", "Db", "Json", "Limit", "Period", "Since", "Until", "ask", "moment", "now", "period"]

_T = TypeVar("_T")

DEFAULT_DB: Final = Settings.db
LARGEST_LIMIT: Final = 10_000

Db = Annotated[str, typer.Option("--db", metavar="PATH", envvar="HANDSPAN_DB", help="The database file.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]
Since = Annotated[str, typer.Option("--since", metavar="WHEN", help="15m, 6h, 7d, an ISO date or time, or restart.")]
Until = Annotated[str | None, typer.Option("--until", metavar="WHEN", help="Up to then; likewise. Now if not given.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=LARGEST_LIMIT, help="At most so many rows.")]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_RELATIVE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FAR: Final = datetime(9000, 1, 1, tzinfo=UTC)  # columns of centuries must not leave the calendar


@dataclass(frozen=True)
class Period:
    """A window, and how to say it in a sentence."""

    window: Window
    words: str
    """``in the last 6 h``, ``since the restart``; empty for all time."""


def now() -> Instant:
    return instant_from_ns(SystemClock().wall_ns())


def ask(path: str, question: Callable[[DatabaseService], Awaitable[_T]], *, any_schema: bool = False) -> _T:
    """One question to one file, from the command line's side of the event loop."""
    import asyncio  # 30 ms that `db path` and --help need not wait for

    async def answer() -> _T:
        async with DatabaseService(path, any_schema=any_schema) as db:
            return await question(db)

    return asyncio.run(answer())


async def period(db: DatabaseService, since: str | None, at: Instant, until: str | None = None) -> Period:
    """What ``--since`` and ``--until`` mean; None is all time. The first instant belongs to it, the last does not."""
    start = None if since is None else await moment(db, since, at, "'--since'")
    end = None if until is None else await moment(db, until, at, "'--until'")
    if start is not None and end is not None and start >= end:
        raise typer.BadParameter(f"{until!r} is not after {since!r}", param_hint="'--until'")
    return Period(Window(start, end), " ".join(filter(None, (_since_words(since), _until_words(until)))))


def _since_words(text: str | None) -> str:
    if text is None:
        return ""
    if text.strip().lower() == "restart":
        return "since the restart"
    relative = _RELATIVE.fullmatch(text.strip())
    return f"in the last {relative[1]} {relative[2].lower()}" if relative else f"since {text.strip()}"


def _until_words(text: str | None) -> str:
    if text is None:
        return ""
    relative = _RELATIVE.fullmatch(text.strip())
    return f"until {relative[1]} {relative[2].lower()} ago" if relative else f"until {text.strip()}"


async def moment(db: DatabaseService, text: str, at: Instant, option: str) -> Instant | None:
    """One text that says when; None is a restart that never was."""
    text = text.strip()
    if text.lower() == "restart":
        return await newest_session_start(db)
    relative = _RELATIVE.fullmatch(text)
    if relative is None:
        return _absolute(text, option)
    seconds = min(float(relative[1]) * _UNITS[relative[2].lower()], 1e18)  # 400 digits are infinity
    ns = to_ns(at) - round(seconds * 1e9)
    if ns < 0:
        raise typer.BadParameter(f"{text!r} is further back than 1970", param_hint=option)
    return instant_from_ns(ns)


def _absolute(text: str, option: str) -> Instant:
    """An ISO date or time; without a zone it is this machine's. A time alone is today's."""
    try:
        if _CLOCK.fullmatch(text):
            text = f"{datetime.now(UTC).astimezone():%Y-%m-%d}T{text}"
        moment = max(_EPOCH, min(datetime.fromisoformat(text).astimezone(UTC), _FAR))
        return instant_from_ns((moment - _EPOCH) // timedelta(microseconds=1) * 1000)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no time: 15m, 6h, 7d, 2026-05-01, 2026-05-01T06:00, 06:00 or restart are", param_hint=option
        ) from None
