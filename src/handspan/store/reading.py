"""Opening the file to read it: what it is, whether this version can read it, and without a trace.

SQLite's own read-only mode leaves a ``-wal`` and a ``-shm`` beside a WAL database nobody else has open, and
fails where it may not (a read-only directory). A file without a ``-wal`` is therefore opened
``immutable``: no locks, no files made. That is sound only while nobody writes, so whoever reads so compares
the :func:`fingerprint` before and after each query (a writer makes the ``-wal`` before it changes
anything, and the file's times tell if one came and went), and opens again, with locks, when it changed.
"""

import logging
import os
import sqlite3
import stat
from contextlib import closing
from typing import Final, NamedTuple

from handspan.errors import CorruptDatabaseError, DatabaseError, MissingDatabaseError, NotADatabaseError
from handspan.store import schema
from handspan.store.connection import as_text, explained, file_state, read_only_uri
from handspan.store.provenance import looks_like_ours
from handspan.store.reader import ReadingConnection

__all__ = ["Fingerprint", "Opened", "fingerprint", "open_quietly", "open_reader", "stored_revision"]

_log = logging.getLogger("handspan.store")

BUSY_TIMEOUT: Final = 2.0  # seconds; in WAL mode a reader waits only while a crashed writer's log is recovered
READABLE_HINT: Final = "Check that this user may read the file and enter its directory."


class Fingerprint(NamedTuple):
    """What ``stat`` says of a file and of a log beside it."""

    log_exists: bool
    inode: int
    size: int
    modified_ns: int


def open_reader(path: str, *, immutable: bool = False, any_schema: bool = False) -> ReadingConnection:
    """A ``query_only`` connection to a handspan database of this version's schema.

    Raises the :class:`handspan.errors.DatabaseError` that fits. ``any_schema`` lets older files in, for
    those who only look after the file.
    """
    _refuse_what_is_no_file(path)
    conn = _connect(path, immutable=immutable)
    try:
        with explained(path):
            if file_state(conn, path) == "empty":
                raise MissingDatabaseError(f"{path} is empty.")
            schema.refuse_newer(conn, path, schema.migrations_dir())
            if not any_schema:
                _refuse_older(conn, path)
            conn.execute("PRAGMA query_only = ON")
    except BaseException:
        conn.close()
        raise
    return conn


def stored_revision(path: str) -> str | None:
    """The file's schema revision, be it an older one."""
    with closing(open_quietly(path, any_schema=True).conn) as conn:
        return schema.revision(conn)


class Opened(NamedTuple):
    """A connection, and what the file looked like if it was opened without locks."""

    conn: ReadingConnection
    unlocked: Fingerprint | None


def open_quietly(path: str, *, any_schema: bool = False) -> Opened:
    """Without locks and without a trace if nobody writes, else like everybody."""
    before = fingerprint(path)
    if not before.log_exists:
        return Opened(open_reader(path, immutable=True, any_schema=any_schema), before)
    try:
        return Opened(open_reader(path, any_schema=any_schema), None)
    except DatabaseError as error:
        directory = os.path.dirname(os.path.abspath(path))
        if not _cannot_open(error) or os.access(directory, os.W_OK):
            raise
    # Read-only media with a log: reading that takes a -shm, which cannot be made there.
    found = open_reader(path, immutable=True, any_schema=any_schema)
    _log.warning("%s lies on read-only media: what is still in its -wal is not shown.", path)
    return Opened(found, before)


def fingerprint(path: str) -> Fingerprint:
    """Changes whenever somebody writes, or opens the file for writing."""
    try:
        found = os.stat(path)  # never open(): closing it would drop SQLite's locks in the whole process
    except (OSError, ValueError):
        return Fingerprint(False, 0, 0, 0)
    return Fingerprint(_log_exists(path), found.st_ino, found.st_size, found.st_mtime_ns)


def _log_exists(path: str) -> bool:
    return os.path.exists(f"{path}-wal") or os.path.exists(f"{path}-journal")


def _connect(path: str, *, immutable: bool) -> ReadingConnection:
    uri = read_only_uri(path) + ("&immutable=1" if immutable else "")
    conn: ReadingConnection | None = None
    try:
        conn = sqlite3.connect(
            uri,
            uri=True,
            timeout=BUSY_TIMEOUT,
            isolation_level=None,
            check_same_thread=False,
            factory=ReadingConnection,
        )
        conn.row_factory, conn.text_factory = sqlite3.Row, as_text
        conn.execute("PRAGMA schema_version").fetchone()  # the first read of the file: is it one at all?
    except sqlite3.Error as error:
        if conn is not None:
            conn.close()
        if _primary_code(error) in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY):
            raise DatabaseError(f"{path} cannot be read: {error}.", hint=READABLE_HINT) from error
        if _primary_code(error) == sqlite3.SQLITE_NOTADB and looks_like_ours(path):
            raise CorruptDatabaseError(f"{path} is damaged: its beginning is gone.") from error
        with explained(path):
            raise
    return conn


def _cannot_open(error: DatabaseError) -> bool:
    return isinstance(error.__cause__, sqlite3.Error) and _primary_code(error.__cause__) in (
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_READONLY,
    )


def _primary_code(error: sqlite3.Error) -> int:
    return (getattr(error, "sqlite_errorcode", None) or 0) & 0xFF


def _refuse_what_is_no_file(path: str) -> None:
    """Before SQLite sees it: reading never makes a file, and opening a named pipe would wait for ever."""
    try:
        mode = os.stat(path).st_mode
    except PermissionError as error:
        raise DatabaseError(f"{path} cannot be read: {error.strerror}.", hint=READABLE_HINT) from error
    except (OSError, ValueError) as error:
        raise MissingDatabaseError(f"There is no file at {path}.") from error
    if stat.S_ISDIR(mode):
        raise NotADatabaseError(f"{path} is a directory.")
    if not stat.S_ISREG(mode):
        raise NotADatabaseError(f"{path} is not a file.")


def _refuse_older(conn: sqlite3.Connection, path: str) -> None:
    head = schema.head_revision(schema.migrations_dir())
    found = schema.revision(conn)
    if found != head:
        raise DatabaseError(
            f"{path} has schema {found!r}; this handspan reads {head!r}.",
            hint="`handspan db upgrade` brings it up to date, after making a copy.",
        )
