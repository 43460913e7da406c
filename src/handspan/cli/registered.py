"""``handlers`` and ``jobs``: what is registered, what it did, and what it did before."""

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Annotated, Final, TypeVar, get_args

import typer
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, count, one_line, took
from handspan.cli.figures import until as due
from handspan.cli.options import A_DAY, DEFAULT_DB, App, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import PALE, failed, pale_zero, show, show_json
from handspan.cli.table import Table, figure, qualified, text
from handspan.cli.views import START_HINT
from handspan.cli.words import coverage, several_services, title, was
from handspan.store.queries.cover import Cover, cover
from handspan.store.queries.figures import Figures
from handspan.store.queries.registrations import HandlerSummary, JobSummary, Sort, list_handlers, list_jobs
from handspan.store.queries.shapes import Window
from handspan.store.service import DatabaseService

__all__ = ["handlers", "handlers_view", "jobs", "jobs_view"]

LISTED: Final = 200
MOST: Final = 10_000  # registrations a filter looks through


class Order(StrEnum):
    """What a list begins with."""

    NAME = "name"
    RUNS = "runs"
    FAILED = "failed"
    P95 = "p95"
    LAST = "last"
    P99 = "p99"
    LONGEST = "longest"
    TOTAL = "total"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    DEPENDENCY = "dependency"
    INTERRUPTED = "interrupted"
    LATE = "late"


class Only(StrEnum):
    """Which of them."""

    FAILED = "failed"
    SILENT = "silent"
    NEVER = "never"
    NEW = "new"
    RETIRED = "retired"


_SORTS: Final[dict[Order, Sort]] = dict(zip(Order, get_args(Sort), strict=True))
By = Annotated[Order, typer.Option("--sort", help="Most of it first; it has a column then.")]
Name = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Only these: name or app.name, * and ?.")]
Some = Annotated[
    Only | None,
    typer.Option(
        "--only", help="Those that failed in the time, did not run in it, never ran, are new in it, or retired in it."
    ),
]

_COLUMNS: Final[dict[Order, Callable[[Figures], str | Text]]] = {
    Order.P99: lambda of: took(of.p99_ms),
    Order.LONGEST: lambda of: took(of.max_ms),
    Order.TOTAL: lambda of: took(of.total_ms) if of.runs else "-",
    Order.CANCELLED: lambda of: pale_zero(of.cancelled),
    Order.TIMEOUT: lambda of: failed(of.timeouts),
    Order.DEPENDENCY: lambda of: failed(of.dependency_failures),
    Order.INTERRUPTED: lambda of: failed(of.interrupted),
    Order.LATE: lambda of: failed(of.late),
}
"""What a list is sorted by stands in p50's place."""

_Registered = TypeVar("_Registered", HandlerSummary, JobSummary)


def handlers(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    app: App = None,
    which: Name = None,
    only: Some = None,
    sort: By = Order.NAME,
    limit: Limit = LISTED,
) -> None:
    """Each handler: runs, failures and latency, now and before."""
    at = now()

    async def question(service: DatabaseService) -> tuple[list[HandlerSummary], Cover, str]:
        span = await period(service, since, at, until)
        kept = await cover(service, span.window)
        most = limit + 1 if which is None and only is None else MOST
        found = await list_handlers(service, span.window, now=at, app=app, sort=_SORTS[sort], limit=most)
        return _chosen(found, which, only, span.window), kept, span.words

    found, kept, words = ask(db, question, app=app)
    if json:
        show_json(
            {
                "since": since,
                "until": until,
                "window": kept.effective,
                "handlers": found[:limit],
                "more": len(found) > limit,
            }
        )
    else:
        show(*handlers_view(found, kept, at, words, limit, sort, filtered=bool(which or only or app)))


def jobs(
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    app: App = None,
    which: Name = None,
    only: Some = None,
    sort: By = Order.NAME,
    limit: Limit = LISTED,
) -> None:
    """Each job: runs, failures and latency, now and before."""
    at = now()

    async def question(service: DatabaseService) -> tuple[list[JobSummary], Cover, str]:
        span = await period(service, since, at, until)
        kept = await cover(service, span.window)
        most = limit + 1 if which is None and only is None else MOST
        found = await list_jobs(service, span.window, now=at, app=app, sort=_SORTS[sort], limit=most)
        return _chosen(found, which, only, span.window), kept, span.words

    found, kept, words = ask(db, question, app=app)
    if json:
        show_json(
            {
                "since": since,
                "until": until,
                "window": kept.effective,
                "jobs": found[:limit],
                "more": len(found) > limit,
            }
        )
    else:
        show(*jobs_view(found, kept, at, words, limit, sort, filtered=bool(which or only or app)))


