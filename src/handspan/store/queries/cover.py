"""A window as what answers it: days in between, hours and minutes towards its edges, raw rows of the minutes it cuts.

Rollups of a minute, an hour and a day are all written with the rows, so a window needs at most two partial days of
hours, two partial hours of minutes and two partial minutes of rows, whatever lies between. Where minutes are kept no
more an edge goes outward to its hour, where hours are not, to its day (UTC): ``effective`` is what is answered then.

Rows that were pruned for size miss from the two partial minutes; whole minutes have them.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["DAY", "HOUR", "MINUTE", "Cover", "cover", "over", "over_one"]

_SQL: Final = statements("queries/cover.sql")

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400


@dataclass(frozen=True)
class Cover:
    """What answers a window: parameters of ``covered``."""

    effective: Window
    """What is really answered."""
    widened: bool
    """An edge went outward: ``effective`` is more than was asked for."""
    filling: bool
    """Rows from before there were rollups are still being counted in: figures of then are too low."""
    begins: float
    """The effective window in epoch seconds, as far as there is anything in it; nothing is if it ends where it
    begins."""
    ends: float
    finest: int
    """The finest resolution that is kept for all of it, in seconds."""
    params: Mapping[str, float]


def over(statement: str) -> str:
    """A statement that reads ``covered``, with everybody's window before it."""
    return f"WITH covered AS ({_SQL['covered']})\n{statement}"


def over_one(statement: str) -> str:
    """The same with one registration's: it takes ``kind`` and ``registration``, too."""
    return f"WITH covered AS ({_SQL['covered_one']})\n{statement}"


async def cover(db: DatabaseService, window: Window) -> Cover:
    """Looks up what the file keeps: a seek for each resolution."""
    kept = await db.fetch_one(_SQL["extent"])
    asked = window.params()
    if kept["ends"] is None:  # nothing is there: every range is empty
        return Cover(window, False, bool(kept["filling"]), 0.0, 0.0, MINUTE, _params(0.0, 0.0))
    fine = _Kept(kept["first_minute"], kept["first_hour"], kept["first_day"])
    since, until = fine.outward(asked["since"], up=False), fine.outward(asked["until"], up=True)
    effective = Window(
        window.since if since == asked["since"] else instant(since),
        window.until if until == asked["until"] else instant(until),
    )
    # Nothing is before the first day or after the newest bucket. A day more: the next commit may begin one.
    begins = max(since, fine.day)
    params = _params(begins, until if until < kept["ends"] else _up(kept["ends"], DAY) + DAY)
    return Cover(
        effective, effective != window, bool(kept["filling"]),
        begins, max(begins, min(until, kept["ends"])), fine.finest(begins), params,
    )  # fmt: skip


class _Kept:
    """From when each resolution is kept: where an edge may lie."""

    def __init__(self, first_minute: int | None, first_hour: int | None, first_day: int | None) -> None:
        self.minute = math.inf if first_minute is None else float(first_minute)
        self.hour = math.inf if first_hour is None else float(first_hour)
        self.day = -math.inf if first_day is None else float(first_day)

    def outward(self, edge: float, *, up: bool) -> float:
        """An edge among hours without minutes goes to its hour's, one among days without hours to its day's."""
        for complete, oldest, step in self._steps():
            if oldest < edge < complete:
                edge = _up(edge, step) if up else _down(edge, step)
        return edge

    def finest(self, begins: float) -> int:
        """What is kept from then on."""
        found = MINUTE
        for complete, oldest, step in self._steps():
            if oldest < complete and begins < complete:
                found = step
        return found

    def _steps(self) -> Iterator[tuple[float, float, int]]:
        """From when a resolution is complete, and the next coarser one is there. Retention takes whole hours of
        minutes, and whole days of hours."""
        for fine, coarse, step in ((self.minute, self.hour, HOUR), (self.hour, self.day, DAY)):
            yield _down(fine, step) if math.isfinite(fine) else fine, coarse, step


def _params(since: float, until: float) -> dict[str, float]:
    """The ranges, from rows to days: each step takes what is whole of the next, and leaves a head and a tail."""
    ranges: dict[str, tuple[float, float]] = {}
    for name, step in (("rows", MINUTE), ("minutes", HOUR), ("hours", DAY)):
        first, last = float(_up(since, step)), float(_down(until, step))
        if first > last:  # nothing whole: all of it is the head
            first, last = until, until
        ranges[name], ranges[f"last_{name}"] = (since, first), (last, until)
        since, until = first, last
    ranges["days"] = (since, until)
    return {
        f"{name}_{end}": value
        for name, span in ranges.items()
        for end, value in zip(("from", "until"), span, strict=True)
    }


def _down(moment: float, step: int) -> int:
    return math.floor(moment / step) * step


def _up(moment: float, step: int) -> int:
    return math.ceil(moment / step) * step
