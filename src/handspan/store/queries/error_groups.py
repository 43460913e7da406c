"""Error groups: what fails, since when, how often, and whether it is new or came back; and one of them whole."""

import json
import math
import sqlite3
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from whenever import Instant

from handspan.clock import to_epoch, to_ns
from handspan.store.queries.runs import Kind, RunKey, RunPage, RunRow
from handspan.store.queries.shapes import ALL_TIME, Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = [
    "ErrorGroupRow",
    "Failure",
    "GroupFilter",
    "GroupKey",
    "GroupOrder",
    "GroupPage",
    "GroupSession",
    "GroupState",
    "Trend",
    "WholeGroup",
    "group_runs",
    "groups_of",
    "list_groups",
    "whole_group",
]

_SQL: Final = statements("queries/error_groups.sql")

HOUR: Final = 3600
DAY: Final = 86_400
TREND_DAYS: Final = 90  # as long as hours are kept
HOURLY: Final = 2 * DAY  # a longer window has its trend by day
MOST_SEEKS: Final = 60_000  # in a trend; past it, reading all groups' hours is quicker
SESSIONS: Final = 10
ROWS_A_SESSION: Final = 200

GroupOrder = Literal["last_seen", "count"]
GroupState = Literal["open", "resolved", "regressed"]


@dataclass(frozen=True)
class Trend:
    """Failures by hour or by day, UTC; the first and the last bucket are whole, whatever the window."""

    start: Instant | None
    step_s: int
    counts: list[int]


@dataclass(frozen=True)
class ErrorGroupRow:
    """Failures that are one and the same: of one registration, type, place and message but for what varies in it."""

    id: int
    kind: Kind
    registration_id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    error_type: str
    frame: str | None
    message: str
    """Normalised."""
    error_message: str | None
    """The newest, as it came."""
    state: GroupState
    new: bool
    """First seen in the window."""
    count: int
    """In the window."""
    by_hour: bool
    """``count`` is of whole hours at an end of the window: the rows that would tell more are pruned."""
    total: int
    """Ever, pruned ones included."""
    first_seen_at: Instant
    last_seen_at: Instant
    resolved_at: Instant | None
    regressed_at: Instant | None
    trend: Trend


@dataclass(frozen=True)
class Failure:
    """A group as its registration shows it."""

    id: int
    error_type: str
    message: str
    count: int
    """Ever."""
    in_window: int
    first_seen_at: Instant
    last_seen_at: Instant


@dataclass(frozen=True)
class GroupKey:
    """Where a page ended: the last row's place in the order asked for."""

    value: float
    id: int


@dataclass(frozen=True)
class GroupFilter:
    """Which groups. A name matches as ``name`` or ``app_key.name``, and may hold ``*`` and ``?``."""

    app: str | None = None
    name: str | None = None
    state: GroupState | None = None
    error_type: str | None = None
    """Likewise with ``*`` and ``?``."""


@dataclass(frozen=True)
class GroupPage:
    """Some groups, and where to go on; None when these were the last."""

    groups: list[ErrorGroupRow]
    after: GroupKey | None
    pending: bool
    """Failures of an older version are still being grouped: there are more than these say."""


@dataclass(frozen=True)
class GroupSession:
    """How often a group was seen in one run of a process."""

    session_id: int
    service_version: str | None
    started_at: Instant
    count: int
    """Of stored rows; looked for among the first 200 since it began."""
    or_more: bool


@dataclass(frozen=True)
class WholeGroup:
    """One group, with all there is about it."""

    group: ErrorGroupRow
    sample_trace_id: str
    sample_span_id: str
    traceback: str | None
    """Without the message line."""
    sessions: list[GroupSession]
    """The newest of its service, also those without it: since which version, and until which."""
    runs: RunPage


async def list_groups(
    db: DatabaseService,
    at: Instant,
    window: Window,
    which: GroupFilter = GroupFilter(),
    *,
    by: GroupOrder = "last_seen",
    limit: int = 50,
    after: GroupKey | None = None,
) -> GroupPage:
    """Those seen in the window. Sorts all of them: even many registrations have thousands only.

    ``at``: now, where a trend that has no other end ends."""
    found = await _rows(db, window, which, by=by, limit=limit + 1, after=after)
    page = found[:limit]
    last = page[-1] if page else None
    more = GroupKey(last["sort_key"], last["id"]) if last is not None and len(found) > limit else None
    groups = await _with_trends(db, at, window, page)
    return GroupPage(groups, more, bool((await db.fetch_one(_SQL["pending"]))["pending"]))


async def whole_group(
    db: DatabaseService, at: Instant, group_id: int, window: Window = ALL_TIME, *, limit: int = 10
) -> WholeGroup | None:
    """None if there is no such group. ``window`` is what its count and trend are of, and its runs
    are those up to the end of that; all else is of all time."""
    rows = await _rows(db, window, GroupFilter(), by="last_seen", limit=1, group_id=group_id)
    if not rows:
        return None
    (group,) = await _with_trends(db, at, window, rows)
    rest = await db.fetch_one(_SQL["group"], {"id": group_id})
    params = {"id": group_id, "sessions": SESSIONS, "rows": ROWS_A_SESSION}
    sessions = [
        GroupSession(started_at=instant(row["started_at"]), or_more=row["count"] >= ROWS_A_SESSION,
                     **{name: row[name] for name in ("session_id", "service_version", "count")})
        for row in await db.fetch_all(_SQL["group_sessions"], params)
    ]  # fmt: skip
    runs = await group_runs(db, group.kind, group_id, Window(until=window.until), limit=limit)
    return WholeGroup(group, rest["sample_trace_id"], rest["sample_span_id"], rest["traceback"], sessions, runs)


