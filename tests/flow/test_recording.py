"""From execute() to the row: what is stored, of whom, and what triggered it."""

import asyncio
import json

import pytest
from opentelemetry import trace
from whenever import Instant, TimeDelta

import handspan
from handspan import ExecuteJob, InvokeHandler
from handspan.clock import instant_from_ns

APP = "kitchen.KitchenLights"


async def on_light(event): ...


async def tidy_up(): ...


async def test_the_readmes_example(make, rows):
    """The first thing anybody tries works as written."""
    async with make(service_name="home") as telemetry:
        light = telemetry.register_listener(on_light, topic="state_changed.light.kitchen", app_key=APP)
        tidy = telemetry.register_job(
            tidy_up, job_name="tidy", app_key=APP, trigger_type="interval", trigger_value="300"
        )
        result = await telemetry.execute(InvokeHandler(light, event={"state": "on"}))
        await telemetry.execute(ExecuteJob(tidy))
    assert result.status == "success"
    assert result.duration_ms > 0
    executions = rows("SELECT kind, service, app_key, name, trigger, status FROM v_executions ORDER BY kind")
    assert executions == [
        {"kind": "handler", "service": "home", "app_key": APP, "name": "on_light",
         "trigger": "state_changed.light.kitchen", "status": "success"},
        {"kind": "job", "service": "home", "app_key": APP, "name": "tidy", "trigger": "interval 300",
         "status": "success"},
    ]  # fmt: skip
    (session,) = rows("SELECT * FROM sessions")
    assert session["stop_reason"] == "clean_shutdown"
    assert session["committed_segment"] >= 1
    assert rows("SELECT * FROM running") == rows("SELECT * FROM registration_holders") == []


async def test_a_second_run_adds_a_session_and_no_parent(make, rows):
    """Natural keys carry identity across restarts; only what changed changes."""
    for version, debounce in (("1", None), ("2", 0.5)):
        async with make(service_version=version) as telemetry:
            light = telemetry.register_listener(on_light, topic="t", app_key=APP, debounce=debounce)
            tidy = telemetry.register_job(tidy_up, app_key=APP)
            await telemetry.execute(InvokeHandler(light))
            await telemetry.execute(ExecuteJob(tidy))
    assert [row["service_version"] for row in rows("SELECT service_version FROM sessions")] == ["1", "2"]
    (listener,) = rows("SELECT * FROM listeners")
    assert listener["debounce"] == 0.5
    assert listener["last_registered_at"] > listener["first_registered_at"]
    assert len(rows("SELECT * FROM scheduled_jobs")) == 1
    assert len(rows("SELECT * FROM services")) == 1
    assert [row["n"] for row in rows("SELECT count(*) AS n FROM handler_invocations GROUP BY session_id")] == [1, 1]


async def test_registrations_are_rows_before_anything_runs(make, rows):
    """What is registered is visible at once, with where and how it was registered."""
    async with make() as telemetry:
        telemetry.register_listener(
            on_light, topic="light.*", app_key=APP, instance_index=2, name="kitchen", debounce=0.1, throttle=1,
            once=True, priority=5, predicate_description="state == 'on'",
        )  # fmt: skip
        assert await telemetry.aflush()
        (row,) = rows("SELECT * FROM listeners")
    assert {key: row[key] for key in ("instance_index", "name", "handler_method", "topic", "debounce", "throttle")} == {
        "instance_index": 2, "name": "kitchen", "handler_method": "on_light", "topic": "light.*", "debounce": 0.1,
        "throttle": 1.0,
    }  # fmt: skip
    assert (row["once"], row["priority"], row["predicate_description"]) == (1, 5, "state == 'on'")
    assert row["source_location"].startswith("tests/flow/test_recording.py:")
    assert row["registration_source"].startswith("telemetry.register_listener(")
    assert row["registration_source"].endswith(")")
    assert "priority=5" in row["registration_source"]
    assert row["code_function"].endswith("test_recording.on_light")


@pytest.mark.parametrize("what", ["listener", "job"])
async def test_a_second_live_registration_of_one_key_is_refused(make, what):
    """The mistake is named where it is made, with the cure."""
    async with make() as telemetry:

        def register():
            if what == "job":
                return telemetry.register_job(tidy_up, app_key=APP, job_name="open_blinds")
            return telemetry.register_listener(on_light, topic="t", app_key=APP, name="open_blinds")

        first = register()
        with pytest.raises(handspan.HandspanError) as caught:
            register()
        where = " on topic 't'" if what == "listener" else ""
        assert str(caught.value) == (
            f"A {what} named 'open_blinds'{where} already exists for this app instance. Provide a distinct name."
        )
        first.cancel()
        register()


async def test_a_cancelled_handle_is_retired_and_comes_back(make, rows):
    """``retired_at`` says since when nobody is registered; registering again clears it."""
    async with make() as telemetry:
        telemetry.register_listener(on_light, topic="t", app_key=APP).cancel()
        job = telemetry.register_job(tidy_up, app_key=APP)
        job.cancel()
        await telemetry.aflush()
        assert rows("SELECT retired_at FROM listeners")[0]["retired_at"] is not None
        assert rows("SELECT retired_at FROM scheduled_jobs")[0]["retired_at"] is not None
        telemetry.register_job(tidy_up, app_key=APP)
        await telemetry.aflush()
        assert rows("SELECT retired_at FROM scheduled_jobs")[0]["retired_at"] is None


