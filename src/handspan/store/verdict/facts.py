"""Asks the file for what the rules look at."""

import asyncio
import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from handspan.store.histogram import Histogram, decode
from handspan.store.queries.runs import Kind
from handspan.store.service import DatabaseService
from handspan.store.statements import statements
from handspan.store.verdict.habit import DAY, HOUR
from handspan.store.verdict.shapes import Known
from handspan.store.verdict.thresholds import Thresholds

__all__ = ["Done", "Facts", "Hour", "Key", "Span", "Wanted", "buckets", "gather", "rows"]

_SQL: Final = statements("queries/verdict.sql")

Key = tuple[Kind, int]
Wanted = tuple[Kind, int, int, int, int]
"""Kind, id, resolution, from, to."""

LIMIT: Final = 200
YOUNG: Final = 2 * DAY
"""Whole days of figures below which the hours of the day the window begins in are habit, too."""
_NONE: Final = Histogram()  # shared by the quarter of a million hours that have none


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


@dataclass(slots=True)
class Hour:
    """An hour, or another bucket, of one registration; sessions together."""

    start: int
    runs: int = 0
    errors: int = 0
    late: int = 0
    sum_ns: int = 0
    min_ns: int = 0
    max_ns: int = 0
    histogram: Histogram = field(default_factory=lambda: _NONE)
    """Only where it was asked for."""


@dataclass(frozen=True)
class Facts:
    """Of every registration."""

    known: dict[Key, Known]
    habits: dict[Key, Done]
    hours: dict[Key, list[Hour]]


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
    hours = await asyncio.to_thread(_by_hour, await db.fetch_all(_SQL["hours"], span.params()))
    return Facts(known, habits, hours)


def _by_hour(rows: list[sqlite3.Row]) -> dict[Key, list[Hour]]:
    found: dict[Key, list[Hour]] = {}
    for start, kind, number, runs, errors, late, sum_ns, max_ns in rows:
        of = found.setdefault((kind, number), [])
        if not of or of[-1].start != start:
            of.append(Hour(start, runs, errors, late, sum_ns, 0, max_ns, _NONE))
            continue
        hour = of[-1]
        hour.runs, hour.errors, hour.late = hour.runs + runs, hour.errors + errors, hour.late + late
        hour.sum_ns, hour.max_ns = hour.sum_ns + sum_ns, max(hour.max_ns, max_ns)
    return found


async def buckets(
    db: DatabaseService, span: Span, wanted: Iterable[Wanted], *, histograms: bool = False
) -> Mapping[tuple[Kind, int, int], list[Hour]]:
    """By kind, id and resolution, ascending in time."""
    asked = json.dumps(list(wanted))
    found: dict[tuple[Kind, int, int], dict[int, Hour]] = {}
    for row in await db.fetch_all(_SQL["buckets"], {**span.params(), "wanted": asked, "histograms": histograms}):
        kind, number, resolution, start, runs, errors, late, min_ns, max_ns, histogram = row
        of = found.setdefault((kind, number, resolution), {})
        hour = of.get(start)
        if hour is None:
            hour = of[start] = Hour(start, min_ns=min_ns, histogram=Histogram() if histograms else _NONE)
        hour.runs, hour.errors, hour.late = hour.runs + runs, hour.errors + errors, hour.late + late
        hour.min_ns, hour.max_ns = min(hour.min_ns, min_ns), max(hour.max_ns, max_ns)
        if histograms:
            hour.histogram.update(decode(histogram, runs, min_ns, max_ns))
    return {key: [of[start] for start in sorted(of)] for key, of in found.items()}
