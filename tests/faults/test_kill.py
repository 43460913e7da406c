"""A process that dies without a word: what had returned is in the file after the next start, once."""

import asyncio
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PRELUDE = """
import asyncio, os, signal, sys, threading
import handspan
from handspan import ExecuteJob, InvokeHandler

async def on_event(event):
    if event == "bad":
        raise ValueError("bad")
async def for_ever(event): await asyncio.Event().wait()
async def tick(): ...

def make(**options):
    options = {"service_name": "child", "commit_interval": 60, **options}
    return handspan.Telemetry(sys.argv[1], **options)

def register(telemetry, call=on_event):
    return telemetry.register_listener(call, topic="t", app_key="a.B")

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def say(*words):
    print(*words, flush=True)
"""

RETURNED_AND_IN_FLIGHT = """
async def main():
    async with make(journal={journal}) as telemetry:
        listener, slow = register(telemetry), register(telemetry, for_ever)
        job = telemetry.register_job(tick, app_key="a.B")
        await telemetry.aflush()
        task = asyncio.create_task(telemetry.execute(InvokeHandler(slow)))
        await asyncio.sleep(0)
        for number in range(100):
            await telemetry.execute(InvokeHandler(listener, "bad" if number % 10 == 0 else "good"))
            await telemetry.execute(ExecuteJob(job))
        die()
asyncio.run(main())
"""


@pytest.fixture
def run(db):
    """Runs a program on the test's database to its end; its return code and what it printed."""
    started = []

    def start(program, *, wait=True):
        source = PRELUDE + textwrap.dedent(program)
        process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", source, db],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        started.append(process)
        if not wait:
            return process
        printed, _ = process.communicate(timeout=60)
        return process.returncode, printed.split()

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def after_next_start(make, rows, db):
    """What the file says once it was opened and closed again."""

    async def look():
        async with make(service_name="child"):
            pass
        counts = rows(
            "SELECT kind, status, coalesce(error_type, '') AS error, count(*) AS n, count(DISTINCT span_id) AS ids"
            " FROM v_executions GROUP BY 1, 2, 3 ORDER BY 1, 2, 3"
        )
        assert all(row["n"] == row["ids"] for row in counts), "a run came twice"
        assert rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
        assert rows("PRAGMA foreign_key_check") == []
        assert rows("SELECT * FROM running") == []
        assert not Path(f"{db}.handspan").exists(), "the journals and locks are gone"
        return {(row["kind"], row["status"], row["error"]): row["n"] for row in counts}

    return look


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "no-journal"])
async def test_a_kill_right_after_execute_returned_loses_nothing(run, after_next_start, rows, journal):
    """Every outcome as it was, what was in flight as interrupted; and without the journal all of it is gone."""
    code, _ = run(RETURNED_AND_IN_FLIGHT.format(journal=journal))
    assert code == -signal.SIGKILL
    assert await after_next_start() == (
        {
            ("handler", "error", "ProcessInterrupted"): 1,
            ("handler", "error", "ValueError"): 10,
            ("handler", "success", ""): 90,
            ("job", "success", ""): 100,
        }
        if journal
        else {}
    )
    assert rows("SELECT stop_reason AS why, count(*) AS n FROM sessions GROUP BY 1 ORDER BY 1") == [
        {"why": "clean_shutdown", "n": 1},
        {"why": "crash", "n": 1},
    ]


async def test_the_command_line_takes_a_journal_over(run, rows, db):
    """An operator wants to see what happened before the application starts again; status says that something waits."""
    run(RETURNED_AND_IN_FLIGHT.format(journal=True))
    command = [sys.executable, "-m", "handspan.cli"]
    said = subprocess.run([*command, "status", "--db", db], capture_output=True, text=True, check=True).stdout
    assert "handspan db recover" in said
    said = subprocess.run([*command, "losses", "--db", db], capture_output=True, text=True, check=True).stdout
    assert "handspan db recover" in said
    for runs, sessions in ((201, 1), (0, 0)):
        recover = [*command, "db", "recover", "--db", db, "--json"]
        done = subprocess.run(recover, capture_output=True, text=True, check=True)
        assert json.loads(done.stdout) == {"sessions": sessions, "journals": sessions, "runs": runs}
    assert rows("SELECT count(*) AS n FROM v_executions") == [{"n": 201}]
    said = subprocess.run([*command, "status", "--db", db], capture_output=True, text=True, check=True).stdout
    assert "handspan db recover" not in said


