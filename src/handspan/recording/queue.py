"""Finished spans, in segments, until they are committed.

One short mutex, never held during I/O on the database; what begins and what ends goes into the journal under it,
so that file and memory never disagree about which segment a span belongs to. A segment belongs to the queue until
the writer says that it is in the file; meanwhile memory is bounded by count and by bytes. Past a bound, what is
whole in the journal leaves memory and is read back when its turn comes. Only what is not there is dropped,
successes before failures: first those of the oldest sealed segment, then of younger ones, then of the open one;
when there is no success left the newcomer is turned away. A segment that is being committed is left alone.

The mutex is re-entrant: a signal handler that executes a command may have interrupted its own thread in here.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from handspan.recording.journal import Journal
from handspan.recording.ledger import Kind, Ledger, kind_of
from handspan.recording.sizes import size_of
from handspan.recording.waiting import Waiting
from handspan.records import SUCCESS, Registration, Run, Segment, Session, SpanRecord

__all__ = ["QUEUE_FULL", "SegmentQueue"]

QUEUE_FULL: Final = "queue_full"
JOURNAL_UNREADABLE: Final = "journal_unreadable"
_DULL: Final = frozenset({SUCCESS, "unset", "ok"})


class SegmentQueue:
    """The writer's :class:`handspan.records.SegmentSource`. ``open_journal`` makes a journal that hears the
    same mutex; None: what finished after the last commit dies with the process. ``missed`` tells how
    many could not even be counted where they were lost (a stack with no room left), and forgets them."""

    def __init__(
        self,
        session: Session,
        registrations: dict[int, Registration],
        *,
        segment_max_spans: int,
        max_spans: int,
        max_bytes: int,
        journal: Journal | None = None,
        missed: Callable[[], int] = int,
        idempotent: Callable[[], bool] = bool,
    ) -> None:
        self._session, self._registrations = session, registrations
        self._segment_max = segment_max_spans
        self._max_spans, self._max_bytes = max_spans, max_bytes
        self._journal, self._missed, self._idempotent = journal, missed, idempotent
        self._mutex = threading.RLock()
        self._open: list[SpanRecord] = []
        self._sealed: deque[Waiting] = deque()
        self._sealed_spans = 0
        self._bytes = 0
        self._number = 0
        self._sealing = False
        self.active: dict[int, Run] = {}
        """Commands in flight, by identity."""
        self.closing = False
        """What starts from now on is not awaited, nor noted as interrupted."""
        self._leaving: deque[tuple[int, list[int]]] = deque()
        self.ledger = Ledger()
        self.committed_spans = 0
        self._nothing_dull = False
        self.on_work: Callable[[], None] = lambda: None
        """Called when something waits that did not before."""
        self.on_full: Callable[[], None] = lambda: None
        """Called when a segment is full."""

    @property
    def capacity(self) -> int:
        return self._max_spans

    @property
    def journal_trouble(self) -> str | None:
        """Why the journal is not written at present; None when it is, or there is none."""
        return None if self._journal is None else self._journal.trouble

    def __len__(self) -> int:
        """Spans in memory."""
        return len(self._open) + self._sealed_spans

    @property
    def spilled(self) -> int:
        """Spans that wait in the journal only."""
        return sum(each.kinds.total() for each in list(self._sealed) if each.kinds is not None)

    # --- the application's side -----------------------------------------------------------------------

    def begin(self, run: Run) -> None:
        """A command starts: from here on a death of the process is not silent about it."""
        with self._mutex:
            if self.closing:
                return
            self.active[id(run)] = run
            journal = self._journal
            if journal is not None and journal.started(run):
                self._seal_open()

    def append(self, record: SpanRecord, run: Run | None = None) -> None:
        """O(1), but for the one in thousands that finds the queue full and has to make room."""
        size = size_of(record)
        with self._mutex:
            if run is not None:
                self.active.pop(id(run), None)
                if run.in_running and not record.was_running:
                    record = replace(record, was_running=True)  # sealed as running while it was made into a record
            open_, journal = self._open, self._journal
            self._bytes += size
            if len(open_) + self._sealed_spans >= self._max_spans or self._bytes > self._max_bytes:
                if not self._find_room(record):
                    self._bytes -= size
                    self._lost([record], self._reason())
                    return
                open_ = self._open  # sealed and set aside, perhaps
            open_.append(record)
            if record.status in _DULL:
                self._nothing_dull = False
            waiting = len(open_)
            full = (journal is not None and journal.ended(record)) or waiting >= self._segment_max
            if full:
                self._seal_open()
        if waiting == 1:
            self.on_work()
        if full:
            self.on_full()

    def lose(self, kind: Kind, reason: str, count: int = 1, run: Run | None = None) -> None:
        """Something did not even become a record."""
        with self._mutex:
            if run is not None:
                self.active.pop(id(run), None)
            self.ledger.add(kind, reason, count)
        self.on_work()

    def in_flight(self) -> list[Run]:
        """Without those that ended where the stack had no room to take them out."""
        with self._mutex:
            for key in [key for key, run in self.active.items() if run.gone]:
                del self.active[key]
            return list(self.active.values())

    def holds(self, record: SpanRecord) -> bool:
        """Whether an append that was interrupted had come far enough."""
        with self._mutex:
            waiting = [self._open, *(each.segment.records for each in self._sealed)]
            return any(each.span_id == record.span_id for records in waiting for each in records)

    def forget(self, numbers: list[int]) -> None:
        """Registrations nothing will be recorded under any more: they go with the last segment that may need them."""
        with self._mutex:
            self._leaving.append((self._number + 1, numbers))
            self._let_go()

    def _let_go(self) -> None:
        waiting = self._sealed[0].segment.number if self._sealed else self._number + 1 if self._open else float("inf")
        while self._leaving and self._leaving[0][0] < waiting:
            for number in self._leaving.popleft()[1]:
                self._registrations.pop(number, None)

    # --- room ---------------------------------------------------------------------------------------------

    def _find_room(self, newcomer: SpanRecord) -> bool:
        while len(self) >= self._max_spans or self._bytes > self._max_bytes:
            if self._spill() or self._make_room():
                continue  # one big newcomer may take several segments' successes
            return newcomer.was_running  # its end must take it out of ``running``
        return True

    def _spill(self) -> bool:
        """The youngest segment that is whole in the journal leaves memory."""
        if self._journal is None or not self._journal.writing:
            return self._spill_sealed()
        return self._spill_sealed() or (bool(self._open) and self._seal_open() and self._spill_sealed())

    def _spill_sealed(self) -> bool:
        for waiting in reversed(self._sealed):
            if waiting.extent is not None and waiting.kinds is None and not waiting.held and waiting.spans:
                records = waiting.segment.records
                size = sum(map(size_of, records))
                waiting.kinds, waiting.segment.records = self._by_kind(records), []
                self._bytes -= size
                self._sealed_spans -= len(records)
                return True
        return False

    def _make_room(self) -> bool:
        if self._nothing_dull:
            return False  # known from the last look: a storm of failures must not look at all of them each time
        for waiting in self._sealed:
            before = waiting.spans
            if not waiting.held and self._shed(waiting.segment.records):
                self._sealed_spans -= before - waiting.spans
                return True
        self._nothing_dull = not self._shed(self._open)
        return not self._nothing_dull

    def _shed(self, records: list[SpanRecord]) -> bool:
        dull = [record for record in records if record.status in _DULL and not record.was_running]
        if not dull:
            return False
        size = sum(map(size_of, dull))
        records[:] = [record for record in records if record.status not in _DULL or record.was_running]
        self._bytes -= size
        self._lost(dull, self._reason())
        return True

    def _lost(self, records: list[SpanRecord], reason: str) -> None:
        for kind, count in self._by_kind(records).items():
            self.ledger.add(kind, reason, count)

    def _reason(self) -> str:
        journal = self._journal
        return QUEUE_FULL if journal is None or journal.writing else journal.reason

    def _by_kind(self, records: list[SpanRecord]) -> Counter[Kind]:
        return Counter(kind_of(self._registrations.get(record.registration)) for record in records)

    # --- the writer's side ------------------------------------------------------------------------------

    def seal(self) -> int:
        """While older segments wait the open one goes on: a database that is away for hours makes no thousands."""
        with self._mutex:
            if not self._sealed:
                self._seal_open()
            return len(self._sealed)

    def next_segment(self) -> Segment | None:
        with self._mutex:
            if not self._sealed:
                return None
            waiting = self._sealed[0]
            waiting.held = True
        if waiting.kinds is not None:
            self._read_back(waiting)
        return waiting.complete()

    def committed(self, segment: Segment) -> None:
        with self._mutex:
            self.committed_spans += len(segment.records)
            self._remove(segment)

    def abandoned(self, segment: Segment, reason: str) -> None:
        """Its records are losses. A part of the segment being committed leaves it; the rest stays."""
        with self._mutex:
            self._lost(segment.records, reason)
            whole = self._sealed[0].segment if self._sealed else None
            if segment is whole:
                self.ledger.put_back(segment.losses)  # they were in it to be written, and still have to be
                self._remove(segment)
            elif whole is not None:
                gone = {id(record): size_of(record) for record in segment.records}
                size, before = sum(gone.values()), len(whole.records)
                whole.records[:] = [each for each in whole.records if id(each) not in gone]
                self._bytes -= size
                self._sealed_spans -= before - len(whole.records)

    def _read_back(self, waiting: Waiting) -> None:
        """What left memory. Not under the mutex: only the writer has it in hand."""
        records = waiting.read()
        with self._mutex:
            missing = (waiting.kinds or Counter()) - self._by_kind(records)
            for kind, count in missing.items():
                self.ledger.add(kind, JOURNAL_UNREADABLE, count)
            size = sum(map(size_of, records))
            waiting.segment.records, waiting.kinds = records, None
            self._bytes += size
            self._sealed_spans += len(records)

    def _seal_open(self) -> bool:
        """Under the mutex. Commands in flight go into the first segment sealed while they run."""
        if self._sealing:  # a signal handler in the middle of it
            return False
        self._sealing = True
        try:
            return self._seal_now()
        finally:
            self._sealing = False

    def _seal_now(self) -> bool:
        """What may raise (a signal's handler, no memory) comes first; then the segment is sealed, or nothing is."""
        self.ledger.add("span", "failed", self._missed())
        running = self._in_no_segment_yet()
        some = bool(self._open or running or self.ledger)
        if some:
            number, records = self._number + 1, self._open
            segment = Segment(number, self._session, records, self._registrations)
            segment.losses, segment.idempotent = self.ledger.entries(), self._idempotent()
            waiting = Waiting(segment, None, running=running)
            self._sealed.append(waiting)
            self._open, self._number = [], number
            self._sealed_spans += len(records)
            for run in running:
                run.in_running = True
            self.ledger.written()
            if self._journal is not None:
                waiting.extent = self._journal.seal(number, segment.losses)
        if self._journal is not None and self._journal.page_is_full:
            self._journal.turn_page()
        return some

    def _in_no_segment_yet(self) -> list[Run]:
        return [run for run in self.active.values() if not run.in_running and not run.gone and run.span_id]

    def _remove(self, segment: Segment) -> None:
        self._nothing_dull = False  # the next one is committed now, and was left alone till then
        if self._sealed and self._sealed[0].segment is segment:
            size = sum(map(size_of, segment.records))
            self._sealed.popleft()
            self._sealed_spans -= len(segment.records)
            self._bytes -= size
        if self._journal is not None:
            self._journal.committed(segment.number)
        self._let_go()

    # --- the journal's upkeep, on the writer's thread -------------------------------------------------------

    def keep_journal(self, *, stuck: bool) -> None:
        """Its slow work. ``stuck``: the database takes nothing, so what waits in memory goes to the journal, too."""
        journal = self._journal
        if journal is None:
            return
        journal.prepare()
        with self._mutex:
            if journal.can_go_on:
                self._seal_open()
                journal.resume()
                self._forget_gone_pages()
            unsynced = journal.to_sync()
        for page in unsynced:
            try:
                page.finish()
            except OSError:
                pass  # a power cut may now lose it; a death of the process does not
        if stuck and journal.writing:
            self._write_back(journal)

    def _write_back(self, journal: Journal) -> None:
        with self._mutex:
            if self._sealed:
                self._sealed[0].held = False  # its commit failed, or we would not be here
            waiting = [each for each in self._sealed if each.extent is None and each.kinds is None]
            for each in waiting:
                each.held = True
        try:
            for each in waiting:
                each.extent = journal.write_back(each.complete())
        finally:
            with self._mutex:
                for each in waiting:
                    each.held = False

    def _forget_gone_pages(self) -> None:
        for waiting in self._sealed:
            if waiting.extent is not None and not waiting.extent.path.exists():
                waiting.extent = None

    def journal_pages_done(self) -> list[object]:
        """Pages whose every segment is committed: to be removed once the database itself is on the disk."""
        with self._mutex:
            return [] if self._journal is None else list(self._journal.done())

    def remove_journal_pages(self, pages: list[object]) -> None:
        with self._mutex:
            if self._journal is not None:
                self._journal.remove(pages)  # type: ignore[arg-type]  # the ones journal_pages_done gave

    def begin_anew(self) -> None:
        with self._mutex:
            for run in self.active.values():
                run.in_running = False

    def leave(self, *, keep: bool) -> tuple[bool, int, int]:
        with self._mutex:
            self._seal_open()
            kept = lost = 0
            for waiting in self._sealed:
                spans = waiting.spans if waiting.kinds is None else waiting.kinds.total()
                if keep and waiting.extent is not None:
                    kept += spans
                    continue
                lost += spans
                for kind, count in (waiting.kinds or self._by_kind(waiting.segment.records)).items():
                    self.ledger.add(kind, "shutdown", count)
            # A segment that is not whole in the journal may be there for its greater part: its pages stay as well.
            anything = keep and bool(self._sealed)
            self._sealed, self._sealed_spans, self._bytes = deque(), 0, 0
            if self._journal is None:
                return False, kept, lost
            return self._journal.end(remove=not anything) and anything, kept, lost

    def leave_journal(self) -> None:
        """In a forked child: the journal is the parent's."""
        if self._journal is not None:
            self._journal.end(remove=False)
