"""A window cut into equal steps of time, and the rollups that know them."""

from dataclasses import dataclass
from typing import Final, Literal

from whenever import Instant

from handspan.clock import to_ns
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["DAY", "HOUR", "MINUTE", "MOST_POINTS", "Grid", "Resolution", "grid_of"]

_SQL: Final = statements("queries/series.sql")

Resolution = Literal[60, 3600, 86400]
MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400
WEEK: Final = 7 * DAY
STEPS: Final = (
    tuple(MINUTE * n for n in (1, 2, 5, 10, 15, 30)) + tuple(HOUR * n for n in (1, 2, 3, 6, 12)) + (DAY, WEEK)
)
"""Lengths people think in: each divides the next larger resolution, so that points begin where its buckets do."""

MOST_POINTS: Final = 2_000  # wider than any screen; a bound on what one query reads
KEPT: Final = 366 * DAY  # rollups by the day are kept a year


@dataclass(frozen=True)
class Grid:
    """``count`` points of ``step`` seconds from ``start`` (epoch seconds, a multiple of the step)."""

    start: int
    step: int
    count: int
    resolution: Resolution
    """Of the rollups: ``step`` is a multiple of it."""
    known_from: int
    """What lies before was recorded, perhaps, and is not kept any more."""

    @property
    def end(self) -> int:
        return self.start + self.step * self.count

    @property
    def window(self) -> Window:
        return Window(instant(self.start), instant(self.end))

    def point_of(self, epoch: float) -> int:
        """Which point an instant is in; below 0 or from ``count`` on if in none."""
        return int((epoch - self.start) // self.step)

    def buckets(self) -> dict[str, int]:
        """What a query binds."""
        return {"start": self.start, "end": self.end, "step": self.step, "resolution": self.resolution}


async def grid_of(
    db: DatabaseService, window: Window, at: Instant, *, points: int = 288, step: int | None = None
) -> Grid:
    """At most so many points over a window, whole steps of a length people think in; or of the length given.

    The finest rollups that reach back to the window's beginning. An open window begins with what is known and ends now.
    """
    known = await db.fetch_one(_SQL["oldest"])
    now = to_ns(at) / 1e9
    since = window.params()["since"]
    if window.since is None:
        since = min([first for first in (known["days"], known["session"]) if first is not None], default=now - DAY)
    until = max(since, now if window.until is None else min(window.params()["until"], max(now, since)))
    found = _cut(since, until, points, _step(since, until, points) if step is None else max(step, 1), now)
    for finer, coarser, length in (("minutes", "hours", HOUR), ("hours", "days", DAY)):
        begins, reaches = known[finer], known[coarser]
        outlived = begins is not None and reaches is not None and reaches + length <= begins
        if outlived and found.start < begins and found.resolution < length:
            found = _cut(since, until, points, max(found.step, length), now)
    return found


def _cut(since: float, until: float, points: int, step: int, now: float) -> Grid:
    """Steps that are no multiple of their resolution are made one."""
    resolution: Resolution = MINUTE if step < HOUR else HOUR if step < DAY else DAY
    step = -(-step // resolution) * resolution
    start = int(since // step) * step
    count = max(1, -(-int(-(-until // 1) - start) // step))
    most = min(max(points, 1), MOST_POINTS) + 1  # one more: the first and the last are seldom whole
    if count > most:
        return _cut(since, until, points, _longer(step), now)
    return Grid(start, step, count, resolution, int(now) - KEPT)


def _step(since: float, until: float, points: int) -> int:
    wanted = (until - since) / max(points, 1)
    return next((step for step in STEPS if step >= wanted), -(-int(wanted) // WEEK) * WEEK)


def _longer(step: int) -> int:
    return next((longer for longer in STEPS if longer > step), step * 2)
