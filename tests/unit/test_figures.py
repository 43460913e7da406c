"""Figures from rollups against a GROUP BY over the raw rows, for any rows and any window."""

import asyncio
import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from whenever import Instant

import seeded
from handspan.clock import instant_from_ns, to_epoch, to_ns
from handspan.store.backfill import backfill, start_over
from handspan.store.parents import Parents
from handspan.store.queries import figures as query
from handspan.store.queries.cover import Cover, cover
from handspan.store.queries.figures import Figures, Which, by_registration, overall
from handspan.store.queries.shapes import ALL_TIME, Window
from handspan.store.service import DatabaseService
from seeded import DAY, HOUR, raw

START = 1_780_012_800  # a midnight

ROWS = """
    SELECT 'handler' AS kind, listener_id AS registration_id, session_id, execution_start_ts, duration_ms, status,
           error_type, queue_ms AS delay_ms, 0 AS late
    FROM handler_invocations
    UNION ALL
    SELECT 'job', job_id, session_id, execution_start_ts, duration_ms, status, error_type,
           round((execution_start_ts - scheduled_ts) * 1e6) / 1e3, coalesce(execution_start_ts - scheduled_ts > 5, 0)
    FROM job_executions
"""


def at(epoch: float) -> Instant:
    return instant_from_ns(round(epoch * 1e6) * 1000)


def truth(path: str, window: Window, where: str = "1", key: str = "kind, registration_id") -> dict[Any, list[Any]]:
    """Plain SQL over the raw rows, and their durations in nanoseconds."""
    since, until = window.params()["since"], window.params()["until"]
    bounds = (
        f"execution_start_ts >= {since if math.isfinite(since) else -9e18} AND "
        f"execution_start_ts < {until if math.isfinite(until) else 9e18} AND {where}"
    )
    sums = raw(path, f"""
        SELECT {key}, count(*), sum(status = 'error'), sum(status = 'cancelled'),
               sum(status = 'error' AND error_type = 'DependencyError'),
               sum(status = 'error' AND error_type = 'TimeoutError'),
               sum(status = 'error' AND error_type = 'ProcessInterrupted'), sum(late), max(delay_ms),
               group_concat(duration_ms)
        FROM ({ROWS}) AS r LEFT JOIN sessions AS s ON s.id = r.session_id WHERE {bounds} GROUP BY {key}""")  # fmt: skip
    return {row[:-9]: list(row[-9:]) for row in sums}


def agrees(found: Figures, wanted: list[Any]) -> None:
    runs, errors, cancelled, dependency, timeouts, interrupted, late, delay, durations = wanted
    ns = sorted(round(float(each) * 1e6) for each in durations.split(","))
    assert (found.runs, found.errors, found.cancelled, found.dependency_failures, found.timeouts) == (
        runs, errors, cancelled, dependency, timeouts)  # fmt: skip
    assert (found.interrupted, found.late, found.successes) == (interrupted, late, runs - errors - cancelled)
    assert round(found.total_ms * 1e6) == sum(ns)
    assert (found.min_ms, found.max_ms) == (ns[0] / 1e6, ns[-1] / 1e6)
    assert found.max_delay_ms == pytest.approx(delay)
    for share, value in ((0.50, found.p50_ms), (0.95, found.p95_ms), (0.99, found.p99_ms)):
        nearest = ns[max(1, math.ceil(share * len(ns))) - 1] / 1e6
        assert value == pytest.approx(nearest, rel=0.05, abs=1e-6)


# --- any rows, any window --------------------------------------------------------------------------------------

# Few moments, close to where buckets begin and end, so that rows and edges often meet.
moments = st.builds(
    lambda day, hour, minute, second, us: START + day * 86_400 + hour * 3600 + minute * 60 + second + us / 1e6,
    st.integers(0, 2), st.sampled_from([0, 1, 12, 23]), st.sampled_from([0, 1, 59]), st.sampled_from([0, 30, 59]),
    st.sampled_from([0, 1, 999_999]),
)  # fmt: skip
runs = st.lists(
    st.tuples(
        st.sampled_from(["handler", "job"]), st.integers(1, 3), st.integers(1, 4), moments,
        st.integers(0, 10**11), st.sampled_from(["success", "success", "error", "cancelled"]),
        st.sampled_from(["ValueError", "DependencyError", "TimeoutError", "ProcessInterrupted"]),
        st.none() | st.integers(0, 20_000_000),
    ),
    max_size=60,
)  # fmt: skip
edges = st.none() | moments


