"""What ran at a moment: finished since, or still running."""

from dataclasses import dataclass
from typing import Final

from whenever import Instant

from handspan.clock import to_epoch, to_ns
from handspan.store.queries.buckets import DAYS, HOURS, Found, Search, oldest_row
from handspan.store.queries.runs import Kind, RunFilter, RunRow, runs_by_id
from handspan.store.queries.sessions import SessionState, list_sessions
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["InFlight", "Moment", "in_flight", "running_at"]

_SQL: Final = statements("queries/moments.sql")


@dataclass(frozen=True)
class InFlight:
    """A command that had not ended when its process last committed."""

    kind: Kind
    registration_id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    trigger: str | None
    started_at: Instant
    running_s: float
    """Up to now; where its process is gone, up to that one's last sign of life."""
    trace_id: str
    span_id: str
    parent_span_id: str | None
    link_trace_id: str | None
    link_span_id: str | None
    session_id: int
    session_state: SessionState
    """``live``, or what became of its process: such a run has not been taken over yet."""


@dataclass(frozen=True)
class Moment:
    """What ran then, those that had run longest first."""

    at: Instant
    finished: list[RunRow]
    """Have ended since."""
    in_flight: list[InFlight]
    """Have not."""
    more: bool
    """Whether there were more than the limit."""


async def running_at(
    db: DatabaseService, at: Instant, now: Instant, which: RunFilter | None = None, *, limit: int = 100
) -> Moment:
    """Runs with start <= at < end. The moment a run ends it does not run any more.

    Asked about now, what a process left running that nobody has taken over yet is there, too: until the next start it
    is nowhere else.
    """
    which = which or RunFilter()
    moment = to_epoch(to_ns(at))
    oldest = await oldest_row(db)
    found: list[Found] = []
    if oldest is not None and oldest <= moment:
        window = Window(instant(oldest), instant(moment + 2e-6))
        for kind in which.kinds():
            search = await Search.of(db, kind, which, window, at=moment)
            if search.only != []:
                found += await _reaching(search)
    found.sort(key=lambda each: (each.started, each.kind, each.id))
    flying = [each for each in await in_flight(db, now, which) if each.started_at <= at and _runs_then(each, at, now)]
    rows = await runs_by_id(db, [(each.kind, each.id) for each in found[:limit]])
    rows.sort(key=lambda run: (run.started_at, run.kind, run.id))
    return Moment(at, rows, flying[:limit], len(found) > limit or len(flying) > limit)


async def in_flight(db: DatabaseService, now: Instant, which: RunFilter | None = None) -> list[InFlight]:
    """What runs now, as of each process's last commit, a second or two ago; the oldest first."""
    which = which or RunFilter()
    params = {"app": which.app, "handler": which.name_of("handler"), "job": which.name_of("job")}
    rows = await db.fetch_all(_SQL["in_flight"], params)
    if not rows:
        return []
    sessions = {each.id: each for each in await list_sessions(db, now, limit=1000)}
    found = []
    for row in rows:
        values = dict(row)
        started: Instant = instant(values.pop("execution_start_ts"))
        session = sessions.get(row["session_id"])
        state: SessionState = "unknown" if session is None else session.state
        end = now if session is None or session.ended_at is None else session.ended_at
        running_s = max(0.0, (to_ns(end) - to_ns(started)) / 1e9)
        if values["kind"] in which.kinds() and which.status is None and which.session_id in (None, row["session_id"]):
            found.append(InFlight(started_at=started, running_s=running_s, session_state=state, **values))
    return found


def _runs_then(run: InFlight, at: Instant, now: Instant) -> bool:
    if at >= now and run.session_state in ("crash", "unknown"):
        return True
    return at <= _last_known(run, now)


def _last_known(run: InFlight, now: Instant) -> Instant:
    if run.session_state == "live":
        return max(now, run.started_at)
    return instant(to_epoch(to_ns(run.started_at)) + run.running_s)


async def _reaching(search: Search) -> list[Found]:
    """Through days, hours and minutes whose longest run can have lasted until then, to the rows."""
    begins = await search.begins()
    found = {each.id: each for each in await search.untold(begins)}
    hours, unopened = await search.within(await search.latest(DAYS), begins)
    minutes, more = await search.within([each for each in hours if each.resolution == HOURS], begins)
    found |= {each.id: each for each in await search.rows([*minutes, *unopened, *more])}
    return list(found.values())
