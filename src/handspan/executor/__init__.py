"""One call of a handler or job: invocation, timing, outcome, span, metric, logging, error hooks.

The contract (DESIGN section 4, tests/flow/test_contract.py holds every row):

    CancelledError   -> cancelled, recorded, re-raised
    own deadline     -> error TimeoutError, recorded, swallowed
    DependencyError,
    HandspanError    -> error, logged in one line, swallowed
    Exception        -> error, logged with traceback, swallowed
    KeyboardInterrupt, SystemExit, ... -> recorded as error, re-raised

User code is touched in ``_call`` only. Everything of ours around it is guarded: if our own code fails,
the handler runs all the same and the failure is logged.
"""

import asyncio
import inspect
import logging
from random import getrandbits
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Span

from handspan.clock import Clock, to_ns
from handspan.commands import Command, ExecuteJob, Handle, InvokeHandler
from handspan.errors import NotRegisteredError
from handspan.executor.hooks import ErrorHooks, ErrorReport
from handspan.executor.threads import DaemonThreadPool
from handspan.instruments import RunInstruments
from handspan.outcome import ExecutionResult, OutcomeLimits, fail, is_expected
from handspan.records import CANCELLED, Recorder, Run
from handspan.spans import CommandTracer, activate, run_of

__all__ = ["CommandExecutor", "ErrorHooks", "ErrorReport"]

_log = logging.getLogger("handspan.executor")


