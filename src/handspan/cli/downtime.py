"""``downtime``: when nobody recorded, for how long, and how it came about."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated, Final

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import amount, count, newest, one_line, took
from handspan.cli.options import A_WEEK, DEFAULT_DB, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import CRASHED, FAILED, PALE, failed, show, show_json
from handspan.cli.table import Table, figure, name, text, word
from handspan.cli.views import START_HINT
from handspan.clock import to_epoch, to_ns
from handspan.store.queries.downtime import Gap, ServiceDowntime
from handspan.store.queries.downtime import downtime as asked
from handspan.store.service import DatabaseService
from handspan.wording import share, short

__all__ = ["downtime"]

LISTED: Final = 20
HOW: Final = {"crash": "crashed", "clean_shutdown": "ended", "unknown": "fell silent", "live": "lives"}
DATE: Final = len("21 Nov ")


def downtime(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_WEEK,
    until: Until = None,
    service: Annotated[str | None, typer.Option("--service", metavar="NAME", help="Only of this service.")] = None,
    limit: Limit = LISTED,
) -> None:
    """When nothing recorded, for how long, why, and what it cost."""
    at = now()

    async def question(reader: DatabaseService) -> tuple[list[ServiceDowntime], str]:
        span = await period(reader, since, at, until)
        return await asked(reader, at, span.window, service=service, limit=limit), span.words

    found, words = ask(db, question)
    if json:
        show_json({"since": since, "until": until, "services": found})
    else:
        show(*_view(found, words, limit))


def _view(found: list[ServiceDowntime], words: str, limit: int) -> Iterator[str | Text | Table]:
    if not found:
        yield f"No session {words}, nor one before. {START_HINT}"
        return
    for each in found:
        yield _sentence(each, words)
    gaps = sorted((gap for each in found for gap in each.gaps), key=lambda gap: gap.since, reverse=True)[:limit]
    if gaps:
        yield ""
        yield _table(gaps, several=len(found) > 1)
        yield Text(
            "Cut off: runs it did not finish; missed: of jobs, due meanwhile. A crash is dated by"
            " its last sign of life.",
            style=PALE,
        )
    if sum(each.count for each in found) > len(gaps):
        yield Text(f"{newest(limit)} of {count(sum(each.count for each in found))}: --limit shows more.", style=PALE)
    if not all(each.complete for each in found):
        yield Text("There were more sessions than were looked at: a later --since knows all of its time.", style=PALE)


def _sentence(each: ServiceDowntime, words: str) -> Text:
    name = short(each.service)
    if not each.count:
        return Text(f"{name} was never down {words}.")
    times = amount(each.count, "time")
    long = took(each.down_s * 1000)
    said = f"{name} was down {times} {words}, {long} in all ({share(round(each.down_s), round(each.watched_s))})"
    return Text.assemble(said, (", and is down now" if each.down_now else "", FAILED), ".")


def _table(gaps: list[Gap], *, several: bool) -> Table:
    service = [name("service")] if several else []
    table = Table(
        word("down from"), figure("until"), figure("for"), *service, text("session before"), figure("cut off"),
        figure("missed"),
    )  # fmt: skip
    for gap in gaps:
        how = Text(f"{gap.session_before} {HOW[gap.how]}", style=CRASHED if gap.how == "crash" else "")
        if gap.version_before != gap.version_after and gap.version_after is not None:
            how.append(f", then {one_line(gap.version_after)}", style=PALE)
        table.add(_clock(gap.since), _until(gap), took(gap.down_s * 1000),
                  *([one_line(gap.service)] if several else []), how, failed(gap.interrupted),
                  failed(gap.missed))  # fmt: skip
    return table


def _until(gap: Gap) -> Text:
    if gap.until is None:
        return Text("still down", style=FAILED)
    since, until = _clock(gap.since), _clock(gap.until)
    return Text(until[DATE:] if since[:DATE] == until[:DATE] else until)


def _clock(moment: Instant) -> str:
    """``21 Nov 15:46:35``, as clocks here show it."""
    return f"{datetime.fromtimestamp(to_epoch(to_ns(moment)), tz=UTC).astimezone():%d %b %H:%M:%S}"
