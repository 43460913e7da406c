"""The overview as people read it: what needs a look and where, then what ran, failed and was lost."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, amount, count, one_line, size, took
from handspan.cli.incidents_view import incident_table
from handspan.cli.output import CRASHED, FAILED, PALE, failed, pale_zero
from handspan.cli.table import Facts, Table, figure, name, text, word
from handspan.cli.views import START_HINT
from handspan.store.queries.error_groups import ErrorGroupRow
from handspan.store.queries.sessions import SessionSummary
from handspan.store.queries.status import RECENT_INCIDENTS, WORST_GROUPS, Status
from handspan.store.verdict import Severity, Verdict
from handspan.wording import clock, title

__all__ = ["SHOWN", "Part", "figures", "findings", "is_empty", "nothing_yet"]

Part = str | Text | Table

SHOWN: Final = 7
"""Findings above the figures: what a screen has room for."""
PRUNED: Final = ("pruned_age", "pruned_size")
LONGEST_NAME: Final = 50  # cells in a sentence
STYLES: Final[dict[Severity, str]] = {"alarm": FAILED, "trouble": FAILED, "notice": ""}


def findings(judged: Verdict, *, limit: int | None) -> Iterator[Part]:
    """Each with the command that shows its cause; ``None``: all there are, and nothing else if there are."""
    if not judged.findings:
        yield judged.words
        yield Text(judged.basis, style=PALE)
    elif limit is not None:
        yield judged.words
    shown = judged.findings[:limit]
    for each in shown:
        yield Text(one_line(each.words), style=STYLES[each.severity])
        yield Text(f"  {each.see}", style=PALE)
    hidden = len(judged.findings) - len(shown) + judged.more
    if hidden and limit is not None:
        yield f"And {count(hidden)} more: `handspan status --check` lists them."
    elif hidden:
        yield f"And {count(hidden)} more."
    yield from judged.remarks


def is_empty(found: Status) -> bool:
    return not found.sessions and not found.handlers.registered and not found.jobs.registered


def nothing_yet(found: Status) -> str:
    if found.abandoned_journals:
        return (
            f"Nothing is in {found.store.path} yet: a process that died before its first commit left its journal, "
            "which waits. `handspan db recover` reads it back, and so does the next start."
        )
    return f"Nothing has been recorded into {found.store.path} yet. {START_HINT}"


def figures(found: Status, at: Instant, words: str, *, past: bool = False) -> Iterator[Part]:
    """``past``: of a time that is over, so that what was last is not of it."""
    yield _what_failed(found, at, words, past)
    if not past and found.last_hour.runs and words != "in the last 1 h":
        errors = f"{count(found.last_hour.errors)} of them failed" if found.last_hour.errors else "none failed"
        yield Text(f"In the last hour: {amount(found.last_hour.runs, 'run')}, {errors}.", style=PALE)
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
        yield incident_table(found.incidents, at)
        if len(found.incidents) == RECENT_INCIDENTS:
            yield Text("The newest of the last 7 d: `handspan incidents` has them all.", style=PALE)
    yield ""
    facts = Facts()
    live = [session for session in found.sessions if session.state == "live"]
    for session in live:
        facts.add("recording", _live_words(session))
    facts.add("running", f"{count(found.running)} now" if live else Text("nothing records now", style=PALE))
    if found.abandoned_journals:
        waiting = "a dead process's journal: `handspan db recover` reads it"
        facts.add("waiting", Text(waiting, style=FAILED))
    facts.add("lost", _losses(found))
    facts.add("file", f"{found.store.path}, {size(found.store.live_bytes)}, schema {found.store.schema_revision}")
    yield facts
    for path in found.set_aside:
        yield Text(f"A damaged file was set aside as {path}. Saved what you need of it? Then it may go.", style=PALE)


def _kinds_table(found: Status, at: Instant) -> Table:
    table = Table(
        word(""), figure("registered"), figure("ran"), figure("runs"), figure("failed"),
        figure("cancelled"), figure("last run"),
    )  # fmt: skip
    for label, kind in (("handlers", found.handlers), ("jobs", found.jobs)):
        failures = kind.failures
        table.add(label, pale_zero(kind.registered), pale_zero(kind.active), pale_zero(kind.runs),
                  failed(failures.errors), pale_zero(failures.cancelled), ago(kind.last_run_at, at))  # fmt: skip
    return table


def _what_failed(found: Status, at: Instant, words: str, past: bool) -> Text:
    runs = found.handlers.runs + found.jobs.runs
    errors = found.handlers.failures.errors + found.jobs.failures.errors
    if not runs:
        if found.abandoned_journals:
            return Text(f"Of {words.removeprefix('in ') or 'all time'} nothing is in the file yet: the journal waits.")
        newest = max((k.last_run_at for k in (found.handlers, found.jobs) if k.last_run_at), default=None)
        then = f" The newest run was {ago(newest, at)}, at {clock(newest, at)}." if newest else ""
        return Text(f"Nothing ran {words}.{then}")
    if not errors:
        return Text(f"Nothing failed {words}.")
    if past or not found.errors:  # rows of the failures are pruned, or of another moment
        return Text(f"{count(errors)} of {amount(runs, 'run')} failed {words}.", style=FAILED)
    worst = found.errors[0]
    where = Text(f"{title(worst.app_key, worst.name, worst.instance_index)}, {one_line(worst.error_type or 'error')}")
    where.truncate(LONGEST_NAME, overflow="ellipsis")
    last = ago(worst.last_seen_at, at)
    return Text.assemble(
        (f"{count(errors)} of {amount(runs, 'run')} failed", FAILED),
        f" {words}; the last {'just now' if last == 'now' else last}: {where}.",
    )


def _warnings(found: Status, at: Instant) -> Iterator[Text]:
    """What is not the verdict's to say, or its only in the window."""
    last = found.sessions[0] if found.sessions else None
    if last is not None and last.state == "crash" and not any(each.state == "live" for each in found.sessions):
        ending = "crashed" if last.recovered else "crashed, not yet recovered; last sign of life"
        when = "" if last.ended_at is None else f", at {clock(last.ended_at, at)}"
        yield Text.assemble(
            "Nothing is recording: the last session ", (ending, CRASHED), f" {ago(last.ended_at, at)}{when}."
        )
    unrecovered = [session for session in found.sessions[1:] if session.state == "crash" and not session.recovered]
    if unrecovered:
        verb = "is" if len(unrecovered) == 1 else "are"
        yield Text(
            f"{amount(len(unrecovered), 'earlier session')} crashed and {verb} not yet recovered.", style=CRASHED
        )


