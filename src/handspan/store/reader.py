"""A reader's connection that a fork can close under it.

A child that inherits an open connection shares SQLite's table of locks with it: the child's own connection
would believe in locks the kernel does not know of, and rows were lost when the parent, alone as far as the
kernel could tell, removed the WAL. So whoever forks closes every reader first. A query that is under way may end
within ``GRACE``; then it is interrupted. Its owner finds :class:`ClosedByForkError`, opens anew and asks again: it
only reads.

Each statement runs and is read to its end under the connection's lock, on aiosqlite's thread: whoever holds the
lock knows that nobody is inside SQLite.
"""

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final
from weakref import WeakSet

from handspan.forking import join

__all__ = ["ClosedByForkError", "ReadingConnection", "opening"]

GRACE: Final = 0.2  # seconds a query may go on while somebody wants to fork; a page's query takes a tenth of it
CHECK_EVERY: Final = 5_000  # SQLite's virtual-machine steps between looks at the clock: about 0.1 ms


class ClosedByForkError(sqlite3.Error):
    """The connection was closed so that the process could fork."""


class ReadingConnection(sqlite3.Connection):
    """Used from one thread at a time, and closed from any."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lock = threading.Lock()
        self._gone = self.interrupted = False
        self.asks: Callable[[], bool] = bool
        """Whether the query is to end: set by whoever asks it."""
        self.set_progress_handler(self._is_to_end, CHECK_EVERY)
        _open.add(self)

    def _is_to_end(self) -> bool:
        # SQLite asks in between whether to go on: an interrupt from outside may come before the query starts.
        return self.interrupted or self.asks()

    def execute(self, sql: str, parameters: Any = ()) -> sqlite3.Cursor:
        with self.lock:
            if self._gone:
                raise ClosedByForkError("closed for a fork")
            try:
                cursor = self.cursor(_Cursor).execute(sql, parameters)
                cursor.rows = iter(sqlite3.Cursor.fetchall(cursor))
            except sqlite3.OperationalError as error:
                if self.interrupted:
                    raise ClosedByForkError("interrupted for a fork") from error
                raise
            return cursor

    def close(self) -> None:
        with self.lock:
            super().close()

    def close_for_fork(self, until: float) -> bool:
        """From the forking thread. False if its query would not end."""
        if not self.lock.acquire(timeout=GRACE):
            self.interrupted = True
            if not self.lock.acquire(timeout=max(0.0, until - time.monotonic())):
                return False
        try:
            self._gone = True
            super().close()
        finally:
            self.lock.release()
        return True


class _Cursor(sqlite3.Cursor):
    """Its rows are here already."""

    rows: Iterator[Any] = iter(())

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # sqlite3's cursor is its own iterator
        return self.rows

    def fetchall(self) -> list[Any]:
        return list(self.rows)

    def fetchone(self) -> Any:
        return next(self.rows, None)


_open: WeakSet[ReadingConnection] = WeakSet()


class _Opening:
    """Held while a connection is being opened, and by whoever forks from before to after."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        join(self)
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def before_fork(self, until: float) -> bool:
        if not self._lock.acquire(timeout=max(0.0, until - time.monotonic())):
            return False
        if all(conn.close_for_fork(until) for conn in list(_open)):
            return True
        self._lock.release()
        return False

    def after_fork_in_parent(self) -> None:
        self._lock.release()

    def after_fork_in_child(self, *, clean: bool) -> None:
        self._lock = threading.Lock()
        if not clean:
            _inherited.extend(_open)  # referenced for ever: closing one would drop the parent's locks


_inherited: list[ReadingConnection] = []

opening: Final = _Opening()
