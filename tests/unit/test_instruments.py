"""The metrics: their names, units and boundaries are an interface; each run is counted once."""

import asyncio
import gc
import subprocess
import sys
import weakref

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from whenever import Instant

import handspan
from handspan import ExecuteJob, InvokeHandler, attributes
from handspan.instruments import DURATION_BOUNDARIES

HISTOGRAMS = {
    "messaging.process.duration",
    "handspan.job.duration",
    "handspan.job.schedule.delay",
    "handspan.handler.queue.duration",
    "handspan.store.commit.duration",
}
OBSERVED = {
    "handspan.execution.active": "{execution}",
    "otel.sdk.processor.span.queue.size": "{span}",
    "otel.sdk.processor.span.queue.capacity": "{span}",
    "otel.sdk.processor.span.processed": "{span}",
    "handspan.store.size": "By",
}


class Meters:
    """A meter provider and what it has measured so far."""

    def __init__(self):
        self.reader = InMemoryMetricReader()
        self.provider = MeterProvider([self.reader], shutdown_on_exit=False)

    def collect(self):
        data = self.reader.get_metrics_data()
        if data is None:
            return {}
        return {
            metric.name: metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def points(self, name):
        metric = self.collect().get(name)
        return [] if metric is None else list(metric.data.data_points)


@pytest.fixture
def meters():
    found = Meters()
    yield found
    found.provider.shutdown()


class OutOfBulbs(Exception):
    """Somebody's own."""


async def on_light(event):
    """Does what the event says."""
    if isinstance(event, BaseException):
        raise event
    return event


async def execute(telemetry, handle, *events, **options):
    for event in events:
        try:
            await telemetry.execute(InvokeHandler(handle, event, **options))
        except asyncio.CancelledError:
            pass


async def test_every_metric_has_its_documented_name_and_unit(make, meters):
    """Dashboards are built on these."""
    moment = Instant.now()
    async with make(meter_provider=meters.provider) as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key="app")
        job = telemetry.register_job(on_light, app_key="app", args=(1,))
        await telemetry.execute(InvokeHandler(listener, published_at=moment))
        await telemetry.execute(ExecuteJob(job, scheduled_at=moment))
        await telemetry.aflush()
        found = meters.collect()
    assert {name: metric.unit for name, metric in found.items()} == dict.fromkeys(HISTOGRAMS, "s") | OBSERVED
    assert all(metric.description for metric in found.values())


async def test_durations_are_seconds_with_explicit_boundaries(make, meters):
    """The conventions' messaging advice up to ten seconds, then what jobs take."""
    async with make(meter_provider=meters.provider) as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key="app")
        result = await telemetry.execute(InvokeHandler(listener))
        (point,) = meters.points("messaging.process.duration")
    assert point.explicit_bounds == tuple(DURATION_BOUNDARIES)
    assert point.sum == pytest.approx(result.duration_ns / 1e9)
    assert list(DURATION_BOUNDARIES) == sorted(set(DURATION_BOUNDARIES))


async def test_a_run_is_one_point_in_one_duration(make, meters):
    """Each run is counted once, in the histogram of its kind and no other."""
    async with make(meter_provider=meters.provider) as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key="app")
        job = telemetry.register_job(on_light, app_key="app", args=(1,))
        await execute(telemetry, listener, 1, 2, ValueError("x"), asyncio.CancelledError())
        await telemetry.execute(ExecuteJob(job))
        handlers = sum(point.count for point in meters.points("messaging.process.duration"))
        jobs = sum(point.count for point in meters.points("handspan.job.duration"))
    assert (handlers, jobs) == (4, 1)


@pytest.mark.parametrize(
    ("event", "outcome", "error_type"),
    [
        pytest.param("on", "success", None, id="success"),
        pytest.param(ValueError("bulb 7"), "error", "ValueError", id="builtin-error"),
        pytest.param(OutOfBulbs(), "error", f"{__name__}.OutOfBulbs", id="qualified-error"),
        pytest.param(asyncio.CancelledError(), "cancelled", None, id="cancelled"),
    ],
)
async def test_a_handler_s_attributes_are_few_and_never_of_one_run(make, meters, event, outcome, error_type):
    """What dashboards group by; no message, no id, no instance: cardinality stays what the code says."""
    async with make(meter_provider=meters.provider) as telemetry:
        listener = telemetry.register_listener(on_light, topic="light.*", app_key="kitchen", instance_index=3)
        await execute(telemetry, listener, event)
        (point,) = meters.points("messaging.process.duration")
    assert dict(point.attributes) == {
        "messaging.system": "handspan",
        "messaging.operation.name": "handle",
        "messaging.destination.name": "light.*",
        "handspan.app.key": "kitchen",
        "handspan.listener.name": "on_light",
        "handspan.outcome": outcome,
    } | ({} if error_type is None else {"error.type": error_type})


