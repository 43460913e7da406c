"""The currency: what travels from the executor to the store, and the seams between them.

Plain values only: no OpenTelemetry types, no SQLite types. :class:`SpanRecord` is what queue, journal,
replay, receiver, store and forwarder exchange; registrations and sessions travel as records too.
``Run`` is the side channel: what the row needs goes through it, not through span attributes, which
limits such as ``OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT`` remove.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import msgspec
from whenever import Instant

__all__ = [
    "CANCELLED",
    "ERROR",
    "SUCCESS",
    "DueBetween",
    "Journals",
    "ListenerRegistration",
    "LogLine",
    "LogLines",
    "Loss",
    "Orphan",
    "Recorder",
    "Registration",
    "Run",
    "ScheduledJobRegistration",
    "Segment",
    "SegmentSource",
    "Session",
    "SpanRecord",
    "Status",
]

Status = Literal["success", "error", "cancelled"]
SUCCESS: Final[Status] = "success"
ERROR: Final[Status] = "error"
CANCELLED: Final[Status] = "cancelled"


# --- registrations ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ListenerRegistration:
    """A row of ``listeners``. Natural key: service, app_key, instance_index, name, topic."""

    app_key: str
    instance_index: int
    name: str
    topic: str
    handler_method: str
    debounce: float | None = None
    """Seconds."""
    throttle: float | None = None
    """Seconds."""
    once: bool = False
    priority: int = 0
    predicate_description: str | None = None
    source_location: str | None = None
    """``apps/kitchen.py:42``"""
    source_file: str | None = None
    source_line: int | None = None
    source_span: tuple[int, int, int, int] | None = None
    """Of the registering call: see :mod:`handspan.source`."""
    registered_at: Instant | None = None
    code_function: str | None = None
    code_file: str | None = None
    code_line: int | None = None
    inferred: bool = False
    """Read from a span's attributes, not from a registration: never updates an existing row."""


@dataclass(frozen=True)
class ScheduledJobRegistration:
    """A row of ``scheduled_jobs``. Natural key: service, app_key, instance_index, job_name."""

    app_key: str
    instance_index: int
    job_name: str
    handler_method: str
    trigger_type: str | None = None
    trigger_value: str | None = None
    repeat: bool = True
    args_json: str = "[]"
    kwargs_json: str = "{}"
    source_location: str | None = None
    source_file: str | None = None
    source_line: int | None = None
    source_span: tuple[int, int, int, int] | None = None
    """Of the registering call: see :mod:`handspan.source`."""
    registered_at: Instant | None = None
    code_function: str | None = None
    code_file: str | None = None
    code_line: int | None = None
    inferred: bool = False


Registration = ListenerRegistration | ScheduledJobRegistration

DueBetween = Callable[[Instant, Instant], Iterable[Instant]]
"""Of a job: the moments it was due from the first, which it was, up to the second. Oldest first; asked on the writer's
thread, when the job is registered again after a time in which nobody ran it."""


# --- sessions and losses ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Session:
    """One run of a process: a row of ``sessions``."""

    instance_id: str
    """OpenTelemetry's ``service.instance.id``: the session's identity across files and backends."""
    service_name: str
    service_namespace: str = ""
    started_at: Instant = field(default_factory=Instant.now)
    service_version: str | None = None
    host: str | None = None
    pid: int | None = None
    python_version: str | None = None
    handspan_version: str | None = None
    resource: dict[str, Any] | None = None
    """OpenTelemetry's resource attributes."""


@dataclass(frozen=True)
class Loss:
    """So many records of one kind that did not reach the store, and why: a row of ``losses``."""

    hour_ns: int
    stage: str
    """``store``, or the name of a destination."""
    kind: Literal["handler", "job", "span"]
    reason: str
    count: int


# --- log lines ---------------------------------------------------------------------------------------

LogLine = tuple[float, int, str, str, bytes | None, dict[str, Any] | None]
"""Time (UTC epoch seconds), level as the logging module counts, logger, message, the child span it was written in
(None: the command's own), attributes. Plain, so that it can be a part of a record; a journal gives a list back."""


class LogLines(Protocol):
    """What a run logged so far."""

    def add(self, line: LogLine) -> None: ...

    def lines(self) -> list[LogLine]: ...


# --- spans -----------------------------------------------------------------------------------------


class SpanRecord(msgspec.Struct, frozen=True, array_like=True, omit_defaults=True):
    """One finished span, lossless.

    A command's span has ``registration`` > 0 (a number its session gave that registration); its name,
    kind and fixed attributes follow from the registration and are not repeated. Any other span has 0
    and carries ``name``, ``kind`` and everything else in ``extra``.

    A msgspec Struct and not a dataclass: one is built for every command, in 0.07 us instead of 1.4.
    """

    trace_id: bytes
    span_id: bytes
    start_ns: int
    """UTC nanoseconds since the epoch; whole microseconds for a command."""
    duration_ns: int
    """Monotonic for a command, end minus start for any other span."""
    status: str
    """A command: success, error, cancelled. Another span: unset, ok, error. In flight: running."""
    registration: int = 0
    parent_span_id: bytes | None = None
    link_trace_id: bytes | None = None
    """The span that published the event."""
    link_span_id: bytes | None = None
    scheduled_ns: int | None = None
    queue_ns: int | None = None
    """Published to started."""
    error_type: str | None = None
    """Short class name, e.g. ``TimeoutError``."""
    error_message: str | None = None
    error_traceback: str | None = None
    """Without the message line, so that equal stacks are equal texts."""
    attributes: dict[str, Any] | None = None
    extra: dict[str, Any] | None = None
    """Keys: events, links, trace_state, flags, exception_type, exception_tail; for other spans also
    scope, resource, status_description, dropped, remote_parent."""
    name: str | None = None
    kind: int = 0
    """OpenTelemetry's SpanKind number."""
    was_running: bool = False
    """A commit while it ran put it into ``running``: its end takes it out."""
    logs: list[LogLine] | None = None
    """What was logged while it ran."""


