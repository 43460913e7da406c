"""Opening a file for writing: find out what it is before anything touches it, then make or upgrade it."""

import sqlite3
import time
from typing import Final

from handspan.errors import DatabaseBusyError
from handspan.store import schema
from handspan.store.connection import connect, explained, file_state, prepare_writer

__all__ = ["open_for_writing"]

RETRY_SECONDS: Final = 0.02


def open_for_writing(path: str, *, busy_timeout: float) -> sqlite3.Connection:
    """A connection to an up-to-date handspan database, made if there is none.

    Raises the :class:`handspan.errors.DatabaseError` that fits, with the file as it was: a foreign,
    newer or unreadable file is not even switched to WAL.
    """
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            return _open(path, busy_timeout)
        except DatabaseBusyError as error:
            # Switching to WAL does not wait for a lock as everything else does: two processes that make one file
            # at once would fail at random. Anything but SQLite's own word (an upgrade that must wait) is final.
            if not isinstance(error.__cause__, sqlite3.Error) or time.monotonic() >= deadline:
                raise
            time.sleep(RETRY_SECONDS)


def _open(path: str, busy_timeout: float) -> sqlite3.Connection:
    directory = schema.migrations_dir()
    conn = connect(path, busy_timeout=busy_timeout)
    try:
        with explained(path):
            if file_state(conn, path) == "empty":
                prepare_writer(conn)
                schema.create(conn, directory)
            else:
                schema.refuse_newer(conn, path, directory)
                prepare_writer(conn)
                schema.upgrade(conn, path, directory)
    except BaseException:
        conn.close()
        raise
    return conn
