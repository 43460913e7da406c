"""When nobody recorded: the gaps between the sessions of a service, and how each came about.

A session ends with its goodbye; one that crashed, with its last sign of life: at most a heartbeat before the truth. So
a gap after a crash is told up to ``heartbeat_interval`` too long, and never too short.
"""

import json
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final

from whenever import Instant

from handspan.clock import to_ns
from handspan.store.liveness import is_alive
from handspan.store.queries.sessions import SessionState, list_sessions
from handspan.store.queries.shapes import ALL_TIME, Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["Gap", "Lived", "ServiceDowntime", "downtime", "gaps"]

_SQL: Final = statements("queries/downtime.sql")

MOST_SESSIONS: Final = 2_000  # a crash loop's: a start a minute, for a day and a half


@dataclass(frozen=True)
class Lived:
    """One session: when it lived, and how it ended."""

    id: int
    service: str
    version: str | None
    started_at: Instant
    ended_at: Instant | None
    """None while it lives."""
    state: SessionState


@dataclass(frozen=True)
class Gap:
    """A time in which no session of a service lived."""

    service: str
    since: Instant
    """When the session before ended, also if that was before the window."""
    until: Instant | None
    """When the next one began, also if that was after it; None: it is still down."""
    down_s: float
    """In the window."""
    session_before: int
    how: SessionState
    """How that one ended: ``crash``, ``clean_shutdown``, or ``unknown``, if nothing tells."""
    session_after: int | None
    version_before: str | None
    version_after: str | None
    interrupted: int = 0
    """Runs the session before had not finished."""
    missed: int = 0
    """Runs of jobs that fell due meanwhile, as far as the next session told."""


@dataclass(frozen=True)
class ServiceDowntime:
    """One service in the window."""

    service: str
    watched_s: float
    """The window's length, from the service's first session on."""
    down_s: float
    down_now: bool
    gaps: list[Gap]
    """Newest first, as many as were asked for."""
    count: int
    complete: bool
    """False: it had more sessions than were looked at; what lies before the oldest of them is not known."""


async def downtime(
    db: DatabaseService,
    now: Instant,
    window: Window = ALL_TIME,
    *,
    service: str | None = None,
    limit: int = 50,
    alive: Callable[[str, str], bool] = is_alive,
) -> list[ServiceDowntime]:
    """Of each service, those down now first, then those down longest."""
    summaries = await list_sessions(db, now, window, limit=MOST_SESSIONS, alive=alive)
    complete = len(summaries) < MOST_SESSIONS
    lived = [
        Lived(each.id, each.service, each.service_version, each.started_at, each.ended_at, each.state)
        for each in summaries
    ]
    ends = window.params()
    if window.since is not None and complete:  # a gap may have begun before the window
        lived += [_row(row) for row in await db.fetch_all(_SQL["ended_before"], {"since": ends["since"]})]
    if window.until is not None:  # and end after it
        lived += [_row(row) for row in await db.fetch_all(_SQL["began_after"], {"until": ends["until"]})]
    of: defaultdict[str, list[Lived]] = defaultdict(list)
    for each in lived:
        if service in (None, each.service):
            of[each.service].append(each)
    found = [_of_service(name, some, window, now, limit, complete) for name, some in of.items()]
    found.sort(key=lambda each: (not each.down_now, -each.down_s, each.service))
    return await _explained(db, [each for each in found if each.watched_s > 0], now)


def gaps(lived: Iterable[Lived], now: Instant) -> Iterator[Gap]:
    """Of one service, oldest first; each as long as it was. What overlaps is one life."""
    last: Lived | None = None  # the one that lives, or lived, longest so far
    for each in sorted(lived, key=lambda one: (one.started_at, one.id)):
        if last is not None and last.ended_at is not None and each.started_at > last.ended_at:
            yield _gap(last, last.ended_at, each, each.started_at)
        if last is None or _end(each, now) >= _end(last, now):
            last = each
    if last is not None and last.ended_at is not None and last.ended_at < now:
        yield _gap(last, last.ended_at, None, now)


def _of_service(
    name: str, lived: list[Lived], window: Window, now: Instant, limit: int, complete: bool
) -> ServiceDowntime:
    first = min(each.started_at for each in lived)
    since = first if window.since is None else max(window.since, first)
    until = now if window.until is None else min(window.until, now)
    found = []
    for gap in gaps(lived, now):
        down = _seconds(max(gap.since, since), min(gap.until or now, until))
        if down > 0:
            found.append(replace(gap, down_s=down))
    found.reverse()
    return ServiceDowntime(
        name, max(0.0, _seconds(since, until)), sum(gap.down_s for gap in found),
        any(gap.until is None for gap in found), found[:limit], len(found), complete,
    )  # fmt: skip


async def _explained(db: DatabaseService, found: list[ServiceDowntime], now: Instant) -> list[ServiceDowntime]:
    """With what each gap cost."""
    shown = [gap for each in found for gap in each.gaps]
    before, after = [gap.session_before for gap in shown], [gap.session_after for gap in shown]
    if not shown:
        return found
    span = Window(min(gap.since for gap in shown), max(gap.until or now for gap in shown)).params()
    interrupted = await db.fetch_all(_SQL["interrupted"], {"before": json.dumps(before)})
    missed = await db.fetch_all(
        _SQL["missed"], {"after": json.dumps(after), "first": span["since"], "last": span["until"]}
    )
    cut, due = ({row["session_id"]: row["count"] for row in rows} for rows in (interrupted, missed))

    def told(gap: Gap) -> Gap:
        return replace(gap, interrupted=cut.get(gap.session_before, 0), missed=due.get(gap.session_after or 0, 0))

    return [replace(each, gaps=[told(gap) for gap in each.gaps]) for each in found]


def _row(row: sqlite3.Row) -> Lived:
    return Lived(
        row["id"], row["service"], row["service_version"], instant(row["started_at"]), instant(row["ended_at"]),
        row["stop_reason"] or "unknown",
    )  # fmt: skip


def _gap(before: Lived, since: Instant, after: Lived | None, until: Instant) -> Gap:
    return Gap(
        before.service, since, None if after is None else until, _seconds(since, until), before.id, before.state,
        None if after is None else after.id, before.version, None if after is None else after.version,
    )  # fmt: skip


def _end(each: Lived, now: Instant) -> Instant:
    return max(now, each.started_at) if each.ended_at is None else each.ended_at


def _seconds(start: Instant, end: Instant) -> float:
    return (to_ns(end) - to_ns(start)) / 1e9