class CommandExecutor:
    """``execute()`` is the hot path: every line of it is measured (``make bench``)."""

    def __init__(
        self,
        tracer: CommandTracer,
        recorder: Recorder,
        instruments: RunInstruments,
        hooks: ErrorHooks,
        pool: DaemonThreadPool,
        clock: Clock,
        limits: OutcomeLimits,
    ) -> None:
        self._tracer, self._recorder, self._instruments = tracer, recorder, instruments
        self._hooks, self._pool, self._clock, self._limits = hooks, pool, clock, limits

    async def execute(self, command: Command) -> ExecutionResult:
        """Run the command once. Raises only what the contract re-raises, and :class:`NotRegisteredError`
        for a handle of another ``Telemetry`` (nothing ran then)."""
        handle: Handle = command.listener if isinstance(command, InvokeHandler) else command.job
        if handle.owner is not self._recorder:
            raise NotRegisteredError(f"{handle.app_key}.{handle.name} belongs to another Telemetry.")
        run = Run(self._recorder, handle.number, handle.registration, self._clock.wall_ns(), 0)
        span: Span = INVALID_SPAN
        token = None
        try:
            try:
                span, token = self._begin(handle, command, run)
                if handle.is_async and handle.timeout is None:
                    if isinstance(command, InvokeHandler):
                        value: Any = await handle.call(command.event)  # type: ignore[misc]  # is_async says it is awaitable
                    else:
                        value = await handle.call(*_job_args(command), **_job_kwargs(command))  # type: ignore[misc]  # likewise
                else:
                    value = await self._call(handle, command)
            except BaseException as error:
                # never isinstance: __class__ may lie
                deadline = handle.timeout if type(error) is _OwnDeadline else None
                cause = error if deadline is None else error.__cause__ or error
                _take_own_frames_off(cause)
                result = self._finish(handle, run, span, token, cause, deadline, None)
                self._after_failure(handle, command, cause, result)
                if not issubclass(type(error), Exception):
                    raise
                del cause
                return result
            return self._finish(handle, run, span, token, None, None, value)
        except BaseException as error:  # the contract's, or a signal's in the middle of ours: nothing may stay behind
            try:
                self._cut_short(run, span, token, error)
            finally:
                if not run.recorded:  # the end of the stack: there is room for no call
                    run.recorded = run.gone = True
                    self._recorder.missed += 1
            raise

    def execute_sync(self, command: Command) -> ExecutionResult:
        """:meth:`execute` for a host whose worker thread this is: the call is made here and now, whatever it
        returns is the value (nothing is awaited), and no deadline applies (nothing can stop a thread)."""
        handle: Handle = command.listener if isinstance(command, InvokeHandler) else command.job
        if handle.owner is not self._recorder:
            raise NotRegisteredError(f"{handle.app_key}.{handle.name} belongs to another Telemetry.")
        run = Run(self._recorder, handle.number, handle.registration, self._clock.wall_ns(), 0)
        span: Span = INVALID_SPAN
        token = None
        try:
            try:
                span, token = self._begin(handle, command, run)
                if isinstance(command, InvokeHandler):
                    value: Any = handle.call(command.event)
                else:
                    value = handle.call(*_job_args(command), **_job_kwargs(command))
            except BaseException as error:
                _take_own_frames_off(error)
                result = self._finish(handle, run, span, token, error, None, None)
                self._after_failure(handle, command, error, result)
                if not issubclass(type(error), Exception):
                    raise
                return result
            return self._finish(handle, run, span, token, None, None, value)
        except BaseException as error:  # as in execute
            try:
                self._cut_short(run, span, token, error)
            finally:
                if not run.recorded:  # the end of the stack: there is room for no call
                    run.recorded = run.gone = True
                    self._recorder.missed += 1
            raise

    # --- around the call: ours, guarded -------------------------------------------------------------------

    def _begin(self, handle: Handle, command: Command, run: Run) -> tuple[Span, Any]:
        span: Span = INVALID_SPAN
        token = None
        try:
            published_by = None
            if isinstance(command, InvokeHandler):
                published_by = command.published_by
                if published_by is not None and not published_by.is_valid:
                    published_by = None
                if command.published_at is not None:
                    run.queue_ns = max(0, run.start_ns - to_ns(command.published_at))
            elif command.scheduled_at is not None:
                run.scheduled_ns = to_ns(command.scheduled_at) // 1000 * 1000
            span = self._tracer.start(handle, run, published_by)
            if not run.span_id:  # a provider that makes no spans: the row needs ids all the same
                run.trace_id, run.span_id = getrandbits(128), getrandbits(64)
            token = activate(run, span)
            self._recorder.started(run)
        except Exception:  # noqa: BLE001 - a broken provider must not keep the handler from running
            self._ours("starting a span")
            run.trace_id, run.span_id = run.trace_id or getrandbits(128), run.span_id or getrandbits(64)
        run.start_mono = self._clock.monotonic_ns()  # last: what we cost is not the handler's duration
        return span, token

    def _finish(
        self,
        handle: Handle,
        run: Run,
        span: Span,
        token: Any,
        error: BaseException | None,
        deadline: float | None,
        value: Any,
    ) -> ExecutionResult:
        if run.start_mono:  # else it was interrupted before it began
            run.duration_ns = max(0, self._clock.monotonic_ns() - run.start_mono)
        try:
            if error is not None:
                fail(run, error, self._limits, deadline=deadline)
            self._instruments.record(handle, run)
        except Exception:  # noqa: BLE001 - as in _begin
            self._ours("a metric")
        try:
            if token is not None:
                otel_context.detach(token)
            self._tracer.end(span, run)
        except Exception:  # noqa: BLE001 - as in _begin; another processor's exception arrives here, too
            self._ours("ending a span")
        if not run.recorded:
            self._recorder.hand_over(run)
        return ExecutionResult(
            run.status, run.duration_ns, value, error, run.error_type, run.error_message, run.trace_id, run.span_id
        )

    def _cut_short(self, run: Run, span: Span, token: Any, error: BaseException) -> None:
        """A signal's handler raised while we were at it: the run is recorded all the same, the context is left."""
        if run_of(None) is run:
            if token is not None:
                otel_context.detach(token)
            else:  # interrupted between entering it and knowing how to leave; an outer run's own leaving does the rest
                otel_context.attach(Context())
        if not run.recorded:
            try:
                fail(run, error, self._limits)
                self._tracer.end(span, run)
            finally:
                self._recorder.hand_over(run)

    def _after_failure(self, handle: Handle, command: Command, error: BaseException, result: ExecutionResult) -> None:
        if result.status == CANCELLED:
            return
        try:
            if is_expected(error) or result.error is None:
                _log.error("%s.%s failed: %s: %s", handle.app_key, handle.name, result.error_type, result.error_message)
            else:
                _log.error("%s.%s failed.", handle.app_key, handle.name, exc_info=error)
            if issubclass(type(error), Exception) or result.error_type == "TimeoutError":
                self._hooks.report(handle, command, error, result)
        except Exception:  # noqa: BLE001 - a logging filter of the user's, a loop that is going away
            self._ours("reporting a failure")

    def _ours(self, where: str) -> None:
        try:
            _log.exception("handspan failed in %s; the application is not affected.", where)
        except Exception:  # noqa: BLE001, S110 - logging itself is broken: there is nobody left to tell
            pass

    # --- the call: the user's ---------------------------------------------------------------------------

    async def _call(self, handle: Handle, command: Command) -> Any:
        """With a deadline, or in a thread. Raises _OwnDeadline for our own deadline, and for nothing else."""
        if handle.timeout is None:
            return await self._call_now(handle, command)
        deadline = asyncio.timeout(handle.timeout)
        try:
            async with deadline:
                value = await self._call_now(handle, command)
        except BaseException as error:
            if deadline.expired() and issubclass(type(error), Exception):
                raise _OwnDeadline from error
            raise
        if deadline.expired():  # the handler caught our cancellation and returned
            raise _OwnDeadline from TimeoutError()
        return value

    async def _call_now(self, handle: Handle, command: Command) -> Any:
        if isinstance(command, InvokeHandler):
            event = command.event
            if handle.is_async:
                return await handle.call(event)  # type: ignore[misc]  # is_async says it is awaitable
            value = await self._pool.run(lambda: handle.call(event))
        else:
            args, kwargs = _job_args(command), _job_kwargs(command)
            if handle.is_async:
                return await handle.call(*args, **kwargs)  # type: ignore[misc]  # as above
            value = await self._pool.run(lambda: handle.call(*args, **kwargs))
        return await value if inspect.isawaitable(value) else value


class _OwnDeadline(Exception):  # noqa: N818 - a signal inside this module
    """The registration's own ``timeout`` passed; a TimeoutError of the body is an ordinary error."""


def _job_args(command: ExecuteJob) -> tuple[Any, ...]:
    return command.job.args if command.args is None else command.args


def _job_kwargs(command: ExecuteJob) -> Any:
    return command.job.kwargs if command.kwargs is None else command.kwargs


def _take_own_frames_off(error: BaseException) -> None:
    """Nobody wants to read them; and a traceback that holds our frame, which holds the result, which holds
    the exception, would be a cycle for the garbage collector with every failure."""
    try:
        step = error.__traceback__
        while step is not None and step.tb_frame.f_globals.get("__name__", "").startswith(__name__):
            step = step.tb_next
        error.__traceback__ = step
    except Exception:  # noqa: BLE001, S110 - an exception that keeps its traceback from us keeps our frames in it
        pass
