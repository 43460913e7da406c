"""Listeners and jobs: what is registered, and what each did in a window."""

import sqlite3
from dataclasses import dataclass, fields
from typing import Any, Final

from whenever import Instant

from handspan.store.queries.runs import Kind
from handspan.store.queries.shapes import ALL_TIME, Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = [
    "SAMPLE",
    "Activity",
    "HandlerSummary",
    "JobSummary",
    "LastError",
    "Totals",
    "known_names",
    "list_handlers",
    "list_jobs",
    "registration_totals",
]

_SQL: Final = statements("queries/registrations.sql")

SAMPLE: Final = 100  # newest runs the percentiles of a list come from: p95 is then the 95th of them


@dataclass(frozen=True)
class Activity:
    """What one registration did in the window."""

    runs: int
    errors: int
    """``dependency_failures``, ``timeouts`` and ``interrupted`` are among them."""
    cancelled: int
    dependency_failures: int
    timeouts: int
    interrupted: int
    sampled: int
    """How many of the newest runs the percentiles come from."""
    p50_ms: float | None
    p95_ms: float | None


@dataclass(frozen=True)
class HandlerSummary:
    """A listener and its activity."""

    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    topic: str
    source_location: str | None
    retired_at: Instant | None
    last_run_at: Instant | None
    """Ever, not only in the window."""
    activity: Activity


@dataclass(frozen=True)
class JobSummary:
    """A job and its activity."""

    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    trigger_type: str | None
    trigger_value: str | None
    args_json: str
    kwargs_json: str
    source_location: str | None
    retired_at: Instant | None
    next_run_at: Instant | None
    last_run_at: Instant | None
    activity: Activity


@dataclass(frozen=True)
class LastError:
    """The newest error of one registration."""

    started_at: Instant
    error_type: str | None
    error_message: str | None


@dataclass(frozen=True)
class Totals:
    """One registration's figures over a window, from its raw rows."""

    runs: int
    successes: int
    errors: int
    cancelled: int
    dependency_failures: int
    timeouts: int
    interrupted: int
    total_ms: float
    avg_ms: float | None
    min_ms: float | None
    max_ms: float | None
    last_run_at: Instant | None
    last_error: LastError | None


async def list_handlers(
    db: DatabaseService, window: Window, *, app: str | None = None, limit: int = 200
) -> list[HandlerSummary]:
    """By app and name. What was retired before the window is left out."""
    rows = await db.fetch_all(_SQL["handlers"], {**window.params(), "app": app, "limit": limit, "sample": SAMPLE})
    return [HandlerSummary(**_summary(row)) for row in rows]


async def list_jobs(
    db: DatabaseService, window: Window, *, app: str | None = None, limit: int = 200
) -> list[JobSummary]:
    """By app and name, likewise."""
    rows = await db.fetch_all(_SQL["jobs"], {**window.params(), "app": app, "limit": limit, "sample": SAMPLE})
    return [JobSummary(**_summary(row)) for row in rows]


async def registration_totals(
    db: DatabaseService, kind: Kind, registration_id: int, window: Window = ALL_TIME
) -> Totals:
    """Reads every raw row of the registration in the window: half a microsecond each."""
    params = {**window.params(), "id": registration_id}
    totals = dict(await db.fetch_one(_SQL[f"{kind}_totals"], params))
    last_error = None
    if totals["errors"]:
        row = await db.fetch_one(_SQL[f"{kind}_last_error"], params)
        last_error = LastError(instant(row["execution_start_ts"]), row["error_type"], row["error_message"])
    return Totals(last_run_at=instant(totals.pop("last_run_ts")), last_error=last_error, **totals)


async def known_names(db: DatabaseService, kind: Kind, *, limit: int = 1000) -> list[str]:
    """``app_key.name`` of what is registered."""
    rows = await db.fetch_all(_SQL[f"{kind}_names"], {"limit": limit})
    return [f"{row['app_key']}.{row['name']}" for row in rows]


_ACTIVITY: Final = frozenset(field.name for field in fields(Activity))
_INSTANTS: Final = {"retired_at": "retired_at", "last_run_ts": "last_run_at", "next_run_ts": "next_run_at"}


def _summary(row: sqlite3.Row) -> dict[str, Any]:
    """A row as the fields of a summary: times as instants, the figures as its activity."""
    values = dict(row)
    activity = Activity(**{name: values.pop(name) for name in _ACTIVITY})
    times = {field: instant(values.pop(column)) for column, field in _INSTANTS.items() if column in values}
    return {**values, **times, "activity": activity}
