"""What comes and goes for ever leaves nothing behind; what waits for a stalled database is bounded."""

import asyncio
import atexit
import gc
import os
import sqlite3
import threading
import tracemalloc

import pytest

from handspan import ExecuteJob, InvokeHandler, registry
from handspan.store import controls

APP = "a.B"


async def job(): ...


async def on_event(event): ...


async def test_one_shot_jobs_under_names_of_their_own_are_forgotten(make, rows):
    """Thousands of generated names: registry, records and store keep only what still has a handle or a record."""
    async with make() as telemetry:
        for number in range(3_000):
            once = telemetry.register_job(job, job_name=f"once-{number}", app_key=APP, repeat=False)
            await telemetry.execute(ExecuteJob(once))
            once.cancel()
            if number % 500 == 0:
                assert await telemetry.aflush()
        assert await telemetry.aflush()
        last = telemetry.register_job(job, job_name="the last", app_key=APP)
        assert await telemetry.aflush()
        assert len(telemetry._pipeline.registrations) <= registry.KEPT_NUMBERS + 2
        assert len(telemetry._pipeline.writer._controls._live) == 1
        await telemetry.execute(ExecuteJob(last))
    counts = rows("SELECT count(*) AS n, count(DISTINCT job_id) AS jobs FROM job_executions")
    assert counts == [{"n": 3_001, "jobs": 3_001}]
    assert rows("SELECT count(*) AS n FROM scheduled_jobs WHERE retired_at IS NULL") == [{"n": 1}]
    assert rows("SELECT * FROM losses") == []


async def test_a_cancelled_handle_that_somebody_holds_keeps_its_number(make, rows, monkeypatch):
    """Its late runs are its own, however much came and went meanwhile."""
    monkeypatch.setattr(registry, "KEPT_NUMBERS", 0)
    async with make() as telemetry:
        held = telemetry.register_job(job, job_name="held", app_key=APP)
        held.cancel()
        for number in range(50):
            telemetry.register_job(job, job_name=f"once-{number}", app_key=APP).cancel()
        assert await telemetry.aflush()
        await telemetry.execute(ExecuteJob(held))
    assert rows("SELECT job_name FROM v_job_executions") == [{"job_name": "held"}]


async def test_a_number_two_handles_had_goes_with_the_second(make, rows, monkeypatch):
    """The first is cancelled and forgotten, the second of the same key is live: its runs are stored."""
    monkeypatch.setattr(registry, "KEPT_NUMBERS", 0)
    async with make() as telemetry:
        first = telemetry.register_job(job, job_name="j", app_key=APP)
        first.cancel()
        second = telemetry.register_job(job, job_name="j", app_key=APP)
        assert second.number == first.number
        del first
        gc.collect()
        telemetry.register_job(job, job_name="other", app_key=APP)
        assert await telemetry.aflush()
        await telemetry.execute(ExecuteJob(second))
    assert rows("SELECT job_name FROM v_job_executions") == [{"job_name": "j"}]


async def test_a_record_that_waits_keeps_the_registration_of_a_handle_that_is_gone(make, rows, db, monkeypatch):
    """The database is locked while a job runs, ends and is forgotten by everybody: its row finds its parent."""
    monkeypatch.setattr(registry, "KEPT_NUMBERS", 0)
    async with make(busy_timeout=0.05) as telemetry:
        assert await telemetry.aflush()
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for number in range(50):
            once = telemetry.register_job(job, job_name=f"once-{number}", app_key=APP)
            await telemetry.execute(ExecuteJob(once))
            once.cancel()
        del once
        gc.collect()
        telemetry.register_job(job, job_name="last", app_key=APP)
        other.close()
        assert await telemetry.aflush()
    found = rows("SELECT count(DISTINCT job_name) AS n FROM v_job_executions")
    assert found == [{"n": 50}]
    assert rows("SELECT count(*) AS n FROM scheduled_jobs WHERE retired_at IS NOT NULL") == [{"n": 50}]
    assert rows("SELECT * FROM losses") == []


async def test_registrations_wait_for_a_locked_database_as_their_newest_state(make, rows, db):
    """A handler that is registered and cancelled ten thousand times waits once."""
    async with make(busy_timeout=0.05) as telemetry:
        assert await telemetry.aflush()
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for number in range(10_000):
            listener = telemetry.register_listener(on_event, topic="t", app_key=APP, priority=number)
            if number < 9_999:
                listener.cancel()
        assert len(telemetry._pipeline.writer._controls._waiting) == 1
        other.close()
        assert await telemetry.aflush()
        assert rows("SELECT priority, retired_at FROM listeners") == [{"priority": 9_999, "retired_at": None}]
        listener.cancel()
        assert await telemetry.aflush()
        assert rows("SELECT retired_at IS NOT NULL AS retired FROM listeners") == [{"retired": 1}]


