"""The page of one handler or job."""

from collections.abc import Callable, Iterator
from typing import Final

from rich.text import Text
from whenever import Instant

from handspan.cli.axis import Axis, step_words, zone
from handspan.cli.failing import in_words
from handspan.cli.figures import ago, amount, count, one_line, took, until
from handspan.cli.latency_view import latency
from handspan.cli.output import CANCELLED, FAILED, PALE, STYLE_OF
from handspan.cli.run_words import error_of, short_trace
from handspan.cli.sparklines import sparkline
from handspan.cli.table import Table, figure, text, word
from handspan.cli.words import title
from handspan.clock import to_ns
from handspan.reasons import reason_words
from handspan.store.queries.page import HandlerFacts, JobFacts, Page
from handspan.store.queries.series import Point
from handspan.store.queries.tallies import Tally

__all__ = ["page", "room"]

Part = str | Text | Table
Facts = HandlerFacts | JobFacts

LABEL: Final = 6  # "failed"
GAP: Final = 2
SCALE: Final = 22  # "█ 12,345 runs"
MOST_POINTS: Final = 120
LONGEST_ARGUMENTS: Final = 200
LATE: Final = "more than 5 s after it was due"


def room(width: int) -> int:
    """How many points a line has room for."""
    return max(8, min(MOST_POINTS, width - LABEL - SCALE - 2 * GAP - 1))


def page(found: Page, at: Instant, words: str, width: int) -> Iterator[Part]:
    of = found.registration
    yield Text.assemble((title(of, service=True).plain, "bold"), (f"  a {found.kind}", PALE))
    yield Text(_what(of))
    if of.source_location or of.registration_source:
        yield Text(one_line("  ".join(filter(None, (of.source_location, of.registration_source)))), style=PALE)
    yield _since_when(found, at)
    if found.streak.last_success_at or found.streak.last_failure_at:
        yield in_words(found.streak, at)
    yield ""
    if not found.figures.runs:
        last = f" It last ran {ago(found.last_run_at, at)}." if found.last_run_at else " It never ran."
        yield f"It did not run {words}.{last}".replace("  ", " ")
    else:
        yield _counts(found, words)
        yield ""
        yield _durations(found)
    yield ""
    yield from _lines(found)
    if found.figures.runs:
        yield ""
        yield from latency(found.figures.latency, width)
    for part in (_runs(found, at), _errors(found, at)):
        if part is not None:
            yield ""
            yield part
    yield from _notes(found, at, words)


# --- what it is ------------------------------------------------------------------------------------------------


def _what(of: Facts) -> str:
    return _listens(of) if isinstance(of, HandlerFacts) else _is_due(of)


def _listens(of: HandlerFacts) -> str:
    said = [f"Listens to {of.topic}"]
    if of.predicate_description:
        said.append(f"where {of.predicate_description}")
    if of.debounce:
        said.append(f"when that was quiet for {took(of.debounce * 1000)} (debounce)")
    if of.throttle:
        said.append(f"at most once in {took(of.throttle * 1000)} (throttle)")
    if of.once:
        said.append("a single time (once)")
    if of.priority:
        said.append(f"with priority {of.priority}")
    return one_line(", ".join(said)) + "."


def _is_due(of: JobFacts) -> str:
    given = " ".join(each for each in (of.args_json, of.kwargs_json) if each not in ("[]", "{}", ""))
    arguments = f", with {_shortened(given)}" if given else ""
    return one_line(f"Runs {_trigger(of)}{arguments}.")


def _trigger(of: JobFacts) -> str:
    value = of.trigger_value or ""
    if of.trigger_type == "interval":
        try:
            return f"every {took(float(value) * 1000)}"
        except ValueError:
            return f"every {value}"
    if of.trigger_type == "cron":
        return f"by cron: {value}"
    if of.trigger_type == "date":
        return f"once, at {value}"
    if of.trigger_type:
        return f"by {of.trigger_type} {value}".rstrip()
    return "whenever its host says" if of.repeat else "once"


def _since_when(found: Page, at: Instant) -> Text:
    of = found.registration
    said = Text(f"Registered {ago(of.first_registered_at, at)}")
    if of.last_registered_at != of.first_registered_at:
        said.append(f", last {ago(of.last_registered_at, at)}")
    if of.retired_at is not None:
        said.append(f"; retired {ago(of.retired_at, at)}")
    elif isinstance(of, JobFacts) and of.next_run_at is not None:
        said.append("; next run ")
        due = until(of.next_run_at, at)
        said.append(due, style=FAILED if due.endswith("late") else "")
    if found.running:
        since = f", for {took(max(0.0, _seconds(found.running_since, at)) * 1000)}" if found.running_since else ""
        said.append(f"; {count(found.running)} running now{since}")
    return said.append(".")


# --- how it did ------------------------------------------------------------------------------------------------


def _counts(found: Page, words: str) -> Table:
    columns: list[tuple[str, Callable[[Tally], int], str]] = [
        ("runs", lambda tally: tally.runs, ""),
        ("failed", lambda tally: tally.errors, FAILED),
        ("cancelled", lambda tally: tally.cancelled, CANCELLED),
        ("dependency", lambda tally: tally.dependency_failures, FAILED),
        ("timeout", lambda tally: tally.timeouts, FAILED),
        ("interrupted", lambda tally: tally.interrupted, FAILED),
    ]
    if found.kind == "job":
        columns.append(("late", lambda tally: tally.late, FAILED))
    table = Table(text(words.removeprefix("in the ") or "ever"), *(figure(head) for head, _, _ in columns))
    for label, tally in (("now", found.figures), ("was", found.before)):
        style = PALE if label == "was" else ""
        table.add(Text(label, style=PALE), *(_figure(value(tally), style or colour) for _, value, colour in columns))
    return table