def _live_words(session: SessionSummary) -> str:
    where = f", pid {session.pid} on {session.host}" if session.pid and session.host else ""
    version = f" {session.service_version}" if session.service_version else ""
    return one_line(f"{session.service}{version} for {took(session.duration_s * 1000)}{where}")


def _error_table(groups: Sequence[ErrorGroupRow], at: Instant) -> Table:
    table = Table(name("error"), name("in"), figure("times"), figure("last"), text("message"))
    several = len({group.service for group in groups}) > 1
    for group in groups:
        where = title(group.app_key, group.name, group.instance_index, group.service if several else "")
        table.add(Text(one_line(group.error_type or "error"), style=FAILED), where, count(group.count),
                  ago(group.last_seen_at, at), Text(one_line(group.error_message or ""), style=PALE))  # fmt: skip
    return table


def _losses(found: Status) -> Text:
    losses = [loss for loss in found.losses if loss.reason not in PRUNED]  # kept as long as they were to be
    if not losses:
        return Text("nothing", style=PALE)
    worst = losses[0]
    total = sum(loss.count for loss in losses)
    where = "" if worst.stage == "store" else f" to {worst.stage}"
    return Text(f"{amount(total, 'record')}, most for {worst.reason}{where}: `handspan losses`", style=FAILED)
