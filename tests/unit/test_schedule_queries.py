"""What did not run, and who went quiet: the queries against plain SQL and plain Python over the same rows."""

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whenever import Instant

import seeded
from handspan.clock import instant_from_ns
from handspan.reasons import REASON_WORDS, REASONS, reason_words
from handspan.store.queries.quiet import ENOUGH_HOURS, quiet
from handspan.store.queries.schedule import job_schedules, refusals, skips_of
from handspan.store.queries.shapes import ALL_TIME, Window
from handspan.store.queries.stretches import stretches
from handspan.store.service import DatabaseService
from seeded import DAY, HOUR, NOW, raw

EVERYBODY: Callable[[str, str], bool] = lambda path, instance: True
ONLY_FOURTH: Callable[[str, str], bool] = lambda path, instance: instance == "fourth"
HOUR_NOW = int(NOW // HOUR * HOUR)


def at(epoch: float) -> Instant:
    return instant_from_ns(round(epoch * 1e6) * 1000)


def last(seconds: float) -> Window:
    return Window(at(NOW - seconds))


def roll_up(conn: sqlite3.Connection) -> None:
    """Rollups of the seeded rows, by plain SQL: independent of the writer's."""
    conn.execute("DELETE FROM rollups")
    for kind, table, parent, late in (
        ("handler", "handler_invocations", "listener_id", "0"),
        ("job", "job_executions", "job_id", "execution_start_ts - scheduled_ts > 5"),
    ):
        delay = (
            "NULL" if kind == "handler" else "max(cast(round((execution_start_ts - scheduled_ts) * 1e9) AS INTEGER))"
        )
        for resolution in (60, 3600, 86_400):
            bucket = f"cast(execution_start_ts / {resolution} AS INTEGER) * {resolution}"
            figures = f"count(*), sum(status = 'error'), 0, 0, 0, 0, sum({late}), {delay}, 0, 0, 0, NULL"
            conn.execute(
                f"INSERT INTO rollups SELECT {resolution}, {bucket}, '{kind}', {parent}, session_id, {figures} "
                f"FROM {table} GROUP BY 2, {parent}, session_id"
            )


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = seeded.build(tmp_path_factory.mktemp("house") / "house.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        roll_up(conn)
        conn.execute("INSERT INTO registration_holders (session_id, kind, registration_id) VALUES (4, 'job', 2)")
    return path


# --- words ------------------------------------------------------------------------------------------------


def test_every_reason_has_words() -> None:
    """Each of the closed set, and none besides; what a newer file says is shown as it is."""
    assert tuple(REASON_WORDS) == REASONS
    assert reason_words("predicate") == "refused by its predicate"
    assert reason_words("eclipse") == "eclipse"


# --- windows ------------------------------------------------------------------------------------------------


@given(
    since=st.none() | st.integers(0, 200 * 86_400).map(lambda s: NOW - s),
    length=st.none() | st.integers(1, 200 * 86_400),
)
def test_stretches_cover_a_window_once(since: float | None, length: int | None) -> None:
    """Without gap or overlap, each on whole buckets but for its end; nothing before the bucket it begins in."""
    until = None if length is None else (NOW if since is None else since) + length
    found = stretches(Window(since and at(since), until and at(until)), at(NOW))
    for (_, _, stop), (_, start, _) in pairwise(found):
        assert stop == start
    assert all(start % resolution == 0 and start < stop for resolution, start, stop in found)
    assert found[0][1] <= (since or 0) < found[0][1] + found[0][0]
    assert found[-1][2] >= (until or NOW)
    if until is not None:
        assert found[-1][2] == math.ceil(until)
    assert all(resolution == 86_400 for resolution, start, _ in found if start < NOW - 81 * DAY)
    assert all(resolution > 60 for resolution, start, stop in found if stop < NOW - 2 * DAY)


# --- jobs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [HOUR, 6 * HOUR, 3 * DAY], ids=["hour", "six-hours", "three-days"])
async def test_a_jobs_schedule_equals_plain_sql(house: str, seconds: float) -> None:
    """Runs, lateness and delays of each job as the raw rows of the same buckets say."""
    window = last(seconds)
    async with DatabaseService(house) as db:
        found = {job.id: job for job in await job_schedules(db, window, at(NOW), alive=ONLY_FOURTH)}
    start = stretches(window, at(NOW))[0][1]
    for job_id, job in found.items():
        (expected,) = raw(house, "SELECT count(*) FROM job_executions WHERE job_id = ? AND execution_start_ts >= ?",
                          job_id, start)  # fmt: skip
        assert (job.runs, job.late) == (expected[0], 0)
        assert job.max_delay_ms == (pytest.approx(250) if expected[0] else None)
        assert job.p95_delay_ms == (pytest.approx(250) if job.sampled else None)
    assert set(found) == {1, 2, 3}


async def test_a_job_shows_what_did_not_run(house: str) -> None:
    """By reason, in words, with its first and last time; only what lies in the window."""
    async with DatabaseService(house) as db:
        near = {job.id: job.skips for job in await job_schedules(db, last(2 * DAY), at(NOW), alive=ONLY_FOURTH)}
        far = {job.id: job.skips for job in await job_schedules(db, ALL_TIME, at(NOW), alive=ONLY_FOURTH)}
        one = await skips_of(db, "job", 2, last(2 * DAY))
    assert [(s.reason, s.words, s.count) for s in near[2]] == [("down", "due while the process was down", 3)]
    assert near[2][0].first_at == at(HOUR_NOW - 30 * 3600)
    assert [s.count for s in near[1]] == [2]
    assert [(s.reason, s.count) for s in far[2]] == [("missed", 9), ("down", 3)]
    assert one == near[2]


async def test_an_overdue_job_is_told_by_who_lives(house: str) -> None:
    """Overdue is what a living process did not begin; of a dead one nobody knows."""
    async with DatabaseService(house) as db:
        alive = {job.id: job for job in await job_schedules(db, last(DAY), at(NOW), alive=ONLY_FOURTH)}
        later = {job.id: job for job in await job_schedules(db, last(DAY), at(NOW + 3600), alive=ONLY_FOURTH)}
        dead = {job.id: job for job in await job_schedules(db, last(DAY), at(NOW + DAY), alive=lambda *_: False)}
    assert (alive[1].overdue_s, alive[2].overdue_s) == (None, pytest.approx(300))
    assert later[1].overdue_s is None, "its process has written nothing since: it may have run"
    assert {job.id: job.held for job in alive.values()} == {1: True, 2: True, 3: False}
    assert not any(job.held or job.overdue_s for job in dead.values())


async def test_a_job_that_never_ran_is_not_one_whose_runs_were_pruned(house: str, tmp_path: Path) -> None:
    """Days remember a year of it."""
    path = tmp_path / "pruned.db"
    path.write_bytes(Path(house).read_bytes())
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("DELETE FROM job_executions WHERE job_id = 2")
    async with DatabaseService(str(path)) as db:
        found = {job.id: job for job in await job_schedules(db, last(HOUR), at(NOW), alive=ONLY_FOURTH)}
    assert (found[1].never_ran, found[2].never_ran, found[3].never_ran) == (False, False, True)
    assert found[2].last_run_at is not None


# --- handlers -----------------------------------------------------------------------------------------------


async def test_refusals_stand_beside_the_runs(house: str) -> None:
    """ "Ran 12, refused 400 by its predicate", for each handler, and for those nothing was refused to."""
    async with DatabaseService(house) as db:
        found = {each.id: each for each in await refusals(db, last(DAY), at(NOW))}
        (one,) = await refusals(db, last(DAY), at(NOW), listener_id=1)
    assert [(s.reason, s.count) for s in found[1].skips] == [("predicate", 400), ("debounce", 4)]
    start = stretches(last(DAY), at(NOW))[0][1]
    (expected,) = raw(house, "SELECT count(*) FROM handler_invocations WHERE listener_id = 1 "
                             "AND execution_start_ts >= ?", start)  # fmt: skip
    assert found[1].runs == expected[0] > 0
    assert found[2].skips == []
    assert one == found[1]


# --- quiet --------------------------------------------------------------------------------------------------


def habit(path: str, hours: list[int], *, last_run: float, sessions: list[tuple[Any, ...]] | None = None) -> str:
    """A file with one listener that ran in these hours before NOW, and once more at the end."""
    seeded.build(Path(path), rows=False)
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        seeded.put(conn, "services (id, name)", [(1, "house")])
        columns = "id, service_id, instance_id, started_at, last_heartbeat_at, stopped_at, stop_reason"
        seeded.put(conn, f"sessions ({columns})",
                   sessions or [(1, 1, "one", NOW - 30 * DAY, NOW, None, None)])  # fmt: skip
        seeded.put(conn, "listeners (id, service_id, app_key, instance_index, name, topic, handler_method, "
                         "first_registered_at, last_registered_at)",
                   [(1, 1, "a", 0, "on_it", "t", "on_it", 0, 0)])  # fmt: skip
        holder = max(row[0] for row in sessions) if sessions else 1
        seeded.put(conn, "registration_holders (session_id, kind, registration_id)", [(holder, "handler", 1)])
        figures = ("handler", 1, 1, 5, 0, 0, 0, 0, 0, 0, None, 1, 1, 1, None)
        seeded.put(conn, "rollups", [(3600, HOUR_NOW - 3600 * ago, *figures) for ago in hours])
        columns = "listener_id, session_id, execution_start_ts, duration_ms, status, trace_id, span_id"
        row = (1, 1, last_run, 1, "success", b"t" * 16, b"s" * 8)
        seeded.put(conn, f"handler_invocations ({columns})", [row])
    return path


@pytest.mark.parametrize(
    ("hours", "silent_hours", "is_quiet"),
    [
        (range(5, 150), 4.5, True),
        (range(1, 150), 1.5, False),
        (range(5, 150, 3), 4.5, False),
        (range(8, 150, 3), 7.5, True),
        (range(5, 5 + ENOUGH_HOURS - 1), 4.5, False),
    ],
    ids=["hourly-stopped", "hourly-just-now", "every-three-hours", "every-three-hours-stopped", "too-little-is-known"],
)
async def test_quiet_is_longer_than_twice_its_longest_pause(
    db: str, hours: range, silent_hours: float, is_quiet: bool
) -> None:
    """Against its own habit, and only where there is one."""
    habit(db, list(hours), last_run=NOW - silent_hours * HOUR)
    async with DatabaseService(db) as service:
        (found,) = await quiet(service, at(NOW), alive=EVERYBODY)
    assert found.quiet is is_quiet
    assert found.silent_s == pytest.approx(silent_hours * HOUR)
    assert (found.longest_pause_s is None) is (len(hours) < ENOUGH_HOURS)


async def test_time_without_a_process_is_nobodys_silence(db: str) -> None:
    """Neither does it lengthen the usual pause, nor today's silence."""
    sessions = [(1, 1, "one", NOW - 30 * DAY, NOW - 60 * HOUR, NOW - 60 * HOUR, "crash"),
                (2, 1, "two", NOW - 40 * HOUR, NOW - 20 * HOUR, NOW - 20 * HOUR, "clean_shutdown"),
                (3, 1, "three", NOW - 0.5 * HOUR, NOW, None, None)]  # fmt: skip
    habit(db, [*range(21, 40), *range(61, 150)], last_run=NOW - 20.5 * HOUR, sessions=sessions)
    async with DatabaseService(db) as service:
        (found,) = await quiet(service, at(NOW), alive=lambda _, instance: instance == "three")
    assert found.silent_s == pytest.approx(HOUR)
    assert (found.longest_pause_s or math.inf) < 3 * HOUR
    assert not found.quiet


async def test_who_runs_now_is_not_silent(db: str) -> None:
    """A run of hours is no silence of hours."""
    habit(db, list(range(10, 150)), last_run=NOW - 9 * HOUR)
    with closing(sqlite3.connect(db, isolation_level=None)) as conn:
        seeded.put(conn, "running (session_id, span_id, trace_id, listener_id, execution_start_ts)",
                   [(1, b"r" * 8, b"R" * 16, 1, NOW - 9 * HOUR)])  # fmt: skip
    async with DatabaseService(db) as service:
        (found,) = await quiet(service, at(NOW), alive=EVERYBODY)
    assert (found.silent_s, found.quiet) == (0.0, False)


async def test_nobody_is_quiet_where_nobody_lives(db: str) -> None:
    """What is down is not quiet."""
    habit(db, list(range(10, 150)), last_run=NOW - 9 * HOUR)
    async with DatabaseService(db) as service:
        assert await quiet(service, at(NOW + DAY), alive=lambda *_: False) == []


async def test_an_overdue_job_comes_first(house: str) -> None:
    """Whatever its habit: its next run is five minutes late."""
    async with DatabaseService(house) as db:
        found = await quiet(db, at(NOW), alive=ONLY_FOURTH)
    assert (found[0].kind, found[0].name, found[0].overdue_s) == ("job", "rollup", pytest.approx(300))
    assert [each.overdue_s for each in found[1:]] == [None] * (len(found) - 1)
