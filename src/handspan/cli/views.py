"""Answers as people read them: a sentence, a table, and what to do next where there is nothing to show."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.console import Console
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, amount, count, newest, one_line, took
from handspan.cli.output import FAILED, PALE, STYLE_OF, failed, pale_zero
from handspan.cli.table import Table, figure, name, text, word
from handspan.store.queries.ledger import LossPage
from handspan.store.queries.sessions import SessionSummary
from handspan.wording import clock

__all__ = ["MARKS", "START_HINT", "losses", "sessions"]

Part = str | Text | Table

MARKS: Final = {"handler": "on", "job": "at"}  # as on the dashboard: on an event, at a time
START_HINT: Final = "Run your application with handspan, or `handspan demo`, and look again."
WIDE: Final = 100  # columns from which a session's process and its start by the clock have room
STATE_WORDS: Final = {
    "live": "live",
    "clean_shutdown": "ended",
    "crash": "crashed",
    "unknown": "no sign of life",
}


def sessions(found: Sequence[SessionSummary], at: Instant, words: str, limit: int) -> Iterator[Part]:
    if not found:
        yield f"No session {words}. A wider --since may show more." if words else f"No session yet. {START_HINT}"
        return
    wide = Console().width >= WIDE
    table = Table(
        figure("id"), figure("started"), *([word("at")] * wide), figure("lasted"), text("state"), name("service"),
        figure("runs"), figure("failed"), figure("lost"), *([text("process")] * wide),
    )  # fmt: skip
    for session in found[:limit]:
        counts = session.counts
        state = STATE_WORDS[session.state] + ("" if session.recovered else ", not yet recovered")
        version = f" {session.service_version}" if session.service_version else ""
        process = f"{session.pid} on {session.host}" if session.pid and session.host else session.host or ""
        if session.state == "live" and session.running:
            state += f", {count(session.running)} running"
        clocks = [Text(clock(session.started_at, at), style=PALE)] * wide
        table.add(str(session.id), ago(session.started_at, at), *clocks, took(session.duration_s * 1000),
                  Text(state, style=STYLE_OF.get(session.state, "")), one_line(session.service + version),
                  pale_zero(counts.runs if counts else 0), failed(counts.errors if counts else 0), failed(session.lost),
                  *([Text(one_line(process), style=PALE)] * wide))  # fmt: skip
    yield table
    if len(found) > limit:
        yield Text(f"{newest(limit)}: --limit shows more.", style=PALE)


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
        yield Text(f"{newest(limit)} of {count(found.entries)}: --limit shows more.", style=PALE)
