"""An open file, and what its writer knows of it: parents, rollups, the session's life. It goes with its connection."""

import sqlite3
from collections.abc import Iterator
from typing import Final

from handspan.records import Journals, SegmentSource, Session
from handspan.store.backfill import backfill, is_pending
from handspan.store.connection import explained, identity_of
from handspan.store.liveness import SessionLock
from handspan.store.opening import open_for_writing
from handspan.store.options import WriterOptions
from handspan.store.parents import Parents
from handspan.store.sessions import SessionLife

__all__ = ["Attached"]


class Attached:
    """Raises what opening raises; then nothing is open."""

    def __init__(self, path: str, options: WriterOptions, session: Session) -> None:
        self._path: Final = path
        self.conn: Final = open_for_writing(path, busy_timeout=options.busy_timeout)
        self.parents: Final = Parents(self.conn, options.redact_keys)
        self.life: Final = SessionLife(self.conn, self.parents, path, session)
        self.identity: Final = identity_of(path)
        self._old_rows = True

    def begin(self, lock: SessionLock, source: SegmentSource, journals: Journals, now: float) -> int:
        """The session's beginning, and the end of those whose process is gone: how many there were."""
        try:
            with explained(self._path):
                self.life.begin(lock, now)
                source.keep_journal(stuck=False)
                return self.life.bury_the_dead(journals, now)
        except BaseException:
            self.close()
            raise

    @property
    def has_old_rows(self) -> bool:
        """Rows of an older schema that rollups do not tell of yet; they must not be pruned."""
        if self._old_rows:
            self._old_rows = is_pending(self.conn)
        return self._old_rows

    def backfill(self) -> Iterator[int]:
        return backfill(self.conn, self.parents)

    def pair(self) -> tuple[sqlite3.Connection, Parents]:
        return self.conn, self.parents

    def close(self) -> None:
        self.conn.close()
