"""handspan's store as a plain ``SpanExporter``.

Same conversion, same commit as the durable processor, at the guarantees of whatever calls it: the stock
``BatchSpanProcessor`` drops its oldest spans when full and loses what it holds to SIGTERM. A span of scope
``handspan`` becomes an invocation or an execution, read from its attributes; every other goes to ``spans``.
A span that comes twice is stored once.
"""

import logging
import os
import threading
from collections.abc import Sequence
from typing import Any

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from handspan.clock import SystemClock
from handspan.forking import join
from handspan.pipeline import new_session
from handspan.recording.convert import foreign_record, inferred_registration
from handspan.recording.exporting import begin_exporting, end_exporting
from handspan.recording.queue import SegmentQueue
from handspan.recording.replay import JournalFiles
from handspan.records import Registration
from handspan.redaction import redactor_for
from handspan.settings import Settings
from handspan.store.liveness import sidecar_dir
from handspan.store.writer import Writer

__all__ = ["SQLiteSpanExporter"]

_log = logging.getLogger("handspan.exporters")


class SQLiteSpanExporter(SpanExporter):
    """Writes finished spans to a handspan database.

    ``path`` and ``settings`` are as for ``Telemetry`` (``HANDSPAN_DB`` is heard). The file is opened by the
    first export, whose resource names the service.
    """

    def __init__(self, path: str | None = None, *, export_timeout: float = 10.0, **settings: Any) -> None:
        self._settings = Settings.load(**({} if path is None else {"db": path}), **settings)
        self._export_timeout = export_timeout
        self._registrations: dict[int, Registration] = {}
        self._numbers: dict[tuple[object, ...], int] = {}
        self._mutex = threading.Lock()
        self._queue: SegmentQueue | None = None
        self._writer: Writer | None = None
        self._asked: Writer | None = None
        self._shut = False
        join(self)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """SUCCESS once they are in the file. FAILURE: not by ``export_timeout`` seconds; they are kept (within
        ``queue_max_spans``) and still written when the file allows it."""
        if self._shut or not spans:
            return SpanExportResult.FAILURE if self._shut else SpanExportResult.SUCCESS
        try:
            with self._mutex:
                queue, writer = self._open(spans[0])
            for span in spans:
                self._take(queue, span)
            return SpanExportResult.SUCCESS if writer.flush(self._export_timeout) else SpanExportResult.FAILURE
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - one CancelledError out of an exporter ends the SDK's thread for good
            _log.exception("handspan could not take a batch; the application is not affected.")
            return SpanExportResult.FAILURE

    def _take(self, queue: SegmentQueue, span: ReadableSpan) -> None:
        """One that cannot be read is a loss, and costs only itself."""
        try:
            record = foreign_record(span, self._number_of(span), redactor_for(self._settings.redact_keys))
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - as above
            queue.lose("span", "failed")
            _log.exception("handspan could not read a span; it is counted as lost.")
        else:
            queue.append(record)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._writer is None or self._writer.flush(timeout_millis / 1000)

    def shutdown(self) -> None:
        """Commit what is left and end the session. Twice is once."""
        with self._mutex:
            self._shut, writer, self._writer = True, self._writer, None
        if writer is not None:
            writer.close(self._settings.shutdown_timeout)
            end_exporting(self._settings.db)

    def before_fork(self, until: float) -> bool:
        """As a ``Telemetry`` does: no connection and no lock of ours is open while the process is copied."""
        self._asked = self._writer  # shutting down may come in between: who was asked is who is told
        return self._asked is None or self._asked.before_fork(until)

    def after_fork_in_parent(self) -> None:
        if self._asked is not None:
            self._asked.after_fork_in_parent()

    def after_fork_in_child(self, *, clean: bool) -> None:
        """The next export opens a session of the child's own (prefork servers work so)."""
        self._mutex = threading.Lock()
        if self._writer is not None:
            self._writer.forget_in_child()
            end_exporting(self._settings.db)
        self._queue = self._writer = None
        self._shut = self._shut or not clean

    def _open(self, first: ReadableSpan) -> tuple[SegmentQueue, Writer]:
        if self._queue is None or self._writer is None:
            settings, clock = self._settings, SystemClock()
            session = new_session(settings, dict(first.resource.attributes), clock.wall_ns())
            self._queue = SegmentQueue(
                session,
                self._registrations,
                segment_max_spans=settings.segment_max_spans,
                max_spans=settings.queue_max_spans,
                max_bytes=settings.queue_max_mb * 1024 * 1024,
                idempotent=lambda: True,
            )
            left = JournalFiles(sidecar_dir(os.path.abspath(settings.db)))  # by others: an exporter keeps none
            self._writer = Writer(settings, session, self._queue, clock, journals=left)
            begin_exporting(settings.db)
            self._writer.start()
        return self._queue, self._writer

    def _number_of(self, span: ReadableSpan) -> int:
        registration = inferred_registration(span)
        if registration is None:
            return 0
        key = tuple(
            getattr(registration, field, None) for field in ("app_key", "instance_index", "name", "topic", "job_name")
        )
        with self._mutex:
            number = self._numbers.setdefault(key, len(self._numbers) + 1)
            self._registrations.setdefault(number, registration)
        return number
