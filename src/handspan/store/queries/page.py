"""One handler or job: everything there is to know of it, in a window."""

import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from whenever import Instant

from handspan.store.queries.error_groups import Failure, groups_of
from handspan.store.queries.records import HandlerInvocationRecord, JobExecutionRecord
from handspan.store.queries.runs import Kind, last_executions, last_invocations
from handspan.store.queries.schedule import SkipCount, skips_of
from handspan.store.queries.series import Series, registration_series
from handspan.store.queries.shapes import Window, instant
from handspan.store.queries.streaks import Streak, streak
from handspan.store.queries.tallies import Tally, before, tally
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["HandlerFacts", "JobFacts", "Page", "page", "registrations_named"]

_SQL: Final = statements("queries/page.sql")

MOST_NAMED: Final = 200  # instances of one name


@dataclass(frozen=True)
class HandlerFacts:
    """A listener, as it was registered."""

    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    topic: str
    handler_method: str
    debounce: float | None
    throttle: float | None
    once: bool
    priority: int
    predicate_description: str | None
    source_location: str | None
    registration_source: str | None
    code_function: str | None
    first_registered_at: Instant
    last_registered_at: Instant
    retired_at: Instant | None


@dataclass(frozen=True)
class JobFacts:
    """A job, likewise."""

    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    trigger_type: str | None
    trigger_value: str | None
    handler_method: str
    repeat: bool
    args_json: str
    kwargs_json: str
    source_location: str | None
    registration_source: str | None
    code_function: str | None
    first_registered_at: Instant
    last_registered_at: Instant
    retired_at: Instant | None
    next_run_at: Instant | None


@dataclass(frozen=True)
class Page:
    """The story of one registration."""

    kind: Kind
    registration: HandlerFacts | JobFacts
    figures: Tally
    before: Tally
    """As long, and right before."""
    series: Series
    runs: list[HandlerInvocationRecord] | list[JobExecutionRecord]
    """The newest of the window."""
    more_runs: bool
    last_run_at: Instant | None
    """When the newest before the window's end began, also if that was before the window."""
    errors: list[Failure]
    skips: list[SkipCount]
    """What of it did not run, most first."""
    running: int
    """Now."""
    running_since: Instant | None
    streak: Streak
    """Whether it still failed at the window's end."""


async def registrations_named(db: DatabaseService, kind: Kind, name: str) -> list[HandlerFacts] | list[JobFacts]:
    """By ``name``, ``app.name`` or ``service/app.name``; those that live first."""
    rows = await db.fetch_all(_SQL[f"{kind}_named"], {"name": name, "limit": MOST_NAMED})
    if kind == "handler":
        return [HandlerFacts(**_facts(row)) for row in rows]
    return [JobFacts(**_facts(row)) for row in rows]


async def page(
    db: DatabaseService,
    kind: Kind,
    registration: HandlerFacts | JobFacts,
    window: Window,
    at: Instant,
    *,
    points: int = 48,
    limit: int = 10,
) -> Page:
    """Point seeks throughout: it costs the same at any size of the file."""
    figures = await tally(db, kind, registration.id, window, at)
    newest = last_invocations if kind == "handler" else last_executions
    runs = await newest(db, registration.id, window, limit=limit + 1)
    last = runs or await newest(db, registration.id, Window(until=window.until), limit=1)
    running = await db.fetch_one(_SQL[f"{kind}_running"], {"id": registration.id})
    return Page(
        kind=kind, registration=registration, figures=figures,
        before=await tally(db, kind, registration.id, before(figures), at),
        series=await registration_series(db, kind, registration.id, window, at, points=points),
        runs=runs[:limit], more_runs=len(runs) > limit,
        last_run_at=last[0].execution_start_ts if last else None,
        errors=await groups_of(db, kind, registration.id, window, limit=limit),
        skips=await skips_of(db, kind, registration.id, window),
        running=running["running"], running_since=instant(running["since"]),
        streak=await streak(db, kind, registration.id, min(window.until or at, at)),
    )  # fmt: skip


def _facts(row: sqlite3.Row) -> dict[str, Any]:
    values = dict(row)
    for key, value in values.items():
        if key.endswith("_at"):
            values[key] = instant(value)
        elif key in ("once", "repeat"):
            values[key] = bool(value)
    return values
