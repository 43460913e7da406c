"""Registrations on their way to the file: registered, retired, next due.

They come from any thread, and all that wait are written in one transaction. Of each registration only the newest
state waits: an application whose jobs come and go must not fill the memory while the database is away.
"""

import logging
import sqlite3
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from handspan.records import Registration, Session
from handspan.source import registration_source
from handspan.store.commit import transaction
from handspan.store.isolation import can_pass
from handspan.store.parents import Parents
from handspan.store.statements import statements

__all__ = ["Controls"]

_log = logging.getLogger("handspan.store")
_SQL: Final = statements("sql/commit.sql")

MAX_NOTES: Final = 100
_Write = Callable[[sqlite3.Connection, Parents, float], None]


@dataclass(frozen=True, eq=False)
class _Change:
    """What is to be written of one registration."""

    registration: Registration
    registered: bool
    retired: bool


class Controls:
    """The registrations of one session that are not written yet."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._mutex = threading.Lock()  # never held during I/O
        self._changes: dict[int, _Change] = {}
        self._live: dict[int, Registration] = {}
        self._next_runs: dict[int, tuple[Registration, float | None]] = {}
        self._notes: deque[_Write] = deque(maxlen=MAX_NOTES)

    def again(self) -> None:
        """Another file has taken the place of ours: it knows none of the live registrations."""
        for number, registration in list(self._live.items()):
            self.register(number, registration)

    def register(self, number: int, registration: Registration) -> None:
        with self._mutex:
            self._live[number] = registration
            self._changes[number] = _Change(registration, registered=True, retired=False)

    def retire(self, number: int, registration: Registration) -> None:
        with self._mutex:
            self._live.pop(number, None)
            before = self._changes.get(number)
            registered = before is not None and before.registered  # its row is made first
            self._changes[number] = _Change(registration, registered=registered, retired=True)

    def note(self, write: _Write) -> None:
        """Something else the session has to say, in its turn; the newest stay."""
        with self._mutex:
            self._notes.append(write)

    def set_next_run(self, number: int, registration: Registration, next_run: float | None) -> None:
        with self._mutex:
            self._next_runs[number] = registration, next_run

    def write(self, conn: sqlite3.Connection, parents: Parents, now: float) -> None:
        """Write what waits. One that can never be written is given up; what can pass is raised, and stays."""
        with self._mutex:
            changes, next_runs, notes = dict(self._changes), dict(self._next_runs), list(self._notes)
        if not (changes or next_runs or notes):
            return
        for change in changes.values():  # parsed before the write lock is taken: a large file takes a moment
            if change.registered:
                source = change.registration
                registration_source(source.source_file, source.source_line, source.source_span)
        batch = [self._change_write(number, change) for number, change in changes.items()]
        batch += [self._next_run_write(number, *due) for number, due in next_runs.items()]
        batch += notes
        try:
            self._in_transaction(conn, parents, now, batch)
        except Exception as error:
            if can_pass(error):
                raise
            for write in batch:
                self._alone(conn, parents, now, write)
        with self._mutex:  # what came meanwhile stays, and what a newer one has replaced
            written = set(map(id, notes))
            self._notes = deque((note for note in self._notes if id(note) not in written), maxlen=MAX_NOTES)
            self._changes = {
                number: change for number, change in self._changes.items() if changes.get(number) is not change
            }
            self._next_runs = {
                number: due for number, due in self._next_runs.items() if next_runs.get(number) is not due
            }

    def _change_write(self, number: int, change: _Change) -> _Write:
        def write(_: sqlite3.Connection, parents: Parents, now: float) -> None:
            if change.registered:
                parents.register(self._session, number, change.registration)
            if change.retired:
                parents.retire(self._session, number, change.registration, now)

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
