"""Who has gone quiet against its own habit: silent for longer than it ever pauses while its process lives.

A habit is what the hours of the last week say: between two hours it ran in lies a pause, and the longest of them is its
longest usual one. Time in which no process of the service lived is nobody's silence: it counts neither for the habit
nor against it.
"""

import json
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from whenever import Instant

from handspan.clock import to_epoch, to_ns
from handspan.store.liveness import is_alive
from handspan.store.queries.runs import Kind
from handspan.store.queries.schedule import overdue_s
from handspan.store.queries.sessions import live_sessions
from handspan.store.queries.shapes import instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["ENOUGH_HOURS", "HABIT_DAYS", "LEAST_SILENCE", "TIMES_THE_PAUSE", "Silence", "quiet"]

_SQL: Final = statements("queries/quiet.sql")

HABIT_DAYS: Final = 7  # a week has its weekend in it
ENOUGH_HOURS: Final = 20  # of running: with fewer, the longest pause seen says little of the longest there is
TIMES_THE_PAUSE: Final = 2.0  # so that tonight may be a little longer than last night
LEAST_SILENCE: Final = 3600.0  # seconds: habits are known by the hour
HOUR: Final = 3600.0

Span = tuple[float, float]


@dataclass(frozen=True)
class Silence:
    """One live registration: its habit, and how long it has been silent."""

    kind: Kind
    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    active_hours: int
    """Of the last week, in which it ran."""
    longest_pause_s: float | None
    """Between two of those hours, time without a process left out; None with fewer than ``ENOUGH_HOURS``."""
    last_run_at: Instant | None
    """To the hour, where its row was pruned."""
    silent_s: float | None
    """Since then, likewise; 0 while it runs; None if it has not run."""
    quiet: bool
    """Beyond twice its longest usual pause, and an hour."""
    next_run_at: Instant | None
    """A job's."""
    overdue_s: float | None
    """Seconds that is overdue by: then the job is silent whatever its habit."""


async def quiet(
    db: DatabaseService, now: Instant, *, limit: int = 1000, alive: Callable[[str, str], bool] = is_alive
) -> list[Silence]:
    """Each registration that is not retired and that a live session holds: the overdue and the quiet first, the
    longest silence before shorter ones."""
    at = to_epoch(to_ns(now))
    live = json.dumps([session.id for session in await live_sessions(db, now, alive=alive)])
    since = (at - HABIT_DAYS * 24 * HOUR) // HOUR * HOUR
    lives: defaultdict[int, list[Span]] = defaultdict(list)
    for row in await db.fetch_all(_SQL["lives"], {"live": live, "now": at, "since": since}):
        _join(lives[row["service_id"]], (row["started_at"], row["ended_at"]))
    rows = await db.fetch_all(_SQL["habits"], {"live": live, "since": int(since), "limit": limit})
    found = [_silence(dict(row), lives, now) for row in rows]
    return sorted(found, key=lambda s: (s.overdue_s is None, not s.quiet, -(s.silent_s or 0), s.app_key, s.name))


def _silence(row: dict[str, Any], lives: defaultdict[int, list[Span]], now: Instant) -> Silence:
    lived, hours = lives[row.pop("service_id")], sorted(json.loads(row.pop("hours") or "[]"))
    last_run, running, next_run = row.pop("last_run_ts"), row.pop("running"), instant(row.pop("next_run_ts"))
    heartbeat = instant(row.pop("heartbeat"))
    if last_run is None and hours:
        last_run = hours[-1] + HOUR  # its rows were pruned: at the latest then
    pause = None
    if len(hours) >= ENOUGH_HOURS:
        pause = max(_overlap(lived, first, then) for first, then in pairwise(hours))
    silent = 0.0 if running else None if last_run is None else _overlap(lived, last_run, to_epoch(to_ns(now)))
    bound = None if pause is None else max(LEAST_SILENCE, pause * TIMES_THE_PAUSE)
    return Silence(
        active_hours=len(hours),
        longest_pause_s=pause,
        last_run_at=instant(last_run),
        silent_s=silent,
        quiet=bound is not None and silent is not None and silent > bound,
        next_run_at=next_run,
        overdue_s=overdue_s(next_run, now, heartbeat),
        **row,
    )


def _join(spans: list[Span], span: Span) -> None:
    """Spans that come by their starts, as one where they overlap."""
    if spans and span[0] <= spans[-1][1]:
        spans[-1] = (spans[-1][0], max(spans[-1][1], span[1]))
    else:
        spans.append(span)


def _overlap(spans: list[Span], start: float, end: float) -> float:
    """How much of a time they cover."""
    return sum(max(0.0, min(end, span_end) - max(start, span_start)) for span_start, span_end in spans)
