"""Sessions: which processes recorded, how each ended, what got lost."""

import json
import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from whenever import Instant

from handspan.clock import to_ns
from handspan.store.liveness import is_alive, sidecar_dir
from handspan.store.queries.shapes import ALL_TIME, Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = [
    "LossTotal",
    "SessionCounts",
    "SessionState",
    "SessionSummary",
    "list_losses",
    "list_sessions",
    "live_sessions",
    "newest_session_start",
    "with_counts",
]

_SQL: Final = statements("queries/sessions.sql")

HEARTBEAT_GRACE: Final = 120.0  # seconds: four of the default heartbeats

SessionState = Literal["live", "clean_shutdown", "crash", "unknown"]


@dataclass(frozen=True)
class SessionCounts:
    """What one session ran."""

    runs: int = 0
    errors: int = 0
    interrupted: int = 0


@dataclass(frozen=True)
class SessionSummary:
    """One run of a process."""

    id: int
    service: str
    instance_id: str
    state: SessionState
    recovered: bool
    """False for a crash that no later start has noticed yet: what it had in flight is not among the runs."""
    started_at: Instant
    last_heartbeat_at: Instant
    """When it last wrote to the file; one that lives does so every ``heartbeat_interval``."""
    ended_at: Instant | None
    """None while it lives; the last sign of life where no end was recorded."""
    duration_s: float
    service_version: str | None
    handspan_version: str | None
    python_version: str | None
    host: str | None
    pid: int | None
    running: int
    lost: int
    """Records that did not reach the store."""
    counts: SessionCounts | None = None
    """Only where asked for."""


@dataclass(frozen=True)
class LossTotal:
    """Records of one kind that one stage lost for one reason."""

    stage: str
    kind: str
    reason: str
    count: int
    last_hour: Instant


async def list_sessions(
    db: DatabaseService,
    now: Instant,
    window: Window = ALL_TIME,
    *,
    limit: int = 50,
    alive: Callable[[str, str], bool] = is_alive,
) -> list[SessionSummary]:
    """Those that reach into the window, newest first, without their counts."""
    rows = await db.fetch_all(_SQL["sessions"], {**window.params(), "limit": limit})
    return [_session(dict(row), db.path, now, alive) for row in rows]


async def live_sessions(
    db: DatabaseService, now: Instant, *, limit: int = 1000, alive: Callable[[str, str], bool] = is_alive
) -> list[SessionSummary]:
    """Whose process lives, newest first."""
    open_ones = await list_sessions(db, now, Window(now), limit=limit, alive=alive)
    return [session for session in open_ones if session.state == "live"]


async def with_counts(db: DatabaseService, sessions: list[SessionSummary]) -> list[SessionSummary]:
    """The same with their counts, from the days' rollups: of runs that were pruned, too."""
    if not sessions:
        return []
    wanted = json.dumps([session.id for session in sessions])
    rows = await db.fetch_all(_SQL["session_counts"], {"sessions": wanted})
    found = {row["session_id"]: SessionCounts(row["runs"], row["errors"], row["interrupted"]) for row in rows}
    return [replace(session, counts=found.get(session.id, SessionCounts())) for session in sessions]


async def newest_session_start(db: DatabaseService) -> Instant | None:
    """What "since the restart" means."""
    started: float | None = (await db.fetch_one(_SQL["newest_start"]))["started_at"]
    return instant(started)


async def list_losses(db: DatabaseService, window: Window = ALL_TIME, *, limit: int = 100) -> list[LossTotal]:
    """The ledger's totals, largest first. It counts by the hour, so a window includes the hour it begins in."""
    rows = [dict(row) for row in await db.fetch_all(_SQL["losses"], {**window.params(), "limit": limit})]
    return [LossTotal(last_hour=instant(row.pop("last_hour")), **row) for row in rows]


def _session(row: dict[str, Any], path: str, now: Instant, alive: Callable[[str, str], bool]) -> SessionSummary:
    started, heartbeat, stopped = (instant(row.pop(key)) for key in ("started_at", "last_heartbeat_at", "stopped_at"))
    reason: SessionState | None = row.pop("stop_reason")
    if reason is not None:
        state, recovered, ended = reason, True, stopped
    else:
        silent = _seconds(heartbeat, now)
        state = _state_of_open(path, row["instance_id"], row["host"], silent, alive)
        recovered, ended = state != "crash", None if state == "live" else heartbeat
    until = ended or max(now, started)
    return SessionSummary(
        state=state, recovered=recovered, started_at=started, last_heartbeat_at=heartbeat, ended_at=ended,
        duration_s=max(0.0, _seconds(started, until)), **row,
    )  # fmt: skip


def _state_of_open(
    path: str, instance_id: str, host: str | None, silent: float, alive: Callable[[str, str], bool]
) -> SessionState:
    """A session without an end: its lock tells, where this process can ask it; else its last sign of life.

    A lock that is not there, or not ours to open, says nothing: the file may be a copy, or another user's.
    """
    if alive(path, instance_id):
        return "live"
    if host == socket.gethostname() and os.access(sidecar_dir(path) / f"{instance_id}.lock", os.R_OK | os.W_OK):
        return "crash"
    if silent <= HEARTBEAT_GRACE:
        return "live"
    return "crash" if host == socket.gethostname() else "unknown"


def _seconds(start: Instant | None, end: Instant | None) -> float:
    if start is None or end is None:
        return 0.0
    return (to_ns(end) - to_ns(start)) / 1e9