async def test_what_was_registered_comes_back_with_its_runs(run, after_next_start, rows, db):
    """The journal repeats registrations, so that a database that was lost meanwhile still knows what ran."""
    run(RETURNED_AND_IN_FLIGHT.format(journal=True))
    for left in (db, f"{db}-wal", f"{db}-shm"):
        Path(left).unlink(missing_ok=True)
    found = await after_next_start()
    assert sum(found.values()) == 201
    assert rows("SELECT app_key, name, topic, handler_method FROM listeners ORDER BY name") == [
        {"app_key": "a.B", "name": "for_ever", "topic": "t", "handler_method": "for_ever"},
        {"app_key": "a.B", "name": "on_event", "topic": "t", "handler_method": "on_event"},
    ]


async def test_a_forked_child_that_leaves_by_os_exit_loses_nothing(run, after_next_start):
    """As ``multiprocessing``'s children do: its own journal has its runs, and the parent's its own."""
    code, _ = run("""
    telemetry = make().open()
    listener = register(telemetry)
    asyncio.run(telemetry.execute(InvokeHandler(listener)))
    child = os.fork()
    if child == 0:
        for _ in range(50):
            asyncio.run(telemetry.execute(InvokeHandler(listener)))
        os._exit(0)
    os.waitpid(child, 0)
    asyncio.run(telemetry.execute(InvokeHandler(listener)))
    os._exit(0)
    """)
    assert code == 0
    assert await after_next_start() == {("handler", "success", ""): 52}


async def test_a_death_in_the_middle_of_a_handler_without_an_await_is_not_silent(run, after_next_start):
    """A start is on its way to the kernel before the handler's first line: also one that takes the process with it."""
    run("""
    async def fatal(event): die()
    telemetry = make().open()
    asyncio.run(telemetry.execute(InvokeHandler(register(telemetry, fatal))))
    """)
    assert await after_next_start() == {("handler", "error", "ProcessInterrupted"): 1}


async def test_what_could_not_be_committed_before_close_waits_for_the_next_start(run, after_next_start, db):
    """The lock outlives the application: its runs stay in the journal, and close() says that they are not stored."""
    process = run(
        """
    telemetry = make(shutdown_timeout=0.3, busy_timeout=0.05).open()
    listener = register(telemetry)
    telemetry.flush()
    say("ready")
    import sqlite3
    other = sqlite3.connect(sys.argv[1], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for _ in range(20):
        asyncio.run(telemetry.execute(InvokeHandler(listener)))
    say("closed", telemetry.close())
    """,
        wait=False,
    )
    printed, _ = process.communicate(timeout=60)
    assert printed.split() == ["ready", "closed", "False"]
    assert await after_next_start() == {("handler", "success", ""): 20}


