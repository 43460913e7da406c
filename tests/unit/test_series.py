"""Series over time: they add up to the raw rows, and what was not recorded is not zero."""

import asyncio
import math
import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import seeded
from handspan.clock import instant_from_ns, to_ns
from handspan.store.backfill import backfill, start_over
from handspan.store.histogram import bound_ms, encode, histogram_of, percentile, percentiles
from handspan.store.parents import Parents
from handspan.store.queries import grid, series
from handspan.store.queries.grid import Grid, grid_of
from handspan.store.queries.merging import merge
from handspan.store.queries.shapes import ALL_TIME, Window
from handspan.store.service import DatabaseService
from seeded import DAY, HOUR, NOW, raw

SERIES_SQL = (Path(series.__file__).parent / "series.sql").read_text()


def at(epoch):
    return instant_from_ns(round(epoch * 1e6) * 1000)


def epoch(moment):
    return to_ns(moment) / 1e9


def window(since=None, until=None):
    return Window(None if since is None else at(since), None if until is None else at(until))


def ask(path, question):
    async def answer():
        async with DatabaseService(path) as db:
            return await question(db)

    return asyncio.run(answer())


@pytest.fixture
def house(tmp_path):
    return seeded.build(tmp_path / "house.db")


def change(path, *statements):
    """Then count the rows into rollups anew."""
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("PRAGMA synchronous = OFF")  # nobody pulls the plug here
        for statement, *params in statements:
            conn.execute(statement, params)
        conn.execute("DELETE FROM rollups")
        start_over(conn)
        for _ in backfill(conn, Parents(conn)):
            pass


# --- they add up --------------------------------------------------------------------------------------------

