"""Registrations on their way to the file: registered, retired, next due.

They come from any thread and are written in order, all that wait in one transaction. When a job is next due
is only its newest: a stalled database must not make a queue of them.
"""

import logging
import sqlite3
from collections import deque
from collections.abc import Callable
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

_Write = Callable[[sqlite3.Connection, Parents, float], None]


class Controls:
    """The registrations of one session that are not written yet."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._writes: deque[_Write] = deque()
        self._sources: deque[Registration] = deque()
        self._live: dict[int, Registration] = {}
        self._next_runs: dict[int, tuple[Registration, float | None]] = {}

    def again(self) -> None:
        """Another file has taken the place of ours: it knows none of the live registrations."""
        for number, registration in list(self._live.items()):
            self.register(number, registration)

    def register(self, number: int, registration: Registration) -> None:
        self._live[number] = registration
        self._sources.append(registration)

        def write(_: sqlite3.Connection, parents: Parents, __: float) -> None:
            parents.register(self._session, number, registration)

        self._writes.append(write)

    def retire(self, number: int, registration: Registration) -> None:
        self._live.pop(number, None)
        self._writes.append(lambda _, parents, now: parents.retire(self._session, number, registration, now))

    def note(self, write: _Write) -> None:
        """Something else the session has to say, written in its turn."""
        self._writes.append(write)

    def set_next_run(self, number: int, registration: Registration, next_run: float | None) -> None:
        self._next_runs[number] = registration, next_run

    def write(self, conn: sqlite3.Connection, parents: Parents, now: float) -> None:
        """Write what waits. One that can never be written is given up; what can pass is raised, and stays."""
        for _ in range(len(self._sources)):  # parsed before the write lock is taken: a large file takes a moment
            source = self._sources.popleft()
            registration_source(source.source_file, source.source_line, source.source_span)
        writes, next_runs = list(self._writes), dict(self._next_runs)
        if not (writes or next_runs):
            return
        batch = [*writes, *(self._next_run_write(number, *due) for number, due in next_runs.items())]
        try:
            self._in_transaction(conn, parents, now, batch)
        except Exception as error:
            if can_pass(error):
                raise
            for write in batch:
                self._alone(conn, parents, now, write)
        for _ in writes:
            self._writes.popleft()
        for number, due in next_runs.items():
            if self._next_runs.get(number) is due:  # else a newer one came meanwhile
                del self._next_runs[number]

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
