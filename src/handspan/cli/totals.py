"""``totals``: what ran in a time, added up: by kind, app, version, session, hour or day."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import amount, count, one_line, took
from handspan.cli.options import A_DAY, DEFAULT_DB, App, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import FAILED, PALE, failed, pale_zero, show, show_json
from handspan.cli.table import Table, figure, name
from handspan.cli.words import coverage
from handspan.clock import to_epoch, to_ns
from handspan.store.queries.cover import Cover, cover
from handspan.store.queries.figures import By, Figures, Key, Which, figures, overall
from handspan.store.queries.series import Point, Series, total_series
from handspan.store.queries.shapes import Window
from handspan.store.service import DatabaseService
from handspan.wording import share

__all__ = ["totals"]

LISTED: Final = 100
MOST_POINTS: Final = 2_000


class Apart(StrEnum):
    """What is added up apart."""

    KIND = "kind"
    APP = "app"
    VERSION = "version"
    SESSION = "session"
    HOUR = "hour"
    DAY = "day"


STEPS: Final[dict[Apart, int]] = {Apart.HOUR: 3600, Apart.DAY: 86_400}
_BY: Final[dict[Apart, By]] = {
    Apart.KIND: "kind", Apart.APP: "app", Apart.VERSION: "version", Apart.SESSION: "session",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """Some of the runs."""

    key: Key
    figures: Figures


@dataclass(frozen=True)
class Added:
    """All of them, and their parts: either parts or a series."""

    all: Figures
    kept: Cover
    parts: list[Part]
    series: Series | None
    words: str


def totals(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    app: App = None,
    by: Annotated[Apart, typer.Option("--by", help="What is added up apart.")] = Apart.KIND,
    limit: Limit = LISTED,
) -> None:
    """What ran, added up: by app, version, session, hour or day."""
    at = now()

    async def question(service: DatabaseService) -> Added:
        span = await period(service, since, at, until)
        kept, which = await cover(service, span.window), Which(app=app)
        parts: list[Part] = []
        series = None
        if by in STEPS:
            series = await _series(service, span.window, at, app, STEPS[by])
        else:
            found = await figures(service, kept, which, by=[_BY[by]])
            parts = [Part(key, each) for key, each in found.items()]
            parts.sort(key=lambda part: (-(part.key.session_id or 0), -part.figures.runs, part.key))
        return Added(await overall(service, kept, which), kept, parts, series, span.words)

    found = ask(db, question, app=app)
    if json:
        asked = {"since": since, "until": until, "window": found.kept.effective, "by": by.value}
        points = None if found.series is None else found.series.points
        rows = [{**part.key._asdict(), "figures": part.figures} for part in found.parts[:limit]]
        show_json({**asked, "all": found.all, "parts": rows, "points": points})
    else:
        show(*_view(found, by, limit))


async def _series(service: DatabaseService, window: Window, at: Instant, app: str | None, step: int) -> Series:
    found = await total_series(service, window, at, app=app, points=MOST_POINTS, step=step)
    if found.step_s != step:
        what = "hours" if step == STEPS[Apart.HOUR] else "days"
        raise typer.BadParameter(f"so long a time has too many {what}, or keeps none", param_hint="'--by'")
    return found


def _view(found: Added, by: Apart, limit: int) -> Iterator[str | Text | Table]:
    figures = found.all
    if not figures.runs:
        yield f"Nothing ran {found.words}. A wider --since may show more."
        return
    errors = f"{count(figures.errors)} failed ({share(figures.errors, figures.runs)})"
    yield Text.assemble(
        f"{amount(figures.runs, 'run')} {found.words or 'of all time'}: ",
        (errors if figures.errors else "none failed", FAILED if figures.errors else ""),
        f", {count(figures.cancelled)} cancelled." if figures.cancelled else ".",
    )
    yield Text(
        f"They took {took(figures.avg_ms)} on average, p50 {took(figures.p50_ms)}, p95 {took(figures.p95_ms)}, "
        f"p99 {took(figures.p99_ms)}, at most {took(figures.max_ms)}; {took(figures.total_ms)} in all.",
        style=PALE,
    )
    yield ""
    if found.series is None:
        yield _parts(found, by, limit)
        hidden = len(found.parts) - limit
    else:
        points = [point for point in found.series.points if point.runs or point.recorded]
        yield _points(points[-limit:], by)
        hidden = len(points) - limit
        yield Text(
            f"Whole {by.value}s{' of UTC' if by is Apart.DAY else ''}; the percentile is within 5 %.", style=PALE
        )
    yield from coverage(found.kept)
    if hidden > 0:
        yield Text(f"{count(hidden)} more are left out: --limit shows them.", style=PALE)


def _parts(found: Added, by: Apart, limit: int) -> Table:
    table = Table(
        name(by.value), figure("runs"), figure("share"), figure("failed"), figure("rate"), figure("p50"),
        figure("p95"), figure("longest"),
    )  # fmt: skip
    for part in found.parts[:limit]:
        each = part.figures
        table.add(_named(part.key, by), pale_zero(each.runs), share(each.runs, found.all.runs), failed(each.errors),
                  share(each.errors, each.runs), took(each.p50_ms), took(each.p95_ms), took(each.max_ms))  # fmt: skip
    return table


def _points(points: list[Point], by: Apart) -> Table:
    table = Table(
        name(by.value), figure("runs"), figure("failed"), figure("rate"), figure("cancelled"), figure("p95"),
        figure("longest"),
    )  # fmt: skip
    for each in points:
        table.add(_clock(each.started_at, by), pale_zero(each.runs), failed(each.errors),
                  share(each.errors, each.runs), pale_zero(each.cancelled), took(each.p95_ms),
                  took(each.max_ms))  # fmt: skip
    return table


def _named(key: Key, by: Apart) -> Text:
    if by is Apart.KIND:
        return Text(f"{key.kind}s")
    if by is Apart.SESSION:
        return Text(str(key.session_id))
    value = key.app_key if by is Apart.APP else key.service_version
    return Text("(not known)", style=PALE) if value is None else Text(one_line(value))


def _clock(moment: Instant, by: Apart) -> str:
    """Hours as clocks here show them; days are of UTC."""
    then = datetime.fromtimestamp(to_epoch(to_ns(moment)), tz=UTC)
    return f"{then:%a %d %b}" if by is Apart.DAY else f"{then.astimezone():%d %b %H:%M}"