RUNS = st.lists(
    st.tuples(
        st.integers(1, 4),  # listener
        st.sampled_from([1, 2, 4]),  # session
        st.integers(0, int(4 * DAY) * 1000),  # milliseconds before NOW
        st.floats(0.001, 100_000),
        st.sampled_from(["success", "error", "cancelled"]),
    ),
    max_size=60,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(RUNS, st.floats(0, 5 * DAY), st.floats(1, 4 * DAY), st.integers(1, 300))
def test_series_add_up_to_the_raw_rows(tmp_path_factory, runs, ago, length, points):
    """Point by point, of all, of one app and of each: what plain SQL counts over the rows, also max and percentiles."""
    path = str(tmp_path_factory.mktemp("added") / "x.db")
    seeded.build(path)
    insert = (
        "INSERT INTO handler_invocations (listener_id, session_id, execution_start_ts, duration_ms, status, trace_id, "
        "span_id, error_type) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, CASE ?5 WHEN 'error' THEN 'ValueError' END)"
    )
    change(
        path,
        ("DELETE FROM handler_invocations",),
        ("DELETE FROM job_executions",),
        *(
            (
                insert,
                listener,
                session,
                NOW - before / 1000,
                duration,
                status,
                n.to_bytes(16, "big"),
                n.to_bytes(8, "big"),
            )
            for n, (listener, session, before, duration, status) in enumerate(runs)
        ),
    )
    asked = window(NOW - ago, min(NOW - ago + length, NOW))

    async def question(db):
        return (
            await series.total_series(db, asked, at(NOW), points=points),
            await series.total_series(db, asked, at(NOW), points=points, app="lights"),
            await series.registration_series(db, "handler", 3, asked, at(NOW), points=points),
            await series.roll(db, asked, at(NOW), points=points),
        )

    everything, lights, flaky, roll = ask(path, question)
    assert len(everything.points) <= points + 1
    for found, which in ((everything, "1"), (lights, "app_key = 'lights'"), (flaky, "listener_id = 3")):
        for point in found.points:
            start = epoch(point.started_at)
            assert start % found.step_s == 0
            (row,) = raw(
                path,
                "SELECT count(*), coalesce(sum(status = 'error'), 0), coalesce(sum(status = 'cancelled'), 0), "
                f"max(duration_ms) FROM v_handler_invocations WHERE {which} "
                "AND execution_start_ts >= ? AND execution_start_ts < ?",
                start, start + found.step_s,
            )  # fmt: skip
            assert (point.runs, point.errors, point.cancelled) == row[:3]
            assert point.max_ms == (None if row[3] is None else pytest.approx(row[3], rel=1e-6, abs=1e-6))
    for row in roll.rows:
        for place, runs_there in enumerate(row.runs if row.kind == "handler" else ()):
            start = roll.grid.start + place * roll.grid.step
            ((counted, failed),) = raw(
                path,
                "SELECT count(*), coalesce(sum(status = 'error'), 0) FROM handler_invocations "
                "WHERE listener_id = ? AND execution_start_ts >= ? AND execution_start_ts < ?",
                row.id, start, start + roll.grid.step,
            )  # fmt: skip
            assert (runs_there, row.errors[place]) == (counted, failed)
    check_percentiles(path, flaky, "listener_id = 3")
    if everything.latency_step_s == everything.step_s:
        check_percentiles(path, everything, "1")


def check_percentiles(path, found, which):
    """Within 5 % of the nearest rank over the raw rows."""
    for point in found.points:
        start = epoch(point.started_at)
        took = sorted(
            took
            for (took,) in raw(
                path,
                f"SELECT duration_ms FROM handler_invocations WHERE {which} AND execution_start_ts >= ? "
                "AND execution_start_ts < ?",
                start,
                start + found.step_s,
            )
        )
        for share, value in ((0.5, point.p50_ms), (0.95, point.p95_ms), (0.99, point.p99_ms)):
            if took:
                assert value == pytest.approx(took[max(1, math.ceil(share * len(took))) - 1], rel=0.05)
            else:
                assert value is None


def test_the_first_point_begins_before_the_window(house):
    """Aligned: a point is a whole bucket, so that two looks a minute apart show the same points."""
    one, other = (
        ask(
            house,
            lambda db, now=now: series.registration_series(db, "handler", 1, window(now - DAY), at(now), step=300),
        )
        for now in (NOW, NOW + 61)
    )
    assert epoch(one.points[0].started_at) <= NOW - DAY
    assert {point.started_at: point.runs for point in one.points}.items() <= {
        **{point.started_at: point.runs for point in other.points},
        one.points[0].started_at: one.points[0].runs,
    }.items()


# --- resolutions ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("length", "points", "step", "resolution"),
    [
        pytest.param(HOUR, 60, 60, 60, id="an hour by the minute"),
        pytest.param(DAY, 288, 300, 60, id="a day by five minutes"),
        pytest.param(DAY, 48, 1800, 60, id="a day by half hours"),
        pytest.param(4 * DAY, 100, 3600, 3600, id="days by the hour"),
        pytest.param(4 * DAY, 40, 10_800, 3600, id="days by three hours"),
        pytest.param(365 * DAY, 400, 86_400, 86_400, id="a year by the day"),
        pytest.param(365 * DAY, 60, 604_800, 86_400, id="a year by the week"),
    ],
)
def test_steps_people_think_in(house, length, points, step, resolution):
    """The finest that fits, made of the largest buckets it is a multiple of."""
    found = ask(house, lambda db: grid_of(db, window(NOW - length), at(NOW), points=points))
    assert (found.step, found.resolution) == (step, resolution)
    assert found.start % step == 0
    assert found.start <= NOW - length < found.start + step
    assert found.end - step < NOW <= found.end
    assert found.count <= points + 1


def test_hours_where_minutes_are_gone(tmp_path):
    """Rollups by the minute live as long as the rows; the window of last week is drawn by the hour then."""
    path = seeded.build(tmp_path / "x.db")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("DELETE FROM rollups WHERE resolution = 60 AND bucket_start < ?", (NOW - DAY,))
    asked = window(NOW - 3 * DAY, NOW - 2 * DAY)
    found = ask(path, lambda db: series.total_series(db, asked, at(NOW), points=288))
    assert (found.step_s, found.resolution_s) == (3600, 3600)
    assert sum(point.runs for point in found.points) > 50
    recent = ask(path, lambda db: series.total_series(db, window(NOW - DAY / 2), at(NOW), points=288))
    assert recent.resolution_s == 60


