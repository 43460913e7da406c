"""Two sessions, versions or times beside each other: what got slower, what fails more often, what is new or gone.

What counts as a change, and what as noise:

- a registration is judged if it ran at least ``LEAST_RUNS`` times on both sides;
- its error rate moved if the two shares lie further apart than chance explains: ``SIGMAS`` standard deviations of a
  binomial with both sides' common rate, less half a run on each side (the correction for small counts), one in a
  thousand if nothing changed;
- a percentile moved if it is ``RATIO`` times the other one or more, and ``LEAST_MS`` away at least. Histograms are
  within 5 %, so that two equal ones are never further apart than 1.1. The median is judged first: it has all runs
  behind it. p95 takes ``LEAST_RUNS_P95`` runs, p99 ``LEAST_RUNS_P99``: with fewer it is one run or two;
- a registration that did not run is ``gone`` if nobody held it any more at the newer side's end. If it was held, it is
  ``silent`` where at least ``LEAST_EXPECTED`` runs were to be expected, by how often it ran while the older side lived;
  else the newer side is too short to tell, as after a restart.
"""

import json
import math
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from whenever import Instant

from handspan.store.queries.figures import NOTHING, Figures, Which, by_registration
from handspan.store.queries.runs import Kind
from handspan.store.queries.shapes import ALL_TIME, Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = [
    "LEAST_MS",
    "LEAST_RUNS",
    "RATIO",
    "SIGMAS",
    "Change",
    "Compared",
    "Comparison",
    "SessionSide",
    "Side",
    "State",
    "changes",
    "compare",
    "known_versions",
    "newest_sessions",
    "session_side",
    "sessions_of_version",
]

_SQL: Final = statements("queries/compare.sql")

LEAST_RUNS: Final = 20
LEAST_RUNS_P95: Final = 100  # five runs lie above it
LEAST_RUNS_P99: Final = 1_000  # ten do; of a hundred runs it is the slowest or the second, which is luck
LEAST_EXPECTED: Final = 7.0  # runs: by chance none of so many comes once in a thousand times, exp(-7)
SIGMAS: Final = 3.3
RATIO: Final = 1.3
LEAST_MS: Final = 1.0

State = Literal["failing", "slower", "new", "gone", "silent", "mended", "faster", "same", "few"]
"""``silent``: did not run, though it was registered. ``few``: too few runs on one side to judge."""
_ORDER: Final[tuple[State, ...]] = (
    "failing", "slower", "new", "gone", "silent", "mended", "faster", "same", "few",
)  # fmt: skip

_Percentile = Literal["p50_ms", "p95_ms", "p99_ms"]
_PERCENTILES: Final[tuple[tuple[_Percentile, int], ...]] = (
    ("p50_ms", LEAST_RUNS),
    ("p95_ms", LEAST_RUNS_P95),
    ("p99_ms", LEAST_RUNS_P99),
)


@dataclass(frozen=True)
class Change:
    """One figure that moved."""

    what: Literal["error_rate", "p50_ms", "p95_ms", "p99_ms"]
    before: float
    after: float
    ratio: float | None
    """None where it was nothing before."""

    @property
    def worse(self) -> bool:
        return self.after > self.before


@dataclass(frozen=True)
class Side:
    """Whose runs: of a time, of sessions, or of both."""

    window: Window = ALL_TIME
    sessions: Collection[int] | None = None


@dataclass(frozen=True)
class SessionSide:
    """A session that is compared."""

    id: int
    service: str
    service_version: str | None
    started_at: Instant


@dataclass(frozen=True)
class Compared:
    """One registration on both sides."""

    kind: Kind
    id: int
    service: str | None
    app_key: str | None
    instance_index: int | None
    name: str | None
    """None of all four once it was pruned."""
    state: State
    changes: list[Change]
    """Those that matter, the worst first."""
    weight: float
    """Of ``failing`` and ``mended``: how many runs more, or fewer, failed than would have at the rate before. Of
    ``slower`` and ``faster``: the milliseconds that p95 moved, over all runs. Of the others: runs."""
    before: Figures
    after: Figures


@dataclass(frozen=True)
class Comparison:
    """Both sides, what matters most first."""

    before_runs: int
    before_errors: int
    after_runs: int
    after_errors: int
    compared: list[Compared]


@dataclass(frozen=True)
class _Life:
    """The sessions of one service, on one side."""

    seconds: float
    began_at: float
    ended_at: float | None
    """None while one of them has not ended, and where the side ends now."""


_NO_LIFE: Final = _Life(0.0, 0.0, None)


