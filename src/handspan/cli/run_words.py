"""How commands about single runs ask and speak: which runs, when they were, what they are called."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Final, Protocol

import typer
from rich.console import Console
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, one_line, took
from handspan.cli.options import App, Handler, Job
from handspan.cli.output import PALE, STYLE_OF
from handspan.cli.table import Table, figure, name, text, word
from handspan.cli.views import MARKS
from handspan.cli.words import several_services, title
from handspan.clock import to_epoch, to_ns
from handspan.records import Status
from handspan.store.queries.failed_with import error_types, type_known
from handspan.store.queries.registrations import known_names
from handspan.store.queries.runs import Kind, RunFilter, RunRow
from handspan.store.service import DatabaseService

__all__ = [
    "App",
    "Handler",
    "Job",
    "Lines",
    "Paragraph",
    "StatusName",
    "StatusOption",
    "clock_time",
    "error_of",
    "local",
    "minute_of",
    "refuse_unknown",
    "refuse_unknown_type",
    "run_table",
    "short_trace",
    "status_of",
    "unknown",
]

LONGEST_PARAGRAPH: Final = 40  # lines of it; --json has the rest
TRACE_DIGITS: Final = 12  # shown of a trace id: its 67 ms (providers/ids.py), and one in 65,536 of them


class StatusName(StrEnum):
    """How a run ended."""

    SUCCESS = "success"
    ERROR = "error"
    CANCELLED = "cancelled"


_STATUSES: Final[dict[StatusName, Status]] = {
    StatusName.SUCCESS: "success",
    StatusName.ERROR: "error",
    StatusName.CANCELLED: "cancelled",
}

StatusOption = Annotated[StatusName | None, typer.Option("--status", help="Only those that ended so.")]


def status_of(name: StatusName | None) -> Status | None:
    return None if name is None else _STATUSES[name]


class Ended(Protocol):
    """A run of either table, or of both."""

    @property
    def error_type(self) -> str | None: ...
    @property
    def error_message(self) -> str | None: ...


def error_of(run: Ended) -> str:
    """``ValueError: its message``"""
    return ": ".join(one_line(part) for part in (run.error_type, run.error_message) if part)


def short_trace(trace_id: str) -> Text:
    """Its beginning: enough for `handspan run`."""
    return Text(trace_id[:TRACE_DIGITS], style=PALE)


def local(moment: Instant) -> str:
    """This machine's time, to the millisecond, with its zone."""
    there = _local(moment)
    return f"{there:%Y-%m-%d %H:%M:%S}.{there.microsecond // 1000:03d} {there:%Z}"


def minute_of(moment: Instant) -> str:
    """The options that ask for the minute a moment is in."""
    start = _local(moment).replace(second=0, microsecond=0)
    return f"--since {start:%Y-%m-%dT%H:%M} --until {start + timedelta(minutes=1):%Y-%m-%dT%H:%M}"


def clock_time(moment: Instant) -> str:
    """The time of day alone."""
    there = _local(moment)
    return f"{there:%H:%M:%S}.{there.microsecond // 1000:03d}"


def _local(moment: Instant) -> datetime:
    return datetime.fromtimestamp(to_epoch(to_ns(moment)), tz=UTC).astimezone()


def run_table(runs: Sequence[RunRow], at: Instant) -> Table:
    """One line a run."""
    table = Table(
        figure("started"), word(""), name("run of"), word("status"), figure("took"), text("error"),
        word("trace"),
    )  # fmt: skip
    several = several_services(runs)
    for run in runs:
        table.add(ago(run.started_at, at), Text(MARKS[run.kind], style=PALE), title(run, service=several),
                  Text(run.status, style=STYLE_OF[run.status]), took(run.duration_ms), error_of(run),
                  short_trace(run.trace_id))  # fmt: skip
    return table


async def refuse_unknown(db: DatabaseService, which: RunFilter) -> None:
    """A name nobody registered is a slip of the pen rather than an empty answer."""
    for kind in which.kinds():
        wanted = which.name_of(kind)
        if wanted is None:
            continue
        known = await known_names(db, kind)
        if any(fnmatchcase(full, pattern) for full in known for pattern in (wanted, f"*.{wanted}")):
            continue
        raise unknown(kind, wanted, known, f"'--{kind}'")


def unknown(kind: Kind, wanted: str, known: Sequence[str], option: str) -> typer.BadParameter:
    """What to say of a name nobody registered: what may have been meant."""
    short = {full.rpartition(".")[2]: full for full in known}
    close = get_close_matches(wanted, known) or [short[each] for each in get_close_matches(wanted, list(short))]
    hint = f"did you mean {' or '.join(close)}?" if close else f"`handspan {kind}s` lists them"
    return typer.BadParameter(f"there is no {kind} {wanted!r}; {hint}", param_hint=option)


async def refuse_unknown_type(db: DatabaseService, error_type: str) -> None:
    """Likewise an error type nothing ever had."""
    if await type_known(db, error_type):
        return
    close = get_close_matches(error_type, await error_types(db), n=1, cutoff=0.5)
    hint = f"; did you mean {one_line(close[0])}?" if close else "; `handspan errors` lists what did"
    raise typer.BadParameter(f"nothing ever failed with {error_type!r}{hint}", param_hint="'--error'")


class Lines(Table):
    """Lines that are cut rather than wrapped."""

    def __init__(self, lines: list[Text]) -> None:
        super().__init__()
        self._given = lines

    def lines(self, width: int) -> list[Text]:
        del width
        return self._given


class Paragraph(Table):
    """A text that is wrapped, and folded where a word is longer than a line."""

    def __init__(self, content: Text) -> None:
        super().__init__()
        self._content = content

    def lines(self, width: int) -> list[Text]:
        return list(self._content.wrap(Console(width=width), width, overflow="fold"))[:LONGEST_PARAGRAPH]
