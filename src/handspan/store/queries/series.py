"""What ran over time: of everything, of one app, of one registration, or of each of them (the roll).

Points are aligned to multiples of their step, in UTC, so the first and the last may reach beyond the window. A point in
which nothing ran is zero if a session lived in it, and not recorded if none did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from whenever import Instant

from handspan.store.histogram import Histogram, bound_ms
from handspan.store.queries.grid import DAY, HOUR, Grid, grid_of
from handspan.store.queries.merging import Merged, merge
from handspan.store.queries.runs import Kind
from handspan.store.queries.shapes import Window, instant
from handspan.store.queries.timeline import Timeline, timeline
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["Heatmap", "Point", "Roll", "RollRow", "Series", "heatmap", "registration_series", "roll", "total_series"]

_SQL: Final = statements("queries/series.sql")

FINE_ENOUGH: Final = 3 * HOUR  # of minutes' histograms over all registrations: 10,000 of them, 20 ms
HOURLY: Final = 8 * DAY  # likewise of hours'
JOB_BIT: Final = 1 << 32
POINT_SHIFT: Final = 33


@dataclass(frozen=True)
class Point:
    """What started between ``started_at`` and a step later."""

    started_at: Instant
    recorded: bool
    """False: no session lived, so nothing is known. Never with runs."""
    runs: int = 0
    errors: int = 0
    cancelled: int = 0
    p50_ms: float | None = None
    p95_ms: float | None = None
    p99_ms: float | None = None
    max_ms: float | None = None


@dataclass(frozen=True)
class Series:
    """Points, oldest first, and what lies under their axis."""

    step_s: int
    resolution_s: int
    """Of the rollups they come from."""
    latency_step_s: int
    """Percentiles are of this much time: over all registrations, long windows have them by the hour."""
    points: list[Point]
    timeline: Timeline


@dataclass(frozen=True)
class Heatmap:
    """One registration's durations over time: for each point, runs by bucket of duration."""

    step_s: int
    started_at: list[Instant]
    recorded: list[bool]
    bounds_ms: list[float]
    """One more than there are buckets: bucket ``i`` holds durations above ``bounds_ms[i]``, up to the next."""
    runs: list[list[int]]
    """By point, then by bucket."""


@dataclass(frozen=True)
class RollRow:
    """One registration over the roll's points."""

    kind: Kind
    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    first_registered_at: Instant
    retired_at: Instant | None
    recorded: list[bool]
    runs: list[int]
    errors: list[int]
    cancelled: list[int]
    total_runs: int
    total_errors: int
    p50_ms: float | None
    """Of all the roll's time, in whole hours if that is long; None also where it was not asked for."""
    p95_ms: float | None


@dataclass(frozen=True)
class Roll:
    """Every registration over one shared axis."""

    grid: Grid
    rows: list[RollRow]
    forgotten: int
    """Registrations that ran and have been pruned since: nobody knows their names any more."""
    timeline: Timeline


async def total_series(
    db: DatabaseService,
    window: Window,
    at: Instant,
    *,
    app: str | None = None,
    points: int = 288,
    step: int | None = None,
) -> Series:
    """Of everything, or of one app."""
    grid = await grid_of(db, window, at, points=points, step=step)
    under = await timeline(db, grid, at)
    name = "counts" if app is None else "counts_of_app"
    counted = [_Count() for _ in range(grid.count)]
    for row in await db.fetch_all(_SQL[name], {**grid.buckets(), "app": app}):
        counted[grid.point_of(row["bucket_start"])].add(row["runs"], row["errors"], row["cancelled"], row["max_ns"])
    coarse = await _coarser(db, grid, at)
    rows = await db.fetch_all(_SQL["latencies"], {**coarse.buckets(), "app": app})
    latencies = {
        place: merged.percentiles_ms()
        for place, merged in merge((coarse.point_of(row["bucket_start"]), row) for row in rows).items()
    }
    recorded = under.recorded(grid, None if app is None else await _services(db, app))
    found = []
    for place, count in enumerate(counted):
        start = grid.start + place * grid.step
        found.append(_point(start, recorded[place], count, latencies.get(coarse.point_of(start))))
    return Series(grid.step, grid.resolution, coarse.step, found, under)


async def registration_series(
    db: DatabaseService, kind: Kind, registration_id: int, window: Window, at: Instant, *, points: int = 288,
    step: int | None = None,
) -> Series:  # fmt: skip
    """Of one handler or job."""
    grid = await grid_of(db, window, at, points=points, step=step)
    under = await timeline(db, grid, at)
    counted, merged = await _one(db, grid, kind, registration_id)
    recorded = under.recorded(grid, await _service(db, kind, registration_id))
    found = [
        _point(
            grid.start + place * grid.step,
            recorded[place],
            count,
            merged[place].percentiles_ms() if place in merged else None,
        )
        for place, count in enumerate(counted)
    ]
    return Series(grid.step, grid.resolution, grid.step, found, under)


async def heatmap(
    db: DatabaseService, kind: Kind, registration_id: int, window: Window, at: Instant, *, points: int = 288
) -> Heatmap:
    """Of one handler or job: the buckets from its shortest run to its longest, without holes."""
    grid = await grid_of(db, window, at, points=points)
    counted, merged = await _one(db, grid, kind, registration_id)
    recorded = (await timeline(db, grid, at)).recorded(grid, await _service(db, kind, registration_id))
    histograms = [merged[place].histogram if place in merged else Histogram() for place in range(grid.count)]
    seen = [bucket for histogram in histograms for bucket in histogram]
    buckets = range(min(seen), max(seen) + 1) if seen else range(0)
    return Heatmap(
        step_s=grid.step,
        started_at=[instant(grid.start + place * grid.step) for place in range(grid.count)],
        recorded=[known or count.runs > 0 for known, count in zip(recorded, counted, strict=True)],
        bounds_ms=[bound_ms(bucket) for bucket in range(buckets.start, buckets.stop + 1)] if seen else [],
        runs=[[histogram[bucket] for bucket in buckets] for histogram in histograms],
    )


