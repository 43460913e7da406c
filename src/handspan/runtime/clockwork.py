"""APScheduler 3.11, the only place that imports it: when a scheduler is made, not before."""

import functools
from collections.abc import Callable
from datetime import datetime
from typing import Any

from handspan.errors import HandspanError

__all__ = ["APScheduler", "apscheduler", "due"]


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
