"""Forks, wherever they come: nobody's rows are lost, nobody's session is taken for another's."""

import os

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
        "SELECT count(h.span_id) AS n FROM sessions AS s LEFT JOIN handler_invocations AS h ON h.session_id = s.id GROUP BY s.id"
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