async def test_several_processes_killed_at_once_are_taken_over_by_several_starts_at_once(run, make, rows, db):
    """Each has its own journal; whoever comes first takes one over, under a lock, and nobody takes it twice."""
    program = """
    async def main():
        async with make() as telemetry:
            listener = register(telemetry)
            for _ in range(200):
                await telemetry.execute(InvokeHandler(listener))
            say("ran")
            await asyncio.Event().wait()
    asyncio.run(main())
    """
    processes = [run(program, wait=False) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ran\n"
    for process in processes:
        process.kill()
    for process in processes:
        process.wait()
    starts = [make(service_name="child") for _ in range(4)]
    await asyncio.gather(*(telemetry.__aenter__() for telemetry in starts))
    await asyncio.gather(*(telemetry.aclose() for telemetry in starts))
    assert rows("SELECT count(*) AS n, count(DISTINCT span_id) AS ids FROM handler_invocations") == [
        {"n": 600, "ids": 600}
    ]
    assert not Path(f"{db}.handspan").exists()


async def test_a_replay_that_is_killed_is_finished_by_the_next(run, after_next_start, db):
    """Killed between two segments of a replay: the mark says how far it came."""
    run("""
    async def main():
        async with make(segment_max_spans=10) as telemetry:
            listener = register(telemetry)
            import sqlite3
            other = sqlite3.connect(sys.argv[1], isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            for _ in range(1000):
                await telemetry.execute(InvokeHandler(listener))
            die()
    asyncio.run(main())
    """)
    for many in (1, 3, 20):
        code, _ = run(f"""
        from handspan.store import sessions
        real, calls = sessions.commit_what_can_be, []
        def commit(*args):
            calls.append(1)
            real(*args)
            if len(calls) == {many}:
                die()
        sessions.commit_what_can_be = commit
        make().open()
        """)
        assert code == -signal.SIGKILL
    with sqlite3.connect(db) as conn:
        (stored,) = conn.execute("SELECT count(*) FROM handler_invocations").fetchone()
        assert 0 < stored <= 240
    assert await after_next_start() == {("handler", "success", ""): 1000}


async def test_a_journal_of_a_live_process_is_left_alone(make, rows, db):
    """Another start beside a living process: its lock is held, its journal is its own."""
    async with make(service_name="child", commit_interval=60) as living:

        async def on_event(event): ...

        from handspan import InvokeHandler

        listener = living.register_listener(on_event, topic="t", app_key="a.B")
        assert await living.aflush()
        await living.execute(InvokeHandler(listener))
        async with make(service_name="child"):
            pass
        assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": 0}]
        assert len(list(Path(f"{db}.handspan").glob("*.journal"))) == 1
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": 1}]


async def test_removing_the_directory_beside_a_living_process_costs_nothing(make, rows, db):
    """The journal and the lock are made anew; what is in memory is committed as ever."""
    from handspan import InvokeHandler

    async def on_event(event): ...

    async with make(service_name="child") as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        await telemetry.execute(InvokeHandler(listener))
        shutil.rmtree(f"{db}.handspan")
        assert await telemetry.aflush()
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        assert {path.suffix for path in Path(f"{db}.handspan").iterdir()} == {".lock", ".journal"}
        assert os.path.exists(db)
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": 2}]


async def test_a_journal_that_cannot_be_written_is_told_to_everybody_who_asks(make, rows, monkeypatch, caplog):
    """Promise 1 is suspended meanwhile: health() says why, the log says it once, the file since when and until when."""
    import errno

    from handspan import InvokeHandler
    from handspan.recording import journal as journal_module

    real, full = journal_module.write, []

    def write(fd, data):
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data)

    monkeypatch.setattr(journal_module, "write", write)

    async def on_event(event): ...

    async with make(service_name="child") as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        full.append(True)
        for _ in range(3):
            await telemetry.execute(InvokeHandler(listener))
            assert await telemetry.aflush()
        assert telemetry.health().journal_trouble == "No space left on device"
        (incident,) = rows("SELECT kind, detail, ended_at FROM incidents")
        assert incident == {"kind": "journal_suspended", "detail": "No space left on device", "ended_at": None}
        full.clear()
        for _ in range(2):
            await telemetry.execute(InvokeHandler(listener))
            assert await telemetry.aflush()
        assert telemetry.health().journal_trouble is None
        (incident,) = rows("SELECT ended_at >= started_at AS over FROM incidents")
        assert incident == {"over": 1}
    said = [record.getMessage() for record in caplog.records if "journal" in record.getMessage()]
    assert said == [
        "The journal cannot be written (No space left on device): a kill -9 now loses what is not committed.",
        "The journal is written again.",
    ]
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": 5}]


