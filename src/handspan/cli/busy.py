"""``busy``: when most ran, and who."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, count, one_line
from handspan.cli.options import A_DAY, DEFAULT_DB, App, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import PALE, failed, show, show_json
from handspan.cli.table import Table, figure, text, word
from handspan.cli.words import several_services, title
from handspan.clock import to_epoch, to_ns
from handspan.store.queries.busiest import Busiest, BusyBucket, busiest
from handspan.store.queries.figures import Which
from handspan.store.service import DatabaseService

__all__ = ["busy"]

LISTED: Final = 10
_WORDS: Final = {60: "minute", 3600: "hour", 86_400: "day"}


class Unit(StrEnum):
    """What is compared."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


_STEPS: Final = dict(zip(Unit, _WORDS, strict=True))


def busy(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    app: App = None,
    by: Annotated[Unit, typer.Option("--by", help="The busiest minutes, hours or days.")] = Unit.MINUTE,
    limit: Limit = LISTED,
) -> None:
    """The busiest minutes, and who ran most in them."""
    at = now()

    async def question(service: DatabaseService) -> tuple[Busiest, str]:
        span = await period(service, since, at, until)
        return await busiest(service, span.window, Which(app=app), step=_STEPS[by], limit=limit), span.words

    found, words = ask(db, question, app=app)
    if json:
        show_json({"since": since, "until": until, **vars(found)})
    else:
        show(*_view(found, at, words, limit, _STEPS[by]))


def _view(found: Busiest, at: Instant, words: str, limit: int, step: int) -> Iterator[str | Text | Table]:
    if not found.buckets:
        yield f"Nothing ran {words}. A wider --since may show more."
        return
    unit = _WORDS[found.resolution_s]
    table = Table(word(unit), figure("when"), figure("runs"), figure("failed"), text("most of them"))
    several = several_services(each for bucket in found.buckets for each in bucket.registrations)
    for bucket in found.buckets:
        table.add(_local(bucket.started_at), ago(bucket.started_at, at), count(bucket.runs), failed(bucket.errors),
                  Text(_who(bucket, several), style=PALE))  # fmt: skip
    yield table
    finer = _WORDS[step]
    kept = "" if unit == finer else f": {finer}s of then are kept no longer, so these are {unit}s"
    yield Text(f"The busiest {unit}s {words or 'of all time'}, whole ones{kept}.", style=PALE)
    if len(found.buckets) == limit:
        these = "This is the busiest" if limit == 1 else f"These are the {count(limit)} busiest"
        yield Text(f"{these}: --limit shows more.", style=PALE)


def _who(bucket: BusyBucket, several: bool) -> str:
    return one_line(", ".join(f"{title(each, service=several)} {count(each.runs)}" for each in bucket.registrations))


def _local(moment: Instant) -> str:
    """As clocks here show it."""
    return f"{datetime.fromtimestamp(to_epoch(to_ns(moment)), tz=UTC).astimezone():%d %b %H:%M}"
