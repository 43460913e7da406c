"""One handler or job: everything there is to know of it, in a window."""

import math
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from whenever import Instant

from handspan.store.queries.records import HandlerInvocationRecord, JobExecutionRecord
from handspan.store.queries.runs import Kind, last_executions, last_invocations
from handspan.store.queries.series import Series, registration_series
from handspan.store.queries.shapes import Window, instant
from handspan.store.queries.streaks import Streak, streak
from handspan.store.queries.tallies import Tally, before, tally
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["Failure", "HandlerFacts", "JobFacts", "Page", "Skip", "page", "registrations_named"]

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
class Failure:
    """One group of its errors."""

    id: int
    error_type: str
    message: str
    count: int
    """Ever."""
    in_window: int
    """In the hours the window touches."""
    first_seen_at: Instant
    last_seen_at: Instant


@dataclass(frozen=True)
class Skip:
    """How often it did not run, for one reason; counted by the hour."""

    reason: str
    count: int
    first_at: Instant
    last_at: Instant


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
    """The newest, whenever they were."""
    more_runs: bool
    errors: list[Failure]
    skips: list[Skip]
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
    asked = {"kind": kind, "id": registration.id}
    figures = await tally(db, kind, registration.id, window, at)
    newest = last_invocations if kind == "handler" else last_executions
    runs = await newest(db, registration.id, Window(until=window.until), limit=limit + 1)
    bounds = {
        key: min(max(value, 0.0), 2.0**53) if math.isinf(value) else value for key, value in window.params().items()
    }
    errors = await db.fetch_all(_SQL["groups"], {**asked, **bounds, "limit": limit})
    skips = await db.fetch_all(_SQL["skips"], {**asked, **bounds})
    running = await db.fetch_one(_SQL[f"{kind}_running"], {"id": registration.id})
    return Page(
        kind=kind, registration=registration, figures=figures,
        before=await tally(db, kind, registration.id, before(figures), at),
        series=await registration_series(db, kind, registration.id, window, at, points=points),
        runs=runs[:limit], more_runs=len(runs) > limit,
        errors=[Failure(**_facts(row)) for row in errors], skips=[Skip(**_facts(row)) for row in skips],
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
