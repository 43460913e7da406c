"""What nothing points to any more: error groups, tracebacks, registrations, old losses, sessions, services.

Each is found in stretches of ids outside the write lock, and asked about again where it is deleted.

No index knows sessions, and foreign keys would make SQLite read the run tables through once for each one deleted. So
sessions go by the thousand: one pass over the rows, a stretch at a time, tells which are really unused.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from handspan.store.doomed import DAY, HOUR, Doomed, for_kind
from handspan.store.statements import statements

__all__ = ["KEEP_INCIDENTS", "ROLLUP_DAYS", "SESSIONS_WORTH", "Keep", "leftovers"]

_SQL: Final = statements("sql/leftovers.sql")
SESSION_DAYS: Final = 30.0  # after its end, at least, also if nothing of it is left
ROLLUP_DAYS: Final = (90.0, 365.0)  # hours and days; minutes go with the runs
LEDGER_DAYS: Final = 365.0  # after its session's end
GROUP_DAYS: Final = 365.0  # an error group, after it was last seen
GROUP_HOUR_DAYS: Final = 90.0  # its trend
SKIP_DAYS: Final = 365.0  # as the days of rollups, beside which they are shown
SESSIONS_WORTH: Final = 1000  # about 300 kB
KEEP_INCIDENTS: Final = 2_000
SESSIONS_AT_ONCE: Final = 5000
STRETCH: Final = 10_000
_ROWS: Final = ("handler_invocations", "job_executions", "spans", "log_records")


@dataclass(frozen=True)
class Keep:
    """Since when each is kept."""

    registrations: float
    sessions: float
    ledger: float
    rollups: dict[int, float]
    """By resolution; whole buckets of the next coarser one, so that a window changes over at its beginning."""
    groups: float
    group_hours: float
    skips: float

    @classmethod
    def at(cls, now: float, days: float, rollup_days: tuple[float, float] = ROLLUP_DAYS) -> "Keep":
        runs = now - days * DAY
        hours, a_day = (now - max(days, each) * DAY for each in rollup_days)
        return cls(
            runs, min(runs, now - SESSION_DAYS * DAY), min(runs - SESSION_DAYS * DAY, now - LEDGER_DAYS * DAY),
            {60: runs // HOUR * HOUR, HOUR: hours // DAY * DAY, DAY: a_day // DAY * DAY},
            min(runs, now - GROUP_DAYS * DAY), now - max(days, GROUP_HOUR_DAYS) * DAY,
            now - max(days, SKIP_DAYS) * DAY,
        )  # fmt: skip


def leftovers(conn: sqlite3.Connection, doomed: Doomed, keep: Keep, sessions_worth: int) -> Iterator[None]:
    for resolution, before in keep.rollups.items():
        yield from _rollups(conn, doomed, resolution, before)
    yield from _skips(conn, doomed, keep.skips)
    yield from _group_hours(conn, doomed, keep.group_hours)
    yield from _groups(conn, doomed, {"before": keep.groups, "nameless": keep.registrations})
    yield from _stretch_by_stretch(conn, doomed, "tracebacks", "traceback", {})
    for kind, table in (("handler", "listener"), ("job", "scheduled_job")):
        yield from _stretch_by_stretch(conn, doomed, "listeners", table, {"before": keep.registrations}, kind)
    yield from _stretch_by_stretch(conn, doomed, "losses", "loss", {"long_ago": keep.ledger})
    yield from _stretch_by_stretch(conn, doomed, "incidents", "incident", {"keep": KEEP_INCIDENTS})
    yield from _sessions(conn, doomed, keep, sessions_worth)
    doomed.choose(_SQL["find_services"], {})
    doomed.delete("service", _SQL["delete_services"], {})


def _stretch_by_stretch(
    conn: sqlite3.Connection, doomed: Doomed, name: str, kind: str, values: dict[str, Any], of: str = "handler"
) -> Iterator[None]:
    delete = for_kind(_SQL[f"delete_{name}"], of)
    for _ in _chosen(conn, doomed, name, values, of):
        doomed.delete(kind, delete, values)
        yield


def _groups(conn: sqlite3.Connection, doomed: Doomed, values: dict[str, Any]) -> Iterator[None]:
    before = (_SQL["spare_error_groups"], _SQL["delete_hours_of_groups"])
    for _ in _chosen(conn, doomed, "error_groups", values):
        with _without_foreign_keys(conn):
            doomed.delete("error_group", _SQL["delete_error_groups"], values, before=before)
        yield


def _chosen(
    conn: sqlite3.Connection, doomed: Doomed, name: str, values: dict[str, Any], of: str = "handler"
) -> Iterator[None]:
    """A stretch of ids at a time."""
    row, edge = 0, 0
    window = for_kind(f"SELECT id FROM {name} WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?", of)
    while True:
        found = conn.execute(window, (row, doomed.room - 1)).fetchone()
        edge = found[0] if found else 2**63 - 1
        doomed.choose(for_kind(_SQL[f"find_{name}"], of), {**values, "row": row, "last_row": edge})
        yield
        if found is None:
            return
        row = edge


def _rollups(conn: sqlite3.Connection, doomed: Doomed, resolution: int, before: float) -> Iterator[None]:
    """Straight from the beginning of the table's key."""
    while not doomed.dry:
        values = {"resolution": resolution, "before": before, "room": doomed.room}
        (edge,) = conn.execute(_SQL["rollups_edge"], values).fetchone()
        if edge is None:
            return
        with doomed.batch(doomed.room):
            conn.execute(_SQL["delete_rollups"], values | {"edge": edge})
        yield


