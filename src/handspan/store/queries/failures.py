"""What failed: counted, and one by one."""

from collections.abc import Iterable
from dataclasses import dataclass, fields

from handspan.store.queries.figures import NOTHING, Figures, Key, figures
from handspan.store.queries.runs import KINDS, Kind, RunFilter, RunRow, list_runs
from handspan.store.queries.shapes import Window
from handspan.store.service import DatabaseService

__all__ = ["FailureCounts", "added_up", "failure_counts", "recent_errors"]


@dataclass(frozen=True)
class FailureCounts:
    """Runs of one kind that did not succeed. ``errors`` includes the three after it."""

    errors: int = 0
    dependency_failures: int = 0
    timeouts: int = 0
    interrupted: int = 0
    cancelled: int = 0


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
