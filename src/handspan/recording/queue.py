"""Finished spans, in segments, until they are committed.

One short mutex, never held during I/O. A segment belongs to the queue until the writer says that it is
in the file; meanwhile memory is bounded by count and by bytes. Past a bound successes go before failures:
first those of the oldest sealed segment, then of younger ones, then of the open one; only when there is
no success left is the newcomer turned away. A segment that is being committed is left alone.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from handspan.recording.ledger import Ledger, kind_of
from handspan.records import SUCCESS, Registration, Run, Segment, Session, SpanRecord

__all__ = ["QUEUE_FULL", "SegmentQueue"]

QUEUE_FULL: Final = "queue_full"
RECORD_BYTES: Final = 500  # a SpanRecord, its ids and its place in the list; texts are added
_DULL: Final = frozenset({SUCCESS, "unset", "ok"})


class SegmentQueue:
    """The writer's :class:`handspan.records.SegmentSource`."""

    def __init__(
        self,
        session: Session,
        registrations: dict[int, Registration],
        *,
        segment_max_spans: int,
        max_spans: int,
        max_bytes: int,
        running: Callable[[], list[Run]] = list,
        running_record: Callable[[Run], SpanRecord] | None = None,
        idempotent: Callable[[], bool] = bool,
    ) -> None:
        self._session, self._registrations = session, registrations
        self._segment_max = segment_max_spans
        self._max_spans, self._max_bytes = max_spans, max_bytes
        self._running, self._running_record = running, running_record
        self._idempotent = idempotent
        self._mutex = threading.Lock()
        self._open: list[SpanRecord] = []
        self._sealed: list[Segment] = []
        self._sealed_spans = 0
        self._committing: Segment | None = None
        self._bytes = 0
        self._number = 0
        self._leaving: deque[tuple[int, list[int]]] = deque()
        self.ledger = Ledger()
        self.committed_spans = 0
        self._nothing_dull = False
        self.missed = 0
        """Records that could not even be counted where they were lost (a stack with no room left)."""
        self.on_work: Callable[[], None] = lambda: None
        """Called when something waits that did not before."""
        self.on_full: Callable[[], None] = lambda: None
        """Called when a segment is full."""

    @property
    def capacity(self) -> int:
        return self._max_spans

    def __len__(self) -> int:
        return len(self._open) + self._sealed_spans

    # --- the application's side -----------------------------------------------------------------------

    def append(self, record: SpanRecord, run: Run | None = None) -> None:
        """O(1), but for the one in thousands that finds the queue full and has to make room."""
        size = _size_of(record)
        with self._mutex:
            if run is not None and run.in_running and not record.was_running:
                record = replace(record, was_running=True)  # sealed as running while it was made into a record
            open_ = self._open
            self._bytes += size
            while len(open_) + self._sealed_spans >= self._max_spans or self._bytes > self._max_bytes:
                if self._make_room():
                    continue  # one big newcomer may take several segments' successes
                if record.was_running:  # its end must take it out of ``running``
                    break
                self._bytes -= size
                self._lost([record], QUEUE_FULL)
                return
            open_.append(record)
            if record.status in _DULL:
                self._nothing_dull = False
            waiting = len(open_)
            if waiting >= self._segment_max:
                self._seal_open()
        if waiting == 1:
            self.on_work()
        if waiting >= self._segment_max:
            self.on_full()

    def lose(self, kind: str, reason: str, count: int = 1) -> None:
        """Something did not even become a record."""
        with self._mutex:
            self.ledger.add(kind, reason, count)  # type: ignore[arg-type]  # a Literal, checked by the table
        self.on_work()

    def forget(self, numbers: list[int]) -> None:
        """Registrations nothing will be recorded under any more: they go with the last segment that may need them."""
        with self._mutex:
            self._leaving.append((self._number + 1, numbers))
            self._let_go()

    def _let_go(self) -> None:
        oldest = self._sealed[0].number if self._sealed else self._number + 1 if self._open else float("inf")
        while self._leaving and self._leaving[0][0] < oldest:
            for number in self._leaving.popleft()[1]:
                self._registrations.pop(number, None)

    def holds(self, record: SpanRecord) -> bool:
        """Whether an append that was interrupted had come far enough."""
        with self._mutex:
            waiting = [self._open, *(segment.records for segment in self._sealed)]
            return any(each.span_id == record.span_id for records in waiting for each in records)

    def _make_room(self) -> bool:
        if self._nothing_dull:
            return False  # known from the last look: a storm of failures must not look at all of them each time
        for segment in self._sealed:
            if segment is not self._committing and self._shed(segment.records):
                self._count_sealed()
                return True
        self._nothing_dull = not self._shed(self._open)
        return not self._nothing_dull

    def _shed(self, records: list[SpanRecord]) -> bool:
        dull = [record for record in records if record.status in _DULL and not record.was_running]
        if not dull:
            return False
        records[:] = [record for record in records if record.status not in _DULL or record.was_running]
        self._bytes -= sum(map(_size_of, dull))
        self._lost(dull, QUEUE_FULL)
        return True

    def _lost(self, records: list[SpanRecord], reason: str) -> None:
        kinds = Counter(kind_of(self._registrations.get(record.registration)) for record in records)
        for kind, count in kinds.items():
            self.ledger.add(kind, reason, count)

    # --- the writer's side ------------------------------------------------------------------------------

    def seal(self) -> int:
        with self._mutex:
            self._seal_open()
            return len(self._sealed)

    def next_segment(self) -> Segment | None:
        with self._mutex:
            self._committing = self._sealed[0] if self._sealed else None
            return self._committing

    def committed(self, segment: Segment) -> None:
        with self._mutex:
            self.committed_spans += len(segment.records)
            self._remove(segment)

    def abandoned(self, segment: Segment, reason: str) -> None:
        """Its records are losses. A part of the segment being committed leaves it; the rest stays."""
        with self._mutex:
            self._lost(segment.records, reason)
            if segment in self._sealed:
                self.ledger.put_back(segment.losses)  # they were in it to be written, and still have to be
                self._remove(segment)
            elif self._committing is not None:
                gone = {id(record): _size_of(record) for record in segment.records}
                self._committing.records[:] = [each for each in self._committing.records if id(each) not in gone]
                self._bytes -= sum(gone.values())
                self._count_sealed()

    def _seal_open(self) -> None:
        """Under the mutex. Commands in flight go into the first segment sealed while they run."""
        running = [] if self._running_record is None else self._note_running()
        if self.missed:
            missed, self.missed = self.missed, 0
            self.ledger.add("span", "failed", missed)
        if not (self._open or running or self.ledger):
            return
        self._number += 1
        records, self._open = self._open, []
        self._sealed_spans += len(records)
        segment = Segment(self._number, self._session, records, self._registrations)
        segment.running, segment.losses, segment.idempotent = running, self.ledger.take(), self._idempotent()
        self._sealed.append(segment)

    def _note_running(self) -> list[SpanRecord]:
        found = []
        for run in self._running():
            if not run.in_running and not run.recorded and run.span_id:
                run.in_running = True
                found.append(self._running_record(run))  # type: ignore[misc]  # None was asked for before
        return found

    def _remove(self, segment: Segment) -> None:
        self._nothing_dull = False  # the next one is committed now, and was left alone till then
        self._sealed.remove(segment)
        self._count_sealed()
        self._bytes -= sum(map(_size_of, segment.records))
        self._committing = None
        self._let_go()

    def _count_sealed(self) -> None:
        self._sealed_spans = sum(len(each.records) for each in self._sealed)


def _size_of(record: SpanRecord) -> int:
    if record.error_type is None and record.attributes is None and record.extra is None and record.name is None:
        return RECORD_BYTES
    texts = len(record.error_message or "") + len(record.error_traceback or "") + len(record.name or "")
    return RECORD_BYTES + texts + _size_of_value(record.attributes) + _size_of_value(record.extra)


def _size_of_value(value: object) -> int:
    kind = type(value)  # never isinstance: ``__class__`` may lie, and a subclass about its length
    if value is None:
        return 0
    if issubclass(kind, str):
        return 50 + str.__len__(value)  # type: ignore[arg-type]  # it is one
    if issubclass(kind, bytes):
        return 50 + bytes.__len__(value)  # type: ignore[arg-type]  # likewise
    if isinstance(value, dict) and kind is dict:
        return 100 + sum(_size_of_value(key) + _size_of_value(item) for key, item in value.items())
    if isinstance(value, list | tuple) and kind in (list, tuple):
        return 60 + sum(map(_size_of_value, value))
    return 30
