"""What becomes of a process's runs, however the process ends. Real processes, real signals."""

import os
import signal

import pytest

COMMANDS_AND_ONE_IN_FLIGHT = """
async def main():
    async with make(commit_interval=60, shutdown_timeout=0.5) as telemetry:
        listener, slow = register(telemetry), register(telemetry, for_ever, "slow")
        task = asyncio.create_task(telemetry.execute(InvokeHandler(slow)))
        await asyncio.sleep(0)  # no-op handlers never yield to the loop: let it start
        for _ in range(500):
            await telemetry.execute(InvokeHandler(listener))
        say("ran")
        await asyncio.Event().wait()
asyncio.run(main())
"""


async def test_sigterm_in_the_middle_keeps_everything_finished(child, rows):
    """The default action still ends the process by SIGTERM; before that, what finished is committed."""
    program = child(COMMANDS_AND_ONE_IN_FLIGHT)
    program.wait_for("ran")
    program.process.send_signal(signal.SIGTERM)
    assert program.end() == -signal.SIGTERM
    assert rows("SELECT status, error_type, count(*) AS n FROM handler_invocations GROUP BY 1, 2 ORDER BY 1") == [
        {"status": "error", "error_type": "ProcessInterrupted", "n": 1},
        {"status": "success", "error_type": None, "n": 500},
    ]
    assert [row["stop_reason"] for row in rows("SELECT stop_reason FROM sessions")] == ["clean_shutdown"]


async def test_sigterm_under_full_load_never_deadlocks(child, rows):
    """The signal may come while the main thread holds the queue's mutex: many tries, none hangs."""
    for _ in range(5):
        program = child("""
        async def main():
            async with make() as telemetry:
                listener = register(telemetry)
                await telemetry.execute(InvokeHandler(listener))
                say("running")
                while True:
                    await telemetry.execute(InvokeHandler(listener))
        asyncio.run(main())
        """)
        program.wait_for("running")
        program.process.send_signal(signal.SIGTERM)
        assert program.end() == -signal.SIGTERM
    assert {row["stop_reason"] for row in rows("SELECT stop_reason FROM sessions")} == {"clean_shutdown"}
    assert rows("SELECT count(*) AS n FROM handler_invocations WHERE status = 'error'")[0]["n"] <= 5


@pytest.mark.parametrize("how", ["one-after-another", "two-at-once"])
async def test_sigterm_serves_every_telemetry_of_a_process(child, rows, how):
    """The second must not find the first, closed or open, in its way."""
    first = "async with make(): pass" if how == "one-after-another" else "other = make().open()"
    program = child(f"""
    async def main():
        {first}
        async with make(commit_interval=60, shutdown_timeout=0.5) as telemetry:
            listener = register(telemetry)
            for _ in range(100):
                await telemetry.execute(InvokeHandler(listener))
            say("ran")
            await asyncio.Event().wait()
    asyncio.run(main())
    """)
    program.wait_for("ran")
    program.process.send_signal(signal.SIGTERM)
    assert program.end() == -signal.SIGTERM
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": 100}]
    assert {row["stop_reason"] for row in rows("SELECT stop_reason FROM sessions")} == {"clean_shutdown"}


async def test_an_applications_own_sigterm_handler_is_left_alone(child, rows):
    """Whoever handles SIGTERM keeps it, whether they came before us or after."""
    program = child("""
    async def main():
        asked = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asked.set)
        async with make() as telemetry:
            await telemetry.execute(InvokeHandler(register(telemetry)))
            say("running")
            await asked.wait()
        say("stopped in peace")
    asyncio.run(main())
    """)
    program.wait_for("running")
    program.process.send_signal(signal.SIGTERM)
    program.wait_for("stopped in peace")
    assert program.end() == 0
    assert rows("SELECT stop_reason FROM sessions") == [{"stop_reason": "clean_shutdown"}]


async def test_what_a_kill_interrupts_is_found_by_the_next_start(child, next_start):
    """kill -9: what was committed is there, what was in flight is ProcessInterrupted, the session a crash."""
    program = child("""
    async def main():
        async with make() as telemetry:
            listener, slow = register(telemetry), register(telemetry, for_ever, "slow")
            task = asyncio.create_task(telemetry.execute(InvokeHandler(slow)))
            await asyncio.sleep(0)  # no-op handlers never yield to the loop: let it start
            for _ in range(100):
                await telemetry.execute(InvokeHandler(listener))
            assert await telemetry.aflush()
            say("committed")
            await asyncio.Event().wait()
    asyncio.run(main())
    """)
    program.wait_for("committed")
    program.process.kill()
    program.end()
    counts, sessions = await next_start()
    assert counts == [
        {"status": "error", "error_type": "ProcessInterrupted", "n": 1},
        {"status": "success", "error_type": None, "n": 100},
    ]
    assert [row["stop_reason"] for row in sessions] == ["crash", "clean_shutdown"]


