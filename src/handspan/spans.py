"""The span of a command, seen from the executor: OpenTelemetry's API only.

A run travels in the OpenTelemetry context under :data:`RUN_KEY`. That is how a span processor knows
which spans were started under its own ``Telemetry``: the command's own span first, then its children.
"""

from collections.abc import Mapping
from contextvars import Token
from typing import Any, Final, Protocol

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, Status, StatusCode, Tracer

from handspan import attributes as names
from handspan.clock import instant_from_ns
from handspan.commands import Handle
from handspan.records import ERROR, Run

__all__ = [
    "RUN_KEY",
    "ApiTracer",
    "CommandTracer",
    "activate",
    "child_span_id",
    "exception_attributes",
    "outcome_attributes",
    "run_of",
    "start_attributes",
]

RUN_KEY: Final = otel_context.create_key("handspan-run")


class CommandTracer(Protocol):
    """Starts a command's span, and ends it with the outcome on the run."""

    def start(self, handle: Handle, run: Run, published_by: SpanContext | None) -> Span:
        """Fills in the run's ids, flags, parent and link."""
        ...

    def end(self, span: Span, run: Run) -> None: ...


def run_of(context: Context | None) -> Run | None:
    """The run a span is started under, if any."""
    found = otel_context.get_value(RUN_KEY, context)
    return found if isinstance(found, Run) else None


def child_span_id(run: Run) -> bytes | None:
    """The current span's id, if it is a child of the run; None in the run's own."""
    span = trace.get_current_span()
    if getattr(span, "run", None) is run:  # our light one, whose context would have to be made
        return None
    context = span.get_span_context()
    if context.trace_id != run.trace_id or context.span_id in (0, run.span_id):
        return None
    return context.span_id.to_bytes(8, "big")


# OpenTelemetry keeps this key to itself; asking it for a context that holds nothing else tells.
(_SPAN_KEY,) = trace.set_span_in_context(trace.INVALID_SPAN, Context())


def activate(run: Run, span: Span) -> Token[Context]:
    """Make run and span current, with one copy of the context instead of two. Undo with ``detach``."""
    return otel_context.attach(Context({**otel_context.get_current(), RUN_KEY: run, _SPAN_KEY: span}))


def note_span_context(run: Run, span: Span) -> None:
    """Copy what the row needs off the span's context."""
    context = span.get_span_context()
    run.trace_id, run.span_id = context.trace_id, context.span_id
    run.flags = int(context.trace_flags)
    if context.trace_state:
        run.trace_state = context.trace_state.to_header()


class ApiTracer:
    """Command spans by any provider's tracer: what is used on a provider that is not ours."""

    def __init__(self, tracer: Tracer, *, child: bool) -> None:
        self._tracer, self._child = tracer, child

    def start(self, handle: Handle, run: Run, published_by: SpanContext | None) -> Span:
        context = otel_context.set_value(RUN_KEY, run)  # so that our processor knows the span for the run's
        links: list[Link] = []
        if published_by is not None and self._child:
            context = trace.set_span_in_context(trace.NonRecordingSpan(published_by), context)
            run.parent_span_id = published_by.span_id
        else:
            context = trace.set_span_in_context(trace.INVALID_SPAN, context)
            if published_by is not None:
                links = [Link(published_by, {names.LINK_ROLE: "publisher"})]
                run.link_trace_id, run.link_span_id = published_by.trace_id, published_by.span_id
        span = self._tracer.start_span(
            handle.span_name,
            context,
            kind=SpanKind(handle.span_kind),
            attributes=start_attributes(handle, run),
            links=links,
            start_time=run.start_ns,
            record_exception=False,  # cancelled is no error, and only the executor can tell
            set_status_on_exception=False,
        )
        note_span_context(run, span)
        return span

    def end(self, span: Span, run: Run) -> None:
        if span.is_recording():
            span.set_attributes(outcome_attributes(run))
            if run.status == ERROR:
                span.add_event(names.EXCEPTION_EVENT, exception_attributes(run))
                span.set_status(Status(StatusCode.ERROR, run.error_message))
        span.end(run.start_ns + run.duration_ns)


def outcome_attributes(run: Run) -> dict[str, str | float]:
    """What is known of a command's span only at its end."""
    found: dict[str, str | float] = {names.OUTCOME: run.status, names.DURATION_MS: run.duration_ns / 1e6}
    if run.exception_type is not None:
        found[names.ERROR_TYPE] = run.exception_type
    return found


def start_attributes(handle: Handle, run: Run) -> Mapping[str, Any]:
    """What is known when it starts: where a sampler can see it."""
    if run.scheduled_ns is None:
        return handle.attributes
    due = instant_from_ns(run.scheduled_ns).format_iso()
    return {**handle.attributes, names.JOB_SCHEDULED_TIME: due}


def exception_attributes(run: Run) -> dict[str, str]:
    """The exception event's, by the conventions' names."""
    tail = run.exception_tail
    if tail is None:
        tail = f"{run.exception_type}: {run.error_message}" if run.error_message else run.exception_type or ""
    return {
        names.EXCEPTION_TYPE: run.exception_type or "",
        names.EXCEPTION_MESSAGE: run.error_message or "",
        names.EXCEPTION_STACKTRACE: (run.error_traceback or "") + tail,
    }