def test_days_where_hours_are_gone(tmp_path):
    """Likewise."""
    path = seeded.build(tmp_path / "x.db")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("DELETE FROM rollups WHERE resolution < 86400 AND bucket_start < ?", (NOW - DAY,))
    found = ask(path, lambda db: series.total_series(db, window(NOW - 4 * DAY, NOW - 3 * DAY), at(NOW)))
    assert found.resolution_s == 86_400
    assert sum(point.runs for point in found.points) > 50


def test_all_time_begins_with_what_is_known(house):
    """And ends now."""
    found = ask(house, lambda db: series.total_series(db, ALL_TIME, at(NOW), points=100))
    assert sum(point.runs for point in found.points) == 390
    assert epoch(found.points[0].started_at) <= NOW - 5 * DAY


def test_an_empty_file_has_an_empty_day(tmp_path):
    """Nothing recorded: every point says so."""
    path = seeded.build(tmp_path / "x.db", rows=False)
    found = ask(path, lambda db: series.total_series(db, ALL_TIME, at(NOW)))
    assert found.points
    assert not any(point.recorded or point.runs for point in found.points)
    assert ask(path, lambda db: series.roll(db, ALL_TIME, at(NOW))).rows == []


@pytest.mark.parametrize("step", [1, 59, 61, 90, 3601, 100_000])
def test_an_odd_step_is_made_a_multiple(house, step):
    """Whatever a program asks for, points are made of whole buckets, and bounded in number."""
    found = ask(house, lambda db: grid_of(db, window(NOW - 400 * DAY), at(NOW), step=step, points=10**9))
    assert found.step >= step
    assert found.step % found.resolution == 0
    assert found.count <= grid.MOST_POINTS + 1


def test_a_window_in_the_future_is_empty(house):
    """Nothing is known of tomorrow."""
    found = ask(house, lambda db: series.total_series(db, window(NOW + DAY, NOW + 2 * DAY), at(NOW)))
    assert [(point.recorded, point.runs) for point in found.points] == [(False, 0)]


# --- gaps ------------------------------------------------------------------------------------------------------------


def test_gaps_stay_gaps(house):
    """Between two sessions nothing is known; while one lived, nothing is zero."""
    found = ask(
        house, lambda db: series.registration_series(db, "handler", 4, window(NOW - 2 * DAY), at(NOW), step=3600)
    )
    lives = [(row[3], row[5] or NOW) for row in seeded.SESSIONS if row[1] == 1]
    for point in found.points:
        start = epoch(point.started_at)
        assert point.runs == 0
        assert point.recorded == any(a < start + 3600 and b >= start for a, b in lives)
    assert {point.recorded for point in found.points} == {True, False}


def test_another_services_session_records_nothing_of_ours(house):
    """The garage ran while the house was down, and the other way round."""
    asked = window(NOW - 30 * HOUR, NOW - 25 * HOUR)
    of_garage = ask(house, lambda db: series.registration_series(db, "handler", 6, asked, at(NOW)))
    assert all(point.recorded for point in of_garage.points)
    asked = window(NOW - 12 * HOUR)
    of_garage = ask(house, lambda db: series.registration_series(db, "handler", 6, asked, at(NOW), step=3600))
    house_itself = ask(house, lambda db: series.registration_series(db, "handler", 1, asked, at(NOW), step=3600))
    assert not any(point.recorded for point in of_garage.points if point.runs == 0)
    assert any(point.recorded for point in house_itself.points if point.runs == 0)


def test_what_ran_was_recorded(tmp_path):
    """Also if the session's row says otherwise: its clock stepped, or the row is gone."""
    path = seeded.build(tmp_path / "x.db")
    change(
        path, ("UPDATE sessions SET started_at = 1, last_heartbeat_at = 2, stopped_at = 2, stop_reason = 'unknown'",)
    )
    found = ask(path, lambda db: series.total_series(db, window(NOW - DAY), at(NOW)))
    assert any(point.runs for point in found.points)
    assert all(point.recorded == (point.runs > 0) for point in found.points)
    for row in ask(path, lambda db: series.roll(db, window(NOW - DAY), at(NOW))).rows:
        assert [runs > 0 for runs in row.runs] == row.recorded


