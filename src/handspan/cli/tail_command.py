"""``tail``: runs as they are stored, line by line, until Ctrl-C."""

import asyncio
import time
from typing import Annotated, Final

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import took
from handspan.cli.options import DEFAULT_DB, App, Db, Handler, Job, now
from handspan.cli.output import PALE, STYLE_OF, complain, json_line, say, show
from handspan.cli.run_words import Lines, StatusOption, clock_time, error_of, status_of
from handspan.cli.runs_command import duration_ms
from handspan.cli.views import MARKS
from handspan.cli.words import title
from handspan.errors import CorruptDatabaseError, DatabaseBusyError, MissingDatabaseError, QueryTimeoutError
from handspan.store.queries.runs import RunFilter, RunRow
from handspan.store.queries.tail import Follower
from handspan.store.service import DatabaseService

__all__ = ["tail"]

POLL: Final = 0.5  # seconds between looks: four to a commit
FIRST_LINES: Final = 10
NAME_CELLS: Final = 24  # a column without knowing what comes: longer names push the rest to the right

Waited = MissingDatabaseError | DatabaseBusyError | CorruptDatabaseError | QueryTimeoutError


def tail(
    db: Db = DEFAULT_DB,
    json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    lines: Annotated[
        int, typer.Option("-n", "--lines", metavar="N", min=0, max=1000, help="So many of the last first.")
    ] = FIRST_LINES,
    handler: Handler = None,
    job: Job = None,
    app: App = None,
    status: StatusOption = None,
    for_: Annotated[str | None, typer.Option("--for", metavar="TIME", help="End after it: 30s, 5m.")] = None,
    count: Annotated[int | None, typer.Option("--count", metavar="N", min=1, help="End after so many runs.")] = None,
) -> None:
    """Follow the file: each run when it is stored, until Ctrl-C."""
    which = RunFilter(handler, job, app, status_of(status))
    ends = None if for_ is None else time.monotonic() + duration_ms(for_, "'--for'") / 1e3
    asyncio.run(_Tail(db, which, json, ends, count).follow(lines, now()))


class _Tail:
    """One following: what it prints, and when it ends."""

    def __init__(self, path: str, which: RunFilter, json: bool, ends: float | None, count: int | None) -> None:
        self._path, self._which, self._json = path, which, json
        self._ends, self._left = ends, count
        self._waits_for: type[BaseException] | None = None

    async def follow(self, lines: int, at: Instant) -> None:
        async with DatabaseService(self._path) as db:
            follower = Follower(db, self._which, at)
            rows = await self._first(follower, lines)
            while not self._print(rows):
                if not rows and not await self._pause():
                    return
                rows = await self._next(follower)

    async def _first(self, follower: Follower, lines: int) -> list[RunRow]:
        """Where there is no file yet, everything in it will be new."""
        absent = False
        while True:
            try:
                if absent:
                    await follower.begin_empty()
                    return []
                return await follower.begin(lines)
            except (MissingDatabaseError, DatabaseBusyError, CorruptDatabaseError, QueryTimeoutError) as error:
                absent = absent or isinstance(error, MissingDatabaseError)
                if absent:
                    continue
                self._say_once(error)
            if not await self._pause():
                return []

    async def _next(self, follower: Follower) -> list[RunRow]:
        try:
            rows = await follower.more()
        except (MissingDatabaseError, DatabaseBusyError, CorruptDatabaseError, QueryTimeoutError) as error:
            self._say_once(error)
            return []
        self._waits_for = None
        return rows

    def _say_once(self, error: Exception) -> None:
        if self._waits_for is not type(error):
            self._waits_for = type(error)
            complain(f"{str(error).partition('. ')[0].rstrip('.')}: waiting for it.")

    def _print(self, rows: list[RunRow]) -> bool:
        """True when that was all that was asked for."""
        if self._left is not None:
            rows = rows[: self._left]
            self._left -= len(rows)
        if rows and self._json:
            say("\n".join(json_line(run) for run in rows))
        elif rows:
            show(Lines([_line(run) for run in rows]))
        return self._left == 0

    async def _pause(self) -> bool:
        """False when the time is over."""
        left = POLL if self._ends is None else min(POLL, self._ends - time.monotonic())
        if left <= 0:
            return False
        await asyncio.sleep(left)
        return True


def _line(run: RunRow) -> Text:
    label = title(run)
    label.pad_right(max(0, NAME_CELLS - label.cell_len))
    return Text.assemble(
        (clock_time(run.started_at), PALE), f" {MARKS[run.kind]} ", label, f" {took(run.duration_ms):>8} ",
        (run.status, STYLE_OF[run.status]), f"  {error_of(run)}",
    )  # fmt: skip
