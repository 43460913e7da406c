"""How much to do in one transaction: about ``BATCH_SECONDS`` in the write lock, on whatever machine this is.

Others may be waiting for the lock, so what is measured is the time in it: from BEGIN IMMEDIATE's return to
COMMIT's. SQLite's automatic checkpoint runs inside COMMIT but after the lock is let go, with the disk's own
delays; it is put off to after the measurement.
"""

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from handspan.store.connection import WAL_AUTOCHECKPOINT_PAGES

__all__ = ["BATCH_SECONDS", "FIRST_BATCH", "LARGEST_BATCH", "Batches"]

BATCH_SECONDS: Final = 0.05
AIM: Final = 0.5  # of it: one batch is not like the next, and the longest is what a waiting writer feels
GROWTH: Final = 1.5
FIRST_BATCH: Final = 100  # rows; 3 ms on a desktop, and no more than a Raspberry Pi with a cold SD card can do in time
LARGEST_BATCH: Final = 20_000


class Batches:
    """A size that follows the time the last batch took, down at once and up by half."""

    def __init__(
        self, conn: sqlite3.Connection, first: int = FIRST_BATCH, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._conn, self._clock = conn, clock
        self.size = first
        self.longest = 0.0
        """Seconds the write lock was held for, at most."""
        self.count = 0
        self._unsynced = 0.0

    @contextmanager
    def one(self, rows: int) -> Iterator[None]:
        """One transaction about so many rows."""
        with self._checkpoint_after():
            self._conn.execute("BEGIN IMMEDIATE")
            started = self._clock()
            try:
                yield
                self._conn.execute("COMMIT")
            except BaseException:
                if self._conn.in_transaction:  # FULL and IOERR may have rolled back already
                    self._conn.execute("ROLLBACK")
                raise
            self.measured(rows, self._clock() - started)

    def script(self, rows: int, sql: str) -> None:
        """One statement to its end without a wait for the GIL after each of its rows; waiting for the lock is
        measured with it."""
        with self._checkpoint_after():
            started = self._clock()
            self._conn.executescript(sql)
            self.measured(rows, self._clock() - started)

    def measured(self, rows: int, took: float) -> None:
        self.count += 1
        self.longest = max(self.longest, took)
        self._unsynced += took
        aim = BATCH_SECONDS * AIM
        fitting = rows * aim / max(took, 1e-6)
        if took > aim:
            self.size = max(1, int(min(fitting, self.size)))
        elif rows * 2 > self.size:  # a batch that was not full says nothing about a larger one
            self.size = int(min(fitting, self.size * GROWTH + 1, LARGEST_BATCH))

    @contextmanager
    def _checkpoint_after(self) -> Iterator[None]:
        self._conn.execute("PRAGMA wal_autocheckpoint = 0").fetchone()
        try:
            yield
        finally:
            self._conn.execute(f"PRAGMA wal_autocheckpoint = {WAL_AUTOCHECKPOINT_PAGES}").fetchone()
        if self._unsynced >= BATCH_SECONDS:
            self._conn.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            self._unsynced = 0.0