async def test_a_job_s_attributes(make, meters):
    """Likewise."""
    async with make(meter_provider=meters.provider) as telemetry:
        job = telemetry.register_job(on_light, job_name="tidy", app_key="kitchen", args=(1,), trigger_type="cron",
                                     trigger_value="0 7 * * *")  # fmt: skip
        await telemetry.execute(ExecuteJob(job))
        (point,) = meters.points("handspan.job.duration")
    assert dict(point.attributes) == {
        "handspan.app.key": "kitchen",
        "handspan.job.name": "tidy",
        "handspan.outcome": "success",
    }


async def test_our_own_deadline_counts_as_a_timeout(make, meters):
    """``error.type`` is TimeoutError, whatever the handler made of being stopped."""

    async def forever(event):
        await asyncio.Event().wait()

    async with make(meter_provider=meters.provider) as telemetry:
        listener = telemetry.register_listener(forever, topic="t", app_key="app", timeout=0.01)
        await execute(telemetry, listener, None)
        (point,) = meters.points("messaging.process.duration")
    assert point.attributes["error.type"] == "TimeoutError"


async def test_waiting_times_are_measured_only_when_their_moment_was_given(make, meters):
    """Zero would be a lie: no publication moment, no point."""
    early = Instant.now().subtract(seconds=2)
    late = Instant.now().add(hours=1)
    async with make(meter_provider=meters.provider) as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key="app")
        job = telemetry.register_job(on_light, app_key="app", args=(1,))
        await telemetry.execute(InvokeHandler(listener))
        await telemetry.execute(ExecuteJob(job))
        without = {*meters.collect()}
        await telemetry.execute(InvokeHandler(listener, published_at=early))
        await telemetry.execute(ExecuteJob(job, scheduled_at=early))
        await telemetry.execute(ExecuteJob(job, scheduled_at=late))
        (queued,) = meters.points("handspan.handler.queue.duration")
        (delayed,) = meters.points("handspan.job.schedule.delay")
    assert without.isdisjoint({"handspan.handler.queue.duration", "handspan.job.schedule.delay"})
    assert (queued.count, delayed.count) == (1, 2)
    assert queued.sum >= 2
    assert delayed.min == 0, "a job that ran early was not late"


async def test_what_is_in_flight_is_observed(make, meters):
    """Up while it runs, down when it has ended."""
    entered, gate = asyncio.Event(), asyncio.Event()

    async def waits(event):
        entered.set()
        await gate.wait()

    async with make(meter_provider=meters.provider) as telemetry:
        listener = telemetry.register_listener(waits, topic="t", app_key="app")
        before = [point.value for point in meters.points("handspan.execution.active")]
        task = asyncio.create_task(telemetry.execute(InvokeHandler(listener)))
        await entered.wait()
        during = [point.value for point in meters.points("handspan.execution.active")]
        gate.set()
        await task
        after = [point.value for point in meters.points("handspan.execution.active")]
    assert (before, during, after) == ([0], [1], [0])


async def test_our_own_health_is_observed(make, meters):
    """Queue, its bound, what was committed, the file: under the component that reports it."""
    async with make(meter_provider=meters.provider, queue_max_spans=1_000, commit_interval=60) as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key="app")
        await telemetry.aflush()
        await execute(telemetry, listener, 1, 2, 3)
        (waiting,) = meters.points("otel.sdk.processor.span.queue.size")
        await telemetry.aflush()
        (drained,) = meters.points("otel.sdk.processor.span.queue.size")
        (capacity,) = meters.points("otel.sdk.processor.span.queue.capacity")
        (processed,) = meters.points("otel.sdk.processor.span.processed")
        (size,) = meters.points("handspan.store.size")
        commits = meters.points("handspan.store.commit.duration")
    assert (waiting.value, drained.value, capacity.value, processed.value) == (3, 0, 1_000, 3)
    assert size.value > 0
    assert sum(point.count for point in commits) >= 1
    component = {
        attributes.COMPONENT_TYPE: "handspan_durable_span_processor",
        attributes.COMPONENT_NAME: "handspan_durable_span_processor/0",
    }
    assert dict(waiting.attributes) == dict(capacity.attributes) == dict(processed.attributes) == component


