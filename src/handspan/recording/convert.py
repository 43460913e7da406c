"""Spans to SpanRecords, lossless.

A command's record comes from its :class:`Run` (the side channel) plus what the handler added to its span.
A span of scope ``handspan`` that arrives without a run (through the stock pipeline) is read from its
attributes. Every other span is kept whole.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

from msgspec.structs import replace
from opentelemetry.sdk.trace import Event, ReadableSpan
from opentelemetry.trace import Link, SpanContext, StatusCode
from whenever import Instant

from handspan import attributes as names
from handspan.clock import to_ns
from handspan.records import (
    CANCELLED,
    ERROR,
    SUCCESS,
    ListenerRegistration,
    Registration,
    Run,
    ScheduledJobRegistration,
    SpanRecord,
)
from handspan.redaction import Redactor

__all__ = [
    "command_record",
    "foreign_record",
    "inferred_registration",
    "interrupted_record",
    "run_record",
    "running_record",
]

USUAL_FLAGS: Final = 3  # sampled, random trace id: not worth a byte per row
NS_PER_MS: Final = 1_000_000


def run_record(run: Run, attributes: dict[str, Any] | None = None, extra: dict[str, Any] | None = None) -> SpanRecord:
    """A command from what the executor knows; in the usual case nobody added anything to its span."""
    parent, link = run.parent_span_id, run.link_trace_id
    return SpanRecord(
        run.trace_id.to_bytes(16, "big"),
        run.span_id.to_bytes(8, "big"),
        run.start_ns,
        run.duration_ns,
        run.status,
        run.number,
        parent.to_bytes(8, "big") if parent else None,
        link.to_bytes(16, "big") if link else None,
        run.link_span_id.to_bytes(8, "big") if link else None,
        run.scheduled_ns,
        run.queue_ns,
        run.error_type,
        run.error_message,
        run.error_traceback,
        attributes,
        extra or _run_extra(run),
        was_running=run.in_running,
        logs=None if run.logs is None else run.logs.lines(),
    )


def command_record(
    run: Run,
    attributes: Mapping[str, Any] | None,
    events: Iterable[Event],
    links: Iterable[Link],
    redactor: Redactor,
) -> SpanRecord:
    """A command with what its handler put on the span. Its own texts are without secrets already."""
    added = {key: value for key, value in (attributes or {}).items() if key not in names.RUN_ATTRIBUTES}
    added = redactor.mapping(added)
    if not events and not links:
        return run_record(run, added or None)
    extra = _run_extra(run) or {}
    own_link = (run.link_trace_id, run.link_span_id)
    further = [link for link in links if (link.context.trace_id, link.context.span_id) != own_link]
    kept = [event for event in events if not _is_own_exception(run, event)]
    if kept:
        extra["events"] = [_event(event) for event in kept]
    if further:
        extra["links"] = [_link(link) for link in further]
    return run_record(run, added or None, redactor.mapping(extra))


def running_record(run: Run) -> SpanRecord:
    """A command in flight, for the ``running`` table: what was known when it started, as it may be over by now."""
    parent, link = run.parent_span_id, run.link_trace_id
    return SpanRecord(
        run.trace_id.to_bytes(16, "big"),
        run.span_id.to_bytes(8, "big"),
        run.start_ns,
        0,
        "running",
        run.number,
        parent.to_bytes(8, "big") if parent else None,
        link.to_bytes(16, "big") if link else None,
        run.link_span_id.to_bytes(8, "big") if link else None,
        run.scheduled_ns,
        run.queue_ns,
    )


def interrupted_record(run: Run, duration_ns: int, message: str) -> SpanRecord:
    """A command whose process ends before it does."""
    return replace(
        run_record(run),
        status=ERROR,
        duration_ns=duration_ns,
        error_type="ProcessInterrupted",
        error_message=message,
        extra=None,
    )


def foreign_record(span: ReadableSpan, number: int, redactor: Redactor) -> SpanRecord:
    """Any finished span. ``number`` > 0: it is a command's, of the registration so numbered."""
    return _redacted(_whole_record(span, number), redactor)


