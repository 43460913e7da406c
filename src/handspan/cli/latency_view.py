"""A small histogram of durations: height is how many runs took so long, the axis is logarithmic."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from rich.text import Text

from handspan.cli.figures import amount, took
from handspan.cli.output import PALE
from handspan.cli.sparklines import columns
from handspan.store.queries.tallies import Latency

__all__ = ["latency"]

HEIGHT: Final = 3  # lines
LABEL: Final = 6
GAP: Final = 2
SCALE: Final = 22
MOST_COLUMNS: Final = 72
WIDEST: Final = 4  # cells of one bucket, where there are few
ROUND: Final = [digit * 10.0**power for digit in (1, 2, 5) for power in range(-6, 10)]  # ms; the round ones first


def latency(found: Latency, width: int) -> Iterator[Text]:
    """Buckets that are too many for a line are put together, two by two."""
    bounds, runs = found.bounds_ms, found.runs
    room = max(8, min(MOST_COLUMNS, width - LABEL - SCALE - 2 * GAP))
    while len(runs) > room:
        bounds, runs = _halved(bounds, runs)
    cells = max(1, min(WIDEST, room // len(runs)))
    drawn = columns([each for each in runs for _ in range(cells)], HEIGHT)
    for place, line in enumerate(drawn):
        scale = f"█ {amount(max(runs), 'run')}" if place == 0 else ""
        yield _line("took" if place == HEIGHT - 1 else "", line, scale)
    ticks = _ticks(bounds, cells, len(runs) * cells)
    axis = "".join("┴" if place in ticks else "─" for place in range(len(runs) * cells))
    yield _line("", Text(axis, style=PALE), "")
    labels = ""
    for place, label in sorted(ticks.items()):
        labels = labels.ljust(place) + label
    yield _line("", Text(labels, style=PALE), "")


def _halved(bounds: list[float], runs: list[int]) -> tuple[list[float], list[int]]:
    odd = len(runs) % 2
    paired = [sum(runs[place : place + 2]) for place in range(0, len(runs), 2)]
    return [*bounds[::2], *([bounds[-1] * bounds[1] / bounds[0]] if odd else [])], paired


def _ticks(bounds: list[float], cells: int, width: int) -> dict[int, str]:
    """Where the round durations are; the first bound, where there is none."""
    found: dict[int, str] = {}
    for value in ROUND:
        bucket = next((i for i, (low, high) in enumerate(pairwise(bounds)) if low <= value < high), None)
        if bucket is None:
            continue
        place, label = bucket * cells, took(value)
        apart = all(
            place + len(label) + GAP <= other or other + len(text) + GAP <= place for other, text in found.items()
        )
        if apart and place + len(label) <= width + GAP:
            found[place] = label
    return found or {0: took(bounds[0])}


def _line(label: str, drawn: str | Text, scale: str) -> Text:
    line = Text.assemble((label.rjust(LABEL) + " " * GAP, PALE), drawn)
    if scale:
        line.append(" " * GAP + scale, style=PALE)
    line.no_wrap = True
    return line
