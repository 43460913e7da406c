"""The metrics of a run: one instrument call, with an attribute set built once per registration and outcome.

An up-down counter for what is in flight would be a second and third call a run; it is observed instead.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry.metrics import CallbackOptions, Meter, Observation, get_meter_provider

from handspan import attributes as names
from handspan.commands import Handle
from handspan.records import ERROR, SUCCESS, Run

__all__ = ["DURATION_BOUNDARIES", "Health", "HealthInstruments", "RunInstruments", "health_instruments"]

COMPONENT: Final = "handspan_durable_span_processor"

DURATION_BOUNDARIES: Final = (
    0.005,
    0.01,
    0.025,
    0.05,
    0.075,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    30,
    60,
    300,
    1800,
)
"""Seconds: the conventions' messaging advice up to 10, then what jobs take."""

# The instance is left out: a record costs 0.5 us an attribute, and dashboards sum over instances.
_ON_METRICS: Final = frozenset(
    {
        names.MESSAGING_SYSTEM,
        names.MESSAGING_OPERATION_NAME,
        names.MESSAGING_DESTINATION_NAME,
        names.APP_KEY,
        names.LISTENER_NAME,
        names.JOB_NAME,
    }
)


class RunInstruments:
    """Records each finished run once."""

    def __init__(self, meter: Meter) -> None:
        def histogram(name: str, description: str) -> Any:
            return meter.create_histogram(
                name, "s", description, explicit_bucket_boundaries_advisory=list(DURATION_BOUNDARIES)
            )

        self._durations = {
            "handler": histogram(names.METRIC_HANDLER_DURATION, "Duration of a handler invocation."),
            "job": histogram(names.METRIC_JOB_DURATION, "Duration of a job execution."),
        }
        self._queue = histogram(names.METRIC_HANDLER_QUEUE_DURATION, "From publication to start of a handler.")
        self._delay = histogram(names.METRIC_JOB_SCHEDULE_DELAY, "From the scheduled moment to the start of a job.")

    def record(self, handle: Handle, run: Run) -> None:
        key = None if run.status == SUCCESS else run.exception_type or run.status
        found = handle.metric_attributes.get(key)
        if found is None:
            found = handle.metric_attributes[key] = _metric_attributes(handle, run)
        self._durations[handle.kind].record(run.duration_ns / 1e9, found)
        if run.queue_ns is not None:
            self._queue.record(run.queue_ns / 1e9, found)
        if run.scheduled_ns is not None:
            self._delay.record(max(0, run.start_ns - run.scheduled_ns) / 1e9, found)


class Observed(Protocol):
    """What the health metrics ask of a ``Telemetry``."""

    def health(self) -> "Health": ...


@dataclass(frozen=True)
class Health:
    """Our own health, at this moment."""

    active: int
    """Commands in flight."""
    queue_size: int
    """Finished spans not yet committed."""
    queue_capacity: int
    committed: int
    """Spans committed so far."""
    lost: Mapping[str, int]
    """Spans lost so far, by reason."""
    store_bytes: int
    failing_since: float | None = None
    """UTC epoch seconds since when nothing could be committed; None when all is well."""
    last_error: str | None = None
    spilled: int = 0
    """Finished spans that wait in the journal only: memory's bound was reached."""
    journal_trouble: str | None = None
    """Why the journal is not written at present, and a kill -9 would lose what is not committed; None when it is."""


class HealthInstruments:
    """Observable metrics over every living ``Telemetry`` of one meter: nothing is counted on the hot path.

    A meter's instruments cannot be taken back, so they hold no ``Telemetry``: weakly referenced ones come and go.
    """

    def __init__(self, meter: Meter) -> None:
        self._observed: WeakSet[Any] = WeakSet()
        component = {names.COMPONENT_TYPE: COMPONENT, names.COMPONENT_NAME: f"{COMPONENT}/0"}

        def callback(values: Callable[[Health], Iterable[tuple[float, dict[str, str]]]]) -> Any:
            def observe(_: CallbackOptions) -> Iterable[Observation]:
                sums: dict[tuple[tuple[str, str], ...], float] = {}
                for telemetry in list(self._observed):
                    for value, attributes in values(telemetry.health()):
                        key = tuple(attributes.items())
                        sums[key] = sums.get(key, 0) + value
                return [Observation(value, dict(key)) for key, value in sums.items()]

            return [observe]

        meter.create_observable_up_down_counter(
            names.METRIC_EXECUTION_ACTIVE, callback(lambda h: [(h.active, {})]), "{execution}", "Commands in flight."
        )
        meter.create_observable_up_down_counter(
            names.METRIC_QUEUE_SIZE,
            callback(lambda h: [(h.queue_size, component)]),
            "{span}",
            "Spans not yet committed.",
        )
        meter.create_observable_up_down_counter(
            names.METRIC_QUEUE_CAPACITY,
            callback(lambda h: [(h.queue_capacity, component)]),
            "{span}",
            "Bound of the queue.",
        )
        meter.create_observable_counter(
            names.METRIC_PROCESSED,
            callback(
                lambda h: [
                    (h.committed, component),
                    *((count, {**component, names.ERROR_TYPE: reason}) for reason, count in h.lost.items()),
                ]
            ),
            "{span}",
            "Spans committed, or lost and why.",
        )
        meter.create_observable_gauge(
            names.METRIC_STORE_SIZE, callback(lambda h: [(h.store_bytes, {})]), "By", "Live pages of the database."
        )
        self._commits = meter.create_histogram(
            names.METRIC_STORE_COMMIT_DURATION,
            "s",
            "One transaction of the writer.",
            explicit_bucket_boundaries_advisory=list(DURATION_BOUNDARIES),
        )

    def watch(self, telemetry: Observed) -> None:
        self._observed.add(telemetry)

    def committed(self, seconds: float) -> None:
        self._commits.record(seconds)


class _Global:
    """Stands for the global provider, be it the API's proxy or, later, the SDK's: one set of instruments."""


_GLOBAL: Final = _Global()
_health_by_provider: WeakKeyDictionary[Any, HealthInstruments] = WeakKeyDictionary()


def health_instruments(provider: Any, meter: Meter) -> HealthInstruments:
    """The one set of health instruments of a meter provider (the global one where none is given)."""
    if provider is None or provider is get_meter_provider():
        provider = _GLOBAL
    try:
        if provider not in _health_by_provider:
            _health_by_provider[provider] = HealthInstruments(meter)
        return _health_by_provider[provider]
    except TypeError:  # a provider that cannot be referenced weakly
        return HealthInstruments(meter)


def _metric_attributes(handle: Handle, run: Run) -> dict[str, Any]:
    found = {key: value for key, value in handle.attributes.items() if key in _ON_METRICS}
    found[names.OUTCOME] = run.status
    if run.status == ERROR and run.exception_type is not None:
        found[names.ERROR_TYPE] = run.exception_type
    return found
