"""Reading a damaged table: every row that can be read, around those that cannot.

SQLite stops at the first page it cannot make sense of. A seek to a row beyond that page works again, so the
table is walked by row id, and a hole is crossed in steps smaller than what a page usually holds.
"""

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["highest_id", "readable", "rows_in_index"]

STEP: Final = 8  # ids; a page of 4 KB holds 30 to 60 runs
ROWS_A_PAGE: Final = 200  # more than any page holds: bounds the ids where nothing else tells


def readable(conn: sqlite3.Connection, table: str, columns: str, low: int, high: int) -> Iterator[tuple[Any, ...]]:
    """``(id, *columns)`` of the rows with ``low <= id <= high``, in order. Raises only an interrupt."""
    at = low
    rows = f"SELECT id, {columns} FROM {table} NOT INDEXED WHERE id BETWEEN ? AND ? ORDER BY id"
    while at <= high:
        try:
            for row in conn.execute(rows, (at, high)):
                if at <= row[0] <= high:  # a torn page may say anything
                    at = row[0] + 1
                    yield tuple(row)
        except sqlite3.DatabaseError as error:
            _raise_interrupt(error)
            # Python's sqlite3 looks one row ahead, and keeps back the one it has when that fails.
            kept_back = _first(conn, rows, at, high)
            if kept_back and at <= kept_back[0][0] <= high:
                at = kept_back[0][0] + 1
                yield tuple(kept_back[0])
            else:
                at = _past_the_hole(conn, rows, at, high)
        else:
            return


def highest_id(conn: sqlite3.Connection, table: str) -> int:
    """The table's last row id; from an index where the table's own end cannot be read; else a bound."""
    for source in ("NOT INDEXED", *_indexes(conn, table)):
        found = _one(conn, f"SELECT max(id) FROM {table} {source}")
        if found is not None:
            return int(found[0] or 0)
    pages = _one(conn, "PRAGMA page_count")
    return 0 if pages is None else int(pages[0]) * ROWS_A_PAGE


def rows_in_index(conn: sqlite3.Connection, table: str) -> int | None:
    """How many rows the table should have, by an index of it that can be read."""
    for source in _indexes(conn, table):
        found = _one(conn, f"SELECT count(*) FROM {table} {source}")
        if found is not None:
            return int(found[0])
    return None


def _indexes(conn: sqlite3.Connection, table: str) -> list[str]:
    """Those that have every row."""
    found: list[Any] = conn.execute(
        "SELECT name FROM pragma_index_list(?) WHERE NOT partial ORDER BY name DESC", [table]
    ).fetchall()
    return [f'INDEXED BY "{name}"' for (name,) in found]


def _past_the_hole(conn: sqlite3.Connection, rows: str, at: int, high: int) -> int:
    """The next id from which reading works; past ``high`` if none does. ``at`` itself does not."""
    while at < high:
        probe = min(at + STEP, high)
        if _first(conn, rows, probe, high) is not None:
            while probe - 1 > at and _first(conn, rows, probe - 1, high) is not None:
                probe -= 1
            return probe
        at = probe
    return high + 1


def _first(conn: sqlite3.Connection, rows: str, low: int, high: int) -> list[tuple[Any, ...]] | None:
    """The first row, if there is one; None where it cannot be read."""
    try:
        return conn.execute(f"{rows} LIMIT 1", (low, high)).fetchall()
    except sqlite3.DatabaseError as error:
        _raise_interrupt(error)
        return None


def _one(conn: sqlite3.Connection, sql: str) -> Any:
    try:
        return conn.execute(sql).fetchone()
    except sqlite3.DatabaseError as error:
        _raise_interrupt(error)
        return None


def _raise_interrupt(error: sqlite3.DatabaseError) -> None:
    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_INTERRUPT:
        raise error
