"""Error groups as people read them: the list, and one of them whole."""

from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, amount, count, iso, one_line, took
from handspan.cli.output import CRASHED, FAILED, PALE
from handspan.cli.sparklines import sparkline
from handspan.cli.table import Table, figure, name, text, word
from handspan.cli.words import several_services, title
from handspan.store.queries.error_groups import (
    ErrorGroupRow,
    GroupFilter,
    GroupPage,
    GroupSession,
    WholeGroup,
)
from handspan.store.queries.runs import RunRow

__all__ = ["changed", "error", "errors"]

Part = str | Text | Table

LISTED_TREND: Final = 8  # characters: three hours each, of a day
HOURS: Final = 3600
LONGEST_MESSAGE: Final = 2_000
LONGEST_LINE: Final = 400
LINES: Final = 120  # of a traceback: both ends


def errors(page: GroupPage, at: Instant, words: str, limit: int, which: GroupFilter) -> Iterator[Part]:
    if page.pending:
        yield Text("Failures of an older handspan are still being grouped: there are more than these.", style=FAILED)
    if not page.groups:
        yield _nothing(words, which)
        return
    table = Table(
        figure("id"), name("error"), name("in"), figure("times"), figure("last"), word("trend"), word("")
    )  # fmt: skip
    several = several_services(page.groups)
    for group in page.groups:
        what = Text(one_line(group.error_type), style=FAILED)
        if group.message:
            what.append(f": {one_line(group.message)}", style=PALE)
        table.add(str(group.id), what, title(group, service=several), count(group.count) + "+" * group.by_hour,
                  ago(group.last_seen_at, at), sparkline(_squeezed(group.trend.counts, LISTED_TREND)),
                  _state(group))  # fmt: skip
    yield table
    yield Text(f"Errors {words or 'of all time'}. `handspan error ID` tells all about one.", style=PALE)
    if any(group.by_hour for group in page.groups):
        yield Text("+: counted by the hour; the rows that tell more are pruned.", style=PALE)
    if page.after is not None:
        yield Text(f"These are the first {count(limit)}: --limit shows more, the filters fewer.", style=PALE)


def _nothing(words: str, which: GroupFilter) -> str:
    if which != GroupFilter():
        return f"No error matches{' ' if words else ''}{words}. Fewer filters or a wider --since may show more."
    return f"Nothing failed {words}. A wider --since may show more." if words else "Nothing failed at all."


def error(found: WholeGroup, at: Instant, words: str, limit: int) -> Iterator[Part]:
    group = found.group
    yield Text.assemble((one_line(group.error_type), FAILED), " in ", title(group), ": ", _story(group, at), ".")
    if group.error_message:
        yield Text(one_line(group.error_message[:LONGEST_MESSAGE]))
    yield ""
    yield from _facts(found, at, words)
    yield ""
    yield from _runs(found, at, limit)
    if found.traceback:
        yield ""
        yield from _traceback(found.traceback, group)
    yield ""
    yield from _next(group, found.runs.runs)


def changed(group: ErrorGroupRow) -> Text:
    """After ``--resolve`` and ``--reopen``."""
    if group.state == "open":
        return Text(f"Error {group.id} is open again.")
    return Text(f"Error {group.id} is resolved. If it comes back, `handspan errors` says so.")


def _story(group: ErrorGroupRow, at: Instant) -> Text:
    since = ago(group.first_seen_at, at)
    if group.state == "regressed":
        return Text(f"resolved {ago(group.resolved_at, at)}, came back {ago(group.regressed_at, at)}", style=FAILED)
    if group.state == "resolved":
        return Text(f"resolved {ago(group.resolved_at, at)}, and not seen in a run that started later")
    return Text(f"since {since}") if group.total > 1 else Text(f"once, {since}")