class Run:
    """One command in flight: made by the executor, read by recording.

    Not a record: it changes until ``finish``. Slots and one flat object, because one is made for
    every command.
    """

    __slots__ = (
        "duration_ns",
        "error_message",
        "error_traceback",
        "error_type",
        "exception_tail",
        "exception_type",
        "flags",
        "gone",
        "in_running",
        "link_span_id",
        "link_trace_id",
        "logs",
        "number",
        "owner",
        "parent_span_id",
        "queue_ns",
        "recorded",
        "registration",
        "scheduled_ns",
        "span_id",
        "start_mono",
        "start_ns",
        "status",
        "trace_id",
        "trace_state",
    )

    def __init__(self, owner: object, number: int, registration: Registration, start_ns: int, start_mono: int) -> None:
        self.owner = owner
        self.number = number
        self.registration = registration
        self.start_ns = start_ns
        self.start_mono = start_mono
        self.trace_id = 0
        self.span_id = 0
        self.flags = 0
        self.trace_state: str | None = None
        self.parent_span_id = 0
        self.link_trace_id = 0
        self.link_span_id = 0
        self.scheduled_ns: int | None = None
        self.queue_ns: int | None = None
        self.status: Status = SUCCESS
        self.duration_ns = 0
        self.error_type: str | None = None
        self.exception_type: str | None = None
        self.exception_tail: str | None = None
        self.error_message: str | None = None
        self.error_traceback: str | None = None
        self.in_running = False
        self.recorded = False
        """Taken: nobody may take it again. It is in flight all the same until it is in a segment."""
        self.gone = False
        """It ended where there was no room to take it out."""
        self.logs: LogLines | None = None
        """None until the first line: a run that logs nothing pays nothing."""


# --- the segment: the unit of commit ------------------------------------------------------------------


@dataclass(eq=False)
class Segment:
    """What one transaction commits: rows, their parents, what is still running, what was lost."""

    number: int
    """Counts up within a session; ``sessions.committed_segment`` is the last one committed."""
    session: Session
    records: list[SpanRecord]
    registrations: Mapping[int, Registration]
    """By the number its records carry. Shared, only ever added to."""
    running: list[SpanRecord] = field(default_factory=list)
    """Commands that were in flight when it was sealed and are in no earlier segment's list."""
    losses: list[Loss] = field(default_factory=list)
    idempotent: bool = False
    """True: skip spans already stored (a retried export, a receiver)."""


@dataclass(frozen=True)
class Orphan:
    """What a session whose process is gone left in its journal."""

    session: Session
    segments: Callable[[int], Iterator[Segment]]
    """Those numbered higher than the one given, in order; raises OSError."""
    damaged: int
    """Frames that could not be read."""


# --- the seams -------------------------------------------------------------------------------------------


class Recorder(Protocol):
    """What the executor tells recording. No method raises or waits."""

    missed: int
    """Runs that could not even be handed over: at the end of the stack there is no room for a call."""

    def started(self, run: Run) -> None:
        """The command begins: a death of the process from here on interrupts it."""
        ...

    def hand_over(self, run: Run) -> None:
        """The span ended without reaching recording (unsampled, or another processor raised)."""
        ...


class SegmentSource(Protocol):
    """What the writer asks of recording. Called from the writer's thread."""

    def seal(self) -> int:
        """Close the open segment, if there is anything in it. How many wait now."""
        ...

    def next_segment(self) -> Segment | None:
        """The oldest sealed segment. It stays the source's until :meth:`committed` or :meth:`abandoned`."""
        ...

    def committed(self, segment: Segment) -> None: ...

    def abandoned(self, segment: Segment, reason: str) -> None:
        """Given up: its records become losses."""
        ...

    @property
    def journal_trouble(self) -> str | None:
        """Why the journal is not written at present; None when it is, or there is none."""
        ...

    def keep_journal(self, *, stuck: bool) -> None:
        """The journal's slow work, at every turn. ``stuck``: the database takes nothing at present."""
        ...

    def journal_pages_done(self) -> list[object]:
        """Pages whose segments are all committed."""
        ...

    def remove_journal_pages(self, pages: list[object]) -> None:
        """After a checkpoint that followed their commits."""
        ...

    def begin_anew(self) -> None:
        """Another file has taken the place of ours: it does not know what is in flight."""
        ...

    def leave(self, *, keep: bool) -> tuple[bool, int, int]:
        """The end. Whether a journal stays for the next start, how many spans are whole in it, and how many are
        not, and are counted as lost. Not ``keep``: there will be no database to take them."""
        ...


class Journals(Protocol):
    """What lies beside the database of sessions that are gone. Called under the orphan's lock."""

    def instances(self) -> set[str]: ...

    def orphan(self, instance_id: str) -> Orphan: ...

    def forget(self, instance_id: str) -> None: ...

    def set_aside(self, instance_id: str) -> None:
        """It makes no sense: kept, and not read again."""
        ...