async def test_a_living_session_is_not_taken_for_dead(child, make, rows):
    """A second process that starts meanwhile leaves the first one's running commands alone."""
    program = child("""
    async def main():
        async with make() as telemetry:
            slow = register(telemetry, for_ever, "slow")
            task = asyncio.create_task(telemetry.execute(InvokeHandler(slow)))
            await asyncio.sleep(0)
            assert await telemetry.aflush()
            say("committed")
            await asyncio.Event().wait()
    asyncio.run(main())
    """)
    program.wait_for("committed")
    async with make(service_name="other"):
        assert len(rows("SELECT * FROM running")) == 1
        assert rows("SELECT stop_reason FROM sessions ORDER BY id")[0]["stop_reason"] is None


@pytest.mark.parametrize(
    "ending",
    [
        pytest.param("", id="falls-off-the-end"),
        pytest.param("sys.exit(0)", id="sys-exit"),
        pytest.param("threading.Thread(target=lambda: None).start()", id="other-threads"),
    ],
)
async def test_exit_without_close_loses_nothing_and_never_hangs(child, rows, ending):
    """atexit commits; the writer is a daemon and keeps no interpreter alive."""
    program = child(f"""
    async def main():
        telemetry = await make(commit_interval=60).__aenter__()
        listener = register(telemetry)
        for _ in range(50):
            await telemetry.execute(InvokeHandler(listener))
    asyncio.run(main())
    {ending}
    """)
    assert program.end() == 0, program.stderr
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": 50}]
    assert rows("SELECT stop_reason FROM sessions") == [{"stop_reason": "clean_shutdown"}]


async def test_ctrl_c_keeps_everything(child, rows):
    """SIGINT cancels the main task; the context manager closes; nothing is lost."""
    program = child(COMMANDS_AND_ONE_IN_FLIGHT)
    program.wait_for("ran")
    program.process.send_signal(signal.SIGINT)
    assert program.end() != 0
    assert rows("SELECT count(*) AS n FROM handler_invocations WHERE status = 'success'") == [{"n": 500}]
    assert rows("SELECT stop_reason FROM sessions") == [{"stop_reason": "clean_shutdown"}]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
async def test_a_forked_child_records_under_its_own_session(child, rows):
    """Parent and child write what they ran, once each; neither ends the other's session."""
    program = child("""
    def run(telemetry, listener, times):
        async def go():
            for _ in range(times):
                await telemetry.execute(InvokeHandler(listener))
        asyncio.run(go())

    telemetry = make(commit_interval=60).open()
    listener = register(telemetry)
    run(telemetry, listener, 10)
    pid = os.fork()
    if pid == 0:
        run(telemetry, listener, 20)
        telemetry.close()
        os._exit(0)
    os.waitpid(pid, 0)
    run(telemetry, listener, 5)
    telemetry.close()
    """)
    assert program.end() == 0, program.stderr
    counts = rows("SELECT count(*) AS n FROM handler_invocations GROUP BY session_id ORDER BY n")
    assert [row["n"] for row in counts] == [15, 20]
    assert [row["stop_reason"] for row in rows("SELECT stop_reason FROM sessions")] == ["clean_shutdown"] * 2
    assert rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


async def test_a_forked_child_that_only_leaves_disturbs_nobody(child, rows):
    """A child that records nothing starts no writer and writes nothing."""
    program = child("""
    telemetry = make().open()
    listener = register(telemetry)
    asyncio.run(telemetry.execute(InvokeHandler(listener)))
    pid = os.fork()
    if pid == 0:
        sys.exit(0)  # runs atexit hooks, ours included
    assert os.waitpid(pid, 0)[1] == 0
    telemetry.close()
    """)
    assert program.end() == 0, program.stderr
    assert rows("SELECT stop_reason FROM sessions") == [{"stop_reason": "clean_shutdown"}]
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": 1}]


async def test_close_from_another_thread_and_twice(make, rows):
    """Whoever closes first closes; the second finds it done."""
    import threading

    telemetry = make().open()
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(telemetry.close())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True, True]
    assert rows("SELECT stop_reason FROM sessions") == [{"stop_reason": "clean_shutdown"}]
