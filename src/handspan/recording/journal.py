"""The journal of one session: what has begun and what has ended, on its way to the kernel before anyone is told.

One small ``write`` a frame, without sync: what the kernel has survives the process. Pages follow each other; the
writer prepares the next one ahead, syncs those that are full and removes those whose segments are committed and
checkpointed. ``recording/frames.py`` has the format, ``recording/replay.py`` reads it back.

Trouble never reaches the caller: a page that cannot be written is left at its last whole frame, the journal
*suspends* itself, and spans wait in memory until the writer, which retries, has a page again. The same when
writing stalls (a throttled disk pauses every write for tens of milliseconds): the loop must not wait for it.

Every method is called under the queue's mutex, except those that say so.
"""

import errno
import itertools
import logging
import os
from collections.abc import Callable
from functools import partial
from os import write
from pathlib import Path
from time import monotonic, perf_counter
from typing import Any, Final

from handspan.recording.frames import (
    HEADER,
    Extent,
    end_frame,
    registration_frame,
    running_frame,
    seal_frame,
    session_frame,
    start_frame,
)
from handspan.records import Loss, Registration, Run, Segment, Session, SpanRecord

__all__ = ["JOURNAL_FULL", "JOURNAL_UNWRITABLE", "Journal", "Page"]

_log = logging.getLogger("handspan.recording")

PAGE_BYTES: Final = 4 * 1024 * 1024  # about 30,000 runs: seconds at full speed, days of an idle house
STALL_SECONDS: Final = 0.05
STALLS: Final = 5  # as many slow writes within STALL_WINDOW suspend: one alone is a busy machine's scheduler
STALL_WINDOW: Final = 5.0
SLOW_PAGES: Final = 2  # made on the loop; from then on a page that is not ready suspends
JOURNAL_FULL: Final = "journal_full"
JOURNAL_UNWRITABLE: Final = "journal_unwritable"


