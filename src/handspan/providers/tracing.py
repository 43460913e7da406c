"""Setting the tracer up: on the given provider, on the global one, or on one of ours."""

import atexit
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import Meter, MeterProvider
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from handspan.attributes import SCHEMA_URL, SCOPE_NAME
from handspan.providers.fanout import FanOut
from handspan.providers.ids import TimedIdGenerator
from handspan.providers.light import LightTracer
from handspan.providers.sampling import RecordRuns
from handspan.settings import Settings
from handspan.spans import ApiTracer, CommandTracer

__all__ = [
    "OwnTracerProvider",
    "Tracing",
    "find_provider",
    "meter_of",
    "open_tracing",
    "resource_of",
    "sdk_disabled",
    "untraced",
]


class OwnTracerProvider(TracerProvider):
    """An SDK provider that handspan made. Samples as the environment says, and records every run.

    The SDK shuts every provider down at exit, and keeps it alive for that. Recording has a hook of its own, so here
    only one with processors of others is kept: a thousand ``Telemetry`` objects in turn leave nothing behind.
    """

    def __init__(self, resource: Resource) -> None:
        self.fanout = FanOut()
        super().__init__(
            resource=resource,
            active_span_processor=self.fanout,
            id_generator=TimedIdGenerator(),
            shutdown_on_exit=False,
        )
        self.sampler = RecordRuns(self.sampler)

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        super().add_span_processor(span_processor)
        if self.fanout.others:
            atexit.unregister(self.shutdown)
            atexit.register(self.shutdown)

    def shutdown(self) -> None:
        atexit.unregister(self.shutdown)
        super().shutdown()


@dataclass(frozen=True)
class Tracing:
    tracer: CommandTracer
    provider: Any
    detach: Callable[[], None]
    """Takes our processor off again, where the provider can."""


def resource_of(settings: Settings) -> dict[str, Any]:
    """The resource of a provider of ours: what the settings say; the environment fills in the rest."""
    named = {
        "service.name": settings.service_name,
        "service.namespace": settings.service_namespace,
        "service.version": settings.service_version,
    }
    return {key: value for key, value in named.items() if value is not None}


def sdk_disabled() -> bool:
    return os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def find_provider(given: Any, resource: Callable[[], dict[str, Any]], *, set_global: bool) -> Any:
    """The given provider, else the global one if it is the SDK's, else a new one of ours."""
    if given is not None:
        return given
    existing = trace.get_tracer_provider()
    if isinstance(existing, TracerProvider):
        return existing
    own = OwnTracerProvider(Resource.create(resource()))
    if set_global and isinstance(existing, trace.ProxyTracerProvider):
        trace.set_tracer_provider(own)
    return own


def open_tracing(provider: Any, processor: Any, version: str, *, child: bool) -> Tracing:
    """Our processor on the provider, and the tracer that goes with it."""
    scope = InstrumentationScope(SCOPE_NAME, version, SCHEMA_URL)
    if isinstance(provider, OwnTracerProvider):
        provider.add_span_processor(processor)
        tracer = LightTracer(provider, provider.fanout, processor, scope, child=child)
        return Tracing(tracer, provider, lambda: provider.fanout.remove(processor))
    if hasattr(provider, "add_span_processor"):
        processor_or_not: SpanProcessor = processor
        provider.add_span_processor(processor_or_not)
    return Tracing(ApiTracer(provider.get_tracer(SCOPE_NAME, version, SCHEMA_URL), child=child), provider, lambda: None)


def untraced(provider: Any) -> Tracing:
    """While ``OTEL_SDK_DISABLED`` is true: commands run, no span is made, nothing of ours is attached."""
    return Tracing(ApiTracer(trace.NoOpTracer(), child=False), provider, lambda: None)


def meter_of(given: MeterProvider | None, version: str) -> Meter:
    """A meter of the given or global provider. Without one the API's proxy stands in: its instruments come
    to life when the application sets a provider, and cost next to nothing until then."""
    return (given or metrics.get_meter_provider()).get_meter(SCOPE_NAME, version, SCHEMA_URL)
