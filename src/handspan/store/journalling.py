"""What the writer does for the journal: let go of pages the database no longer needs, and leave one behind."""

import logging
import sqlite3
from collections.abc import Callable

from handspan.records import SegmentSource
from handspan.store.incidents import JOURNAL_SUSPENDED, Incident, Incidents
from handspan.store.liveness import SessionLock

__all__ = ["JournalWatch", "leave_behind", "release_pages"]

_log = logging.getLogger("handspan.store")


class JournalWatch:
    """Says once when the journal alone fails, and once when it is over: in the log, and to whoever reads the file.
    What begins with an episode of the database's, its first line says, and its last that it is over."""

    def __init__(self, incidents: Incidents, now: Callable[[], float]) -> None:
        self._incidents, self._now, self._said, self._quiet = incidents, now, False, False

    def told(self, trouble: str | None) -> None:
        """An episode's first line said so."""
        self._quiet = trouble is not None and not self._said

    def look(self, trouble: str | None) -> None:
        if trouble is None:
            self._quiet = False
        if trouble is not None and not self._said and not self._quiet:
            _log.error("The journal cannot be written (%s): a kill -9 now loses what is not committed.", trouble)
            self._incidents.note(Incident(JOURNAL_SUSPENDED, trouble, self._now()))
        elif trouble is None and self._said:
            _log.warning("The journal is written again.")
            self._incidents.over(JOURNAL_SUSPENDED)
        self._said = trouble is not None and not self._quiet


def release_pages(conn: sqlite3.Connection, source: SegmentSource) -> None:
    """Remove committed pages, once a checkpoint has synced what they hold: ``synchronous=NORMAL`` does not sync at
    COMMIT, and a power cut may take back the last ones. A reader in the way: at a later turn."""
    pages = source.journal_pages_done()
    if not pages:
        return
    busy, in_wal, checkpointed = conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
    if not busy and in_wal == checkpointed:
        source.remove_journal_pages(pages)


def leave_behind(source: SegmentSource, lock: SessionLock, why: str | None, *, keep: bool) -> None:
    """The end of a session: what is not committed stays in its journal for the next start, or is lost and counted."""
    left, kept, lost = source.leave(keep=keep)
    if kept:
        _log.warning("%s finished runs wait in the journal for the next start: %s", kept, why)
    if lost:
        _log.error("%s finished runs were not stored: %s", lost, why)
    if left:
        lock.forget()  # free, with its file: whoever starts next takes them over
    else:
        lock.release()
