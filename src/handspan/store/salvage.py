"""Saving what can be read of a damaged file into a fresh one of the current schema.

Works on a copy: the damaged file is only read, and stays as it is. A header that is gone is replaced by that of a
fresh file of ours; then each table is read around its damage, what the new file refuses (a torn page may say
anything) is left out, and rows whose parents are gone get stand-ins.
"""

import math
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from handspan.errors import CorruptDatabaseError, HandspanError, MissingDatabaseError, UnwritableDatabaseError
from handspan.records import Orphan, Session
from handspan.store.around_damage import highest_id, readable, rows_in_index
from handspan.store.backfill import start_over
from handspan.store.connection import as_text, explained
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents
from handspan.store.sessions import SessionLife
from handspan.store.statements import statements

__all__ = ["Saved", "salvage"]

_SQL: Final = statements("sql/salvage.sql")

BUSY_TIMEOUT: Final = 5.0
BATCH: Final = 1_000
HEADER_BYTES: Final = 100
INTERIOR: Final = 5  # a page of a table that points to others
PAGE_BYTES: Final = 4096  # SQLite's default, which ours have
_MAGIC: Final = b"SQLite format 3\0"
_TABLES: Final = (
    "services",
    "sessions",
    "listeners",
    "scheduled_jobs",
    "tracebacks",
    "error_groups",
    "handler_invocations",
    "job_executions",
    "spans",
    "log_records",
    "losses",
    "incidents",
)
_COUNT_TABLES: Final = (
    "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name IN "
    "('handler_invocations', 'job_executions', 'sessions')"
)
_KEYED: Final = ("running", "rollups", "skips")  # WITHOUT ROWID: read up to the first damage
_REFUSED: Final = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError)
RECOVER_HINT: Final = 'SQLite\'s own shell reads files without a schema: see "Salvage" in docs/faults.md.'


@dataclass(frozen=True)
class Saved:
    """One table's outcome."""

    table: str
    rows: int
    missing: int | None
    """Rows an index knows of and that could not be saved; None where no index could be read either."""


def salvage(source: str, target: str) -> list[Saved]:
    """Raises a :class:`HandspanError` where nothing can be saved; then there is no ``target``."""
    if not os.path.isfile(source):
        raise MissingDatabaseError(f"There is no file at {source}.")
    if os.path.lexists(target):
        raise HandspanError(f"{target} exists already.", hint="Give another name; nothing was overwritten.")
    copy = f"{target}.salvaging"
    try:
        open_for_writing(target, busy_timeout=BUSY_TIMEOUT).close()
        like = Path(target).read_bytes()  # nobody has it open: no lock is lost by reading it
        _copy(source, copy, like)
        with closing(open_for_writing(target, busy_timeout=BUSY_TIMEOUT)) as into:
            into.execute("PRAGMA foreign_keys = OFF")
            with closing(_opened(copy, source, like)) as old:
                saved = [_save(old, into, table) for table in _TABLES]
                saved += [_save_keyed(old, into, table) for table in _KEYED]
                into.execute("PRAGMA foreign_keys = ON")  # nobody stands in for a lost group
                saved.append(_save_keyed(old, into, "error_group_hours"))
                into.execute("PRAGMA foreign_keys = OFF")
                _save_keyed(old, into, "backfills")
            if not any(each.rows for each in saved):
                raise CorruptDatabaseError(f"Nothing in {source} could be read.", hint=RECOVER_HINT)
            with explained(target):
                _mend(into, target)
    except BaseException as error:
        _remove(target)
        if isinstance(error, OSError):
            raise UnwritableDatabaseError(f"{target} cannot be written: {error.strerror}.") from error
        raise
    finally:
        _remove(copy)
    return saved


def _copy(source: str, copy: str, like: bytes) -> None:
    """The file and its log; as private as a backup. What the header must say for SQLite to read at all is put right:
    where it is no SQLite's it becomes a fresh file's, and a file that was cut off has the pages it has."""
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    shutil.copyfile(source, copy)
    if os.path.exists(f"{source}-wal"):
        shutil.copyfile(f"{source}-wal", f"{copy}-wal")
    with open(copy, "r+b") as file:
        header = bytearray(file.read(HEADER_BYTES))
        if not header.startswith(_MAGIC):
            header = bytearray(like[:HEADER_BYTES])
        _fit(header, os.stat(copy).st_size)
        file.seek(0)
        file.write(header)


