"""Failures of one error type, one by one: found through their groups, so that a rare type costs no more than others."""

import json
from typing import Final

from handspan.store.queries.buckets import Search
from handspan.store.queries.runs import Kind, RunFilter, RunKey, RunPage, below, runs_by_id
from handspan.store.queries.shapes import ALL_TIME, Window
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["error_types", "failed_with", "type_known"]

_SQL: Final = statements("queries/failed_with.sql")

EVERY_RUN: Final = RunFilter()


async def failed_with(
    db: DatabaseService,
    error_type: str,
    which: RunFilter = EVERY_RUN,
    window: Window = ALL_TIME,
    *,
    limit: int = 50,
    after: RunKey | None = None,
) -> RunPage:
    """Newest first. The type as it is stored, or with ``*`` and ``?``; a failure that an older handspan stored is found
    once it was grouped (:mod:`handspan.store.backfill`)."""
    found: list[tuple[Kind, int]] = []
    if which.status in (None, "error"):
        for kind in which.kinds():
            search = await Search.of(db, kind, which, window)
            params = {
                **window.params(),
                **below(kind, window, after),
                "type": error_type,
                "only": None if search.only is None else json.dumps(search.only),
                "session": which.session_id,
                "least_ms": which.at_least_ms,
                "limit": limit + 1,
            }
            found += [(kind, row["id"]) for row in await db.fetch_all(_SQL[f"{kind}_failed_with"], params)]
    rows = await runs_by_id(db, found)
    rows.sort(key=lambda run: (run.started_at, run.kind, run.id), reverse=True)
    page = rows[:limit]
    return RunPage(page, page[-1].key if len(rows) > limit and page else None)


async def type_known(db: DatabaseService, error_type: str) -> bool:
    """Whether anything ever failed so."""
    return bool((await db.fetch_one(_SQL["type_known"], {"type": error_type}))["known"])


async def error_types(db: DatabaseService, *, limit: int = 1000) -> list[str]:
    """Those there are, the newest first."""
    return [row["error_type"] for row in await db.fetch_all(_SQL["types"], {"limit": limit})]
