"""Schedule accountability: what each job and handler did in a window beside what it did not, and why."""

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from whenever import Instant

from handspan.clock import to_ns
from handspan.reasons import reason_words
from handspan.store.liveness import is_alive
from handspan.store.queries.figures import NOTHING, Figures, Which, by_registration
from handspan.store.queries.registrations import last_days
from handspan.store.queries.runs import Kind
from handspan.store.queries.sessions import live_sessions
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = [
    "DELAY_SAMPLE",
    "OVERDUE_GRACE",
    "HandlerRefusals",
    "JobSchedule",
    "SkipCount",
    "job_schedules",
    "overdue_s",
    "refusals",
    "skips_by_registration",
    "skips_of",
]

_SQL: Final = statements("queries/schedule.sql")

DELAY_SAMPLE: Final = 100  # newest runs of a job that the p95 of its delay comes from: then the 95th of them
OVERDUE_GRACE: Final = 60.0  # seconds: a new next run is written two seconds after the run began, or after a lock


@dataclass(frozen=True)
class SkipCount:
    """How often something did not run for one reason."""

    reason: str
    words: str
    """``340 refused by its predicate``: what stands after the count."""
    count: int
    first_at: Instant
    last_at: Instant


@dataclass(frozen=True)
class JobSchedule:
    """One job: what ran, how late, and what did not run."""

    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    trigger_type: str | None
    trigger_value: str | None
    registered_at: Instant
    """The last time."""
    retired_at: Instant | None
    held: bool
    """By a session that lives: somebody is to run it."""
    runs: int
    late: int
    """Of the runs, those that began more than five seconds after they were due."""
    max_delay_ms: float | None
    """None where no run said when it was due."""
    sampled: int
    """How many of the newest runs the next figure comes from."""
    p95_delay_ms: float | None
    skips: list[SkipCount]
    """What did not run, most first."""
    last_run_at: Instant | None
    """Ever, not only in the window; to the day, where its row was pruned."""
    never_ran: bool
    """No run of it was ever recorded."""
    next_run_at: Instant | None
    overdue_s: float | None
    """Seconds its next run is overdue by, in a process that lives and writes; None if it is not."""


@dataclass(frozen=True)
class HandlerRefusals:
    """One handler: how often it ran, and how often an event did not get to it."""

    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    topic: str
    predicate_description: str | None
    retired_at: Instant | None
    runs: int
    skips: list[SkipCount]


async def job_schedules(
    db: DatabaseService,
    window: Window,
    now: Instant,
    *,
    app: str | None = None,
    job_id: int | None = None,
    limit: int = 200,
    alive: Callable[[str, str], bool] = is_alive,
) -> list[JobSchedule]:
    """By app and name. What was retired before the window is left out."""
    params = {**window.params(), "app": app, "id": job_id, "limit": limit, "sample": DELAY_SAMPLE}
    rows = [dict(row) for row in await db.fetch_all(_SQL["job_schedules"], params)]
    ran = await by_registration(db, window, Which("job", job_id, app=app), percentiles=False)
    skipped = await skips_by_registration(db, "job", window, job_id)
    live = {each.id: each.last_heartbeat_at for each in await live_sessions(db, now, alive=alive)}
    if any(row["last_run_ts"] is None for row in rows):
        days = await last_days(db, "job")
        rows = [row | {"last_run_ts": row["last_run_ts"] or days.get(row["id"])} for row in rows]
    return [_job(row, ran.get(("job", row["id"]), NOTHING), skipped, live, now) for row in rows]


async def refusals(
    db: DatabaseService,
    window: Window,
    *,
    app: str | None = None,
    listener_id: int | None = None,
    limit: int = 200,
) -> list[HandlerRefusals]:
    """By app and name, likewise; also those nothing was refused to."""
    params = {**window.params(), "app": app, "id": listener_id, "limit": limit}
    ran = await by_registration(db, window, Which("handler", listener_id, app=app), percentiles=False)
    skipped = await skips_by_registration(db, "handler", window, listener_id)
    return [
        HandlerRefusals(
            **{**dict(row), "retired_at": instant(row["retired_at"])},
            runs=ran.get(("handler", row["id"]), NOTHING).runs,
            skips=skipped[row["id"]],
        )
        for row in await db.fetch_all(_SQL["listeners"], params)
    ]


async def skips_of(db: DatabaseService, kind: Kind, registration_id: int, window: Window) -> list[SkipCount]:
    """One registration's, most first."""
    return (await skips_by_registration(db, kind, window, registration_id))[registration_id]


async def skips_by_registration(
    db: DatabaseService, kind: Kind, window: Window, registration_id: int | None = None
) -> defaultdict[int, list[SkipCount]]:
    """Of everyone, or of one."""
    found: defaultdict[int, list[SkipCount]] = defaultdict(list)
    params = {**window.params(), "kind": kind, "id": registration_id}
    for row in await db.fetch_all(_SQL["skips_by_registration"], params):
        found[row["registration_id"]].append(_skip_count(row))
    return found


def overdue_s(next_run_at: Instant | None, now: Instant, last_heartbeat_at: Instant | None) -> float | None:
    """By how long, if the process has written something since then and still not begun it. What a process that is
    dead, or cannot write, would say of its schedule is not known."""
    if next_run_at is None or last_heartbeat_at is None:
        return None
    late = (to_ns(now) - to_ns(next_run_at)) / 1e9
    told = (to_ns(last_heartbeat_at) - to_ns(next_run_at)) / 1e9
    return late if late > OVERDUE_GRACE < told else None


def _skip_count(row: sqlite3.Row) -> SkipCount:
    reason = row["reason"]
    return SkipCount(reason, reason_words(reason), row["count"], instant(row["first_at"]), instant(row["last_at"]))


def _job(
    row: dict[str, Any],
    ran: Figures,
    skipped: defaultdict[int, list[SkipCount]],
    live: dict[int, Instant],
    now: Instant,
) -> JobSchedule:
    delays: list[float] = sorted(json.loads(row.pop("delays")))
    heartbeats = [live[each] for each in json.loads(row.pop("holders")) if each in live]
    last_run, next_run = instant(row.pop("last_run_ts")), instant(row.pop("next_run_ts"))
    return JobSchedule(
        registered_at=instant(row.pop("last_registered_at")),
        retired_at=instant(row.pop("retired_at")),
        held=bool(heartbeats),
        runs=ran.runs,
        late=ran.late,
        max_delay_ms=ran.max_delay_ms,
        sampled=len(delays),
        p95_delay_ms=delays[math.ceil(len(delays) * 0.95) - 1] if delays else None,
        skips=skipped[row["id"]],
        last_run_at=last_run,
        never_ran=last_run is None,
        next_run_at=next_run,
        overdue_s=overdue_s(next_run, now, max(heartbeats, default=None)),
        **row,
    )
