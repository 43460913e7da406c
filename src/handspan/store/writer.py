"""The one thread that writes.

Every write of the process goes through here: registrations (at once), segments (every
``commit_interval``, or when one is full), sessions, heartbeat, retention, upgrades. A thread and not a
task: it serves applications without a loop, its heartbeat survives a blocked one, and an exporter that
crosses into an event loop deadlocks at exit. It is a daemon: the interpreter never waits for it.

A segment stays with its source until COMMIT. What may pass (busy, full, I/O error, read-only) is retried
with backoff, for ever; one log line says that an episode began, one that it ended. What never passes
(a value SQLite cannot hold) is found by halving the segment and becomes a loss of one record.
"""

import logging
import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import suppress
from typing import Final

from handspan.clock import Clock, to_epoch
from handspan.errors import DatabaseError, ForeignDatabaseError, NotADatabaseError
from handspan.reasons import SkipSource
from handspan.records import DueBetween, Journals, Registration, Segment, SegmentSource, Session
from handspan.source import forget_sources
from handspan.store.alarm import Alarm
from handspan.store.attached import Attached
from handspan.store.connection import explain, identity_of, is_busy, optimize
from handspan.store.controls import Controls
from handspan.store.damage import Damage
from handspan.store.episodes import Episode
from handspan.store.incidents import Incidents
from handspan.store.isolation import commit_what_can_be
from handspan.store.journalling import JournalWatch, leave_behind, release_pages
from handspan.store.liveness import SessionLock
from handspan.store.options import WriterOptions
from handspan.store.retention import Retention, live_bytes
from handspan.store.skips import SkipWriter
from handspan.store.upkeep import Upkeep, WriterStats

__all__ = ["Writer", "WriterOptions"]

_log = logging.getLogger("handspan.store")

PERMANENT: Final = (ForeignDatabaseError, NotADatabaseError)  # only the program's author can cure these


