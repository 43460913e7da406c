"""A trace drawn in block characters: names nested at the left, bars along one time axis at the right."""

from collections import defaultdict
from collections.abc import Iterator
from typing import Final

from rich.cells import cell_len
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, amount, count, one_line, took
from handspan.cli.output import FAILED, PALE, STYLE_OF
from handspan.cli.run_view import log_line, log_style, origin_words, triggered_table
from handspan.cli.run_words import Paragraph, local
from handspan.cli.table import Table
from handspan.cli.views import MARKS
from handspan.store.queries.logs import LogLine
from handspan.store.queries.traces import MOST_COUNTED, Node, Trace

__all__ = ["Waterfall", "bar", "waterfall"]

Part = str | Text | Table

FIGURES: Final = 10  # cells of an offset, and of a duration, with the gap before
LEAST_NAME: Final = 12
LARGEST_NAME_SHARE: Final = 0.5
LEAST_BAR: Final = 10
DEEPEST: Final = 12  # levels that are indented
FULL: Final = "█"
SLIVER: Final = "▏"  # shorter than half a cell
OPEN: Final = "░"  # has not ended


def waterfall(found: Trace, at: Instant, limit: int) -> Iterator[Part]:
    spans = f"{count(found.spans)}{'+' if found.spans >= MOST_COUNTED else ''}"
    yield Text(f"trace {found.trace_id}")
    yield Text(
        f"{amount(found.runs, 'run')}, {spans} other span{'' if found.spans == 1 else 's'}, "
        f"{took(found.duration_ns / 1e6)}, from {local(found.started_at)}, {ago(found.started_at, at)}",
        style=PALE,
    )
    yield ""
    if found.triggered_by:
        yield from (Paragraph(Text.assemble("triggered by ", origin_words(each, at))) for each in found.triggered_by)
        yield ""
    yield Waterfall(found)
    if found.cut:
        yield Text(f"Cut after the first {count(limit)} runs and spans: --limit shows more.", style=PALE)
    if found.logs is not None and found.logs.after is not None:
        yield Text(
            f"The first {count(len(found.logs.lines))} log lines; --json and the view v_log_records.", style=PALE
        )
    if found.triggered:
        yield ""
        yield triggered_table(found.triggered, at)


class Waterfall(Table):
    """As wide as it is told to be."""

    def __init__(self, found: Trace) -> None:
        super().__init__()
        self._trace = found
        self._logs: dict[str, list[LogLine]] = defaultdict(list)
        shown = {node.span_id for node in found.nodes}
        for line in found.logs.lines if found.logs is not None else ():
            self._logs[line.span_id if line.span_id in shown else line.run_span_id].append(line)

    def lines(self, width: int) -> list[Text]:
        names = [self._name(node) for node in self._trace.nodes]
        widest = max(cell_len(each.plain) for each in names)
        room = width - 2 * FIGURES - LEAST_BAR - 2
        name_width = max(LEAST_NAME, min(widest, room, int(width * LARGEST_NAME_SHARE)))
        bar_width = max(LEAST_BAR, width - name_width - 2 * FIGURES - 2)
        found: list[Text] = []
        for node, label in zip(self._trace.nodes, names, strict=True):
            label.truncate(name_width, overflow="ellipsis")
            label.pad_right(name_width - cell_len(label.plain))
            figures = f"{'+' + took(node.offset_ns / 1e6):>{FIGURES}}{took(node.duration_ns / 1e6):>{FIGURES}}  "
            drawn = bar(node.offset_ns, node.duration_ns, self._trace.duration_ns, bar_width, node.status == "running")
            style = FAILED if node.status == "error" else "" if node.is_run else "blue"
            found.append(Text.assemble(label, figures, (drawn, style)))
            indent = " " * (2 * min(node.depth, DEEPEST) + 2)
            found += [Text(indent + log_line(line), style=log_style(line)) for line in self._logs[node.span_id]]
        return found

    @staticmethod
    def _name(node: Node) -> Text:
        indent = "  " * min(node.depth, DEEPEST)
        mark = f"{MARKS[node.kind]} " if node.is_run else ""
        label = Text.assemble(indent, (mark, PALE), one_line(node.name))
        if node.status == "error":
            label.append(f": {one_line(node.error_type or 'failed')}", style=FAILED)
        elif node.status in ("cancelled", "running"):
            label.append(f": {node.status}", style=STYLE_OF.get(node.status, ""))
        return label


def bar(offset: int, length: int, whole: int, width: int, is_open: bool = False) -> str:
    """A stretch of the axis. What is shorter than half a cell is a sliver in the cell it begins in."""
    if whole <= 0:
        return FULL * width
    first = min(width - 1, max(0, int(offset * width / whole)))
    cells = length * width / whole
    if cells < 0.5:
        return " " * first + SLIVER
    last = min(width, max(first + 1, round((offset + length) * width / whole)))
    return " " * first + (OPEN if is_open else FULL) * (last - first)