class Page:
    """One file. Raises OSError, with the file ending at its last whole frame where that can be had."""

    def __init__(self, path: Path, session: Session) -> None:
        self.path = path
        self.known = {0}
        """Numbers of the registrations it holds; 0 is none."""
        self.segments: set[int] = set()
        """What of it is not committed yet."""
        self.unsealed: tuple[int, int] | None = None
        """A segment that was left in the middle, and where it begins."""
        self.synced = False
        self.size = 0
        self.fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self.append(HEADER + session_frame(session))
        except OSError:
            self.remove()
            raise

    def append(self, frame: bytes) -> None:
        written = write(self.fd, frame)
        if written != len(frame):
            self.cut()
        self.size += written

    def cut(self) -> None:
        """The disk filled up half-way through a write: no torn frame in the middle of a page."""
        os.ftruncate(self.fd, self.size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def exists(self) -> bool:
        """Whether its name still leads to it: somebody may have removed the directory."""
        try:
            return os.stat(self.path).st_ino == os.fstat(self.fd).st_ino
        except OSError:
            return False

    def sync(self) -> None:
        if self.fd < 0:
            return
        self.synced = True  # once: after a failed fsync the kernel forgets, and a second one would lie
        os.fsync(self.fd)

    def finish(self) -> None:
        """Nothing is appended any more: on to the disk, and no descriptor kept for it."""
        try:
            self.sync()
        finally:
            self.close()

    def close(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def remove(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)


class Journal:
    """Pages of one session in ``directory``. ``claim`` takes the session's lock: no page may lie there without
    it, or another process would take this one for dead; it raises OSError."""

    def __init__(
        self,
        directory: Path,
        session: Session,
        registrations: dict[int, Registration],
        *,
        max_bytes: int,
        claim: Callable[[], None],
    ) -> None:
        self._directory, self._session, self._registrations = directory, session, registrations
        self._max_bytes, self._claim = max_bytes, claim
        self._page: Page | None = None
        self._next: Page | None = None
        self._full: list[Page] = []
        self._page_bytes = min(PAGE_BYTES, max_bytes // 8)
        self._counter = itertools.count(1)  # taken from two threads, and a name is never used twice
        self._open = 1  # the segment that is being filled
        self._begin = 0  # where in the page it begins
        self._ended = False
        self._stalls: list[float] = []
        self._slow_pages = 0
        self._turning = False
        self.whole = True
        """Whether everything of the open segment is in the journal."""
        self.trouble: str | None = None
        """Why nothing is written at present: promise 1 is suspended."""
        self.reason = JOURNAL_UNWRITABLE

    # --- the application's side -------------------------------------------------------------------------------

    @property
    def writing(self) -> bool:
        return self._page is not None

    @property
    def page_is_full(self) -> bool:
        return self._page is not None and self._page.size >= self._page_bytes

    @property
    def size(self) -> int:
        return sum(page.size for page in self._pages())

    def started(self, run: Run) -> bool:
        """True: the page is full, seal and turn it."""
        return self._write(run.number, start_frame, run)

    def ended(self, record: SpanRecord) -> bool:
        began = perf_counter()  # every other write is measured: a disk that stalls, stalls them all
        full = self._write(record.registration, end_frame, record)
        if perf_counter() - began > STALL_SECONDS:
            self._stalled()
        return full

    def _write(self, number: int, frame_of: Callable[[Any], bytes], what: Run | SpanRecord) -> bool:
        page = self._page
        if page is None:
            if self.trouble is None and not self._ended:  # the first of all, before the writer has come to it
                self.turn_page()
                page = self._page
            if page is None:
                self.whole = False
                return False
        try:
            frame = frame_of(what)
            if number not in page.known:
                page.append(registration_frame(number, self._registrations[number]))
                page.known.add(number)
            written = write(page.fd, frame)  # Page.append, without the call: this is the hot path
            if written != len(frame):
                page.cut()
            page.size += written
        except OSError as error:
            self._suspend(error.strerror or str(error))
            return False
        except Exception as error:  # noqa: BLE001 - what no format holds: telemetry, not service
            self.whole = False
            _log.error("A span could not be written to the journal: %s: %s", type(error).__name__, error)
            return False
        return page.size >= self._page_bytes

    def seal(self, number: int, losses: list[Loss]) -> Extent | None:
        """End the open segment. Where it lies, or None if it is not whole in the journal."""
        page, begin, whole = self._page, self._begin, self.whole
        if page is not None:
            page.segments.add(number)
            try:
                page.append(seal_frame(number, losses))
            except OSError as error:
                self._suspend(error.strerror or str(error))
                whole = False
        self._open = number + 1
        self.whole = self._page is not None
        self._begin = self._page.size if self._page is not None else 0
        return Extent(page.path, begin, page.size) if page is not None and whole else None

    def turn_page(self) -> None:
        """After a seal: go on with the next page; made here if the writer has not come to it (30 us)."""
        if self._turning:  # a signal's handler in the middle of it
            return
        self._turning = True
        try:
            if self._page is not None:
                self._full.append(self._page)
            self._page, self._next = self._next, None
            if self._page is None and not self._ended and self.trouble is None:
                self._make_page_here()
        finally:
            self._turning = False
        self._begin = self._page.size if self._page is not None else 0
        self.whole = self._page is not None

    def _make_page_here(self) -> None:
        if self._slow_pages >= SLOW_PAGES:
            self._suspend("making a file stalls")
            return
        began = perf_counter()
        try:
            self._page = self._new_page()
        except OSError as error:
            self._suspend(error.strerror or str(error))
        if perf_counter() - began > STALL_SECONDS:
            self._slow_pages += 1

    # --- the writer's side ------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the page that comes next. The writer's thread, without the mutex; raises nothing."""
        if self._ended or self._next is not None:
            return
        if self._page is not None and self._page.size < self._page_bytes // 2 and self._page.exists():
            return
        try:
            began = perf_counter()
            page = self._new_page()
            if self.trouble is not None and perf_counter() - began > STALL_SECONDS:
                page.remove()
                raise OSError(errno.EAGAIN, "writing to the disk still stalls")
            self._next, self._slow_pages = page, 0
        except OSError as error:
            if self._page is None:
                self.trouble = self.trouble or error.strerror or str(error)

    @property
    def can_go_on(self) -> bool:
        """A page is ready that is not in use, and the one in use is none, or gone from its directory."""
        return self._next is not None and (self._page is None or not self._page.exists())

    def resume(self) -> None:
        """Under the mutex, after a seal: write again."""
        self.trouble, self._stalls = None, []
        self.turn_page()

    def write_back(self, segment: Segment) -> Extent | None:
        """A sealed segment that waits in memory only, into a page of its own. The writer's thread, without the
        mutex; None if that did not work."""
        if self._page is None or self._ended:
            return None
        try:
            page = self._new_page()
        except OSError:
            return None
        begin = page.size
        try:
            numbers = {record.registration for record in (*segment.running, *segment.records)}
            for number in sorted(numbers - {0}):
                page.append(registration_frame(number, self._registrations[number]))
            frames = [running_frame(record) for record in segment.running]
            frames += [end_frame(record) for record in segment.records]
            page.append(b"".join([*frames, seal_frame(segment.number, segment.losses)]))
        except Exception:  # noqa: BLE001 - full again, or a registration no format holds: it stays in memory
            page.remove()
            return None
        page.segments.add(segment.number)
        extent = Extent(page.path, begin, page.size)
        _quietly(page.finish)
        self._full.append(page)
        self._cut_off(segment.number)
        return extent

    def committed(self, number: int) -> None:
        for page in self._pages():
            page.segments.discard(number)
        self._cut_off(number)

    def _cut_off(self, number: int) -> None:
        """The part of a segment that a page was left with: all of it is elsewhere now, and must not come twice."""
        for page in self._full:
            if page.unsealed is not None and page.unsealed[0] == number:
                _quietly(partial(os.truncate, page.path, page.unsealed[1]))
                page.unsealed = None

    def done(self) -> list[Page]:
        """Pages nobody needs once the database is synced."""
        return [page for page in self._full if not page.segments]

    def remove(self, pages: list[Page]) -> None:
        self._full = [page for page in self._full if page not in pages]
        for page in pages:
            _quietly(page.remove)

    def to_sync(self) -> list[Page]:
        return [page for page in self._full if page.segments and not page.synced]

    def end(self, *, remove: bool) -> bool:
        """Nothing is written any more. ``remove``: everything of it is committed; else it stays for the next start.
        Whether there is anything to stay."""
        self._ended = True
        pages, self._page, self._next, self._full = self._pages(), None, None, []
        for page in pages:
            _quietly(page.remove if remove else page.close)
        return bool(pages)

    # --- trouble ----------------------------------------------------------------------------------------------

    def _pages(self) -> list[Page]:
        return [page for page in (*self._full, self._page, self._next) if page is not None]

    def _new_page(self) -> Page:
        if self.size + self._page_bytes > self._max_bytes:
            self.reason = JOURNAL_FULL
            raise OSError(errno.EDQUOT, f"its bound of {self._max_bytes // 1024 // 1024} MB is reached")
        self.reason = JOURNAL_UNWRITABLE
        self._claim()
        name = f"{self._session.instance_id}.{next(self._counter):08d}.journal"
        return Page(self._directory / name, self._session)

    def _stalled(self) -> None:
        now = monotonic()
        self._stalls = [*(moment for moment in self._stalls if moment > now - STALL_WINDOW), now]
        if len(self._stalls) >= STALLS:
            self._suspend("writing to the disk stalls")

    def _suspend(self, why: str) -> None:
        if self._page is not None:
            self._page.segments.add(self._open)  # some of it lies there
            self._page.unsealed = self._open, self._begin
            self._full.append(self._page)
            self._page = None
        self.whole = False
        self.trouble = self.trouble or why


def _quietly(action: Callable[[], None]) -> None:
    """Telemetry's own housekeeping on a disk that fails: tried, not insisted on."""
    try:
        action()
    except OSError as error:
        _log.debug("Journal: %s", error)
