"""Several registrations of one name: side by side, and how to ask for one of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.text import Text
from whenever import Instant

from handspan.cli.figures import amount, count, one_line, took
from handspan.cli.output import PALE
from handspan.cli.registered import handlers_view, jobs_view
from handspan.cli.table import Table
from handspan.store.queries.cover import Cover, cover
from handspan.store.queries.page import HandlerFacts, JobFacts
from handspan.store.queries.registrations import HandlerSummary, JobSummary, list_handlers, list_jobs
from handspan.store.queries.runs import Kind
from handspan.store.queries.shapes import Window
from handspan.store.service import DatabaseService

__all__ = ["Several", "several", "several_view", "tell_apart"]

MOST = 10_000

Facts = HandlerFacts | JobFacts


@dataclass(frozen=True)
class Several:
    """What has one name."""

    kind: Kind
    facts: Sequence[Facts]
    summaries: Sequence[HandlerSummary | JobSummary]
    """Without those that were retired before the window."""
    kept: Cover


async def several(db: DatabaseService, kind: Kind, facts: Sequence[Facts], window: Window, at: Instant) -> Several:
    """Their figures, to the instant."""
    wanted = {each.id for each in facts}
    listed: Sequence[HandlerSummary | JobSummary]
    if kind == "handler":
        listed = await list_handlers(db, window, now=at, limit=MOST)
    else:
        listed = await list_jobs(db, window, now=at, limit=MOST)
    return Several(kind, facts, [each for each in listed if each.id in wanted], await cover(db, window))


def several_view(found: Several, name: str, at: Instant, words: str) -> Iterator[str | Text | Table]:
    parts = [each.activity for each in found.summaries]
    runs, errors, total = sum(p.runs for p in parts), sum(p.errors for p in parts), sum(p.total_ms for p in parts)
    yield (
        f"{amount(len(found.facts), found.kind)} are called {one_line(name)}: together {amount(runs, 'run')} {words}, "
        f"{count(errors)} failed, {took(total)} in all."
    )
    yield ""
    if isinstance(found.facts[0], HandlerFacts):
        handlers = [each for each in found.summaries if isinstance(each, HandlerSummary)]
        yield from handlers_view(handlers, found.kept, at, words, MOST, filtered=True)
    else:
        jobs = [each for each in found.summaries if isinstance(each, JobSummary)]
        yield from jobs_view(jobs, found.kept, at, words, MOST, filtered=True)
    yield Text(f"{tell_apart(found.facts)}: its page tells more.", style=PALE)


def tell_apart(which: Sequence[Facts]) -> str:
    """The options that tell these apart."""
    options: dict[str, set[object]] = {
        "app.name": {each.app_key for each in which},
        "--service NAME": {each.service for each in which},
        "--instance N": {each.instance_index for each in which},
        "--topic TOPIC": {getattr(each, "topic", None) for each in which},
    }
    telling = [option for option, values in options.items() if len(values) > 1]
    return f"Say which: {' or '.join(telling)}" if telling else "Leave the options out"
