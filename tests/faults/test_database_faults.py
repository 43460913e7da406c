"""What the database can do to us, and what we must not do to the application."""

import asyncio
import contextlib
import os
import shutil
import sqlite3
import subprocess
import threading
from pathlib import Path

import pytest

from handspan import InvokeHandler
from handspan.records import ListenerRegistration, Segment, Session, SpanRecord
from handspan.store.commit import commit_segment
from handspan.store.controls import Controls
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents

APP = "a.B"


async def on_event(event):
    if event == "bad":
        raise ValueError("bad")


@pytest.fixture
def until():
    """Wait for a condition another thread brings about, looking every 10 ms, 20 s at most."""

    async def wait(condition):
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


async def test_a_lock_held_elsewhere_delays_and_loses_nothing(make, rows, db, until, caplog):
    """One line when the episode begins, one when it ends, none per row."""
    async with make(busy_timeout=0.05) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        assert await telemetry.aflush()
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for _ in range(1_000):
            await telemetry.execute(InvokeHandler(listener))
        await until(lambda: telemetry.health().failing_since is not None)
        assert "locked" in telemetry.health().last_error
        other.execute("ROLLBACK")
        other.close()
        assert await telemetry.aflush()
        assert telemetry.health().failing_since is None
    assert len(rows("SELECT * FROM handler_invocations")) == 1_000
    said = [record.message for record in caplog.records if record.name == "handspan.store"]
    assert len(said) == 2
    assert said[0].startswith("Recording waits, the application goes on:")
    assert said[1].startswith("Recording goes on after")


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "no-journal"])
async def test_flush_and_close_tell_the_truth_at_their_deadline(make, db, rows, journal):
    """A flush that could not be is False, and does not wait for ever; so is a close. With a journal nothing is
    lost by it: the next start has the run."""
    telemetry = make(busy_timeout=0.05, journal=journal)
    async with telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        assert await telemetry.aflush()
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush(timeout=0.1) is False
        assert await telemetry.aclose(timeout=0.3) is False
        other.close()
    assert telemetry.health().lost == ({} if journal else {"shutdown": 1})
    async with make():
        pass
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": int(journal)}]
    assert not Path(f"{db}.handspan").exists()


async def test_past_its_bounds_the_queue_sheds_successes_and_the_ledger_says_so(make, rows, db):
    """Memory is bounded; failures outlive successes; rows and losses add up to what ran."""
    async with make(busy_timeout=0.05, queue_max_spans=200, segment_max_spans=50, journal=False) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        assert await telemetry.aflush()
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for number in range(1_000):
            await telemetry.execute(InvokeHandler(listener, event="bad" if number % 10 == 0 else "good"))
            assert telemetry.health().queue_size <= 200
        other.close()
        assert await telemetry.aflush()
    stored = {
        row["status"]: row["n"] for row in rows("SELECT status, count(*) AS n FROM handler_invocations GROUP BY 1")
    }
    (lost,) = rows("SELECT kind, reason, stage, sum(count) AS n FROM losses")
    assert stored["error"] == 100
    assert (lost["kind"], lost["reason"], lost["stage"]) == ("handler", "queue_full", "store")
    assert stored["success"] + stored["error"] + lost["n"] == 1_000


def segment(records, number=1, **options):
    registration = ListenerRegistration(APP, 0, "on_event", "t", "on_event")
    return Segment(number, Session("i-1", "test"), records, {1: registration}, **options)


def record(number, **options):
    return SpanRecord(number.to_bytes(16, "big"), number.to_bytes(8, "big"), 10**18, 1_000, "success", 1, **options)


