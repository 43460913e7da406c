"""What both sides run: the handlers, our ``Telemetry``, the idiomatic pattern."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter, time
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags
from whenever import Instant

from handspan import InvokeHandler, Telemetry
from handspan.instruments import DURATION_BOUNDARIES

__all__ = [
    "PUBLISHED_AT",
    "PUBLISHED_BY",
    "SPAN_ATTRIBUTES",
    "Idiomatic",
    "NullExporter",
    "adds_two_attributes",
    "fails",
    "meter_provider",
    "no_op",
    "open_telemetry",
    "quiet_logger",
    "register",
]

EVENT = {"state": "on"}
PUBLISHED_BY = SpanContext(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, False, TraceFlags(3))
PUBLISHED_EPOCH = time()
PUBLISHED_AT = Instant.from_timestamp(PUBLISHED_EPOCH)

SPAN_ATTRIBUTES = {
    "messaging.system": "handspan",
    "messaging.operation.name": "handle",
    "messaging.operation.type": "process",
    "messaging.destination.name": "light.kitchen",
    "code.function.name": "benchmarks.workloads.no_op",
    "handspan.app.key": "kitchen.KitchenLights",
}
"""Six, as a careful user of the SDK puts on a span. Built once, which favours the SDK."""

METRIC_ATTRIBUTES = {
    "messaging.system": "handspan",
    "messaging.operation.name": "handle",
    "messaging.destination.name": "light.kitchen",
    "handspan.app.key": "kitchen.KitchenLights",
    "handspan.listener.name": "no_op",
    "handspan.outcome": "success",
}
"""Those ours puts on its histogram (:meth:`Idiomatic.same_metric_attributes` checks)."""


async def no_op(_event: object) -> None:
    """The least a handler can do: what is measured around it is all ours, or all the SDK's."""


async def adds_two_attributes(_event: object) -> None:
    span = trace.get_current_span()
    span.set_attribute("light.brightness", 80)
    span.set_attribute("light.room", "kitchen")


async def fails(_event: object) -> None:
    raise ValueError("the light does not answer")


def quiet_logger(name: str) -> logging.Logger:
    """A logger that formats nothing: neither side's cost shall be that of somebody's log handler."""
    logger = logging.getLogger(name)
    logger.propagate = False
    logger.addHandler(logging.NullHandler())
    return logger


def meter_provider() -> MeterProvider:
    return MeterProvider([InMemoryMetricReader()])


def open_telemetry(directory: str | Path, name: str = "ours", **options: Any) -> Telemetry:
    """Everything on, on a real file; the global provider is left alone so that both sides can live together."""
    options = {"set_global_providers": False, "handle_sigterm": False, **options}
    return Telemetry(Path(directory) / f"{name}.db", **options).open()


def register(telemetry: Telemetry, handler: Callable[..., object] = no_op, name: str = "no_op") -> Any:
    return telemetry.register_listener(handler, topic="light.kitchen", app_key="kitchen.KitchenLights", name=name)


def executing(telemetry: Telemetry, listener: Any, **given: Any) -> Callable[[], Awaitable[None]]:
    """One call of ours, the command built for it as a bus would."""
    execute = telemetry.execute

    async def call() -> None:
        await execute(InvokeHandler(listener, EVENT, **given))

    return call


class NullExporter(SpanExporter):
    """Takes everything and keeps nothing: what the SDK's pipeline costs by itself."""

    def __init__(self) -> None:
        self.exported = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.exported += len(spans)
        return SpanExportResult.SUCCESS