async def group_runs(
    db: DatabaseService,
    kind: Kind,
    group_id: int,
    window: Window = ALL_TIME,
    *,
    limit: int = 50,
    after: RunKey | None = None,
) -> RunPage:
    """A group's stored runs, newest first."""
    before = (math.inf, math.inf) if after is None else (to_epoch(to_ns(after.started_at)), after.id)
    params = {**window.params(), "id": group_id, "before_ts": before[0], "before_id": before[1], "limit": limit + 1}
    rows = [dict(row) for row in await db.fetch_all(_SQL[f"{kind}_runs_of"], params)]
    runs = [RunRow(started_at=instant(row.pop("execution_start_ts")), **row) for row in rows]
    page = runs[:limit]
    return RunPage(page, page[-1].key if len(runs) > limit else None)


async def groups_of(
    db: DatabaseService, kind: Kind, registration_id: int, window: Window, *, limit: int
) -> list[Failure]:
    """One registration's, whenever they were seen, the newest first."""
    mine = (kind, registration_id)
    rows = await _rows(db, window, GroupFilter(), by="last_seen", limit=limit, registration=mine)
    return [
        Failure(row["id"], row["error_type"], row["message"], row["total"], row["count"],
                instant(row["first_seen_at"]), instant(row["last_seen_at"]))
        for row in rows
    ]  # fmt: skip


# --- rows to groups ---------------------------------------------------------------------------------------


async def _rows(
    db: DatabaseService,
    window: Window,
    which: GroupFilter,
    *,
    by: GroupOrder,
    limit: int,
    after: GroupKey | None = None,
    group_id: int | None = None,
    registration: tuple[Kind | None, int | None] = (None, None),
) -> list[dict[str, Any]]:
    ends = window.params()
    params = {
        **ends,
        "first_hour": _floor(ends["since"], HOUR),
        "last_hour": -_floor(-ends["until"], HOUR),
        "before_key": math.inf if after is None else after.value,
        "before_id": math.inf if after is None else after.id,
        "app": which.app,
        "name": which.name,
        "state": which.state,
        "type": which.error_type,
        "group_id": group_id,
        "kind": registration[0],
        "registration_id": registration[1],
        "by": by,
        "limit": limit,
    }
    rows: list[sqlite3.Row] = await db.fetch_all(_SQL["groups"], params)
    return [dict(row) for row in rows]


async def _with_trends(
    db: DatabaseService, at: Instant, window: Window, rows: Sequence[dict[str, Any]]
) -> list[ErrorGroupRow]:
    if not rows:
        return []
    ids = json.dumps([row["id"] for row in rows])
    ends = window.params()
    whole = set[int]()
    for end in (ends["since"], ends["until"]):
        if math.isfinite(end) and end % HOUR:
            cut = await db.fetch_all(_SQL["whole_hour"], {"ids": ids, "hour": int(_floor(end, HOUR))})
            whole.update(row["id"] for row in cut)
    trend = await _trends(db, at, ends, min(row["first_seen_at"] for row in rows), ids)
    return [_group(row, ends, whole, trend) for row in rows]


async def _trends(
    db: DatabaseService, at: Instant, ends: dict[str, float], first_seen: float, ids: str
) -> dict[int, Trend]:
    """Of one time axis for all."""
    now = to_epoch(to_ns(at))
    until = min(ends["until"], math.nextafter(now, math.inf))
    since = ends["since"] if math.isfinite(ends["since"]) else first_seen
    since = max(min(since, until), until - TREND_DAYS * DAY)
    step = HOUR if until - since <= HOURLY else DAY
    first = int(_floor(since, step))
    buckets = max(0, math.ceil((until - first) / step))
    counts: defaultdict[int, list[int]] = defaultdict(lambda: [0] * buckets)
    params = {"step": step, "first": first, "until": until, "ids": ids}
    seeks = buckets * step // HOUR * ids.count(",")
    for row in await db.fetch_all(_SQL["trend" if seeks < MOST_SEEKS else "trend_of_many"], params):
        counts[row["id"]][(row["bucket"] - first) // step] = row["count"]
    start = instant(first) if buckets else None
    return {group_id: Trend(start, step, counts[group_id]) for group_id in json.loads(ids)}


def _group(row: dict[str, Any], ends: dict[str, float], whole: set[int], trends: dict[int, Trend]) -> ErrorGroupRow:
    alone = ends["since"] <= row["first_seen_at"] and row["last_seen_at"] < ends["until"]  # then its count ever is it
    state: GroupState = "regressed" if row["regressed_at"] else "resolved" if row["resolved_at"] else "open"
    times = {name: instant(row[name]) for name in ("first_seen_at", "last_seen_at", "resolved_at", "regressed_at")}
    new = math.isfinite(ends["since"]) and ends["since"] <= row["first_seen_at"] < ends["until"]
    row = {name: value for name, value in row.items() if name != "sort_key" and name not in times}
    by_hour = row["id"] in whole and not alone
    return ErrorGroupRow(**row, **times, state=state, new=new, by_hour=by_hour, trend=trends[row["id"]])


def _floor(seconds: float, step: int) -> float:
    return seconds // step * step if math.isfinite(seconds) else seconds