async def test_what_is_still_held_by_another_session_is_not_retired(make, rows):
    """Two processes of one service hold one listener: it is retired when the last lets go."""
    async with make() as one, make() as two:
        first = one.register_listener(on_light, topic="t", app_key=APP)
        second = two.register_listener(on_light, topic="t", app_key=APP)
        await one.aflush()
        await two.aflush()
        first.cancel()
        await one.aflush()
        assert rows("SELECT retired_at FROM listeners")[0]["retired_at"] is None
        second.cancel()
        await two.aflush()
        assert rows("SELECT retired_at FROM listeners")[0]["retired_at"] is not None


async def test_two_services_with_one_app_key_never_merge(make, rows):
    """Identity includes the service."""
    async with make(service_name="a") as one, make(service_name="b") as two:
        for telemetry in (one, two):
            light = telemetry.register_listener(on_light, topic="t", app_key=APP)
            await telemetry.execute(InvokeHandler(light))
    found = rows("SELECT service, listener_id FROM v_handler_invocations ORDER BY service")
    assert [row["service"] for row in found] == ["a", "b"]
    assert len({row["listener_id"] for row in found}) == 2


@pytest.mark.parametrize("propagation", ["link", "child"])
async def test_a_handler_whose_event_triggers_another(make, rows, propagation):
    """A cascade is seen: as a link between two traces, or, when set, as one trace."""

    async def first(event):
        here = trace.get_current_span().get_span_context()
        await telemetry.execute(InvokeHandler(second_listener, published_by=here, published_at=Instant.now()))

    async def second(event): ...

    async with make(propagation=propagation) as telemetry:
        first_listener = telemetry.register_listener(first, topic="door", app_key=APP)
        second_listener = telemetry.register_listener(second, topic="light", app_key=APP)
        result = await telemetry.execute(InvokeHandler(first_listener))
    (row,) = rows("SELECT * FROM v_handler_invocations WHERE name = 'second'")
    if propagation == "link":
        assert (row["link_trace_id"], row["link_span_id"]) == (result.trace_id, result.span_id)
        assert row["trace_id"] != result.trace_id
        assert row["parent_span_id"] is None
    else:
        assert (row["trace_id"], row["parent_span_id"]) == (result.trace_id, result.span_id)
        assert row["link_trace_id"] is None
    assert row["queue_ms"] >= 0


async def test_what_a_handler_adds_to_its_span_is_kept(make, rows):
    """Attributes, events and further links go with the row; ours are not repeated in it."""

    async def on_event(event):
        span = trace.get_current_span()
        span.set_attribute("room", "kitchen")
        span.add_event("noticed", {"lux": 3})

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
    (row,) = rows("SELECT attributes, extra FROM handler_invocations")
    assert row["attributes"] == '{"room":"kitchen"}'
    ((name, _, attributes),) = json.loads(row["extra"])["events"]
    assert (name, attributes) == ("noticed", {"lux": 3})


async def test_the_spans_of_libraries_inside_a_run_are_kept_with_it(make, rows):
    """The waterfall needs the children; what happens outside a run is not ours to keep."""

    async def on_event(event):
        with telemetry.tracer_provider.get_tracer("http").start_as_current_span("GET /") as span:
            span.set_attribute("url", "http://x")

    async with make() as telemetry:
        with telemetry.tracer_provider.get_tracer("other").start_as_current_span("not ours"):
            pass
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        result = await telemetry.execute(InvokeHandler(listener))
    (span,) = rows("SELECT * FROM v_spans")
    assert (span["name"], span["trace_id"], span["parent_span_id"]) == ("GET /", result.trace_id, result.span_id)
    assert span["attributes"] == '{"url":"http://x"}'


async def test_times_are_exact(make, rows):
    """REAL epoch seconds carry the microsecond; duration, queue and schedule are what the clocks said."""

    class Stepping:
        wall, mono = 1_790_000_000_123_456_000, 0

        def wall_ns(self):
            return self.wall

        def monotonic_ns(self):
            self.mono += 1_500_000
            return self.mono

    due = instant_from_ns(Stepping.wall) - TimeDelta(seconds=2)
    async with make(clock=Stepping()) as telemetry:
        light = telemetry.register_listener(on_light, topic="t", app_key=APP)
        tidy = telemetry.register_job(tidy_up, app_key=APP)
        await telemetry.execute(InvokeHandler(light, published_at=due))
        await telemetry.execute(ExecuteJob(tidy, scheduled_at=due))
    (handler,) = rows("SELECT execution_start_ts, duration_ms, queue_ms FROM handler_invocations")
    assert round(handler["execution_start_ts"] * 1e6) * 1000 == Stepping.wall
    assert (handler["duration_ms"], handler["queue_ms"]) == (1.5, 2000.0)
    (job,) = rows("SELECT scheduled_at, delay_ms FROM v_job_executions")
    assert job["scheduled_at"] == "2026-09-21T14:13:18.123Z"
    assert job["delay_ms"] == pytest.approx(2000)