def test_a_crash_loop_is_bounded(house, monkeypatch):
    """More sessions than are read: what lies before them counts as recorded, and the answer says it is not complete."""
    from handspan.store.queries import timeline

    with closing(sqlite3.connect(house)) as conn, conn:
        conn.execute("DELETE FROM rollups")  # what ran was recorded in any case
    monkeypatch.setattr(timeline, "MOST_SESSIONS", 2)
    found = ask(house, lambda db: series.total_series(db, window(NOW - 6 * DAY), at(NOW), step=3600))
    assert not found.timeline.complete
    assert [session.id for session in found.timeline.sessions] == [4, 3]
    assert all(point.recorded for point in found.points if epoch(point.started_at) < NOW - 31 * HOUR)
    assert not all(point.recorded for point in found.points)


def test_sessions_losses_and_incidents_come_with_it(house):
    """What a chart marks on its axis; pruned rows are no loss."""
    found = ask(house, lambda db: series.total_series(db, window(NOW - DAY), at(NOW))).timeline
    assert [session.id for session in found.sessions] == [4, 2]
    assert {(loss.stage, loss.count) for loss in found.losses} == {("store", 12), ("tempo", 7)}
    assert [incident.kind for incident in found.incidents] == ["database_unavailable"]


# --- the roll, the heatmap ----------------------------------------------------------------------------------


def test_the_roll_has_who_was_there(house):
    """In the order of their names, those that never ran included, those retired before left out."""
    found = ask(house, lambda db: series.roll(db, window(NOW - DAY), at(NOW)))
    names = [(row.app_key, row.name, row.instance_index, row.service) for row in found.rows]
    assert names == sorted(names)
    assert ("presence", "arrived", 0, "house") in names
    assert "old" not in {row.app_key for row in found.rows}
    assert {row.app_key for row in ask(house, lambda db: series.roll(db, ALL_TIME, at(NOW), app="old")).rows} == {"old"}


def test_the_rolls_percentiles_are_of_all_its_time(house):
    """Within 5 % of the raw rows'; None for who did not run."""
    found = ask(house, lambda db: series.roll(db, window(NOW - 4.5 * DAY), at(NOW), step=86_400))
    for row in found.rows:
        table, column = (
            ("handler_invocations", "listener_id") if row.kind == "handler" else ("job_executions", "job_id")
        )
        took = sorted(each for (each,) in raw(house, f"SELECT duration_ms FROM {table} WHERE {column} = ?", row.id))
        for share, value in ((0.5, row.p50_ms), (0.95, row.p95_ms)):
            expected = took[math.ceil(share * len(took)) - 1] if took else None
            assert value == (None if expected is None else pytest.approx(expected, rel=0.05))


def test_the_roll_counts_whom_it_cannot_name(tmp_path):
    """A registration that was pruned leaves its rollups."""
    path = seeded.build(tmp_path / "x.db")
    with closing(sqlite3.connect(path)) as conn, conn:
        conn.execute("UPDATE rollups SET registration_id = 99 WHERE registration_id = 3 AND kind = 'handler'")
    assert ask(path, lambda db: series.roll(db, window(NOW - DAY), at(NOW))).forgotten == 1


def test_the_heatmap_holds_every_run(house):
    """By point and bucket; the bounds enclose the durations."""
    found = ask(house, lambda db: series.heatmap(db, "handler", 1, window(NOW - 4.1 * DAY), at(NOW), points=50))
    took = [each for (each,) in raw(house, "SELECT duration_ms FROM handler_invocations WHERE listener_id = 1")]
    assert sum(map(sum, found.runs)) == len(took)
    assert {len(column) for column in found.runs} == {len(found.bounds_ms) - 1}
    assert found.bounds_ms[0] <= min(took)
    assert found.bounds_ms[-1] >= max(took)
    by_bucket = [sum(column) for column in zip(*found.runs, strict=True)]
    expected = defaultdict(int)
    for each in took:
        expected[next(i for i, top in enumerate(found.bounds_ms[1:]) if each <= top * (1 + 1e-9))] += 1
    assert by_bucket == [expected[i] for i in range(len(by_bucket))]


