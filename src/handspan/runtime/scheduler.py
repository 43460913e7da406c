"""The scheduler: when jobs run, by APScheduler 3.11's triggers and clock.

APScheduler finds out *when*. What a run is, is the host's: for each moment a job is due, one task builds a
command with that moment in it and awaits the host. Choices made for every job:

* a late run still runs (a laptop that slept, a blocked loop), unless ``misfire_grace`` says how late is too late;
* runs missed in a row become one, the latest; the others are counted as missed;
* a run that is due while the previous one is still going is skipped, which is logged once per such episode.
"""

import asyncio
import contextvars
import itertools
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime, time, timedelta, tzinfo
from functools import partial
from typing import Any, Final, Self, TypedDict, Unpack

from whenever import Instant

from handspan.commands import ExecuteJob, Job
from handspan.errors import DuplicateRegistrationError, RegistrationError
from handspan.runtime.clockwork import apscheduler, due, due_between
from handspan.runtime.cron import cron_fields, daily_expression
from handspan.runtime.host import ErrorHooks, Host, hooks
from handspan.runtime.lateness import count_missed, is_too_late
from handspan.runtime.moments import Moment, Span, to_datetime, to_instant, to_timedelta, to_zone

__all__ = ["AppScheduler", "JobOptions", "Schedule", "ScheduledJob", "Scheduler"]

log = logging.getLogger(__name__)

CANCEL_GRACE: Final = 1.0
"""Seconds ``close()`` waits for cancelled jobs to end before it leaves them behind and says so."""


class JobOptions(TypedDict, total=False):
    """What every way of scheduling takes besides; each is optional."""

    name: str | None
    """Default: the callable's name. Unique within an app instance."""
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] | None
    timeout: float | None
    """Seconds a run may take."""
    on_error: ErrorHooks
    """Called with a report of each failed run."""
    misfire_grace: float | None
    """Seconds a run may be late; a later one is skipped and logged. Default: any lateness."""
    app_key: str
    """Needed where no :class:`App` gives it."""
    instance_index: int
    stacklevel: int
    """1: the registration is where the call was made; 2: where the caller of that was called."""


class ScheduledJob:
    """A job on the scheduler. ``cancel()`` ends it."""

    def __init__(
        self,
        job: Job,
        misfire_grace: float | None,
        next_run: Callable[[], Instant | None],
        on_cancel: Callable[[], None],
    ) -> None:
        self.job = job
        self.repeat = job.registration.repeat
        self.misfire_grace = misfire_grace
        self.context = contextvars.copy_context()
        """Of the call that scheduled it. Without it, runs would get that of whoever last woke APScheduler."""
        self.spent = False
        """Its only run has begun."""
        self.overrun = False
        """A run was skipped because the one before was still going; said once until one runs again."""
        self._next_run = next_run
        self._on_cancel = on_cancel

    @property
    def name(self) -> str:
        return self.job.name

    @property
    def next_run(self) -> Instant | None:
        return self._next_run()

    @property
    def cancelled(self) -> bool:
        return self.job.cancelled

    def cancel(self) -> None:
        """No more runs; its name is free. A run in progress goes on. From any thread, any number of times."""
        self._on_cancel()

    def __repr__(self) -> str:
        return f"<ScheduledJob {self.job.app_key}.{self.name}>"


