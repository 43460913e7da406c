"""Forks, wherever they come: nobody's rows are lost, nobody's session is taken for another's."""

import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")

FORKING = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # CPython 3.12: "multi-threaded, fork() may lead to deadlocks"

def run(telemetry, listener, times):
    async def go():
        for _ in range(times):
            await telemetry.execute(InvokeHandler(listener))
    asyncio.run(go())

def fork(work, wait=True):
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            import traceback; traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return ended(pid) if wait else pid

def ended(pid):
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.fixture
def program(child):
    """Runs a program with ``run``, ``fork`` and ``ended`` at hand, to its end."""

    def start(source):
        import textwrap

        started = child(FORKING + textwrap.dedent(source))
        assert started.end(timeout=15) == 0, started.stderr
        assert "Traceback" not in started.stderr, started.stderr

    return start


def runs_by_session(rows):
    found = rows(
        "SELECT count(h.span_id) AS n FROM sessions AS s LEFT JOIN handler_invocations AS h ON h.session_id = s.id "
        "GROUP BY s.id"
    )
    return sorted(row["n"] for row in found)


def assert_sound(rows, sessions):
    assert rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert [row["stop_reason"] for row in rows("SELECT stop_reason FROM sessions")] == ["clean_shutdown"] * sessions
    assert rows("SELECT * FROM losses") == []


async def test_a_fork_while_readers_are_open_loses_no_row(program, rows):
    """The child would share SQLite's table of locks with them: the parent, alone as far as the kernel knew, would
    remove the log that the child writes to."""
    program("""
    read, write = os.pipe()
    closed, close_now = os.pipe()

    telemetry = make().open()
    listener = register(telemetry)
    run(telemetry, listener, 10)
    assert telemetry.flush()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)

    def ask():
        return loop.run_until_complete(telemetry.database.fetch_all("SELECT count(*) AS n FROM handler_invocations"))

    assert ask()[0]["n"] == 10

    def work():
        asyncio.set_event_loop(None)
        run(telemetry, listener, 20)
        assert telemetry.flush()
        os.write(write, b"x")
        os.read(closed, 1)
        run(telemetry, listener, 20)
        assert telemetry.close()

    pid = fork(work, wait=False)
    os.read(read, 1)
    assert ask()[0]["n"] == 30  # in the parent the reader opens anew
    assert loop.run_until_complete(telemetry.aclose())
    os.write(close_now, b"x")
    ended(pid)
    loop.close()
    """)
    assert runs_by_session(rows) == [10, 40]
    assert_sound(rows, 2)


async def test_a_query_under_way_is_ended_for_the_fork_and_asked_again(program, rows):
    """Whoever forks waits a moment for it and no longer; its caller gets its rows and no error."""
    program("""
    # Endless, until the child's runs are there.
    ENDLESS = '''
        WITH RECURSIVE n(i) AS (
            SELECT 1 UNION ALL SELECT i + 1 FROM n
            WHERE i < (SELECT CASE count(*) WHEN 1 THEN 1e12 ELSE count(*) END FROM handler_invocations)
        )
        SELECT max(i) AS n FROM n
    '''

    async def main():
        async with make() as telemetry:
            listener = register(telemetry)
            await telemetry.execute(InvokeHandler(listener))
            assert await telemetry.aflush()
            await telemetry.database.fetch_all("SELECT 1")  # connected
            query = asyncio.create_task(telemetry.database.fetch_all(ENDLESS, deadline=60))
            await asyncio.sleep(0.05)
            def work():
                asyncio._set_running_loop(None)
                run(telemetry, listener, 5)
                assert telemetry.close()
            fork(work)
            assert (await query)[0]["n"] == 6
    asyncio.run(main())
    """)
    assert runs_by_session(rows) == [1, 5]
    assert_sound(rows, 2)


