"""What happened to recording that is not a run: rows of ``incidents``.

They go the way of registrations: any thread may note one, the writer writes it when it can. The kinds are open;
those that are documented are in docs/schema.md.
"""

import sqlite3
from dataclasses import dataclass
from typing import Final

from handspan.records import Session
from handspan.serialize import clean_text
from handspan.store.controls import Controls
from handspan.store.parents import Parents
from handspan.store.statements import statements

__all__ = [
    "CORRUPT_DATABASE",
    "DATABASE_REPLACED",
    "DATABASE_UNAVAILABLE",
    "JOURNAL_DAMAGED",
    "JOURNAL_SUSPENDED",
    "Incident",
    "Incidents",
    "insert_incident",
]

_SQL: Final = statements("sql/incidents.sql")

CORRUPT_DATABASE: Final = "corrupt_database"
DATABASE_REPLACED: Final = "database_replaced"
DATABASE_UNAVAILABLE: Final = "database_unavailable"
JOURNAL_DAMAGED: Final = "journal_damaged"
JOURNAL_SUSPENDED: Final = "journal_suspended"
LONGEST_DETAIL: Final = 2_000  # characters; a path has 4,096 at most, and usually fifty


@dataclass(frozen=True)
class Incident:
    """One row, but for its session."""

    kind: str
    detail: str
    started_at: float
    """UTC epoch seconds."""
    ended_at: float | None = None
    """None for what has no end, or not yet."""
    count: int | None = None
    """Records that went with it; None where that is not known."""


class Incidents:
    """Those of one session."""

    def __init__(self, session: Session, controls: Controls) -> None:
        self._session, self._controls = session, controls

    def note(self, incident: Incident) -> None:
        """Written with the next registrations, in the same transaction."""

        def write(conn: sqlite3.Connection, parents: Parents, now: float) -> None:
            insert_incident(conn, parents.session_id(self._session, now), incident)

        self._controls.note(write)

    def over(self, kind: str) -> None:
        """What was noted without an end has one."""

        def write(conn: sqlite3.Connection, parents: Parents, now: float) -> None:
            values = {"session_id": parents.session_id(self._session, now), "kind": kind, "now": now}
            conn.execute(_SQL["end_incident"], values)

        self._controls.note(write)

    def unavailable(self, since: float, until: float, last_error: str | None) -> None:
        """An episode of failing is over."""
        self.note(Incident(DATABASE_UNAVAILABLE, last_error or "", since, max(since, until)))


def insert_incident(conn: sqlite3.Connection, session_id: int, incident: Incident) -> None:
    """Inside the caller's transaction."""
    values = {
        "session_id": session_id,
        "kind": incident.kind,
        "detail": clean_text(incident.detail[:LONGEST_DETAIL]),
        "started_at": incident.started_at,
        "ended_at": incident.ended_at,
        "count": incident.count,
    }
    conn.execute(_SQL["insert_incident"], values)