def _redacted(record: SpanRecord, redactor: Redactor) -> SpanRecord:
    if not redactor:
        return record

    def text(value: str | None) -> str | None:
        return None if value is None else redactor.text(value)

    return replace(
        record,
        name=text(record.name),
        error_message=text(record.error_message),
        error_traceback=text(record.error_traceback),
        attributes=None if record.attributes is None else redactor.mapping(record.attributes),
        extra=None if record.extra is None else redactor.mapping(record.extra),
    )


def _whole_record(span: ReadableSpan, number: int) -> SpanRecord:
    context = span.context
    if context is None or span.start_time is None or span.end_time is None:
        raise ValueError("not a finished span")
    attributes = dict(span.attributes or {})
    record = SpanRecord(
        context.trace_id.to_bytes(16, "big"),
        context.span_id.to_bytes(8, "big"),
        span.start_time,
        span.end_time - span.start_time,
        span.status.status_code.name.lower(),
        parent_span_id=span.parent.span_id.to_bytes(8, "big") if span.parent else None,
        extra=_extra(span, context) or None,
    )
    if number:
        return _from_command_attributes(record, number, span, attributes)
    return replace(record, attributes=attributes or None, name=span.name, kind=span.kind.value)


def inferred_registration(span: ReadableSpan) -> Registration | None:
    """The registration a span of ours was of, as its attributes tell; None for any other span."""
    scope, found = span.instrumentation_scope, span.attributes or {}
    app_key = found.get(names.APP_KEY)
    if scope is None or scope.name != names.SCOPE_NAME or not isinstance(app_key, str):
        return None
    function = found.get(names.CODE_FUNCTION_NAME)
    common: dict[str, Any] = {
        "app_key": app_key,
        "instance_index": found.get(names.APP_INSTANCE, 0),
        "handler_method": str(function).rpartition(".")[2] if function else span.name.rpartition(".")[2],
        "code_function": function,
        "code_file": found.get(names.CODE_FILE_PATH),
        "code_line": found.get(names.CODE_LINE_NUMBER),
        "inferred": True,
    }
    if names.LISTENER_NAME in found:
        topic = str(found.get(names.MESSAGING_DESTINATION_NAME, ""))
        return ListenerRegistration(name=str(found[names.LISTENER_NAME]), topic=topic, **common)
    if names.JOB_NAME in found:
        return ScheduledJobRegistration(
            job_name=str(found[names.JOB_NAME]),
            trigger_type=_optional_text(found.get(names.JOB_TRIGGER_TYPE)),
            trigger_value=_optional_text(found.get(names.JOB_TRIGGER_VALUE)),
            **common,
        )
    return None


def _from_command_attributes(
    record: SpanRecord, number: int, span: ReadableSpan, attributes: dict[str, Any]
) -> SpanRecord:
    failed = span.status.status_code is StatusCode.ERROR
    outcome = attributes.get(names.OUTCOME)
    status = outcome if outcome in (SUCCESS, ERROR, CANCELLED) else ERROR if failed else SUCCESS
    error_type = attributes.get(names.ERROR_TYPE) if status == ERROR else None
    own = next((event for event in reversed(span.events) if _is_exception(event, error_type)), None)
    exception = (own.attributes if own is not None else None) or {}
    message = exception.get(names.EXCEPTION_MESSAGE, span.status.description)
    publisher = next((link for link in span.links if (link.attributes or {}).get(names.LINK_ROLE)), None)
    link = publisher.context if publisher is not None else None
    duration_ms = attributes.get(names.DURATION_MS)
    extra = dict(record.extra or {})
    if error_type is not None and "." in str(error_type):
        extra["exception_type"] = error_type
    extra.pop("scope", None)
    extra.pop("status_description", None)
    extra["events"] = [_event(event) for event in span.events if event is not own]
    extra["links"] = [_link(each) for each in span.links if each is not publisher]
    stack, tail = _split_stacktrace(exception.get(names.EXCEPTION_STACKTRACE), error_type, message)
    if tail is not None:
        extra["exception_tail"] = tail
    return replace(
        record,
        registration=number,
        start_ns=record.start_ns // 1000 * 1000,
        duration_ns=round(duration_ms * NS_PER_MS) if isinstance(duration_ms, float | int) else record.duration_ns,
        status=status,
        link_trace_id=link.trace_id.to_bytes(16, "big") if link else None,
        link_span_id=link.span_id.to_bytes(8, "big") if link else None,
        scheduled_ns=_parse_instant(attributes.get(names.JOB_SCHEDULED_TIME)),
        error_type=None if error_type is None else str(error_type).rpartition(".")[2],
        error_message=None if error_type is None else _optional_text(message),
        error_traceback=stack,
        attributes={key: value for key, value in attributes.items() if key not in names.RUN_ATTRIBUTES} or None,
        extra={key: value for key, value in extra.items() if value} or None,
    )