FAMILIES = {
    "twice": """
        def work():
            run(telemetry, listener, 20)
            fork(grandchild)
            run(telemetry, listener, 1)
            assert telemetry.close()
        def grandchild():
            run(telemetry, listener, 30)
            assert telemetry.close()
        fork(work)
    """,
    "daemon": """
        def work():
            os.setsid()
            fork(grandchild)
        def grandchild():
            run(telemetry, listener, 51)
            assert telemetry.close()
        fork(work)
    """,
    "in-a-thread": """
        def work():
            run(telemetry, listener, 51)
            assert telemetry.close()
        thread = threading.Thread(target=lambda: fork(work))
        thread.start()
        thread.join()
    """,
    "in-a-handler": """
        async def forks(event):
            def work():
                asyncio._set_running_loop(None)
                run(telemetry, listener, 51)
                assert telemetry.close()
            fork(work)
        asyncio.run(telemetry.execute(InvokeHandler(register(telemetry, forks, "forks"))))
    """,
    "while-recording": """
        stop = threading.Event()
        def busy():
            while not stop.is_set():
                if telemetry.health().queue_size < 50_000:  # the writer is to be behind, and nothing to be dropped
                    telemetry.execute_sync(InvokeHandler(other))
        other = register(telemetry, lambda event: None, "other")
        thread = threading.Thread(target=busy)
        thread.start()
        def work():
            run(telemetry, listener, 17)
            assert telemetry.close()
        for _ in range(3):
            fork(work)
        stop.set()
        thread.join()
    """,
}


