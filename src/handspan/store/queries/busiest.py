"""The busiest minutes of a window; hours, where minutes are kept no longer."""

import asyncio
import math
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from whenever import Instant

from handspan.store.queries.cover import cover
from handspan.store.queries.figures import EVERYTHING, Which
from handspan.store.queries.runs import Kind
from handspan.store.queries.shapes import ALL_TIME, Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["Busiest", "BusyBucket", "BusyRegistration", "busiest"]

_SQL: Final = statements("queries/busiest.sql")

BUCKETS: Final = 1440  # to a statement: a day of minutes
NAMED: Final = 3  # of a bucket's registrations: who made it busy


@dataclass(frozen=True)
class BusyRegistration:
    """One of those that ran most in a bucket."""

    kind: Kind
    registration_id: int
    service: str | None
    app_key: str | None
    instance_index: int | None
    name: str | None
    """None once it was pruned."""
    runs: int
    errors: int


@dataclass(frozen=True)
class BusyBucket:
    """A minute, or an hour."""

    started_at: Instant
    runs: int
    errors: int
    registrations: list[BusyRegistration]
    """Those that ran most in it."""


@dataclass(frozen=True)
class Busiest:
    """The busiest of a window."""

    resolution_s: int
    """60; 3600 or 86400 where the window begins before minutes, or hours, are kept."""
    window: Window
    """In whole buckets: what was looked at."""
    buckets: list[BusyBucket]


async def busiest(
    db: DatabaseService, window: Window = ALL_TIME, which: Which = EVERYTHING, *, step: int = 60, limit: int = 10
) -> Busiest:
    """Of minutes; of hours or days with a ``step`` of 3600 or 86400, or where nothing finer is kept. Most runs first.
    A day's minutes of sixty registrations are 86,000 rollups, 15 ms: longer windows are asked day by day, a few at a
    time, on as many processors."""
    kept = await cover(db, window)
    step = max(step, kept.finest)
    first, last = math.floor(kept.begins / step) * step, math.ceil(kept.ends / step) * step
    one = which.kind is not None and which.registration_id is not None
    whose = {"app": which.app, "kind": which.kind, "registration": which.registration_id, "resolution": step}
    sql, stretch = _SQL["busiest_of_one" if one else "busiest"], step * BUCKETS
    found = await asyncio.gather(
        *(
            db.fetch_all(sql, {**whose, "from": start, "until": min(start + stretch, last), "limit": limit})
            for start in range(first, last, stretch)
        )
    )
    rows = sorted((row for part in found for row in part), key=lambda row: (-row["runs"], -row["bucket_start"]))[:limit]
    buckets = await asyncio.gather(*(_bucket(db, row, whose) for row in rows))
    looked_at = ALL_TIME if first >= last else Window(instant(first), instant(last))
    return Busiest(step, looked_at, list(buckets))


async def _bucket(db: DatabaseService, row: sqlite3.Row, whose: dict[str, Any]) -> BusyBucket:
    found = await db.fetch_all(_SQL["in_bucket"], {**whose, "start": row["bucket_start"], "limit": NAMED})
    return BusyBucket(
        instant(row["bucket_start"]), row["runs"], row["errors"], [BusyRegistration(**dict(each)) for each in found]
    )
