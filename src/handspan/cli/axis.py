"""A time axis in characters: ticks at moments people know, their labels, and marks of crashes and starts."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final

from rich.text import Text

from handspan.cli.output import CRASHED, PALE
from handspan.clock import to_ns
from handspan.store.queries.grid import DAY, HOUR, MINUTE
from handspan.store.queries.timeline import Timeline

__all__ = ["CRASH", "START", "Axis", "step_words", "zone"]

CRASH: Final = "▲"
START: Final = "│"
LINE: Final = "─"
TICK: Final = "┴"
APART: Final = 1  # cells between two labels, at least
INTERVALS: Final = (
    *(MINUTE * n for n in (1, 2, 5, 10, 15, 30)), *(HOUR * n for n in (1, 2, 3, 6, 12)),
    *(DAY * n for n in (1, 2, 7, 14, 28, 91, 182, 364)),
)  # fmt: skip


@dataclass(frozen=True)
class Axis:
    """``count`` columns of ``step`` seconds from ``start``, each ``cells`` wide."""

    start: int
    step: int
    count: int
    cells: int = 1

    @property
    def width(self) -> int:
        return self.count * self.cells

    def line(self, under: Timeline) -> Text:
        """A crash hides the start beside it: the one is why there is the other."""
        marks: dict[int, tuple[str, str]] = {}
        for session in under.sessions:
            self._mark(marks, to_ns(session.started_at) / 1e9, START, PALE)
        for session in under.sessions:
            if session.state == "crash" and session.ended_at is not None:
                self._mark(marks, to_ns(session.ended_at) / 1e9, CRASH, CRASHED)
        ticks = {column * self.cells for column, _ in self._ticks()}
        line = Text()
        for place in range(self.width):
            mark, style = marks.get(place, (TICK if place in ticks else LINE, PALE))
            line.append(mark, style=style)
        return line

    def labels(self) -> Text:
        text = ""
        for column, label in self._ticks():
            text = text.ljust(column * self.cells) + label
        return Text(text, style=PALE)

    def _mark(self, marks: dict[int, tuple[str, str]], epoch: float, mark: str, style: str) -> None:
        column = int((epoch - self.start) // self.step)
        if 0 <= column < self.count:
            marks[column * self.cells] = mark, style

    def _ticks(self) -> list[tuple[int, str]]:
        """Columns and labels, as many as have room; midnight is the day's name, or 00:00 where that is too long."""
        moments = [local(self.start + column * self.step) for column in range(self.count)]
        for interval in INTERVALS:
            for days in (True, False):
                found = [
                    (column, _label(moment + timedelta(seconds=ahead), interval, days and _ahead(moment, DAY) == ahead))
                    for column, moment in enumerate(moments)
                    if (ahead := _ahead(moment, interval)) < self.step
                ]
                found = [each for each in found if each[0] * self.cells + len(each[1]) <= self.width]
                if found and _fit(found, self.cells):
                    return found
        return []


def local(epoch: float) -> datetime:
    """As this machine's clocks on the wall show it."""
    return datetime.fromtimestamp(epoch, UTC).astimezone()


def zone(epoch: float) -> str:
    """Its name, or its distance from UTC."""
    return local(epoch).tzname() or local(epoch).strftime("%z")


def step_words(seconds: int) -> str:
    """``30-minute``, as in "30-minute columns"."""
    for length, word in ((DAY, "day"), (HOUR, "hour")):
        if seconds % length == 0:
            return f"{seconds // length}-{word}"
    return f"{seconds // MINUTE}-minute"


def _ahead(moment: datetime, interval: int) -> int:
    """Seconds to the next round moment, by the clock on the wall: it may lie within a column."""
    wall = int(moment.replace(tzinfo=UTC).timestamp())
    if interval >= 7 * DAY:
        wall -= 4 * DAY  # 1970 began on a Thursday: weeks begin on Monday
    return -wall % interval


def _label(moment: datetime, interval: int, day: bool) -> str:
    if interval < DAY and not day:
        return f"{moment:%H:%M}"
    return f"{moment:%a} {moment.day}" if interval < 7 * DAY else f"{moment.day} {moment:%b}"


def _fit(found: Sequence[tuple[int, str]], cells: int) -> bool:
    return all(
        column * cells + len(label) + APART <= following * cells for (column, label), (following, _) in pairwise(found)
    )
