"""The roll in characters: height is how often it ran, a cross is where it failed, hatching is where nobody looked."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from rich.cells import cell_len
from rich.text import Text
from whenever import Instant

from handspan.cli.axis import CRASH, START, Axis, step_words, zone
from handspan.cli.figures import amount, count, took
from handspan.cli.output import FAILED, PALE
from handspan.cli.sparklines import BLANK, LEVELS, NOT_RECORDED, ZERO, level
from handspan.cli.views import MARKS, START_HINT
from handspan.cli.words import several_services, title
from handspan.clock import to_ns
from handspan.store.queries.grid import Grid
from handspan.store.queries.series import Roll as SeriesRoll
from handspan.store.queries.series import RollRow
from handspan.store.queries.shapes import instant

__all__ = ["WIDE", "Roll", "order", "roll", "room"]

Part = str | Text

SOME_FAILED: Final = "×"
MOST_FAILED: Final = "X"
WORTH_A_MARK: Final = 0.05  # of a column's runs: with one failure in fifty all of a busy row would be crosses
NARROW: Final = 60  # below, names and cells have the whole line
WIDE: Final = 100  # from here, latencies have a place too
GAP: Final = 2
MARK_WIDTH: Final = 2  # "on", "at"
MOST_CELLS: Final = 3  # a point's width where there is room for more than points are worth


@dataclass(frozen=True)
class Roll:
    """What is shown, and of how many."""

    whole: SeriesRoll
    rows: list[RollRow]
    registered: int
    words: str
    app: str | None

    def moments(self) -> list[Instant]:
        grid = self.whole.grid
        return [instant(grid.start + place * grid.step) for place in range(grid.count)]


def room(width: int) -> int:
    """How many points a terminal has room for."""
    return max(8, width - _name_room(width) - _figures_room(width) - 1)


def order(by: str, row: RollRow) -> tuple[Any, ...]:
    """``look``: what fails in the newest quarter of the time, by how much of it does; then what failed at all."""
    name = (row.app_key, row.name, row.instance_index, row.service)
    if by == "runs":
        return (-row.total_runs, *name)
    if by == "failed":
        return (-row.total_errors, -row.total_runs, *name)
    if by == "p95":
        return (-(row.p95_ms or 0.0), *name)
    if by == "name":
        return name
    newest = len(row.runs) * 3 // 4
    failing, ran = sum(row.errors[newest:]), sum(row.runs[newest:])
    return (-failing / ran if ran else 0.0, -row.total_errors, -row.total_runs, *name)


def roll(found: Roll, width: int) -> Iterator[Part]:
    if not found.rows:
        yield (
            f"No handler or job of {found.app!r} was here {found.words}."
            if found.app
            else (f"No handler or job was registered {found.words}. {START_HINT}")
        )
        return
    grid = found.whole.grid
    several = several_services(found.whole.rows)
    names = [_name(row, several) for row in found.rows]
    columns = _figure_columns(found.rows, width)
    taken = sum(max(map(len, column)) + GAP for column in columns)
    name_width = min(max(map(cell_len, map(str, names))), _name_room(width))
    cells = max(1, min(MOST_CELLS, (width - name_width - GAP - taken) // grid.count))
    name_width = min(max(map(cell_len, map(str, names))), width - cells * grid.count - taken - GAP)
    axis = Axis(grid.start, grid.step, grid.count, cells)
    top = max((runs for row in found.rows for runs in row.runs), default=0)

    yield _headline(found)
    yield ""
    if columns:
        head = [(column[0], PALE) for column in columns]
        yield _line(Text(), name_width, Text(BLANK * axis.width), head, columns)
    for place, (row, name) in enumerate(zip(found.rows, names, strict=True), 1):
        figures = [(column[place], _style(column[0], row)) for column in columns]
        yield _line(name, name_width, _cells(row, top, cells, grid), figures, columns)
    yield _line(Text(""), name_width, axis.line(found.whole.timeline), [], [])
    yield _line(Text(zone(grid.end), style=PALE), name_width, axis.labels(), [], [], right=True)
    yield ""
    yield from _legend(found, top)


def _name_room(width: int) -> int:
    """What a name may take: about a third, as the cells are what the roll is for."""
    return max(10, width * 3 // 10)


def _figures_room(width: int) -> int:
    return 0 if width < NARROW else 16 if width < WIDE else 36


def _name(row: RollRow, several: bool) -> Text:
    return Text.assemble((MARKS[row.kind], PALE), " ", title(row, service=several))


def _figure_columns(rows: list[RollRow], width: int) -> list[list[str]]:
    """Head first."""
    if width < NARROW:
        return []
    columns = [
        ["runs", *(count(row.total_runs) for row in rows)],
        ["failed", *(count(row.total_errors) for row in rows)],
    ]
    if width >= WIDE:
        columns += [["p50", *(took(row.p50_ms) for row in rows)], ["p95", *(took(row.p95_ms) for row in rows)]]
    return columns


def _style(head: str, row: RollRow) -> str:
    if head == "failed" and row.total_errors:
        return FAILED
    return "" if row.total_runs and head != "failed" else PALE


def _line(
    name: Text, name_width: int, cells: Text, figures: list[tuple[str, str]], columns: list[list[str]], *,
    right: bool = False,
) -> Text:  # fmt: skip
    line = _cut(name, name_width)
    padding = name_width - cell_len(line.plain)
    if right:
        line.pad_left(padding)
    else:
        line.pad_right(padding)
    line.append(" " * GAP)
    line.append_text(cells)
    for (text, style), column in zip(figures, columns, strict=True):
        line.append(" " * GAP + text.rjust(max(map(len, column))), style=style)
    line.rstrip()
    line.no_wrap = True
    return line


def _cut(name: Text, width: int) -> Text:
    """Its end stays, and the mark before it: what is before the dot is the same in many rows."""
    if cell_len(name.plain) <= width:
        return name.copy()
    mark, rest = name[: MARK_WIDTH + 1], name[MARK_WIDTH + 1 :][-width:]  # of a name without end
    while rest.plain and cell_len(rest.plain) > width - MARK_WIDTH - 2:
        rest = rest[1:]
    return Text.assemble(mark, "…", rest)


def _cells(row: RollRow, top: int, cells: int, grid: Grid) -> Text:
    found = Text()
    first = grid.point_of(to_ns(row.first_registered_at) / 1e9)
    last = grid.count if row.retired_at is None else grid.point_of(to_ns(row.retired_at) / 1e9)
    for place, (runs, errors, recorded) in enumerate(zip(row.runs, row.errors, row.recorded, strict=True)):
        if errors and errors >= runs * WORTH_A_MARK:
            found.append((MOST_FAILED if errors * 2 >= runs else SOME_FAILED) * cells, style=FAILED)
        elif runs:
            found.append(LEVELS[level(runs, top, log=True) - 1] * cells)
        elif not recorded:
            found.append(NOT_RECORDED * cells, style=PALE)
        else:
            found.append((ZERO if first <= place <= last else BLANK) * cells, style=PALE)
    return found


def _headline(found: Roll) -> str:
    grid = found.whole.grid
    shown = amount(found.registered, "handler or job", "handlers and jobs")
    return f"The roll: {shown} {found.words or 'of all time'}, {step_words(grid.step)} columns."


def _legend(found: Roll, top: int) -> Iterator[Text]:
    said = ", ".join(_signs(found, top))
    yield Text(f"{said}." if said else "Nothing ran.", style=PALE)
    if found.registered > len(found.rows):
        yield Text(f"{count(found.registered - len(found.rows))} more are left out: --limit shows them.", style=PALE)
    if found.whole.forgotten:
        who = amount(found.whole.forgotten, "registration")
        yield Text(f"{who} ran that nobody knows any more: pruned since.", style=PALE)
    if not found.whole.timeline.complete:
        yield Text("So many sessions that only the newest are marked.", style=PALE)


def _signs(found: Roll, top: int) -> Iterator[str]:
    """Only what is to be seen."""
    rows, grid = found.rows, found.whole.grid
    if top:
        yield f"{LEVELS[-1]} {amount(top, 'run')} a column" + (f", {LEVELS[0]} fewer (log scale)" if top > 1 else "")
    shares = [errors / runs for row in rows for errors, runs in zip(row.errors, row.runs, strict=True) if errors]
    if any(WORTH_A_MARK <= share < 0.5 for share in shares):
        yield f"{SOME_FAILED} 5 % of them or more failed"
    if any(share >= 0.5 for share in shares):
        yield f"{MOST_FAILED} half of them or more failed"
    if any(recorded and not runs for row in rows for recorded, runs in zip(row.recorded, row.runs, strict=True)):
        yield f"{ZERO} none"
    if not all(recorded for row in rows for recorded in row.recorded):
        yield f"{NOT_RECORDED} not recorded"
    axis = Axis(grid.start, grid.step, grid.count).line(found.whole.timeline)
    if CRASH in axis.plain:
        yield f"{CRASH} crash"
    if START in axis.plain:
        yield f"{START} start"