async def test_what_was_lost_is_observed_by_reason(make, meters):
    """``error.type`` of the processed spans says why they were not kept."""
    bounds = {"queue_max_spans": 2, "commit_interval": 60, "journal": False}
    async with make(meter_provider=meters.provider, **bounds) as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key="app")
        await telemetry.aflush()
        await execute(telemetry, listener, *[ValueError("x")] * 5)
        await telemetry.aflush()
        points = meters.points("otel.sdk.processor.span.processed")
    by_reason = {point.attributes.get("error.type"): point.value for point in points}
    assert by_reason == {None: 2, "queue_full": 3}


async def test_two_telemetries_on_one_provider_add_up(make, meters, tmp_path, caplog):
    """One stream per metric, the sum of both; the SDK has nothing to complain about."""
    async with (
        make(meter_provider=meters.provider, queue_max_spans=10) as first,
        make(meter_provider=meters.provider, queue_max_spans=20, db=str(tmp_path / "other.db")) as second,
    ):
        for telemetry in (first, second):
            listener = telemetry.register_listener(on_light, topic="t", app_key="app")
            await execute(telemetry, listener, 1)
            await telemetry.aflush()
        (runs,) = meters.points("messaging.process.duration")
        (capacity,) = meters.points("otel.sdk.processor.span.queue.capacity")
        (processed,) = meters.points("otel.sdk.processor.span.processed")
    assert (runs.count, capacity.value, processed.value) == (2, 30, 2)
    assert "has been created already" not in caplog.text


def test_a_telemetry_that_is_gone_is_not_observed_any_more(db, meters):
    """Instruments cannot be taken back, so they hold nobody: one that was closed and dropped is gone."""
    telemetry = handspan.Telemetry(
        db, meter_provider=meters.provider, set_global_providers=False, handle_sigterm=False, queue_max_spans=10
    )
    with telemetry:
        assert [point.value for point in meters.points("otel.sdk.processor.span.queue.capacity")] == [10]
    gone = weakref.ref(telemetry)
    del telemetry
    gc.collect()
    assert gone() is None
    assert meters.points("otel.sdk.processor.span.queue.capacity") == []


def test_a_provider_that_is_gone_is_freed(db):
    """An application (or a test suite) that makes providers does not collect them."""
    meters = Meters()
    telemetry = handspan.Telemetry(db, meter_provider=meters.provider, set_global_providers=False, handle_sigterm=False)
    telemetry.close()
    meters.provider.shutdown()
    gone = weakref.ref(meters.provider)
    del meters, telemetry
    gc.collect()
    assert gone() is None


PROVIDER_LATER = """
import asyncio, logging, sys
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
import handspan

async def main():
    async with handspan.Telemetry(sys.argv[1], queue_max_spans=10):
        reader = InMemoryMetricReader()
        metrics.set_meter_provider(MeterProvider([reader], shutdown_on_exit=False))
        async with handspan.Telemetry(sys.argv[2], queue_max_spans=20):
            data = reader.get_metrics_data()
    values = [
        point.value
        for resource in data.resource_metrics for scope in resource.scope_metrics for metric in scope.metrics
        if metric.name == "otel.sdk.processor.span.queue.capacity" for point in metric.data.data_points
    ]
    print(sorted(values))

logging.basicConfig(stream=sys.stdout)
asyncio.run(main())
"""


def test_a_provider_set_after_the_first_telemetry_gets_one_stream_per_metric(tmp_path):
    """The API's proxy hands over to the real provider: still one set of instruments, and the sum of both."""
    found = subprocess.run(
        [sys.executable, "-c", PROVIDER_LATER, str(tmp_path / "a.db"), str(tmp_path / "b.db")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == "[30]\n"


async def test_without_a_meter_provider_nothing_is_measured_and_nothing_breaks(make, rows):
    """The API's proxy stands in: rows are written all the same."""
    async with make() as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key="app")
        await execute(telemetry, listener, 1)
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": 1}]
