"""The overview: what is registered, what ran and failed in a window, what the file holds."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from whenever import Instant

from handspan.clock import instant_from_ns, to_ns
from handspan.store.damage import files_set_aside
from handspan.store.liveness import abandoned_journals
from handspan.store.queries.error_groups import ErrorGroupRow, list_groups
from handspan.store.queries.failures import FailureCounts, added_up
from handspan.store.queries.figures import Figures, by_registration, overall
from handspan.store.queries.ledger import IncidentRow, list_incidents
from handspan.store.queries.runs import Kind
from handspan.store.queries.sessions import LossTotal, SessionSummary, list_losses, list_sessions
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = [
    "RECENT_INCIDENTS",
    "WORST_GROUPS",
    "KindStatus",
    "Status",
    "StoreStatus",
    "store_status",
    "summary",
]

_SQL: Final = statements("queries/status.sql")

WORST_GROUPS: Final = 3  # what a glance takes in
RECENT_SESSIONS: Final = 5
RECENT_INCIDENTS: Final = 5
HOUR_NS: Final = 3_600 * 10**9
INCIDENT_NS: Final = 7 * 86_400 * 10**9  # a week: what happened to recording is rarer than what failed


@dataclass(frozen=True)
class KindStatus:
    """All handlers, or all jobs."""

    registered: int
    active: int
    """Ran at least once in the window."""
    runs: int
    last_run_at: Instant | None
    """Ever."""
    failures: FailureCounts
    avg_ms: float | None = None
    late: int = 0


@dataclass(frozen=True)
class StoreStatus:
    """The file itself."""

    path: str
    schema_revision: str
    size_bytes: int
    live_bytes: int
    """Without free pages, which new rows take first."""


@dataclass(frozen=True)
class Status:
    """Everything ``handspan status`` shows."""

    store: StoreStatus
    handlers: KindStatus
    jobs: KindStatus
    last_hour: Figures
    """Of everything, whatever the window."""
    running: int
    sessions: list[SessionSummary]
    """The newest few, whenever they were."""
    errors: list[ErrorGroupRow]
    """The most recent few."""
    losses: list[LossTotal]
    incidents: list[IncidentRow]
    """The newest few of the last week, whatever the window."""
    set_aside: list[str]
    """Damaged files beside this one."""
    abandoned_journals: int
    """Of processes that died, not read back yet: what they did last is not in the figures."""


async def summary(db: DatabaseService, now: Instant, window: Window) -> Status:
    """Counts come from rollups; of rows only failures' are read."""
    figures = await by_registration(db, window, percentiles=False)
    sessions = await list_sessions(db, now, limit=RECENT_SESSIONS)
    return Status(
        store=await store_status(db),
        handlers=await _kind(db, "handler", figures),
        jobs=await _kind(db, "job", figures),
        last_hour=await overall(db, Window(instant_from_ns(to_ns(now) - HOUR_NS), now), percentiles=False),
        running=sum(session.running for session in sessions if session.state == "live"),
        sessions=sessions,
        errors=(await list_groups(db, now, window, limit=WORST_GROUPS)).groups,
        losses=await list_losses(db, window),
        incidents=await list_incidents(db, Window(instant_from_ns(to_ns(now) - INCIDENT_NS)), limit=RECENT_INCIDENTS),
        set_aside=files_set_aside(db.path),
        abandoned_journals=len(abandoned_journals(db.path)),
    )


async def store_status(db: DatabaseService) -> StoreStatus:
    row = await db.fetch_one(_SQL["store"])
    return StoreStatus(
        path=db.path,
        schema_revision=row["schema_revision"],
        size_bytes=row["page_size"] * row["pages"],
        live_bytes=row["page_size"] * (row["pages"] - row["free_pages"]),
    )


async def _kind(db: DatabaseService, kind: Kind, figures: Mapping[tuple[Kind, int], Figures]) -> KindStatus:
    row = await db.fetch_one(_SQL[f"{kind}s_at_work"])
    ran = [each for (of, _), each in figures.items() if of == kind]
    runs, total_ms = sum(each.runs for each in ran), math.fsum(each.total_ms for each in ran)
    return KindStatus(
        row["registered"],
        len(ran),
        runs,
        instant(row["last_run_ts"]),
        added_up(ran),
        total_ms / runs if runs else None,
        sum(each.late for each in ran),
    )
