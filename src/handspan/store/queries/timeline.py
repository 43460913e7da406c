"""What lies under every time axis: which sessions lived when, what was lost, what happened to recording."""

from collections.abc import Collection
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final

from whenever import Instant

from handspan.clock import to_ns
from handspan.store.queries.grid import Grid
from handspan.store.queries.ledger import IncidentRow, LossRow, list_incidents, list_ledger
from handspan.store.queries.sessions import SessionSummary, list_sessions
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["Timeline", "timeline"]

_SQL: Final = statements("queries/series.sql")

MOST_SESSIONS: Final = 2_000  # a crash loop's: a start a minute, for a day and a half
MOST_MARKS: Final = 500
PRUNED: Final = ("pruned_age", "pruned_size")


@dataclass(frozen=True)
class Timeline:
    """The newest sessions, losses and incidents that reach into a grid's time."""

    sessions: list[SessionSummary]
    losses: list[LossRow]
    """Without what was pruned: that was kept as long as it was to be."""
    incidents: list[IncidentRow]
    complete: bool
    """False: there were more sessions than are here, and what lies before them counts as recorded."""
    services: dict[int, int] = field(repr=False)
    """Whose session each was."""
    at: Instant

    def recorded(self, grid: Grid, services: Collection[int] | None = None) -> list[bool]:
        """Whether a session (of those services) lived in each point, if only for an instant."""
        changes = [0] * (grid.count + 1)
        for session in self.sessions:
            if services is not None and self.services.get(session.id) not in services:
                continue
            first = grid.point_of(_epoch(session.started_at))
            last = grid.point_of(_epoch(session.ended_at or max(self.at, session.started_at)))
            if last < 0 or first >= grid.count:
                continue
            changes[max(first, 0)] += 1
            changes[min(last, grid.count - 1) + 1] -= 1
        found = [living > 0 for living in accumulate(changes[:-1])]
        if not self.complete and self.sessions:
            for point in range(min(grid.count, max(0, grid.point_of(_epoch(self.sessions[-1].started_at))))):
                found[point] = True
        for point in range(min(grid.count, max(0, grid.point_of(grid.known_from)))):
            found[point] = False
        return found


async def timeline(db: DatabaseService, grid: Grid, at: Instant) -> Timeline:
    """Bounded: a crash loop's thousands of sessions are cut to the newest."""
    sessions = await list_sessions(db, at, grid.window, limit=MOST_SESSIONS)
    ledger = await list_ledger(db, grid.window, limit=MOST_MARKS)
    owners = await db.fetch_all(_SQL["services_of"], grid.window.params())
    return Timeline(
        sessions=sessions,
        losses=[loss for loss in ledger.losses if loss.reason not in PRUNED],
        incidents=await list_incidents(db, grid.window, limit=MOST_MARKS),
        complete=len(sessions) < MOST_SESSIONS,
        services={row["id"]: row["service_id"] for row in owners},
        at=at,
    )


def _epoch(moment: Instant) -> float:
    return to_ns(moment) / 1e9
