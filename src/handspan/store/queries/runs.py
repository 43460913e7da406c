"""Runs of handlers and jobs in one list, newest or slowest first."""

import math
import sqlite3
from dataclasses import dataclass
from typing import Any, Final, Literal

from whenever import Instant

from handspan.clock import to_epoch, to_ns
from handspan.records import Status
from handspan.store.queries.records import HandlerInvocationRecord, JobExecutionRecord
from handspan.store.queries.shapes import ALL_TIME, Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = [
    "KINDS",
    "Kind",
    "RunFilter",
    "RunKey",
    "RunPage",
    "RunRow",
    "last_executions",
    "last_invocations",
    "list_runs",
    "slowest_runs",
]

_SQL: Final = statements("queries/runs.sql")

Kind = Literal["handler", "job"]
KINDS: Final[tuple[Kind, ...]] = ("handler", "job")  # in the order of their names, which the order of runs uses


@dataclass(frozen=True)
class RunKey:
    """Where a page ended: the place of its last row in the order (start, kind, id)."""

    started_at: Instant
    kind: Kind
    id: int


@dataclass(frozen=True)
class RunRow:
    """One run, as lists show it."""

    kind: Kind
    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    trigger: str | None
    """A handler's topic; a job's trigger."""
    status: Status
    started_at: Instant
    duration_ms: float
    error_type: str | None
    error_message: str | None
    trace_id: str
    span_id: str
    session_id: int

    @property
    def key(self) -> RunKey:
        return RunKey(self.started_at, self.kind, self.id)


@dataclass(frozen=True)
class RunFilter:
    """Which runs. Names match as ``name`` or ``app_key.name``, and may hold ``*`` and ``?``.

    With only one of ``handler`` and ``job`` given, the other kind is left out.
    """

    handler: str | None = None
    job: str | None = None
    app: str | None = None
    status: Status | None = None

    def kinds(self) -> tuple[Kind, ...]:
        if self.handler is None and self.job is None:
            return KINDS
        return tuple(kind for kind in KINDS if self.name_of(kind) is not None)

    def name_of(self, kind: Kind) -> str | None:
        return self.handler if kind == "handler" else self.job


@dataclass(frozen=True)
class RunPage:
    """Some runs, and where to go on; None when these were the last."""

    runs: list[RunRow]
    after: RunKey | None


async def list_runs(
    db: DatabaseService,
    which: RunFilter = RunFilter(),
    window: Window = ALL_TIME,
    *,
    limit: int = 50,
    after: RunKey | None = None,
) -> RunPage:
    """Newest first."""
    found: list[RunRow] = []
    for kind in which.kinds():
        failures = which.status not in (None, "success")
        params = {
            **window.params(),
            **_below(kind, window, after),
            "app": which.app,
            "name": which.name_of(kind),
            "status": which.status,
            "limit": limit + 1,  # one more tells whether there is another page
        }
        rows = await db.fetch_all(_SQL[f"{kind}_{'failures' if failures else 'runs'}"], params)
        found.extend(_run(row) for row in rows)
    found.sort(key=lambda run: (run.started_at, run.kind, run.id), reverse=True)
    page = found[:limit]
    return RunPage(page, page[-1].key if len(found) > limit and page else None)


async def slowest_runs(
    db: DatabaseService, window: Window, *, at_least_ms: float = 0.0, limit: int = 50
) -> list[RunRow]:
    """Slowest first. Passes over all raw rows of both tables."""
    params = {**window.params(), "at_least_ms": at_least_ms, "limit": limit}
    return [_run(row) for row in await db.fetch_all(_SQL["slowest"], params)]


async def last_invocations(
    db: DatabaseService, listener_id: int, window: Window = ALL_TIME, *, limit: int = 50
) -> list[HandlerInvocationRecord]:
    """One listener's newest runs with their tracebacks."""
    params = {**window.params(), "id": listener_id, "limit": limit}
    return [HandlerInvocationRecord(**_times(row)) for row in await db.fetch_all(_SQL["last_invocations"], params)]


async def last_executions(
    db: DatabaseService, job_id: int, window: Window = ALL_TIME, *, limit: int = 50
) -> list[JobExecutionRecord]:
    """One job's newest runs with their tracebacks."""
    params = {**window.params(), "id": job_id, "limit": limit}
    return [JobExecutionRecord(**_times(row)) for row in await db.fetch_all(_SQL["last_executions"], params)]


def _below(kind: Kind, window: Window, after: RunKey | None) -> dict[str, Any]:
    """The row a page of one kind begins below: within one instant, kinds come one after the other."""
    if after is None:
        return {"before_ts": window.params()["until"], "before_id": -math.inf}
    before_id: float = after.id if kind == after.kind else math.inf if kind < after.kind else -math.inf
    return {"before_ts": to_epoch(to_ns(after.started_at)), "before_id": before_id}


def _run(row: sqlite3.Row) -> RunRow:
    values = dict(row)
    return RunRow(started_at=instant(values.pop("execution_start_ts")), **values)


def _times(row: sqlite3.Row) -> dict[str, Any]:
    return {key: instant(row[key]) if key.endswith("_ts") else row[key] for key in row.keys()}  # noqa: SIM118 - a Row's
