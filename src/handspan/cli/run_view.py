"""One run as people read it: a sentence, facts, the traceback, and where to go from here."""

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, amount, count, one_line, took
from handspan.cli.output import CRASHED, FAILED, PALE, STYLE_OF
from handspan.cli.run_words import Lines, Paragraph, clock_time, error_of, local, run_table, short_trace
from handspan.cli.table import Facts, Table, figure, name, word
from handspan.cli.views import MARKS
from handspan.cli.words import title
from handspan.store.queries.logs import LogLine, LogPage
from handspan.store.queries.moments import InFlight
from handspan.store.queries.one_run import Habit, InFlightDetail, RunDetail
from handspan.store.queries.references import Matches
from handspan.store.queries.runs import RunRow
from handspan.store.queries.sessions import SessionSummary
from handspan.store.queries.triggers import Origin, Triggered

__all__ = [
    "flying_view",
    "log_line",
    "log_style",
    "matches_view",
    "origin_words",
    "run_view",
    "triggered_table",
]

Part = str | Text | Table

LONGEST_TRACEBACK: Final = 60  # lines: more are cut in the middle, --json has them all
MOST_ATTRIBUTES: Final = 30
LATE_MS: Final = 5000.0  # as the rollups count
UNUSUAL: Final = 3.0  # times the median
FEWEST: Final = 5  # runs that make a habit
STATES: Final = {
    "live": "still lives",
    "clean_shutdown": "ended orderly",
    "crash": "crashed",
    "unknown": "gave no sign",
}


def run_view(found: RunDetail, at: Instant) -> Iterator[Part]:
    run = found.run
    verb = {"success": "succeeded", "error": "failed", "cancelled": "was cancelled"}[run.status]
    yield Paragraph(Text.assemble(
        (f"{MARKS[run.kind]} ", PALE), title(run), " ", (verb, STYLE_OF[run.status]), f" after {took(run.duration_ms)}",
        f", {ago(run.started_at, at)}.",
    ))  # fmt: skip
    yield ""
    facts = Facts()
    facts.add("started", local(run.started_at))
    facts.add("took", _took(run.duration_ms, found.habit))
    if found.habit is not None:
        facts.add("usually", _habit(found.habit))
    if found.scheduled_at is not None:
        facts.add("due", _due(found))
    if found.queue_ms is not None:
        facts.add("waited", f"{took(found.queue_ms)} from publication to start")
    facts.add("trigger", one_line(run.trigger or "-"))
    facts.add("code", one_line(found.source_location or found.handler_method))
    if found.retired_at is not None:
        facts.add("retired", local(found.retired_at))
    facts.add("process", _process(found.session, at, run.status == "error" and run.error_type == "ProcessInterrupted"))
    facts.add("trace", f"{run.trace_id}/{run.span_id}")
    facts.add("row", f"{run.kind}:{run.id}")
    yield facts
    if run.error_type is not None or run.error_message is not None:
        yield from _error(found)
    yield from _attributes(found.attributes)
    yield from _around(found.triggered_by, found.triggered, at)
    yield from _logs(found.logs)
    neighbours = [each for each in (found.before, found.after) if each is not None]
    if neighbours:
        yield ""
        yield Text("the runs of it before and after:" if len(neighbours) == 2 else _which(found), style=PALE)
        yield run_table(neighbours, at)


def flying_view(found: InFlightDetail, at: Instant) -> Iterator[Part]:
    run = found.run
    lives = run.session_state == "live"
    so_far = took(run.running_s * 1000)
    yield Paragraph(Text.assemble(
        (f"{MARKS[run.kind]} ", PALE), title(run),
        f" is running since {ago(run.started_at, at)}." if lives
        else f" was running for {so_far} when its process gave its last sign of life.",
    ))  # fmt: skip
    if not lives:
        yield "The next start records it as ProcessInterrupted; `handspan db recover` does it now."
    yield ""
    facts = Facts()
    facts.add("started", local(run.started_at))
    facts.add("so far", _took(run.running_s * 1000, found.habit))
    if found.habit is not None:
        facts.add("usually", _habit(found.habit))
    facts.add("trigger", one_line(run.trigger or "-"))
    facts.add("process", _process(found.session, at, False))
    facts.add("trace", f"{run.trace_id}/{run.span_id}")
    yield facts
    yield from _around(found.triggered_by, found.triggered, at)
    yield from _logs(found.logs)


def matches_view(found: Matches, at: Instant, asked: str) -> Iterator[Part]:
    listed: list[RunRow | InFlight] = [*found.runs, *found.in_flight]
    yield f"{one_line(asked)} is the beginning of {'more than ' if found.more else ''}{amount(len(listed), 'run')}:"
    table = Table(figure("started"), word(""), name("run of"), word("status"), figure("took"), word("trace/span"))
    for run in found.runs:
        table.add(ago(run.started_at, at), Text(MARKS[run.kind], style=PALE), title(run),
                  Text(run.status, style=STYLE_OF[run.status]), took(run.duration_ms), _id(run))  # fmt: skip
    for flying in found.in_flight:
        table.add(ago(flying.started_at, at), Text(MARKS[flying.kind], style=PALE), title(flying), "running",
                  took(flying.running_s * 1000), _id(flying))  # fmt: skip
    yield table
    if found.more:
        yield Text("Further digits of the id leave fewer.", style=PALE)


