"""Loops and Telemetry objects that come and go inside one process, and clocks that jump."""

import asyncio
import os
import sqlite3

import pytest

import handspan
from handspan import ExecuteJob, InvokeHandler

APP = "a.B"

try:
    import uvloop
except ImportError:  # no wheel for this platform
    uvloop = None

LOOPS = [
    pytest.param(asyncio.new_event_loop, id="asyncio"),
    pytest.param(
        uvloop.new_event_loop if uvloop else None,
        id="uvloop",
        marks=pytest.mark.skipif(uvloop is None, reason="uvloop is not installed here: its loop is left out"),
    ),
]


async def on_event(event): ...


def plain(event):
    return "ran"


@pytest.mark.parametrize("new_loop", LOOPS)
def test_everything_works_on_this_loop(make, rows, new_loop):
    """Opening, handlers, plain functions, deadlines, error hooks, queries, closing."""
    told = []

    async def slow(event):
        await asyncio.Event().wait()

    async def main():
        async with make(on_error=told.append) as telemetry:
            for call, status, options in (
                (on_event, "success", {}),
                (plain, "success", {}),
                (slow, "error", {"timeout": 0.01}),
            ):
                listener = telemetry.register_listener(call, topic="t", app_key=APP, **options)
                assert (await telemetry.execute(InvokeHandler(listener))).status == status
            assert await telemetry.aflush()
            (found,) = await telemetry.database.fetch_all("SELECT count(*) AS n FROM handler_invocations")
            assert found["n"] == 3

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    assert len(told) == 1
    assert len(rows("SELECT * FROM handler_invocations")) == 3


