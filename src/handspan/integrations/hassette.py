"""Hassette 0.60: each handler invocation and job execution of its apps is one of ours.

    from handspan.integrations import hassette

    hassette.instrument(telemetry)   # before or after Hassette has started

Hassette has no plug-in mechanism, so four methods of its classes are wrapped:

* ``CommandExecutor._execute``: the one place every run goes through. Hassette's own runs inside ours, so the span
  is active while the handler runs. It swallows what the handler raised and returns a result; that result becomes
  our outcome, and Hassette gets the same object it would have got.
* ``EventStreamService.send_event``: who publishes an event, and when. (Not the bus's ``dispatch``: between the two
  lies a channel, and with it the publisher's context is gone.)
* ``SchedulerDispatchMixin.run_job``: the moment a job was due.
* ``SchedulerDispatchMixin._record_skipped``: a job that did not run, because its predicate said no.
"""

import functools
import importlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.trace import SpanContext
from whenever import Instant

from handspan.commands import ExecuteJob, InvokeHandler
from handspan.errors import DependencyError, HandspanError, RegistrationError
from handspan.integrations.hassette_handles import Handles
from handspan.integrations.host import Host, ours

__all__ = ["Instrumentation", "instrument"]

REMEMBERED_EVENTS: Final = 1_000  # published and perhaps not yet handled; an event refuses weak references
_due: ContextVar[tuple[Any, Any] | None] = ContextVar("handspan-hassette-due", default=None)
_live: list["Instrumentation"] = []


def instrument(telemetry: Host, *, framework: bool = False) -> "Instrumentation":
    """Every run of every app, from now on. Call what is returned to undo it.

    ``framework``: also what Hassette runs for itself, of which it keeps only errors and slow runs.
    """
    if _live:
        raise RegistrationError("Hassette is instrumented already.", hint="Call the first uninstrument.")
    instrumentation = Instrumentation(telemetry, framework=framework)
    _live.append(instrumentation)
    return instrumentation


