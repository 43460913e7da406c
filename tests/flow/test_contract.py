"""DESIGN section 4, row by row: what happens to each way a callable can end."""

import asyncio
import functools
import logging
import threading

import pytest

import handspan
from handspan import ExecuteJob, InvokeHandler

APP = "kitchen.KitchenLights"


class OurError(handspan.HandspanError):
    """A framework's own error, built on ours."""


def raiser(error: BaseException):
    async def on_event(event):
        raise error

    return on_event


async def run(telemetry, call, **options):
    listener = telemetry.register_listener(call, topic="t", app_key=APP, **options)
    return await telemetry.execute(InvokeHandler(listener, event={"state": "on"}))


async def test_success_is_recorded_and_its_value_returned(make, rows):
    """A handler that returns is a success; the caller gets what it returned."""

    async def on_event(event):
        return event["state"]

    async with make() as telemetry:
        result = await run(telemetry, on_event)
    assert (result.status, result.value, result.ok, result.error) == ("success", "on", True, None)
    (row,) = rows("SELECT * FROM v_handler_invocations")
    assert row["status"] == "success"
    assert row["error_type"] is row["error_message"] is row["error_traceback"] is None
    assert (row["trace_id"], row["span_id"]) == (result.trace_id, result.span_id)
    assert row["duration_ms"] == result.duration_ms


@pytest.mark.parametrize(
    ("error", "error_type", "traceback_logged"),
    [
        pytest.param(ValueError("bad bulb"), "ValueError", True, id="exception"),
        pytest.param(handspan.DependencyError("no state for light.x"), "DependencyError", False, id="dependency"),
        pytest.param(OurError("gateway gone"), "OurError", False, id="handspan-error"),
        pytest.param(TimeoutError("their own"), "TimeoutError", True, id="timeout-of-the-body"),
    ],
)
async def test_an_exception_is_swallowed_recorded_and_logged(make, rows, caplog, error, error_type, traceback_logged):
    """Exceptions never reach the dispatcher; expected ones are logged in one line, others with a traceback."""
    async with make() as telemetry:
        result = await run(telemetry, raiser(error))
    assert (result.status, result.error_type, result.error_message) == ("error", error_type, str(error))
    assert result.error is error
    (row,) = rows("SELECT * FROM v_handler_invocations")
    assert (row["status"], row["error_type"], row["error_message"]) == ("error", error_type, str(error))
    assert "in on_event" in row["error_traceback"]
    assert row["error_traceback"].endswith(str(error))
    assert "handspan/executor" not in row["error_traceback"]
    (logged,) = [record for record in caplog.records if record.name == "handspan.executor"]
    assert bool(logged.exc_info) is traceback_logged


async def test_cancelled_is_recorded_and_raised_again(make, rows):
    """Swallowing CancelledError would break asyncio: it is recorded and goes on."""
    started = asyncio.Event()

    async def on_event(event):
        started.set()
        await asyncio.Event().wait()

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        task = asyncio.create_task(telemetry.execute(InvokeHandler(listener)))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    (row,) = rows("SELECT * FROM v_handler_invocations")
    assert (row["status"], row["error_type"]) == ("cancelled", None)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["keyboard-interrupt", "system-exit"])
async def test_other_base_exceptions_are_recorded_and_raised_again(make, rows, error):
    """Ctrl-C inside a handler ends the program as it should, and the run is an error."""
    async with make() as telemetry:
        listener = telemetry.register_listener(raiser(error), topic="t", app_key=APP)
        coroutine = telemetry.execute(InvokeHandler(listener))
        with pytest.raises(type(error)):
            coroutine.send(None)
    (row,) = rows("SELECT * FROM v_handler_invocations")
    assert (row["status"], row["error_type"]) == ("error", type(error).__name__)


async def test_the_own_deadline_is_an_error_and_swallowed(make, rows):
    """A run past its registration's timeout is TimeoutError, says which deadline, and its task goes on."""

    async def on_event(event):
        await asyncio.Event().wait()

    async with make() as telemetry:
        result = await run(telemetry, on_event, timeout=0.01)
        assert (result.status, result.error_type) == ("error", "TimeoutError")
        assert asyncio.current_task().cancelling() == 0
    (row,) = rows("SELECT * FROM v_handler_invocations")
    assert row["error_message"] == "The deadline of 0.01 s passed."
    assert "in on_event" in row["error_traceback"]


