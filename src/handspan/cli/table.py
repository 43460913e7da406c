"""Tables that never wrap: figures and words stay whole, texts give way to an ellipsis, names last."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len
from rich.text import Text

__all__ = ["Column", "Facts", "Table", "figure", "name", "qualified", "text", "word"]

GAP: Final = 2
LEAST_TEXT: Final = 6  # cells a text is cut down to; after that the line itself is


@dataclass(frozen=True)
class Column:
    """How one column is set. Made by :func:`figure`, :func:`word`, :func:`text` and :func:`name`."""

    title: str
    right: bool = False
    gives_way: int = 0
    """The highest is cut first; 0 is never cut."""
    from_left: bool = False
    """Its end stays."""


def figure(title: str) -> Column:
    return Column(title, right=True)


def word(title: str) -> Column:
    """Short, and needed whole."""
    return Column(title)


def text(title: str) -> Column:
    return Column(title, gives_way=2)


def name(title: str) -> Column:
    """What tells the rows apart."""
    return Column(title, gives_way=1)


def qualified(title: str) -> Column:
    """A name that begins as its neighbours do: what is before the last dot is the same in many rows."""
    return Column(title, gives_way=1, from_left=True)


class Table:
    """Rows of cells; ``lines`` fits them into a width."""

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._rows: list[list[Text]] = []

    def add(self, *cells: str | Text) -> None:
        self._rows.append([cell if isinstance(cell, Text) else Text(cell) for cell in cells])

    def lines(self, width: int) -> list[Text]:
        head = [Text(column.title, style="dim") for column in self._columns]
        widths = self._widths([head, *self._rows], width)
        return [self._line(row, widths) for row in [head, *self._rows]]

    def _widths(self, rows: Sequence[Sequence[Text]], width: int) -> list[int]:
        widths = [max(cell_len(row[i].plain) for row in rows) for i in range(len(self._columns))]
        excess = sum(widths) + GAP * (len(widths) - 1) - width
        while excess > 0:
            cuttable = [i for i, column in enumerate(self._columns) if column.gives_way and widths[i] > LEAST_TEXT]
            if not cuttable:
                break
            widths[max(cuttable, key=lambda i: (self._columns[i].gives_way, widths[i]))] -= 1
            excess -= 1
        return widths

    def _line(self, row: Sequence[Text], widths: Sequence[int]) -> Text:
        line = Text(" " * GAP).join(
            _fitted(cell, width, column) for cell, width, column in zip(row, widths, self._columns, strict=True)
        )
        line.rstrip()
        return line


class Facts(Table):
    """Names and values, without a head."""

    def __init__(self) -> None:
        super().__init__(word(""), text(""))

    def lines(self, width: int) -> list[Text]:
        return super().lines(width)[1:]


def _fitted(cell: Text, width: int, column: Column) -> Text:
    fitted = cell.copy()
    if column.from_left and cell_len(cell.plain) > width:
        fitted = fitted[-width:]  # of a name without end
        while cell_len(fitted.plain) >= width:
            fitted = fitted[1:]
        fitted = Text.assemble("…", fitted)
    fitted.truncate(width, overflow="ellipsis")
    padding = width - cell_len(fitted.plain)
    if column.right:
        fitted.pad_left(padding)
    else:
        fitted.pad_right(padding)
    return fitted
