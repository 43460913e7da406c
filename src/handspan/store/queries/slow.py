"""The slowest runs of a window, exactly, from few rows."""

import heapq
import math
from typing import Final

from handspan.store.queries.buckets import DAYS, HOURS, MINUTES, Bucket, Found, Search
from handspan.store.queries.runs import RunFilter, RunRow, runs_by_id
from handspan.store.queries.shapes import ALL_TIME, Window
from handspan.store.service import DatabaseService

__all__ = ["slowest_runs"]

FEW_HOURS: Final = 72  # up to here the hours of all registrations are fewer than it costs to go through days
LARGEST_BATCH: Final = 500  # buckets opened at a time


async def slowest_runs(
    db: DatabaseService, which: RunFilter | None = None, window: Window = ALL_TIME, *, limit: int = 50
) -> list[RunRow]:
    """Slowest first, of those that took at least ``which.at_least_ms``. Exact to the nanosecond, as rollups count."""
    which = which or RunFilter()
    best: list[Found] = []
    for kind in which.kinds():
        search = await Search.of(db, kind, which, window)
        if search.only != []:
            slowest = _Slowest(search, best, limit)
            best = await slowest.found()
            if slowest.floor_ns and not slowest.reached():  # rollups told of runs whose rows were pruned
                best = await _Slowest(search, best, limit, whole=True).found()
    rows = await runs_by_id(db, [(each.kind, each.id) for each in best])
    return sorted(rows, key=lambda run: (-run.duration_ms, run.kind, run.id))


class _Slowest:
    """Opens the bucket with the longest run first, until no bucket left can hold a run slower than those found."""

    def __init__(self, search: Search, best: list[Found], limit: int, *, whole: bool = False) -> None:
        self._search, self._limit, self._whole = search, limit, whole
        self._best = {(each.kind, each.id): each for each in best}
        self._seen: set[tuple[int, int, int]] = set()
        self._heap: list[tuple[float, Bucket]] = []
        self.floor_ns = 0

    async def found(self) -> list[Found]:
        search = self._search
        self._begins = await search.begins()
        self._keep(await search.untold(self._begins, limit=self._limit, by_duration=True))
        resolution = self._coarsest()
        wanted = 2 * self._limit + 64
        while True:
            buckets = await search.longest(resolution, wanted)
            self._push(buckets)
            await self._open_all()
            if len(buckets) < wanted or self._enough(buckets[-1].bound_ns):
                return self._sorted()
            wanted *= 8

    def _coarsest(self) -> int:
        params = self._search.params()
        short = params["until"] - params["since"] <= FEW_HOURS * HOURS
        return HOURS if short and params["since"] >= self._begins[HOURS] else DAYS

    async def _open_all(self) -> None:
        size = min(max(self._limit, 16), LARGEST_BATCH)
        while self._heap and not self._enough(-self._heap[0][0]):
            batch: dict[int, list[Bucket]] = {}
            for _ in range(size):
                if not self._heap or self._enough(-self._heap[0][0]):
                    break
                bucket = heapq.heappop(self._heap)[1]
                batch.setdefault(bucket.resolution, []).append(bucket)
            to_read = batch.pop(MINUTES, [])
            for buckets in batch.values():
                finer, closed = await self._search.within(buckets, self._begins, least_ns=self.floor_ns)
                self._push(finer)
                to_read += closed
            self._keep(await self._search.rows(to_read, limit=self._limit, by_duration=True))

    def _push(self, buckets: list[Bucket]) -> None:
        self._raise_floor(buckets)
        for bucket in buckets:
            key = bucket[:3]
            if key not in self._seen:
                self._seen.add(key)
                heapq.heappush(self._heap, (-bucket.bound_ns, bucket))

    def _raise_floor(self, buckets: list[Bucket]) -> None:
        """As many buckets, each with a run that took so long: nothing shorter is among the slowest. Of buckets that lie
        in the window, and whose longest run is of the status asked for: where one is, that is not known."""
        params = self._search.params()
        inside = [
            bucket.max_ns
            for bucket in buckets
            if bucket.start >= params["since"] and bucket.start + bucket.resolution <= params["until"]
        ]
        if not self._whole and params["status"] is None and len(inside) >= self._limit:
            self.floor_ns = max(self.floor_ns, heapq.nlargest(self._limit, inside)[-1])

    def _keep(self, rows: list[Found]) -> None:
        self._best |= {(each.kind, each.id): each for each in rows}
        if len(self._best) > self._limit:
            self._best = {(each.kind, each.id): each for each in self._sorted()}

    def _enough(self, bound_ns: float) -> bool:
        """Nothing that took at most so long is wanted any more."""
        if bound_ns < self.floor_ns:
            return True
        if len(self._best) < self._limit:
            return False
        return bound_ns <= self._least_ns()

    def reached(self) -> bool:
        """As many rows as were wanted are as slow as the rollups said."""
        return len(self._best) >= self._limit and self._least_ns() >= self.floor_ns

    def _least_ns(self) -> float:
        least = min(each.duration_ms for each in self._best.values())
        return round(least * 1e6) if math.isfinite(least) else least

    def _sorted(self) -> list[Found]:
        return sorted(self._best.values(), key=lambda each: (-each.duration_ms, each.kind, each.id))[: self._limit]