async def test_damaged_entries_of_a_journal_are_counted_and_the_rest_is_taken_over(run, after_next_start, rows, db):
    """A byte flipped in the middle and a torn tail: what is whole is stored, the damage is an incident and a count."""
    run(RETURNED_AND_IN_FLIGHT.format(journal=True))
    (page,) = Path(f"{db}.handspan").glob("*.journal")
    data = bytearray(page.read_bytes())
    data[len(data) // 2] ^= 0xFF
    page.write_bytes(bytes(data[:-5]))
    found = await after_next_start()
    assert 190 <= sum(found.values()) <= 201
    assert found["handler", "success", ""] >= 85
    (loss,) = rows("SELECT stage, kind, reason, count FROM losses")
    assert (loss["stage"], loss["reason"]) == ("journal", "damaged")
    assert 1 <= loss["count"] <= 2
    assert rows("SELECT kind, count FROM incidents") == [{"kind": "journal_damaged", "count": loss["count"]}]


async def test_an_exporter_that_starts_next_takes_a_journal_over_too(run, rows, db):
    """Whoever opens the file: a process that only exports must not bury what it did not replay."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    from handspan_exporters.sqlite import SQLiteSpanExporter

    run(RETURNED_AND_IN_FLIGHT.format(journal=True))
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SQLiteSpanExporter(db)))
    provider.get_tracer("theirs").start_span("one").end()
    provider.shutdown()
    assert rows("SELECT count(*) AS n, count(DISTINCT span_id) AS ids FROM v_executions") == [{"n": 201, "ids": 201}]
    assert not Path(f"{db}.handspan").exists()


async def test_a_journal_that_makes_no_sense_stops_nobody(make, rows, db, caplog):
    """Its checksums are right and its content is not (a bug, another program): kept, told of, and recording goes on."""
    from handspan import InvokeHandler
    from handspan.recording import frames
    from handspan.records import Session

    directory = Path(f"{db}.handspan")
    directory.mkdir()
    nonsense = frames._frame(frames.END, frames._plain([b"t" * 16, b"s" * 8, "now", 1, "success", 0]))
    page = frames.HEADER + frames.session_frame(Session("dead", "test")) + nonsense + frames.seal_frame(1, [])
    (directory / "dead.00000001.journal").write_bytes(page)

    async def on_event(event): ...

    async with make(service_name="child") as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": 1}]
    assert [path.name for path in directory.iterdir()] == ["dead.00000001.journal.unread"]
    assert "makes no sense" in caplog.text


async def test_a_page_somebody_copied_is_taken_over_once(run, after_next_start, db):
    """A backup of the directory put back beside the original: no run comes twice."""
    run(RETURNED_AND_IN_FLIGHT.format(journal=True))
    (page,) = Path(f"{db}.handspan").glob("*.journal")
    shutil.copy(page, page.with_name(page.name.replace("00000001", "00000077")))
    assert sum((await after_next_start()).values()) == 201


async def test_a_run_that_ended_but_is_not_appended_yet_is_in_flight(run, after_next_start):
    """A thread that is not scheduled between the two, a commit, a death: the run is not forgotten."""
    run("""
    import time
    telemetry = make().open()
    listener = register(telemetry)
    processor = telemetry._pipeline.processor
    real, reached = processor._record_of, threading.Event()
    def preempted(run, to_record):
        reached.set()
        threading.Event().wait()
    processor._record_of = preempted
    threading.Thread(target=lambda: telemetry.execute_sync(InvokeHandler(listener)), daemon=True).start()
    reached.wait()
    processor._record_of = real
    assert telemetry.health().active == 1
    telemetry.execute_sync(InvokeHandler(listener))
    assert telemetry.flush()
    die()
    """)
    found = await after_next_start()
    assert sum(found.values()) == 2
    assert found["handler", "error", "ProcessInterrupted"] == 1


async def test_instants_past_64_bits_of_nanoseconds_do_not_cost_a_run(run, after_next_start):
    """A job due in the year 9999, an event published in the year 1."""
    run("""
    from whenever import Instant
    async def main():
        telemetry = await make().__aenter__()
        listener, job = register(telemetry), telemetry.register_job(tick, app_key="a.B")
        for year in (1, 2025, 9999):
            await telemetry.execute(ExecuteJob(job, scheduled_at=Instant.from_utc(year, 1, 2)))
            await telemetry.execute(InvokeHandler(listener, published_at=Instant.from_utc(year, 1, 2)))
        die()
    asyncio.run(main())
    """)
    assert await after_next_start() == {("handler", "success", ""): 3, ("job", "success", ""): 3}


async def test_a_file_of_two_names_has_one_journal(make, rows, db, tmp_path):
    """Somebody opens it by a symlink: the living is not taken for dead."""
    from handspan import InvokeHandler

    async def on_event(event): ...

    async with make(service_name="child") as living:
        listener = living.register_listener(on_event, topic="t", app_key="a.B")
        assert await living.aflush()
        os.symlink(db, tmp_path / "other.db")
        async with make(db=str(tmp_path / "other.db"), service_name="child"):
            assert [row["stop_reason"] for row in rows("SELECT stop_reason FROM sessions")] == [None, None]
        await living.execute(InvokeHandler(listener))
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": 1}]
    assert {row["stop_reason"] for row in rows("SELECT stop_reason FROM sessions")} == {"clean_shutdown"}


@pytest.mark.parametrize("instead", ["nothing", "a-file"])
async def test_removing_the_directory_beside_a_living_process_does_not_bury_it(make, rows, db, instead):
    """Another one starts before it has made a new lock: its last sign of life is young, so it is not taken for dead."""
    from handspan import InvokeHandler

    async def on_event(event): ...

    async with make(service_name="child") as living:
        listener = living.register_listener(on_event, topic="t", app_key="a.B")
        assert await living.aflush()
        shutil.rmtree(f"{db}.handspan")
        if instead == "a-file":
            Path(f"{db}.handspan").write_text("notes")
        async with make(service_name="child"):
            assert [row["stop_reason"] for row in rows("SELECT stop_reason FROM sessions ORDER BY id")] == [None, None]
        await living.execute(InvokeHandler(listener))
    assert rows("SELECT status, count(*) AS n FROM handler_invocations") == [{"status": "success", "n": 1}]


SKIPPING = """
telemetry = make().open()
listener = register(telemetry)
telemetry.skipped(listener, "predicate", 40)
telemetry.flush()
telemetry.skipped(listener, "predicate", 2)
say("skipped")
threading.Event().wait()
"""


async def test_counts_of_what_did_not_run_are_kept_up_to_the_last_write(child, next_start, rows):
    """Unlike runs they are not journaled: what was counted since is lost with the process, and no more."""
    process = child(SKIPPING)
    process.wait_for("skipped")
    process.kill()
    await next_start()
    assert [(row["reason"], row["count"]) for row in rows("SELECT * FROM v_skips")] == [("predicate", 40)]