async def test_a_handler_that_hides_the_deadline_is_still_late(make):
    """Catching our cancellation and returning does not turn a missed deadline into a success."""

    async def on_event(event):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return "never mind"

    async with make() as telemetry:
        result = await run(telemetry, on_event, timeout=0.01)
    assert (result.status, result.error_type, type(result.error)) == ("error", "TimeoutError", TimeoutError)


async def test_a_cancellation_from_outside_is_not_taken_for_the_deadline(make):
    """With a timeout set, somebody else's cancel is still a cancel."""
    started = asyncio.Event()

    async def on_event(event):
        started.set()
        await asyncio.Event().wait()

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP, timeout=60)
        task = asyncio.create_task(telemetry.execute(InvokeHandler(listener)))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_plain_functions_run_in_a_thread_with_the_callers_context(make, rows):
    """A blocking handler does not block the loop, and sees the caller's context variables and span."""
    from opentelemetry import trace

    seen = {}

    def on_event(event):
        seen["thread"] = threading.current_thread()
        seen["span"] = trace.get_current_span().get_span_context().span_id
        return 7

    async with make() as telemetry:
        result = await run(telemetry, on_event)
    assert result.value == 7
    assert seen["thread"] is not threading.main_thread()
    assert seen["thread"].daemon
    assert f"{seen['span']:016x}" == result.span_id


async def test_a_stuck_plain_function_is_given_up_at_its_deadline(make):
    """Its thread cannot be stopped, but the run ends, as an error."""
    release = threading.Event()
    async with make() as telemetry:
        result = await run(telemetry, lambda event: release.wait(), timeout=0.01)
        assert result.error_type == "TimeoutError"
        release.set()


class Callable_:
    async def __call__(self, event):
        return "called"


async def two(prefix, event):
    return prefix


@pytest.mark.parametrize(
    ("call", "value", "method"),
    [
        pytest.param(Callable_(), "called", "Callable_", id="object-with-async-call"),
        pytest.param(functools.partial(two, "partial"), "partial", "two", id="partial"),
        pytest.param(lambda event: two("lambda", event), "lambda", "<lambda>", id="lambda-returning-a-coroutine"),
        pytest.param(lambda event: "plain", "plain", "<lambda>", id="lambda"),
    ],
)
async def test_anything_callable_can_be_registered(make, rows, call, value, method):
    """Partials, lambdas and callable objects run, and are named by what they are."""
    async with make() as telemetry:
        result = await run(telemetry, call)
    assert (result.status, result.value) == ("success", value)
    assert rows("SELECT handler_method, name FROM listeners") == [{"handler_method": method, "name": method}]


async def test_a_job_gets_its_registered_arguments_or_the_commands(make):
    """Arguments belong to the registration; a command may bring its own."""
    calls = []

    async def job(*args, **kwargs):
        calls.append((args, kwargs))

    async with make() as telemetry:
        registered = telemetry.register_job(job, app_key=APP, args=(1,), kwargs={"a": 2})
        await telemetry.execute(ExecuteJob(registered))
        await telemetry.execute(ExecuteJob(registered, args=(3,), kwargs={}))
    assert calls == [((1,), {"a": 2}), ((3,), {})]


async def test_a_handle_of_another_telemetry_is_refused(make, tmp_path):
    """Its records would go under the wrong registration: the mistake is named at once."""

    async def on_event(event): ...

    async with make() as one, make(db=str(tmp_path / "other.db")) as two_:
        listener = one.register_listener(on_event, topic="t", app_key=APP)
        with pytest.raises(handspan.HandspanError, match="belongs to another Telemetry"):
            await two_.execute(InvokeHandler(listener))


class HostileError(Exception):
    def __str__(self):
        raise RuntimeError("no text for you")


async def test_hostile_exceptions_hurt_nobody(make, rows):
    """An exception whose text cannot be had is recorded all the same."""
    async with make() as telemetry:
        result = await run(telemetry, raiser(HostileError()))
    assert result.error_type == "HostileError"
    assert "raised RuntimeError" in rows("SELECT error_message FROM v_handler_invocations")[0]["error_message"]