def _figure(value: int, style: str) -> Text:
    return Text(count(value), style=style if value else PALE)


def _durations(found: Page) -> Table:
    heads = ["average", "shortest", "p50", "p95", "p99", "longest"]
    table = Table(text("took"), *(figure(head) for head in heads))
    for label, tally in (("now", found.figures), ("was", found.before)):
        values = (tally.avg_ms, tally.min_ms, tally.p50_ms, tally.p95_ms, tally.p99_ms, tally.max_ms)
        style = PALE if label == "was" else ""
        table.add(Text(label, style=PALE), *(Text(took(value), style=style) for value in values))
    return table


def _lines(found: Page) -> Iterator[Text]:
    """Runs, failures and p95 over one axis."""
    points, step = found.series.points, found.series.step_s
    gaps = {place for place, point in enumerate(points) if not point.recorded}
    runs, errors = [point.runs for point in points], [point.errors for point in points]
    yield _line("runs", sparkline(runs, gaps=gaps), f"█ {amount(max(runs), 'run')}" if any(runs) else "")
    if any(errors):
        drawn = sparkline([each or None for each in errors], gaps=gaps)
        yield _line("failed", drawn, f"█ {count(max(errors))} failed", FAILED)
    p95 = [point.p95_ms for point in points]
    if any(p95):
        yield _line("p95", sparkline(p95, gaps=gaps, log=True), f"█ {took(max(filter(None, p95)))} (log scale)")
    start = int(_epoch(points[0]))
    axis = Axis(start, step, len(points))
    yield _line("", axis.line(found.series.timeline), f"{step_words(step)} columns")
    yield _line(zone(start + step * len(points)), axis.labels(), "░ not recorded" if gaps else "")


def _line(label: str, drawn: str | Text, scale: str, style: str = "") -> Text:
    line = Text(label.rjust(LABEL) + " " * GAP, style=PALE)
    line = Text.assemble(line, drawn if isinstance(drawn, Text) else Text(drawn, style=style))
    if scale:
        line.append(" " * GAP + scale, style=PALE)
    line.no_wrap = True
    return line


# --- its runs, its failures, what did not run ---------------------------------------------------------------------


def _runs(found: Page, at: Instant) -> Table | None:
    if not found.runs:
        return None
    delayed = found.kind == "job"
    head = [figure("started"), word("status"), figure("took")] + [figure("delay")] * delayed
    table = Table(*head, text("error"), word("run"))
    for run in found.runs:
        scheduled = getattr(run, "scheduled_ts", None)
        delay = [took(_seconds(scheduled, run.execution_start_ts) * 1000) if scheduled else "-"] * delayed
        table.add(ago(run.execution_start_ts, at), Text(run.status, style=STYLE_OF[run.status]), took(run.duration_ms),
                  *delay, error_of(run), short_trace(run.trace_id))  # fmt: skip
    return table


def _errors(found: Page, at: Instant) -> Table | None:
    if not found.errors:
        return None
    table = Table(figure("group"), text("error"), figure("now"), figure("ever"), figure("last"), text("message"))
    for group in found.errors:
        error = Text(one_line(group.error_type), style=FAILED)
        table.add(str(group.id), error, _figure(group.in_window, FAILED), count(group.count),
                  ago(group.last_seen_at, at), Text(one_line(group.message), style=PALE))  # fmt: skip
    return table


def _notes(found: Page, at: Instant, words: str) -> Iterator[Part]:
    if found.skips:
        said = [
            f"{count(skip.count)} {one_line(reason_words(skip.reason))} (last {ago(skip.last_at, at)})"
            for skip in found.skips
        ]
        yield ""
        since, end = found.figures.since, found.figures.until
        cut = any(skip.first_at < since or skip.last_at > end for skip in found.skips)
        by_hour = ", by whole hours" if cut and words else ""
        yield f"Did not run {words}{by_hour}: {'; '.join(said)}.".replace("  ", " ")
    tally = found.figures
    if found.kind == "job" and tally.max_delay_ms is not None and tally.runs:
        late = f"{count(tally.late)} of {amount(tally.runs, 'run')} began {LATE}" if tally.late else "No run was late"
        yield f"{late}; the longest delay was {took(max(0.0, tally.max_delay_ms))}."
    if found.more_runs:
        kind = found.kind
        hint = (
            f"These are its newest {count(len(found.runs))} runs: --limit or `handspan runs --{kind} NAME` shows more."
        )
        yield Text(hint, style=PALE)


# --- small things ---------------------------------------------------------------------------------------------------


def _shortened(given: str) -> str:
    return given if len(given) <= LONGEST_ARGUMENTS else given[: LONGEST_ARGUMENTS - 1] + "…"


def _seconds(start: Instant | None, end: Instant) -> float:
    return 0.0 if start is None else (to_ns(end) - to_ns(start)) / 1e9


def _epoch(point: Point) -> float:
    return to_ns(point.started_at) / 1e9
