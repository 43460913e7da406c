"""Counts of what did not run, on their way to the file.

They go with the heartbeat where nothing else is written, and in a transaction of their own every ``INTERVAL`` where
commits have taken the heartbeat's place; at a flush and at the end. A commit every two seconds for them alone would
wear out SD cards for figures nobody needs by the second.
"""

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator
from typing import Any, Final

from handspan.clock import to_epoch
from handspan.reasons import Skipped, SkipSource
from handspan.records import ListenerRegistration, Session
from handspan.store.commit import transaction
from handspan.store.isolation import can_pass
from handspan.store.parents import Parents
from handspan.store.statements import statements

__all__ = ["SkipRow", "SkipWriter", "add_skips"]

_SQL: Final = statements("sql/skips.sql")
_HEARTBEAT: Final = statements("sql/sessions.sql")["heartbeat"]
_log = logging.getLogger("handspan.store")

INTERVAL: Final = 30.0  # seconds: the default heartbeat's
CHUNK_ROWS: Final = 64  # x 8 columns; a statement of its own for each size below

SkipRow = tuple[int, str, int, int, str, int, float, float]
"""Hour, kind, registration, session, reason, count, first and last time."""


class SkipWriter:
    """Writes one session's counts. On the writer's thread."""

    def __init__(self, source: SkipSource | None, session: Session) -> None:
        self._source, self._session = source, session
        self._next = time.monotonic() + INTERVAL

    def is_due(self) -> bool:
        return self._source is not None and self._source.waiting and time.monotonic() >= self._next

    def write(self, conn: sqlite3.Connection, parents: Parents, now: float) -> bool:
        """What there is, in one transaction that is a sign of life, too. False if there was nothing to write. What
        could not be written waits for the next time."""
        entries = [] if self._source is None else self._source.take()
        self._next = time.monotonic() + INTERVAL
        if self._source is None or not entries:
            return False
        try:
            with transaction(conn, parents):
                session_id = parents.session_id(self._session, now)
                conn.execute(_HEARTBEAT, {"now": now, "session_id": session_id})
                add_skips(conn, [self._row(parents, session_id, entry) for entry in entries])
        except BaseException as error:
            if isinstance(error, Exception) and not can_pass(error):
                _log.error("Counts of what did not run could not be stored: %s: %s", type(error).__name__, error)
                return False
            self._source.put_back(entries)
            raise
        return True

    def _row(self, parents: Parents, session_id: int, entry: Skipped) -> SkipRow:
        kind = "handler" if isinstance(entry.registration, ListenerRegistration) else "job"
        registration_id = parents.registration_id(self._session, entry.number, entry.registration)
        hour = entry.ends_ns // 10**9 - 3600
        first, last = (to_epoch(ns // 1000 * 1000) for ns in (entry.first_ns, entry.last_ns))
        return hour, kind, registration_id, session_id, entry.reason, entry.count, first, last


def add_skips(conn: sqlite3.Connection, rows: Iterable[SkipRow]) -> None:
    """Inside the caller's transaction."""
    for chunk in _chunks(list(rows)):
        values: list[Any] = [value for row in chunk for value in row]
        conn.execute(_SQL["add_skips"].format(rows=", ".join(["(?, ?, ?, ?, ?, ?, ?, ?)"] * len(chunk))), values)


def _chunks(rows: list[SkipRow]) -> Iterator[list[SkipRow]]:
    for start in range(0, len(rows), CHUNK_ROWS):
        yield rows[start : start + CHUNK_ROWS]
