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

__all__ = ["DEFAULT_DB", "Db", "Json", "Limit", "Period", "Since", "ask", "now", "period"]

_T = TypeVar("_T")

DEFAULT_DB: Final = Settings.db
LARGEST_LIMIT: Final = 10_000

Db = Annotated[str, typer.Option("--db", metavar="PATH", envvar="HANDSPAN_DB", help="The database file.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, and nothing else.")]
Since = Annotated[str, typer.Option("--since", metavar="WHEN", help="15m, 6h, 7d, an ISO date or time, or restart.")]
Limit = Annotated[int, typer.Option("--limit", metavar="N", min=1, max=LARGEST_LIMIT, help="At most so many rows.")]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_RELATIVE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


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


async def period(db: DatabaseService, since: str | None, at: Instant) -> Period:
    """What ``--since`` means; None is all time."""
    if since is None:
        return Period(Window(), "")
    text = since.strip()
    if text.lower() == "restart":
        start = await newest_session_start(db)
        return Period(Window(start), "since the restart")
    relative = _RELATIVE.fullmatch(text)
    if relative:
        amount, unit = float(relative[1]), relative[2].lower()
        ns = to_ns(at) - round(amount * _UNITS[unit] * 1e9)
        if ns < 0:
            raise typer.BadParameter(f"{since!r} is further back than 1970", param_hint="'--since'")
        return Period(Window(instant_from_ns(ns)), f"in the last {relative[1]} {unit}")
    return Period(Window(_absolute(text)), f"since {text}")


def _absolute(text: str) -> Instant:
    """An ISO date or time; without a zone it is this machine's."""
    try:
        moment = datetime.fromisoformat(text).astimezone(UTC)
        return instant_from_ns((moment - _EPOCH) // timedelta(microseconds=1) * 1000)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{text!r} is no time: 15m, 6h, 7d, 2026-05-01, 2026-05-01T06:00 or restart are", param_hint="'--since'"
        ) from None
