"""Weeks of a small house, simulated straight into rollups: ordinary ones, and ones into which trouble is put.

Eight days up to a look: seven of habit, one of window. Arrivals are Poisson or regular, durations lognormal, two runs
in a hundred fail, the process restarts at four every night.
"""

import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import seeded
from handspan.store.histogram import encode, histogram_of

DAY = 86_400
HOUR = 3600
DAYS = 8


@dataclass
class Member:
    """A registration of the house."""

    kind: str
    id: int
    name: str
    per_hour: float
    regular: bool = False
    median_ms: float = 50.0
    errors: float = 0.02


HOUSEHOLD = [
    Member("handler", 1, "rare", 2 / 24),
    Member("handler", 2, "hourly", 1),
    Member("handler", 3, "motion", 6),
    Member("handler", 4, "sensor", 20, median_ms=5),
    Member("job", 1, "poll", 12, regular=True, median_ms=200),
    Member("job", 2, "nightly", 1 / 24, regular=True, median_ms=60_000, errors=0.0),
    Member("job", 3, "sweep", 1, regular=True),
]


@dataclass
class Run:
    """One run, before it is counted."""

    member: Member
    start: float
    duration_ms: float
    error: bool
    late: bool = False


@dataclass
class Week:
    """What happened until ``now``. ``trouble`` may change a run, or drop it (None)."""

    seed: int
    now: float = seeded.NOW
    trouble: Callable[[Run], Run | None] = lambda run: run
    members: list[Member] = field(default_factory=lambda: HOUSEHOLD)
    sessions: list[tuple] = field(default_factory=list)

    def runs(self) -> list[Run]:
        rng = random.Random(self.seed)
        found = []
        begin = self.now - DAYS * DAY
        for member in self.members:
            gap = HOUR / member.per_hour
            moment = begin + rng.uniform(0, gap)
            while moment < self.now:
                run = Run(
                    member, moment, member.median_ms * rng.lognormvariate(0, 0.5), rng.random() < member.errors
                )  # fmt: skip
                changed = self.trouble(run) if moment % DAY > 4 * HOUR + 30 or moment % DAY < 4 * HOUR else None
                if changed is not None:
                    found.append(changed)
                moment += gap if member.regular else rng.expovariate(1 / gap)
        return found

    def restarts(self) -> list[tuple]:
        """Sessions between four o'clock and four o'clock; the last one lives."""
        found = []
        start, number = self.now - DAYS * DAY, 1
        while start < self.now:
            end = (start // DAY + (start % DAY >= 4 * HOUR)) * DAY + 4 * HOUR
            live = end >= self.now
            found.append((number, start, self.now - 5 if live else end, None if live else end,
                          None if live else "clean_shutdown"))  # fmt: skip
            start, number = end + 30, number + 1
        return found

    def build(self, path: Path) -> str:
        built = seeded.build(path, rows=False)
        with closing(sqlite3.connect(built, isolation_level=None)) as conn:
            conn.execute("PRAGMA journal_mode = MEMORY")
            conn.execute("BEGIN")
            self.fill(conn)
            conn.execute("COMMIT")
        return built

    def fill(self, conn: sqlite3.Connection) -> None:
        sessions = self.sessions or self.restarts()
        seeded.put(conn, "services (id, name, namespace)", [(1, "house", "")])
        seeded.put(
            conn, "sessions (id, started_at, last_heartbeat_at, stopped_at, stop_reason, service_id, instance_id, "
                  "host)",
            [(*session, 1, f"s{session[0]}", "pi") for session in sessions],
        )  # fmt: skip
        begin = self.now - DAYS * DAY
        for member in self.members:
            table, column = ("listeners", "name") if member.kind == "handler" else ("scheduled_jobs", "job_name")
            extra = ", topic" if member.kind == "handler" else ", next_run_ts"
            seeded.put(
                conn, f"{table} (id, service_id, app_key, instance_index, {column}, handler_method, "
                      f"first_registered_at, last_registered_at{extra})",
                [(member.id, 1, "home", 0, member.name, member.name, begin, begin,
                  "t" if member.kind == "handler" else None)],
            )  # fmt: skip
            seeded.put(conn, "registration_holders (kind, registration_id, session_id)",
                       [(member.kind, member.id, sessions[-1][0])])  # fmt: skip
        rolled(conn, self.runs(), sessions[-1][0])


def rolled(conn: sqlite3.Connection, runs: list[Run], session: int) -> None:
    """Minutes only for the last two days, as nothing looks further back."""
    cells: dict[tuple[int, int, str, int], list[Run]] = defaultdict(list)
    newest = max((run.start for run in runs), default=0)
    for run in runs:
        for resolution in (60, HOUR, DAY):
            if resolution > 60 or run.start > newest - 2 * DAY:
                start = int(run.start) // resolution * resolution
                cells[resolution, start, run.member.kind, run.member.id].append(run)
    rows = []
    for key, inside in cells.items():
        spans = [round(run.duration_ms * 1e6) for run in inside]
        histogram = encode(histogram_of(spans)) if len(spans) > 2 else None
        rows.append((*key, session, len(inside), sum(run.error for run in inside), 0, 0, 0, 0,
                     sum(run.late for run in inside), None, sum(spans), min(spans), max(spans), histogram))  # fmt: skip
    marks = ", ".join("?" * 17)
    conn.executemany(f"INSERT INTO rollups VALUES ({marks})", rows)
