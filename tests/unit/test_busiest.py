"""The busiest minutes against a GROUP BY over the raw rows."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import seeded
from handspan.clock import instant_from_ns, to_epoch, to_ns
from handspan.store.backfill import backfill, start_over
from handspan.store.parents import Parents
from handspan.store.queries.busiest import busiest
from handspan.store.queries.figures import EVERYTHING, Which
from handspan.store.queries.shapes import ALL_TIME, Window
from handspan.store.service import DatabaseService
from seeded import DAY, HOUR, NOW, raw


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> str:
    """With bursts: more than two in a minute, and in an hour."""
    path = seeded.build(tmp_path_factory.mktemp("house") / "house.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        seeded.put(conn, "handler_invocations (listener_id, session_id, execution_start_ts, duration_ms, status, "
                         "error_type, trace_id, span_id)",
                   [(1 + n % 3, 4, NOW - n % 7 * 25_000 - n % 11, 1, "error" if n % 5 == 0 else "success",
                     "ValueError" if n % 5 == 0 else None, b"t", b"s") for n in range(200)])  # fmt: skip
        conn.execute("DELETE FROM rollups")
        start_over(conn)
        for _ in backfill(conn, Parents(conn)):
            pass
    return path


@pytest.mark.parametrize(
    ("which", "where"),
    [
        pytest.param(EVERYTHING, "1", id="all"),
        pytest.param(Which(app="lights"), "app_key = 'lights'", id="an app"),
        pytest.param(Which("handler", 3), "app_key = 'flaky'", id="a registration"),
        pytest.param(Which(app="nobody"), "0", id="nobody"),
    ],
)
@pytest.mark.parametrize("since", [None, NOW - 2 * DAY], ids=["all time", "two days"])
@pytest.mark.parametrize("limit", [1, 5, 100])
async def test_busiest_minutes(house: str, which: Which, where: str, since: float | None, limit: int) -> None:
    """Most runs first, over the seams between days, with who ran most in each."""
    window = ALL_TIME if since is None else Window(instant_from_ns(int(since) * 10**9))
    async with DatabaseService(house) as db:
        found = await busiest(db, window, which, limit=limit)
    start = 0 if since is None else int(since) // 60 * 60
    wanted = raw(house, f"""
        SELECT CAST(execution_start_ts AS INTEGER) / 60 * 60, count(*), sum(status = 'error') FROM v_executions
        WHERE {where} AND execution_start_ts >= ?
        GROUP BY 1 ORDER BY 2 DESC, 1 DESC LIMIT ?""", start, limit)  # fmt: skip
    assert found.resolution_s == 60
    assert [(to_epoch(to_ns(each.started_at)), each.runs, each.errors) for each in found.buckets] == wanted
    for each, (minute, runs, _) in zip(found.buckets, wanted, strict=True):
        assert sum(one.runs for one in each.registrations) <= runs
        most = raw(house, f"SELECT count(*) FROM v_executions WHERE {where} AND execution_start_ts >= ? AND "
                          "execution_start_ts < ? GROUP BY kind, service, name, instance_index, app_key "
                          "ORDER BY 1 DESC LIMIT 1", minute, minute + 60)[0][0]  # fmt: skip
        assert each.registrations[0].runs == most


async def test_hours_where_minutes_are_gone(house: str, tmp_path: Path) -> None:
    """A window that begins before minutes are kept is answered in hours, or days, and says so."""
    path = str(tmp_path / "pruned.db")
    with closing(sqlite3.connect(house)) as old, closing(sqlite3.connect(path)) as conn:
        old.backup(conn)
        conn.execute("DELETE FROM rollups WHERE resolution = 60 AND bucket_start < ?", ((NOW - DAY) // HOUR * HOUR,))
        conn.execute(
            "DELETE FROM rollups WHERE resolution = 3600 AND bucket_start < ?", ((NOW - 2 * DAY) // DAY * DAY,)
        )
        conn.commit()
    async with DatabaseService(path) as db:
        resolutions = [
            (await busiest(db, Window(instant_from_ns(int(NOW - days * DAY) * 10**9)))).resolution_s
            for days in (0.5, 1.5, 3.5)
        ]
        found = await busiest(db, Window(instant_from_ns(int(NOW - 1.5 * DAY) * 10**9)), limit=3)
    assert resolutions == [60, 3600, 86_400]
    start = int(NOW - 1.5 * DAY) // 3600 * 3600
    wanted = raw(house, "SELECT CAST(execution_start_ts AS INTEGER) / 3600 * 3600, count(*) FROM v_executions "
                        "WHERE execution_start_ts >= ? GROUP BY 1 ORDER BY 2 DESC, 1 DESC LIMIT 3", start)  # fmt: skip
    assert [(to_epoch(to_ns(each.started_at)), each.runs) for each in found.buckets] == wanted


async def test_an_empty_file(tmp_path: Path) -> None:
    """Nothing was busy."""
    async with DatabaseService(seeded.build(tmp_path / "empty.db", rows=False)) as db:
        assert (await busiest(db)).buckets == []
