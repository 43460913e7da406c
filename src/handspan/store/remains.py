"""What went with a file that was set aside, as far as it can be read in a moment; and what is carried over.

The ledger's equation holds for each session, so the rows that went are counted per session and written as losses
of those sessions. For that the sessions themselves are carried over, and with them the older losses and incidents:
the new file goes on knowing what went wrong before it. The runs are `handspan db salvage`'s.
"""

import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from handspan.records import Session
from handspan.store.around_damage import highest_id, readable, rows_in_index
from handspan.store.connection import as_text, read_only_uri
from handspan.store.liveness import is_alive
from handspan.store.parents import Parents
from handspan.store.statements import statements

__all__ = ["REASON", "Remains", "carry_over", "read_remains"]

_COMMIT: Final = statements("sql/commit.sql")
_INCIDENTS: Final = statements("sql/incidents.sql")

REASON: Final = "corrupt_database"
READ_SECONDS: Final = 2.0  # recording waits meanwhile, in memory; half a million rows are counted in it
CHUNK_IDS: Final = 10_000
CARRIED: Final = 2_000  # sessions, losses, incidents: the newest of each
CHECK_EVERY: Final = 10_000  # SQLite's steps between looks at the clock
_TORN: Final = (sqlite3.IntegrityError, sqlite3.InterfaceError, TypeError)  # read, but not what was written
_TABLES: Final = {"handler_invocations": "handler", "job_executions": "job", "spans": "span"}
_SESSION: Final = (
    "instance_id, started_at, last_heartbeat_at, stopped_at, stop_reason, service_version, handspan_version, "
    "python_version, host, pid, resource"
)


@dataclass
class Remains:
    """Read from the file that was set aside."""

    complete: bool = False
    """False: the time was up, or something could not be read; the counts are the least that went."""
    went: Counter[tuple[int, str]] = field(default_factory=Counter)
    """Rows by session id of that file and kind."""
    sessions: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    losses: list[tuple[Any, ...]] = field(default_factory=list)
    incidents: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(self.went.values())


def read_remains(aside: str, path: str, seconds: float = READ_SECONDS) -> Remains:
    """Never raises for what the file is like. ``path`` is where it lay: the locks of its sessions are there."""
    found = Remains()
    ends = time.monotonic() + seconds
    # Without a log beside it nothing needs to be made to read it, and nothing is.
    uri = read_only_uri(aside) + ("" if os.path.exists(f"{aside}-wal") else "&immutable=1")
    try:
        with closing(sqlite3.connect(uri, uri=True, isolation_level=None)) as conn:
            conn.text_factory = as_text
            conn.set_progress_handler(lambda: time.monotonic() >= ends, CHECK_EVERY)
            _read(conn, path, found)
            found.complete = True
    except (sqlite3.Error, OverflowError):  # a time that is up is an interrupt
        pass
    return found


def _read(conn: sqlite3.Connection, path: str, found: Remains) -> None:
    """The small tables first."""
    sessions = f"s.service_id, v.name, v.namespace, {_SESSION}"
    for row_id, *row in _newest(conn, "sessions", sessions, "sessions AS s JOIN services AS v ON v.id = s.service_id"):
        found.sessions[row_id] = _as_it_ended(row, path)
    found.losses = [row[1:] for row in _newest(conn, "losses", "session_id, hour, stage, kind, reason, count")]
    incidents = "session_id, started_at, ended_at, kind, detail, count"
    try:
        found.incidents = [row[1:] for row in _newest(conn, "incidents", incidents)]
    except sqlite3.DatabaseError as error:
        if "no such table" not in str(error):  # a file that was not upgraded yet has none
            raise
    _count_running(conn, path, found)
    _count_rows(conn, found)


def _as_it_ended(row: list[Any], path: str) -> tuple[Any, ...]:
    """A session nobody ended and whose process is gone: its next start would have found it crashed."""
    (*head, instance_id, started_at, last_heartbeat_at, stopped_at, reason), tail = row[:8], row[8:]
    if stopped_at is None and not is_alive(path, str(instance_id)):
        stopped_at, reason = last_heartbeat_at, "crash"
    return (*head, instance_id, started_at, last_heartbeat_at, stopped_at, reason, *tail)


def _newest(conn: sqlite3.Connection, table: str, columns: str, source: str = "") -> list[tuple[Any, ...]]:
    try:
        alias = "s." if source else ""
        rows = f"SELECT {alias}id, {columns} FROM {source or table} ORDER BY {alias}id DESC LIMIT {CARRIED}"
        return [tuple(row) for row in conn.execute(rows)][::-1]
    except sqlite3.DatabaseError as error:
        if source or getattr(error, "sqlite_errorcode", 0) & 0xFF != sqlite3.SQLITE_CORRUPT:
            if source:
                return []  # their rows count as this session's, then
            raise
        return list(readable(conn, table, columns, 1, highest_id(conn, table)))[-CARRIED:]


