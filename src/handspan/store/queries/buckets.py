"""Finding rows through the rollups: which stretches of a registration's time can hold what is asked for.

No index knows durations, sessions or ends of runs. Rollups know the longest run, the session and the number of failures
of every day, hour and minute of a registration: a few thousand buckets stand for ten million rows. Whoever searches
opens those buckets that can hold an answer, and reads rows only of the minutes that are left.

What no bucket tells of is read row by row: rows of a file whose backfill is under way, and rows older than the oldest
bucket. So the answer is that of the raw rows, always; only its price differs.
"""

import json
import math
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from handspan.store.queries.runs import Kind, RunFilter
from handspan.store.queries.shapes import Window
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["DAYS", "HOURS", "MINUTES", "Bucket", "Found", "Search", "oldest_row"]

_SQL: Final = statements("queries/buckets.sql")

DAYS: Final = 86_400
HOURS: Final = 3600
MINUTES: Final = 60
FINER: Final = {DAYS: HOURS, HOURS: MINUTES}
SLACK: Final = 1e-6  # seconds: a bucket counts whole nanoseconds, a row has the nearest microsecond
LONGEST_NS: Final = 10**16  # handspan.store.rollups counts nothing longer: such a bucket has no bound
ALL: Final = 2**62
TABLES: Final[dict[Kind, str]] = {"handler": "handler_invocations", "job": "job_executions"}


class Bucket(NamedTuple):
    """A registration's runs of one day, hour or minute; those of the session and status asked for, where one is."""

    resolution: int
    start: int
    registration_id: int
    max_ns: int
    runs: int

    @property
    def bound_ns(self) -> float:
        """No run in it took longer."""
        return math.inf if self.max_ns >= LONGEST_NS else self.max_ns


class Found(NamedTuple):
    """A row, by what it is ordered by."""

    kind: Kind
    id: int
    started: float
    duration_ms: float


@dataclass(frozen=True)
class Search:
    """Runs of one kind, and what is asked of them."""

    db: DatabaseService
    kind: Kind
    only: list[int] | None = None
    """Registrations; None is all."""
    session: int | None = None
    status: str | None = None
    least_ms: float = 0.0
    window: Window = field(default_factory=Window)
    at: float | None = None
    """Only those that ran at this moment: epoch seconds."""

    @classmethod
    async def of(cls, db: DatabaseService, kind: Kind, which: RunFilter, window: Window, **options: Any) -> "Search":
        """Of the registrations a filter names."""
        name, only = which.name_of(kind), None
        if name is not None or which.app is not None:
            rows = await db.fetch_all(_SQL[f"{kind}_ids"], {"app": which.app, "name": name})
            only = [row["id"] for row in rows]
        return cls(db, kind, only, which.session_id, which.status, which.at_least_ms or 0.0, window, **options)

    async def begins(self) -> dict[int, float]:
        """Where each resolution begins in this file; infinity if there is none."""
        row = await self.db.fetch_one(_SQL["oldest"])
        starts = {DAYS: row["days"], HOURS: row["hours"], MINUTES: row["minutes"]}
        return {each: math.inf if start is None else float(start) for each, start in starts.items()}

    async def longest(self, resolution: int, limit: int) -> list[Bucket]:
        return _buckets(await self._fetch("longest", resolution=resolution, limit=limit))

    async def latest(self, resolution: int, limit: int = ALL) -> list[Bucket]:
        return _buckets(await self._fetch("latest", resolution=resolution, limit=limit))

    async def within(
        self, buckets: Iterable[Bucket], begins: dict[int, float], *, least_ns: int = 0
    ) -> tuple[list[Bucket], list[Bucket]]:
        """The finer buckets inside some of one resolution, those with a run of ``least_ns``; and what lies before the first of the finer ones, where only
        rows tell: nothing, unless those were pruned."""
        opened: list[Bucket] = []
        untold: list[Bucket] = []
        finer, resolution = MINUTES, HOURS
        for bucket in buckets:
            resolution, finer = bucket.resolution, FINER[bucket.resolution]
            known = begins[finer] - bucket.start
            if known > 0:
                untold.append(bucket._replace(resolution=int(min(known, resolution))))
            if known < resolution:
                opened.append(bucket)
        if not opened:
            return [], untold
        pairs = json.dumps([[bucket.start, bucket.registration_id] for bucket in opened])
        least_ns = max(least_ns, self.params()["least_ns"])
        rows = await self._fetch("within", resolution=resolution, finer=finer, buckets=pairs, least_ns=least_ns)
        return _buckets(rows), untold

    async def rows(self, buckets: Iterable[Bucket], *, limit: int = ALL, by_duration: bool = False) -> list[Found]:
        """Rows of buckets."""
        since, until = self.params()["since"], self.params()["until"]
        ranges = [
            (each.registration_id, max(each.start - SLACK, since), min(each.start + each.resolution + SLACK, until))
            for each in buckets
        ]
        if not ranges:
            return []
        found = await self._fetch(f"{self.kind}_rows", ranges=json.dumps(ranges), limit=limit, by_duration=by_duration)
        return self._found(found)

    async def untold(self, begins: dict[int, float], *, limit: int = ALL, by_duration: bool = False) -> list[Found]:
        """Rows no bucket tells of. Usually none, found out by a seek for each registration."""
        options = {"limit": limit, "by_duration": by_duration}
        found: list[Found] = []
        for stretch in await self.db.fetch_all(_SQL["waiting"], {"table": TABLES[self.kind]}):
            ids = {"first": stretch["next_id"], "last": stretch["last_id"]}
            found += self._found(await self._fetch(f"{self.kind}_untold", **ids, **options))
        if self.params()["since"] < begins[DAYS]:
            found += self._found(await self._fetch(f"{self.kind}_before", before=begins[DAYS], **options))
        return found

    def params(self) -> dict[str, Any]:
        return {
            **self.window.params(),
            "kind": self.kind,
            "only": None if self.only is None else json.dumps(self.only),
            "session": self.session,
            "status": self.status,
            "least_ms": self.least_ms if self.least_ms > 0 else -math.inf,
            "least_ns": math.floor(self.least_ms * 1e6) if self.least_ms > 0 else 0,
            "at": self.at,
        }

    async def _fetch(self, statement: str, **more: Any) -> list[sqlite3.Row]:
        return await self.db.fetch_all(_SQL[statement], self.params() | more)

    def _found(self, rows: list[sqlite3.Row]) -> list[Found]:
        return [Found(self.kind, *row) for row in rows]


async def oldest_row(db: DatabaseService) -> float | None:
    """When the oldest run that is still here began; epoch seconds."""
    started: float | None = (await db.fetch_one(_SQL["oldest_row"]))["started"]
    return started


def _buckets(rows: list[sqlite3.Row]) -> list[Bucket]:
    return [Bucket(*row) for row in rows]
