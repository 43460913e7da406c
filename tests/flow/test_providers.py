"""Living with other people's OpenTelemetry."""

import pytest
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, TraceIdRatioBased

from handspan import ExecuteJob, InvokeHandler

APP = "kitchen.KitchenLights"


async def on_light(event): ...


async def failing(event):
    raise ValueError("bad bulb")


def provider_with_memory(**options):
    exporter = InMemorySpanExporter()
    provider = TracerProvider(resource=Resource({"service.name": "theirs"}), **options)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider, exporter


async def test_an_applications_own_provider_keeps_working(make, rows):
    """Their exporter sees the same command spans, complete; we name the service as they do."""
    provider, exporter = provider_with_memory()
    async with make(tracer_provider=provider, service_name=None) as telemetry:
        listener = telemetry.register_listener(on_light, topic="light.kitchen", app_key=APP)
        result = await telemetry.execute(InvokeHandler(listener))
    (span,) = exporter.get_finished_spans()
    assert span.name == f"handle {APP}.on_light"
    assert span.kind is trace.SpanKind.CONSUMER
    assert f"{span.context.span_id:016x}" == result.span_id
    attributes = dict(span.attributes)
    assert attributes.pop("handspan.duration_ms") == result.duration_ms
    assert attributes.pop("code.line.number") > 0
    assert attributes.pop("code.file.path").endswith("test_providers.py")
    assert attributes == {
        "messaging.system": "handspan",
        "messaging.operation.name": "handle",
        "messaging.operation.type": "process",
        "messaging.destination.name": "light.kitchen",
        "code.function.name": f"{__name__}.on_light",
        "handspan.app.key": APP,
        "handspan.app.instance": 0,
        "handspan.listener.name": "on_light",
        "handspan.outcome": "success",
    }
    assert rows("SELECT service, span_id FROM v_handler_invocations") == [
        {"service": "theirs", "span_id": result.span_id}
    ]


@pytest.mark.parametrize("own", [True, False], ids=["our-provider", "their-provider"])
async def test_every_exporter_sees_a_true_failed_span(make, own):
    """ERROR with a description and one exception event, by the conventions' names, whichever span was used."""
    exporter = InMemorySpanExporter()
    given = None if own else TracerProvider()
    async with make(tracer_provider=given) as telemetry:
        telemetry.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
        listener = telemetry.register_listener(failing, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
    (span,) = exporter.get_finished_spans()
    assert isinstance(span, ReadableSpan)
    assert span.status.status_code is trace.StatusCode.ERROR
    assert span.status.description == "bad bulb"
    assert span.attributes["error.type"] == "ValueError"
    (event,) = span.events
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "ValueError"
    assert event.attributes["exception.stacktrace"].endswith("ValueError: bad bulb")
    assert span.instrumentation_scope.name == "handspan"


async def test_a_processor_that_joins_while_a_command_runs_gets_a_true_span(make):
    """A light span becomes the SDK's own kind at its end, with all its attributes."""
    exporter = InMemorySpanExporter()

    async def on_event(event):
        trace.get_current_span().set_attribute("mine", 1)
        telemetry.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
    (span,) = exporter.get_finished_spans()
    assert span.attributes["mine"] == 1
    assert span.attributes["handspan.outcome"] == "success"
    assert span.to_json()


@pytest.mark.parametrize(
    "sampler", [ALWAYS_OFF, ParentBased(TraceIdRatioBased(0))], ids=["always-off", "parent-based-ratio-0"]
)
async def test_their_sampler_decides_what_they_export_and_not_what_we_record(make, rows, sampler):
    """An unsampled run is recorded with valid ids; nothing is exported."""
    provider, exporter = provider_with_memory(sampler=sampler)
    async with make(tracer_provider=provider) as telemetry:
        listener = telemetry.register_listener(failing, topic="t", app_key=APP)
        result = await telemetry.execute(InvokeHandler(listener))
    assert exporter.get_finished_spans() == ()
    (row,) = rows("SELECT span_id, error_type FROM v_handler_invocations")
    assert row == {"span_id": result.span_id, "error_type": "ValueError"}
    assert int(result.span_id, 16) > 0


async def test_on_our_provider_an_unsampled_run_keeps_its_children(make, rows, monkeypatch):
    """Recording everything here does not send everything: unsampled spans reach processors, not exporters."""
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "always_off")
    exporter = InMemorySpanExporter()

    async def on_event(event):
        with telemetry.tracer_provider.get_tracer("lib").start_as_current_span("child", attributes={"k": "v"}):
            pass

    async with make() as telemetry:
        telemetry.tracer_provider.add_span_processor(SimpleSpanProcessor(exporter))
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
    assert exporter.get_finished_spans() == ()
    assert rows("SELECT name, attributes FROM v_spans") == [{"name": "child", "attributes": '{"k":"v"}'}]
    assert len(rows("SELECT * FROM handler_invocations")) == 1


class Raising(SpanProcessor):
    def on_end(self, span):
        raise RuntimeError("their processor")


async def test_a_processor_of_theirs_that_raises_costs_no_row(make, rows):
    """The SDK would hide the span from us and raise into the caller: neither happens."""
    provider = TracerProvider()
    provider.add_span_processor(Raising())
    async with make(tracer_provider=provider) as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key=APP)
        result = await telemetry.execute(InvokeHandler(listener))
    assert result.ok
    assert len(rows("SELECT * FROM handler_invocations")) == 1


async def test_attribute_limits_cost_no_row_its_meaning(make, rows, monkeypatch):
    """What the row needs does not travel by span attributes."""
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "3")
    async with make(tracer_provider=TracerProvider()) as telemetry:
        listener = telemetry.register_listener(failing, topic="light.kitchen", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
    (row,) = rows("SELECT app_key, topic, error_message FROM v_handler_invocations")
    assert row == {"app_key": APP, "topic": "light.kitchen", "error_message": "bad bulb"}


async def test_two_telemetries_on_one_provider_take_their_own(make, rows, tmp_path):
    """A processor takes only spans started under its own Telemetry."""
    other = str(tmp_path / "other.db")
    provider = TracerProvider()
    async with make(tracer_provider=provider) as one, make(tracer_provider=provider, db=other) as two:
        for telemetry, times in ((one, 1), (two, 2)):
            listener = telemetry.register_listener(on_light, topic="t", app_key=APP)
            for _ in range(times):
                await telemetry.execute(InvokeHandler(listener))
    assert len(rows("SELECT * FROM handler_invocations")) == 1
    assert len(rows("SELECT * FROM handler_invocations", path=other)) == 2


async def test_a_provider_that_makes_no_spans_still_gives_rows(make, rows):
    """With the API's no-op provider the rows have ids of their own."""
    async with make(tracer_provider=trace.NoOpTracerProvider()) as telemetry:
        job = telemetry.register_job(lambda: None, job_name="quiet", app_key=APP)
        for _ in range(2):
            await telemetry.execute(ExecuteJob(job))
    ids = [row["span_id"] for row in rows("SELECT span_id FROM v_job_executions")]
    assert len(set(ids)) == 2
    assert "0" * 16 not in ids
