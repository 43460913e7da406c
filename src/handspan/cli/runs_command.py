"""``runs``, ``slow``, ``running``: lists of single runs, by time, by length, by moment."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, amount, count, newest, took
from handspan.cli.options import (
    A_DAY,
    DEFAULT_DB,
    App,
    Db,
    Handler,
    Job,
    Json,
    Limit,
    Since,
    Until,
    ask,
    moment,
    now,
    period,
)
from handspan.cli.output import CRASHED, PALE, show, show_json
from handspan.cli.run_words import (
    StatusOption,
    local,
    minute_of,
    refuse_unknown,
    refuse_unknown_type,
    run_table,
    short_trace,
    status_of,
)
from handspan.cli.table import Table, figure, name, text, word
from handspan.cli.views import MARKS, START_HINT
from handspan.cli.words import several_services, title
from handspan.store.queries.failed_with import failed_with
from handspan.store.queries.listing import LOOKED, failures_saying, run_page
from handspan.store.queries.moments import InFlight, Moment, running_at
from handspan.store.queries.references import Reference, parse
from handspan.store.queries.runs import RunFilter, RunKey, RunPage, RunRow, list_runs, runs_by_id
from handspan.store.queries.slow import slowest_runs
from handspan.store.service import DatabaseService

__all__ = ["duration_ms", "running", "runs", "slow"]

LISTED: Final = 20
LISTED_AT_ONCE: Final = 100

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(us|µs|ms|s|m|h)?", re.IGNORECASE)
_IN_MS: Final = {"us": 0.001, "µs": 0.001, "ms": 1.0, "s": 1e3, "m": 6e4, "h": 3.6e6, "": 1.0}

MinDuration = Annotated[
    str | None,
    typer.Option("--min-duration", "--over", metavar="TIME", help="Only those that took so long: 500ms, 2s."),
]

Part = str | Text | Table


@dataclass(frozen=True)
class Listed:
    """A page of runs, and what was asked."""

    page: RunPage
    words: str
    which: RunFilter
    text: str | None
    back_to: Instant | None
    newest: RunRow | None
    """The newest run of all, for when the page is empty."""


def runs(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="15m, 6h, 7d, an ISO date or time, or restart.")
    ] = None,
    until: Until = None,
    handler: Handler = None,
    job: Job = None,
    app: App = None,
    status: StatusOption = None,
    session: Annotated[
        int | None, typer.Option("--session", metavar="ID", min=1, help="Only of this run of a process.")
    ] = None,
    min_duration: MinDuration = None,
    grep: Annotated[
        str | None, typer.Option("--grep", metavar="TEXT", help="Only failures whose type or message holds it.")
    ] = None,
    error: Annotated[
        str | None, typer.Option("--error", metavar="TYPE", help="Only failures of this error type, * and ?.")
    ] = None,
    after: Annotated[
        str | None, typer.Option("--after", metavar="CURSOR", help="Go on below the page that gave this cursor.")
    ] = None,
    limit: Limit = LISTED,
) -> None:
    """Runs of handlers and jobs, newest first."""
    at = now()
    if error is not None and grep is not None:
        raise typer.BadParameter("--grep looks at types, too: one of them", param_hint="'--error'")
    least = None if min_duration is None else duration_ms(min_duration, "'--min-duration'")
    which = RunFilter(handler, job, app, status_of(status), session, least)

    async def question(service: DatabaseService) -> Listed:
        span = await period(service, since, at, until)
        key = None if after is None else await _place(service, after)
        if error is not None:
            page, back_to = await failed_with(service, error, which, span.window, limit=limit, after=key), None
            if not page.runs:
                await refuse_unknown_type(service, error)
        elif grep is None:
            page, back_to = await run_page(service, which, span.window, limit=limit, after=key), None
        else:
            found = await failures_saying(service, grep, which, span.window, limit=limit, after=key)
            page, back_to = found.page, found.back_to
        if not page.runs:
            await refuse_unknown(service, which)
        last = page if page.runs else await list_runs(service, limit=1)
        return Listed(page, span.words, which, error or grep, back_to, last.runs[0] if last.runs else None)

    found = ask(db, question, app=app)
    if json:
        show_json({
            "since": since, "until": until, "runs": found.page.runs, "more": found.page.after is not None,
            "after": None if found.page.after is None else _cursor(found.page.after), "looked_back_to": found.back_to,
        })  # fmt: skip
    else:
        show(*_runs(found, at, limit))


def slow(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    handler: Handler = None,
    job: Job = None,
    app: App = None,
    status: StatusOption = None,
    min_duration: MinDuration = None,
    limit: Limit = LISTED,
) -> None:
    """The slowest runs of a time, slowest first."""
    at = now()
    least = None if min_duration is None else duration_ms(min_duration, "'--min-duration'")
    which = RunFilter(handler, job, app, status_of(status), None, least)

    async def question(service: DatabaseService) -> tuple[list[RunRow], str]:
        span = await period(service, since, at, until)
        found = await slowest_runs(service, which, span.window, limit=limit + 1)
        if not found:
            await refuse_unknown(service, which)
        return found, span.words

    found, words = ask(db, question, app=app)
    if json:
        show_json({"since": since, "until": until, "runs": found[:limit], "more": len(found) > limit})
    else:
        show(*_slow(found, at, words, min_duration, limit))


def running(
    db: Db = DEFAULT_DB,
    json: Json = False,
    when: Annotated[
        str | None,
        typer.Option("--at", metavar="WHEN", help="15m (ago), an ISO date or time, 03:12. Now if not given."),
    ] = None,
    handler: Handler = None,
    job: Job = None,
    app: App = None,
    limit: Limit = LISTED_AT_ONCE,
) -> None:
    """What runs now, or ran at a moment."""
    at = now()
    which = RunFilter(handler, job, app)

    async def question(service: DatabaseService) -> Moment:
        then = at if when is None else await moment(service, when, at, "'--at'")
        if then is None:
            raise typer.BadParameter("there was no restart yet", param_hint="'--at'")
        found = await running_at(service, then, at, which, limit=limit)
        if not found.finished and not found.in_flight:
            await refuse_unknown(service, which)
        return found

    found = ask(db, question, app=app)
    if json:
        show_json({"at": found.at, "finished": found.finished, "in_flight": found.in_flight, "more": found.more})
    else:
        show(*_running(found, at, when))


def duration_ms(text: str, option: str) -> float:
    """``500ms``, ``2s``, ``1.5m``; a number alone is milliseconds."""
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no duration: 500ms, 2s, 1.5m are", param_hint=option)
    return float(found[1]) * _IN_MS[(found[2] or "").lower()]


def _cursor(key: RunKey) -> str:
    return f"{key.kind}:{key.id}"


async def _place(db: DatabaseService, cursor: str) -> RunKey:
    """The run a page ended with."""
    try:
        reference = parse(cursor)
    except ValueError:
        reference = Reference()
    if reference.kind is None or reference.id is None:
        raise typer.BadParameter(f"{cursor!r} is no cursor: a page that has more gives one", param_hint="'--after'")
    found = await runs_by_id(db, [(reference.kind, reference.id)])
    if not found:
        raise typer.BadParameter(f"{cursor} is not there any more: begin again without it", param_hint="'--after'")
    return found[0].key


def _runs(found: Listed, at: Instant, limit: int) -> Iterator[Part]:
    if not found.page.runs:
        yield _no_runs(found, at)
    else:
        yield run_table(found.page.runs, at)
    if found.page.after is not None:
        cursor = _cursor(found.page.after)
        yield Text(f"{newest(limit)}: --limit shows more, --after {cursor} the next.", style=PALE)
    if found.back_to is not None:
        yield Text(
            f"Looked through {count(LOOKED)} failures, back to {local(found.back_to)}: --until goes on there.",
            style=PALE,
        )


def _no_runs(found: Listed, at: Instant) -> str:
    if found.newest is None:
        return f"No run has been recorded yet. {START_HINT}"
    filtered = found.which != RunFilter() or found.text is not None
    what = "No run matches" if filtered else "Nothing ran"
    last = f"The newest run of all was {ago(found.newest.started_at, at)}"
    cure = "a wider --since shows more" if found.words else "fewer filters show more"
    return f"{what}{' ' if found.words else ''}{found.words}. {last}: {cure}."


def _slow(found: list[RunRow], at: Instant, words: str, over: str | None, limit: int) -> Iterator[Part]:
    if not found:
        than = f" took {over}" if over else " ran"
        yield f"Nothing{than} {words}. A wider --since{' or a smaller --min-duration' if over else ''} may show more."
        return
    yield run_table(found[:limit], at)
    shown = f"The slowest {count(limit)} {words}: --limit shows more" if len(found) > limit else f"All {words}"
    yield Text(f"{shown}. `handspan run TRACE` shows one.", style=PALE)


def _running(found: Moment, at: Instant, when: str | None) -> Iterator[Part]:
    then = "now" if when is None else f"at {local(found.at)}"
    total = len(found.finished) + len(found.in_flight)
    if not total:
        yield f"Nothing {'runs' if when is None else 'ran'} {then}, as far as it is stored."
        if when is not None:
            yield Text(f"What began in that minute: `handspan runs {minute_of(found.at)}`", style=PALE)
        return
    left = 0 if when is not None else sum(each.session_state != "live" for each in found.in_flight)
    verb = ("runs" if total - left == 1 else "run") if when is None else "ran"
    said = f"{amount(total - left, 'command')} {verb} {then}" if total > left else "Nothing runs now"
    yield (
        f"{said}; {count(left)} had not ended when {'its' if left == 1 else 'their'} process was last heard of."
        if (left)
        else f"{said}."
    )
    yield ""
    table = Table(figure("started"), word(""), name("run of"), figure("took"), text("ended"), word("trace"))
    several = several_services([*found.finished, *found.in_flight])
    for run in found.finished:
        table.add(ago(run.started_at, at), Text(MARKS[run.kind], style=PALE), title(run, service=several),
                  took(run.duration_ms), f"{run.status}, {ago(run.ended_at, at)}",
                  short_trace(run.trace_id))  # fmt: skip
    for flying in found.in_flight:
        table.add(ago(flying.started_at, at), Text(MARKS[flying.kind], style=PALE), title(flying, service=several),
                  took(flying.running_s * 1000), _still(flying), short_trace(flying.trace_id))  # fmt: skip
    yield table
    if found.more:
        yield Text("There were more: --limit shows them.", style=PALE)
    if left:
        yield Text("Its process is gone: the next start, or `handspan db recover`, ends such a run.", style=PALE)
    if when is None and total > left:
        yield Text("As of each process's last commit, a few seconds ago at most.", style=PALE)


def _still(run: InFlight) -> Text:
    if run.session_state == "live":
        return Text("still runs")
    return Text("its process is gone", style=CRASHED)
