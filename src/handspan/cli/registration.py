"""``handler NAME`` and ``job NAME``: the whole story of one registration."""

import re
from collections.abc import Sequence
from typing import Annotated, Final

import typer
from rich.console import Console

from handspan.cli import registration_view
from handspan.cli.completion import handler_names, job_names
from handspan.cli.options import A_DAY, DEFAULT_DB, Db, Json, Limit, Since, Until, ask, now, period
from handspan.cli.output import show, show_json
from handspan.cli.run_words import unknown
from handspan.cli.several import Several, several, several_view, tell_apart
from handspan.cli.words import title
from handspan.store.queries.page import HandlerFacts, JobFacts, Page, page, registrations_named
from handspan.store.queries.registrations import known_names
from handspan.store.queries.runs import Kind
from handspan.store.service import DatabaseService

__all__ = ["handler", "job"]

LISTED: Final = 10
JSON_POINTS: Final = 96  # a day by the quarter of an hour
NAMED: Final = 5  # of several, as many as a line takes
_INSTANCE: Final = re.compile(r"(.+?)\s*#(\d+)")

Facts = HandlerFacts | JobFacts
HandlerName = Annotated[
    str, typer.Argument(metavar="NAME", help="Its name, or app.name.", autocompletion=handler_names)
]
JobName = Annotated[str, typer.Argument(metavar="NAME", help="Its name, or app.name.", autocompletion=job_names)]
Instance = Annotated[int | None, typer.Option("--instance", metavar="N", help="Which instance of its app.", min=0)]
Service = Annotated[str | None, typer.Option("--service", metavar="NAME", help="Of which service.")]
Topic = Annotated[str | None, typer.Option("--topic", metavar="TOPIC", help="If it listens to several.")]


def handler(
    name: HandlerName,
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    instance: Instance = None,
    service: Service = None,
    topic: Topic = None,
    limit: Limit = LISTED,
) -> None:
    """One handler, whole: what it hears, how it did, what failed."""
    _report("handler", name, instance, service, topic, db, json, since, until, limit)


def job(
    name: JobName,
    db: Db = DEFAULT_DB,
    json: Json = False,
    since: Since = A_DAY,
    until: Until = None,
    instance: Instance = None,
    service: Service = None,
    limit: Limit = LISTED,
) -> None:
    """One job, whole: when it runs, how it did, what was missed."""
    _report("job", name, instance, service, None, db, json, since, until, limit)


def _report(
    kind: Kind, name: str, instance: int | None, service: str | None, topic: str | None, db: str, json: bool,
    since: str, until: str | None, limit: int,
) -> None:  # fmt: skip
    at = now()
    width = Console().width

    async def question(reader: DatabaseService) -> tuple[Page | Several, str]:
        span = await period(reader, since, at, until)
        found = await _named(reader, kind, name, instance, service, topic)
        if len(found) > 1:
            return await several(reader, kind, found, span.window, at), span.words
        (which,) = found
        points = JSON_POINTS if json else registration_view.room(width)
        return await page(reader, kind, which, span.window, at, points=points, limit=limit), span.words

    found, words = ask(db, question)
    if isinstance(found, Several):
        if json:
            show_json({"since": since, "until": until, "window": found.kept.effective, f"{kind}s": found.summaries})
        else:
            show(*several_view(found, name, at, words))
    elif json:
        show_json({"since": since, "until": until, kind: found})
    else:
        show(*registration_view.page(found, at, words, width))


async def _named(
    db: DatabaseService, kind: Kind, name: str, instance: int | None, service: str | None, topic: str | None
) -> Sequence[Facts]:
    """All of that name; also by what the tables show: ``house/lights.on_motion #1``."""
    shown = _INSTANCE.fullmatch(name.strip())
    if shown:
        name, instance = shown[1], int(shown[2]) if instance is None else instance
    named: Sequence[Facts] = await registrations_named(db, kind, name.strip())
    if not named:
        raise unknown(kind, name, await known_names(db, kind), "'NAME'")
    found = [
        each
        for each in named
        if instance in (None, each.instance_index)
        and service in (None, each.service)
        and topic in (None, getattr(each, "topic", None))
    ]
    found = [each for each in found if each.retired_at is None] or found
    if found:
        return found
    there = ", ".join(title(each, service=True).plain for each in named[:NAMED])
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    what = f"no {kind} {name!r} is like that; there are"
    raise typer.BadParameter(f"{what}: {there}{more}. {tell_apart(named)}", param_hint="'NAME'")
