"""The views and their columns, with what docs/schema.md says of each: the one place where they are explained."""

import re
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import typer
from rich.text import Text

from handspan.cli.figures import one_line
from handspan.cli.output import PALE
from handspan.cli.table import Table, name, text
from handspan.store.reading import open_quietly

__all__ = ["View", "view_lines", "views"]

PAGE: Final = ("_docs/schema.md", "../../docs/schema.md")  # in the wheel; in a checkout

_HEADING: Final = re.compile(r"^## `(v_\w+)`(?:: (.*))?$", re.MULTILINE)
_ROW: Final = re.compile(r"^\| `(\w+)` \| (.*?) \|$", re.MULTILINE)
_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True)
class View:
    """A view of the file, and what is known of it."""

    name: str
    meaning: str
    columns: dict[str, str]


def views(db: str, only: str | None) -> list[View]:
    """Of this very file; meanings are empty where the page has none."""
    with closing(open_quietly(db, any_schema=True).conn) as conn:
        names = [row[0] for row in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name")]
        if only is not None and only not in names:
            raise typer.BadParameter(f"there is no view {only!r}: {', '.join(names)} are there", param_hint="'QUERY'")
        columns = {
            each: [row[0] for row in conn.execute("SELECT name FROM pragma_table_info(?)", (each,))]
            for each in names
            if only in (None, each)
        }
    told = _explained()
    return [
        View(each, told.get(each, View(each, "", {})).meaning,
             {column: told.get(each, View(each, "", {})).columns.get(column, "") for column in columns[each]})
        for each in columns
    ]  # fmt: skip


def view_lines(db: str, only: str | None) -> Iterator[str | Text | Table]:
    for number, view in enumerate(views(db, only)):
        if number:
            yield ""
        yield Text(f"{view.name}: {view.meaning}" if view.meaning else view.name)
        table = Table(name("column"), text("what it is"))
        for column, meaning in view.columns.items():
            table.add(f"  {column}", Text(one_line(meaning), style=PALE))
        yield table


@cache
def _explained() -> dict[str, View]:
    package = Path(__file__).resolve().parents[1]
    page = next((path for path in (package / each for each in PAGE) if path.is_file()), None)
    if page is None:
        return {}
    content = page.read_text(encoding="utf-8")
    heads = list(_HEADING.finditer(content))
    found = {}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        section = content[head.end() : following.start() if following else len(content)]
        section = section.partition("\n## ")[0]
        columns = {row[1]: _words(row[2]) for row in _ROW.finditer(section)}
        found[head[1]] = View(head[1], _words(head[2] or ""), columns)
    return found


def _words(markdown: str) -> str:
    return _LINK.sub(r"\1", markdown).replace("`", "").replace("\\|", "|")
