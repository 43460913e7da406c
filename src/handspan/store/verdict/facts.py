"""Asks the file for what the rules look at."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from handspan.store.histogram import Histogram, merged
from handspan.store.queries.merging import Merged, merge
from handspan.store.queries.runs import Kind
from handspan.store.service import DatabaseService
from handspan.store.statements import statements
from handspan.store.verdict.habit import DAY, HOUR
from handspan.store.verdict.shapes import Known
from handspan.store.verdict.thresholds import Thresholds

__all__ = [
    "Done",
    "Facts",
    "Hour",
    "Key",
    "Span",
    "Sums",
    "Wanted",
    "buckets",
    "gather",
    "hours_of",
    "latencies",
    "rows",
]

_SQL: Final = statements("queries/verdict.sql")

Key = tuple[Kind, int]
Wanted = tuple[Kind, int, int, int, int]
"""Kind, id, resolution, from, to. Those of one registration and resolution are the same or apart from each other."""

LIMIT: Final = 200
YOUNG: Final = 2 * DAY
"""Whole days of figures below which the hours of the day the window begins in are habit, too."""
JOB: Final = 2**32


@dataclass(frozen=True)
class Span:
    """The window, and the habit before it; epoch seconds."""

    now: float
    window: int
    habit_start: int
    day: int
    """Where the habit's whole days end."""

    @classmethod
    def of(cls, now: float, thresholds: Thresholds) -> "Span":
        window = int(now - thresholds.window_hours * HOUR) // HOUR * HOUR
        day = window // DAY * DAY
        return cls(now, window, day - thresholds.habit_days * DAY, day)

    def params(self) -> dict[str, Any]:
        return {
            "now": self.now,
            "window": self.window,
            "habit_start": self.habit_start,
            "day": self.day,
            "limit": LIMIT,
        }


@dataclass(frozen=True)
class Done:
    """What a registration did before the window."""

    runs: int
    errors: int
    late: int
    sum_ns: int
    first: int
    last: int


@dataclass(frozen=True, slots=True)
class Sums:
    """What a registration did in the window."""

    runs: int
    errors: int
    late: int
    peak_ns: int
    """The longest average of an hour."""
    last: int
    """The hour it ran last in."""


@dataclass(slots=True)
class Hour:
    """An hour, or another bucket, of one registration; sessions together."""

    start: int
    runs: int = 0
    errors: int = 0
    late: int = 0
    min_ns: int = 0
    max_ns: int = 0
    histograms: str = ""
    """Only where asked for; likewise the next."""
    durations: str = ""

    @property
    def histogram(self) -> Histogram:
        return merged(self.histograms, self.durations, self.runs, self.max_ns)


@dataclass(frozen=True)
class Facts:
    """Of every registration."""

    known: dict[Key, Known]
    habits: dict[Key, Done]
    sums: dict[Key, Sums]
    oldest_day: int | None
    """The first that has figures."""


async def rows(db: DatabaseService, name: str, span: Span, **params: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in await db.fetch_all(_SQL[name], {**span.params(), **params})]


async def gather(db: DatabaseService, span: Span) -> Facts:
    found = await rows(db, "registrations", span)
    several = len({row["service"] for row in found}) > 1
    known = {
        (row["kind"], row["id"]): Known(
            row["kind"], row["id"], row["service"], row["app_key"], row["instance_index"], row["name"],
            row["first_registered_at"], several,
        )
        for row in found
    }  # fmt: skip
    oldest = (await db.fetch_one(_SQL["oldest_day"]))["day"]
    young = oldest is None or oldest > span.day - YOUNG
    params = {**span.params(), "rest_end": span.window if young else span.day}
    habits = {
        (row["kind"], row["registration_id"]): Done(
            row["runs"], row["errors"], row["late"], row["sum_ns"], row["first"], row["last"]
        )
        for row in await db.fetch_all(_SQL["habits"], params)
    }
    sums = {
        (row["kind"], row["registration_id"]): Sums(
            row["runs"], row["errors"], row["late"], row["peak_ns"], row["last"]
        )
        for row in await db.fetch_all(_SQL["sums"], span.params())
    }
    return Facts(known, habits, sums, oldest)


async def hours_of(db: DatabaseService, span: Span, keys: Collection[Key]) -> dict[Key, list[Hour]]:
    """The window by the hour, ascending, without histograms. One pass over all of it, which few come out of: a seek for
    each hour would be quicker for few registrations in a large file only."""
    wanted = json.dumps([number + JOB if kind == "job" else number for kind, number in keys])
    found: dict[Key, list[Hour]] = {}
    params = {**span.params(), "keys": wanted}
    for start, kind, number, runs, errors, late, min_ns, max_ns in await db.fetch_all(_SQL["hours"], params):
        of = found.setdefault((kind, number), [])
        if not of or of[-1].start != start:
            of.append(Hour(start, runs, errors, late, min_ns, max_ns))
            continue
        hour = of[-1]
        hour.runs, hour.errors, hour.late = hour.runs + runs, hour.errors + errors, hour.late + late
        hour.min_ns, hour.max_ns = min(hour.min_ns, min_ns), max(hour.max_ns, max_ns)
    return found


async def buckets(
    db: DatabaseService, span: Span, wanted: Mapping[Wanted, bool]
) -> Mapping[tuple[Kind, int, int], list[Hour]]:
    """By kind, id and resolution, ascending in time; with histograms where that is said."""
    asked = json.dumps([[*each, histograms] for each, histograms in wanted.items()])
    found: dict[tuple[Kind, int, int], list[Hour]] = {}
    for row in await db.fetch_all(_SQL["buckets"], {**span.params(), "wanted": asked}):
        kind, number, resolution, start, runs, errors, late, min_ns, max_ns, histograms, durations = row
        hour = Hour(start, runs, errors, late, min_ns, max_ns, histograms or "", durations or "")
        found.setdefault((kind, number, resolution), []).append(hour)
    return found


async def latencies(db: DatabaseService, span: Span, keys: Iterable[Key]) -> dict[Key, Merged]:
    """Of the habit's whole days."""
    found = await db.fetch_all(_SQL["latencies"], {**span.params(), "wanted": json.dumps(list(keys))})
    return merge(((row["kind"], row["id"]), row) for row in found)
