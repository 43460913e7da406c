"""Every job's schedule with its figures to the instant.

:func:`handspan.store.queries.schedule.job_schedules` counts whole buckets, which may begin a day before the window:
enough for a habit, and not what a person who named two moments asked for.
"""

from collections.abc import Callable
from dataclasses import replace

from whenever import Instant

from handspan.store.liveness import is_alive
from handspan.store.queries.figures import NOTHING, Which, by_registration
from handspan.store.queries.schedule import JobSchedule, job_schedules
from handspan.store.queries.shapes import Window
from handspan.store.service import DatabaseService

__all__ = ["punctuality"]


async def punctuality(
    db: DatabaseService,
    window: Window,
    now: Instant,
    *,
    app: str | None = None,
    limit: int = 200,
    alive: Callable[[str, str], bool] = is_alive,
) -> list[JobSchedule]:
    """By app and name. Skips are counted by the hour: those of an hour the window cuts count whole."""
    schedules = await job_schedules(db, window, now, app=app, limit=limit, alive=alive)
    exact = await by_registration(db, window, Which("job", app=app), percentiles=False)
    found = []
    for job in schedules:
        figures = exact.get(("job", job.id), NOTHING)
        found.append(replace(job, runs=figures.runs, late=figures.late, max_delay_ms=figures.max_delay_ms))
    return found
