"""Recording and store, connected: one session, its processor, its writer.

A forked child gets a new session, a new queue and a new writer here; executor, registry and provider go on
with the same objects.
"""

import logging
import os
import platform
import socket
import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from handspan._version import __version__
from handspan.clock import Clock, instant_from_ns
from handspan.instruments import Health
from handspan.outcome import OutcomeLimits
from handspan.recording.exporting import is_exported_to
from handspan.recording.journal import Journal
from handspan.recording.logs import RunLogHandler
from handspan.recording.processor import DurableSpanProcessor
from handspan.recording.replay import JournalFiles
from handspan.recording.skips import Skips
from handspan.records import Registration, Session
from handspan.redaction import redactor_for
from handspan.settings import Settings, log_level_number
from handspan.store.journalling import leave_behind
from handspan.store.liveness import SessionLock, sidecar_dir
from handspan.store.sessions import INTERRUPTED_MESSAGE
from handspan.store.writer import Writer

__all__ = ["Pipeline", "new_session"]

_log = logging.getLogger("handspan")


def new_session(settings: Settings, resource: Mapping[str, Any], started_ns: int) -> Session:
    """This run of this process. Settings name the service; the provider's resource does where they do not."""

    def named(setting: str | None, attribute: str) -> str | None:
        found = setting if setting is not None else resource.get(attribute)
        return None if found is None else str(found)

    return Session(
        instance_id=str(uuid.uuid4()),
        service_name=named(settings.service_name, "service.name") or "unknown_service",
        service_namespace=named(settings.service_namespace, "service.namespace") or "",
        service_version=named(settings.service_version, "service.version"),
        started_at=instant_from_ns(started_ns),
        host=socket.gethostname(),
        pid=os.getpid(),
        python_version=platform.python_version(),
        handspan_version=__version__,
        resource=redactor_for(settings.redact_keys).mapping(resource) or None,
    )


