"""Old and surplus rows go, in small batches, and their space comes back."""

import sqlite3

import pytest

from handspan.records import ListenerRegistration, Segment, Session, SpanRecord
from handspan.store.commit import commit_segment
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents
from handspan.store.retention import KEEP_INCIDENTS, Retention, live_bytes

NOW = 1_800_000_000.0
DAY = 86_400
REGISTRATIONS = {n: ListenerRegistration("a.B", 0, f"l{n}", "t", "on") for n in range(1, 4)}


def fill(conn, parents, number, count, *, listener=1, age_days=0.0, status="success"):
    start = int((NOW - age_days * DAY) * 1e6) * 1000
    records = [
        SpanRecord(
            (number * 10**6 + i).to_bytes(16, "big"), (number * 10**6 + i).to_bytes(8, "big"), start + i * 1000, 1000,
            status, listener, error_traceback="stack" if status == "error" else None,
            error_type="E" if status == "error" else None,
        )
        for i in range(count)
    ]  # fmt: skip
    commit_segment(conn, parents, Segment(number, Session("i", "s"), records, REGISTRATIONS), NOW)


@pytest.fixture
def store(db):
    conn = open_for_writing(db, busy_timeout=1)
    yield conn, Parents(conn)
    conn.close()


def counts(conn):
    return dict(conn.execute("SELECT name, count(*) FROM v_handler_invocations GROUP BY name"))


def test_by_age(store):
    """Past ``db_retention_days`` a row goes; younger ones stay."""
    conn, parents = store
    fill(conn, parents, 1, 2_000, age_days=8)
    fill(conn, parents, 2, 300, age_days=6)
    retention = Retention(conn, days=7, max_bytes=10**9)
    batches = sum(1 for _ in retention.run(NOW))
    assert counts(conn) == {"l1": 300}
    assert retention.pruned.rows == 2_000
    assert batches > 1


def test_by_size_the_noisy_one_gives_first_and_failures_last(store):
    """A noisy registration cannot push out the history of the others, nor its own failures."""
    conn, parents = store
    fill(conn, parents, 1, 30_000, listener=1, age_days=1)
    fill(conn, parents, 2, 500, listener=1, age_days=2, status="error")
    fill(conn, parents, 3, 400, listener=2, age_days=3)
    bound = live_bytes(conn) // 2
    for _ in Retention(conn, days=7, max_bytes=bound).run(NOW):
        pass
    assert live_bytes(conn) <= bound
    assert counts(conn)["l2"] == 400
    assert conn.execute("SELECT count(*) FROM handler_invocations WHERE status = 'error'").fetchone() == (500,)


def test_space_is_given_back_to_the_disk(store, db):
    """The file itself shrinks: incremental_vacuum frees every page, not one."""
    conn, parents = store
    fill(conn, parents, 1, 30_000, age_days=8)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    (before,) = conn.execute("PRAGMA page_count").fetchone()
    for _ in Retention(conn, days=7, max_bytes=10**9).run(NOW):
        pass
    (after,) = conn.execute("PRAGMA page_count").fetchone()
    assert after < before / 5
    assert conn.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_texts_no_row_shows_any_more_go(store):
    """A traceback lives as long as a row that has it."""
    conn, parents = store
    fill(conn, parents, 1, 10, age_days=8, status="error")
    for _ in Retention(conn, days=7, max_bytes=10**9).run(NOW):
        pass
    assert conn.execute("SELECT count(*) FROM tracebacks").fetchone() == (0,)


def test_of_incidents_the_newest_stay(store):
    """A database that fails every minute must not fill the file with saying so."""
    conn, parents = store
    fill(conn, parents, 1, 1)
    add = "INSERT INTO incidents (session_id, started_at, kind, detail) VALUES (1, ?, 'database_unavailable', '')"
    conn.executemany(add, [(float(second),) for second in range(KEEP_INCIDENTS + 30)])
    for _ in Retention(conn, days=7, max_bytes=10**9).run(0.0):
        pass
    kept = conn.execute("SELECT count(*), min(started_at) FROM incidents").fetchone()
    assert kept == (KEEP_INCIDENTS, 30.0)


async def test_a_running_application_prunes_and_goes_on_recording(make, rows, db):
    """Retention runs at start, on the writer's thread, between commits; what was pruned is not missed."""
    import handspan

    async def on_event(event): ...

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        await telemetry.execute(handspan.InvokeHandler(listener))
    conn = sqlite3.connect(db)
    conn.execute("UPDATE handler_invocations SET execution_start_ts = execution_start_ts - 30 * 86400")
    conn.commit()
    conn.close()
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        await telemetry.execute(handspan.InvokeHandler(listener))
        assert await telemetry.aflush()
    assert len(rows("SELECT * FROM handler_invocations")) == 1