def handlers_view(
    found: Sequence[HandlerSummary],
    kept: Cover,
    at: Instant,
    words: str,
    limit: int,
    sort: Order = Order.NAME,
    *,
    filtered: bool = False,
) -> Iterator[str | Text | Table]:
    if not found:
        yield _none("handler", words, filtered)
        return
    second, value = _column(sort)
    every, found = len(found), found[:limit]
    moved = _moved(found)
    last = "was" if any(moved) else "topic"
    table = Table(
        qualified("handler"), figure("runs"), figure("failed"), figure(second), figure("p95"), figure("last run"),
        text(last),
    )  # fmt: skip
    several = several_services(found)
    for each, change in zip(found, moved, strict=True):
        activity = each.activity
        table.add(title(each, service=several, retired_at=each.retired_at), pale_zero(activity.runs),
                  failed(activity.errors), value(activity), took(activity.p95_ms), _last_run(each, at),
                  Text(change if any(moved) else one_line(each.topic), style=PALE))  # fmt: skip
    yield table
    yield from _notes(every, kept, moved, words, limit, "handlers")


def jobs_view(
    found: Sequence[JobSummary],
    kept: Cover,
    at: Instant,
    words: str,
    limit: int,
    sort: Order = Order.NAME,
    *,
    filtered: bool = False,
) -> Iterator[str | Text | Table]:
    if not found:
        yield _none("job", words, filtered)
        return
    second, value = _column(sort)
    every, found = len(found), found[:limit]
    moved = _moved(found)
    last = [text("was")] if any(moved) else []
    trigger = [] if last else [text("trigger")]  # its page has it, and names need the room
    table = Table(
        qualified("job"), *trigger, figure("runs"), figure("failed"), figure(second), figure("p95"),
        figure("last run"), figure("next run"), *last,
    )  # fmt: skip
    several = several_services(found)
    for each, change in zip(found, moved, strict=True):
        activity = each.activity
        when = " ".join(filter(None, (each.trigger_type, each.trigger_value)))
        told = [Text(one_line(when), style=PALE)] if trigger else []
        cells = [Text(change, style=PALE)] if last else []
        table.add(title(each, service=several, retired_at=each.retired_at), *told,
                  pale_zero(activity.runs), failed(activity.errors), value(activity), took(activity.p95_ms),
                  _last_run(each, at), due(each.next_run_at, at), *cells)  # fmt: skip
    yield table
    yield from _notes(every, kept, moved, words, limit, "jobs")


def _moved(found: Sequence[HandlerSummary] | Sequence[JobSummary]) -> list[str]:
    """Nothing where nothing ran before: that all of it is new is no news of one."""
    ran = any(each.before is not None and each.before.runs for each in found)
    return [was(each.activity, each.before) if ran else "" for each in found]


def _column(sort: Order) -> tuple[str, Callable[[Figures], str | Text]]:
    return (sort.value, _COLUMNS[sort]) if sort in _COLUMNS else ("p50", lambda of: took(of.p50_ms))


def _chosen(found: list[_Registered], which: str | None, only: Only | None, window: Window) -> list[_Registered]:
    if which is not None:
        found = [
            each for each in found if fnmatchcase(each.name, which) or fnmatchcase(f"{each.app_key}.{each.name}", which)
        ]
    return found if only is None else [each for each in found if _is(each, only, window)]


def _is(each: HandlerSummary | JobSummary, only: Only, window: Window) -> bool:
    if only is Only.FAILED:
        return each.activity.errors > 0
    if only is Only.SILENT:
        return not each.activity.runs
    if only is Only.NEVER:
        return each.last_run_at is None
    moment = each.first_registered_at if only is Only.NEW else each.retired_at
    if moment is None:
        return False
    return (window.since is None or moment >= window.since) and (window.until is None or moment < window.until)


def _none(what: str, words: str, filtered: bool) -> str:
    if filtered:
        return f"No {what} is like that {words}".rstrip() + ". Fewer filters show more."
    return f"No {what} is registered here. {START_HINT}"


def _last_run(each: HandlerSummary | JobSummary, at: Instant) -> Text:
    return Text("never", style=PALE) if each.last_run_at is None else Text(ago(each.last_run_at, at))


def _notes(found: int, kept: Cover, moved: Sequence[str], words: str, limit: int, what: str) -> Iterator[Text]:
    before = "; was: in as long a time before, where it moved" if any(moved) else ""
    yield Text(f"Runs {words or 'of all time'}{before}.", style=PALE)
    yield from coverage(kept)
    if found > limit:
        yield Text(f"These are the first {count(limit)} {what}: --limit shows more.", style=PALE)
