"""Answers as people read them: a sentence, a table, and what to do next where there is nothing to show."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Protocol

from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, amount, count, one_line, size, took, until
from handspan.cli.output import CRASHED, FAILED, PALE, STYLE_OF, failed, pale_zero
from handspan.cli.table import Table, figure, name, text, word
from handspan.clock import to_ns
from handspan.store.queries.failures import ErrorGroup
from handspan.store.queries.ledger import IncidentRow, LossPage
from handspan.store.queries.registrations import SAMPLE, HandlerSummary, JobSummary
from handspan.store.queries.runs import RunRow
from handspan.store.queries.sessions import SessionSummary
from handspan.store.queries.status import RECENT_INCIDENTS, WORST_GROUPS, Status

__all__ = ["RunRow", "errors", "handlers", "jobs", "losses", "sessions", "status"]

Part = str | Text | Table

START_HINT: Final = "Run your application with handspan, or `handspan demo`, and look again."
PRUNED: Final = ("pruned_age", "pruned_size")
LONGEST_NAME: Final = 50  # cells in a sentence
STATE_WORDS: Final = {
    "live": "live",
    "clean_shutdown": "ended",
    "crash": "crashed",
    "unknown": "no sign of life",
}

SILENT: Final = 75.0  # seconds: two heartbeats, and a commit that takes its time


class Named(Protocol):
    """What is registered has these."""

    @property
    def service(self) -> str: ...
    @property
    def app_key(self) -> str: ...
    @property
    def instance_index(self) -> int: ...
    @property
    def name(self) -> str: ...


# --- status -----------------------------------------------------------------------------------------


def status(found: Status, at: Instant, words: str) -> Iterator[Part]:
    if not found.sessions and not found.handlers.registered and not found.jobs.registered:
        yield f"Nothing has been recorded into {found.store.path} yet. {START_HINT}"
        return
    yield _verdict(found, at, words)
    yield from _warnings(found, at)
    yield ""
    yield _kinds_table(found, at)
    if found.errors:
        yield ""
        yield _error_table(found.errors, at)
        if len(found.errors) == WORST_GROUPS:
            yield Text("The newest kinds: `handspan errors` has them all.", style=PALE)
    if found.incidents:
        yield ""
        yield _incident_table(found.incidents, at)
        if len(found.incidents) == RECENT_INCIDENTS:
            yield Text("The newest of the last 7 d: the view v_incidents has them all.", style=PALE)
    yield ""
    facts = Table(word(""), text(""))
    live = [session for session in found.sessions if session.state == "live"]
    for session in live:
        facts.add("recording", _live_words(session))
    facts.add("running", f"{count(found.running)} now" if live else Text("nothing records now", style=PALE))
    if found.abandoned_journals:
        waiting = "a dead process's journal: `handspan db recover` reads it"
        facts.add("waiting", Text(waiting, style=FAILED))
    facts.add("lost", _losses(found))
    facts.add("file", f"{found.store.path}, {size(found.store.live_bytes)}, schema {found.store.schema_revision}")
    yield _Headless(facts)
    for path in found.set_aside:
        yield Text(f"A damaged file was set aside as {path}. Saved what you need of it? Then it may go.", style=PALE)


def _kinds_table(found: Status, at: Instant) -> Table:
    table = Table(
        word(""), figure("registered"), figure("ran"), figure("runs"), figure("failed"),
        figure("cancelled"), figure("last run"),
    )  # fmt: skip
    for title, kind in (("handlers", found.handlers), ("jobs", found.jobs)):
        failures = kind.failures
        table.add(title, pale_zero(kind.registered), pale_zero(kind.active), pale_zero(kind.runs),
                  failed(failures.errors), pale_zero(failures.cancelled), ago(kind.last_run_at, at))  # fmt: skip
    return table


def _verdict(found: Status, at: Instant, words: str) -> Text:
    runs = found.handlers.runs + found.jobs.runs
    errors = found.handlers.failures.errors + found.jobs.failures.errors
    if not runs:
        newest = max((k.last_run_at for k in (found.handlers, found.jobs) if k.last_run_at), default=None)
        then = f" The newest run was {ago(newest, at)}." if newest else ""
        return Text(f"Nothing ran {words}.{then}")
    if not errors:
        return Text(f"Nothing failed {words}.")
    worst = found.errors[0]
    where = Text(f"{_title(worst)}, {one_line(worst.error_type or 'error')}")
    where.truncate(LONGEST_NAME, overflow="ellipsis")
    return Text.assemble(
        (f"{count(errors)} of {amount(runs, 'run')} failed", FAILED),
        f" {words}; the last {ago(worst.last_seen_at, at)}: {where}.",
    )


def _warnings(found: Status, at: Instant) -> Iterator[Text]:
    if found.sessions and not any(session.state == "live" for session in found.sessions):
        last = found.sessions[0]
        yield Text.assemble(
            "Nothing is recording: the last session ",
            (_ending(last), CRASHED if last.state == "crash" else ""),
            f" {ago(last.ended_at, at)}.",
        )
    for session in found.sessions:
        silent = _seconds(session.last_heartbeat_at, at)
        if session.state == "live" and silent > SILENT:
            yield Text(
                f"{one_line(session.service)} lives and has written nothing for {took(silent * 1000)}: its database is "
                "locked or its disk full. Its log says why.",
                style=CRASHED,
            )
    unrecovered = [session for session in found.sessions[1:] if session.state == "crash" and not session.recovered]
    if unrecovered:
        yield Text(f"{amount(len(unrecovered), 'earlier session')} crashed and not yet recovered.", style=CRASHED)


def _ending(session: SessionSummary) -> str:
    if session.state == "crash":
        return "crashed" if session.recovered else "crashed, not yet recovered; last sign of life"
    return "ended" if session.state == "clean_shutdown" else "gave its last sign of life"


def _live_words(session: SessionSummary) -> str:
    where = f", pid {session.pid} on {session.host}" if session.pid and session.host else ""
    version = f" {session.service_version}" if session.service_version else ""
    return one_line(f"{session.service}{version} for {took(session.duration_s * 1000)}{where}")


def _incident_table(found: Sequence[IncidentRow], at: Instant) -> Table:
    table = Table(word("incident"), figure("when"), figure("lasted"), text("what happened"))
    for incident in found:
        lasted = took(_seconds(incident.started_at, incident.ended_at) * 1000) if incident.ended_at else "-"
        style = FAILED if incident.count else ""
        table.add(Text(incident.kind, style=style), ago(incident.started_at, at), lasted,
                  Text(one_line(incident.detail), style=PALE))  # fmt: skip
    return table


def _losses(found: Status) -> Text:
    losses = [loss for loss in found.losses if loss.reason not in PRUNED]  # kept as long as they were to be
    if not losses:
        return Text("nothing", style=PALE)
    worst = losses[0]
    total = sum(loss.count for loss in losses)
    where = "" if worst.stage == "store" else f" to {worst.stage}"
    return Text(f"{amount(total, 'record')}, most for {worst.reason}{where}: `handspan losses`", style=FAILED)


# --- registrations -------------------------------------------------------------------------------------


def handlers(found: Sequence[HandlerSummary], at: Instant, words: str, limit: int) -> Iterator[Part]:
    if not found:
        yield f"No handler is registered here. {START_HINT}"
        return
    table = Table(
        name("handler"), text("topic"), figure("runs"), figure("failed"), figure("p50"),
        figure("p95"), figure("last run"),
    )  # fmt: skip
    several = _several_services(found)
    for handler in found:
        activity = handler.activity
        table.add(_title(handler, several, handler.retired_at), Text(one_line(handler.topic), style=PALE),
                  pale_zero(activity.runs), failed(activity.errors), took(activity.p50_ms), took(activity.p95_ms),
                  ago(handler.last_run_at, at))  # fmt: skip
    yield table
    yield from _note(found, "p50 and p95", words, limit, "handlers")


def jobs(found: Sequence[JobSummary], at: Instant, words: str, limit: int) -> Iterator[Part]:
    if not found:
        yield f"No job is registered here. {START_HINT}"
        return
    table = Table(
        name("job"), text("trigger"), figure("runs"), figure("failed"), figure("p95"),
        figure("last run"), figure("next run"),
    )  # fmt: skip
    several = _several_services(found)
    for job in found:
        activity = job.activity
        trigger = " ".join(filter(None, (job.trigger_type, job.trigger_value)))
        table.add(_title(job, several, job.retired_at), Text(one_line(trigger), style=PALE), pale_zero(activity.runs),
                  failed(activity.errors), took(activity.p95_ms), ago(job.last_run_at, at),
                  until(job.next_run_at, at))  # fmt: skip
    yield table
    yield from _note(found, "p95", words, limit, "jobs")


def _note(found: Sequence[object], percentiles: str, words: str, limit: int, what: str) -> Iterator[Text]:
    yield Text(f"Runs {words or 'of all time'}; {percentiles} of each one's last {SAMPLE}.", style=PALE)
    if len(found) == limit:
        yield Text(f"These are the first {count(limit)} {what}: --limit shows more.", style=PALE)


# --- errors, sessions ---------------------------------------------------------------------------------


def errors(found: Sequence[ErrorGroup], at: Instant, words: str, limit: int) -> Iterator[Part]:
    if not found:
        yield f"Nothing failed {words}. A wider --since may show more." if words else "Nothing failed at all."
        return
    yield _error_table(found, at)
    yield Text(f"Errors {words or 'of all time'}. `handspan runs --status error` lists them one by one.", style=PALE)
    if len(found) == limit:
        yield Text(f"These are the {count(limit)} most recent groups: --limit shows more.", style=PALE)


def _error_table(groups: Sequence[ErrorGroup], at: Instant) -> Table:
    table = Table(name("error"), name("in"), figure("times"), figure("last"), text("message"))
    several = _several_services(groups)
    for group in groups:
        table.add(Text(one_line(group.error_type or "error"), style=FAILED), _title(group, several), count(group.count),
                  ago(group.last_seen_at, at), Text(one_line(group.error_message or ""), style=PALE))  # fmt: skip
    return table


def sessions(found: Sequence[SessionSummary], at: Instant, words: str, limit: int) -> Iterator[Part]:
    if not found:
        yield f"No session {words}. A wider --since may show more." if words else f"No session yet. {START_HINT}"
        return
    table = Table(
        figure("started"), figure("lasted"), word("state"), name("service"), figure("runs"),
        figure("failed"), figure("lost"), text("process"),
    )  # fmt: skip
    for session in found:
        counts = session.counts
        state = STATE_WORDS[session.state] + ("" if session.recovered else ", not yet recovered")
        version = f" {session.service_version}" if session.service_version else ""
        process = f"{session.pid} on {session.host}" if session.pid and session.host else session.host or ""
        table.add(ago(session.started_at, at), took(session.duration_s * 1000),
                  Text(state, style=STYLE_OF.get(session.state, "")), one_line(session.service + version),
                  pale_zero(counts.runs if counts else 0), failed(counts.errors if counts else 0), failed(session.lost),
                  Text(one_line(process), style=PALE))  # fmt: skip
    yield table
    if len(found) == limit:
        yield Text(f"These are the newest {count(limit)}: --limit shows more.", style=PALE)


def losses(found: LossPage, at: Instant, words: str, limit: int) -> Iterator[Part]:
    if found.abandoned_journals:
        yield Text(
            "A process died: `handspan db recover`, or its next start, stores what its journal has.", style=FAILED
        )
    if not found.losses:
        cure = " A wider --since may show more." if words else ""
        yield f"Nothing was lost{' ' if words else ''}{words}: every record reached its store and destinations.{cure}"
        return
    lost = found.total - found.pruned
    pruned = f", {count(found.pruned)} pruned to keep the file small" if found.pruned else ""
    yield Text.assemble(
        (f"{amount(lost, 'record')} lost", FAILED if lost else ""), f"{pruned} {words or 'of all time'}."
    )
    yield ""
    table = Table(figure("hour"), name("service"), figure("session"), word("stage"), word("kind"), text("reason"),
                  figure("count"))  # fmt: skip
    for loss in found.losses:
        table.add(ago(loss.hour, at), one_line(loss.service), str(loss.session_id), one_line(loss.stage),
                  loss.kind, one_line(loss.reason), failed(loss.count))  # fmt: skip
    yield table
    yield Text("By the hour in which it was lost; `handspan sessions` tells of the sessions.", style=PALE)
    if found.entries > limit:
        yield Text(f"These are the newest {count(limit)} of {count(found.entries)}: --limit shows more.", style=PALE)


# --- small things ---------------------------------------------------------------------------------------


class _Headless(Table):
    """A table of facts: no head."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self._table = table

    def lines(self, width: int) -> list[Text]:
        return self._table.lines(width)[1:]


def _seconds(start: Instant, end: Instant) -> float:
    return (to_ns(end) - to_ns(start)) / 1e9


def _title(of: Named, service: bool = False, retired_at: Instant | None = None) -> Text:
    """``app.name``, with the instance where it is not the first."""
    instance = f" #{of.instance_index}" if of.instance_index else ""
    title = Text(one_line(f"{of.service}/" * service + f"{of.app_key}.{of.name}{instance}"))
    if retired_at is not None:
        title.append(" (retired)", style=PALE)
    return title


def _several_services(found: Iterable[Named]) -> bool:
    return len({of.service for of in found}) > 1