class Writer:
    """Owns the connection. Public methods may be called from any thread and return at once, except
    :meth:`flush` and :meth:`close`, which wait up to their deadline and return the truth."""

    def __init__(
        self,
        options: WriterOptions,
        session: Session,
        source: SegmentSource,
        clock: Clock,
        on_commit: Callable[[float], None] = lambda _seconds: None,
        *,
        journals: Journals,
        lock: SessionLock | None = None,
        skips: SkipSource | None = None,
    ) -> None:
        self._options, self._session, self._source, self._clock = options, session, source, clock
        self._on_commit, self._journals = on_commit, journals
        self._path = os.path.abspath(options.db)  # a daemon may change its directory
        self._controls = Controls(session)
        self.incidents, self._skips = Incidents(session, self._controls), SkipWriter(skips, session)
        self.stats, self.episode = WriterStats(), Episode(self._now, self.incidents.unavailable)
        self.opened: Future[None] = Future()
        """Done when the file is open and the session begun; raises what only the author can cure."""
        self.tried: Future[None] = Future()
        """Done after the first attempt, also one that failed and will be repeated: nobody need wait longer."""
        self._threadless = self._gave_up = self._ended = self._fork_waits = False
        self._io = threading.Lock()  # held while this thread is inside SQLite: a fork waits for it
        self._alarm = Alarm()
        self._closing = threading.Event()
        self._close_deadline = 0.0
        self._damage = Damage(self._path, session, self._controls, self.incidents, self._now, self.hurry)
        self._flushes: deque[Future[bool]] = deque()
        self._attached: Attached | None = None
        self._was_ours = False
        self._lock = lock or SessionLock(self._path, session.instance_id)
        self._upkeep, self._journal_watch = Upkeep(options), JournalWatch(self.incidents, self._now)
        self._thread = threading.Thread(target=self._run, name="handspan-writer", daemon=True)

    # --- from any thread ----------------------------------------------------------------------------

    def start(self) -> None:
        try:
            self._thread.start()
        except RuntimeError:  # CPython 3.12 starts no thread once the interpreter is shutting down
            self._threadless = True

    def work(self) -> None:
        """Something waits: commit it within ``commit_interval``."""
        self._alarm.ring(urgent=False)

    def hurry(self) -> None:
        """Commit now: a segment is full."""
        self._alarm.ring(urgent=True)

    def register(self, number: int, registration: Registration, due_between: DueBetween | None = None) -> None:
        if self._gave_up:
            return
        self._controls.register(number, registration, due_between)
        self.hurry()

    def retire(self, number: int, registration: Registration) -> None:
        self._controls.retire(number, registration)
        self.hurry()

    def release(self, number: int) -> None:
        self._controls.release(number)

    def set_next_run(self, number: int, registration: Registration, next_run: float | None) -> None:
        self._controls.set_next_run(number, registration, next_run)
        self.work()

    def flush(self, timeout: float) -> bool:
        """True once everything handed over before the call is committed."""
        if self._threadless:
            return self._turn_here()
        if not self._thread.is_alive() or self._gave_up:
            return False
        done: Future[bool] = Future()
        self._flushes.append(done)
        self.hurry()
        if self._ended:  # perhaps after the last answer was given
            return self.episode.since is None
        try:
            return done.result(timeout)
        except TimeoutError:
            return False

    def close(self, timeout: float) -> bool:
        """Commit what there is, end the session, stop. True if nothing had to be given up."""
        self._close_deadline = time.monotonic() + timeout
        self._closing.set()
        self.hurry()
        if self._threadless:
            with self._io:
                self._finish()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join(timeout + 0.5)  # its own deadline comes first; half a second for the last statement
        return not self._thread.is_alive() and self.episode.since is None

    def before_fork(self, until: float) -> bool:
        """Take this thread out of SQLite, which would leave its mutexes locked for ever in the child, and close the
        connection (:mod:`handspan.store.reader` says why); False if it did not come out in time."""
        self._fork_waits = True  # a turn may be many segments long: it ends after this one
        self._fork_waits = out = self._io.acquire(timeout=max(0.0, until - time.monotonic()))
        if out and not self._damage.check.stop(max(0.1, until - time.monotonic())):
            self.after_fork_in_parent()
            return False
        if out:
            self._drop_connection()  # opened again by the next turn
        return out

    def after_fork_in_parent(self) -> None:
        self._damage.check.resume()
        self._fork_waits = False
        self._io.release()

    def forget_in_child(self) -> None:
        """The thread is the parent's, and so is the session's lock: close our copy of its descriptor."""
        self._lock.forget()

    # --- the thread ---------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            self._wait()
            self._try_a_turn()
        with self._io:
            self._finish()

    def _try_a_turn(self) -> None:
        try:
            with self._io:
                if self._ensure_open():
                    self._turn()
        except BaseException as error:  # noqa: BLE001 - this thread must outlive anything, CancelledError included
            try:
                self._failed(error)
            except BaseException as worse:  # noqa: BLE001 - likewise
                self.episode.failed(worse)

    def _turn_here(self) -> bool:
        """On the caller's thread: the last export of a process that can start no other."""
        self._try_a_turn()
        return self.episode.since is None

    def _wait(self) -> None:
        while self._fork_waits and not self._closing.wait(0.001):
            pass  # its turn to have the lock
        if self._gave_up:
            self._closing.wait()
        elif self.episode.backoff:
            self._closing.wait(self.episode.backoff)
            return
        if self._attached is None:
            return
        self._alarm.wait(self._upkeep.next_at, self._options.commit_interval)

    def _turn(self) -> None:
        flushes = len(self._flushes)  # those that come later may mean spans that come later
        self._source.keep_journal(stuck=False)
        self._write_controls()
        if not self._write_segments():
            return
        if self.episode.since is not None:
            self._file().life.heartbeat(self._now())  # nothing waited, perhaps: is it really over?
        self._damage.went_well()
        self.episode.succeeded()
        self._journal_watch.look(self._source.journal_trouble)
        self._write_controls()  # the episode that is over
        if flushes:
            self._skips.write(*self._file().pair(), self._now())
        self._answer_flushes(flushes, True)
        release_pages(self._file().conn, self._source)
        self._periodic()

    def _write_controls(self) -> None:
        self._controls.write(*self._file().pair(), self._now())

    def _write_segments(self) -> bool:
        """What is there now; what comes meanwhile waits its interval, or the turn would never end. False: somebody
        wants to fork, and the rest waits for the next turn."""
        for waiting in (self._source.seal() for _ in range(2)):  # what waited, and then what was still open
            for _ in range(waiting):
                if self._fork_waits and not self._closing.is_set():
                    self.hurry()
                    return False
                segment = self._source.next_segment()
                if segment is not None:
                    self._write_segment(segment)
                    self._write_controls()
        return True

    def _write_segment(self, segment: Segment) -> None:
        started, lost = time.perf_counter(), sum(loss.count for loss in segment.losses)
        commit_what_can_be(*self._file().pair(), segment, self._now(),
                          lambda part: self._source.abandoned(part, "rejected"))  # fmt: skip
        self._source.committed(segment)  # before anything that may fail: a second commit would store it twice
        self.episode.stored(len(segment.records), lost)
        took = time.perf_counter() - started
        self._upkeep.committed()
        self._on_commit(took)
        self.stats.live_bytes = live_bytes(self._file().conn)
        self._upkeep.grown_to(self.stats.live_bytes)

    def _periodic(self) -> None:
        life = self._file().life
        if self._upkeep.retirement_is_due():
            self._upkeep.retired(life.retire_forgotten(self._now()))
            forget_sources()
        due = self._upkeep.heartbeat_is_due() or self._skips.is_due()
        if due and not self._skips.write(*self._file().pair(), self._now()):
            life.heartbeat(self._now())
        if self._file().has_old_rows:
            self._between_commits(self._file().backfill())
        elif self._upkeep.retention_is_due():
            self._prune()

    def _between_commits(self, batches: Iterator[object]) -> bool:
        """Long work a batch at a time, committing what comes in meanwhile. False if it had to be left."""
        for _ in batches:
            self._write_controls()
            self._write_segments()
            if self._closing.is_set() or self._fork_waits:
                return False
        return True

    def _prune(self) -> None:
        """One retention pass. On the writer's thread."""
        conn, now = self._file().conn, self._now()
        retention = Retention.of(conn, self._options)
        if not self._between_commits(retention.run(now, by_age=self._upkeep.clock_is_steady(now))):
            self._upkeep.prune_again()
            return
        optimize(conn)  # an application that is killed rather than closed needs it, too
        self.stats.live_bytes = live_bytes(conn)
        self._upkeep.pruned(self.stats.live_bytes)
        retention.pruned.log(self._path)

    # --- opening and failing ------------------------------------------------------------------------

    def _ensure_open(self) -> bool:
        if self._gave_up:
            return False
        if self._attached is not None and self._attached.identity == identity_of(self._path):
            return True
        if self._attached is not None:
            self._damage.gone()
            self._drop_connection()
        try:
            attached = Attached(self._path, self._options, self._session)
        except PERMANENT as error:
            if self._damage.is_ours(error):
                raise
            self._give_up(error)
            return False
        buried = attached.begin(self._lock, self._source, self._journals, self._now())
        self._attached, self._was_ours = attached, True
        if self._damage.opened(after_a_crash=buried > 0):
            self._source.begin_anew()
        if not self.opened.done():
            self._upkeep.begin()
            self.stats.live_bytes = live_bytes(attached.conn)
            self.opened.set_result(None)
        self._answer_tried(None)
        return True

    def _answer_tried(self, error: DatabaseError | None) -> None:
        if self.tried.done():
            return
        if error is None:
            self.tried.set_result(None)
        else:
            self.tried.set_exception(error)

    def _give_up(self, error: DatabaseError) -> None:
        """The path is wrong for good: say so, and do not try again. What comes is kept in bounds, then dropped."""
        self.episode.ended_for_good(error)
        if self.tried.done():  # nobody waits to be told any more
            _log.error("Recording ends, the application goes on: %s", error)
        if not self.opened.done():
            self.opened.set_exception(error)
        self._answer_tried(error)
        self._gave_up = True
        leave_behind(self._source, self._lock, str(error), keep=self._was_ours)

    def _failed(self, error: BaseException) -> None:
        self._source.keep_journal(stuck=True)
        left = self._damage.handle(error, self._drop_connection)
        if left is None:
            return
        trouble = self._source.journal_trouble
        (self._journal_watch.told if self.episode.since is None else self._journal_watch.look)(trouble)
        self.episode.failed(explain(left, self._path) if isinstance(left, sqlite3.Error) else left, trouble)
        self._answer_tried(None)
        if not is_busy(error):
            self._drop_connection()  # after an I/O error a fresh one sees what is really there

    def _drop_connection(self) -> None:
        attached, self._attached = self._attached, None
        if attached is not None:
            attached.close()

    def _finish(self) -> None:
        """The last turn, until its deadline; then what is left is given up, and counted."""
        self._damage.check.stop(1.0)  # a connection of its own would keep the log from going
        while True:
            try:
                if self._ensure_open():
                    wait_ms = max(0, self._close_deadline - time.monotonic()) * 1000
                    self._file().conn.execute(f"PRAGMA busy_timeout = {wait_ms:.0f}")
                    self._write_controls()
                    self._write_segments()
                    self._skips.write(*self._file().pair(), self._now())
                    self._file().life.end(self._now())
                    optimize(self._file().conn)
                    self.episode.succeeded()
                    self._write_controls()
                break
            except BaseException as error:  # noqa: BLE001 - as in _run
                self._failed(error)
                if time.monotonic() + self.episode.backoff >= self._close_deadline:
                    break
                time.sleep(self.episode.backoff)  # nothing else is this thread's to do any more
        self._ended = True
        self._answer_flushes(len(self._flushes), self.episode.since is None)
        with suppress(sqlite3.Error):  # a connection that cannot even close has nothing left to lose
            self._drop_connection()
        leave_behind(self._source, self._lock, self.episode.last_error, keep=True)

    # --- small things -------------------------------------------------------------------------------

    def _answer_flushes(self, count: int, answer: bool) -> None:
        for _ in range(count):
            self._flushes.popleft().set_result(answer)

    def _file(self) -> Attached:
        if self._attached is None:
            raise DatabaseError("The database is not open.")
        return self._attached

    def _now(self) -> float:
        return to_epoch(self._clock.wall_ns())
