"""The span processor that keeps what it is given.

``on_end`` is O(1), catches everything and takes no lock that is held during I/O. It takes only spans
started under its own ``Telemetry``: the run in the context says so. The command's own span is the first
started under a run; every later one is a child.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import Link

from handspan.recording.convert import (
    command_record,
    foreign_record,
    interrupted_record,
    run_record,
)
from handspan.recording.journal import Journal
from handspan.recording.ledger import kind_of
from handspan.recording.queue import SegmentQueue
from handspan.records import Registration, Run, Session, SpanRecord
from handspan.redaction import Redactor
from handspan.spans import run_of

__all__ = ["DurableSpanProcessor", "NotRecording"]

_log = logging.getLogger("handspan.recording")

MAX_OPEN_SPANS: Final = 100_000  # children started and never ended would otherwise be remembered for ever
_CHILD: Final = object()
_UNKNOWN: Final = object()


class DurableSpanProcessor(SpanProcessor):
    """Finished spans to the segment queue. Also the executor's :class:`handspan.records.Recorder`."""

    takes_light_spans = True

    def __init__(
        self,
        session: Session,
        registrations: dict[int, Registration],
        redactor: Redactor,
        *,
        segment_max_spans: int,
        max_spans: int,
        max_bytes: int,
        journal: Journal | None = None,
        idempotent: Callable[[], bool] = bool,
    ) -> None:
        self._redactor = redactor
        self._idle, self._awaited = threading.Event(), False
        self._new_queue = partial(
            SegmentQueue,
            registrations=registrations,
            segment_max_spans=segment_max_spans,
            max_spans=max_spans,
            max_bytes=max_bytes,
            missed=self._take_missed,
            idempotent=idempotent,
        )
        self.begin(session, journal)
        self.flusher: Callable[[float], bool] = lambda _seconds: True
        """Waits until the writer has everything; set by who assembles the two."""

    def begin(self, session: Session, journal: Journal | None) -> None:
        """Start afresh under a session: at the start, and in a forked child, where what is queued and what
        runs are the parent's to record (and the queue's mutex may be held by a thread that is not here)."""
        self.missed = 0
        self._open: dict[int, object] = {}
        self._closed = False
        self.queue = self._new_queue(session, journal=journal)

    @property
    def active(self) -> int:
        """Commands in flight."""
        return len(self.queue.in_flight())

    def _take_missed(self) -> int:
        missed, self.missed = self.missed, 0
        return missed

    # --- the executor's side ---------------------------------------------------------------------------

    def started(self, run: Run) -> None:
        self.queue.begin(run)

    def hand_over(self, run: Run) -> None:
        """The command ended and its span did not come by: unsampled, or another processor raised."""
        self._open.pop(run.span_id, None)
        self._take(run, run_record)

    # --- OpenTelemetry's side ------------------------------------------------------------------------------

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        try:
            run = run_of(parent_context)
            if run is None or run.owner is not self:
                return
            context = span.get_span_context()
            if not run.span_id:
                run.trace_id, run.span_id = context.trace_id, context.span_id
                self._open[context.span_id] = run
            elif len(self._open) < MAX_OPEN_SPANS:
                self._open[context.span_id] = _CHILD
            else:
                self.queue.lose("span", "too_many_open")
        except Exception:  # noqa: BLE001 - nothing of ours reaches who starts a span
            self._ours("on_start")

    def on_end(self, span: ReadableSpan) -> None:
        try:
            context = span.context
            found = self._open.pop(context.span_id, _UNKNOWN) if context is not None else _UNKNOWN
            if found is _CHILD:
                if self._closed:
                    self.queue.lose("span", "after_shutdown")
                else:
                    self.queue.append(foreign_record(span, 0, self._redactor))
            elif isinstance(found, Run):
                additions = span.attributes, span.events, span.links
                self._take(found, lambda run: command_record(run, *additions, self._redactor))
        except Exception:  # noqa: BLE001 - as above
            self.missed += 1
            self._ours("on_end")

    def take_light(self, run: Run, additions: tuple[Mapping[str, Any], Iterable[Event], Iterable[Link]] | None) -> None:
        """The end of a command's light span: no lookup, the run is at hand."""
        if additions is None:
            self._take(run, run_record)
        else:
            self._take(run, lambda run: command_record(run, *additions, self._redactor))

    def _take(self, run: Run, to_record: Callable[[Run], SpanRecord]) -> None:
        if run.recorded:
            return
        run.recorded, record = True, None
        try:
            if self._closed:
                self.queue.lose(kind_of(run.registration), "after_shutdown", run=run)
            else:
                record = self._record_of(run, to_record)
                self.queue.append(record, run)
            if self._awaited and not self.queue.active:
                self._idle.set()
        except BaseException as error:
            # A recursion's last frame has no room even for this; or a signal's handler raised in here.
            run.gone = True
            if record is None or not self.queue.holds(record):
                self.missed += 1
            if not issubclass(type(error), Exception):
                raise

    def _record_of(self, run: Run, to_record: Callable[[Run], SpanRecord]) -> SpanRecord:
        try:
            return to_record(run)
        except Exception:  # noqa: BLE001 - whatever the span held, the run itself is plain
            self._ours("a command's span")
            return run_record(run)

    def wait_idle(self, timeout: float) -> bool:
        """Wait until no command is in flight. Not on the loop that runs them."""
        self._idle.clear()
        self._awaited = True
        return not self.queue.in_flight() or self._idle.wait(timeout)

    def interrupt_running(self, now_mono_ns: int, message: str) -> int:
        """At the end: what still runs is recorded as ProcessInterrupted. How many there were.

        From a copy: the run may go on, and then its caller is told what really became of it.
        """
        self.queue.closing = True
        left = self.queue.in_flight()
        for run in left:
            duration_ns = max(0, now_mono_ns - run.start_mono)
            # A default binds what the loop changes (ruff's B023); mypy infers no lambda that has one.
            self._take(run, lambda run, ns=duration_ns: interrupted_record(run, ns, message))  # type: ignore[misc]
        return len(left)

    def close(self) -> None:
        """What ends from now on is counted as lost."""
        self._closed = True

    def shutdown(self) -> None:
        """The provider shuts down: commit what there is. The session ends with its ``Telemetry``."""
        self.flusher(5.0)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """True once everything that ended before the call is committed; False at the deadline."""
        if self._closed or not len(self.queue):  # a provider asks all its processors, also those long closed
            return True
        return self.flusher(timeout_millis / 1000)

    def _ours(self, where: str) -> None:
        _log.exception("handspan failed in %s; the application is not affected.", where)


class NotRecording:
    """The recorder while ``OTEL_SDK_DISABLED`` is true: handlers run, nothing is kept."""

    active = missed = 0

    def started(self, run: Run) -> None: ...

    def hand_over(self, run: Run) -> None: ...
