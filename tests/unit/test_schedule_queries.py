"""What did not run, and who went quiet: the queries against plain SQL and plain Python over the same rows."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from whenever import Instant

import seeded
from handspan.clock import instant_from_ns
from handspan.reasons import REASON_WORDS, REASONS, reason_words
from handspan.store.queries.schedule import job_schedules, refusals, skips_of
from handspan.store.queries.shapes import ALL_TIME, Window
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


# --- jobs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [HOUR, 6 * HOUR, 3 * DAY], ids=["hour", "six-hours", "three-days"])
async def test_a_jobs_schedule_equals_plain_sql(house: str, seconds: float) -> None:
    """Runs, lateness and delays of each job as the raw rows of the very window say."""
    window = last(seconds)
    async with DatabaseService(house) as db:
        found = {job.id: job for job in await job_schedules(db, window, at(NOW), alive=ONLY_FOURTH)}
    for job_id, job in found.items():
        (expected,) = raw(house, "SELECT count(*) FROM job_executions WHERE job_id = ? AND execution_start_ts >= ?",
                          job_id, NOW - seconds)  # fmt: skip
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
        found = {each.id: each for each in await refusals(db, last(DAY))}
        (one,) = await refusals(db, last(DAY), listener_id=1)
    assert [(s.reason, s.count) for s in found[1].skips] == [("predicate", 400), ("debounce", 4)]
    (expected,) = raw(house, "SELECT count(*) FROM handler_invocations WHERE listener_id = 1 "
                             "AND execution_start_ts >= ?", NOW - DAY)  # fmt: skip
    assert found[1].runs == expected[0] > 0
    assert found[2].skips == []
    assert one == found[1]
