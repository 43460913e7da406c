"""Registrations on their way to the file: registered, retired, next due.

They come from any thread; of each only the newest state waits, and all that wait are written in one transaction. A
stalled database must not make a queue of them: what is live is bounded by the application itself, and of what came
and went meanwhile without having been written, the newest ``MAX_RETIRED`` are kept. One that is dropped here is made
by its first row, with less to tell.
"""

import logging
import sqlite3
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from handspan.records import DueBetween, Registration, Session
from handspan.source import registration_source
from handspan.store.commit import transaction
from handspan.store.downtime import Downtime, downtime
from handspan.store.isolation import can_pass
from handspan.store.parents import Parents
from handspan.store.statements import statements

__all__ = ["Controls"]

_log = logging.getLogger("handspan.store")
_SQL: Final = statements("sql/commit.sql")

MAX_RETIRED: Final = 10_000  # about 10 MB of one-shot jobs that came and went while nothing could be written

MAX_NOTES: Final = 100

_Write = Callable[[sqlite3.Connection, Parents, float], None]


@dataclass(frozen=True)
class _State:
    """What is not written of one registration."""

    registration: Registration
    registers: bool
    retires: bool
    due_between: DueBetween | None = None


class Controls:
    """The registrations of one session that are not written yet."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._mutex = threading.RLock()  # reentrant: a signal's handler may register something, too
        self._waiting: OrderedDict[int, _State] = OrderedDict()
        self._retired: OrderedDict[int, None] = OrderedDict()  # of the waiting, the oldest first
        self._live: dict[int, Registration] = {}
        self._next_runs: dict[int, tuple[Registration, float | None]] = {}
        self._dropped = 0
        self._notes: deque[_Write] = deque(maxlen=MAX_NOTES)

    def again(self) -> None:
        """Another file has taken the place of ours: it knows none of the live registrations."""
        with self._mutex:
            for number, registration in list(self._live.items()):
                self.register(number, registration)

    def register(self, number: int, registration: Registration, due_between: DueBetween | None = None) -> None:
        with self._mutex:
            self._live[number] = registration
            self._retired.pop(number, None)
            self._waiting[number] = _State(registration, registers=True, retires=False, due_between=due_between)
            self._waiting.move_to_end(number)

    def retire(self, number: int, registration: Registration) -> None:
        with self._mutex:
            self.release(number)
            self._next_runs.pop(number, None)
            before = self._waiting.get(number)
            self._waiting[number] = _State(registration, before is not None and before.registers, retires=True)
            self._retired[number] = None
            if len(self._retired) > MAX_RETIRED:
                oldest, _ = self._retired.popitem(last=False)
                del self._waiting[oldest]
                self._dropped += 1

    def release(self, number: int) -> None:
        """No longer live: its row stays as it is, with when it would have run next."""
        with self._mutex:
            self._live.pop(number, None)

    def note(self, write: _Write) -> None:
        """Something else the session has to say, in its turn; the newest stay."""
        with self._mutex:
            self._notes.append(write)

    def set_next_run(self, number: int, registration: Registration, next_run: float | None) -> None:
        with self._mutex:
            self._next_runs[number] = registration, next_run

    def write(self, conn: sqlite3.Connection, parents: Parents, now: float) -> None:
        """Write what waits. One that can never be written is given up; what can pass is raised, and stays."""
        if not (self._waiting or self._next_runs or self._notes):
            return
        with self._mutex:
            waiting, next_runs, notes = dict(self._waiting), dict(self._next_runs), list(self._notes)
        for state in waiting.values():  # parsed before the write lock is taken: a large file takes a moment
            source = state.registration
            registration_source(source.source_file, source.source_line, source.source_span)
        missed = {n: downtime(conn, self._session, s.registration, s.due_between)
                  for n, s in waiting.items() if s.registers}  # fmt: skip
        batch = [self._write_of(number, state, missed.get(number)) for number, state in waiting.items()]
        batch += [self._next_run_write(number, *due) for number, due in next_runs.items()]
        batch += notes
        try:
            self._in_transaction(conn, parents, now, batch)
        except Exception as error:
            if can_pass(error):
                raise
            for write in batch:
                self._alone(conn, parents, now, write)
        with self._mutex:
            self._written(waiting, next_runs)
            written = set(map(id, notes))
            self._notes = deque((note for note in self._notes if id(note) not in written), maxlen=MAX_NOTES)

    def _written(self, waiting: dict[int, _State], next_runs: dict[int, tuple[Registration, float | None]]) -> None:
        """Forget it, but for what became newer meanwhile."""
        for number, state in waiting.items():
            if self._waiting.get(number) is state:
                del self._waiting[number]
                self._retired.pop(number, None)
        for number, due in next_runs.items():
            if self._next_runs.get(number) is due:
                del self._next_runs[number]
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            _log.warning("%s registrations came and went while nothing could be written; they were dropped.", dropped)

    def _write_of(self, number: int, state: _State, missed: Downtime | None) -> _Write:
        def write(conn: sqlite3.Connection, parents: Parents, now: float) -> None:
            if state.registers:
                if missed is not None and missed.still_so(conn):
                    missed.write(conn, parents.session_id(self._session, now))
                parents.register(self._session, number, state.registration)
            if state.retires:
                parents.retire(self._session, number, state.registration, now)

        return write

    def _next_run_write(self, number: int, registration: Registration, next_run: float | None) -> _Write:
        def write(conn: sqlite3.Connection, parents: Parents, _: float) -> None:
            row_id = parents.registration_id(self._session, number, registration)
            conn.execute(_SQL["set_next_run"], {"next_run_ts": next_run, "id": row_id})

        return write

    def _alone(self, conn: sqlite3.Connection, parents: Parents, now: float, write: _Write) -> None:
        try:
            self._in_transaction(conn, parents, now, [write])
        except Exception as error:
            if can_pass(error):
                raise
            _log.error("A registration could not be stored: %s: %s", type(error).__name__, error)

    @staticmethod
    def _in_transaction(conn: sqlite3.Connection, parents: Parents, now: float, writes: list[_Write]) -> None:
        with transaction(conn, parents):
            for write in writes:
                write(conn, parents, now)