def _fit(header: bytearray, octets: int) -> None:
    page_bytes = int.from_bytes(header[16:18], "big") or PAGE_BYTES
    header[28:32] = (octets // (65_536 if page_bytes == 1 else page_bytes)).to_bytes(4, "big")
    header[32:40] = bytes(8)  # no free pages: the list is not needed to read
    header[92:96] = header[24:28]  # the size above is of this very change


def _opened(copy: str, source: str, like: bytes) -> sqlite3.Connection:
    """With the log; else (the log may be what is torn) without it; else with the schema of a fresh file."""
    failure: sqlite3.Error | None = None
    for attempt in (_as_it_is, _without_log, _with_fresh_schema):
        attempt(copy, like)
        conn = sqlite3.connect(copy, isolation_level=None)
        conn.text_factory = as_text
        try:
            (tables,) = conn.execute(_COUNT_TABLES).fetchone()
        except sqlite3.Error as error:
            conn.close()
            failure = error
            continue
        if tables == 3:
            return conn
        conn.close()
        raise HandspanError(f"{source} is no handspan database.", hint="Nothing was made.")
    raise CorruptDatabaseError(f"The schema in {source} cannot be read ({failure}).", hint=RECOVER_HINT) from failure


def _as_it_is(_copy: str, _like: bytes) -> None: ...


def _without_log(copy: str, _like: bytes) -> None:
    Path(f"{copy}-wal").unlink(missing_ok=True)
    Path(f"{copy}-shm").unlink(missing_ok=True)


def _with_fresh_schema(copy: str, like: bytes) -> None:
    """A fresh file's first page, and behind the last page those it points to. Both files were made by the same
    statements in the same order, so the tables begin on the same pages."""
    page, behind = bytearray(like[:PAGE_BYTES]), b""
    pages = -(-os.stat(copy).st_size // PAGE_BYTES)
    if page[HEADER_BYTES] == INTERIOR:
        cells = int.from_bytes(page[HEADER_BYTES + 3 : HEADER_BYTES + 5], "big")
        array = range(HEADER_BYTES + 12, HEADER_BYTES + 12 + 2 * cells, 2)
        for at in (HEADER_BYTES + 8, *(int.from_bytes(page[cell : cell + 2], "big") for cell in array)):
            child = int.from_bytes(page[at : at + 4], "big")
            behind += like[(child - 1) * PAGE_BYTES : child * PAGE_BYTES]
            page[at : at + 4] = (pages + len(behind) // PAGE_BYTES).to_bytes(4, "big")
    _fit(page, pages * PAGE_BYTES + len(behind))
    with open(copy, "r+b") as file:
        file.write(page)
        file.seek(pages * PAGE_BYTES)
        file.write(behind)


def _save(old: sqlite3.Connection, into: sqlite3.Connection, table: str) -> Saved:
    columns = _shared_columns(old, into, table)
    if not columns:
        return Saved(table, 0, 0)  # the older schema has no such table
    names = ", ".join(name for name in columns if name != "id")
    insert = f"INSERT INTO {table} (id, {names}) VALUES ({', '.join('?' * len(columns))})"
    saved, rows = 0, readable(old, table, names, 1, highest_id(old, table))
    while batch := list(islice(rows, BATCH)):
        saved += _insert(into, insert, batch)
    expected = rows_in_index(old, table)
    return Saved(table, saved, None if expected is None else max(0, expected - saved))


def _save_keyed(old: sqlite3.Connection, into: sqlite3.Connection, table: str) -> Saved:
    columns = _shared_columns(old, into, table)
    if not columns:
        return Saved(table, 0, 0)
    insert = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
    rows: list[tuple[Any, ...]] = []
    with suppress(sqlite3.DatabaseError):
        rows.extend(old.execute(f"SELECT {', '.join(columns)} FROM {table}"))
    return Saved(table, _insert(into, insert, rows), None)


def _shared_columns(old: sqlite3.Connection, into: sqlite3.Connection, table: str) -> list[str]:
    """In the old file and in the new: an older schema's rows are saved as well."""
    new, before = (
        [str(name) for (name,) in conn.execute("SELECT name FROM pragma_table_info(?)", [table])]
        for conn in (into, old)
    )
    return [name for name in new if name in before]


def _insert(into: sqlite3.Connection, insert: str, rows: list[tuple[Any, ...]]) -> int:
    """How many the new file took."""
    into.execute("BEGIN IMMEDIATE")
    try:
        taken = sum(_taken(into, insert, row) for row in rows)
        into.execute("COMMIT")
    except BaseException:
        if into.in_transaction:
            into.execute("ROLLBACK")
        raise
    return taken


def _taken(into: sqlite3.Connection, insert: str, row: tuple[Any, ...]) -> bool:
    try:
        into.execute(insert, row)
    except _REFUSED:
        return False
    return True


def _mend(into: sqlite3.Connection, target: str) -> None:
    """Parents for all, and an end for sessions that had none."""
    into.execute("BEGIN IMMEDIATE")
    for statement in _SQL.values():
        into.execute(statement)
    for table, row_id in _orphans(into):
        into.execute(f"DELETE FROM {table} WHERE id = ?", [row_id])
    if not into.execute("SELECT EXISTS (SELECT 1 FROM rollups)").fetchone()[0]:
        start_over(into)
    into.execute("COMMIT")
    into.execute("PRAGMA foreign_keys = ON")
    SessionLife(into, Parents(into), target, Session("salvage", "")).bury_the_dead(_NoJournals(), math.inf)
    into.execute("PRAGMA optimize")


def _orphans(into: sqlite3.Connection) -> Iterator[tuple[str, int]]:
    """None after the stand-ins, unless a torn row points nowhere at all."""
    for table, row_id, _, _ in into.execute("PRAGMA foreign_key_check").fetchall():
        if row_id is not None:
            yield table, row_id


def _remove(path: str) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        Path(path + suffix).unlink(missing_ok=True)


class _NoJournals:
    """Beside a new file lie none; those of the old one belong to whoever starts on its name."""

    def instances(self) -> set[str]:
        return set()

    def orphan(self, instance_id: str) -> Orphan:
        raise KeyError(instance_id)

    def forget(self, instance_id: str) -> None: ...

    def set_aside(self, instance_id: str) -> None: ...
