"""After an unclean stop: is the file sound? Looked at in the background, by a reader of its own.

One table at a time (``PRAGMA quick_check(table)``), so that no snapshot is held for long: the log cannot be
checkpointed past one. It never takes the write lock, stops between two of SQLite's steps when it is told to
(closing, a fork), sleeps in between so that a slow disk serves others too, and gives up after ten minutes.
What it finds is believed when a second look, on a fresh connection, finds it again.

Rows whose values are odd (a NULL, a failed CHECK) are no damage of the file: somebody may have meant them, and
SQLite 3.40's quick_check sees NULLs in WITHOUT ROWID tables that are not there. ``handspan db check`` tells of them.
"""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Final

from handspan.store.connection import identity_of, read_only_uri

__all__ = ["QuickCheck"]

_log = logging.getLogger("handspan.store")

STEPS: Final = 20_000  # of SQLite's between two looks at the clock: about 1 ms
PAUSE: Final = 0.002  # seconds slept at each: a third of its time at most is ours
LONGEST: Final = 600.0
BUSY_TIMEOUT: Final = 2.0
_ODD_VALUES: Final = ("NULL value in ", "CHECK constraint failed in ", "NUMERIC value in ", "TEXT value in ")


class QuickCheck:
    """At most one look at a time. Methods may be called from any thread."""

    def __init__(self, path: str, on_damage: Callable[[tuple[int, int], str], None]) -> None:
        self._path, self._on_damage = path, on_damage
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._unfinished = False

    def start(self) -> None:
        """Also while one runs: that one will do."""
        if self._thread is not None and self._thread.is_alive():
            return
        self._stop = threading.Event()
        self._unfinished = True
        self._thread = threading.Thread(target=self._run, args=(self._stop,), name="handspan-check", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # the interpreter is shutting down
            self._thread = None

    def stop(self, timeout: float) -> bool:
        """True once no connection of it is open."""
        self._stop.set()
        thread, self._thread = self._thread, None
        if thread is None:
            return True
        thread.join(timeout)
        return not thread.is_alive()

    def resume(self) -> None:
        """After a stop that was not meant for good: from the beginning."""
        if self._unfinished:
            self.start()

    def _run(self, stop: threading.Event) -> None:
        ends = time.monotonic() + LONGEST
        try:
            identity = identity_of(self._path)
            found = self._look(stop, ends) and self._look(stop, ends)
            if found and identity is not None and not stop.is_set():
                self._on_damage(identity, found)
            elif time.monotonic() >= ends:
                _log.warning("%s is too large to be looked at now: `handspan db check` does it.", self._path)
        except BaseException as error:  # noqa: BLE001 - a look that cannot be had harms nobody
            _log.debug("The check of %s ended early: %s", self._path, error)
            return
        if not stop.is_set():
            self._unfinished = False

    def _look(self, stop: threading.Event, ends: float) -> str | None:
        """The first damage, in SQLite's words; None if there is none, or if it was stopped."""

        def over() -> bool:
            time.sleep(PAUSE)
            return stop.is_set() or time.monotonic() >= ends

        uri = read_only_uri(self._path)
        with closing(sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT, isolation_level=None)) as conn:
            conn.set_progress_handler(over, STEPS)
            try:
                tables = conn.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
                for (name,) in tables:
                    quoted = str(name).replace('"', '""')
                    for (line,) in conn.execute(f'PRAGMA quick_check("{quoted}")').fetchall():
                        if line != "ok" and not str(line).startswith(_ODD_VALUES):
                            return " ".join(str(line).split())
            except sqlite3.DatabaseError as error:
                code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
                if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                    return str(error)
                if code != sqlite3.SQLITE_INTERRUPT:
                    raise
        return None
