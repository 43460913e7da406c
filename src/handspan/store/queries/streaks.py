"""Whether a handler or job still fails: how many in a row, since when, and when it last succeeded.

In a row: since its last success. A cancelled run neither ends a row nor counts. Asked of the newest rows first; where
they do not tell, of the rollups, day by day and then finer, so that a year of failures costs a few hundred seeks.
"""

from dataclasses import dataclass
from typing import Final, Literal

from whenever import Instant

from handspan.clock import to_epoch, to_ns
from handspan.store.queries.figures import Which, overall
from handspan.store.queries.runs import KINDS, Kind
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["Failing", "Streak", "failing", "streak"]

_SQL: Final = statements("queries/streaks.sql")

LOOKED: Final = 500  # rows: under a millisecond
FINER: Final = {86_400: 3600, 3600: 60}
SLACK: Final = 1e-6  # seconds: a bucket counts whole nanoseconds, a row has the nearest microsecond
MOST_FAILING: Final = 500

Outcome = Literal["success", "error"]


@dataclass(frozen=True)
class Streak:
    """How one registration's newest runs ended."""

    failing: bool
    """Its newest run failed."""
    failures: int
    """In a row, up to now; 0 if it is not failing."""
    or_more: bool
    """``failures`` is the least it can be: the rows that would tell are pruned."""
    since: Instant | None
    """When the first of them began."""
    last_success_at: Instant | None
    """Ever; None: none is known."""
    last_failure_at: Instant | None
    success_within_s: int
    """0: ``last_success_at`` is exact; else it is the beginning of an hour or day that had one."""


@dataclass(frozen=True)
class Failing:
    """A handler or job that fails now."""

    kind: Kind
    registration_id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    streak: Streak
    error_group_id: int | None
    """Of the newest failure."""
    error_type: str | None
    error_message: str | None


async def failing(
    db: DatabaseService, now: Instant, *, app: str | None = None, limit: int = 50
) -> tuple[list[Failing], int]:
    """Whose newest run failed, most failures in a row first; and how many there are."""
    until = _epoch(now) + SLACK
    found: list[Failing] = []
    for kind in KINDS:
        for row in await db.fetch_all(_SQL[f"{kind}s_failing"], {"until": until, "app": app}):
            if len(found) < MOST_FAILING:
                found.append(await _failing(db, kind, dict(row), now))
    found.sort(key=lambda each: (-each.streak.failures, each.app_key, each.name, each.instance_index))
    return found[:limit], len(found)


async def streak(db: DatabaseService, kind: Kind, registration_id: int, now: Instant) -> Streak:
    """As of ``now``: what began later does not count."""
    until = _epoch(now) + SLACK
    recent = await db.fetch_one(_SQL[f"{kind}_recent"], {"id": registration_id, "until": until, "looked": LOOKED})
    success, within = await _last(db, kind, registration_id, "success", until, recent["success"])
    failure, _ = await _last(db, kind, registration_id, "error", until, recent["failure"])
    if failure is None or (success is not None and failure < success + max(within, SLACK)):
        return Streak(False, 0, False, None, instant(success), instant(failure), within)
    begins = -1e308 if success is None else success + max(within, SLACK)
    first = await _value(db, f"{kind}_first_failure", id=registration_id, since=begins, until=until)
    if success is None:
        ever = await _value(db, "first_ever", kind=kind, id=registration_id)
        first = min((each for each in (first, ever) if each is not None), default=None)
    count = int(
        await _value(db, f"{kind}_failures_since", id=registration_id, since=begins, until=until, looked=LOOKED) or 0
    )
    rows_begin = await _value(db, "kept_from", resolution=60)
    if count == LOOKED or within or success is None or (rows_begin is not None and begins < rows_begin):
        window = Window(None if success is None else instant(begins), instant(until))
        known = await overall(db, window, Which(kind, registration_id), percentiles=False)
        count = max(count, known.errors)
    return Streak(True, max(1, count), bool(within), instant(first), instant(success), instant(failure), within)


async def _failing(db: DatabaseService, kind: Kind, row: dict[str, int | str], now: Instant) -> Failing:
    number = int(row["registration_id"])
    groups = await db.fetch_all(_SQL["newest_group"], {"kind": kind, "id": number})
    group = dict(groups[0]) if groups else dict.fromkeys(("error_group_id", "error_type", "error_message"))
    return Failing(
        kind, number, str(row["service"]), str(row["app_key"]), int(row["instance_index"]), str(row["name"]),
        await streak(db, kind, number, now), **group,
    )  # fmt: skip


async def _last(
    db: DatabaseService, kind: Kind, registration_id: int, status: Outcome, until: float, recent: float | None
) -> tuple[float | None, int]:
    """When the newest run of an outcome began, and within how many seconds that is known."""
    if recent is not None:
        return recent, 0
    return await _below(db, kind, registration_id, status, 86_400, -(2**62), until) or (None, 0)


async def _below(
    db: DatabaseService, kind: Kind, registration_id: int, status: Outcome, resolution: int, first: float, until: float
) -> tuple[float, int] | None:
    """In the newest bucket that has one; in an older one, if it had it only after ``until``."""
    kept = await _value(db, "kept_from", resolution=resolution)
    if kept is None:
        return None
    first = max(first, kept)
    while until > first:
        values = {"resolution": resolution, "first": first, "until": until, "kind": kind, "id": registration_id}
        rows = await db.fetch_all(_SQL["last_bucket"], {**values, "status": status})
        if not rows:
            return None
        start, end = float(rows[0]["start"]), min(until, rows[0]["start"] + resolution)
        if resolution == 60:
            row = await _value(db, f"{kind}_last_of", id=registration_id, since=start - SLACK, until=end, status=status)
            found = None if row is None else (row, 0)
        else:
            found = await _below(db, kind, registration_id, status, FINER[resolution], start, end)
        if found is not None:
            return found
        if end == start + resolution:  # whole, so it had one; what would tell more is pruned
            return start, resolution
        until = start
    return None


async def _value(db: DatabaseService, statement: str, **params: float | str | None) -> float | None:
    rows = await db.fetch_all(_SQL[statement], params)
    found: float | None = rows[0][0] if rows else None
    return found


def _epoch(moment: Instant) -> float:
    return to_epoch(to_ns(moment))
