"""``handlers`` and ``jobs``: what is registered, what it did, and what it did before."""

from collections.abc import Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Final, get_args

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, count, one_line, took
from handspan.cli.figures import until as due
from handspan.cli.options import A_DAY, DEFAULT_DB, App, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import PALE, failed, pale_zero, show, show_json
from handspan.cli.table import Table, figure, name, text
from handspan.cli.views import START_HINT
from handspan.cli.words import coverage, several_services, title, was
from handspan.store.queries.cover import Cover, cover
from handspan.store.queries.registrations import HandlerSummary, JobSummary, Sort, list_handlers, list_jobs
from handspan.store.service import DatabaseService

__all__ = ["handlers", "jobs"]

LISTED: Final = 200


class Order(StrEnum):
    """What a list begins with."""

    NAME = "name"
    RUNS = "runs"
    FAILED = "failed"
    P95 = "p95"
    LAST = "last"


_SORTS: Final[dict[Order, Sort]] = dict(zip(Order, get_args(Sort), strict=True))
By = Annotated[Order, typer.Option("--sort", help="Most runs, most failures, slowest, or newest first.")]


def handlers(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    app: App = None,
    sort: By = Order.NAME,
    limit: Limit = LISTED,
) -> None:
    """Each handler: runs, failures and latency, now and before."""
    at = now()

    async def question(service: DatabaseService) -> tuple[list[HandlerSummary], Cover, str]:
        span = await period(service, since, at, until)
        kept = await cover(service, span.window)
        found = await list_handlers(service, span.window, now=at, app=app, sort=_SORTS[sort], limit=limit)
        return found, kept, span.words

    found, kept, words = ask(db, question)
    if json:
        show_json({"since": since, "until": until, "window": kept.effective, "handlers": found})
    else:
        show(*_handlers_view(found, kept, at, words, limit))


def jobs(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    app: App = None,
    sort: By = Order.NAME,
    limit: Limit = LISTED,
) -> None:
    """Each job: runs, failures and latency, now and before."""
    at = now()

    async def question(service: DatabaseService) -> tuple[list[JobSummary], Cover, str]:
        span = await period(service, since, at, until)
        kept = await cover(service, span.window)
        found = await list_jobs(service, span.window, now=at, app=app, sort=_SORTS[sort], limit=limit)
        return found, kept, span.words

    found, kept, words = ask(db, question)
    if json:
        show_json({"since": since, "until": until, "window": kept.effective, "jobs": found})
    else:
        show(*_jobs_view(found, kept, at, words, limit))


def _handlers_view(
    found: Sequence[HandlerSummary], kept: Cover, at: Instant, words: str, limit: int
) -> Iterator[str | Text | Table]:
    if not found:
        yield f"No handler is registered here. {START_HINT}"
        return
    moved = [was(each.activity, each.before) for each in found]
    last = "was" if any(moved) else "topic"
    table = Table(
        name("handler"), figure("runs"), figure("failed"), figure("p50"), figure("p95"), figure("last run"), text(last),
    )  # fmt: skip
    several = several_services(found)
    for each, change in zip(found, moved, strict=True):
        activity = each.activity
        table.add(title(each, service=several, retired_at=each.retired_at), pale_zero(activity.runs),
                  failed(activity.errors), took(activity.p50_ms), took(activity.p95_ms), _last_run(each, at),
                  Text(change if any(moved) else one_line(each.topic), style=PALE))  # fmt: skip
    yield table
    yield from _notes(len(found), kept, moved, words, limit, "handlers")


def _jobs_view(
    found: Sequence[JobSummary], kept: Cover, at: Instant, words: str, limit: int
) -> Iterator[str | Text | Table]:
    if not found:
        yield f"No job is registered here. {START_HINT}"
        return
    moved = [was(each.activity, each.before) for each in found]
    last = [text("was")] if any(moved) else []
    table = Table(
        name("job"), text("trigger"), figure("runs"), figure("failed"), figure("p50"), figure("p95"),
        figure("last run"), figure("next run"), *last,
    )  # fmt: skip
    several = several_services(found)
    for each, change in zip(found, moved, strict=True):
        activity = each.activity
        trigger = " ".join(filter(None, (each.trigger_type, each.trigger_value)))
        cells = [Text(change, style=PALE)] if last else []
        table.add(title(each, service=several, retired_at=each.retired_at), Text(one_line(trigger), style=PALE),
                  pale_zero(activity.runs), failed(activity.errors), took(activity.p50_ms), took(activity.p95_ms),
                  _last_run(each, at), due(each.next_run_at, at), *cells)  # fmt: skip
    yield table
    yield from _notes(len(found), kept, moved, words, limit, "jobs")


def _last_run(each: HandlerSummary | JobSummary, at: Instant) -> Text:
    return Text("never", style=PALE) if each.last_run_at is None else Text(ago(each.last_run_at, at))


def _notes(found: int, kept: Cover, moved: Sequence[str], words: str, limit: int, what: str) -> Iterator[Text]:
    before = "; was: in as long a time before, where it moved" if any(moved) else ""
    yield Text(f"Runs {words or 'of all time'}{before}.", style=PALE)
    yield from coverage(kept)
    if found == limit:
        yield Text(f"These are the first {count(limit)} {what}: --limit shows more.", style=PALE)
