"""The runtime's scheduler on the house's time.

APScheduler's triggers say when; its clockwork, which lives by the machine's clock, is replaced by one that lives
by the house's. What a run is, and everything else, is :class:`handspan.runtime.Scheduler`'s.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from handspan.demo.clock import DATE, HouseClock
from handspan.records import DueBetween
from handspan.runtime import Host, Scheduler
from handspan.runtime.clockwork import apscheduler

__all__ = ["HouseScheduler"]


@dataclass
class _Due:
    """A job on the clockwork. The names are APScheduler's."""

    id: str
    trigger: Any
    next: datetime
    """In the house's time."""
    next_run_time: datetime | None
    """In ours; None if nobody can tell."""
    running: bool = False


class _Clockwork:
    """The part of APScheduler's ``AsyncIOScheduler`` that :class:`Scheduler` uses."""

    def __init__(
        self,
        clock: HouseClock,
        submit: Callable[[str, list[datetime], Callable[[], None]], None],
        tell: Callable[[Any], None],
    ) -> None:
        self._clock, self._submit, self._tell = clock, submit, tell
        self._events = apscheduler().events
        self._jobs: dict[str, _Due] = {}
        self.running = False

    def start(self) -> None:
        self.running = True

    def shutdown(self, *, wait: bool) -> None:  # noqa: ARG002 - APScheduler's parameter
        self.running = False

    def add_job(self, _call: object, trigger: Any, *, id: str, name: str) -> None:  # noqa: A002, ARG002 - likewise
        self._plan(id, trigger, trigger.get_next_fire_time(None, self._clock.now()))
        self._noticed(self._events.EVENT_JOB_ADDED, id)

    def remove_job(self, job_id: str) -> None:
        del self._jobs[job_id]

    def get_job(self, job_id: str) -> _Due | None:
        return self._jobs.get(job_id)

    def _plan(self, job_id: str, trigger: Any, moment: datetime) -> None:
        job = self._jobs.setdefault(job_id, _Due(job_id, trigger, moment, None))
        job.next, job.next_run_time = moment, self._clock.real(moment)
        self._clock.call_at((moment - DATE).total_seconds(), lambda: self._fire(job))

    def _fire(self, job: _Due) -> None:
        if not self.running or self._jobs.get(job.id) is not job:
            return
        moment = self._clock.real(job.next) or datetime.now(UTC)
        following = job.trigger.get_next_fire_time(job.next, self._clock.now())
        if following is None:
            del self._jobs[job.id]
        else:
            self._plan(job.id, job.trigger, following)
        if job.running:
            self._noticed(self._events.EVENT_JOB_MAX_INSTANCES, job.id, moment)
            return
        job.running = True
        self._submit(job.id, [moment], lambda: setattr(job, "running", False))
        self._noticed(self._events.EVENT_JOB_SUBMITTED, job.id)

    def _noticed(self, code: int, job_id: str, *moments: datetime) -> None:
        self._tell(SimpleNamespace(code=code, job_id=job_id, scheduled_run_times=moments))


class HouseScheduler(Scheduler):
    """``run_daily("06:30")`` is half past six in the house."""

    def __init__(self, host: Host, clock: HouseClock) -> None:
        super().__init__(host, timezone=UTC)
        self._clock = clock
        self._clockwork = _Clockwork(clock, self._submit, self._noticed)

    def now(self) -> datetime:
        return self._clock.now()

    @staticmethod
    def _due_between(_trigger: Any, _kind: str | None) -> DueBetween | None:
        """Between two demos nothing falls due: the house has one day."""
        return lambda _first, _until: ()