def test_the_heatmap_of_nothing_has_no_buckets(house):
    """A registration that never ran."""
    found = ask(house, lambda db: series.heatmap(db, "handler", 4, window(NOW - DAY), at(NOW)))
    assert (found.bounds_ms, set(map(tuple, found.runs))) == ([], {()})


# --- histograms put together --------------------------------------------------------------------------------

DURATIONS = st.lists(st.integers(0, 10**14), min_size=1, max_size=40)


def row_of(*many, stored=None):
    """Rollups as SQL puts them together: histograms as one text, durations of those that have none as another."""
    with closing(sqlite3.connect(":memory:")) as conn:
        conn.execute("CREATE TABLE rollups (runs, min_ns, max_ns, histogram)")
        for took in many:
            histogram = encode(histogram_of(took)) if len(took) > 2 else None
            conn.execute("INSERT INTO rollups VALUES (?, ?, ?, ?)", (len(took), min(took), max(took), histogram))
        if stored is not None:
            conn.execute("UPDATE rollups SET histogram = ? WHERE rowid = 1", (stored,))
        conn.row_factory = sqlite3.Row
        (columns,) = re.findall(r"-- roll_latencies: .*?, (sum\(runs\).*?)FROM", SERIES_SQL, re.DOTALL)
        return conn.execute(f"SELECT {columns} FROM rollups").fetchone()


@given(st.lists(DURATIONS, min_size=1, max_size=6))
def test_together_they_are_the_histogram_of_all(many):
    """However the runs were spread over rollups, and rollups over rows."""
    everything = [each for took in many for each in took]
    for rows in ([row_of(*many)], [row_of(took) for took in many]):
        found = merge(("all", row) for row in rows)["all"]
        assert found.histogram == histogram_of(everything)
        assert (found.runs, found.min_ns, found.max_ns) == (len(everything), min(everything), max(everything))


@given(st.binary(min_size=1, max_size=30), DURATIONS)
@example(b"\x92\x00\xcd\x27\x10", [1, 2, 3])
@example(b"\x92\x00\xff", [1, 2, 3])
@example(b"\x92\xcc\xfe\x01", [1])
def test_a_damaged_histogram_counts_as_long_as_the_longest(stored, took):
    """No run disappears and none is made up, whatever the bytes are; what is not damaged keeps its place if it can."""
    found = merge([(0, row_of(took, [1, 2, 3], stored=stored))])[0]
    assert found.histogram.total() == len(took) + 3
    assert all(count > 0 for count in found.histogram.values())
    assert found.percentiles_ms((1.0,)) == [max(*took, 3) / 1e6]


def test_beside_a_damaged_histogram_the_others_count():
    """One that cannot be read does not take those read with it along."""
    found = merge([(0, row_of([50, 60, 70], [1, 2, 3], stored=b"\xc1"))])[0]
    assert found.histogram == histogram_of([1, 2, 3, 70, 70, 70])


@given(st.lists(st.integers(0, 10**14), min_size=1, max_size=60), st.floats(0, 1))
def test_percentiles_together_are_those_one_by_one(took, share):
    """The nearest rank, at most 4.43 % off, and never outside the shortest and the longest."""
    histogram = histogram_of(took)
    shares = (share, 0.5, 1.0)
    found = percentiles(histogram, shares, min(took), max(took))
    assert found == [percentile(histogram, each, min(took), max(took)) for each in shares]
    exact = sorted(took)[max(1, math.ceil(share * len(took))) - 1]
    assert found[0] == pytest.approx(exact, rel=0.0444, abs=1)


def test_bounds_are_those_of_the_histogram():
    """Scale 3: eight buckets a doubling, in milliseconds."""
    assert [bound_ms(bucket) for bucket in (-80, 0, 8)] == [pytest.approx(1000 / 1024), 1000, 2000]


def test_a_point_knows_its_place():
    """Below zero and beyond the end are not on the grid."""
    found = Grid(start=6000, step=60, count=10, resolution=60, known_from=0)
    assert [found.point_of(each) for each in (5999.9, 6000, 6059.9, 6600)] == [-1, 0, 0, 10]