class Idiomatic:
    """The SDK's own way: a span, a histogram, a ``BatchSpanProcessor``.

    The histogram is recorded inside the span, so that both sides' metrics carry exemplars. The queue is as
    large as ours: at its stock 2,048 a burst would drop spans, and log that it did.
    """

    def __init__(self, exporter: SpanExporter | None = None, *, queue: int = 100_000) -> None:
        self.exporter = exporter or NullExporter()
        self.provider = TracerProvider()
        self.processor = BatchSpanProcessor(self.exporter, max_queue_size=queue)
        self.provider.add_span_processor(self.processor)
        self.tracer = self.provider.get_tracer("benchmarks", "1")
        meter = meter_provider().get_meter("benchmarks", "1")
        boundaries = list(DURATION_BOUNDARIES)
        self.durations = meter.create_histogram(
            "messaging.process.duration", "s", explicit_bucket_boundaries_advisory=boundaries
        )
        self.waits = meter.create_histogram("handler.wait", "s", explicit_bucket_boundaries_advisory=boundaries)

    def flush(self) -> None:
        self.provider.force_flush()

    def close(self) -> None:
        self.provider.shutdown()

    @staticmethod
    def same_metric_attributes(handle: Any) -> bool:
        return set(handle.metric_attributes.get(None, ())) == set(METRIC_ATTRIBUTES)

    def calling(self, handler: Callable[[object], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        tracer, durations = self.tracer, self.durations

        async def call() -> None:
            with tracer.start_as_current_span(
                "handle kitchen.on_light", kind=SpanKind.CONSUMER, attributes=SPAN_ATTRIBUTES
            ):
                started = perf_counter()
                await handler(EVENT)
                durations.record(perf_counter() - started, METRIC_ATTRIBUTES)

        return call

    def calling_published(self, handler: Callable[[object], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """With a link to the publisher and a second histogram, of the time the event waited."""
        tracer, durations, waits = self.tracer, self.durations, self.waits

        async def call() -> None:
            with tracer.start_as_current_span(
                "handle kitchen.on_light",
                kind=SpanKind.CONSUMER,
                attributes=SPAN_ATTRIBUTES,
                links=[Link(PUBLISHED_BY)],
            ):
                waits.record(time() - PUBLISHED_EPOCH, METRIC_ATTRIBUTES)
                started = perf_counter()
                await handler(EVENT)
                durations.record(perf_counter() - started, METRIC_ATTRIBUTES)

        return call

    def calling_job(self, handler: Callable[[object], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        """With the moment it was due as an attribute, and a second histogram, of its lateness."""
        tracer, durations, waits = self.tracer, self.durations, self.waits

        async def call() -> None:
            attributes = {**SPAN_ATTRIBUTES, "handspan.job.scheduled_time": PUBLISHED_AT.format_iso()}
            with tracer.start_as_current_span("run kitchen.on_light", attributes=attributes):
                waits.record(time() - PUBLISHED_EPOCH, METRIC_ATTRIBUTES)
                started = perf_counter()
                await handler(EVENT)
                durations.record(perf_counter() - started, METRIC_ATTRIBUTES)

        return call

    def calling_failing(
        self, handler: Callable[[object], Awaitable[None]], logger: logging.Logger
    ) -> Callable[[], Awaitable[None]]:
        """The exception recorded on the span and its status set, as ``start_as_current_span`` does; then the
        dispatcher logs and goes on, as ours does."""
        tracer, durations = self.tracer, self.durations
        failed: Mapping[str, str] = {**METRIC_ATTRIBUTES, "handspan.outcome": "error", "error.type": "ValueError"}

        async def call() -> None:
            try:
                with tracer.start_as_current_span(
                    "handle kitchen.on_light", kind=SpanKind.CONSUMER, attributes=SPAN_ATTRIBUTES
                ):
                    started = perf_counter()
                    try:
                        await handler(EVENT)
                    finally:
                        durations.record(perf_counter() - started, failed)
            except Exception:
                logger.exception("on_light failed.")

        return call


def bare(handler: Callable[[object], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Nothing around the handler."""

    async def call() -> None:
        await handler(EVENT)

    return call


def bare_failing(handler: Callable[[object], Awaitable[None]], logger: logging.Logger) -> Callable[[], Awaitable[None]]:
    """A dispatcher that logs and goes on."""

    async def call() -> None:
        try:
            await handler(EVENT)
        except Exception:
            logger.exception("on_light failed.")

    return call


def loop_of(call: Callable[[], Awaitable[None]], runs: int) -> Callable[[], Awaitable[float]]:
    """``runs`` awaits one after the other, in seconds."""

    async def loop() -> float:
        await asyncio.sleep(0)
        started = perf_counter()
        for _ in range(runs):
            await call()
        return perf_counter() - started

    return loop
