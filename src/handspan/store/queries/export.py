"""Whole tables as a stream: stretches of ids, each read in one statement and given away before the next.

Consistent within a stretch; over the whole, every row that was there from the beginning to the end of the export is in
it once, what was stored after the beginning is not, and what retention deleted meanwhile may or may not be. A longer
transaction would be one snapshot, and would keep the writer's log from being cut for as long as it takes.
"""

import sqlite3
from collections.abc import AsyncIterator
from typing import Any, Final, Literal, get_args

from handspan.store.queries.runs import RunFilter
from handspan.store.queries.shapes import ALL_TIME, Window
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["KINDS", "ExportKind", "export"]

_SQL: Final = statements("queries/export.sql")

ExportKind = Literal["runs", "handlers", "jobs", "spans", "logs", "errors", "losses"]
KINDS: Final[tuple[ExportKind, ...]] = get_args(ExportKind)

STRETCH: Final = 2_000  # rows; about 2 MB of Python, and a few milliseconds of reading
DEADLINE: Final = 60.0  # seconds for one: a slow disk is no reason to break off


async def export(
    db: DatabaseService, kind: ExportKind, which: RunFilter | None = None, window: Window = ALL_TIME
) -> AsyncIterator[list[sqlite3.Row]]:
    """Rows of one kind, stretch by stretch. Of a filter, the app and the status count; runs are handlers, then jobs."""
    which = which or RunFilter()
    params = {**window.params(), "app": which.app, "status": which.status}
    parts = (
        [("handlers", "rows_runs_handlers"), ("jobs", "rows_runs_jobs")] if kind == "runs" else [(kind, f"rows_{kind}")]
    )
    reaches = {table: await _reach(db, table, params, window) for table, _ in parts}
    for table, statement in parts:
        after, top = reaches[table]
        while after < top:
            end = await _end(db, table, after, top)
            rows = await db.fetch_all(_SQL[statement], params | {"after": after, "end": end}, deadline=DEADLINE)
            if rows:
                yield rows
            after = end


async def _reach(db: DatabaseService, table: str, params: dict[str, Any], window: Window) -> tuple[int, int]:
    """Below the first id, and the last one: of what there is now, or where an index tells, of the time asked for."""
    if table in ("handlers", "jobs") and (window != ALL_TIME or params["app"] is not None):
        row = (await db.fetch_all(_SQL[f"reach_{table}"], params, deadline=DEADLINE))[0]
        return (-1, -1) if row["low"] is None else (row["low"] - 1, row["high"])
    top = (await db.fetch_one(_SQL[f"top_{table}"]))["id"]
    return (-1, -1) if top is None else (-1, top)


async def _end(db: DatabaseService, table: str, after: int, top: int) -> int:
    params = {"after": after, "top": top, "rows": STRETCH - 1}
    found = await db.fetch_all(_SQL[f"end_{table}"], params, deadline=DEADLINE)
    end: int = found[0]["id"] if found else top
    return end
