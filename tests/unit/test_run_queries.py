"""Runs found through the rollups, against plain SQL over the rows: slowest, running at a moment, rare ones."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import seeded
from handspan.clock import instant_from_ns, to_epoch, to_ns
from handspan.store.queries.listing import failures_saying, run_page
from handspan.store.queries.moments import running_at
from handspan.store.queries.runs import RunFilter, RunKey
from handspan.store.queries.shapes import ALL_TIME, Window
from handspan.store.queries.slow import slowest_runs
from handspan.store.service import DatabaseService
from handspan.store.statements import statements
from rolled import roll_up
from seeded import DAY, HOUR, NOW, raw

DAY_START = NOW - NOW % DAY


def at(epoch: float) -> Any:
    return instant_from_ns(round(epoch * 1e6) * 1000)


# A few moments around the edges of minutes, hours and days, so that they are hit.
EDGES = st.sampled_from([DAY_START, DAY_START - HOUR, DAY_START - DAY, DAY_START + 60, DAY_START - 3 * HOUR - 60])
MOMENTS = st.builds(
    lambda edge, off: round(edge + off, 6), EDGES, st.sampled_from([0, -1e-6, 1e-6, 0.5, -7, 30, 600, -4000])
)
DURATIONS = st.sampled_from([0.0, 0.001, 1.0, 1.0, 250.5, 59_000, 61_000.25, 4e6, 9e7, 2e10])
RUNS = st.lists(
    st.tuples(
        st.sampled_from(["handler", "job"]), st.integers(1, 3), st.integers(1, 3), MOMENTS, DURATIONS,
        st.sampled_from(["success", "success", "error", "cancelled"]),
    ),
    max_size=60,
)  # fmt: skip
FILTERS = st.builds(
    RunFilter,
    handler=st.sampled_from([None, None, "on_motion", "on_push"]),
    app=st.sampled_from([None, None, "lights", "energy"]),
    status=st.sampled_from([None, None, "success", "error", "cancelled"]),
    session_id=st.sampled_from([None, None, 1, 2]),
    at_least_ms=st.sampled_from([None, 1.0, 300.0, 61_000.25]),
)
BOUNDS = st.none() | MOMENTS
WINDOWS = st.tuples(BOUNDS, BOUNDS)
LEFT = st.sampled_from(["all", "no minutes", "half the minutes", "half of all", "none", "backfilling"])


def write(path: str, runs: list[tuple[Any, ...]], left: str) -> None:
    """The rows, and of their rollups what is left."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        for table in ("handler_invocations", "job_executions", "rollups", "running", "backfills"):
            conn.execute(f"DELETE FROM {table}")
        for n, (kind, parent, session, start, duration, status) in enumerate(runs):
            table, column = (
                ("handler_invocations", "listener_id") if kind == "handler" else ("job_executions", "job_id")
            )
            conn.execute(
                f"INSERT INTO {table} ({column}, session_id, execution_start_ts, duration_ms, status, trace_id, "
                "span_id, error_type, error_message) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (parent, session, start, duration, status, n.to_bytes(16, "big"), n.to_bytes(8, "big"),
                 "ValueError" if status == "error" else None, f"number {n}" if status == "error" else None),
            )  # fmt: skip
        if left == "backfilling":
            put_backfill(conn)
        else:
            roll_up(conn)
            forget(conn, left)
        conn.execute("COMMIT")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def put_backfill(conn: sqlite3.Connection) -> None:
    """The first half of each table is told of, as far as it came."""
    rest: dict[str, list[Any]] = {}
    for table in ("handler_invocations", "job_executions"):
        (last,) = conn.execute(f"SELECT coalesce(max(id), 0) FROM {table}").fetchone()
        rest[table] = conn.execute(f"SELECT * FROM {table} WHERE id > ?", (last // 2,)).fetchall()
        conn.execute(f"DELETE FROM {table} WHERE id > ?", (last // 2,))
        conn.execute("INSERT INTO backfills VALUES (?, ?, ?)", (table, last // 2 + 1, last))
    roll_up(conn)
    for table, rows in rest.items():
        conn.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * 18)})", rows)


def forget(conn: sqlite3.Connection, left: str) -> None:
    """What was pruned: the older part of a resolution, as retention does it."""
    middle = int(DAY_START - 3600)
    if left in ("no minutes", "none"):
        conn.execute("DELETE FROM rollups WHERE resolution = 60")
    if left in ("half the minutes", "half of all"):
        conn.execute("DELETE FROM rollups WHERE resolution = 60 AND bucket_start < ?", (middle + 60,))
    if left == "half of all":
        conn.execute("DELETE FROM rollups WHERE resolution = 3600 AND bucket_start < ?", (middle,))
    if left == "none":
        conn.execute("DELETE FROM rollups")


def conditions(which: RunFilter, window: Window) -> tuple[str, dict[str, Any]]:
    """A filter as plain SQL over v_executions."""
    bounds = window.params()
    where = "execution_start_ts >= :since AND execution_start_ts < :until"
    for column, value in (
        ("app_key", which.app), ("status", which.status), ("session_id", which.session_id), ("name", which.handler)
    ):  # fmt: skip
        if value is not None:
            where += f" AND {column} = :{column}"
            bounds[column] = value
    if which.handler is not None:
        where += " AND kind = 'handler'"
    if which.at_least_ms is not None:
        where += " AND duration_ms >= :least"
        bounds["least"] = which.at_least_ms
    return where, bounds


def plain(path: str, sql: str, params: dict[str, Any]) -> list[Any]:
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as conn:
        return conn.execute(sql, params).fetchall()


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> str:
    return seeded.build(tmp_path_factory.mktemp("scratch") / "scratch.db")


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = seeded.build(tmp_path_factory.mktemp("house") / "house.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        roll_up(conn)
    return path


MANY = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def window_of(bounds: tuple[float | None, float | None]) -> Window:
    since, until = bounds
    return Window(None if since is None else at(since), None if until is None else at(until))


# --- slowest ----------------------------------------------------------------------------------------------


@MANY
@given(RUNS, LEFT, FILTERS, WINDOWS, st.integers(1, 30))
def test_slowest_are_those_of_the_rows(
    scratch: str, runs: list[Any], left: str, which: RunFilter, bounds: tuple[float | None, float | None], limit: int
) -> None:
    """Whatever the filter, the window and what is left of the rollups: durations as sorting every row gives them."""
    write(scratch, runs, left)
    window = window_of(bounds)

    async def ask() -> list[Any]:
        async with DatabaseService(scratch) as db:
            return await slowest_runs(db, which, window, limit=limit)

    found = asyncio.run(ask())
    where, params = conditions(which, window)
    wanted = plain(
        scratch, f"SELECT duration_ms FROM v_executions WHERE {where} ORDER BY duration_ms DESC LIMIT {limit}", params
    )
    assert [run.duration_ms for run in found] == [duration for (duration,) in wanted]
    every = set(plain(scratch, f"SELECT kind, id, duration_ms FROM v_executions WHERE {where}", params))
    assert {(run.kind, run.id, run.duration_ms) for run in found} <= every
    assert len({(run.kind, run.id) for run in found}) == len(found)


async def test_slowest_of_a_house(house: str) -> None:
    """With names, and none under the threshold."""
    async with DatabaseService(house) as db:
        found = await slowest_runs(db, RunFilter(at_least_ms=800), limit=6)
    wanted = raw(house, "SELECT duration_ms FROM v_executions WHERE duration_ms >= 800 ORDER BY 1 DESC LIMIT 6")
    assert [run.duration_ms for run in found] == [duration for (duration,) in wanted]
    assert found
    assert all(run.app_key and run.service for run in found)


async def test_slowest_survive_the_pruning_of_the_slower_ones(tmp_path: Path) -> None:
    """A bucket's longest run may be gone while its rollup stays: then the next ones count."""
    path = seeded.build(tmp_path / "pruned.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        roll_up(conn)
        conn.execute("DELETE FROM handler_invocations WHERE duration_ms > 800")
        conn.execute("DELETE FROM job_executions WHERE duration_ms > 800")
    async with DatabaseService(path) as db:
        found = await slowest_runs(db, limit=25)
    wanted = raw(path, "SELECT duration_ms FROM v_executions ORDER BY 1 DESC LIMIT 25")
    assert [run.duration_ms for run in found] == [duration for (duration,) in wanted]


class Watched(DatabaseService):
    """Counts what comes back from the execution tables."""

    rows = 0

    async def fetch_all(self, sql: str, params: Any = (), **options: Any) -> Any:
        found = await super().fetch_all(sql, params, **options)
        if "ranges" in params:
            type(self).rows += len(await super().fetch_all(sql, {**params, "limit": 2**62, "least_ms": -1.0}))
        return found


@pytest.fixture
def watched() -> Iterator[type[Watched]]:
    Watched.rows = 0
    yield Watched
    Watched.rows = 0


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A week of a run every 30 s, three of them long."""
    path = seeded.build(tmp_path_factory.mktemp("busy") / "busy.db")
    week = [
        ("handler", 1, 1, round(NOW - 7 * DAY + 30 * n, 6), 3_000_000.0 if n in (5000, 9000) else 5.0 + n % 7,
         "error" if n == 4321 else "success")
        for n in range(7 * 2880)
    ]  # fmt: skip
    write(path, week, "all")
    return path


async def test_slowest_reads_few_rows(busy: str, watched: type[Watched]) -> None:
    """Twenty thousand runs, and only minutes that can hold the slowest are read."""
    async with watched(busy) as db:
        found = await slowest_runs(db, limit=2)
    assert [run.duration_ms for run in found] == [3_000_000.0] * 2
    assert watched.rows < 100


# --- at a moment ----------------------------------------------------------------------------------------------


@MANY
@given(RUNS, LEFT, MOMENTS)
def test_running_at_is_that_of_the_rows(scratch: str, runs: list[Any], left: str, moment: float) -> None:
    """start <= t < start + duration, for every t, also across midnight and past what is kept of the rollups."""
    write(scratch, runs, left)

    async def ask() -> Any:
        async with DatabaseService(scratch) as db:
            return await running_at(db, at(moment), at(NOW), limit=1000)

    found = asyncio.run(ask())
    wanted = plain(
        scratch,
        "SELECT kind, id FROM v_executions WHERE execution_start_ts <= :t "
        "AND execution_start_ts + duration_ms / 1000.0 > :t ORDER BY execution_start_ts, kind, id",
        {"t": to_epoch(to_ns(at(moment)))},
    )
    assert [(run.kind, run.id) for run in found.finished] == wanted


async def test_running_at_reads_few_rows(busy: str, watched: type[Watched]) -> None:
    """A run of 50 minutes hides nothing and costs no scan."""
    moment = NOW - 7 * DAY + 30 * 5000 + 1215
    async with watched(busy) as db:
        found = await running_at(db, at(moment), at(NOW))
    assert [run.duration_ms for run in found.finished] == [3_000_000.0]
    assert watched.rows < 300


async def test_in_flight_counts_from_its_start_on(house: str) -> None:
    """What has not ended yet ran since it started, and not before."""
    async with DatabaseService(house) as db:
        then = await running_at(db, at(NOW - 1), at(NOW))
        before = await running_at(db, at(NOW - 4), at(NOW))
    assert [run.name for run in then.in_flight] == ["arrived"]
    assert then.in_flight[0].running_s == pytest.approx(3)
    assert before.in_flight == []


# --- rare ones ------------------------------------------------------------------------------------------------


@MANY
@given(RUNS, LEFT, FILTERS, WINDOWS, st.integers(1, 9))
def test_pages_of_rare_runs_join_up(
    scratch: str, runs: list[Any], left: str, which: RunFilter, bounds: tuple[float | None, float | None], limit: int
) -> None:
    """By session, length and status of a registration: page after page what plain SQL gives, each run once."""
    write(scratch, runs, left)
    window = window_of(bounds)

    async def ask() -> list[tuple[str, int]]:
        found: list[tuple[str, int]] = []
        key: RunKey | None = None
        async with DatabaseService(scratch) as db:
            while True:
                page = await run_page(db, which, window, limit=limit, after=key)
                found += [(run.kind, run.id) for run in page.runs]
                key = page.after
                if key is None:
                    return found

    where, params = conditions(which, window)
    wanted = plain(
        scratch,
        f"SELECT kind, id FROM v_executions WHERE {where} ORDER BY execution_start_ts DESC, kind DESC, id DESC",
        params,
    )
    assert asyncio.run(ask()) == wanted


async def test_a_rare_failure_is_not_searched_for_row_by_row(busy: str, watched: type[Watched]) -> None:
    """One failure in a week is found by its minute."""
    async with watched(busy) as db:
        page = await run_page(db, RunFilter(handler="on_motion", status="error"), limit=20)
    assert [run.status for run in page.runs] == ["error"]
    assert watched.rows < 100


@pytest.mark.parametrize("text", ["after 24", "VALUEERROR", "nothing says this", "%"])
async def test_failures_by_their_text(house: str, text: str) -> None:
    """Type or message, in any case; no character of the text is special."""
    async with DatabaseService(house) as db:
        found = await failures_saying(db, text, RunFilter(), limit=1000)
    wanted = raw(
        house,
        "SELECT kind, id FROM v_executions WHERE status <> 'success' AND (instr(lower(error_message), lower(?)) "
        "OR instr(lower(error_type), lower(?))) ORDER BY execution_start_ts DESC, kind DESC, id DESC",
        text, text,
    )  # fmt: skip
    assert [(run.kind, run.id) for run in found.page.runs] == wanted
    assert found.back_to is None


async def test_a_text_is_looked_for_in_a_bounded_number(house: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says how far it looked, and claims nothing about what lies before."""
    monkeypatch.setattr("handspan.store.queries.listing.LOOKED", 10)
    async with DatabaseService(house) as db:
        found = await failures_saying(db, "after 1", RunFilter(handler="*"), ALL_TIME, limit=1000)
    looked = raw(house, "SELECT execution_start_ts FROM handler_invocations WHERE status <> 'success' "
                        "ORDER BY 1 DESC LIMIT 10")  # fmt: skip
    assert to_epoch(to_ns(found.back_to)) == looked[-1][0]
    assert all(run.started_at >= found.back_to for run in found.page.runs)


PARAMS = {
    "kind": "handler", "only": None, "session": None, "status": None, "least_ms": 0.0, "least_ns": 0, "since": 0.0,
    "until": NOW, "at": NOW, "resolution": 3600, "finer": 60, "buckets": "[[0, 1]]", "ranges": "[[1, 0, 1]]",
    "limit": 5, "by_duration": True, "before": NOW, "first": 1, "last": 2, "app": None, "name": None, "table": "x",
}  # fmt: skip


@pytest.mark.parametrize("analyzed", [False, True], ids=["no statistics", "statistics"])
@pytest.mark.parametrize(
    "name", ["within", "handler_rows", "job_rows", "handler_before", "job_before", "handler_untold"]
)
def test_rows_and_buckets_are_sought(busy: str, tmp_path: Path, name: str, analyzed: bool) -> None:
    """By what was asked for, also once there are statistics: no scan, no Bloom filter over a whole table."""
    path = tmp_path / "copy.db"
    path.write_bytes(Path(busy).read_bytes())
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        if analyzed:
            conn.execute("ANALYZE")
        sql = statements("queries/buckets.sql")[name]
        plan = [step[3] for step in conn.execute(f"EXPLAIN QUERY PLAN {sql}", PARAMS)]
        steps = [row[5] for row in conn.execute(f"EXPLAIN {sql}", PARAMS) if row[1] in ("SeekGE", "SeekGT")]
    assert not [step for step in plan if "BLOOM" in step or step.startswith(("SCAN i", "SCAN rollups"))], plan
    assert steps or name.endswith("untold")


async def test_a_range_reads_its_own_rows_only(busy: str) -> None:
    """Not the window: in SQLite's steps, a minute costs the same whatever lies around it."""
    sql = statements("queries/buckets.sql")["handler_rows"]
    with closing(sqlite3.connect(f"file:{busy}?mode=ro&immutable=1", uri=True)) as conn:
        (first,) = conn.execute("SELECT min(execution_start_ts) FROM handler_invocations").fetchone()
        count = 0

        def step() -> int:
            nonlocal count
            count += 1
            return 0

        conn.set_progress_handler(step, 10)
        ranges = f"[[1, {first + 60}, {first + 120}]]"
        rows = conn.execute(sql, PARAMS | {"ranges": ranges, "since": 0.0, "until": 1e12, "at": None}).fetchall()
    assert len(rows) == 3
    assert count < 50