def test_a_transaction_that_fails_leaves_nothing_and_can_be_tried_again(db):
    """All or nothing: neither the rows nor their parents of a failed attempt stay."""
    conn = open_for_writing(db, busy_timeout=1)
    parents = Parents(conn)
    bad = segment([record(1), record(2, error_type="x", attributes={"a": 1})])
    bad.records[1] = SpanRecord(b"x", b"y", 10**18, 1, "no such status", 1)
    with pytest.raises(sqlite3.IntegrityError):
        commit_segment(conn, parents, bad, 1.0)
    assert conn.execute("SELECT count(*) FROM sessions").fetchone() == (0,)
    assert conn.execute("SELECT count(*) FROM listeners").fetchone() == (0,)
    commit_segment(conn, parents, segment([record(1), record(2)]), 2.0)
    assert conn.execute("SELECT count(*) FROM handler_invocations").fetchone() == (2,)
    conn.close()


def test_a_parent_that_somebody_deleted_is_made_again(db):
    """A foreign-key failure refreshes what the cache believed, and the row finds its parent."""
    conn = open_for_writing(db, busy_timeout=1)
    parents = Parents(conn)
    commit_segment(conn, parents, segment([]), 1.0)
    parents.registration_id(Session("i-1", "test"), 1, segment([]).registrations[1])
    conn.execute("DELETE FROM registration_holders")
    conn.execute("DELETE FROM listeners")
    commit_segment(conn, parents, segment([record(1)], 2), 2.0)
    assert conn.execute("SELECT count(*) FROM v_handler_invocations").fetchone() == (1,)
    conn.close()


async def test_a_record_the_store_cannot_take_costs_only_itself(make, rows):
    """Found by halving its segment; the others are stored, once; the loss is in the ledger."""
    async with make(commit_interval=60) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        for _ in range(100):
            await telemetry.execute(InvokeHandler(listener))
        poison = SpanRecord(b"t" * 16, b"s" * 8, 10**18, 1, "no such status", listener.number)
        telemetry._pipeline.processor.queue.append(poison)
        for _ in range(100):
            await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        await telemetry.execute(InvokeHandler(listener))
    assert rows("SELECT count(*) AS n, count(DISTINCT span_id) AS d FROM handler_invocations") == [{"n": 201, "d": 201}]
    assert rows("SELECT reason, count FROM losses") == [{"reason": "rejected", "count": 1}]


