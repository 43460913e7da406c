"""One registration's window added up, from whole buckets of rollups.

The window goes outward to whole minutes (whole hours past a day and a third, whole days past three months): ``since``
and ``until`` say what was really added up.
"""

from dataclasses import dataclass
from typing import Final

from whenever import Instant

from handspan.clock import instant_from_ns, to_ns
from handspan.store.queries.grid import DAY, HOUR, MINUTE, MOST_POINTS, Grid, grid_of
from handspan.store.queries.merging import Merged, bound_ms, merge_rows
from handspan.store.queries.runs import Kind
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["Latency", "Tally", "before", "tally"]

_SQL: Final = statements("queries/series.sql")

PERCENTILES: Final = (0.5, 0.95, 0.99)
HOURS_FOR: Final = 90 * DAY  # as long as rollups by the hour are kept


@dataclass(frozen=True)
class Latency:
    """Runs by bucket of duration: bucket ``i`` holds durations above ``bounds_ms[i]``, up to the next bound."""

    bounds_ms: list[float]
    runs: list[int]


@dataclass(frozen=True)
class Tally:
    """What ran from ``since`` (inclusive) to ``until`` (exclusive)."""

    since: Instant
    until: Instant
    runs: int
    errors: int
    """The next three are among them."""
    dependency_failures: int
    timeouts: int
    interrupted: int
    cancelled: int
    late: int
    """Jobs that started more than five seconds after they were due."""
    max_delay_ms: float | None
    total_ms: float
    avg_ms: float | None
    min_ms: float | None
    max_ms: float | None
    p50_ms: float | None
    """Percentiles are within 5 %."""
    p95_ms: float | None
    p99_ms: float | None
    latency: Latency


async def tally(db: DatabaseService, kind: Kind, registration_id: int, window: Window, at: Instant) -> Tally:
    """Point seeks: 2,000 at most."""
    grid = await grid_of(db, window, at, points=MOST_POINTS, step=_step(window, at))
    params = {**grid.buckets(), "kind": kind, "id": registration_id}
    rows = await db.fetch_all(_SQL["registration"], params)
    merged = merge_rows((0, row) for row in rows).get(0, Merged())
    delays = [row["max_delay_ns"] for row in rows if row["max_delay_ns"] is not None]
    total_ns = sum(row["sum_ns"] for row in rows)
    p50, p95, p99 = merged.percentiles_ms(*PERCENTILES)
    counted = ("errors", "dependency_failures", "timeouts", "interrupted", "cancelled", "late")
    return Tally(
        since=instant(grid.start), until=_end(grid, window, at), runs=merged.runs,
        **{name: sum(row[name] for row in rows) for name in counted},
        max_delay_ms=max(delays) / 1e6 if delays else None, total_ms=total_ns / 1e6,
        avg_ms=total_ns / merged.runs / 1e6 if merged.runs else None,
        min_ms=merged.min_ns / 1e6 if merged.runs else None, max_ms=merged.max_ns / 1e6 if merged.runs else None,
        p50_ms=p50, p95_ms=p95, p99_ms=p99, latency=_latency(merged),
    )  # fmt: skip


def before(found: Tally) -> Window:
    """As long, and right before it."""
    since, until = to_ns(found.since), to_ns(found.until)
    return Window(instant_from_ns(max(0, 2 * since - until)), found.since)


def _step(window: Window, at: Instant) -> int:
    if window.since is None:
        return DAY
    length = (to_ns(window.until or at) - to_ns(window.since)) / 1e9
    return MINUTE if length <= (MOST_POINTS - 1) * MINUTE else HOUR if length <= HOURS_FOR else DAY


def _end(grid: Grid, window: Window, at: Instant) -> Instant:
    """What is still to come is not in it."""
    return min(instant(grid.end), max(at, window.since or at))


def _latency(merged: Merged) -> Latency:
    histogram = merged.histogram
    if not histogram:
        return Latency([], [])
    buckets = range(min(histogram), max(histogram) + 1)
    bounds = [bound_ms(bucket) for bucket in range(buckets.start, buckets.stop + 1)]
    return Latency(bounds, [histogram[bucket] for bucket in buckets])
