"""Somebody's own SQL over the file: read-only by construction, and bounded.

What keeps the file safe: the connection is opened ``mode=ro`` and is ``query_only``; an authorizer, which SQLite asks
while it compiles a statement, lets nothing through but reading, functions and the PRAGMAs that tell. What keeps the
machine safe: a deadline, a bound on values, on memory (sorting does not spill to disk), and rows are read one by one up
to a limit. A function at work on one large value (``instr`` is quadratic) looks at no deadline and hears no Ctrl-C: so
the statement runs on a thread of its own, which is left behind then.
"""

import sqlite3
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Final

from handspan.errors import DatabaseError, QueryTimeoutError
from handspan.store.connection import as_text, explained
from handspan.store.reader import ReadingConnection
from handspan.store.reading import fingerprint, open_quietly, open_reader

__all__ = ["Answer", "query"]

LARGEST_VALUE: Final = 16 * 1024 * 1024  # bytes of one value, and of a row
LARGEST_SQL: Final = 1024 * 1024
LARGEST_PATTERN: Final = 1_000  # of LIKE and GLOB: matching is quadratic in it at worst, and asks no deadline
GRACE: Final = 0.5  # seconds past the deadline for a statement to end by itself
MEMORY: Final = 512 * 1024 * 1024  # of SQLite in this process
MEMORY_HINT: Final = "Ask for less at a time: fewer rows to sort or to group, smaller values."
READ_ONLY_HINT: Final = "`handspan sql` only reads; the views are listed by `handspan sql --schema`."

TELLING: Final = frozenset(
    {
        "application_id", "collation_list", "compile_options", "database_list", "encoding", "foreign_key_list",
        "freelist_count", "function_list", "index_info", "index_list", "index_xinfo", "page_count", "page_size",
        "schema_version", "table_info", "table_list", "table_xinfo", "user_version",
    }
)  # fmt: skip
"""PRAGMAs that only tell. Some take a name; none of these takes a value that changes anything, but for the last."""

SETTABLE: Final = frozenset({"application_id", "encoding", "schema_version", "user_version"})
FORBIDDEN_FUNCTIONS: Final = frozenset({"load_extension", "fts3_tokenizer", "readfile", "writefile", "edit"})


@dataclass(frozen=True)
class Answer:
    """What a statement gave: values as SQLite has them (bytes are BLOBs)."""

    columns: list[str]
    rows: list[tuple[Any, ...]]
    more: bool


def query(path: str, sql: str, *, limit: int, timeout: float) -> Answer:
    """The first ``limit`` rows of one statement. Raises :class:`DatabaseError`, which says what was wrong.

    For a process that does nothing else: SQLite's bound on memory is the whole process's, and stays.
    """
    answers: list[Answer] = []
    failures: list[BaseException] = []

    def ask() -> None:
        try:
            answers.append(_query(path, sql, limit, timeout))
        except BaseException as error:  # noqa: BLE001 - raised again below, on the caller's thread
            failures.append(error)

    thread = threading.Thread(target=ask, name="handspan-sql", daemon=True)
    thread.start()
    thread.join(timeout + GRACE)
    if failures:
        raise failures[0]
    if not answers:
        raise _too_slow(timeout)
    return answers[0]


def _query(path: str, sql: str, limit: int, timeout: float) -> Answer:
    ends = time.monotonic() + timeout
    opened = open_quietly(path)
    with closing(opened.conn) as conn:
        answer = _ask(conn, path, sql, limit, ends, timeout)
        if opened.unlocked is None or opened.unlocked == fingerprint(path):
            return answer
    with closing(open_reader(path)) as conn:  # somebody began to write meanwhile: once more, with locks
        return _ask(conn, path, sql, limit, ends, timeout)


def _ask(conn: ReadingConnection, path: str, sql: str, limit: int, ends: float, timeout: float) -> Answer:
    conn.execute("PRAGMA temp_store = MEMORY")
    conn.execute(f"PRAGMA hard_heap_limit = {MEMORY}")
    conn.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, LARGEST_VALUE)
    conn.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, LARGEST_SQL)
    conn.setlimit(sqlite3.SQLITE_LIMIT_LIKE_PATTERN_LENGTH, LARGEST_PATTERN)
    conn.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    conn.text_factory = as_text
    conn.row_factory = None
    conn.asks = lambda: time.monotonic() >= ends
    conn.set_authorizer(_authorize)
    # Not the connection's own execute, which reads every row at once.
    with closing(sqlite3.Cursor(conn)) as cursor:
        try:
            cursor.execute(sql)
            if cursor.description is None:
                raise DatabaseError("There is no statement in it.", hint="Give one SELECT.")
            rows: list[tuple[Any, ...]] = []
            while len(rows) <= limit and (row := cursor.fetchone()) is not None:
                rows.append(row)
            columns = [column[0] for column in cursor.description]
        except MemoryError:
            raise DatabaseError("The statement needs too much memory.", hint=MEMORY_HINT) from None
        except (sqlite3.Error, sqlite3.Warning) as error:
            raise _explained(error, path, ends, timeout) from error
    return Answer(columns, rows[:limit], len(rows) > limit)


def _explained(error: Exception, path: str, ends: float, timeout: float) -> DatabaseError:
    code = getattr(error, "sqlite_errorcode", 0) or 0
    if code == sqlite3.SQLITE_INTERRUPT and time.monotonic() >= ends:
        return _too_slow(timeout)
    if code in (sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY):
        return DatabaseError(f"That is not allowed: {error}.", hint=READ_ONLY_HINT)
    if code == sqlite3.SQLITE_TOOBIG:
        return DatabaseError(f"A value is larger than {LARGEST_VALUE // 2**20} MB.", hint=MEMORY_HINT)
    if "one statement at a time" in str(error):
        return DatabaseError("One statement at a time, please.", hint="Nothing of it was run.")
    if code & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_BUSY, sqlite3.SQLITE_IOERR):
        try:
            with explained(path):
                raise error
        except DatabaseError as ours:
            return ours
    return DatabaseError(f"SQLite says: {error}.", hint="`handspan sql --schema` lists the views and their columns.")


def _too_slow(timeout: float) -> QueryTimeoutError:
    return QueryTimeoutError(f"The statement took longer than {timeout:g} s and was stopped.")


def _authorize(action: int, first: str | None, second: str | None, database: str | None, within: str | None) -> int:
    del database, within
    if action in (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_RECURSIVE):
        return sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_FUNCTION:
        return sqlite3.SQLITE_DENY if (second or "").lower() in FORBIDDEN_FUNCTIONS else sqlite3.SQLITE_OK
    if action == sqlite3.SQLITE_PRAGMA and (first or "").lower() in TELLING:
        return sqlite3.SQLITE_DENY if second is not None and (first or "").lower() in SETTABLE else sqlite3.SQLITE_OK
    return sqlite3.SQLITE_DENY
