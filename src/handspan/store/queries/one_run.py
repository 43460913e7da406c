"""One run, whole: what it was, what it said, what triggered it, what it triggered, its process, its neighbours, its
registration's habit."""

import json
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from whenever import Instant

from handspan.clock import to_epoch, to_ns
from handspan.store.histogram import Histogram, decode, percentile
from handspan.store.queries.logs import LogPage, run_logs
from handspan.store.queries.moments import InFlight
from handspan.store.queries.runs import RunRow, runs_by_id
from handspan.store.queries.sessions import SessionSummary, list_sessions
from handspan.store.queries.shapes import Window, instant
from handspan.store.queries.triggers import Origin, Triggered, consequences, origin
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["Habit", "InFlightDetail", "RunDetail", "in_flight_detail", "run_detail"]

_SQL: Final = statements("queries/one_run.sql")

DAY: Final = 86_400
HABIT_DAYS: Final = 7


@dataclass(frozen=True)
class Habit:
    """What the registration's runs were like in the days up to this one's; percentiles at most 5 % off."""

    days: int
    runs: int
    errors: int
    p50_ms: float
    p95_ms: float


@dataclass(frozen=True)
class RunDetail:
    """A finished run."""

    run: RunRow
    registration_id: int
    handler_method: str
    source_location: str | None
    retired_at: Instant | None
    queue_ms: float | None
    """From publication to start."""
    scheduled_at: Instant | None
    delay_ms: float | None
    """From when it was due to its start."""
    error_traceback: str | None
    error_group_id: int | None
    parent_span_id: str | None
    link_trace_id: str | None
    link_span_id: str | None
    attributes: dict[str, Any]
    extra: dict[str, Any]
    """Events, further links, trace state, flags: as OpenTelemetry has them."""
    session: SessionSummary | None
    triggered_by: Origin | None
    triggered: list[Triggered]
    logs: LogPage
    before: RunRow | None
    """The registration's run before this one."""
    after: RunRow | None
    habit: Habit | None


@dataclass(frozen=True)
class InFlightDetail:
    """A run that has not ended."""

    run: InFlight
    session: SessionSummary | None
    triggered_by: Origin | None
    triggered: list[Triggered]
    logs: LogPage
    habit: Habit | None


async def run_detail(db: DatabaseService, run: RunRow, now: Instant, *, log_limit: int = 50) -> RunDetail | None:
    """None if it was pruned just now."""
    rows = await db.fetch_all(_SQL[run.kind], {"id": run.id})
    if not rows:
        return None
    values = dict(rows[0])
    scheduled = instant(values.pop("scheduled_ts"))
    registration = values["registration_id"]
    before, after = await _neighbours(db, run, registration)
    return RunDetail(
        run=run,
        scheduled_at=scheduled,
        delay_ms=None if scheduled is None else (to_ns(run.started_at) - to_ns(scheduled)) / 1e6,
        retired_at=instant(values.pop("retired_at")),
        attributes=_mapping(values.pop("attributes")),
        extra=_mapping(values.pop("extra")),
        session=await _session(db, run.session_id, now),
        triggered_by=await origin(
            db, now, run.trace_id, values["parent_span_id"], (values["link_trace_id"], values["link_span_id"])
        ),
        triggered=await consequences(db, run.trace_id, run.span_id),
        logs=await run_logs(db, run.trace_id, run.span_id, limit=log_limit),
        before=before,
        after=after,
        habit=await _habit(db, run.kind, registration, run.started_at),
        **values,
    )


async def in_flight_detail(db: DatabaseService, run: InFlight, now: Instant, *, log_limit: int = 50) -> InFlightDetail:
    """What there is to say of a run before its end."""
    return InFlightDetail(
        run,
        await _session(db, run.session_id, now),
        await origin(db, now, run.trace_id, run.parent_span_id, (run.link_trace_id, run.link_span_id)),
        await consequences(db, run.trace_id, run.span_id),
        await run_logs(db, run.trace_id, run.span_id, limit=log_limit),
        await _habit(db, run.kind, run.registration_id, run.started_at),
    )


async def _neighbours(db: DatabaseService, run: RunRow, registration_id: int) -> tuple[RunRow | None, RunRow | None]:
    started = to_epoch(to_ns(run.started_at))
    params = {"registration": registration_id, "ts": started, "id": run.id}
    rows = await db.fetch_all(_SQL[f"{run.kind}_neighbours"], params)
    found = await runs_by_id(db, [(run.kind, row["id"]) for row in rows])
    place = (run.started_at, run.id)
    before = [each for each in found if (each.started_at, each.id) < place]
    after = [each for each in found if (each.started_at, each.id) > place]
    return (before[0] if before else None), (after[0] if after else None)


async def _session(db: DatabaseService, session_id: int, now: Instant) -> SessionSummary | None:
    rows = await db.fetch_all(_SQL["session_start"], {"id": session_id})
    if not rows:
        return None
    started: float = rows[0]["started_at"]
    lived_then = await list_sessions(db, now, Window(instant(started), instant(started + 1e-3)), limit=1000)
    return next((each for each in lived_then if each.id == session_id), None)


async def _habit(db: DatabaseService, kind: str, registration_id: int, started_at: Instant) -> Habit | None:
    today = int(to_epoch(to_ns(started_at)) // DAY * DAY)
    days = [today - DAY * back for back in range(HABIT_DAYS)]
    rows = await db.fetch_all(_SQL["habit"], {"days": json.dumps(days), "kind": kind, "registration": registration_id})
    return _merged(rows) if rows else None


def _merged(rows: list[sqlite3.Row]) -> Habit:
    together: Histogram = Histogram()
    for row in rows:
        together.update(decode(row["histogram"], row["runs"], row["min_ns"], row["max_ns"]))
    low, high = min(row["min_ns"] for row in rows), max(row["max_ns"] for row in rows)
    p50, p95 = (percentile(together, share, low, high) or 0.0 for share in (0.5, 0.95))
    return Habit(HABIT_DAYS, sum(row["runs"] for row in rows), sum(row["errors"] for row in rows), p50 / 1e6, p95 / 1e6)


def _mapping(text: str | None) -> dict[str, Any]:
    """Stored JSON as it is; what is none (a file from elsewhere) as text."""
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    return found if isinstance(found, dict) else {"": found}
