"""Runs as they are stored, from wherever one left off: a cursor of ids for each table.

Ids ascend as rows are committed, so nothing between two looks is missed, whatever the rows' times. Two things break a
cursor: another file in this one's place, and ids given again after the newest rows were deleted (a plain rowid table
goes on from the highest id there is). Both show in the row the cursor stands at: it is gone and nothing is above it, or
it is another one. Then time decides: what ended lately and was not given yet.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from whenever import Instant

from handspan.clock import to_epoch, to_ns
from handspan.store.queries.runs import KINDS, Kind, RunFilter, RunRow, runs_by_id
from handspan.store.queries.shapes import instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["Follower"]

_SQL: Final = statements("queries/tail.sql")

PAGE: Final = 500
CATCH_UP: Final = 2_000  # newest rows that are gone through where the cursor means nothing any more
LOOKED: Final = 100_000  # newest rows looked through for the first lines, where a filter leaves few
LATELY: Final = 10.0  # seconds: commits are two apart, and a busy file may keep a writer waiting
REMEMBERED: Final = 5_000


@dataclass
class Follower:
    """``begin`` once, then ``more`` again and again."""

    db: DatabaseService
    which: RunFilter
    newest_end: Instant
    """Of what was given so far; to begin with, now."""
    _at: dict[Kind, int] = field(default_factory=dict)
    _marks: dict[Kind, bytes | None] = field(default_factory=dict)
    _given: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    async def begin(self, count: int) -> list[RunRow]:
        """The last ``count`` runs that match, in the order they ended, and the place after them."""
        ends = await self._ends()
        found: list[RunRow] = []
        for kind in KINDS:
            if count and kind in self.which.kinds():
                back = max(count, PAGE)
                while len(ids := await self._ids(kind, ends[kind] - back, ends[kind], back)) < count:
                    if back >= min(LOOKED, ends[kind]):
                        break
                    back *= 4
                found += await runs_by_id(self.db, [(kind, each) for each in ids[-count:]])
            await self._stand(kind, ends[kind])
        return self._gave(sorted(found, key=_order)[-count:] if count else [])

    async def begin_empty(self) -> None:
        """Before the first row of a file that was not there."""
        self._at = dict.fromkeys(KINDS, 0)

    async def more(self) -> list[RunRow]:
        """What was stored since, at most a page of each table; empty when there is nothing yet."""
        ends = await self._ends()
        found: list[RunRow] = []
        for kind in KINDS:
            top = ends[kind]
            if await self._is_lost(kind, top):
                found += await self._lately(kind, top)
                await self._stand(kind, top)
            elif top > self._at[kind]:
                ids = await self._ids(kind, self._at[kind], top, PAGE) if kind in self.which.kinds() else []
                found += await runs_by_id(self.db, [(kind, each) for each in ids])
                await self._stand(kind, ids[-1] if len(ids) == PAGE else top)
        return self._gave(sorted(found, key=_order))

    async def _is_lost(self, kind: Kind, top: int) -> bool:
        at = self._at[kind]
        if top < at:
            return True
        mark = await self._mark(kind, at) if at else None
        return mark is not None and mark != self._marks.get(kind)

    async def _lately(self, kind: Kind, top: int) -> list[RunRow]:
        if kind not in self.which.kinds():
            return []
        ids = await self._ids(kind, top - CATCH_UP, top, CATCH_UP)
        since = instant(to_epoch(to_ns(self.newest_end)) - LATELY)
        rows = await runs_by_id(self.db, [(kind, each) for each in ids])
        return [run for run in rows if run.ended_at >= since and (run.trace_id, run.span_id) not in self._given]

    def _gave(self, rows: list[RunRow]) -> list[RunRow]:
        for run in rows:
            self._given.append((run.trace_id, run.span_id))
            self.newest_end = max(self.newest_end, run.ended_at)
        return rows

    async def _stand(self, kind: Kind, at: int) -> None:
        self._at[kind], self._marks[kind] = at, await self._mark(kind, at)

    async def _mark(self, kind: Kind, at: int) -> bytes | None:
        rows = await self.db.fetch_all(_SQL[f"{kind}_mark"], {"id": at})
        return rows[0]["span_id"] if rows else None

    async def _ends(self) -> dict[Kind, int]:
        row = await self.db.fetch_one(_SQL["ends"])
        return {kind: row[kind] or 0 for kind in KINDS}

    async def _ids(self, kind: Kind, after: int, top: int, limit: int) -> list[int]:
        params = {
            "after": after, "top": top, "limit": limit, "app": self.which.app, "status": self.which.status,
            "name": self.which.name_of(kind),
        }  # fmt: skip
        return [row["id"] for row in await self.db.fetch_all(_SQL[f"{kind}_next"], params)]


def _order(run: RunRow) -> tuple[Instant, str, int]:
    """Two tables have no common order of storing: within one look, by their ends."""
    return (run.ended_at, run.kind, run.id)