def fill(path: str, rows: list[tuple[Any, ...]]) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        conn.execute("DELETE FROM handler_invocations")
        conn.execute("DELETE FROM job_executions")
        for kind, parent, session, moment, duration_ns, status, error, delay_us in rows:
            start = round(moment, 6)
            common = (parent, session, start, duration_ns / 1e6, status, error if status == "error" else None)
            columns = "session_id, execution_start_ts, duration_ms, status, error_type, trace_id, span_id"
            if kind == "handler":
                conn.execute(f"INSERT INTO handler_invocations (listener_id, {columns}, queue_ms) "
                             "VALUES (?, ?, ?, ?, ?, ?, x'01', x'02', ?)",
                             (*common, None if delay_us is None else delay_us / 1e3))  # fmt: skip
            else:
                due = None if delay_us is None else round(start - delay_us / 1e6, 6)
                conn.execute(f"INSERT INTO job_executions (job_id, {columns}, scheduled_ts) "
                             "VALUES (?, ?, ?, ?, ?, ?, x'01', x'02', ?)", (*common, due))  # fmt: skip
        conn.execute("DELETE FROM rollups")
        conn.execute("COMMIT")
        start_over(conn)
        for _ in backfill(conn, Parents(conn)):
            pass


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> str:
    return seeded.build(tmp_path_factory.mktemp("scratch") / "scratch.db")


def asked(path: str, question: Callable[[DatabaseService], Any]) -> Any:
    async def answer() -> Any:
        async with DatabaseService(path) as db:
            return await question(db)

    return asyncio.run(answer())


@given(rows=runs, since=edges, until=edges)
@example(rows=[("job", 1, 1, START + 59.999999, 5, "success", "", None)] * 3, since=START + 59.999999, until=START + 60)
@example(
    rows=[("handler", 1, 1, START + 30, n, "error", "TimeoutError", 3) for n in range(9)],
    since=START + 30,
    until=START + 30.5,
)
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_figures_are_the_rows(scratch: str, rows: list[Any], since: float | None, until: float | None) -> None:
    """Counts and sums exactly, percentiles within 5 %, for each registration: of everybody and asked one by one."""
    fill(scratch, rows)
    window = Window(None if since is None else at(since), None if until is None else at(until))
    wanted = truth(scratch, window)

    async def question(db: DatabaseService) -> Any:
        ranges = await cover(db, window)
        each = [(kind, n) for kind in ("handler", "job") for n in (1, 2, 3)]
        singly = {key: await overall(db, ranges, Which(*key)) for key in each}
        return ranges, await by_registration(db, ranges), singly

    ranges, found, singly = asked(scratch, question)
    assert not ranges.widened
    assert set(found) == set(wanted)
    for key, figures in found.items():
        agrees(figures, wanted[key])
    assert {key: figures for key, figures in singly.items() if figures.runs} == found


@given(rows=runs, since=edges)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_parts_of_a_window_make_the_whole(scratch: str, rows: list[Any], since: float | None) -> None:
    """By kind, app, session and version: each is what its rows are, and they add up."""
    fill(scratch, rows)
    window = Window(None if since is None else at(since))

    async def question(db: DatabaseService) -> Any:
        ranges = await cover(db, window)
        parts = {by: await query.figures(db, ranges, by=(by,)) for by in ("kind", "app", "session", "version")}
        return parts, await overall(db, ranges)

    parts, whole = asked(scratch, question)
    for by, found in parts.items():
        assert sum(figures.runs for figures in found.values()) == whole.runs, by
        assert sum(round(figures.total_ms * 1e6) for figures in found.values()) == round(whole.total_ms * 1e6), by
    for by, key in (("session", "session_id"), ("version", "s.service_version"), ("kind", "kind")):
        wanted = truth(scratch, window, key=key)
        assert {next((part for part in each if part is not None), None) for each in parts[by]} == {k for (k,) in wanted}
        for each, figures in parts[by].items():
            agrees(figures, wanted[(next((part for part in each if part is not None), None),)])


# --- filters -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> str:
    return seeded.build(tmp_path_factory.mktemp("house") / "house.db")


@pytest.mark.parametrize(
    ("which", "where"),
    [
        pytest.param(Which(kind="job"), "kind = 'job'", id="a kind"),
        pytest.param(Which(sessions=[2, 4]), "session_id IN (2, 4)", id="sessions"),
        pytest.param(Which(sessions=[]), "0", id="no session"),
        pytest.param(Which(app="lights"), "kind = 'handler' AND registration_id IN (1, 2, 6)", id="an app"),
        pytest.param(Which(app="nobody"), "0", id="an app that is not there"),
        pytest.param(Which("handler", 3, sessions=[4]), "kind = 'handler' AND registration_id = 3 AND session_id = 4",
                     id="a registration in a session"),
    ],
)  # fmt: skip
async def test_filters(house: str, which: Which, where: str) -> None:
    """Each filter gives what the same condition gives in plain SQL."""
    window = Window(at(seeded.NOW - 2 * DAY), at(seeded.NOW - HOUR))
    async with DatabaseService(house) as db:
        found = await by_registration(db, window, which)
    wanted = truth(house, window, where)
    assert set(found) == set(wanted)
    for key, figures in found.items():
        agrees(figures, wanted[key])


