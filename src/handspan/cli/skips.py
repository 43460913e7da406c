"""``skips``: what did not run, and why."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Final

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, amount, count, one_line
from handspan.cli.options import A_DAY, DEFAULT_DB, App, Db, Handler, Job, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import PALE, show, show_json
from handspan.cli.run_words import refuse_unknown
from handspan.cli.table import Table, figure, name, text, word
from handspan.cli.views import MARKS
from handspan.cli.words import several_services, title
from handspan.store.queries.runs import RunFilter
from handspan.store.queries.schedule import SkipCount
from handspan.store.queries.skips import SkipPage, SkipRow, SkipSum, list_skips, sum_skips
from handspan.store.service import DatabaseService

__all__ = ["skips", "sum_in_words"]

LISTED: Final = 50


def skips(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    handler: Handler = None,
    job: Job = None,
    app: App = None,
    hourly: Annotated[bool, typer.Option("--hourly", help="Entry by entry, newest hours first.")] = False,
    limit: Limit = LISTED,
) -> None:
    """What did not run, and why: refused, too soon, missed."""
    at, which = now(), RunFilter(handler, job, app)

    async def question(service: DatabaseService) -> tuple[SkipPage, list[SkipSum], str]:
        span = await period(service, since, at, until)
        page = await list_skips(service, which, span.window, limit=limit)
        if not page.entries and (handler or job):
            await refuse_unknown(service, which)
        sums = await sum_skips(service, which, span.window, limit=limit + 1) if page.entries else []
        return page, sums, span.words

    found, by_whom, words = ask(db, question, app=app)
    if json:
        sums = {"totals": found.totals, "entries": found.entries, "by_registration": by_whom[:limit]}
        show_json({"since": since, "until": until, **sums, "skips": found.skips})
    else:
        show(*_view(found, None if hourly else by_whom, at, words, limit, filtered=which != RunFilter()))


def sum_in_words(totals: Sequence[SkipCount]) -> str:
    """``340 refused by its predicate, 3 due while the process was down``."""
    return ", ".join(f"{count(total.count)} {one_line(total.words)}" for total in totals)


def _view(
    found: SkipPage, by_whom: list[SkipSum] | None, at: Instant, words: str, limit: int, *, filtered: bool
) -> Iterator[str | Text | Table]:
    if not found.entries:
        what = "Nothing that matches was skipped" if filtered else "Nothing was skipped"
        cures = " and ".join(["a wider --since"] * bool(words) + ["fewer filters"] * filtered)
        perhaps = f" Perhaps {cures} will show something." if cures else ""
        yield f"{what} {words}".rstrip() + f", as far as is stored (counts are written every 30 s).{perhaps}"
        return
    total = sum(each.count for each in found.totals)
    yield f"{amount(total, 'event or run', 'events and runs')} did not run {words}: {sum_in_words(found.totals)}."
    yield ""
    table = Table(figure("last"), word(""), name("skipped"), figure("times"), text("why"), figure("first"))
    rows: Sequence[SkipRow | SkipSum] = (found.skips if by_whom is None else by_whom)[:limit]
    several = several_services(rows)
    for skip in rows:
        table.add(ago(skip.last_at, at), Text(MARKS[skip.kind], style=PALE), _title(skip, service=several),
                  count(skip.count), one_line(skip.words), Text(ago(skip.first_at, at), style=PALE))  # fmt: skip
    yield table
    if by_whom is None:
        yield Text("By the hour it was counted in; what a kill -9 cuts off is up to 30 s of it.", style=PALE)
    if by_whom is None and found.entries > limit:
        yield Text(f"These are the newest {count(limit)} of {count(found.entries)}: --limit shows more.", style=PALE)
    if by_whom is not None:
        yield Text("Most first; --hourly tells when. What a kill -9 cuts off is up to 30 s of it.", style=PALE)
    if by_whom is not None and len(by_whom) > limit:
        yield Text(f"These are the {count(limit)} with most: --limit shows more.", style=PALE)


def _title(skip: SkipRow | SkipSum, *, service: bool) -> Text:
    if skip.name is None:
        return Text(f"{skip.kind} {skip.registration_id} (pruned)", style=PALE)
    return title(skip, service=service)
