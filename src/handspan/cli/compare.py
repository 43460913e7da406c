"""``compare``: two sessions, versions or times beside each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli.completion import compared_sides
from handspan.cli.figures import ago, amount, count, one_line, took
from handspan.cli.options import DEFAULT_DB, App, Db, Json, Limit, ask, now
from handspan.cli.output import FAILED, PALE, show, show_json
from handspan.cli.table import Table, figure, name, text, word
from handspan.cli.words import changed, percent, several_services, title
from handspan.clock import instant_from_ns, to_ns
from handspan.errors import HandspanError
from handspan.store.queries.compare import (
    LEAST_RUNS,
    Compared,
    Comparison,
    SessionSide,
    Side,
    known_versions,
    newest_sessions,
    session_side,
    sessions_of_version,
)
from handspan.store.queries.compare import (
    compare as compare_sides,
)
from handspan.store.queries.shapes import Window
from handspan.store.queries.windows import length_of
from handspan.store.service import DatabaseService

__all__ = ["compare"]

LISTED: Final = 20
_WORDS: Final = {
    "failing": "fails more",
    "slower": "slower",
    "new": "new",
    "gone": "gone",
    "silent": "did not run",
    "mended": "fails less",
    "faster": "faster",
}


@dataclass(frozen=True)
class Named:
    """A side, and what to call it."""

    side: Side
    words: str


def compare(
    a: Annotated[
        str | None,
        typer.Argument(
            metavar="A", help="A session's number, last, previous, or a version.", autocompletion=compared_sides
        ),
    ] = None,
    b: Annotated[
        str | None,
        typer.Argument(metavar="B", help="Likewise; last if not given.", autocompletion=compared_sides),
    ] = None,
    db: Db = DEFAULT_DB,
    json: Json = False,
    version: Annotated[bool, typer.Option("--version", help="A and B are versions, whatever they look like.")] = False,
    window: Annotated[
        str | None, typer.Option("--window", metavar="SPAN", help="The last 24h, 7d, ... against those before.")
    ] = None,
    app: App = None,
    limit: Limit = LISTED,
) -> None:
    """What got slower, what fails more, between sessions or times."""
    at = now()
    if window is not None and (a or b or version):
        raise typer.BadParameter(
            "a window is compared with the one before it: without A and B", param_hint="'--window'"
        )
    if version and not (a and b):
        raise typer.BadParameter("takes two versions: handspan compare --version A B", param_hint="'--version'")

    async def question(service: DatabaseService) -> tuple[Named, Named, Comparison]:
        if window is not None:
            old, new = _windows(window, at)
        else:
            old = await _side(service, a or "previous", at, version)
            new = await _side(service, b or "last", at, version)
        return old, new, await compare_sides(service, old.side, new.side, app=app)

    old, new, found = ask(db, question, app=app)
    if json:
        sides = {"before": {"name": old.words, "runs": found.before_runs, "errors": found.before_errors},
                 "after": {"name": new.words, "runs": found.after_runs, "errors": found.after_errors}}  # fmt: skip
        show_json({**sides, "compared": found.compared[:limit], "more": len(found.compared) > limit})
    else:
        show(*_view(old, new, found, limit))


def _windows(text: str, at: Instant) -> tuple[Named, Named]:
    """The last so long against as long before."""
    length = length_of(text)
    if length is None or not 0 < 2 * length.ns <= to_ns(at):
        raise typer.BadParameter(f"{text!r} is no length of time: 15m, 6h, 7d, 2w are", param_hint="'--window'")
    middle, start = instant_from_ns(to_ns(at) - length.ns), instant_from_ns(to_ns(at) - 2 * length.ns)
    return Named(Side(Window(start, middle)), f"the {length} before"), Named(Side(Window(middle)), f"the last {length}")


async def _side(db: DatabaseService, text: str, at: Instant, version: bool) -> Named:
    """A number is a session first: versions that look like one take ``--version``."""
    if not version and text in ("last", "previous"):
        sessions = await newest_sessions(db)
        if len(sessions) < (1 if text == "last" else 2):
            raise HandspanError(
                f"There is no {text} session to compare.", hint="`handspan compare --window 24h` compares two days."
            )
        return _session(sessions[0 if text == "last" else 1], at)
    if not version and text.isascii() and text.isdigit() and len(text) < 19:
        session = await session_side(db, int(text))
        if session is not None:
            return _session(session, at)
    sessions_of = await sessions_of_version(db, text)
    if sessions_of:
        return Named(Side(sessions=sessions_of), f"version {one_line(text)}")
    known = ", ".join(one_line(each) for each in await known_versions(db)) or "none"
    raise HandspanError(
        f"There is no session and no version {one_line(text)!r}.",
        hint=f"`handspan sessions --json` has the sessions' numbers; versions: {known}.",
    )


def _session(found: SessionSide, at: Instant) -> Named:
    version = f" {found.service_version}" if found.service_version else ""
    started = ago(found.started_at, at)
    return Named(Side(sessions=[found.id]), one_line(f"session {found.id} ({found.service}{version}, {started})"))


def _view(old: Named, new: Named, found: Comparison, limit: int) -> Iterator[str | Text | Table]:
    for side, runs, errors in (
        (old, found.before_runs, found.before_errors),
        (new, found.after_runs, found.after_errors),
    ):
        share = f", {percent(errors / runs)}" if errors else ""
        yield f"{side.words[0].upper()}{side.words[1:]}: {amount(runs, 'run')}, {count(errors)} failed{share}."
    listed = [each for each in found.compared if each.state in _WORDS]
    few = sum(each.state == "few" for each in found.compared)
    if listed:
        yield ""
        yield _table(listed[:limit])
    elif found.compared and few < len(found.compared):
        yield "Nothing got slower, and nothing fails more often."
    if len(listed) > limit:
        yield Text(
            f"These are the {count(limit)} that matter most of {count(len(listed))}: --limit shows more.", style=PALE
        )
    if few:
        yield Text(
            f"{amount(few, 'registration')} ran fewer than {LEAST_RUNS} times on one side: too few to judge.",
            style=PALE,
        )
    if not found.compared:
        yield "Nothing ran on either side."


def _table(listed: list[Compared]) -> Table:
    table = Table(word(""), name("in"), figure("runs"), figure("were"), figure("p95"), text("what moved"))
    several = several_services(listed)
    for each in listed:
        table.add(Text(_WORDS[each.state], style=FAILED if each.state == "failing" else ""),
                  title(each, service=several), count(each.after.runs), count(each.before.runs),
                  took(each.after.p95_ms), Text("; ".join(map(changed, each.changes)), style=PALE))  # fmt: skip
    return table