@pytest.mark.parametrize("new_loop", LOOPS)
def test_a_loop_that_closes_before_us_and_another_after_it(make, rows, new_loop):
    """Handlers, threads, readers and hooks of the first leave nothing that the second would trip over."""
    telemetry = make()

    async def first():
        await telemetry.__aenter__()
        listener = telemetry.register_listener(plain, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
        await telemetry.database.fetch_all("SELECT 1")
        return listener

    async def second(listener):
        assert (await telemetry.execute(InvokeHandler(listener))).value == "ran"
        assert await telemetry.aflush()
        (found,) = await telemetry.database.fetch_all("SELECT count(*) AS n FROM handler_invocations")
        assert found["n"] == 2
        return await telemetry.aclose()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        listener = runner.run(first())
    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(second(listener))
    assert rows("SELECT stop_reason FROM sessions") == [{"stop_reason": "clean_shutdown"}]


def test_a_loop_closed_with_handlers_in_flight_before_us(make, rows):
    """asyncio.run cancels what runs; a loop that is only closed leaves it: both are rows after close()."""

    async def for_ever(event):
        await asyncio.Event().wait()

    telemetry = make().open()
    listener = telemetry.register_listener(for_ever, topic="t", app_key=APP)

    async def start():
        task = asyncio.create_task(telemetry.execute(InvokeHandler(listener)))
        await asyncio.sleep(0)
        return task

    asyncio.run(start())
    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(start())
    loop.close()
    assert telemetry.close(timeout=0.2)
    found = rows("SELECT status, error_type FROM handler_invocations ORDER BY id")
    assert found == [
        {"status": "cancelled", "error_type": None},
        {"status": "error", "error_type": "ProcessInterrupted"},
    ]
    task._log_destroy_pending = False  # it is what this is about


async def test_several_telemetries_on_one_file_at_once(make, rows):
    """Each is a session with its own runs; closing one does not end another's."""
    async with make() as one, make() as two:
        async with make() as three:
            for times, telemetry in enumerate((one, two, three), 1):
                listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
                for _ in range(times * 10):
                    await telemetry.execute(InvokeHandler(listener))
        assert (await two.execute(InvokeHandler(listener_of(two)))).ok
    counts = rows("SELECT count(*) AS n FROM handler_invocations GROUP BY session_id ORDER BY session_id")
    assert sorted(row["n"] for row in counts) == [10, 21, 30]
    assert [row["stop_reason"] for row in rows("SELECT stop_reason FROM sessions")] == ["clean_shutdown"] * 3
    assert rows("SELECT * FROM losses") == []
    assert rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def listener_of(telemetry):
    return telemetry.register_listener(on_event, topic="another", app_key=APP)


async def test_closing_from_another_thread_while_the_loop_runs_handlers(make, rows):
    """It waits for what runs, commits, and what comes later is counted."""
    go, running = asyncio.Event(), asyncio.Event()

    async def handler(event):
        running.set()
        await go.wait()

    telemetry = make()
    await telemetry.__aenter__()
    listener = telemetry.register_listener(handler, topic="t", app_key=APP)
    task = asyncio.create_task(telemetry.execute(InvokeHandler(listener)))
    await running.wait()
    closing = asyncio.create_task(asyncio.to_thread(telemetry.close))
    await asyncio.sleep(0)
    go.set()
    assert (await task).ok
    assert await closing
    assert await telemetry.aclose()  # twice is once, also from elsewhere
    assert rows("SELECT status FROM handler_invocations") == [{"status": "success"}]


async def test_an_opening_that_is_cancelled_leaves_nothing_running(make, db):
    """A lock keeps the file from being opened; whoever waited for it gave up: no thread, no lock file stays."""
    telemetry = make(busy_timeout=0.05)
    async with make():
        pass
    other = sqlite3.connect(db, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    telemetry = make(busy_timeout=30, shutdown_timeout=0.5)
    opening = asyncio.create_task(telemetry.__aenter__())
    while not telemetry._pipeline.writer._io.locked():
        await asyncio.sleep(0.001)
    opening.cancel()
    await asyncio.sleep(0)
    other.close()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert telemetry._state == "closed"
    telemetry._pipeline.writer._thread.join(10)
    assert not telemetry._pipeline.writer._thread.is_alive()
    assert not os.path.exists(f"{db}.handspan")


def test_os_exit_costs_what_was_not_committed_and_no_more(child, next_start):
    """No hook of anybody's runs: what was committed is there, the session is a crash."""
    program = child("""
    telemetry = make().open()
    listener = register(telemetry)
    for _ in range(100):
        asyncio.run(telemetry.execute(InvokeHandler(listener)))
    assert telemetry.flush()
    os._exit(7)
    """)
    assert program.end() == 7
    counts, sessions = asyncio.run(next_start())
    assert counts == [{"status": "success", "error_type": None, "n": 100}]
    assert [row["stop_reason"] for row in sessions] == ["crash", "clean_shutdown"]


class JumpingClock:
    """A wall clock somebody turns back and forth; the monotonic one goes on."""

    def __init__(self, *walls):
        self.walls, self._real = list(walls), handspan.clock.SystemClock()

    def wall_ns(self):
        if len(self.walls) > 1:
            return self.walls.pop(0)
        return self.walls[0]

    def monotonic_ns(self):
        return self._real.monotonic_ns()


DAY = 86_400 * 10**9
NOW = 1_790_000_000_000_000_000


async def test_a_wall_clock_that_jumps_while_recording_costs_nothing(make, rows):
    """Back to 1970, ahead ten years, and home again: every run is a row with a true duration, the session ends well,
    its heart has beaten, and the file can be used."""
    jumps = [NOW, 0, NOW + 3_650 * DAY, 1_000_000, NOW - DAY] * 20 + [NOW]
    async with make(clock=JumpingClock(*jumps), heartbeat_interval=0.01, db_retention_days=36_500) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        job = telemetry.register_job(lambda: None, app_key=APP, job_name="j")
        for _ in range(10):
            await telemetry.execute(InvokeHandler(listener))
            await telemetry.execute(ExecuteJob(job))
            assert await telemetry.aflush()
        assert telemetry.health().failing_since is None
    stored = rows("SELECT duration_ms FROM v_executions")
    assert len(stored) == 20
    assert all(0 <= row["duration_ms"] < 60_000 for row in stored)
    assert rows("SELECT stop_reason FROM sessions") == [{"stop_reason": "clean_shutdown"}]
    assert rows("SELECT * FROM losses") == []


async def test_a_wall_clock_that_jumps_ahead_does_not_make_everything_old(make, rows):
    """A clock that is years ahead for a moment deletes nothing; one that stays there is believed."""

    async def prune():
        writer._upkeep._retention = 0.0
        writer.hurry()
        async with asyncio.timeout(10):
            while writer._upkeep._retention == 0.0:
                await asyncio.sleep(0.005)
        assert await telemetry.aflush()  # the pass is over

    clock = JumpingClock(NOW)
    async with make(clock=clock, db_retention_days=7) as telemetry:
        writer = telemetry._pipeline.writer
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        clock.walls[0] = NOW + 3_650 * DAY
        await prune()
        assert len(rows("SELECT * FROM handler_invocations")) == 1
        clock.walls[0] = NOW
        await prune()
        assert len(rows("SELECT * FROM handler_invocations")) == 1
        clock.walls[0] = NOW + 3_650 * DAY
        await prune()
        await prune()
        assert rows("SELECT * FROM handler_invocations") == []
