"""Listeners and jobs: what is registered, and what each did in a window, beside what it did in the one before."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

import msgspec
from whenever import Instant

from handspan.clock import instant_from_ns, to_epoch, to_ns
from handspan.store.queries.figures import NOTHING, Figures, Which, by_registration, overall
from handspan.store.queries.runs import Kind
from handspan.store.queries.shapes import ALL_TIME, Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = [
    "HandlerSummary",
    "JobSummary",
    "LastError",
    "Sort",
    "Totals",
    "known_names",
    "last_days",
    "list_handlers",
    "list_jobs",
    "registration_totals",
    "window_before",
]

_SQL: Final = statements("queries/registrations.sql")

Sort = Literal[
    "name", "runs", "failed", "p95", "last", "p99", "longest", "total", "cancelled", "timeout", "dependency",
    "interrupted", "late",
]  # fmt: skip


@dataclass(frozen=True)
class LastError:
    """The newest error of one registration."""

    started_at: Instant
    error_type: str | None
    error_message: str | None


@dataclass(frozen=True)
class HandlerSummary:
    """A listener and its activity."""

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
    first_registered_at: Instant
    retired_at: Instant | None
    last_run_at: Instant | None
    """Ever, not only in the window; the beginning of its day (UTC) where its runs were pruned. None: it never ran."""
    last_error: LastError | None = None
    """Ever, likewise."""
    activity: Figures = NOTHING
    before: Figures | None = None
    """In as long a time before the window; None where the window has no beginning."""


@dataclass(frozen=True)
class JobSummary:
    """A job and its activity."""

    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    handler_method: str
    trigger_type: str | None
    trigger_value: str | None
    repeat: bool
    args_json: str
    kwargs_json: str
    source_location: str | None
    first_registered_at: Instant
    retired_at: Instant | None
    next_run_at: Instant | None
    last_run_at: Instant | None
    last_error: LastError | None = None
    activity: Figures = NOTHING
    before: Figures | None = None


@dataclass(frozen=True)
class Totals:
    """One registration's figures over a window."""

    figures: Figures
    last_run_at: Instant | None
    last_error: LastError | None
    """Both in the window; None also where the rows were pruned."""


_Summary = TypeVar("_Summary", HandlerSummary, JobSummary)


async def list_handlers(
    db: DatabaseService, window: Window, *, now: Instant | None = None, app: str | None = None, sort: Sort = "name",
    limit: int = 200,
) -> list[HandlerSummary]:  # fmt: skip
    """What was retired before the window is left out. ``now`` is where a window without an end ends: it takes that to
    know how long it is, and what was before."""
    rows = await db.fetch_all(_SQL["handlers"], {"since": window.params()["since"], "app": app})
    found = [HandlerSummary(once=bool(row["once"]), **_columns(row, "once")) for row in rows]
    return await _with_figures(db, "handler", found, window, now, sort, limit)


async def list_jobs(
    db: DatabaseService, window: Window, *, now: Instant | None = None, app: str | None = None, sort: Sort = "name",
    limit: int = 200,
) -> list[JobSummary]:  # fmt: skip
    """Likewise."""
    rows = await db.fetch_all(_SQL["jobs"], {"since": window.params()["since"], "app": app})
    found = [JobSummary(repeat=bool(row["repeat"]), **_columns(row, "repeat")) for row in rows]
    return await _with_figures(db, "job", found, window, now, sort, limit)


async def registration_totals(
    db: DatabaseService, kind: Kind, registration_id: int, window: Window = ALL_TIME
) -> Totals:
    """One registration's: a few hundred seeks, and for its last error the runs of a bucket that has one."""
    params = {**window.params(), "id": registration_id}
    figures = await overall(db, window, Which(kind, registration_id))
    last_run: float | None = (await db.fetch_one(_SQL[f"{kind}_last_run"], params))["started_at"]
    errors = []
    if figures.last_error_before is not None:
        errors = await db.fetch_all(
            _SQL[f"{kind}_last_error"], {**params, "before": to_epoch(to_ns(figures.last_error_before))}
        )
    return Totals(
        figures,
        instant(last_run),
        LastError(instant(errors[0][0]), errors[0][1], errors[0][2]) if errors else None,
    )