async def test_equal_stacks_are_stored_once(make, rows):
    """An error storm stores one traceback text, whatever the messages say."""

    async def on_event(event):
        raise ValueError(f"number {event}")

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        for number in range(100):
            await telemetry.execute(InvokeHandler(listener, event=number))
    assert len(rows("SELECT * FROM tracebacks")) == 1
    texts = {row["error_traceback"] for row in rows("SELECT error_traceback FROM v_handler_invocations")}
    assert len(texts) == 100
    assert all(text.startswith("Traceback (most recent call last):\n") for text in texts)


@pytest.mark.slow
async def test_fifty_thousand_commands_from_fifty_tasks(make, rows):
    """Nothing is missing, nothing is there twice, and the statuses are what execute() returned."""
    returned = []

    async def on_event(event):
        if event % 10 == 0:
            await asyncio.sleep(0)
        if event % 50 == 0:
            raise ValueError("fiftieth")

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)

        async def task(first):
            for number in range(first, 50_000, 50):
                result = await telemetry.execute(InvokeHandler(listener, event=number))
                returned.append((result.trace_id, result.span_id, result.status))

        await asyncio.gather(*(task(first) for first in range(50)))
    stored = [tuple(r.values()) for r in rows("SELECT trace_id, span_id, status FROM v_handler_invocations")]
    assert len(stored) == 50_000
    assert sorted(stored) == sorted(returned)
    assert len({span for _, span, _ in stored}) == 50_000
    assert rows("SELECT * FROM losses") == []


async def test_commands_in_flight_are_visible_to_others_and_leave_when_they_end(make, rows):
    """``running`` shows what runs now, from a commit on; the end of the run takes it out."""
    started, release = asyncio.Event(), asyncio.Event()

    async def on_event(event):
        started.set()
        await release.wait()

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        task = asyncio.create_task(telemetry.execute(InvokeHandler(listener)))
        await started.wait()
        assert await telemetry.aflush()
        (row,) = rows("SELECT listener_id, job_id FROM running")
        assert row == {"listener_id": 1, "job_id": None}
        assert telemetry.health().active == 1
        release.set()
        await task
        assert await telemetry.aflush()
        assert rows("SELECT * FROM running") == []
    assert len(rows("SELECT * FROM handler_invocations")) == 1


async def test_closing_records_what_still_runs_as_interrupted(make, rows):
    """close() waits until its deadline, and no longer."""
    started = asyncio.Event()

    async def on_event(event):
        started.set()
        await asyncio.Event().wait()

    telemetry = make(shutdown_timeout=0.05)
    async with telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        task = asyncio.create_task(telemetry.execute(InvokeHandler(listener)))
        await started.wait()
        await telemetry.aflush()
    (row,) = rows("SELECT status, error_type, error_message FROM v_handler_invocations")
    assert row == {
        "status": "error",
        "error_type": "ProcessInterrupted",
        "error_message": "The process ended while this ran.",
    }
    assert rows("SELECT * FROM running") == []
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_what_runs_after_close_runs_and_is_counted(make):
    """A closed Telemetry is no reason to stop the house: the handler runs, the loss is shown."""
    telemetry = make()
    async with telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key=APP)
    result = await telemetry.execute(InvokeHandler(listener))
    assert result.status == "success"
    assert telemetry.health().lost == {"after_shutdown": 1}


async def test_disabling_the_sdk_turns_recording_off(make, monkeypatch, tmp_path, caplog):
    """OTEL_SDK_DISABLED: everything runs, nothing is kept, one line says so."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    async with make() as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key=APP)
        assert (await telemetry.execute(InvokeHandler(listener))).ok
    assert list(tmp_path.iterdir()) == []
    assert len([record for record in caplog.records if "OTEL_SDK_DISABLED" in record.message]) == 1


def test_a_program_without_a_loop_may_open_and_close(make, rows):
    """``with`` serves synchronous programs; what they run in a loop of their own is recorded."""
    with make() as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key=APP)
        for _ in range(2):  # two loops in turn
            asyncio.run(telemetry.execute(InvokeHandler(listener)))
        assert telemetry.flush()
    assert len(rows("SELECT * FROM handler_invocations")) == 2


async def test_decorated_functions_are_commands_to_us_and_themselves_to_their_callers(make, rows):
    """A decorator records, returns what the function returns and raises what it raises."""
    async with make() as telemetry:

        @telemetry.handler("orders.created", app_key="shop")
        async def on_order(order, *, quick=False):
            return order, quick

        @telemetry.job(app_key="shop", job_name="nightly")
        def clean():
            raise LookupError("nothing to clean")

        assert await on_order(1, quick=True) == (1, True)
        with pytest.raises(LookupError):
            await clean()
    assert [row["status"] for row in rows("SELECT status FROM v_executions ORDER BY kind")] == ["success", "error"]