def _skips(conn: sqlite3.Connection, doomed: Doomed, before: float) -> Iterator[None]:
    """Likewise."""
    while not doomed.dry:
        (edge,) = conn.execute(_SQL["skips_edge"], {"before": before, "room": doomed.room}).fetchone()
        if edge is None:
            return
        with doomed.batch(doomed.room):
            conn.execute(_SQL["delete_skips"], {"before": before, "edge": edge})
        yield


def _group_hours(conn: sqlite3.Connection, doomed: Doomed, before: float) -> Iterator[None]:
    """Likewise; whole hours, of which each has a row of a group at most."""
    while not doomed.dry:
        (edge,) = conn.execute(_SQL["group_hours_edge"], {"before": before, "room": doomed.room}).fetchone()
        if edge is None:
            return
        with doomed.batch(doomed.room):
            conn.execute(_SQL["delete_group_hours"], {"edge": edge})
        yield


@contextmanager
def _without_foreign_keys(conn: sqlite3.Connection) -> Iterator[None]:
    """Around one deletion whose own conditions keep them: no index knows sessions or the hours of a group, and SQLite
    would read whole tables for each row that goes. Only outside a transaction, and never over a yield."""
    conn.execute("PRAGMA foreign_keys = OFF")
    try:
        yield
    finally:
        conn.execute("PRAGMA foreign_keys = ON")


def _sessions(conn: sqlite3.Connection, doomed: Doomed, keep: Keep, worth: int) -> Iterator[None]:
    values: dict[str, float] = {"some_time_ago": keep.sessions}
    doomed.choose(_SQL["find_sessions"], values | {"room": max(worth, SESSIONS_AT_ONCE)})
    if _found(conn) < worth:
        conn.execute(_SQL["spare_sessions"])
        doomed.clear()
        return
    for table in _ROWS:
        row = 0
        # Rows that come while this looks are looked for again, in the lock.
        (values[table],) = conn.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()
        while True:
            window = f"SELECT id FROM {table} WHERE id > ? ORDER BY id LIMIT 1 OFFSET ?"
            found = conn.execute(window, (row, STRETCH - 1)).fetchone()
            edge = found[0] if found else 2**63 - 1
            conn.execute(_SQL["spare_sessions_of"].format(table=table), {"row": row, "last_row": edge})
            yield
            if found is None:
                break
            row = edge
    if not _found(conn):
        doomed.clear()
        return
    with _without_foreign_keys(conn):
        doomed.delete("session", _SQL["delete_sessions"], values)


def _found(conn: sqlite3.Connection) -> int:
    (count,) = conn.execute(_SQL["count_sessions"]).fetchone()
    return int(count)
