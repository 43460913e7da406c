"""What failed: grouped by registration and error type, and one by one."""

from dataclasses import dataclass
from typing import Final

from whenever import Instant

from handspan.store.queries.runs import Kind, RunFilter, RunRow, list_runs
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["ErrorGroup", "FailureCounts", "error_groups", "failure_counts", "recent_errors"]

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
    """Reads each failure's row in the window."""
    counts = {"handler": dict[str, int](), "job": dict[str, int]()}
    for row in await db.fetch_all(_SQL["failure_counts"], window.params()):
        of_kind = counts[row["kind"]]
        names = ["cancelled"] if row["status"] == "cancelled" else ["errors", *_SPECIAL.get(row["error_type"], ())]
        for name in names:
            of_kind[name] = of_kind.get(name, 0) + row["count"]
    return {"handler": FailureCounts(**counts["handler"]), "job": FailureCounts(**counts["job"])}


_SPECIAL: Final = {
    "DependencyError": ("dependency_failures",),
    "TimeoutError": ("timeouts",),
    "ProcessInterrupted": ("interrupted",),
}
