"""Which table a record goes to, and how it becomes a row.

A plain success, nine runs of ten, has seven values and nine NULLs: its own narrower INSERT binds the
seven, and halves the writer's processor time (5.0 to 2.65 us a row, measured).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from handspan.clock import to_epoch
from handspan.records import ERROR, SUCCESS, ListenerRegistration, LogLine, Segment, SpanRecord
from handspan.serialize import attributes_json, clean_text
from handspan.store.error_groups import Failure
from handspan.store.parents import Parents
from handspan.store.rollups import Kind

__all__ = ["Row", "Target", "plan"]

Row = tuple[Any, ...]
Rows = tuple["Target", list[SpanRecord], Callable[[Sequence[Any]], Iterable[Row]]]


@dataclass(frozen=True)
class Target:
    """A table, the columns of one kind of row, and what SQL says for one such row."""

    table: str
    columns: str
    values: str
    exists: str | None = None
    """The statement that tells whether a span is stored already."""
    verb: str = "INSERT"
    kind: Kind | None = None
    """Of the runs whose rows these are."""
    each: Callable[[list[SpanRecord]], list[Any]] = list
    """What of the records becomes a row each; in the usual case they themselves do."""

    @classmethod
    def of(cls, table: str, columns: str, exists: str | None = None, **options: Any) -> "Target":
        return cls(table, columns, f"({', '.join('?' * len(columns.split(',')))})", exists, **options)


_COMMON: Final = (
    "session_id, execution_start_ts, duration_ms, status, trace_id, span_id, parent_span_id, link_trace_id, "
    "link_span_id, error_type, error_message, traceback_id, attributes, extra"
)
PLAIN_HANDLER: Final = Target(
    "handler_invocations",
    "session_id, execution_start_ts, duration_ms, trace_id, span_id, listener_id, status",
    "(?, ?, ?, ?, ?, ?, 'success')",
    "invocation_exists",
    kind="handler",
)
HANDLER: Final = Target.of(
    "handler_invocations", f"{_COMMON}, listener_id, queue_ms, error_group_id", "invocation_exists", kind="handler"
)
JOB: Final = Target.of(
    "job_executions", f"{_COMMON}, job_id, scheduled_ts, error_group_id", "execution_exists", kind="job"
)
SPAN: Final = Target.of(
    "spans",
    "session_id, trace_id, span_id, parent_span_id, name, kind, start_ns, duration_ns, status, attributes, extra",
    "span_exists",
)


def _lines(records: list[SpanRecord]) -> list[tuple[SpanRecord, LogLine]]:
    return [(record, line) for record in records for line in record.logs or ()]


LOG: Final = Target.of(
    "log_records",
    "session_id, trace_id, run_span_id, span_id, logged_at, level, logger, message, attributes",
    "lines_exist",  # of the run: they came in the transaction that brought all of them
    each=_lines,
)
RUNNING: Final = Target.of(
    "running",
    "session_id, trace_id, span_id, parent_span_id, link_trace_id, link_span_id, execution_start_ts, listener_id, "
    "job_id, scheduled_ts, queue_ms",
    verb="INSERT OR IGNORE",  # a segment that comes again, in parts
)


def plan(segment: Segment, session_id: int, parents: Parents) -> Iterator[Rows]:
    """The segment's records by target, and what makes rows of some of them: only of those that are inserted, because
    it counts failures. Parents are found or made as their first row comes up."""
    rows = _Rows(segment, session_id, parents)
    plain, handlers, jobs, spans = _sorted(segment)
    yield PLAIN_HANDLER, plain, partial(map, rows.plain_handler)
    yield HANDLER, handlers, rows.handlers
    yield JOB, jobs, rows.jobs
    yield SPAN, spans, partial(map, rows.span)
    yield LOG, [record for record in segment.records if record.logs], partial(map, rows.log)
    yield RUNNING, segment.running, partial(map, rows.running)


def _sorted(segment: Segment) -> tuple[list[SpanRecord], ...]:
    plain: list[SpanRecord] = []
    handlers: list[SpanRecord] = []
    jobs: list[SpanRecord] = []
    spans: list[SpanRecord] = []
    registrations = segment.registrations
    for record in segment.records:
        if not record.registration:
            spans.append(record)
        elif not isinstance(registrations[record.registration], ListenerRegistration):
            jobs.append(record)
        elif _is_plain(record):
            plain.append(record)
        else:
            handlers.append(record)
    return plain, handlers, jobs, spans


def _is_plain(record: SpanRecord) -> bool:
    return (
        record.status == SUCCESS
        and record.link_trace_id is None
        and record.queue_ns is None
        and record.attributes is None
        and record.extra is None
        and record.parent_span_id is None
    )


class _Rows:
    """Records of one segment to rows."""

    def __init__(self, segment: Segment, session_id: int, parents: Parents) -> None:
        self._segment, self._session_id, self._parents = segment, session_id, parents
        self._parent_ids: dict[int, int] = {}

    def plain_handler(self, record: SpanRecord) -> Row:
        return (
            self._session_id,
            record.start_ns / 1e9,
            record.duration_ns / 1e6,
            record.trace_id,
            record.span_id,
            self._parent_id(record),
        )

    def handlers(self, records: Sequence[SpanRecord]) -> list[Row]:
        groups = self._group_ids("handler", records)
        return [
            (*self._common(record), self._parent_id(record), _milliseconds(record.queue_ns), group_id)
            for record, group_id in zip(records, groups, strict=True)
        ]

    def jobs(self, records: Sequence[SpanRecord]) -> list[Row]:
        groups = self._group_ids("job", records)
        return [
            (*self._common(record), self._parent_id(record), _epoch(record.scheduled_ns), group_id)
            for record, group_id in zip(records, groups, strict=True)
        ]

    def span(self, record: SpanRecord) -> Row:
        return (
            self._session_id,
            record.trace_id,
            record.span_id,
            record.parent_span_id,
            clean_text(record.name or ""),
            record.kind,
            record.start_ns,
            record.duration_ns,
            record.status,
            _json(record.attributes),
            _json(record.extra),
        )

    def log(self, each: tuple[SpanRecord, LogLine]) -> Row:
        record, (logged_at, level, logger, message, span_id, attributes) = each
        return (
            self._session_id,
            record.trace_id,
            record.span_id,
            span_id,
            logged_at,
            level,
            clean_text(logger),
            clean_text(message),
            _json(attributes),
        )

    def running(self, record: SpanRecord) -> Row:
        parent_id = self._parent_id(record)
        is_handler = isinstance(self._segment.registrations[record.registration], ListenerRegistration)
        return (
            self._session_id,
            record.trace_id,
            record.span_id,
            record.parent_span_id,
            record.link_trace_id,
            record.link_span_id,
            to_epoch(record.start_ns),
            parent_id if is_handler else None,
            None if is_handler else parent_id,
            _epoch(record.scheduled_ns),
            _milliseconds(record.queue_ns),
        )

    def _common(self, record: SpanRecord) -> Row:
        traceback = record.error_traceback
        return (
            self._session_id,
            to_epoch(record.start_ns),
            record.duration_ns / 1e6,
            record.status,
            record.trace_id,
            record.span_id,
            record.parent_span_id,
            record.link_trace_id,
            record.link_span_id,
            _text(record.error_type),
            _text(record.error_message),
            None if traceback is None else self._parents.traceback_id(traceback),
            _json(record.attributes),
            _json(record.extra),
        )

    def _group_ids(self, kind: str, records: Sequence[SpanRecord]) -> Iterable[int | None]:
        failures = [self._failure(kind, record) for record in records if record.status == ERROR]
        if not failures:
            return [None] * len(records)
        ids = iter(self._parents.error_groups.of_all(failures))
        return [next(ids) if record.status == ERROR else None for record in records]

    def _failure(self, kind: str, record: SpanRecord) -> Failure:
        traceback = record.error_traceback
        return Failure(
            kind,
            self._parent_id(record),
            _text(record.error_type),
            _text(record.error_message),
            traceback,
            None if traceback is None else self._parents.traceback_id(traceback),
            to_epoch(record.start_ns),
            record.trace_id,
            record.span_id,
        )

    def _parent_id(self, record: SpanRecord) -> int:
        number = record.registration
        found = self._parent_ids.get(number)
        if found is None:
            segment = self._segment
            found = self._parents.registration_id(segment.session, number, segment.registrations[number])
            self._parent_ids[number] = found
        return found


def _text(value: str | None) -> str | None:
    return None if value is None else clean_text(value)


def _json(value: dict[str, Any] | None) -> str | None:
    return None if value is None else attributes_json(value)


def _milliseconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e6


def _epoch(ns: int | None) -> float | None:
    return None if ns is None else to_epoch(ns)