async def test_error_hooks_at_three_levels_in_order(make):
    """The registration's hook is told first, then the app's, then the global one; execute() waits for none."""
    told, all_told = [], asyncio.Event()

    async def on_registration(report):
        told.append(("registration", report.error))

    def on_app(report):
        told.append(("app", report.result.error_type))

    async def on_global(report):
        told.append(("global", report.handle.name))
        all_told.set()

    error = ValueError("x")
    async with make(on_error=on_global) as telemetry:
        await run(telemetry, raiser(error), on_error=(on_registration, on_app))
        assert told == []
        await all_told.wait()
    assert told == [("registration", error), ("app", "ValueError"), ("global", "on_event")]


async def test_hooks_that_raise_or_hang_are_counted_and_never_recursive(make, caplog):
    """A hook's own failure calls no hook; one that hangs is cut at its deadline; the next still runs."""
    reached = asyncio.Event()

    async def raises(report):
        raise RuntimeError("hook")

    async def hangs(report):
        await asyncio.Event().wait()

    async def last(report):
        reached.set()

    async with make(on_error=(raises, hangs, last), hook_timeout=0.01) as telemetry:
        await run(telemetry, raiser(ValueError("x")))
        await reached.wait()
    assert telemetry.error_hooks.failed == 2


async def test_a_command_that_fails_inside_a_hook_calls_no_hook(make):
    """Otherwise a hook that notifies through a failing handler would run for ever."""
    calls, done = [], asyncio.Event()

    async def hook(report):
        calls.append(report)
        await telemetry.execute(InvokeHandler(notify))
        done.set()

    async with make(on_error=hook) as telemetry:
        notify = telemetry.register_listener(raiser(ValueError("inner")), topic="n", app_key=APP, name="notify")
        await run(telemetry, raiser(ValueError("outer")))
        await done.wait()
    assert len(calls) == 1


async def test_an_error_storm_calls_the_hooks_a_bounded_number_of_times(make):
    """Reports are limited per registration and error type; the rest is counted."""
    calls = []

    async def hook(report):
        calls.append(report)

    async with make(on_error=hook, hooks_per_minute=3) as telemetry:
        listener = telemetry.register_listener(raiser(ValueError("x")), topic="t", app_key=APP)
        for _ in range(50):
            await telemetry.execute(InvokeHandler(listener))
    assert len(calls) == 3
    assert telemetry.error_hooks.suppressed == 47


async def test_cancelled_runs_call_no_hook(make):
    """A cancellation is no failure."""
    calls = []
    async with make(on_error=calls.append) as telemetry:
        listener = telemetry.register_listener(raiser(asyncio.CancelledError()), topic="t", app_key=APP)
        with pytest.raises(asyncio.CancelledError):
            await telemetry.execute(InvokeHandler(listener))
    assert calls == []


async def test_a_broken_logging_set_up_hurts_nobody(make, rows):
    """A filter of the user's that raises costs the log line, not the run."""

    def broken(record):
        raise RuntimeError("filter")

    logger = logging.getLogger("handspan.executor")
    logger.addFilter(broken)
    try:
        async with make() as telemetry:
            result = await run(telemetry, raiser(ValueError("x")))
    finally:
        logger.removeFilter(broken)
    assert result.status == "error"
    assert len(rows("SELECT * FROM handler_invocations")) == 1


async def test_what_a_hook_starts_elsewhere_is_reported_like_anything_else(make):
    """Only what a hook itself awaits is silent: a task it starts is not a hook."""
    calls, done = [], asyncio.Event()

    async def hook(report):
        calls.append(report.handle.name)
        if len(calls) == 1:
            tasks.append(asyncio.create_task(telemetry.execute(InvokeHandler(other))))
        else:
            done.set()

    tasks = []
    async with make(on_error=hook) as telemetry:
        other = telemetry.register_listener(raiser(ValueError("inner")), topic="n", app_key=APP, name="other")
        await run(telemetry, raiser(ValueError("outer")))
        await done.wait()
    assert calls == ["on_event", "other"]
