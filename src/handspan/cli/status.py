"""``status``: the verdict, then the figures it was taken from. ``--check`` is the verdict alone, for monitoring."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Annotated, Any, Final

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli import status_view
from handspan.cli.options import DEFAULT_DB, Db, Json, Until, ask, now, period
from handspan.cli.output import as_json, show, show_json
from handspan.clock import to_ns
from handspan.settings import Settings, misspelt
from handspan.store.queries import status as status_query
from handspan.store.service import DatabaseService
from handspan.store.verdict import Thresholds, Verdict, verdict

__all__ = ["status"]

HOUR_NS: Final = 3600 * 10**9
LONGEST_WINDOW: Final = 168  # hours: past a week a look would compare a month with itself


def status(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="15m, 6h, 7d, an ISO date or time, or restart.")
    ] = None,
    until: Until = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only what needs a look; exit code 1 if anything does.")
    ] = False,
) -> int:
    """What needs a look, what ran, what failed, who records."""
    at = now()
    thresholds = Thresholds.of(Settings.load())
    asked = since or f"{thresholds.window_hours}h"
    if check and until is not None:
        raise typer.BadParameter("what needs a look, needs it now: without --until", param_hint="'--check'")

    async def question(service: DatabaseService) -> tuple[Verdict | None, status_query.Status | None, str]:
        span = await period(service, asked, at, until)
        if until is not None:  # the verdict is of now, and nothing else
            return None, await status_query.summary(service, at, span.window), span.words
        narrowed = thresholds if since is None else replace(thresholds, window_hours=_hours(span.window.since, at))
        judged = await verdict(service, at, narrowed)
        found = None if check else await status_query.summary(service, at, span.window)
        return judged, found, span.words

    judged, found, words = ask(db, question)
    warnings = misspelt()
    if json:
        document: dict[str, Any] = {"since": asked, "until": until, "verdict": judged and _document(judged)}
        show_json(document if found is None else {**document, "status": found})
    elif found is not None:
        show(*_parts(judged, found, at, words, warnings))
    elif judged is not None:
        show(*status_view.findings(judged, limit=None))
    return 1 if check and judged is not None and judged.findings else 0


def _hours(since: Instant | None, at: Instant) -> int:
    if since is None:
        return LONGEST_WINDOW
    return min(LONGEST_WINDOW, max(1, math.ceil((to_ns(at) - to_ns(since)) / HOUR_NS)))


def _document(judged: Verdict) -> dict[str, Any]:
    return {"words": judged.words, "basis": judged.basis, **as_json(judged)}


def _parts(
    judged: Verdict | None, found: status_query.Status, at: Instant, words: str, warnings: list[str]
) -> Iterator[status_view.Part]:
    for sentence in warnings:
        yield Text(sentence, style="yellow")
    if status_view.is_empty(found):
        yield status_view.nothing_yet(found)
        return
    if judged is not None:
        yield from status_view.findings(judged, limit=status_view.SHOWN)
        yield ""
    yield from status_view.figures(found, at, words, past=judged is None)
