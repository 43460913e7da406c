"""What failed: grouped by registration and error type, and one by one."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Final

from whenever import Instant

from handspan.store.queries.figures import NOTHING, Figures, Key, figures
from handspan.store.queries.runs import KINDS, Kind, RunFilter, RunRow, list_runs
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["ErrorGroup", "FailureCounts", "added_up", "error_groups", "failure_counts", "recent_errors"]

_SQL: Final = statements("queries/failures.sql")


@dataclass(frozen=True)
class ErrorGroup:
    """One error type of one registration in the window."""

    kind: Kind
    registration_id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    error_type: str | None
    error_message: str | None
    """The newest one's."""
    count: int
    last_seen_at: Instant


@dataclass(frozen=True)
class FailureCounts:
    """Runs of one kind that did not succeed. ``errors`` includes the three after it."""

    errors: int = 0
    dependency_failures: int = 0
    timeouts: int = 0
    interrupted: int = 0
    cancelled: int = 0


async def error_groups(db: DatabaseService, window: Window, *, limit: int = 50) -> list[ErrorGroup]:
    """Most recent first. Reads each error's row in the window."""
    rows = [dict(row) for row in await db.fetch_all(_SQL["error_groups"], {**window.params(), "limit": limit})]
    return [ErrorGroup(last_seen_at=instant(row.pop("last_ts")), **row) for row in rows]


async def recent_errors(db: DatabaseService, window: Window, *, limit: int = 50) -> list[RunRow]:
    """Newest first."""
    return (await list_runs(db, RunFilter(status="error"), window, limit=limit)).runs


async def failure_counts(db: DatabaseService, window: Window) -> dict[Kind, FailureCounts]:
    """Of all handlers, and of all jobs."""
    found = await figures(db, window, by=["kind"], percentiles=False)
    return {kind: added_up([found.get(Key(kind), NOTHING)]) for kind in KINDS}


def added_up(found: Iterable[Figures]) -> FailureCounts:
    """What of those runs did not succeed."""
    names = [field.name for field in fields(FailureCounts)]
    each_of = [tuple(getattr(each, name) for name in names) for each in found]
    return FailureCounts(*map(sum, zip(*each_of, strict=True)))