class Schedule(ABC):
    """The five ways to schedule. Each returns at once; ``call`` is ``async`` or a plain function."""

    timezone: tzinfo

    def now(self) -> datetime:
        """The time it schedules by."""
        return datetime.now(self.timezone)

    def run_once(self, call: Callable[..., object], at: Moment, **options: Unpack[JobOptions]) -> ScheduledJob:
        """Run at a moment; at once if it has passed."""
        return self._add_once(call, to_datetime(at, self.timezone), options)

    def run_in(self, call: Callable[..., object], delay: Span, **options: Unpack[JobOptions]) -> ScheduledJob:
        """Run once, after a delay."""
        return self._add_once(call, self.now() + to_timedelta(delay), options)

    def run_every(
        self, call: Callable[..., object], interval: Span, *, start: Moment | None = None, **options: Unpack[JobOptions]
    ) -> ScheduledJob:
        """Run every ``interval``: first at ``start``, by default one interval from now."""
        every = to_timedelta(interval)
        if every <= timedelta(0):
            raise RegistrationError(f"An interval of {interval!r} makes no sense.", hint="Give more than 0.")
        first = self.now() + every if start is None else to_datetime(start, self.timezone)
        library = apscheduler()
        trigger = library.IntervalTrigger(seconds=every.total_seconds(), start_date=first, timezone=self.timezone)
        return self.add(call, trigger, ("interval", str(every.total_seconds())), options)

    def run_daily(
        self,
        call: Callable[..., object],
        at: str | time,
        *,
        timezone: str | tzinfo | None = None,
        **options: Unpack[JobOptions],
    ) -> ScheduledJob:
        """Run every day at a time of day: ``"07:00"``, ``"07:00:30"`` or a ``datetime.time``."""
        try:
            of_day = at if isinstance(at, time) else time.fromisoformat(at)
        except ValueError:
            raise RegistrationError(f"{at!r} is no time of day.", hint='Give one like "07:00".') from None
        zone = of_day.tzinfo if timezone is None else timezone
        return self._add_cron(call, daily_expression(of_day.hour, of_day.minute, of_day.second), zone, options)

    def run_cron(
        self,
        call: Callable[..., object],
        expression: str,
        *,
        timezone: str | tzinfo | None = None,
        **options: Unpack[JobOptions],
    ) -> ScheduledJob:
        """Run by a cron expression: minute, hour, day, month, weekday (0 and 7 are Sunday), and seconds if needed."""
        return self._add_cron(call, expression, timezone, options)

    def _add_once(self, call: Callable[..., object], at: datetime, options: JobOptions) -> ScheduledJob:
        trigger = apscheduler().DateTrigger(at, timezone=self.timezone)
        return self.add(call, trigger, (None, None), options)

    def _add_cron(
        self, call: Callable[..., object], expression: str, timezone: str | tzinfo | None, options: JobOptions
    ) -> ScheduledJob:
        zone = self.timezone if timezone is None else to_zone(timezone)
        library = apscheduler()
        try:
            triggers = [library.CronTrigger(timezone=zone, **fields) for fields in cron_fields(expression)]
        except ValueError as error:
            raise RegistrationError(f"{expression!r} is no cron expression: {error}.") from None
        trigger = triggers[0] if len(triggers) == 1 else library.OrTrigger(triggers)
        return self.add(call, trigger, ("cron", " ".join(expression.split())), options)

    @abstractmethod
    def add(
        self,
        call: Callable[..., object],
        trigger: Any,
        described: tuple[str | None, str | None],
        options: JobOptions,
    ) -> ScheduledJob:
        """What the five come down to: an APScheduler trigger, its type and value for the row, the options."""


