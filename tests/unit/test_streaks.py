"""Whether it still fails, how often in a row, and when it last succeeded: against plain Python over the rows."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seeded
from handspan.store.queries import streaks
from handspan.store.queries.shapes import instant
from handspan.store.queries.streaks import Streak, failing, streak
from handspan.store.service import DatabaseService
from rolled import roll_up
from seeded import DAY, HOUR, NOW

AGES = st.sampled_from([0.0, 1.0, 59.0, 61.0, HOUR, HOUR + 1, 5 * HOUR, DAY, DAY + 3, 3 * DAY, 9 * DAY])
RUNS = st.lists(
    st.tuples(AGES, st.integers(0, 3), st.sampled_from(["success", "error", "error", "cancelled"])), max_size=25
)


def write(path: str, runs: list[tuple[float, int, str]], *, kept: float | None = None) -> None:
    """One listener's rows and their rollups; of rows older than ``kept`` seconds only the rollups."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        conn.execute("PRAGMA foreign_keys = OFF")
        for table in ("handler_invocations", "job_executions", "rollups", "error_groups", "error_group_hours"):
            conn.execute(f"DELETE FROM {table}")
        conn.executemany(
            "INSERT INTO handler_invocations (listener_id, session_id, execution_start_ts, duration_ms, status,"
            " trace_id, span_id, error_type) VALUES (1, 4, ?, 1.0, ?, zeroblob(16), zeroblob(8), ?)",
            [(NOW - age - n, status, "ValueError" if status == "error" else None) for age, n, status in runs],
        )
        roll_up(conn)
        if kept is not None:
            conn.execute("DELETE FROM handler_invocations WHERE execution_start_ts < ?", (NOW - kept,))
            conn.execute("DELETE FROM rollups WHERE resolution = 60 AND bucket_start < ?", ((NOW - kept) // 60 * 60,))
        conn.execute("COMMIT")


async def asked(path: str, at: float = NOW) -> Streak:
    async with DatabaseService(path) as db:
        return await streak(db, "handler", 1, instant(at))


def plainly(runs: list[tuple[float, int, str]], at: float) -> dict[str, Any]:
    """The same by going through all of them. Where a success and a failure began together, the success was last."""
    told = [(NOW - age - n, status) for age, n, status in runs if NOW - age - n <= at]
    success = max((start for start, status in told if status == "success"), default=None)
    failures = [start for start, status in told if status == "error"]
    row = [start for start in failures if success is None or start > success]
    return {
        "failing": bool(row), "failures": len(row), "since": instant(min(row)) if row else None,
        "last_success_at": instant(success), "last_failure_at": instant(max(failures, default=None)),
    }  # fmt: skip


@pytest.fixture
def house(tmp_path: Path) -> str:
    return seeded.build(tmp_path / "house.db")


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS, st.sampled_from([0.0, 30.0, 2 * HOUR]), st.sampled_from([500, 3, 1]))
def test_a_streak_is_that_of_the_rows(house: str, runs: list[tuple[float, int, str]], ago: float, looked: int) -> None:
    """As of any moment, and however few rows are looked at before the rollups are asked."""
    write(house, runs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(streaks, "LOOKED", looked)
        found = asyncio.run(asked(house, NOW - ago))
    expected = plainly(runs, NOW - ago)
    assert {name: getattr(found, name) for name in expected} == expected
    assert not found.or_more
    assert found.success_within_s == 0


async def test_a_success_whose_row_is_pruned(house: str) -> None:
    """Its hour is known, and so are the failures since that hour; that there may be more is said."""
    write(house, [(2 * DAY, 0, "success"), (2 * DAY - 2 * HOUR, 0, "error"), (HOUR, 0, "error"), (HOUR, 1, "error")],
          kept=DAY)  # fmt: skip
    found = await asked(house)
    assert (found.failing, found.failures, found.or_more, found.success_within_s) == (True, 3, True, 3600)
    hour = (NOW - 2 * DAY) // HOUR * HOUR
    assert found.last_success_at == instant(hour)


async def test_what_never_ran_does_not_fail(house: str) -> None:
    """Nothing is known of it, and nothing claimed."""
    write(house, [])
    assert await asked(house) == Streak(False, 0, False, None, None, None, 0)


async def test_what_fails_now(house: str) -> None:
    """Those whose newest run failed, cancelled ones aside, as plain SQL tells."""
    async with DatabaseService(house) as db:
        found, count = await failing(db, instant(NOW))
        none, _ = await failing(db, instant(NOW), app="lights")
    with closing(sqlite3.connect(house)) as conn:
        expected = conn.execute(
            "SELECT listener_id FROM handler_invocations AS i JOIN listeners AS l ON l.id = listener_id"
            " WHERE status <> 'cancelled' AND retired_at IS NULL GROUP BY listener_id"
            " HAVING max(execution_start_ts) = max(CASE status WHEN 'error' THEN execution_start_ts END)"
        ).fetchall()
    assert [(each.registration_id,) for each in found] == expected
    assert count == len(found)
    assert found[0].streak == await _streak_of(house, found[0].registration_id)
    assert found[0].error_type == "ProcessInterrupted"
    assert none == []


async def _streak_of(house: str, listener: int) -> Streak:
    async with DatabaseService(house) as db:
        return await streak(db, "handler", listener, instant(NOW))
