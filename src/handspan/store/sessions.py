"""A session's life in the file: begin, heartbeat, end; and the end of those whose process is gone."""

import logging
import sqlite3
import time
from typing import Final, Literal

from handspan.clock import to_epoch, to_ns
from handspan.records import Journals, ListenerRegistration, Loss, Orphan, Segment, Session
from handspan.store.commit import add_losses, transaction
from handspan.store.incidents import JOURNAL_DAMAGED, Incident, insert_incident
from handspan.store.interrupted import INTERRUPTED_MESSAGE, interrupt
from handspan.store.isolation import can_pass, commit_what_can_be
from handspan.store.liveness import SessionLock, is_alive, noted
from handspan.store.parents import Parents
from handspan.store.statements import statements

__all__ = ["INTERRUPTED_MESSAGE", "RETIRE_AFTER", "SessionLife"]

Kind = Literal["handler", "job", "span"]

_SQL: Final = statements("sql/sessions.sql")
_log = logging.getLogger("handspan.store")

HOUR_NS: Final = 3_600 * 10**9
LOCKLESS: Final = 100.0  # seconds, three heartbeats: how long a session without a lock file is believed to live
LOCK_TRIES: Final = 20
RETIRE_AFTER: Final = 60.0  # seconds an application has to register what it registers


class SessionLife:
    """One session on one connection. Every method is one transaction."""

    def __init__(self, conn: sqlite3.Connection, parents: Parents, path: str, session: Session) -> None:
        self._conn, self._parents, self._path, self._session = conn, parents, path, session

    def begin(self, lock: SessionLock, now: float) -> None:
        """The lock first: a session row without one looks crashed to everybody else."""
        try:
            _acquired(lock)
        except OSError as error:
            _log.warning("No lock file for this session (%s): another process may take it for crashed.", error)
        with transaction(self._conn, self._parents):
            self._parents.rollups.own_session = self._parents.session_id(self._session, now)

    def heartbeat(self, now: float) -> None:
        self._write("heartbeat", now)

    def end(self, now: float, reason: str = "clean_shutdown") -> None:
        with transaction(self._conn, self._parents):
            values = {"now": now, "reason": reason, "session_id": self._parents.session_id(self._session, now)}
            self._conn.execute(_SQL["end_session"], values)
            self._conn.execute(_SQL["clear_running"], {"session_id": values["session_id"]})
            self._conn.execute(_SQL["release_all"], {"session_id": values["session_id"]})

    def bury_the_dead(self, journals: Journals, now: float) -> int:
        """End the sessions whose process is gone: what their journals hold is committed, what they had in flight
        becomes ProcessInterrupted. Each under its own lock, which dies with us: nobody does it twice at once."""
        open_ = self._conn.execute(_SQL["open_sessions"], {"instance_id": self._session.instance_id}).fetchall()
        beside = (journals.instances() | noted(self._path)) - {self._session.instance_id}
        seen = {instance_id: heartbeat for _, instance_id, heartbeat in open_}
        buried = 0
        for instance_id in sorted(beside.union(seen)):
            if is_alive(self._path, instance_id):
                continue
            if instance_id not in beside and now - seen[instance_id] < LOCKLESS:
                continue  # somebody removed its lock, perhaps: a living one makes another
            lock = SessionLock(self._path, instance_id)
            try:
                lock.acquire()
            except BlockingIOError:
                continue  # another process is at it
            except OSError as error:
                _log.debug("No lock for the session %s: %s", instance_id, error)
            try:
                # Asked again, under the lock: it may have lived, and made its first page, when we looked before.
                orphan = journals.orphan(instance_id) if instance_id in journals.instances() else None
                buried += self._bury(instance_id, orphan)
                journals.forget(instance_id)
            except OSError as error:
                _log.error("The journal of session %s stays for the next start: %s", instance_id, error)
            except Exception as error:
                if can_pass(error):
                    raise
                _log.exception("The journal of session %s makes no sense, and is kept as .unread.", instance_id)
                journals.set_aside(instance_id)
            finally:
                lock.release()
        return buried

    def _bury(self, instance_id: str, orphan: Orphan | None) -> int:
        losses: list[Loss] = []
        if orphan is not None:
            self._replay(orphan, losses)
        found = self._conn.execute(_SQL["session_id"], {"instance_id": instance_id}).fetchone()
        if found is None:
            return 0
        values = {"session_id": found[0]}
        with transaction(self._conn, self._parents):
            ended = self._conn.execute(_SQL["crash_session"], values).rowcount
            if ended or orphan is not None:  # else another process was quicker
                interrupt(self._conn, self._parents, found[0])
                self._conn.execute(_SQL["clear_running"], values)
                self._conn.execute(_SQL["release_all"], values)
                add_losses(self._conn, found[0], losses)
            if orphan is not None and orphan.damaged:
                detail = "Entries of its journal could not be read; where it was cut, what came after is unknown."
                now = to_epoch(to_ns(self._session.started_at))
                insert_incident(self._conn, found[0], Incident(JOURNAL_DAMAGED, detail, now, count=orphan.damaged))
        return int(ended)

    def _replay(self, orphan: Orphan, losses: list[Loss]) -> None:
        def rejected(part: Segment) -> None:
            for record in part.records:
                of = part.registrations.get(record.registration)
                kind: Kind = "span" if of is None else "handler" if isinstance(of, ListenerRegistration) else "job"
                losses.append(Loss(record.start_ns // HOUR_NS * HOUR_NS, "store", kind, "rejected", 1))

        started = to_epoch(to_ns(orphan.session.started_at))
        with transaction(self._conn, self._parents):
            session_id = self._parents.session_id(orphan.session, started)
        mark, alive = self._conn.execute(_SQL["committed"], {"session_id": session_id}).fetchone()
        spans = 0
        for segment in orphan.segments(mark):
            spans += len(segment.records)
            alive = max(alive, *(to_epoch(x.start_ns + x.duration_ns) for x in (*segment.records, *segment.running)), 0)
            commit_what_can_be(self._conn, self._parents, segment, alive, rejected)
        if orphan.damaged:
            hour_ns = to_ns(orphan.session.started_at) // HOUR_NS * HOUR_NS
            losses.append(Loss(hour_ns, "journal", "span", "damaged", orphan.damaged))
        if spans or orphan.damaged:
            session, damaged = orphan.session, f", {orphan.damaged} damaged entries" if orphan.damaged else ""
            _log.warning(
                "%s (pid %s) ended without closing: %s finished runs taken over from its journal%s.",
                session.service_name, session.pid, spans, damaged,
            )  # fmt: skip
        self._conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()  # on the disk before the journal goes

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


def _acquired(lock: SessionLock) -> None:
    """Somebody who asks whether we live holds it for a moment."""
    for _ in range(LOCK_TRIES):
        try:
            return lock.acquire()
        except BlockingIOError:
            time.sleep(0.005)
    return lock.acquire()
