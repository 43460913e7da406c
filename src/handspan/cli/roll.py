"""``roll``: every handler and job over one time axis, a row each."""

from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.console import Console

from handspan.cli import roll_view
from handspan.cli.options import A_DAY, DEFAULT_DB, App, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import show, show_json
from handspan.store.queries import series
from handspan.store.service import DatabaseService

__all__ = ["roll"]

LISTED: Final = 40  # rows a screen has
JSON_POINTS: Final = 96  # a day by the quarter of an hour


class Order(StrEnum):
    """What comes first."""

    LOOK = "look"
    RUNS = "runs"
    FAILED = "failed"
    P95 = "p95"
    NAME = "name"


def roll(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    app: App = None,
    sort: Annotated[Order, typer.Option("--sort", help="What comes first.")] = Order.LOOK,
    limit: Limit = LISTED,
) -> None:
    """Every handler and job over one time axis, in block characters."""
    at = now()
    width = Console().width

    async def question(service: DatabaseService) -> roll_view.Roll:
        span = await period(service, since, at, until)
        points = JSON_POINTS if json else roll_view.room(width)
        percentiles = json or sort is Order.P95 or width >= roll_view.WIDE
        found = await series.roll(service, span.window, at, app=app, points=points, percentiles=percentiles)
        rows = sorted(found.rows, key=lambda row: roll_view.order(sort.value, row))
        return roll_view.Roll(found, rows[:limit], len(rows), span.words, app)

    found = ask(db, question, app=app)
    if json:
        under = found.whole.timeline
        show_json(
            {
                "since": since,
                "until": until,
                "step_s": found.whole.grid.step,
                "started_at": found.moments(),
                "rows": found.rows,
                "left_out": found.registered - len(found.rows),
                "forgotten": found.whole.forgotten,
                "sessions": under.sessions,
                "losses": under.losses,
                "incidents": under.incidents,
            }
        )
    else:
        show(*roll_view.roll(found, width))
