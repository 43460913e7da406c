"""The loss ledger and the incidents, row by row."""

from dataclasses import dataclass
from typing import Final

from whenever import Instant

from handspan.store.liveness import abandoned_journals
from handspan.store.queries.shapes import ALL_TIME, Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["IncidentRow", "LossPage", "LossRow", "list_incidents", "list_ledger"]

_SQL: Final = statements("queries/ledger.sql")


@dataclass(frozen=True)
class LossRow:
    """Records of one kind that one stage of one session lost in one hour, for one reason."""

    hour: Instant
    service: str
    session_id: int
    instance_id: str
    stage: str
    kind: str
    reason: str
    count: int


@dataclass(frozen=True)
class LossPage:
    """The newest entries, and what all of the window come to."""

    losses: list[LossRow]
    total: int
    entries: int
    pruned: int
    """Of the total, what was stored and kept as long as it was to be."""
    abandoned_journals: int
    """Of processes that died, not read back yet: what is in them is not lost, and not stored either."""


@dataclass(frozen=True)
class IncidentRow:
    """What happened to recording."""

    id: int
    kind: str
    service: str
    session_id: int
    started_at: Instant
    ended_at: Instant | None
    """None for what has no end."""
    detail: str
    count: int | None
    """Records that went with it, where that is known."""


async def list_ledger(db: DatabaseService, window: Window = ALL_TIME, *, limit: int = 100) -> LossPage:
    """Newest first. The ledger counts by the hour, so a window includes the hour it begins in."""
    rows = [dict(row) for row in await db.fetch_all(_SQL["ledger"], {**window.params(), "limit": limit})]
    sums = await db.fetch_one(_SQL["ledger_sums"], window.params())
    losses = [LossRow(instant(row.pop("hour")), **row) for row in rows]
    return LossPage(losses, sums["total"], sums["entries"], sums["pruned"], len(abandoned_journals(db.path)))


async def list_incidents(db: DatabaseService, window: Window = ALL_TIME, *, limit: int = 100) -> list[IncidentRow]:
    """Those that reach into the window, newest first."""
    rows = [dict(row) for row in await db.fetch_all(_SQL["incidents"], {**window.params(), "limit": limit})]
    return [
        IncidentRow(started_at=instant(row.pop("started_at")), ended_at=instant(row.pop("ended_at")), **row)
        for row in rows
    ]