def _split_stacktrace(stacktrace: object, error_type: object, message: object) -> tuple[str | None, str | None]:
    """Above the message line, and that line when it is not the usual one."""
    if not isinstance(stacktrace, str) or error_type is None:
        return None, None
    head, _, tail = stacktrace.rstrip("\n").rpartition("\n")
    usual = f"{error_type}: {message}" if message else str(error_type)
    if stacktrace.rstrip("\n").endswith("\n" + usual):
        head, tail = stacktrace.rstrip("\n")[: -len(usual)].rstrip("\n"), usual
    return f"{head}\n" if head else None, None if tail == usual else tail


def _run_extra(run: Run) -> dict[str, Any] | None:
    if run.flags == USUAL_FLAGS and run.trace_state is None and run.status == SUCCESS:
        return None
    extra: dict[str, Any] = {}
    if run.flags != USUAL_FLAGS:
        extra["flags"] = run.flags
    if run.trace_state is not None:
        extra["trace_state"] = run.trace_state
    if run.exception_type is not None and run.exception_type != run.error_type:
        extra["exception_type"] = run.exception_type
    if run.exception_tail is not None:
        extra["exception_tail"] = run.exception_tail
    return extra or None


def _extra(span: ReadableSpan, context: SpanContext) -> dict[str, Any]:
    extra: dict[str, Any] = {}
    if int(context.trace_flags) != USUAL_FLAGS:
        extra["flags"] = int(context.trace_flags)
    if context.trace_state:
        extra["trace_state"] = context.trace_state.to_header()
    if span.parent is not None and span.parent.is_remote:
        extra["remote_parent"] = True
    if span.status.description:
        extra["status_description"] = span.status.description
    if span.events:
        extra["events"] = [_event(event) for event in span.events]
    if span.links:
        extra["links"] = [_link(link) for link in span.links]
    scope = span.instrumentation_scope
    if scope is not None:
        extra["scope"] = [scope.name, scope.version, scope.schema_url, dict(scope.attributes or {})]
    dropped = [span.dropped_attributes, span.dropped_events, span.dropped_links]
    if any(dropped):
        extra["dropped"] = dropped
    return extra


def _event(event: Event) -> list[Any]:
    dropped = [event.dropped_attributes] if event.dropped_attributes else []
    return [event.name, event.timestamp, dict(event.attributes or {}), *dropped]


def _link(link: Link) -> list[Any]:
    context = link.context
    state = context.trace_state.to_header() if context.trace_state else None
    ids = [f"{context.trace_id:032x}", f"{context.span_id:016x}"]
    dropped = [link.dropped_attributes] if link.dropped_attributes else []
    return [*ids, dict(link.attributes or {}), state, int(context.trace_flags), *dropped]


def _is_own_exception(run: Run, event: Event) -> bool:
    """The event the executor added: its texts are columns already."""
    if run.status != ERROR or event.name != names.EXCEPTION_EVENT:
        return False
    return _is_exception(event, run.exception_type)


def _is_exception(event: Event, exception_type: object) -> bool:
    found = event.attributes or {}
    return (
        event.name == names.EXCEPTION_EVENT
        and found.get(names.EXCEPTION_TYPE) == exception_type
        and names.EXCEPTION_STACKTRACE in found
    )


def _parse_instant(text: object) -> int | None:
    try:
        return to_ns(Instant.parse_iso(str(text))) if text is not None else None
    except ValueError:
        return None


def _optional_text(value: object) -> str | None:
    return None if value is None else str(value)