class Scheduler(Schedule):
    """One per process, shared by its apps; ``app_key=`` is needed in its own calls.

    Runs on the event loop it is started on: by :meth:`start`, or by the first job scheduled there. Jobs can be
    scheduled and cancelled from any thread. ``timezone``: default the machine's.
    """

    _due_between = staticmethod(due_between)

    def __init__(self, host: Host, *, timezone: str | tzinfo | None = None) -> None:
        self.host = host
        library = apscheduler()
        quiet = logging.getLogger(f"{__name__}.apscheduler")
        quiet.setLevel(logging.ERROR)  # it tells of each addition and each run; what matters is said here
        self._clockwork = library.AsyncIOScheduler(
            logger=quiet,
            timezone=None if timezone is None else to_zone(timezone),
            # Not coalesced: it would keep to itself which runs became one.
            job_defaults={"misfire_grace_time": None, "coalesce": False, "max_instances": 1},
        )
        self.timezone = self._clockwork.timezone
        self._clockwork.add_executor(library.executor(self._submit))
        self._overran = library.events.EVENT_JOB_MAX_INSTANCES
        news = library.events.EVENT_JOB_ADDED | library.events.EVENT_JOB_SUBMITTED | self._overran
        self._clockwork.add_listener(self._noticed, news)
        self._jobs: dict[str, ScheduledJob] = {}
        self._ids = itertools.count(1)
        self._running: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to run jobs, on this event loop. Twice is once."""
        if not self._clockwork.running:
            asyncio.get_running_loop()
            self._clockwork.start()

    async def close(self, timeout: float | None = 5.0) -> None:
        """No more runs; wait ``timeout`` seconds for those in progress, then cancel them. Registrations stay."""
        if self._clockwork.running:
            self._clockwork.shutdown(wait=False)
            await asyncio.sleep(0)  # shutting down is its next step on the loop
        tasks = self._running - {asyncio.current_task()}
        if tasks:
            _, tasks = await asyncio.wait(tasks, timeout=timeout)
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=CANCEL_GRACE)
            if left:
                log.warning("%d jobs ignored their cancellation; the scheduler closed without them.", len(left))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def cancel_app(self, app_key: str, instance_index: int) -> None:
        """Every job of one app instance."""
        for scheduled in list(self._jobs.values()):
            registration = scheduled.job.registration
            if (registration.app_key, registration.instance_index) == (app_key, instance_index):
                scheduled.job.release()  # the app stops, which retires nothing
                scheduled.cancel()

    # --- adding and removing ------------------------------------------------------------------------------

    def add(
        self,
        call: Callable[..., object],
        trigger: Any,
        described: tuple[str | None, str | None],
        options: JobOptions,
    ) -> ScheduledJob:
        if "app_key" not in options:
            raise RegistrationError("A job needs an app_key.", hint="Give app_key=..., or use an App's scheduler.")
        misfire_grace = options.get("misfire_grace")
        if misfire_grace is not None and not misfire_grace >= 0:
            raise RegistrationError(f"misfire_grace={misfire_grace!r} makes no sense.", hint="Give seconds, or None.")
        if trigger.get_next_fire_time(None, self.now()) is None:
            raise RegistrationError(f"{described[1]!r} never comes.")
        try:
            job = self._register(call, trigger, described, options)
        except DuplicateRegistrationError:
            if not self._release_name(call, options):
                raise
            job = self._register(call, trigger, described, options)
        job_id = str(next(self._ids))
        scheduled = self._jobs[job_id] = ScheduledJob(
            job, misfire_grace, partial(self._next_run, job_id), partial(self._cancel, job_id, job)
        )
        self._clockwork.add_job(due, trigger, id=job_id, name=job.name)
        if _on_a_loop():
            self.start()
        return scheduled

    def _register(
        self, call: Callable[..., object], trigger: Any, described: tuple[str | None, str | None], options: JobOptions
    ) -> Job:
        return self.host.register_job(
            call,
            job_name=options.get("name"),
            app_key=options["app_key"],
            instance_index=options.get("instance_index", 0),
            args=tuple(options.get("args", ())),
            kwargs=options.get("kwargs"),
            trigger_type=described[0],
            trigger_value=described[1],
            repeat=described[0] is not None,
            due_between=self._due_between(trigger, described[0]),
            timeout=options.get("timeout"),
            on_error=options.get("on_error"),
            stacklevel=options.get("stacklevel", 1),
        )

    def _release_name(self, call: Callable[..., object], options: JobOptions) -> bool:
        """A one-shot job that schedules itself again: its only run has begun, so it gives its name up now."""
        identity, name = (options["app_key"], options.get("instance_index", 0)), options.get("name")
        for other in list(self._jobs.values()):
            r = other.job.registration
            same = other.job.call == call if name is None else r.job_name == name
            if other.spent and same and (r.app_key, r.instance_index) == identity:
                other.cancel()
                return True
        return False

    def _cancel(self, job_id: str, job: Job) -> None:
        if self._jobs.pop(job_id, None) is not None:
            try:
                self._clockwork.remove_job(job_id)
            except LookupError:  # its last run has begun
                pass
        job.cancel()

    # --- running ------------------------------------------------------------------------------------------

    def _submit(self, job_id: str, moments: list[datetime], finished: Callable[[], None]) -> None:
        """A job is due: called by APScheduler, on the loop."""
        scheduled = self._jobs.get(job_id)
        if scheduled is None:  # another thread is just cancelling it
            finished()
            return
        context = scheduled.context.copy()
        task = asyncio.get_running_loop().create_task(self._run(scheduled, moments), context=context)
        self._running.add(task)

        def done(task: asyncio.Task[None]) -> None:
            self._running.discard(task)
            finished()
            if not task.cancelled() and isinstance(error := task.exception(), Exception):
                log.error("A command raised out of its host.", exc_info=error)

        task.add_done_callback(done)

    async def _run(self, scheduled: ScheduledJob, moments: list[datetime]) -> None:
        scheduled.spent = not scheduled.repeat
        try:
            if not scheduled.cancelled:
                late = is_too_late(scheduled, moments[-1], scheduled.misfire_grace)
                count_missed(self.host, scheduled.job, moments if late else moments[:-1])
                if not late:
                    scheduled.overrun = False
                    await self.host.execute(ExecuteJob(scheduled.job, scheduled_at=to_instant(moments[-1])))
        finally:
            if not scheduled.repeat:
                scheduled.cancel()

    def _noticed(self, event: Any) -> None:
        """A job was added, or was due: its next run is another one. On whatever thread that happened."""
        scheduled = self._jobs.get(event.job_id)
        if scheduled is None:
            return
        if event.code == self._overran:
            self.host.skipped(scheduled.job, "overlapped", len(event.scheduled_run_times))
            if not scheduled.overrun:
                scheduled.overrun = True
                log.warning("%r is still running; until it ends, its further runs are skipped.", scheduled)
        self.host.set_next_run(scheduled.job, scheduled.next_run)

    def _next_run(self, job_id: str) -> Instant | None:
        found = self._clockwork.get_job(job_id)
        moment = getattr(found, "next_run_time", None)  # absent until the scheduler is started
        return None if moment is None else to_instant(moment)


class AppScheduler(Schedule):
    """A scheduler as one app instance sees it."""

    def __init__(self, scheduler: Scheduler, app_key: str, instance_index: int, on_error: ErrorHooks) -> None:
        self.timezone = scheduler.timezone
        self._scheduler = scheduler
        self._app_key = app_key
        self._instance_index = instance_index
        self._on_error = on_error

    def now(self) -> datetime:
        return self._scheduler.now()

    def add(
        self,
        call: Callable[..., object],
        trigger: Any,
        described: tuple[str | None, str | None],
        options: JobOptions,
    ) -> ScheduledJob:
        options["app_key"] = self._app_key
        options["instance_index"] = self._instance_index
        options["on_error"] = hooks(options.get("on_error"), self._on_error)
        return self._scheduler.add(call, trigger, described, options)


def _on_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