def _id(run: RunRow | InFlight) -> str:
    """Short enough for a line, and enough to tell runs of one trace apart."""
    return f"{run.trace_id[:16]}/{run.span_id[:10]}"


def origin_words(found: Origin, at: Instant) -> Text:
    """Who triggered it, in a line."""
    run = found.run or found.in_flight
    inside = f", in its span {one_line(found.span_name)}" if found.span_name else ""
    if run is None:
        what = (
            f"span {one_line(found.span_name)} of a trace without a run"
            if found.span_name
            else "a span not stored here"
        )
        return Text(f"{what}: {found.trace_id}/{found.span_id}")
    return Text.assemble(
        title(run), f" {ago(run.started_at, at)}{inside}: ", (f"{short_trace(run.trace_id)}/{run.span_id}", PALE)
    )


def triggered_table(found: Sequence[Triggered], at: Instant) -> Table:
    table = Table(figure("first"), word(""), name("triggered"), figure("runs"), figure("failed"), word("trace"))
    for each in found:
        runs = count(each.runs) + ("+" if each.bound else "")
        table.add(ago(each.first.started_at, at), Text(MARKS[each.first.kind], style=PALE), title(each.first), runs,
                  Text(count(each.errors), style=FAILED if each.errors else PALE),
                  short_trace(each.first.trace_id))  # fmt: skip
    return table


def log_line(line: LogLine) -> str:
    return f"{clock_time(line.logged_at)} {line.level_name:<8} {one_line(line.logger)}: {one_line(line.message)}"


def log_style(line: LogLine) -> str:
    return FAILED if line.level >= 40 else PALE if line.level < 30 else ""


def _took(ms: float, habit: Habit | None) -> str:
    if habit is None or habit.runs < FEWEST:
        return took(ms)
    times = ms / habit.p50_ms if habit.p50_ms else 1.0
    if times >= UNUSUAL:
        return f"{took(ms)}, {times:,.0f} times its median"
    return f"{took(ms)}, {'as usual' if ms <= habit.p95_ms else 'longer than 95 % of its runs'}"


def _habit(habit: Habit) -> str:
    failures = f"{count(habit.errors)} of {amount(habit.runs, 'run')} failed"
    return f"in {habit.days} days p50 {took(habit.p50_ms)}, p95 {took(habit.p95_ms)}, {failures}"


def _due(found: RunDetail) -> str:
    delay = found.delay_ms or 0.0
    when = local(found.scheduled_at) if found.scheduled_at is not None else "-"
    if delay < 0:
        return f"{when}: started {took(-delay)} early"
    return f"{when}: started {took(delay)} {'late' if delay > LATE_MS else 'after'}"


def _process(session: SessionSummary | None, at: Instant, interrupted: bool) -> Text:
    if session is None:
        return Text("-")
    version = f" {session.service_version}" if session.service_version else ""
    where = f", pid {session.pid} on {session.host}" if session.pid and session.host else ""
    fate = STATES[session.state] + (f" {ago(session.ended_at, at)}" if session.ended_at else "")
    if interrupted and session.state == "crash":
        fate += ", this run with it"
    line = one_line(f"session {session.id}: {session.service}{version}{where}")
    return Text.assemble(line, "; ", (fate, CRASHED if session.state == "crash" else ""))


def _error(found: RunDetail) -> Iterator[Part]:
    yield ""
    yield Paragraph(Text(error_of(found.run), style=FAILED))
    if found.error_group_id is not None:
        yield Text(f"`handspan error {found.error_group_id}` tells of all like it.", style=PALE)
    lines = (found.error_traceback or "").rstrip("\n").split("\n")
    if lines[:-1]:
        cut = len(lines) - LONGEST_TRACEBACK
        if cut > 0:
            half = LONGEST_TRACEBACK // 2
            lines = [*lines[:half], f"  ... {amount(cut, 'line')} left out: --json has them ...", *lines[-half:]]
        yield ""
        yield Lines([Text(_printable(line)) for line in lines])


def _attributes(found: dict[str, Any]) -> Iterator[Part]:
    if not found:
        return
    yield ""
    facts = Facts()
    for key, value in list(found.items())[:MOST_ATTRIBUTES]:
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        facts.add(Text(one_line(key)[:40], style=PALE), one_line(shown))
    yield facts
    if len(found) > MOST_ATTRIBUTES:
        yield Text(f"{count(len(found) - MOST_ATTRIBUTES)} more attributes: --json has them.", style=PALE)


def _around(came_from: Origin | None, triggered: Sequence[Triggered], at: Instant) -> Iterator[Part]:
    if came_from is not None:
        yield ""
        yield Paragraph(Text.assemble("triggered by " if came_from.by_link else "inside ", origin_words(came_from, at)))
    if triggered:
        yield ""
        yield triggered_table(triggered, at)


def _logs(found: LogPage) -> Iterator[Part]:
    if not found.lines:
        return
    yield ""
    yield Lines([Text(log_line(line), style=log_style(line)) for line in found.lines])
    if found.after is not None:
        yield Text("There are more lines: `handspan trace ID --logs`, or --json.", style=PALE)


def _which(found: RunDetail) -> str:
    return "the run of it before:" if found.before is not None else "the run of it after:"


def _printable(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return " " * indent + one_line(line)
