"""``sql``: somebody's own question to the file, read-only."""

import csv
import io
import sys
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from handspan.cli.figures import count, one_line
from handspan.cli.options import DEFAULT_DB, Db, Limit
from handspan.cli.output import PALE, say, show, show_json
from handspan.cli.run_words import Lines
from handspan.cli.runs_command import duration_ms
from handspan.cli.schema_words import view_lines, views
from handspan.cli.spreadsheets import cell
from handspan.cli.table import Table, text
from handspan.store import freehand

__all__ = ["sql"]

LONGEST_CELL: Final = 200  # characters of a value in a table; --json and --csv have it whole
LISTED: Final = 1000
FROM_STDIN: Final = "-"


def sql(
    query: Annotated[
        str | None, typer.Argument(metavar="[QUERY]", help="One SELECT; - reads it from stdin. With --schema: a view.")
    ] = None,
    db: Db = DEFAULT_DB,
    json: Annotated[bool, typer.Option("--json", help="One JSON document: columns and rows.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Comma-separated, with a head.")] = False,
    schema: Annotated[bool, typer.Option("--schema", help="List the views, their columns and what they mean.")] = False,
    timeout: Annotated[str, typer.Option("--timeout", metavar="TIME", help="Stop it after so long.")] = "5s",
    limit: Limit = LISTED,
) -> None:
    """Ask the file anything in SQL; it is only read. The views are made for it."""
    if schema:
        if json:
            show_json({"views": views(db, query)})
        else:
            show(*view_lines(db, query))
        return
    if query is None:
        raise typer.BadParameter("there is no query; --schema lists what can be asked", param_hint="'QUERY'")
    if json and as_csv:
        raise typer.BadParameter("it is either --json or --csv", param_hint="'--csv'")
    source = sys.stdin.read() if query == FROM_STDIN else query
    seconds = duration_ms(timeout if not timeout.strip().isdecimal() else f"{timeout}s", "'--timeout'") / 1e3
    found = freehand.query(db, source, limit=limit, timeout=seconds)
    if json:
        show_json({"columns": found.columns, "rows": [[_plain(value) for value in row] for row in found.rows],
                   "more": found.more})  # fmt: skip
    elif as_csv:
        _print_csv(found)
    else:
        _print_table(found, limit)


def _print_csv(found: freehand.Answer) -> None:
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    writer.writerow([cell(column) for column in found.columns])
    writer.writerows([cell(_plain(value)) for value in row] for row in found.rows)
    say(target.getvalue().removesuffix("\n"))


def _print_table(found: freehand.Answer, limit: int) -> None:
    if not found.rows:
        show("No row.")
        return
    numeric = [all(isinstance(row[i], int | float | None) for row in found.rows) for i in range(len(found.columns))]
    table = Table(*(_column(column, right) for column, right in zip(found.columns, numeric, strict=True)))
    for row in found.rows:
        table.add(*(_cell(value) for value in row))
    show(table)
    if found.more:
        show(Lines([Text(f"Cut after {count(limit)} rows: --limit shows more.", style=PALE)]))


def _column(title: str, right: bool) -> Any:
    column = text(one_line(title))
    return column if not right else type(column)(column.title, right=True, gives_way=1)


def _cell(value: Any) -> Text:
    if value is None:
        return Text("NULL", style=PALE)
    if isinstance(value, bytes):
        return Text(f"x'{value[:LONGEST_CELL].hex()}'")
    return Text(one_line(str(value)[:LONGEST_CELL]))


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else value
