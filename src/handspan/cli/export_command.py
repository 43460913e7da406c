"""``export``: rows to a file or a pipe, as JSON lines or CSV, however many there are."""

import csv
import io
import json
import os
import sqlite3
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any, Final

import typer

from handspan.cli.figures import amount
from handspan.cli.options import DEFAULT_DB, App, Db, Until, ask, now, period
from handspan.cli.output import json_line, say, show
from handspan.cli.run_words import StatusOption, status_of
from handspan.cli.spreadsheets import cell
from handspan.errors import HandspanError
from handspan.store.queries.export import KINDS, ExportKind
from handspan.store.queries.export import export as stream
from handspan.store.queries.runs import RunFilter
from handspan.store.service import DatabaseService

__all__ = ["export"]

OF_RUNS: Final = ("runs", "handlers", "jobs")
OF_AN_APP: Final = (*OF_RUNS, "errors")
JSON_COLUMNS: Final = frozenset({"attributes", "extra"})

Write = Callable[[str], None]


class Format(StrEnum):
    """How rows are written."""

    JSONL = "jsonl"
    CSV = "csv"


class What(StrEnum):
    """Which rows; each a kind of :mod:`handspan.store.queries.export`."""

    RUNS = "runs"
    HANDLERS = "handlers"
    JOBS = "jobs"
    SPANS = "spans"
    LOGS = "logs"
    ERRORS = "errors"
    LOSSES = "losses"


def export(
    db: Db = DEFAULT_DB,
    format_: Annotated[Format, typer.Option("--format", help="JSON lines, or comma-separated.")] = Format.JSONL,
    what: Annotated[What, typer.Option("--kind", help="Which rows.")] = What.RUNS,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="15m, 6h, 7d, an ISO date or time, or restart.")
    ] = None,
    until: Until = None,
    app: App = None,
    status: StatusOption = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FILE", help="A new file, for you alone; else stdout.")
    ] = None,
) -> None:
    """Rows as JSON lines or CSV: ids as hex, times as ISO 8601."""
    kind: ExportKind = next(each for each in KINDS if each == what.value)
    if app is not None and kind not in OF_AN_APP:
        raise typer.BadParameter(f"{kind} are of no app", param_hint="'--app'")
    if status is not None and kind not in OF_RUNS:
        raise typer.BadParameter(f"{kind} have no such status", param_hint="'--status'")
    which = RunFilter(app=app, status=status_of(status))
    lines = _json_lines if format_ is Format.JSONL else _csv_lines
    at = now()

    async def question(service: DatabaseService, write: Write) -> int:
        span = await period(service, since, at, until)
        total = 0
        async for rows in stream(service, kind, which, span.window):
            write(lines(rows, total == 0))
            total += len(rows)
        return total

    if output is None:
        ask(db, lambda service: question(service, lambda text: say(text.removesuffix("\n"))), app=app)
        return
    total = _into_file(output, lambda write: ask(db, lambda service: question(service, write), app=app))
    show(f"{amount(total, 'row')} written to {output}.")


def _into_file(path: str, fill: Callable[[Write], int]) -> int:
    """Made new, readable by nobody else; taken away again if it could not be filled."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0), 0o600)
    except FileExistsError:
        raise HandspanError(f"{path} exists already.", hint="Give another name; nothing was overwritten.") from None
    except OSError as error:
        raise HandspanError(f"{path} cannot be written: {error.strerror}.") from error
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            return fill(lambda text: void(file.write(text)))
    except BaseException:
        with suppress(OSError):
            os.unlink(path)
        raise


def void(_: object) -> None:
    """A value nobody needs."""


def _json_lines(rows: list[sqlite3.Row], first: bool) -> str:
    del first
    return "".join(json_line({key: _value(key, row[key]) for key in row.keys()}) + "\n" for row in rows)  # noqa: SIM118 - a Row's


def _value(key: str, value: Any) -> Any:
    if key in JSON_COLUMNS and isinstance(value, str):
        with suppress(ValueError):
            return json.loads(value)
    return value.hex() if isinstance(value, bytes) else value


def _csv_lines(rows: list[sqlite3.Row], first: bool) -> str:
    target = io.StringIO()
    writer = csv.writer(target, lineterminator="\n")
    if first:
        writer.writerow(rows[0].keys())
    writer.writerows([cell(value.hex() if isinstance(value, bytes) else value) for value in row] for row in rows)
    return target.getvalue()