def _facts(found: WholeGroup, at: Instant, words: str) -> Iterator[Part]:
    group = found.group
    facts: list[tuple[str, str | Text]] = [("group", f"{group.id}, of the {group.kind} {title(group)}")]
    facts.append(("where", one_line(group.frame) if group.frame else Text("it has no traceback", style=PALE)))
    facts.append(("first seen", f"{ago(group.first_seen_at, at)}, {iso(group.first_seen_at)}"))
    facts.append(("last seen", f"{ago(group.last_seen_at, at)}, {iso(group.last_seen_at)}"))
    often = amount(group.total, "time") + " ever"
    if words:
        often += f", {count(group.count)}{' (by the hour)' * group.by_hour} {words}"
    facts.append(("how often", often))
    step = "hour" if group.trend.step_s == HOURS else "day"
    if len(group.trend.counts) > 1:
        facts.append((f"by the {step}", sparkline(_squeezed(group.trend.counts, 60))))
    facts += [("in", line) for line in _sessions(found.sessions, at)]
    width = max(len(label) for label, _ in facts)
    seen = set[str]()
    for label, fact in facts:
        shown = "" if label in seen else label
        seen.add(label)
        yield Text.assemble((shown.ljust(width), PALE), "  ", fact)


def _sessions(sessions: Sequence[GroupSession], at: Instant) -> Iterator[str]:
    """Those it was seen in, and the one before the first: did it come with a version?"""
    affected = [place for place, session in enumerate(sessions) if session.count]
    if not affected:
        return
    for session in sessions[: affected[-1] + 2][:5]:
        version = f" of {session.service_version}" if session.service_version else ""
        times = f"{count(session.count)}{'+' * session.or_more} times" if session.count != 1 else "once"
        yield one_line(f"session {session.session_id}{version}, begun {ago(session.started_at, at)}: {times}")


def _runs(found: WholeGroup, at: Instant, limit: int) -> Iterator[Part]:
    if not found.runs.runs:
        yield "None of its runs is stored any more: runs are kept for days, groups for a year."
        return
    table = Table(figure("started"), figure("took"), figure("session"), word("trace"), text("message"))
    for run in found.runs.runs:
        table.add(ago(run.started_at, at), took(run.duration_ms), str(run.session_id), run.trace_id,
                  Text(one_line(run.error_message or ""), style=PALE))  # fmt: skip
    yield table
    if found.runs.after is not None:
        yield Text(f"These are the newest {count(limit)}: --limit shows more.", style=PALE)


def _traceback(traceback: str, group: ErrorGroupRow) -> Iterator[Text]:
    lines = traceback.rstrip("\n").split("\n")
    if len(lines) > LINES:
        cut = f"  ... {amount(len(lines) - LINES, 'line')} not shown: --json has them ..."
        lines = [*lines[: LINES // 2], cut, *lines[-LINES // 2 :]]
    for line in lines:
        bare = line.lstrip(" ")
        yield Text(" " * min(len(line) - len(bare), 40) + one_line(bare[:LONGEST_LINE]), style=PALE)
    message = f": {one_line(group.error_message[:LONGEST_MESSAGE])}" if group.error_message else ""
    yield Text(one_line(group.error_type) + message, style=FAILED)


def _next(group: ErrorGroupRow, runs: Sequence[RunRow]) -> Iterator[Text]:
    if runs:
        yield Text(f"`handspan run {runs[0].trace_id}` shows the newest run, with its log.", style=PALE)
    if group.state == "resolved":
        yield Text(f"`handspan error {group.id} --reopen` takes back that it is mended.", style=PALE)
    else:
        yield Text(
            f"Mended? `handspan error {group.id} --resolve` notes it, and you are told if it comes back.", style=PALE
        )


# --- small things ---------------------------------------------------------------------------------------


def _state(group: ErrorGroupRow) -> Text:
    if group.state == "regressed":
        return Text("came back", style=CRASHED)
    return Text("resolved", style=PALE) if group.state == "resolved" else Text("new" * group.new, style=FAILED)


def _squeezed(counts: Sequence[int], width: int) -> list[int]:
    """As many sums, of as many buckets each, as there is room for; whole from the end: the newest is complete."""
    each = -(-len(counts) // width) or 1
    ends = range(len(counts), 0, -each)
    return [sum(counts[max(0, end - each) : end]) for end in ends][::-1]