async def test_what_came_and_went_unwritten_is_bounded_and_what_ran_is_kept(make, rows, db, monkeypatch, caplog):
    """Past the bound the oldest are dropped, with a log line; a run of one of them makes its parent itself."""
    monkeypatch.setattr(controls, "MAX_RETIRED", 100)
    async with make(busy_timeout=0.05) as telemetry:
        live = telemetry.register_job(job, job_name="live", app_key=APP, trigger_type="cron")
        assert await telemetry.aflush()
        other = sqlite3.connect(db, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        first = telemetry.register_job(job, job_name="first", app_key=APP, trigger_type="date")
        await telemetry.execute(ExecuteJob(first))
        first.cancel()
        telemetry.register_job(job, job_name="back", app_key=APP).cancel()
        telemetry.register_job(job, job_name="back", app_key=APP)
        for number in range(500):
            telemetry.register_job(job, job_name=f"never-ran-{number}", app_key=APP).cancel()
        assert len(telemetry._pipeline.writer._controls._waiting) <= 102
        other.close()
        assert await telemetry.aflush()
        await telemetry.execute(ExecuteJob(live))
    # What the writer already held when it met the lock is written, too: at most as much again.
    assert 103 <= rows("SELECT count(*) AS n FROM scheduled_jobs")[0]["n"] <= 205
    found = rows("SELECT job_name FROM scheduled_jobs WHERE retired_at IS NULL AND job_name <> 'first' ORDER BY 1")
    assert [row["job_name"] for row in found] == ["back", "live"]
    assert len(rows("SELECT * FROM v_job_executions WHERE job_name IN ('first', 'live')")) == 2
    assert "401 registrations came and went" in caplog.text


async def test_ten_thousand_registrations(make, rows):
    """All are rows; each one's runs are its own; cancelling them all retires them all."""
    async with make() as telemetry:
        listeners = [telemetry.register_listener(on_event, topic=f"t{n}", app_key=APP) for n in range(10_000)]
        assert await telemetry.aflush(120)
        for each in listeners[::100]:
            await telemetry.execute(InvokeHandler(each))
        for each in listeners:
            each.cancel()
        assert await telemetry.aflush(120)
        assert rows("SELECT count(*) AS n FROM listeners WHERE retired_at IS NOT NULL") == [{"n": 10_000}]
    topics = rows("SELECT topic FROM v_handler_invocations ORDER BY length(topic), topic")
    assert [row["topic"] for row in topics] == [f"t{n}" for n in range(0, 10_000, 100)]


def open_files():
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


@pytest.mark.parametrize("times", [50, pytest.param(1_000, marks=pytest.mark.slow)])
def test_telemetries_in_turn_leave_nothing_behind(make_untracked, monkeypatch, times):
    """Threads, descriptors, exit hooks, fork hooks and memory are what they were."""
    forks = []
    monkeypatch.setattr(os, "register_at_fork", lambda **hooks: forks.append(hooks))

    def rounds(count):
        for _ in range(count):
            with make_untracked() as telemetry:
                listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
                asyncio.run(telemetry.execute(InvokeHandler(listener)))

    rounds(20)  # what is cached once is cached now
    gc.collect()
    threads, files, hooks = threading.active_count(), open_files(), atexit._ncallbacks()
    rounds(times)
    gc.collect()
    assert (threading.active_count(), open_files(), atexit._ncallbacks()) == (threads, files, hooks)
    assert len([each for each in forks if "handspan" in str(each)]) <= 1  # the SDK gives one for each provider
    tracemalloc.start()  # makes everything slow: a hundred rounds are enough to see a growth
    rounds(20)
    before = tracemalloc.take_snapshot()
    rounds(100)
    gc.collect()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    grown = sorted(after.compare_to(before, "lineno"), key=lambda each: -each.size_diff)
    kept = sum(each.size_diff for each in grown if "tracemalloc" not in str(each.traceback))
    assert kept < 100 * 1_000, "\n".join(str(each) for each in grown[:10])


@pytest.fixture
def make_untracked(db):
    """As ``make``, but remembers nothing."""
    import handspan

    return lambda: handspan.Telemetry(db, service_name="test", set_global_providers=False)