async def known_names(db: DatabaseService, kind: Kind, *, limit: int = 1000) -> list[str]:
    """``app_key.name`` of what is registered."""
    rows = await db.fetch_all(_SQL[f"{kind}_names"], {"limit": limit})
    return [f"{row['app_key']}.{row['name']}" for row in rows]


async def last_days(db: DatabaseService, kind: Kind) -> dict[int, float]:
    """When the day (UTC) began that each one ran last in, as far as a year tells: also where its runs were pruned."""
    return {row["registration_id"]: row["day"] for row in await db.fetch_all(_SQL["last_days"], {"kind": kind})}


def window_before(window: Window, now: Instant | None) -> Window | None:
    """As long as the window, up to its beginning; None where it has none, or no length."""
    end = window.until or now
    if window.since is None or end is None or end <= window.since:
        return None
    start = 2 * to_ns(window.since) - to_ns(end)
    return Window(instant_from_ns(max(start, 0)), window.since)


async def _with_figures(
    db: DatabaseService, kind: Kind, found: list[_Summary], window: Window, now: Instant | None, sort: Sort, limit: int
) -> list[_Summary]:
    activity = await by_registration(db, window, Which(kind))
    earlier = window_before(window, now)
    before = None if earlier is None else await by_registration(db, earlier, Which(kind))
    if any(each.last_run_at is None for each in found):
        days = await last_days(db, kind)
        found = [
            replace(each, last_run_at=instant(days.get(each.id))) if each.last_run_at is None else each
            for each in found
        ]
    found = [
        replace(
            each,
            activity=activity.get((kind, each.id), NOTHING),
            before=None if before is None else before.get((kind, each.id), NOTHING),
        )
        for each in found
    ]
    if sort != "name":  # as they come
        found.sort(key=_ORDERS[sort])  # stable: equals stay in the order of their names
    return await _with_last_errors(db, kind, found[:limit])


async def _with_last_errors(db: DatabaseService, kind: Kind, found: list[_Summary]) -> list[_Summary]:
    ids = msgspec.json.encode([each.id for each in found]).decode()
    rows = await db.fetch_all(_SQL["last_errors"], {"kind": kind, "ids": ids})
    errors = {
        row["registration_id"]: LastError(instant(row["seen_at"]), row["error_type"], row["error_message"])
        for row in rows
    }
    return [replace(each, last_error=errors.get(each.id)) for each in found]


_ORDERS: Final[dict[str, Callable[[HandlerSummary | JobSummary], Any]]] = {
    "runs": lambda each: -each.activity.runs,
    "failed": lambda each: -each.activity.errors,
    "p95": lambda each: -(each.activity.p95_ms or -1.0),
    "p99": lambda each: -(each.activity.p99_ms or -1.0),
    "longest": lambda each: -(each.activity.max_ms or -1.0),
    "total": lambda each: -each.activity.total_ms,
    "cancelled": lambda each: -each.activity.cancelled,
    "timeout": lambda each: -each.activity.timeouts,
    "dependency": lambda each: -each.activity.dependency_failures,
    "interrupted": lambda each: -each.activity.interrupted,
    "late": lambda each: -each.activity.late,
    "last": lambda each: -to_epoch(to_ns(each.last_run_at)) if each.last_run_at else 1.0,
}

_INSTANTS: Final = {
    "retired_at": "retired_at",
    "first_registered_at": "first_registered_at",
    "last_run_ts": "last_run_at",
    "next_run_ts": "next_run_at",
}


def _columns(row: sqlite3.Row, *without: str) -> dict[str, Any]:
    """A row as the fields of a summary: times as instants."""
    values: dict[str, Any] = dict(row)
    for name in without:
        del values[name]
    times = {field: instant(values.pop(column)) for column, field in _INSTANTS.items() if column in values}
    return {**values, **times}
