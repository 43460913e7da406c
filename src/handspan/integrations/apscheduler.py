"""APScheduler 3.x: each run of a scheduler's jobs is an execution, and APScheduler sees no difference.

    from handspan.integrations import apscheduler

    uninstrument = apscheduler.instrument(telemetry, scheduler)

APScheduler's events carry no start time, no duration and no run id, so the run itself has to be wrapped. What
is due is handed to an executor's ``submit_job``; there, on the instrumented scheduler's own executors only, a
stand-in takes the job's place whose function runs the real one through handspan. Everything else is still
APScheduler's: where the function runs, misfires, ``max_instances``, its events, listeners and logs. Nothing
outside this scheduler is patched.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from weakref import WeakSet

from apscheduler import events as ap
from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.job import Job as APSchedulerJob
from apscheduler.schedulers.base import STATE_RUNNING, STATE_STOPPED
from apscheduler.util import iscoroutinefunction_partial

from handspan.commands import ExecuteJob, Job
from handspan.errors import DuplicateRegistrationError, NotRegisteredError, RegistrationError
from handspan.integrations.apscheduler_due import count_missed, due_between, moments_before
from handspan.integrations.apscheduler_jobs import JobFacts, describe, module_of, names_for, registered_at_level
from handspan.integrations.host import Host, ours, to_instant

__all__ = ["Instrumentation", "instrument"]

_instrumented: WeakSet[Any] = WeakSet()

GONE_JOBS: Final = 1_000  # a one-shot job is removed before it is told that its run was missed


def instrument(telemetry: Host, scheduler: Any, *, app_key: str | None = None) -> "Instrumentation":
    """Every job of ``scheduler``, now and later, becomes a job of handspan. Call what is returned to undo it.

    ``app_key``: by default the module of each job's function. Before or after the scheduler's start.
    """
    if scheduler in _instrumented:
        raise RegistrationError("This scheduler is instrumented already.", hint="Call the first uninstrument.")
    instrumentation = Instrumentation(telemetry, scheduler, app_key)
    _instrumented.add(scheduler)
    return instrumentation


@dataclass
class _Followed:
    facts: JobFacts
    handle: Job
    source: Any
    """APScheduler's job, as last seen: it changes this object's ``next_run_time`` after each run."""


class Instrumentation:
    """One instrumented scheduler. Calling it ends that."""

    def __init__(self, host: Host, scheduler: Any, app_key: str | None) -> None:
        self._host, self._scheduler, self._app_key = host, scheduler, app_key
        self.missed = 0
        """Runs APScheduler gave up because they would have been later than ``misfire_grace_time``."""
        self.skipped = 0
        """Runs APScheduler skipped because ``max_instances`` of the job were still running."""
        self._jobs: dict[tuple[str, str], _Followed] = {}
        self._gone: OrderedDict[tuple[str, str], Job] = OrderedDict()
        self._since = datetime.now(UTC)
        self._mutex = threading.Lock()  # never held while the scheduler is asked: it calls us under its own
        self._ended = False
        self._undo: list[Callable[[], None]] = []
        self._answers: dict[int, Callable[[Any], None]] = {
            ap.EVENT_JOB_ADDED: self._follow_one,
            ap.EVENT_JOB_MODIFIED: self._follow_one,
            ap.EVENT_JOB_REMOVED: lambda event: self._forget(lambda key: key == (event.jobstore, event.job_id)),
            ap.EVENT_JOB_SUBMITTED: self._submitted,
            ap.EVENT_JOB_MAX_INSTANCES: self._overran,
            ap.EVENT_JOB_MISSED: self._was_missed,
            ap.EVENT_ALL_JOBS_REMOVED: lambda event: self._forget(lambda key: event.alias in (None, key[0])),
            ap.EVENT_JOBSTORE_REMOVED: lambda event: self._forget(lambda key: event.alias == key[0]),
            ap.EVENT_JOBSTORE_ADDED: lambda event: self._follow_all(event.alias),
            ap.EVENT_SCHEDULER_STARTED: lambda _: self._follow_all(None),
            ap.EVENT_SCHEDULER_RESUMED: lambda _: self._follow_all(None),
            # Not at its shutdown: the row goes on saying when a job would have run next, and the next start counts
            # from there what fell due meanwhile.
            ap.EVENT_SCHEDULER_PAUSED: self._stands_still,
            ap.EVENT_EXECUTOR_ADDED: lambda event: self._wrap_executor(
                scheduler._executors[event.alias]  # noqa: SLF001 - the event has its name only
            ),
        }
        scheduler.add_listener(self._noticed)
        self._replace(scheduler, "add_job", self._add_job(scheduler.add_job))
        for executor in list(scheduler._executors.values()):  # noqa: SLF001 - nothing public shows them
            self._wrap_executor(executor)
        self._follow_all(None)

    def __call__(self) -> None:
        """Undo it: runs are no longer recorded, the jobs' registrations are retired; or, of a scheduler that was shut
        down, let go of, so that the next start counts what fell due meanwhile. Twice is once."""
        self._ended = True
        self._scheduler.remove_listener(self._noticed)
        while self._undo:
            self._undo.pop()()
        self._forget(lambda _key: True, over=self._scheduler.state == STATE_STOPPED)
        _instrumented.discard(self._scheduler)

    # --- following the jobs: on whatever thread that happens -------------------------------------------------

    def _noticed(self, event: Any) -> None:
        try:
            answer = self._answers.get(event.code)
            if answer is not None and not self._ended:
                answer(event)
        except Exception:  # noqa: BLE001 - nothing of ours reaches the scheduler
            ours("following a scheduler")

    def _submitted(self, event: Any) -> None:
        with self._mutex:
            followed = self._jobs.get((event.jobstore, event.job_id))
        if followed is not None:  # a one-shot job is removed before this
            self._tell_next_run(followed)

    def _overran(self, event: Any) -> None:
        with self._mutex:
            self.skipped += len(event.scheduled_run_times)
        self._follow_one(event)
        handle = self._handle_of(event)
        if handle is not None:
            self._host.skipped(handle, "overlapped", len(event.scheduled_run_times))

    def _was_missed(self, event: Any) -> None:
        with self._mutex:
            self.missed += 1
        handle = self._handle_of(event)
        if handle is not None:
            count_missed(self._host, handle, [event.scheduled_run_time], self._since)

    def _handle_of(self, event: Any) -> Job | None:
        key = (event.jobstore, event.job_id)
        with self._mutex:
            followed = self._jobs.get(key)
            return self._gone.get(key) if followed is None else followed.handle

    def _stands_still(self, _event: Any) -> None:
        with self._mutex:
            all_of_them = list(self._jobs.values())
        for followed in all_of_them:
            self._host.set_next_run(followed.handle, None)

    def _follow_one(self, event: Any) -> None:
        job = self._scheduler.get_job(event.job_id, event.jobstore)
        if job is not None:
            alias = self._alias(job, event.jobstore)
            followed = self._follow(job, alias)
            self._tell_next_run(followed)
            if self._scheduler.get_job(event.job_id, event.jobstore) is None:  # meanwhile, on another thread, it ran
                self._forget(lambda key: key == (alias, event.job_id))
                self._host.set_next_run(followed.handle, None)

    def _follow_all(self, jobstore: str | None) -> None:
        for job in self._scheduler.get_jobs(jobstore):
            self._tell_next_run(self._follow(job, self._alias(job, jobstore)))

    def _alias(self, job: Any, hint: str | None) -> str:
        known = job._jobstore_alias or hint  # noqa: SLF001 - pending jobs have none yet, and no event has a job
        if known is None:
            pending = self._scheduler._pending_jobs  # noqa: SLF001 - get_jobs() does not tell their stores
            known = next((alias for one, alias, _ in pending if one is job), "default")
        return str(known)

    def _follow(self, job: Any, alias: str) -> _Followed:
        """Register the job, or what has changed about it."""
        facts, key = describe(job), (alias, job.id)
        with self._mutex:
            old = self._jobs.get(key)
            if old is not None and old.facts == facts:
                old.source = job
                return old
            if old is not None:
                old.handle.cancel()
            keeps_name = old is not None and old.facts.identity == facts.identity
            names: Iterator[str] = names_for(facts)
            name = old.handle.name if old is not None and keeps_name else next(names)
            while True:
                try:
                    handle = self._register(job, facts, name)
                except DuplicateRegistrationError:
                    name = next(names)
                else:
                    followed = self._jobs[key] = _Followed(facts, handle, job)
                    return followed

    def _register(self, job: Any, facts: JobFacts, name: str) -> Job:
        return self._host.register_job(
            job.func,
            job_name=name,
            app_key=self._app_key or module_of(job.func),
            args=tuple(job.args),
            kwargs=dict(job.kwargs),
            trigger_type=facts.trigger_type,
            trigger_value=facts.trigger_value,
            repeat=facts.trigger_type != "date",
            due_between=due_between(job),
            stacklevel=registered_at_level(),
        )

    def _forget(self, is_gone: Callable[[tuple[str, str]], bool], *, over: bool = False) -> None:
        with self._mutex:
            going = {key: self._jobs.pop(key) for key in list(self._jobs) if is_gone(key)}
            self._gone.update((key, followed.handle) for key, followed in going.items())
            while len(self._gone) > GONE_JOBS:
                self._gone.popitem(last=False)
        for followed in going.values():
            if over:
                followed.handle.release()
                continue
            self._host.set_next_run(followed.handle, None)
            followed.handle.cancel()

    def _tell_next_run(self, followed: _Followed) -> None:
        """None while the job, or the scheduler, is paused."""
        runs = self._scheduler.state == STATE_RUNNING
        moment = getattr(followed.source, "next_run_time", None) if runs else None
        self._host.set_next_run(followed.handle, None if moment is None else to_instant(moment))

    # --- the seams ----------------------------------------------------------------------------------------------

    def _replace(self, thing: Any, name: str, replacement: Any) -> None:
        """On this one object; taken back only if nobody has replaced it again since."""

        def undo() -> None:
            if vars(thing).get(name) is replacement:
                delattr(thing, name)

        setattr(thing, name, replacement)
        self._undo.append(undo)

    def _add_job(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Before the scheduler's start no event tells of a job, and at the start nobody knows who added it."""

        def add_job(*args: Any, **kwargs: Any) -> Any:
            job = original(*args, **kwargs)
            try:
                if job.pending and not self._ended:
                    self._follow(job, self._alias(job, None))
            except Exception:  # noqa: BLE001 - as above
                ours("registering a job")
            return job

        return add_job

    def _wrap_executor(self, executor: Any) -> None:
        if isinstance(executor, ProcessPoolExecutor):  # what runs in another process is not ours to measure
            return
        original = executor.submit_job

        def submit_job(job: Any, run_times: list[datetime]) -> None:
            try:
                stand_in = None if self._ended else self._stand_in(job, run_times)
            except Exception:  # noqa: BLE001 - the job runs all the same
                ours("wrapping a job")
                stand_in = None
            original(*((job, run_times) if stand_in is None else stand_in))

        self._replace(executor, "submit_job", submit_job)

    def _stand_in(self, job: Any, run_times: list[datetime]) -> tuple[Any, "_Moments"]:
        alias = self._alias(job, None)
        with self._mutex:
            followed = self._jobs.get((alias, job.id))
        if followed is None or followed.facts.func != job.func:
            followed = self._follow(job, alias)
        followed.source = job
        count_missed(self._host, followed.handle, moments_before(job, run_times), self._since)
        moments = _Moments(run_times)
        return _with_function(job, _recorded(self._host, followed.handle, job.func, moments)), moments