async def compare(db: DatabaseService, before: Side, after: Side, *, app: str | None = None) -> Comparison:
    """Every registration that ran on either side: ``same`` and ``few`` come last."""
    old = await by_registration(db, before.window, Which(app=app, sessions=before.sessions))
    new = await by_registration(db, after.window, Which(app=app, sessions=after.sessions))
    names = {(row["kind"], row["id"]): row for row in await db.fetch_all(_SQL["names"])}
    lived, lives = await _lives(db, before), await _lives(db, after)
    found = []
    for key in {*old, *new}:
        was, now = old.get(key, NOTHING), new.get(key, NOTHING)
        moved = changes(was, now)
        row = names.get(key)  # None once it was pruned: its figures outlive its name
        state = _state(was, now, moved) if now.runs else _absent(was, row, lived, lives)
        found.append(
            Compared(
                *key,
                service=row["service"] if row else None,
                app_key=row["app_key"] if row else None,
                instance_index=row["instance_index"] if row else None,
                name=row["name"] if row else None,
                state=state,
                changes=moved,
                weight=_weight(was, now, state),
                before=was,
                after=now,
            )
        )
    found.sort(key=lambda each: (_ORDER.index(each.state), -each.weight, each.kind, each.id))
    return Comparison(
        sum(each.runs for each in old.values()), sum(each.errors for each in old.values()),
        sum(each.runs for each in new.values()), sum(each.errors for each in new.values()), found,
    )  # fmt: skip


def changes(before: Figures, after: Figures) -> list[Change]:
    """What moved, beyond noise: what got worse first, failures before times."""
    if min(before.runs, after.runs) < LEAST_RUNS:
        return []
    found: list[Change] = []
    was, now = before.errors / before.runs, after.errors / after.runs
    if _apart(before, after):
        found.append(Change("error_rate", was, now, now / was if was else None))
    for what, least in _PERCENTILES:
        old, new = getattr(before, what), getattr(after, what)
        if old is None or new is None or min(before.runs, after.runs) < least:
            continue
        low, high = min(old, new), max(old, new)
        if high >= RATIO * low and high - low >= LEAST_MS:
            found.append(Change(what, old, new, new / old if old else None))
    return sorted(found, key=lambda change: not change.worse)


async def newest_sessions(db: DatabaseService) -> list[SessionSide]:
    """The newest, then the one of the same service before it; as many as there are."""
    return [_session(row) for row in await db.fetch_all(_SQL["newest_sessions"])]


async def session_side(db: DatabaseService, session_id: int) -> SessionSide | None:
    """None if there is none of that number."""
    rows = await db.fetch_all(_SQL["session"], {"id": session_id})
    return _session(rows[0]) if rows else None


async def sessions_of_version(db: DatabaseService, version: str) -> list[int]:
    """All that ran it."""
    return [row["id"] for row in await db.fetch_all(_SQL["sessions_of_version"], {"version": version})]


async def known_versions(db: DatabaseService, *, limit: int = 20) -> list[str]:
    """The newest first."""
    return [row["version"] for row in await db.fetch_all(_SQL["versions"], {"limit": limit})]


def _apart(before: Figures, after: Figures) -> bool:
    """Whether the error rates differ by more than chance explains."""
    n, m = before.runs, after.runs
    common = (before.errors + after.errors) / (n + m)
    deviation = math.sqrt(common * (1 - common) * (1 / n + 1 / m))
    difference = abs(after.errors / m - before.errors / n) - (1 / n + 1 / m) / 2
    return difference > SIGMAS * deviation and difference > 0


async def _lives(db: DatabaseService, side: Side) -> dict[str, _Life]:
    """Of each service, how long its sessions lived in that side, and until when."""
    sessions = None if side.sessions is None else json.dumps(list(side.sessions))
    rows = await db.fetch_all(_SQL["lives"], {**side.window.params(), "sessions": sessions})
    open_end = side.sessions is None and side.window.until is None  # then its end is now, whoever lives
    return {
        row["service"]: _Life(row["seconds"], row["began_at"], None if open_end else row["ended_at"]) for row in rows
    }


def _absent(before: Figures, row: sqlite3.Row | None, lived: dict[str, _Life], lives: dict[str, _Life]) -> State:
    """What did not run on the newer side."""
    if row is None:
        return "gone"
    was, now = lived.get(row["service"], _NO_LIFE), lives.get(row["service"], _NO_LIFE)
    retired, ended = row["retired_at"], now.ended_at
    if retired is not None and (ended is None or retired < ended):
        return "gone"
    if row["last_registered_at"] < now.began_at or (ended is None and not row["held"]):  # an ended one holds nothing
        return "gone"
    return "silent" if was.seconds and before.runs * now.seconds / was.seconds >= LEAST_EXPECTED else "few"


def _state(before: Figures, after: Figures, moved: list[Change]) -> State:
    if not before.runs:
        return "new"
    rates = [change for change in moved if change.what == "error_rate"]
    times = [change for change in moved if change.what != "error_rate"]
    if any(change.worse for change in rates):
        return "failing"
    if any(change.worse for change in times):
        return "slower"
    if rates:
        return "mended"
    if times:
        return "faster"
    return "few" if min(before.runs, after.runs) < LEAST_RUNS else "same"


def _weight(before: Figures, after: Figures, state: State) -> float:
    if state in ("failing", "mended"):
        return abs(after.errors - before.errors / before.runs * after.runs)
    if state in ("slower", "faster"):
        return abs((after.p95_ms or 0.0) - (before.p95_ms or 0.0)) * after.runs
    return float(max(before.runs, after.runs))


def _session(row: sqlite3.Row) -> SessionSide:
    return SessionSide(row["id"], row["service"], row["service_version"], instant(row["started_at"]))