def _count_running(conn: sqlite3.Connection, path: str, found: Remains) -> None:
    """What a dead session had in flight would have become ``ProcessInterrupted``; the living go on with theirs."""
    try:
        rows = conn.execute(
            "SELECT session_id, CASE WHEN listener_id IS NULL THEN 'job' ELSE 'handler' END, count(*) "
            "FROM running GROUP BY 1, 2"
        ).fetchall()
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            raise
        return
    for session_id, kind, count in rows:
        session = found.sessions.get(session_id)
        if session is not None and not is_alive(path, str(session[3])):
            found.went[session_id, kind] += count


def _count_rows(conn: sqlite3.Connection, found: Remains) -> None:
    """By session. What cannot be read but should be there is counted as of the session with the most rows."""
    should = {table: rows_in_index(conn, table) or 0 for table in _TABLES}  # quick, so known if the time runs out
    for table, kind in _TABLES.items():
        by_session: Counter[int] = Counter()
        try:
            for low, high in _ranges(highest_id(conn, table)):
                by_session.update(_sessions_of(conn, table, low, high))
        finally:
            missing = should[table] - by_session.total()
            if missing > 0:
                by_session[max(by_session, key=by_session.__getitem__, default=0)] += missing
            for session_id, count in by_session.items():
                found.went[session_id, kind] += count


def _ranges(highest: int) -> Iterator[tuple[int, int]]:
    for low in range(1, highest + 1, CHUNK_IDS):
        yield low, min(low + CHUNK_IDS - 1, highest)


def _sessions_of(conn: sqlite3.Connection, table: str, low: int, high: int) -> Counter[int]:
    grouped = f"SELECT session_id, count(*) FROM {table} NOT INDEXED WHERE id BETWEEN ? AND ? GROUP BY session_id"
    try:
        return Counter(dict(conn.execute(grouped, (low, high)).fetchall()))
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
            raise
        return Counter(row[1] for row in readable(conn, table, "session_id", low, high))


def carry_over(conn: sqlite3.Connection, parents: Parents, session: Session, remains: Remains, now: float) -> None:
    """Into the new file, inside the caller's transaction. Twice would count twice."""
    own = parents.session_id(session, now)
    ids: dict[int, int] = {}
    for old, row in remains.sessions.items():
        with suppress(*_TORN):
            ids[old] = own if row[3] == session.instance_id else _carry_session(conn, row)
    hour = int(now // 3600 * 3600)
    for old, *loss in remains.losses:
        with suppress(*_TORN):
            _add_loss(conn, ids.get(old, own), *loss)
    for old, started_at, ended_at, kind, detail, count in remains.incidents:
        values = {"session_id": ids.get(old, own), "started_at": started_at, "ended_at": ended_at}
        with suppress(*_TORN):
            conn.execute(_INCIDENTS["insert_incident"], values | {"kind": kind, "detail": detail, "count": count})
    for (old, kind), count in remains.went.items():
        back = _came_back(conn, ids[old], kind) if ids.get(old, own) != own else 0
        if count > back:
            _add_loss(conn, ids.get(old, own), hour, "store", kind, REASON, count - back)
    if not remains.count and not remains.complete:  # nobody knows how many: one says that there were any
        _add_loss(conn, own, hour, "store", "span", REASON, 1)


def _came_back(conn: sqlite3.Connection, session_id: int, kind: str) -> int:
    """Rows of a dead session that its journal has put into the new file meanwhile."""
    (table,) = (table for table, of in _TABLES.items() if of == kind)
    (count,) = conn.execute(f"SELECT count(*) FROM {table} WHERE session_id = ?", (session_id,)).fetchone()
    return int(count)


def _add_loss(conn: sqlite3.Connection, session_id: int, hour: int, stage: str, kind: str, reason: str, n: int) -> None:
    values = {"session_id": session_id, "hour": hour, "stage": stage, "kind": kind, "reason": reason, "count": n}
    conn.execute(_COMMIT["add_loss"], values)


def _carry_session(conn: sqlite3.Connection, row: tuple[Any, ...]) -> int:
    _, name, namespace, *session = row
    service = {"name": name, "namespace": namespace}
    conn.execute(_COMMIT["insert_service"], service)
    (service_id,) = conn.execute(_COMMIT["find_service"], service).fetchone()
    values = dict(zip(_SESSION.split(", "), session, strict=True)) | {"service_id": service_id}
    conn.execute(_INCIDENTS["carry_session"], values)
    (row_id,) = conn.execute(_COMMIT["find_session"], {"instance_id": values["instance_id"]}).fetchone()
    return int(row_id)
