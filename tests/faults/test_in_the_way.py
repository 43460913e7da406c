"""What is thrown into our own works stops neither the application nor, for long, the recording."""

import asyncio
import os
import threading

import pytest
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult

from handspan import InvokeHandler
from handspan.store import writer as writer_module
from handspan_exporters import sqlite as exporter_module
from handspan_exporters.sqlite import SQLiteSpanExporter

APP = "a.B"
ENDS_ANYTHING = [asyncio.CancelledError("x"), SystemExit(1), KeyboardInterrupt(), GeneratorExit(), MemoryError()]


async def on_event(event): ...


@pytest.mark.parametrize("error", ENDS_ANYTHING, ids=lambda error: type(error).__name__)
async def test_the_writers_thread_outlives_anything(make, rows, monkeypatch, error):
    """Whatever comes out of a commit, the segment is kept and tried again."""
    real, raised = writer_module.commit_what_can_be, []

    def sometimes(*args):
        if len(raised) < 2:
            raised.append(error)
            raise error
        real(*args)

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        assert await telemetry.aflush()
        monkeypatch.setattr(writer_module, "commit_what_can_be", sometimes)
        for _ in range(10):
            assert (await telemetry.execute(InvokeHandler(listener))).ok
        assert await telemetry.aflush()
        assert telemetry.health().failing_since is None
    assert len(raised) == 2
    assert rows("SELECT count(*) AS n, count(DISTINCT span_id) AS d FROM handler_invocations") == [{"n": 10, "d": 10}]


@pytest.mark.parametrize(
    "error", [each for each in ENDS_ANYTHING if type(each) is not KeyboardInterrupt], ids=lambda e: type(e).__name__
)
def test_the_sdks_batch_thread_outlives_our_exporter(db, rows, monkeypatch, error):
    """One CancelledError out of an exporter ends the SDK's thread for good; none comes out of ours."""
    real, raised = exporter_module.foreign_record, []

    def sometimes(*args):
        if not raised:
            raised.append(error)
            raise error
        return real(*args)

    monkeypatch.setattr(exporter_module, "foreign_record", sometimes)
    results = []

    class Noting(SQLiteSpanExporter):
        def export(self, spans):
            results.append(super().export(spans))
            return results[-1]

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Noting(db), schedule_delay_millis=10))
    tracer = provider.get_tracer("theirs")
    for number in range(5):
        tracer.start_span(f"span {number}").end()
        assert provider.force_flush()
    provider.shutdown()
    assert raised
    assert results.count(SpanExportResult.SUCCESS) >= 4
    assert len(rows("SELECT * FROM spans")) == 4
    assert rows("SELECT kind, reason, count FROM losses") == [{"kind": "span", "reason": "failed", "count": 1}]


@pytest.mark.parametrize("error", [RuntimeError("theirs"), asyncio.CancelledError(), SystemExit(1)], ids=repr)
@pytest.mark.parametrize("when", ["on_start", "on_end"])
@pytest.mark.parametrize("own", [True, False], ids=["our-provider", "their-provider"])
async def test_a_processor_of_theirs_that_raises_costs_no_run(make, rows, own, when, error):
    """An ordinary exception stays away from the handler's caller. What ends tasks and processes goes on to whoever
    has it, as without us; in either case the run is a row, and none stays in flight."""

    class Raising(SpanProcessor):
        pass

    def raises(*_):
        raise error

    setattr(Raising, when, raises)
    options = {} if own else {"tracer_provider": TracerProvider()}
    telemetry = make(**options)
    telemetry.tracer_provider.add_span_processor(Raising())
    async with telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        for _ in range(3):
            try:
                await telemetry.execute(InvokeHandler(listener))
            except (asyncio.CancelledError, SystemExit):
                assert not isinstance(error, Exception)
        assert telemetry.health().active == 0
    assert len(rows("SELECT * FROM handler_invocations")) == 3