@pytest.mark.parametrize("family", FAMILIES)
async def test_every_generation_records_under_a_session_of_its_own(program, rows, family):
    """Children, grandchildren, daemons; from a thread, from inside a handler, in the middle of recording."""
    import textwrap

    start = (
        "telemetry = make(commit_interval=60).open()\nlistener = register(telemetry)\nrun(telemetry, listener, 10)\n"
    )
    end = "\nrun(telemetry, listener, 10)\nassert telemetry.close()\n"
    program(start + textwrap.dedent(FAMILIES[family]) + end)
    of_children = rows(
        "SELECT count(*) AS n FROM v_handler_invocations WHERE name = 'on_event' AND session_id <> "
        "(SELECT min(id) FROM sessions)"
    )
    assert of_children == [{"n": 51}]
    of_parent = rows(
        "SELECT count(*) AS n FROM v_handler_invocations WHERE name = 'on_event' AND session_id = "
        "(SELECT min(id) FROM sessions)"
    )
    assert of_parent == [{"n": 20}]
    assert_sound(rows, len(rows("SELECT * FROM sessions")))


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("kind", ["process", "pool"])
def test_children_of_multiprocessing_commit_at_their_end(tmp_path, rows, db, method, kind):
    """They leave by os._exit, past atexit; nobody calls close() or flush(), and nothing is lost."""
    import subprocess
    import sys

    program = tmp_path / "program.py"
    program.write_text(MULTIPROCESSING)
    done = subprocess.run(
        [sys.executable, program, db, method, kind], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert runs_by_session(rows)[-1] == 25
    assert sum(runs_by_session(rows)) == 35
    assert_sound(rows, len(rows("SELECT * FROM sessions")))


MULTIPROCESSING = """
import asyncio, multiprocessing, sys, warnings
from concurrent.futures import ProcessPoolExecutor
import handspan

warnings.simplefilter("ignore", DeprecationWarning)

async def on_event(event): ...

telemetry = None

def run(times):
    global telemetry
    if telemetry is None:  # spawned: everything is new here
        telemetry = handspan.Telemetry(sys.argv[1], service_name="child", commit_interval=60).open()
    try:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
    except handspan.HandspanError:
        listener = globals()["listener"]
    globals()["listener"] = listener
    async def go():
        for _ in range(times):
            await telemetry.execute(handspan.InvokeHandler(listener))
    asyncio.run(go())

if __name__ == "__main__":
    _, db, method, kind = sys.argv
    context = multiprocessing.get_context(method)
    run(10)
    if kind == "process":
        child = context.Process(target=run, args=(25,))
        child.start()
        child.join()
        assert child.exitcode == 0
    else:
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            pool.submit(run, 25).result()
    assert telemetry.close()
"""


async def test_subprocesses_while_recording_disturb_nobody(make, rows):
    """subprocess and os.posix_spawn call no fork hook and inherit no descriptor of ours."""
    import asyncio
    import sys

    from handspan import InvokeHandler

    async def on_event(event):
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass")
        assert await child.wait() == 0

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        results = await asyncio.gather(*(telemetry.execute(InvokeHandler(listener)) for _ in range(8)))
        assert all(result.ok for result in results)
    assert_sound(rows, 1)
    assert runs_by_session(rows) == [8]


async def test_a_child_that_only_registers_is_a_session_that_holds_it(program, rows):
    """A prefork worker that waits for its first event is on the page of sessions, with what it registered."""
    program("""
    telemetry = make().open()
    listener = register(telemetry)
    assert telemetry.flush()
    def work():
        assert telemetry.flush()  # nothing waits: that is no failure
        register(telemetry, name="of the child")
        assert telemetry.flush()
        assert telemetry.close()
    fork(work)
    assert telemetry.close()
    """)
    assert_sound(rows, 2)
    assert [row["name"] for row in rows("SELECT name FROM listeners ORDER BY id")] == ["on_event", "of the child"]


async def test_a_fork_in_the_middle_of_a_registration_leaves_the_child_free_to_register(program, rows):
    """The thread that holds the registry is not there in the child, and never lets go of it."""
    program("""
    import signal, threading
    telemetry = make().open()
    writer = telemetry._pipeline.writer
    inside, go_on, to_the_writer = threading.Event(), threading.Event(), writer.register
    def held(*row):
        inside.set()
        go_on.wait()
        to_the_writer(*row)
    writer.register = held
    thread = threading.Thread(target=register, args=(telemetry,), kwargs={"name": "of the parent"})
    thread.start()
    inside.wait()
    def work():
        signal.alarm(10)  # not for ever, should it hang
        register(telemetry, name="of the child")
        assert telemetry.close()
    fork(work)
    go_on.set()
    thread.join()
    assert telemetry.close()
    """)
    assert_sound(rows, 2)
    names = [row["name"] for row in rows("SELECT name FROM listeners ORDER BY name")]
    assert names == ["of the child", "of the parent"]


@pytest.mark.parametrize("how", ["os._exit", "close"])
async def test_a_fork_in_the_middle_of_what_will_not_end_leaves_the_childs_runs_in_its_journal(
    program, make, rows, db, how
):
    """Another process holds the lock: the parent's thread cannot come out of SQLite, and what a child would do in
    there nobody can say. It needs no SQLite to keep a journal; so do its own children; the next start has them all."""
    end = "pass" if how == "os._exit" else "assert telemetry.close() is False"
    program(f"""
    import sqlite3
    telemetry = make(busy_timeout=20).open()
    listener = register(telemetry)
    assert telemetry.flush()
    other = sqlite3.connect(sys.argv[1], isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    run(telemetry, listener, 10)
    while not telemetry._pipeline.writer._io.locked():
        time.sleep(0.01)
    def work():
        run(telemetry, listener, 20)
        assert telemetry.flush(0.1) is False
        fork(grandchild)
        {end}
    def grandchild():
        run(telemetry, listener, 30)
        {end}
    fork(work)
    other.execute("ROLLBACK")
    assert telemetry.close()
    """)
    assert runs_by_session(rows) == [10]
    async with make(service_name="child"):
        pass
    assert runs_by_session(rows) == [0, 10, 20, 30]
    assert rows("SELECT * FROM losses") == []
    assert not Path(f"{db}.handspan").exists()


SKIPPING = """
telemetry = make().open()
listener = register(telemetry)
telemetry.skipped(listener, "predicate", 5)
pid = os.fork()
if not pid:
    telemetry.skipped(listener, "predicate", 2)
    telemetry.close()
    os._exit(0)
os.waitpid(pid, 0)
telemetry.skipped(listener, "predicate")
telemetry.close()
say("done")
"""


def test_a_forked_child_counts_what_did_not_run_under_its_own_session(child, rows):
    """It starts with none: what the parent had counted is written once, by the parent."""
    process = child(SKIPPING)
    process.wait_for("done")
    assert process.end() == 0
    found = rows("SELECT sum(count) AS n FROM skips GROUP BY session_id ORDER BY n")
    assert [row["n"] for row in found] == [2, 6]