class Pipeline:
    """From a finished span to the file."""

    def __init__(
        self, settings: Settings, make_session: Callable[[], Session], clock: Clock, on_commit: Callable[[float], None]
    ) -> None:
        self._settings, self._make_session = settings, make_session
        self._clock, self._on_commit = clock, on_commit
        self.closing = threading.Lock()
        """Held while closing: whoever comes second waits, and finds it done."""
        self.registrations: dict[int, Registration] = {}
        self.session = make_session()
        self._path = os.path.abspath(settings.db)  # a daemon may change its directory
        self._lock = SessionLock(self._path, self.session.instance_id)
        self.processor = DurableSpanProcessor(
            self.session,
            self.registrations,
            redactor_for(settings.redact_keys),
            segment_max_spans=settings.segment_max_spans,
            max_spans=settings.queue_max_spans,
            max_bytes=settings.queue_max_mb * 1024 * 1024,
            journal=self._new_journal(),
            idempotent=lambda: is_exported_to(settings.db),
        )
        self.skips = Skips(self.processor, clock)
        self._logs = self._new_log_handler()
        self.writer = self._new_writer()
        self._first: threading.Lock | None = None  # in a forked child: locked once its writer runs
        self._without_sqlite = False
        self._wire()
        self.processor.queue.on_work = self._say_it_is_not_open
        self.skips.on_first = self._start_in_child

    def start(self) -> None:
        self._wire()
        self.writer.start()
        if self._logs is not None:
            self._logs.install()

    def _say_it_is_not_open(self) -> None:
        self.processor.queue.on_work = lambda: None
        _log.warning("%s is not open: nothing is stored until open(), `with` or `async with`.", self._settings.db)

    def close(self, timeout: float, *, dying: bool = False) -> bool:
        """Record what still runs as interrupted, commit, end the session. ``dying``: the process ends with this, and
        what other threads still finish until then is the journal's, for the next start."""
        try:
            self.processor.interrupt_running(self._clock.monotonic_ns(), INTERRUPTED_MESSAGE)
            if self._without_sqlite:
                self.processor.close()
                leave_behind(self.processor.queue, self._lock, "forked in the middle of a transaction", keep=True)
                return False
            if not dying or not self._settings.journal:
                self.processor.close()
            done = self.writer.close(timeout)
            self.processor.close()
            return done
        finally:
            if self._logs is not None:  # last: a run that still ends has its lines
                self._logs.remove()

    def before_fork(self, until: float) -> bool:
        return self.writer.before_fork(until)

    def after_fork_in_parent(self) -> None:
        self.writer.after_fork_in_parent()

    def after_fork_in_child(self, *, clean: bool) -> None:
        """The writer starts with the first record or registration: most children only exec, and a thread at every
        fork is a complaint of its own (opentelemetry-python#4298). What was registered before the fork is the
        parent's; a child that runs it holds it, too. Not ``clean``: the fork came in the middle of a transaction
        that would not end, SQLite cannot be used here, and what runs waits in the journal for the next start."""
        self.closing = threading.Lock()
        self.writer.forget_in_child()
        self.processor.queue.leave_journal()
        self.session = self._make_session()
        self._lock = SessionLock(self._path, self.session.instance_id)
        self.processor.begin(self.session, self._new_journal())
        self.skips.begin()
        self.writer, self._first = self._new_writer(), None
        self._without_sqlite = not clean
        if not clean:
            if not self._settings.journal:
                self.processor.close()
            return
        self._first = threading.Lock()
        self.processor.queue.on_work = self._start_in_child
        self.processor.flusher = self.flush

    def _start_in_child(self) -> None:
        if self._first is not None and self._first.acquire(blocking=False):
            self._wire()
            self.writer.start()
            self.writer.work()

    def sink(self) -> Writer:
        """Where registrations go."""
        self._start_in_child()
        return self.writer

    def forget(self, numbers: list[int]) -> None:
        """Of registrations: nothing will be recorded under them any more."""
        self.processor.queue.forget(numbers)

    def flush(self, timeout: float) -> bool:
        if self._without_sqlite:
            return False
        if self._first is not None and not self._first.locked():
            return True  # a forked child that has recorded nothing
        return self.writer.flush(timeout)

    def health(self) -> Health:
        """Our own health, now: queue, commits, losses, the store."""
        queue, episode = self.processor.queue, self.writer.episode
        return Health(
            active=self.processor.active,
            queue_size=len(queue),
            queue_capacity=queue.capacity,
            committed=queue.committed_spans,
            lost=dict(queue.ledger.total),
            store_bytes=self.writer.stats.live_bytes,
            failing_since=episode.since,
            last_error=episode.last_error,
            spilled=queue.spilled,
            journal_trouble=queue.journal_trouble,
        )

    def _new_log_handler(self) -> RunLogHandler | None:
        settings, level = self._settings, log_level_number(self._settings.log_level)
        if level is None:
            return None
        redactor = redactor_for(settings.redact_keys)
        limits = OutcomeLimits(settings.log_max_chars, settings.max_traceback_chars, redactor)
        return RunLogHandler(self.processor, level, limits, settings.log_max_records)

    def _new_writer(self) -> Writer:
        files = JournalFiles(sidecar_dir(self._path))
        return Writer(
            self._settings,
            self.session,
            self.processor.queue,
            self._clock,
            self._on_commit,
            lock=self._lock,
            journals=files,
            skips=self.skips,
        )

    def _new_journal(self) -> Journal | None:
        if not self._settings.journal:
            return None
        return Journal(
            sidecar_dir(self._path),
            self.session,
            self.registrations,
            max_bytes=self._settings.journal_max_mb * 1024 * 1024,
            claim=self._lock.acquire,
        )

    def _wire(self) -> None:
        self.processor.queue.on_work, self.processor.queue.on_full = self.writer.work, self.writer.hurry
        self.processor.flusher = self.writer.flush