class Liar:
    """Says it is something else, and raises wherever it is touched."""

    __class__ = property(lambda self: str)
    __hash__ = None

    def __repr__(self):
        raise RuntimeError("no repr")

    __str__ = __eq__ = __bool__ = __len__ = __iter__ = __getitem__ = __format__ = lambda self, *_: self.__repr__()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(Liar(), id="liar"),
        pytest.param([Liar()], id="list-of-liars"),
        pytest.param({1: "number", None: "none", (2, 3): "tuple"}, id="keys-of-all-kinds"),
        pytest.param({"a": [{"set": {1, 2}}]}, id="unhashable"),
        pytest.param(float("nan"), id="nan"),
        pytest.param("\ud800\0", id="surrogate-and-nul"),
        pytest.param(b"\xff" * 100, id="bytes"),
        pytest.param("x" * 3_000_000, id="megabytes"),
        pytest.param(10**5_000, id="beyond-decimal"),
    ],
)
async def test_hostile_arguments_values_and_attributes(make, rows, value):
    """As a job's argument, an event, a return value, an attribute's key and value, an event's and a link's: the run
    is a row, JSON is JSON, and the handler is told nothing."""
    from opentelemetry import trace

    from handspan import ExecuteJob

    seen = []

    async def job(*args, **kwargs):
        span = trace.get_current_span()
        span.set_attribute("value", value)
        span.set_attribute(value, 1)
        span.set_attribute("plain", "kept")
        span.add_event("event", {"value": value, 5: "number"})
        seen.append(args)
        return value

    async with make() as telemetry:
        registered = telemetry.register_job(job, app_key=APP, args=(value,), kwargs={"value": value})
        listener = telemetry.register_listener(job, topic="t", app_key=APP)
        result = await telemetry.execute(ExecuteJob(registered))
        assert (result.status, result.value is value) == ("success", True), result.error_message
        assert (await telemetry.execute(InvokeHandler(listener, value))).status == "success"
    assert len(seen) == 2
    (row,) = rows("SELECT json_valid(attributes) AS valid, attributes ->> 'plain' AS plain FROM job_executions")
    assert row == {"valid": 1, "plain": "kept"}
    (row,) = rows("SELECT json_valid(args_json) AS args, json_valid(kwargs_json) AS kwargs FROM scheduled_jobs")
    assert row == {"args": 1, "kwargs": 1}
    assert rows("SELECT * FROM losses") == []


@pytest.mark.parametrize("steps", [(0, -(10**12)), (0, 10**20), (10**18, 0)], ids=["back", "far-ahead", "to-zero"])
async def test_durations_no_clock_should_give(make, rows, steps):
    """A monotonic clock that goes back or jumps beyond 64 bits: the run is a row, whatever it took."""

    class Broken:
        left = list(steps) * 10

        def wall_ns(self):
            return 1_790_000_000_000_000_000

        def monotonic_ns(self):
            return self.left.pop(0) + 1 if self.left else 1

    async with make(clock=Broken()) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        assert (await telemetry.execute(InvokeHandler(listener))).ok
    stored, lost = len(rows("SELECT * FROM handler_invocations")), rows("SELECT sum(count) AS n FROM losses")[0]["n"]
    assert stored + (lost or 0) == 1
    assert all(row["duration_ms"] >= 0 for row in rows("SELECT duration_ms FROM handler_invocations"))


async def test_a_span_of_theirs_that_ends_before_it_began(make, rows):
    """Explicit timestamps may be any: it is stored as it says, its neighbours too."""

    async def handler(event):
        tracer = telemetry.tracer_provider.get_tracer("theirs")
        tracer.start_span("backwards", start_time=2_000_000_000).end(1_000_000_000)
        tracer.start_span("forwards", start_time=1_000_000_000).end(2_000_000_000)

    async with make(db_retention_days=36_500) as telemetry:  # 1970 is old
        listener = telemetry.register_listener(handler, topic="t", app_key=APP)
        assert (await telemetry.execute(InvokeHandler(listener))).ok
    assert len(rows("SELECT * FROM spans")) + len(rows("SELECT * FROM losses")) == 2
    assert len(rows("SELECT * FROM spans WHERE name = 'forwards'")) == 1


async def test_a_handler_that_blocks_the_loop_does_not_stop_the_heart(make, rows):
    """For as long as it likes: the heartbeat and the commits are a thread's."""
    seen = []

    async def blocks(event):
        first = rows("SELECT last_heartbeat_at AS at FROM sessions")[0]["at"]
        while len(seen) < 3:  # never yields to the loop
            at = rows("SELECT last_heartbeat_at AS at FROM sessions")[0]["at"]
            if at > first:
                seen.append(at)
                first = at

    async with make(heartbeat_interval=0.02) as telemetry:
        listener = telemetry.register_listener(blocks, topic="t", app_key=APP)
        assert await telemetry.aflush()
        assert (await telemetry.execute(InvokeHandler(listener))).ok
    assert len(seen) == 3


def test_a_program_that_hardly_gives_up_the_interpreter_is_recorded(child, rows):
    """A switch interval of half a second and a handler that only computes: the writer gets its turns all the same."""
    program = child("""
    sys.setswitchinterval(0.5)
    async def spins(event):
        while not os.path.exists(sys.argv[1] + ".stop"):
            sum(range(1000))
    async def main():
        async with make(heartbeat_interval=0.1) as telemetry:
            listener, spinning = register(telemetry), register(telemetry, spins, "spins")
            for _ in range(300):
                await telemetry.execute(InvokeHandler(listener))
            say("ran")
            await telemetry.execute(InvokeHandler(spinning))
    asyncio.run(main())
    """)
    program.wait_for("ran")
    db = program.process.args[-1]
    waited = threading.Event()
    for _ in range(3_000):
        if rows("SELECT count(*) AS n FROM handler_invocations")[0]["n"] == 300:
            break
        waited.wait(0.01)
    else:
        pytest.fail("nothing was committed while the handler computed")
    with open(db + ".stop", "w"):
        pass
    assert program.end() == 0, program.stderr
    os.unlink(db + ".stop")