class _Moments(list[datetime]):
    """The moments a job is due at. Knows which one APScheduler has come to: late ones it passes over."""

    current: datetime | None = None

    def __iter__(self) -> Iterator[datetime]:
        for moment in super().__iter__():
            self.current = moment
            yield moment


def _recorded(host: Host, handle: Job, func: Callable[..., Any], moments: _Moments) -> Callable[..., Any]:
    """The function, run through handspan: a coroutine function for a coroutine function, as APScheduler asks.

    What it raised is raised again. (That leaves a cycle of frame, result and error: APScheduler clears frames.)
    """

    def command(args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExecuteJob:
        due = moments.current
        return ExecuteJob(handle, None if due is None else to_instant(due), args, kwargs)

    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            result = host.execute_sync(command(args, kwargs))
        except NotRegisteredError:  # then nothing ran
            return func(*args, **kwargs)
        if result.error is not None:
            raise result.error
        return result.value

    async def run_async(*args: Any, **kwargs: Any) -> Any:
        try:
            result = await host.execute(command(args, kwargs))
        except NotRegisteredError:
            return await func(*args, **kwargs)
        if result.error is not None:
            raise result.error
        return result.value

    return run_async if iscoroutinefunction_partial(func) else run


def _with_function(job: Any, func: Callable[..., Any]) -> Any:
    """A job that differs from another in its function only. (Copying one goes through pickling.)"""
    stand_in = object.__new__(APSchedulerJob)
    for name in APSchedulerJob.__slots__:
        if name != "__weakref__" and hasattr(job, name):
            setattr(stand_in, name, getattr(job, name))
    stand_in.func = func
    return stand_in
