"""The commands together, and how they end: an exit code, and at most one line on stderr."""

import os
import sqlite3
import sys
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from handspan._version import __version__
from handspan.cli import (
    busy,
    compare,
    completion,
    demo_command,
    downtime,
    errors,
    export_command,
    failing,
    incidents,
    maintenance,
    pruning,
    recovery,
    registered,
    registration,
    reports,
    roll,
    run_command,
    runs_command,
    schedule,
    skips,
    sql_command,
    status,
    tail_command,
    totals,
)
from handspan.cli.help import Grouped
from handspan.cli.output import PipeClosedError, complain, discard_stdout
from handspan.errors import HandspanError

__all__ = ["app", "run"]

PLAIN_HELP: Final = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="handspan",
    cls=Grouped,
    help="What an async Python application did, from its database file.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=PLAIN_HELP,
)
app.command("status")(status.status)
app.command("handlers")(registered.handlers)
app.command("jobs")(registered.jobs)
app.command("totals")(totals.totals)
app.command("busy")(busy.busy)
app.command("compare")(compare.compare)
app.command("errors")(errors.errors)
app.command("error")(errors.error)
app.command("failing")(failing.failing)
app.command("runs")(runs_command.runs)
app.command("slow")(runs_command.slow)
app.command("running")(runs_command.running)
app.command("run")(run_command.run)
app.command("trace")(run_command.trace_command)
app.command("tail")(tail_command.tail)
app.command("sql")(sql_command.sql)
app.command("export")(export_command.export)
app.command("completion")(completion.completion)
app.command("sessions")(reports.sessions)
app.command("downtime")(downtime.downtime)
app.command("losses")(reports.losses)
app.command("schedule")(schedule.schedule)
app.command("skips")(skips.skips)
app.command("handler")(registration.handler)
app.command("job")(registration.job)
app.command("roll")(roll.roll)
app.command("incidents")(incidents.incidents)
app.command("demo")(demo_command.demo)

db_app = typer.Typer(help="Look after the database file.", rich_markup_mode=None, context_settings=PLAIN_HELP)
db_app.command("upgrade")(maintenance.upgrade)
db_app.command("check")(maintenance.check)
db_app.command("recover")(recovery.recover)
db_app.command("salvage")(maintenance.salvage)
db_app.command("backup")(maintenance.backup)
db_app.command("prune")(pruning.prune)
db_app.command("path")(maintenance.path)
app.add_typer(db_app, name="db")

_ClickException: Final = typer.BadParameter.__mro__[2]  # click's, which newer versions of typer carry inside them
INTERRUPTED: Final = 130  # what shells report for a program ended by SIGINT
BROKEN_PIPE: Final = 141  # and by SIGPIPE


@app.callback(invoke_without_command=True)
def overview(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Say which handspan this is.")] = False,
) -> None:
    if version:
        typer.echo(f"handspan {__version__}")
        raise typer.Exit
    _help_alone(context)


@db_app.callback(invoke_without_command=True)
def db_overview(context: typer.Context) -> None:
    _help_alone(context)


def _help_alone(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


def run(args: Sequence[str] | None = None) -> int:
    """Parse, execute, and turn whatever happened into an exit code."""
    if sys.stdout is None:  # closed by whoever started us (`>&-`): the exit code still answers
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    try:
        completion.prepare()
        command = typer.main.get_command(app)
        result = command.main(args=args, prog_name="handspan", standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except (BrokenPipeError, PipeClosedError):
        discard_stdout()
        return BROKEN_PIPE
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except (HandspanError, OSError, sqlite3.Error) as error:
        complain(str(error))
        return 2
    except UnicodeEncodeError:  # of an argument, or of stdin: SQLite takes no other
        complain("What was given is not text in UTF-8.")
        return 2
    except Exception as error:
        if isinstance(error, _ClickException):
            complain(_usage(error))
            return 2
        if os.environ.get("HANDSPAN_DEBUG"):
            raise
        complain(f"This is a bug in handspan: {type(error).__name__}: {error} (HANDSPAN_DEBUG=1 shows where.)")
        return 2


def _usage(error: Exception) -> str:
    """Click's message, and where to look."""
    message = str(getattr(error, "format_message", lambda: str(error))())
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "handspan"
    end = "" if message.endswith((".", "?")) else "."
    return f"{message}{end} `{path} --help` lists what there is."
