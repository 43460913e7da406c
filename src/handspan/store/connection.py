"""Opening the file: the PRAGMAs, what it is, and what each SQLite failure means to a person.

The database file is never opened by anything but SQLite. ``open()`` and ``close()`` on it drop
SQLite's POSIX locks in the whole process, and rows were lost that way (measured).
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Literal
from urllib.parse import quote

from handspan.errors import (
    CorruptDatabaseError,
    DatabaseBusyError,
    DatabaseError,
    ForeignDatabaseError,
    NotADatabaseError,
    UnwritableDatabaseError,
)

__all__ = [
    "APPLICATION_ID",
    "WAL_AUTOCHECKPOINT_PAGES",
    "FileState",
    "as_text",
    "connect",
    "explain",
    "explained",
    "file_state",
    "identity_of",
    "is_busy",
    "optimize",
    "prepare_writer",
    "read_only_uri",
]

APPLICATION_ID: Final = 0x68737031  # "hsp1", in the file's header: what tells our file from anybody's

WAL_AUTOCHECKPOINT_PAGES: Final = 1000  # about 4 MB of 4 KB pages between checkpoints
JOURNAL_SIZE_LIMIT: Final = 16 * 1024 * 1024  # a WAL that grew under a long reader is cut back to this
CACHE_KIB: Final = 8 * 1024

FileState = Literal["empty", "handspan"]


def connect(path: str, *, busy_timeout: float) -> sqlite3.Connection:
    """A read-write connection in autocommit mode: every transaction is one we began."""
    _refuse_directories(path)
    with explained(path):
        conn = sqlite3.connect(path, timeout=busy_timeout, isolation_level=None, check_same_thread=False)
        try:
            conn.execute("PRAGMA schema_version").fetchone()  # the first read of the file: is it one at all?
        except BaseException:
            conn.close()
            raise
        return conn


def prepare_writer(conn: sqlite3.Connection) -> None:
    """The writer's PRAGMAs. ``auto_vacuum`` only takes on an empty file, and before WAL."""
    conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
    conn.execute("PRAGMA journal_mode = WAL").fetchone()
    conn.execute(f"PRAGMA wal_autocheckpoint = {WAL_AUTOCHECKPOINT_PAGES}").fetchone()
    conn.execute(f"PRAGMA journal_size_limit = {JOURNAL_SIZE_LIMIT}").fetchone()
    conn.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
    conn.execute("PRAGMA analysis_limit = 400").fetchone()  # what PRAGMA optimize looks at: 10 M rows take seconds
    conn.execute("PRAGMA synchronous = NORMAL")  # with WAL: a power cut may lose the last commits, never the file
    conn.execute("PRAGMA foreign_keys = ON")
    conn.text_factory = as_text


def as_text(octets: bytes) -> str:
    """A bit flipped in one text must not stop everything that reads it: no check of SQLite's sees that."""
    return octets.decode("utf-8", "replace")


def optimize(conn: sqlite3.Connection) -> None:
    """Let SQLite look at what its planner should know. In a transaction that begins as one that writes: else another
    process's commit between its reading and its writing is an error at once, without a wait (SQLITE_BUSY_SNAPSHOT)."""
    conn.execute("BEGIN IMMEDIATE")
    try:
        conn.execute("PRAGMA optimize").fetchall()
    finally:
        conn.execute("COMMIT")


def file_state(conn: sqlite3.Connection, path: str) -> FileState:
    """Whether the file is new or ours. Raises :class:`ForeignDatabaseError` for anybody else's."""
    conn.execute("BEGIN")  # both answers of one moment: another process may be making the file right now
    try:
        (objects,) = conn.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        (application_id,) = conn.execute("PRAGMA application_id").fetchone()
    finally:
        conn.execute("ROLLBACK")
    if application_id == APPLICATION_ID and objects:
        return "handspan"
    if application_id == 0 and not objects:
        return "empty"
    raise ForeignDatabaseError(f"{path} is an SQLite database of another program.")


def read_only_uri(path: str) -> str:
    return f"file:{quote(os.path.abspath(path))}?mode=ro"


@contextmanager
def explained(path: str) -> Iterator[None]:
    """SQLite's failures as ours, each with its cure."""
    try:
        yield
    except sqlite3.Error as error:
        raise explain(error, path) from error


def explain(error: sqlite3.Error, path: str) -> DatabaseError:
    code = getattr(error, "sqlite_errorcode", None) or 0
    primary = code & 0xFF
    if primary == sqlite3.SQLITE_NOTADB:
        return NotADatabaseError(f"{path} is not an SQLite database.")
    if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return DatabaseBusyError(f"{path} is locked by another process.")
    if primary == sqlite3.SQLITE_CORRUPT:
        return CorruptDatabaseError(f"{path} is damaged ({error}).")
    if primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH):
        parent = Path(path).absolute().parent
        why = f"the directory {parent} does not exist" if not parent.is_dir() else str(error)
        return UnwritableDatabaseError(f"{path} cannot be written: {why}.")
    return DatabaseError(f"{path}: {error}.")


def identity_of(path: str) -> tuple[int, int] | None:
    """Device and inode: asked of the name, because opening the file and closing it would drop SQLite's locks."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_busy(error: BaseException) -> bool:
    """True where the connection is as good as before: somebody else's lock, or no space right now."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL)


def _refuse_directories(path: str) -> None:
    if os.path.isdir(path):
        raise NotADatabaseError(f"{path} is a directory.")
