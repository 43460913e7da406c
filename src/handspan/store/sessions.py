"""A session's life in the file: begin, heartbeat, end; and the end of those whose process is gone."""

import logging
import sqlite3
from typing import Final

from handspan.records import Session
from handspan.store.commit import transaction
from handspan.store.liveness import SessionLock, is_alive, remove_stale
from handspan.store.parents import Parents
from handspan.store.statements import statements

__all__ = ["INTERRUPTED_MESSAGE", "RETIRE_AFTER", "SessionLife"]

_SQL: Final = statements("sql/sessions.sql")
_log = logging.getLogger("handspan.store")

INTERRUPTED_MESSAGE: Final = "The process ended while this ran."
RETIRE_AFTER: Final = 60.0  # seconds an application has to register what it registers


class SessionLife:
    """One session on one connection. Every method is one transaction."""

    def __init__(self, conn: sqlite3.Connection, parents: Parents, path: str, session: Session) -> None:
        self._conn, self._parents, self._path, self._session = conn, parents, path, session

    def begin(self, lock: SessionLock, now: float) -> None:
        """The lock first: a session row without one looks crashed to everybody else."""
        try:
            lock.acquire()
        except OSError as error:
            _log.warning("No lock file for this session (%s): another process may take it for crashed.", error)
        with transaction(self._conn, self._parents):
            self._parents.session_id(self._session, now)

    def heartbeat(self, now: float) -> None:
        self._write("heartbeat", now)

    def end(self, now: float, reason: str = "clean_shutdown") -> None:
        with transaction(self._conn, self._parents):
            values = {"now": now, "reason": reason, "session_id": self._parents.session_id(self._session, now)}
            self._conn.execute(_SQL["end_session"], values)
            self._conn.execute(_SQL["clear_running"], {"session_id": values["session_id"]})
            self._conn.execute(_SQL["release_all"], {"session_id": values["session_id"]})

    def bury_the_dead(self) -> int:
        """End the sessions whose process is gone: what they had in flight becomes ProcessInterrupted."""
        buried = 0
        sessions = self._conn.execute(_SQL["open_sessions"], {"instance_id": self._session.instance_id}).fetchall()
        for session_id, instance_id, _ in sessions:
            if is_alive(self._path, instance_id):
                continue
            values = {"session_id": session_id, "message": INTERRUPTED_MESSAGE}
            with transaction(self._conn, self._parents):
                ended = self._conn.execute(_SQL["crash_session"], {"session_id": session_id}).rowcount
                if ended:  # 0: another process was quicker
                    self._conn.execute(_SQL["interrupt_handlers"], values)
                    self._conn.execute(_SQL["interrupt_jobs"], values)
                    self._conn.execute(_SQL["clear_running"], {"session_id": session_id})
                    self._conn.execute(_SQL["release_all"], {"session_id": session_id})
            remove_stale(self._path, instance_id)
            buried += ended
        return buried

    def retire_forgotten(self, now: float) -> bool:
        """Retire what no live session of this service holds. False while a session is too young to tell."""
        service_id = self._parents.service_id(self._session)
        (newest,) = self._conn.execute(_SQL["newest_session_start"], {"service_id": service_id}).fetchone()
        if newest is not None and now - newest < RETIRE_AFTER:
            return False
        values = {"now": now, "service_id": service_id, "before": now - RETIRE_AFTER}
        with transaction(self._conn, self._parents):
            self._conn.execute(_SQL["retire_listeners"], values)
            self._conn.execute(_SQL["retire_jobs"], values)
        return True

    def _write(self, statement: str, now: float) -> None:
        with transaction(self._conn, self._parents):
            values = {"now": now, "session_id": self._parents.session_id(self._session, now)}
            self._conn.execute(_SQL[statement], values)