async def test_percentiles_only_where_asked_for(house: str) -> None:
    """Without them no histogram is read, and everything else is the same."""
    async with DatabaseService(house) as db:
        found = await overall(db, ALL_TIME, percentiles=False)
        whole = await overall(db, ALL_TIME)
    assert (found.p50_ms, found.p95_ms, found.p99_ms) == (None, None, None)
    assert (found.runs, found.total_ms, found.max_ms) == (whole.runs, whole.total_ms, whole.max_ms)


# --- what is kept no longer ------------------------------------------------------------------------------------------


@pytest.fixture
def pruned(house: str, tmp_path: Path) -> Callable[[float, float], str]:
    """The house without the minutes and rows, and the hours, before two moments."""

    def prune(minutes: float, hours: float) -> str:
        path = str(tmp_path / "pruned.db")
        with closing(sqlite3.connect(house)) as old, closing(sqlite3.connect(path)) as conn:
            old.backup(conn)
            conn.execute("DELETE FROM rollups WHERE resolution = 60 AND bucket_start < ?", (minutes // HOUR * HOUR,))
            conn.execute("DELETE FROM rollups WHERE resolution = 3600 AND bucket_start < ?", (hours // DAY * DAY,))
            conn.execute("DELETE FROM handler_invocations WHERE execution_start_ts < ?", (minutes,))
            conn.execute("DELETE FROM job_executions WHERE execution_start_ts < ?", (minutes,))
            conn.commit()
        return path

    return prune


@pytest.mark.parametrize(
    ("since", "until", "widened"),
    [
        pytest.param(30.5, None, None, id="where everything is kept"),
        pytest.param(60.4, None, (HOUR, None), id="where minutes are gone: to the hour"),
        pytest.param(85.3, 60.4, (DAY, HOUR), id="both edges, each as far as it must"),
        pytest.param(85.3, 85.2, (DAY, DAY), id="one day, of which nothing finer is left"),
        pytest.param(500.0, None, None, id="before there was anything"),
    ],
)  # fmt: skip
async def test_edges_go_outward(
    pruned: Callable[[float, float], str], house: str, since: float, until: float | None, widened: Any
) -> None:
    """What is answered is said, and is exactly what the rows of that time were."""
    now = seeded.NOW
    path = pruned(now - 2 * DAY, now - 2 * DAY)
    window = Window(at(now - since * HOUR), None if until is None else at(now - until * HOUR))
    async with DatabaseService(path) as db:
        ranges: Cover = await cover(db, window)
        found = await by_registration(db, ranges)
    assert ranges.widened is (widened is not None)
    if widened:
        down = math.floor((now - since * HOUR) / widened[0]) * widened[0]
        assert ranges.effective.since == at(down)
        if widened[1]:
            up = math.ceil((now - (until or 0) * HOUR) / widened[1]) * widened[1]
            assert to_epoch(to_ns(ranges.effective.until or at(0))) == up
    else:
        assert ranges.effective == window
    wanted = truth(house, ranges.effective)
    assert set(found) == set(wanted)
    for key, figures in found.items():
        agrees(figures, wanted[key])


async def test_an_empty_file(tmp_path: Path) -> None:
    """Nothing is nothing, not an error."""
    async with DatabaseService(seeded.build(tmp_path / "empty.db", rows=False)) as db:
        assert await overall(db, ALL_TIME) == query.NOTHING
        assert await by_registration(db, Window(at(START), at(START + 1))) == {}


async def test_rows_that_are_still_being_counted_in(house: str, tmp_path: Path) -> None:
    """An upgraded file says that figures of its past are too low."""
    path = str(tmp_path / "upgraded.db")
    with closing(sqlite3.connect(house)) as old, closing(sqlite3.connect(path)) as conn:
        old.backup(conn)
        conn.execute("INSERT INTO backfills VALUES ('handler_invocations', 1, 300)")
        conn.commit()
    async with DatabaseService(path) as db:
        assert (await cover(db, ALL_TIME)).filling
    async with DatabaseService(house) as db:
        assert not (await cover(db, ALL_TIME)).filling


async def test_a_damaged_histogram_is_taken_for_its_longest(house: str, tmp_path: Path) -> None:
    """A figure too high is looked into; one that is missing is not. Counts do not suffer."""
    path = str(tmp_path / "damaged.db")
    with closing(sqlite3.connect(house)) as old, closing(sqlite3.connect(path)) as conn:
        old.backup(conn)
        conn.execute("UPDATE rollups SET histogram = x'9301' WHERE histogram IS NOT NULL AND registration_id = 1")
        conn.commit()
    async with DatabaseService(path) as db:
        found = await overall(db, ALL_TIME, Which("handler", 1))
    async with DatabaseService(house) as db:
        sound = await overall(db, ALL_TIME, Which("handler", 1))
    assert (found.runs, found.total_ms) == (sound.runs, sound.total_ms)
    assert found.p50_ms is not None
    assert sound.p50_ms is not None
    assert found.p50_ms >= sound.p50_ms