async def roll(
    db: DatabaseService,
    window: Window,
    at: Instant,
    *,
    app: str | None = None,
    points: int = 48,
    step: int | None = None,
    percentiles: bool = True,
) -> Roll:
    """Of each handler and job that was there in the window, in the order of their names. Without percentiles it takes
    half the time."""
    grid = await grid_of(db, window, at, points=points, step=step)
    under = await timeline(db, grid, at)
    cells: dict[tuple[int, int], list[tuple[int, int, int, int]]] = {}
    for cell, runs, errors, cancelled in await db.fetch_all(_SQL["roll"], grid.buckets()):
        key = cell & (JOB_BIT - 1), cell & JOB_BIT
        cells.setdefault(key, []).append((cell >> POINT_SHIFT, runs, errors, cancelled))
    coarse = await _coarser(db, grid, at)
    histograms = await db.fetch_all(_SQL["roll_latencies"], coarse.buckets()) if percentiles else []
    merged = merge(((row["kind"], row["registration_id"]), row) for row in histograms)
    lived: dict[int, list[bool]] = {}
    rows = []
    for row in map(dict, await db.fetch_all(_SQL["registrations"], {"app": app})):
        ran = cells.pop((row["id"], JOB_BIT if row["kind"] == "job" else 0), [])
        service = row.pop("service_id")
        if service not in lived:
            lived[service] = under.recorded(grid, (service,))
        first, retired = instant(row.pop("first_registered_at")), instant(row.pop("retired_at"))
        if not ran and not _was_there(grid, first, retired):
            continue
        latency = merged.get((row["kind"], row["id"]))
        rows.append(_roll_row(row, first, retired, lived[service], ran, latency))
    rows.sort(key=lambda row: (row.app_key, row.name, row.instance_index, row.service, row.kind, row.id))
    return Roll(grid, rows, len(cells) if app is None else 0, under)


async def _coarser(db: DatabaseService, grid: Grid, at: Instant) -> Grid:
    """Whole hours, or days, where minutes or hours would be too many histograms."""
    length = grid.count * grid.step
    step = DAY if length > HOURLY else HOUR if length > FINE_ENOUGH else grid.step
    return grid if step <= grid.step else await grid_of(db, grid.window, at, points=grid.count, step=step)


class _Count:
    """A point's figures while they add up."""

    def __init__(self) -> None:
        self.runs = self.errors = self.cancelled = self.max_ns = 0

    def add(self, runs: int, errors: int, cancelled: int, max_ns: int) -> None:
        self.runs += runs
        self.errors += errors
        self.cancelled += cancelled
        self.max_ns = max(self.max_ns, max_ns)


async def _one(
    db: DatabaseService, grid: Grid, kind: Kind, registration_id: int
) -> tuple[list[_Count], dict[int, Merged]]:
    rows = await db.fetch_all(_SQL["registration"], {**grid.buckets(), "kind": kind, "id": registration_id})
    counted = [_Count() for _ in range(grid.count)]
    for row in rows:
        counted[grid.point_of(row["bucket_start"])].add(row["runs"], row["errors"], row["cancelled"], row["max_ns"])
    return counted, merge((grid.point_of(row["bucket_start"]), row) for row in rows)


def _point(start: int, recorded: bool, count: _Count, latency: Sequence[float | None] | None) -> Point:
    if latency is None or not count.runs:
        return Point(instant(start), recorded or count.runs > 0, count.runs, count.errors, count.cancelled)
    p50, p95, p99 = latency
    return Point(instant(start), True, count.runs, count.errors, count.cancelled, p50, p95, p99, count.max_ns / 1e6)


def _roll_row(
    row: dict[str, Any],
    first: Instant,
    retired: Instant | None,
    lived: list[bool],
    ran: list[tuple[int, int, int, int]],
    latency: Merged | None,
) -> RollRow:
    runs, errors, cancelled = ([0] * len(lived) for _ in range(3))
    recorded = list(lived)
    for point, *counts in ran:
        runs[point], errors[point], cancelled[point] = counts
        recorded[point] = True
    p50, p95 = latency.percentiles_ms((0.5, 0.95)) if latency else (None, None)
    return RollRow(
        first_registered_at=first, retired_at=retired, recorded=recorded, runs=runs, errors=errors, cancelled=cancelled,
        total_runs=sum(runs), total_errors=sum(errors), p50_ms=p50, p95_ms=p95, **row,
    )  # fmt: skip


def _was_there(grid: Grid, first: Instant, retired: Instant | None) -> bool:
    return first < instant(grid.end) and (retired is None or retired >= instant(grid.start))


async def _service(db: DatabaseService, kind: Kind, registration_id: int) -> set[int]:
    return {row["service_id"] for row in await db.fetch_all(_SQL[f"{kind}_service"], {"id": registration_id})}


async def _services(db: DatabaseService, app: str) -> set[int]:
    return {row["service_id"] for row in await db.fetch_all(_SQL["registrations"], {"app": app})}