class Instrumentation:
    """Hassette's classes, wrapped. Calling it ends that."""

    def __init__(self, host: Host, *, framework: bool) -> None:
        self._host, self._framework = host, framework
        self.skipped = 0
        """Jobs whose predicate said no: Hassette records them as ``skipped``; nothing ran."""
        self._handles = Handles(host)
        self._published: OrderedDict[int, tuple[Any, SpanContext | None, Instant]] = OrderedDict()
        self._undo: list[Callable[[], None]] = []
        try:
            executor = importlib.import_module("hassette.core.command_executor").CommandExecutor
            stream = importlib.import_module("hassette.core.event_stream_service").EventStreamService
            scheduler = importlib.import_module("hassette.core.scheduler_dispatch").SchedulerDispatchMixin
            self._wrap(executor, "_execute", self._executing)
            self._wrap(stream, "send_event", self._publishing)
            self._wrap(scheduler, "run_job", self._running_job)
            self._wrap(scheduler, "_record_skipped", self._skipping)
        except (ImportError, AttributeError) as error:
            self()
            raise HandspanError(
                f"This Hassette cannot be instrumented: {error}.", hint="hassette 0.60 on CPython 3.13 can."
            ) from error

    def __call__(self) -> None:
        """Undo it: runs are no longer recorded, registrations are retired. Twice is once."""
        while self._undo:
            self._undo.pop()()
        self._handles.cancel()
        if self in _live:
            _live.remove(self)

    def _wrap(self, kind: type, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
        original = getattr(kind, name)
        replacement = functools.wraps(original)(wrapper(original))

        def undo() -> None:
            if getattr(kind, name) is replacement:  # else somebody wrapped it again, and ours is inside
                setattr(kind, name, original)

        setattr(kind, name, replacement)
        self._undo.append(undo)

    # --- the four ------------------------------------------------------------------------------------------------

    def _executing(self, original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def _execute(executor: Any, fn: Any, cmd: Any, log_error: Any, execution_id: str) -> Any:
            def run() -> Awaitable[Any]:
                return original(executor, fn, cmd, log_error, execution_id)

            call = _Call(run, cmd)
            command = self._command(call)
            return await run() if command is None else await call.through(self._host, command)

        return _execute

    def _skipping(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def _record_skipped(service: Any, job: Any) -> Any:
            try:
                self.skipped += 1
                if self._framework or job.source_tier != "framework":
                    self._host.skipped(self._handles.job(job, _Call.call), "skipped")
            except Exception:  # noqa: BLE001 - Hassette records it all the same
                ours("counting what was skipped")
            return original(service, job)

        return _record_skipped

    def _publishing(self, original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def send_event(service: Any, event: Any) -> Any:
            try:
                context = trace.get_current_span().get_span_context()
                self._published[id(event)] = (event, context if context.is_valid else None, Instant.now())
                if len(self._published) > REMEMBERED_EVENTS:
                    self._published.popitem(last=False)
            except Exception:  # noqa: BLE001 - the event is sent all the same
                ours("noting an event")
            return await original(service, event)

        return send_event

    def _running_job(self, original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def run_job(service: Any, job: Any, trigger_mode: Any = None, fire_at: Any = None) -> Any:
            token = _due.set((job, None if trigger_mode == "manual" else fire_at))
            try:
                return await original(service, job, trigger_mode, fire_at)
            finally:
                _due.reset(token)

        return run_job

    # --- a command of ours for one of Hassette's --------------------------------------------------------------------

    def _command(self, call: "_Call") -> InvokeHandler | ExecuteJob | None:
        cmd = call.cmd
        try:
            if not self._undo or (cmd.source_tier == "framework" and not self._framework):
                return None
            if hasattr(cmd, "listener"):
                listener = self._handles.listener(cmd.listener, _Call.call)
                event, published_by, published_at = self._published.get(id(cmd.event), (None, None, None))
                if event is not cmd.event:  # never published (Hassette made it up), or so long ago that it is forgotten
                    published_by = published_at = None
                return InvokeHandler(listener, call, published_by, published_at)
            job = self._handles.job(cmd.job, _Call.call)
            due = _due.get()
            fire_at = due[1] if due is not None and due[0] is cmd.job else None
            return ExecuteJob(job, None if fire_at is None else fire_at.to_instant(), (call,), {})
        except Exception:  # noqa: BLE001 - Hassette's run happens all the same
            ours("a run of Hassette's")
            return None


class _Call:
    """Hassette's ``_execute`` of one command, made exactly once whatever happens to ours around it."""

    def __init__(self, run: Callable[[], Awaitable[Any]], cmd: Any) -> None:
        self._run, self.cmd = run, cmd
        self._started = False
        self._result: Any = None
        self._failure: Exception | None = None

    async def through(self, host: Host, command: InvokeHandler | ExecuteJob) -> Any:
        """What Hassette's ``_execute`` would have returned or raised."""
        try:
            await host.execute(command)
        except Exception:  # noqa: BLE001 - ours: what Hassette's raised is in _failure
            ours("a run of Hassette's")
        if not self._started:
            return await self._run()
        if self._failure is not None:
            raise self._failure
        error = getattr(self._result, "exc", None)
        if error is not None:
            error.__traceback__ = self._traceback  # Hassette shows it to error handlers: without our frames
        return self._result

    async def call(self) -> None:
        """What every listener and job of ours calls: raises what the handler raised, for our executor to see."""
        self._started = True
        try:
            self._result = result = await self._run()
        except Exception as failure:
            self._failure = failure
            raise
        self._traceback = None if result.exc is None else result.exc.__traceback__
        error = _error_of(result, self.cmd)
        if error is not None:
            raise error


def _error_of(result: Any, cmd: Any) -> BaseException | None:
    """Hassette's result as the exception our executor's contract has a row for."""
    status = str(result.status)
    if status == "success":
        return None
    found: BaseException
    if status == "timed_out":
        found = TimeoutError(f"The deadline of {cmd.effective_timeout:g} s passed.")
    elif result.is_di_failure:
        found = DependencyError(result.error_message or "")
    elif result.exc is not None:
        raised: BaseException = result.exc
        return raised
    else:
        found = RuntimeError(result.error_message or status)
    found.__cause__ = result.exc
    return found
