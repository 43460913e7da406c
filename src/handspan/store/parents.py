"""The rows that rows point to (services, sessions, registrations, tracebacks) and their ids in memory; and what is told
of runs elsewhere: error groups and rollups.

A row never waits for its parent: whoever writes the row makes the parent in the same transaction.
Ids are cached per file; a foreign-key failure (somebody deleted a parent) forgets them all.
"""

import hashlib
import sqlite3
from collections import OrderedDict
from typing import Any, Final

from handspan.clock import to_epoch, to_ns
from handspan.records import ListenerRegistration, Registration, Session
from handspan.redaction import redactor_for
from handspan.serialize import attributes_json, clean_text
from handspan.source import registration_source
from handspan.store.error_groups import ErrorGroups
from handspan.store.rollups import Rollups
from handspan.store.statements import statements

__all__ = ["Parents"]

_SQL: Final = statements("sql/commit.sql")
TRACEBACK_CACHE: Final = 512  # distinct stacks remembered; an application has dozens

REGISTRATION_CACHE: Final = 20_000  # past it, the oldest is looked up again: 20 us a registration and segment


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)


class Parents:
    """Finds or makes parents on one connection, inside the caller's transaction."""

    def __init__(self, conn: sqlite3.Connection, redact_keys: tuple[str, ...] = ()) -> None:
        self._conn, self._redactor = conn, redactor_for(redact_keys)
        self._services: dict[tuple[str, str], int] = {}
        self._sessions: dict[str, int] = {}
        self._registrations: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._tracebacks: OrderedDict[str, int] = OrderedDict()
        self.error_groups = ErrorGroups(conn)
        self.rollups = Rollups(conn)

    def forget(self) -> None:
        """After a rollback or a foreign-key failure: what the cache says may not be in the file."""
        self._services.clear()
        self._sessions.clear()
        self._registrations.clear()
        self._tracebacks.clear()
        self.error_groups.forget()
        self.rollups.forget()

    def service_id(self, session: Session) -> int:
        key = (session.service_name, session.service_namespace)
        if key not in self._services:
            values = {"name": clean_text(key[0]), "namespace": clean_text(key[1])}
            self._services[key] = self._find_or_make("service", values)
        return self._services[key]

    def session_id(self, session: Session, now: float) -> int:
        if session.instance_id not in self._sessions:
            values = {
                "service_id": self.service_id(session),
                "instance_id": session.instance_id,
                "started_at": to_epoch(to_ns(session.started_at)),
                "now": now,
                "service_version": _clean(session.service_version),
                "handspan_version": session.handspan_version,
                "python_version": session.python_version,
                "host": _clean(session.host),
                "pid": session.pid,
                "resource": attributes_json(session.resource) if session.resource else None,
            }
            self._sessions[session.instance_id] = self._find_or_make("session", values)
        return self._sessions[session.instance_id]

    def registration_id(self, session: Session, number: int, registration: Registration) -> int:
        """The parent of a record; made here if it is not there, and never changed: only a registration does that,
        and a late run of a cancelled one must not bring it back."""
        found = self._registrations.get((session.instance_id, number))
        if found is None:
            table = "listener" if isinstance(registration, ListenerRegistration) else "job"
            values = self._registration_values(session, registration)
            self._conn.execute(_SQL[f"ensure_{table}"], values)
            found = self._find(table, values)
            self._remember(session, number, found)
        return found

    def register(self, session: Session, number: int, registration: Registration) -> int:
        """Upsert one registration and note that this session holds it. Only a real registration updates a row."""
        table = "listener" if isinstance(registration, ListenerRegistration) else "job"
        values = self._registration_values(session, registration)
        self._conn.execute(_SQL[f"{'ensure' if registration.inferred else 'upsert'}_{table}"], values)
        row_id = self._find(table, values)
        kind = "handler" if table == "listener" else "job"
        session_id = self.session_id(session, values["registered_at"])
        self._conn.execute(_SQL["hold"], {"session_id": session_id, "kind": kind, "id": row_id})
        self._remember(session, number, row_id)
        return row_id

    def _remember(self, session: Session, number: int, row_id: int) -> None:
        self._registrations[session.instance_id, number] = row_id
        if len(self._registrations) > REGISTRATION_CACHE:
            self._registrations.popitem(last=False)

    def retire(self, session: Session, number: int, registration: Registration, now: float) -> None:
        """A cancelled handle: retired, unless another live session has the same."""
        kind, table = ("handler", "listener") if isinstance(registration, ListenerRegistration) else ("job", "job")
        row_id = self.registration_id(session, number, registration)  # kept: a late command is still its
        values = {"session_id": self.session_id(session, now), "kind": kind, "id": row_id, "now": now}
        self._conn.execute(_SQL["release"], values)
        self._conn.execute(_SQL[f"retire_{table}"], values)

    def traceback_id(self, text: str) -> int:
        found = self._tracebacks.get(text)
        if found is not None:
            self._tracebacks.move_to_end(text)
            return found
        cleaned = clean_text(text)
        values = {"hash": hashlib.blake2b(cleaned.encode(), digest_size=16).digest(), "text": cleaned}
        found = self._find_or_make("traceback", values)
        self._tracebacks[text] = found
        if len(self._tracebacks) > TRACEBACK_CACHE:
            self._tracebacks.popitem(last=False)
        return found

    def _find_or_make(self, what: str, values: dict[str, Any]) -> int:
        self._conn.execute(_SQL[f"insert_{what}"], values)
        return self._find(what, values)

    def _find(self, what: str, values: dict[str, Any]) -> int:
        (row_id,) = self._conn.execute(_SQL[f"find_{what}"], values).fetchone()
        return int(row_id)

    def _registration_values(self, session: Session, r: Registration) -> dict[str, Any]:
        values = {field: getattr(r, field) for field in r.__dataclass_fields__}
        values = {key: clean_text(value) if isinstance(value, str) else value for key, value in values.items()}
        registered_at = r.registered_at or session.started_at
        source = registration_source(r.source_file, r.source_line, r.source_span)
        return values | {
            "source_span": None,  # a tuple is nothing SQLite can bind
            "service_id": self.service_id(session),
            "registered_at": to_epoch(to_ns(registered_at)),
            "registration_source": self._redactor.value(source),
        }
