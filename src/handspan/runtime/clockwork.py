"""APScheduler 3.11, the only place that imports it: when a scheduler is made, not before."""

import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

from whenever import Instant

from handspan.errors import HandspanError
from handspan.records import DueBetween
from handspan.runtime.moments import to_datetime, to_instant

__all__ = ["APScheduler", "apscheduler", "due", "due_between"]


class APScheduler:
    """The names taken from APScheduler, imported when the first scheduler is made."""

    def __init__(self) -> None:
        from apscheduler import events
        from apscheduler.executors.base import BaseExecutor
        from apscheduler.schedulers.asyncio import AsyncIOScheduler
        from apscheduler.triggers.combining import OrTrigger
        from apscheduler.triggers.cron import CronTrigger
        from apscheduler.triggers.date import DateTrigger
        from apscheduler.triggers.interval import IntervalTrigger

        class Executor(BaseExecutor):  # type: ignore[misc]  # no types
            """Hands over what is due, with the moments: APScheduler's own executors keep those to themselves."""

            def __init__(self, submit: Callable[[str, list[datetime], Callable[[], None]], None]) -> None:
                super().__init__()
                self._submit = submit

            def _do_submit_job(self, job: Any, run_times: list[datetime]) -> None:
                self._submit(job.id, run_times, lambda: self._run_job_success(job.id, []))

        self.events = events
        self.executor = Executor
        self.AsyncIOScheduler = AsyncIOScheduler
        self.OrTrigger = OrTrigger
        self.CronTrigger = CronTrigger
        self.DateTrigger = DateTrigger
        self.IntervalTrigger = IntervalTrigger


@functools.cache
def apscheduler() -> APScheduler:
    try:
        return APScheduler()
    except ImportError as error:
        raise HandspanError("The scheduler needs APScheduler.", hint='pip install "handspan[scheduler]"') from error


def due() -> None:
    """What APScheduler believes it runs."""


def due_between(trigger: Any, kind: str | None) -> DueBetween | None:
    """The moments of a cron trigger from one of them on; an interval's length, and one moment, tell by themselves."""

    def moments(first: Instant, until: Instant) -> Iterator[Instant]:
        moment: datetime | None = to_datetime(first, UTC)
        end = to_datetime(until, UTC)
        while moment is not None and moment <= end:
            yield to_instant(moment)
            moment = trigger.get_next_fire_time(moment, moment)

    return moments if kind == "cron" else None