@pytest.mark.parametrize(
    "attribute",
    [
        pytest.param("\ud800 lone surrogate", id="lone-surrogate"),
        pytest.param("NUL\0inside", id="nul"),
        pytest.param(float("nan"), id="nan"),
        pytest.param(2**100, id="huge-integer"),
        pytest.param("x" * 1_000_000, id="a-megabyte"),
    ],
)
async def test_hostile_values_are_stored_readably(make, rows, attribute, monkeypatch):
    """Whatever a handler puts on its span or into an exception, the row is there and JSON is JSON."""
    import logging

    from opentelemetry import trace

    monkeypatch.setattr(logging.getLogger("handspan.executor"), "propagate", False)  # xdist cannot send surrogates

    async def handler(event):
        trace.get_current_span().set_attribute("hostile", attribute)
        raise ValueError(str(attribute))

    async with make() as telemetry:
        listener = telemetry.register_listener(handler, topic=f"t {str(attribute)[:20]}", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
    (row,) = rows("SELECT json_valid(attributes) AS valid, error_message FROM handler_invocations")
    assert row["valid"] == 1
    assert 0 < len(row["error_message"]) < 5_000
    assert rows("SELECT * FROM losses") == []


async def test_a_missing_directory_costs_telemetry_until_it_is_there(make, tmp_path, until, rows, caplog):
    """The application starts and runs; recording begins by itself once the path can be written."""
    directory = tmp_path / "not-there-yet"
    path = str(directory / "home.db")
    async with make(db=path, open_timeout=0.2) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        assert (await telemetry.execute(InvokeHandler(listener))).ok
        await until(lambda: telemetry.health().failing_since is not None)
        assert "does not exist" in telemetry.health().last_error
        directory.mkdir()
        assert await telemetry.aflush()
    assert len(rows("SELECT * FROM handler_invocations", path=path)) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB that can be filled; needs root, which CI has."""
    mount = tmp_path / "small"
    mount.mkdir()
    if (
        os.geteuid() != 0
        or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", mount], check=False).returncode
    ):
        pytest.skip("cannot mount a small tmpfs here (needs root)")
    yield mount
    subprocess.run(["umount", "-l", mount], check=False)


async def test_a_full_disk_costs_telemetry_until_there_is_space(make, small_disk, rows, until):
    """ENOSPC: the application goes on, memory is kept in bounds, everything is stored once space is back."""
    path = str(small_disk / "home.db")
    async with make(db=path) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        ballast = small_disk / "ballast"
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(b"x" * 4096):
                pass
        for _ in range(5_000):
            assert (await telemetry.execute(InvokeHandler(listener))).ok
        await until(lambda: telemetry.health().failing_since is not None)
        ballast.unlink()
        assert await telemetry.aflush()
    assert len(rows("SELECT * FROM handler_invocations", path=path)) == 5_001
    assert rows("PRAGMA integrity_check", path=path) == [{"integrity_check": "ok"}]


async def test_nothing_of_ours_waits_for_a_stalled_database_on_the_loop(make, db):
    """While the writer hangs in SQLite, execute() and registering go on: both only touch memory."""
    async with make(busy_timeout=30) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        assert await telemetry.aflush()
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(20, other.close)  # far beyond the test: if we waited, it would fail by timeout
        try:
            async with asyncio.timeout(5):
                for number in range(2_000):
                    await telemetry.execute(InvokeHandler(listener))
                    telemetry.register_listener(on_event, topic=f"t{number}", app_key=APP)
        finally:
            release.cancel()
            other.close()
        assert await telemetry.aflush()


async def test_an_episodes_last_line_tells_what_waited_and_what_was_lost(make, db, until, caplog):
    """The sums of the whole episode: everything that waited is either stored or in the ledger."""
    async with make(busy_timeout=0.05, queue_max_spans=200, segment_max_spans=50, journal=False) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        assert await telemetry.aflush()
        with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await telemetry.execute(InvokeHandler(listener))
            await until(lambda: telemetry.health().failing_since is not None)
            for _ in range(999):
                await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        lost = telemetry.health().lost["queue_full"]
    (said,) = [record.getMessage() for record in caplog.records if "Recording goes on" in record.getMessage()]
    assert lost > 0
    assert said.endswith(f"s: {1_000 - lost} spans waited and are stored, {lost} were lost.")


def test_registrations_that_come_and_go_while_the_database_is_away_do_not_pile_up(db):
    """A thousand times the same job, registered and cancelled: one row to write when the database is back."""
    session, registration = Session("i-1", "test"), ListenerRegistration(APP, 0, "on_event", "t", "on_event")
    controls = Controls(session)
    for _ in range(1_000):
        controls.register(1, registration)
        controls.retire(1, registration)
    conn, said = open_for_writing(db, busy_timeout=1), []
    conn.set_trace_callback(said.append)
    controls.write(conn, Parents(conn), 5.0)
    assert sum("INSERT INTO listeners" in each for each in said) == 1
    assert conn.execute("SELECT name, retired_at FROM listeners").fetchall() == [("on_event", 5.0)]
    controls.register(1, registration)
    controls.write(conn, Parents(conn), 6.0)
    assert conn.execute("SELECT retired_at FROM listeners").fetchall() == [(None,)]
    conn.close()


async def test_a_session_whose_directory_was_removed_is_not_taken_for_dead(make, tmp_path, until, rows):
    """Its lock went with the directory: it takes a new one with the new file, before anybody can ask."""
    directory = tmp_path / "home"
    directory.mkdir()
    path = str(directory / "home.db")
    async with make(db=path) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        assert await telemetry.aflush()
        shutil.rmtree(directory)
        await telemetry.execute(InvokeHandler(listener))
        await until(lambda: telemetry.health().failing_since is not None)
        directory.mkdir()
        assert await telemetry.aflush()
        async with make(db=path, service_name="other"):
            pass
        assert rows("SELECT stop_reason FROM sessions ORDER BY id", path=path)[0] == {"stop_reason": None}
