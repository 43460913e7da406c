"""What can be executed: a handle (what is registered) and a command (one call of it).

A handle prepares everything that is the same for each of its runs, so that a run costs nothing but itself.
"""

import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Final

from whenever import Instant

from handspan import attributes as names
from handspan.records import ListenerRegistration, Registration, ScheduledJobRegistration

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

__all__ = ["Command", "ErrorHook", "ExecuteJob", "Handle", "InvokeHandler", "Job", "Listener", "is_async_callable"]

ErrorHook = Callable[..., Awaitable[object] | object]
"""Called with one :class:`handspan.ErrorReport`."""

CONSUMER_KIND: Final = 4  # OpenTelemetry's SpanKind.CONSUMER
INTERNAL_KIND: Final = 0  # SpanKind.INTERNAL


def is_async_callable(call: Callable[..., object]) -> bool:
    """True for a coroutine function, also behind ``functools.partial`` or ``__call__``."""
    while isinstance(call, partial):
        call = call.func
    its_call = getattr(call, "__call__", None)  # noqa: B004 - what it is, not whether there is one
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(its_call)


class Handle:
    """A live registration. ``cancel()`` ends it and frees its natural key."""

    kind: ClassVar[str]
    span_kind: ClassVar[int]

    def __init__(
        self,
        registration: Registration,
        call: Callable[..., object],
        *,
        name: str,
        span_name: str,
        span_attributes: dict[str, Any],
        number: int,
        owner: object,
        timeout: float | None,
        on_error: tuple[ErrorHook, ...],
        on_end: Callable[["Handle", bool], None],
    ) -> None:
        self.registration = registration
        self.call = call
        self.is_async = is_async_callable(call)
        self.name = name
        self.span_name = span_name
        self.attributes: Mapping[str, Any] = MappingProxyType(span_attributes | _common_attributes(registration))
        """Of every span of it: one shared, read-only mapping."""
        self.metric_attributes: dict[str | None, dict[str, Any]] = {}
        """By ``error.type``; filled by the instruments, so that a run builds none."""
        self.number = number
        """The number this session gave the registration."""
        self.owner = owner
        self.timeout = timeout
        self.on_error = on_error
        self.cancelled = False
        self._on_end = on_end

    @property
    def app_key(self) -> str:
        return self.registration.app_key

    def cancel(self) -> None:
        """No more commands for it; its row says since when (``retired_at``). Twice is once."""
        self._end(retired=True)

    def release(self) -> None:
        """The application stops: no more commands, the key is free, and the row stays as it was. What is not
        registered again is retired when the next session has had a minute to do so."""
        self._end(retired=False)

    def _end(self, *, retired: bool) -> None:
        if not self.cancelled:
            self.cancelled = True
            self._on_end(self, retired)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.app_key}.{self.name}>"


class Listener(Handle):
    """What :meth:`Telemetry.register_listener` returns."""

    kind = "handler"
    span_kind = CONSUMER_KIND
    registration: ListenerRegistration

    def __init__(self, registration: ListenerRegistration, call: Callable[..., object], **options: Any) -> None:
        r = registration
        attributes = {
            names.MESSAGING_SYSTEM: "handspan",
            names.MESSAGING_OPERATION_NAME: "handle",
            names.MESSAGING_OPERATION_TYPE: "process",
            names.MESSAGING_DESTINATION_NAME: r.topic,
            names.LISTENER_NAME: r.name,
        }
        span_name = f"handle {r.app_key}.{r.handler_method}"
        super().__init__(r, call, name=r.name, span_name=span_name, span_attributes=attributes, **options)

    @property
    def topic(self) -> str:
        """What it listens to."""
        return self.registration.topic


class Job(Handle):
    """What :meth:`Telemetry.register_job` returns."""

    kind = "job"
    span_kind = INTERNAL_KIND
    registration: ScheduledJobRegistration

    def __init__(
        self,
        registration: ScheduledJobRegistration,
        call: Callable[..., object],
        *,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] = MappingProxyType({}),
        **options: Any,
    ) -> None:
        r = registration
        trigger = {names.JOB_TRIGGER_TYPE: r.trigger_type, names.JOB_TRIGGER_VALUE: r.trigger_value}
        attributes = {names.JOB_NAME: r.job_name} | {k: v for k, v in trigger.items() if v is not None}
        span_name = f"run {r.app_key}.{r.job_name}"
        super().__init__(r, call, name=r.job_name, span_name=span_name, span_attributes=attributes, **options)
        self.args = args
        self.kwargs = kwargs


def _common_attributes(r: Registration) -> dict[str, Any]:
    found = {
        names.APP_KEY: r.app_key,
        names.APP_INSTANCE: r.instance_index,
        names.CODE_FUNCTION_NAME: r.code_function,
        names.CODE_FILE_PATH: r.code_file,
        names.CODE_LINE_NUMBER: r.code_line,
    }
    return {key: value for key, value in found.items() if value is not None}


@dataclass(slots=True)
class InvokeHandler:
    """Call a listener's handler with one event."""

    listener: Listener
    event: Any = None
    published_by: "SpanContext | None" = None
    """The span that published the event: linked to (or continued), so that cascades can be followed."""
    published_at: Instant | None = None
    """When it was published: gives the time it waited."""


@dataclass(slots=True)
class ExecuteJob:
    """Run a job once."""

    job: Job
    scheduled_at: Instant | None = None
    """The moment it was due: gives its lateness."""
    args: tuple[Any, ...] | None = None
    """Instead of the registered ones."""
    kwargs: Mapping[str, Any] | None = None


Command = InvokeHandler | ExecuteJob
