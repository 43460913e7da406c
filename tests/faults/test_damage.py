"""Really damaged files: the application goes on, the damaged one lies beside as it was, and everybody is told once."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from handspan import InvokeHandler
from handspan.store import damage, quick_check, remains
from handspan.store.damage import files_set_aside
from handspan.store.provenance import looks_like_ours

APP = "a.B"
PAGE = 4096

PRELUDE = """
import asyncio, os, signal, sys
import handspan
from handspan import InvokeHandler

async def on_event(event):
    if event == "bad":
        raise ValueError("bad " * 20)

def say(word):
    print(word, flush=True)

async def record(count, db=sys.argv[1], **options):
    telemetry = handspan.Telemetry(db, service_name="test", set_global_providers=False, **options)
    telemetry.open()
    listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
    for number in range(count):
        await telemetry.execute(InvokeHandler(listener))
    assert await telemetry.aflush()
    return telemetry, listener
"""

KILLED = """
async def main():
    await record(2_000, journal=len(sys.argv) > 2)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def on_event(event):
    if event == "bad":
        raise ValueError("bad")


def run_program(program, db, *args):
    source = PRELUDE + textwrap.dedent(program)
    return subprocess.run([sys.executable, "-c", source, db, *args], capture_output=True, text=True, check=False)


def overwrite(path, offset, data):
    """By another process: closing the file here would drop this process's locks on it."""
    program = "import sys; f = open(sys.argv[1], 'r+b'); f.seek(int(sys.argv[2])); f.write(sys.stdin.buffer.read())"
    subprocess.run([sys.executable, "-c", program, path, str(offset)], input=data, check=True)


def truncate(path, size):
    program = "import os, sys; os.truncate(sys.argv[1], int(sys.argv[2]))"
    subprocess.run([sys.executable, "-c", program, path, str(size)], check=True)


def checkpoint(db):
    with closing(sqlite3.connect(db)) as conn:
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def pages_of(db, name, kind="leaf"):
    """Where a table's or an index's pages lie in the file."""
    with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn:
        found = conn.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ? ORDER BY path", [name, kind])
        return [number - 1 for (number,) in found]


def garble(db, name):
    """Overwrite one page in the middle of a table or an index."""
    pages = pages_of(db, name)
    overwrite(db, pages[len(pages) // 2] * PAGE, b"\xa5" * PAGE)


def blank_the_header(db):
    overwrite(db, 0, bytes(100))


def halve(db):
    truncate(db, os.stat(db).st_size // 2 // PAGE * PAGE)


def garble_the_first_page(db):
    overwrite(db, 0, b"\xa5" * PAGE)


def garble_all_but_the_first_page(db):
    overwrite(db, PAGE, b"\xa5" * (os.stat(db).st_size - PAGE))


def bytes_of(*paths):
    return {path: Path(path).read_bytes() for path in paths if os.path.exists(path)}


@pytest.fixture
def until():
    """Wait for a condition another thread brings about, looking every 10 ms, 20 s at most."""

    async def wait(condition):
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def killed(db):
    """A file with 2,000 runs whose application was killed, and had no journal to give any of them back."""
    assert run_program(KILLED, db).returncode == -signal.SIGKILL
    checkpoint(db)
    return db


@pytest.fixture
def told(rows, db, caplog):
    """What the log, the incidents, the ledger and the command line say of a file set aside: once each."""

    def check(*, lost=None):
        (aside,) = files_set_aside(db)
        lines = [each.getMessage() for each in caplog.records if each.levelname == "ERROR" and "handspan" in each.name]
        assert len(lines) == 1, lines
        assert f"set aside as {aside}" in lines[0]
        assert f"`handspan db salvage {aside} --into NEW.db`" in lines[0]
        (incident,) = rows("SELECT * FROM v_incidents WHERE kind = 'corrupt_database'")
        assert aside in incident["detail"]
        assert incident["service"] == "test"
        ledger = rows(
            "SELECT kind, stage, sum(count) AS n FROM v_losses WHERE reason = 'corrupt_database' GROUP BY 1, 2"
        )
        if lost is not None:
            assert ledger == [{"kind": "handler", "stage": "store", "n": lost}]
            assert incident["count"] == lost
        command = [sys.executable, "-m", "handspan.cli", "status", "--json", "--db", db]
        status = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)["status"]
        assert status["set_aside"] == [aside]
        assert [each["kind"] for each in status["incidents"]] == ["corrupt_database"]
        assert sum(each["count"] for each in status["losses"]) == sum(each["n"] for each in ledger) > 0
        return aside

    return check


# --- found at the start ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "lost"),
    [
        pytest.param(blank_the_header, None, id="header-zeroed"),
        pytest.param(garble_the_first_page, None, id="first-page-overwritten"),
        pytest.param(halve, None, id="truncated-to-half"),
        pytest.param(lambda db: garble(db, "handler_invocations"), 2_000, id="page-of-a-table"),
        pytest.param(lambda db: garble(db, "ix_handler_invocations_trace"), 2_000, id="page-of-an-index"),
    ],
)
async def test_a_file_damaged_while_nobody_looked_is_set_aside(killed, make, rows, until, told, db, spoil, lost):
    """After a kill -9: at the opening, at the first write, or by the quick check in the background."""
    spoil(killed)
    before = bytes_of(killed)
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await until(lambda: files_set_aside(db))
        for _ in range(10):
            assert (await telemetry.execute(InvokeHandler(listener))).ok
        assert await telemetry.aflush()
        assert telemetry.health().failing_since is None
    aside = told(lost=lost)
    assert bytes_of(aside)[aside] == before[db]
    assert rows("SELECT count(*) AS n FROM v_handler_invocations") == [{"n": 10}]
    assert rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    assert rows("SELECT retired_at FROM listeners") == [{"retired_at": None}]


async def test_the_history_of_what_went_wrong_is_carried_over(killed, make, rows, until, db):
    """Sessions, older losses and incidents of the damaged file are in the new one, and the ledger adds up for each."""
    with closing(sqlite3.connect(db)) as conn:
        conn.execute("INSERT INTO losses (hour, session_id, stage, kind, reason, count) "
                     "VALUES (3600, 1, 'store', 'handler', 'queue_full', 7)")  # fmt: skip
        conn.execute("INSERT INTO incidents (session_id, started_at, kind, detail) VALUES (1, 5, 'older', 'x')")
        conn.commit()
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    (old,) = rows("SELECT instance_id FROM sessions")
    garble(db, "handler_invocations")
    async with make() as telemetry:
        await until(lambda: files_set_aside(db))
        assert await telemetry.aflush()
    assert rows(
        "SELECT s.instance_id, s.stop_reason, l.reason, l.count FROM v_losses AS l JOIN sessions AS s "
        "ON s.id = l.session_id ORDER BY l.reason"
    ) == [
        {"instance_id": old["instance_id"], "stop_reason": "crash", "reason": "corrupt_database", "count": 2_000},
        {"instance_id": old["instance_id"], "stop_reason": "crash", "reason": "queue_full", "count": 7},
    ]
    assert [row["kind"] for row in rows("SELECT kind FROM v_incidents ORDER BY id")] == ["corrupt_database", "older"]


@pytest.mark.parametrize("journal", [["journal"], []], ids=["journal", "no-journal"])
async def test_a_torn_log_loses_its_tail_and_nothing_else(db, make, rows, journal):
    """SQLite reads its log up to the first frame that is not whole: the file is sound, and stays. What went with the
    tail is in the journal, whose pages outlive the commit until a checkpoint."""
    assert run_program(KILLED, db, *journal).returncode == -signal.SIGKILL
    size = os.stat(f"{db}-wal").st_size
    assert size > 50 * PAGE
    overwrite(f"{db}-wal", size // 2, os.urandom(1000))
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        check = telemetry._pipeline.writer._damage.check._thread
        if check is not None:
            check.join(20)
    assert files_set_aside(db) == []
    assert rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]
    (found,) = rows("SELECT count(*) AS n, count(DISTINCT span_id) AS ids FROM v_handler_invocations")
    assert found["n"] == found["ids"]
    assert found["n"] == 2_001 if journal else 1 <= found["n"] < 2_001


async def test_what_the_journal_still_has_of_a_damaged_file_comes_back(db, make, rows, until):
    """The next start puts it into the new file, and the ledger counts what did not come back: nothing."""
    assert run_program(KILLED, db, "journal").returncode == -signal.SIGKILL
    checkpoint(db)
    garble_the_first_page(db)
    async with make() as telemetry:
        await until(lambda: files_set_aside(db))
        assert await telemetry.aflush()
    assert rows("SELECT count(*) AS n, count(DISTINCT span_id) AS ids FROM v_handler_invocations") == [
        {"n": 2_000, "ids": 2_000}
    ]
    assert rows("SELECT sum(count) AS n FROM losses WHERE kind = 'handler'") == [{"n": None}]


async def test_after_an_orderly_end_nobody_looks(db, make, monkeypatch):
    """The quick check reads the whole file: only an unclean stop is a reason to."""
    started = []
    monkeypatch.setattr(quick_check.QuickCheck, "start", lambda self: started.append(1))
    for _ in range(2):
        async with make() as telemetry:
            listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
            await telemetry.execute(InvokeHandler(listener))
    assert started == []
    with closing(sqlite3.connect(db)) as conn:
        conn.execute("UPDATE sessions SET stopped_at = NULL, stop_reason = NULL, last_heartbeat_at = 1")
        conn.commit()
    async with make():
        pass
    assert started == [1]


# --- found while recording --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(garble_the_first_page, id="first-page-overwritten"),
        pytest.param(blank_the_header, id="header-zeroed"),
        pytest.param(halve, id="truncated-to-half"),
        pytest.param(
            lambda db: overwrite(db, PAGE, b"\xa5" * (os.stat(db).st_size - PAGE)), id="all-but-the-first-page"
        ),
    ],
)
async def test_a_file_damaged_while_recording_is_set_aside(make, rows, db, until, told, spoil):
    """What is in memory, and every later run, goes into the new file; each registration is there again."""
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        idle = telemetry.register_listener(on_event, topic="never", app_key=APP, name="idle")
        for _ in range(500):
            await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        checkpoint_by_another(db)
        spoil(db)
        after = 0
        async with asyncio.timeout(60):
            while not files_set_aside(db):
                for _ in range(50):
                    assert (await telemetry.execute(InvokeHandler(listener))).ok
                    after += 1
                await telemetry.aflush()
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        assert idle is not None
    told()
    stored = rows("SELECT count(*) AS n FROM v_handler_invocations")[0]["n"]
    lost = rows("SELECT sum(count) AS n FROM losses")[0]["n"]
    assert 1 <= stored <= after + 1
    assert lost + stored <= 500 + after + 1
    assert {row["topic"] for row in rows("SELECT topic FROM listeners WHERE retired_at IS NULL")} == {"t", "never"}
    assert rows("PRAGMA integrity_check") == [{"integrity_check": "ok"}]


def checkpoint_by_another(db):
    program = "import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()"
    subprocess.run([sys.executable, "-c", program, db], check=True)


async def test_readers_follow_to_the_new_file(make, db):
    """A dashboard that has the damaged file open answers from the new one."""
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        count = "SELECT count(*) AS n FROM handler_invocations"
        assert (await telemetry.database.fetch_one(count))["n"] == 1
        checkpoint_by_another(db)
        garble_the_first_page(db)
        async with asyncio.timeout(60):
            while not files_set_aside(db):
                await telemetry.execute(InvokeHandler(listener))
                await telemetry.aflush()
        assert await telemetry.aflush()
        (kind,) = await telemetry.database.fetch_all("SELECT kind FROM incidents")
        assert kind["kind"] == "corrupt_database"


async def test_two_processes_set_a_file_aside_once(killed, db, rows):
    """Both meet the damage, one moves it, the other finds a fresh file and leaves it where it is."""
    garble_the_first_page(killed)
    program = PRELUDE + textwrap.dedent("""
    async def main():
        sys.stdin.readline()
        telemetry, _ = await record(100)
        telemetry.close()
    asyncio.run(main())
    """)
    both = [
        subprocess.Popen([sys.executable, "-c", program, db], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for each in both:
        each.stdin.write("\n")
        each.stdin.flush()
    said = [each.communicate(timeout=60)[1] for each in both]
    assert [each.returncode for each in both] == [0, 0], said
    assert len(files_set_aside(db)) == 1
    assert sum(line.count("It was set aside as") for line in said) == 1
    assert rows("SELECT count(*) AS n FROM v_handler_invocations") == [{"n": 200}]
    assert rows("SELECT count(*) AS n FROM incidents WHERE kind = 'corrupt_database'") == [{"n": 1}]


def test_whoever_is_second_leaves_a_fresh_file_alone(killed, db, monkeypatch):
    """Between the finding and the lock another process may have begun anew: under the lock the file is looked at."""
    moved = []
    monkeypatch.setattr(damage, "_renamed", lambda *args: moved.append(args))
    victim = damage.Damage(db, None, None, None, lambda: 1.8e9, lambda: None)
    error = sqlite3.DatabaseError("database disk image is malformed")
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    assert victim.handle(error, lambda: None) is None
    suspect = victim._suspect
    Path(db).rename(f"{db}.elsewhere")
    Path(db).write_bytes(b"")
    assert victim._set_aside(suspect, error, lambda: None) is None
    assert moved == []


async def test_a_disk_that_damages_the_new_file_too_gets_one_an_hour(killed, make, db, until, caplog, monkeypatch):
    """Else a dying disk would fill itself: recording waits, says why, and the files stay where they are."""
    garble_the_first_page(killed)
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await until(lambda: files_set_aside(db))
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        checkpoint_by_another(db)
        garble_the_first_page(db)
        async with asyncio.timeout(60):
            while telemetry.health().failing_since is None:
                await telemetry.execute(InvokeHandler(listener))
                await telemetry.aflush(0.2)
        assert "The disk may be failing" in telemetry.health().last_error
        assert len(files_set_aside(db)) == 1
        monkeypatch.setattr(damage, "AGAIN_AFTER", 0.0)
        assert await telemetry.aflush(30)
        assert len(files_set_aside(db)) == 2


# --- what was never ours ---------------------------------------------------------------------------------


def a_text(path):
    path.write_text("hsp1 " * 40 + "CREATE TABLE handler_invocations ( CREATE TABLE registration_holders (\n")


def a_picture(path):
    path.write_bytes(b"\xff\xd8\xff\xe0" + os.urandom(20_000))


def somebody_elses(path):
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE theirs (a)")
        conn.executemany("INSERT INTO theirs VALUES (?)", [("x" * 500,)] * 100)
        conn.commit()
    raw = bytearray(path.read_bytes())
    raw[:100] = bytes(100)
    path.write_bytes(raw)


@pytest.mark.parametrize("case", [a_text, a_picture, somebody_elses])
def test_what_has_none_of_our_marks_is_never_ours(tmp_path, case):
    """A text that quotes our schema, a picture, another program's database with its header gone."""
    path = tmp_path / "home.db"
    case(path)
    assert not looks_like_ours(str(path))


@pytest.mark.parametrize("spoil", [blank_the_header, garble_the_first_page])
def test_ours_is_known_by_its_bytes_without_any_lock_beside_it(killed, tmp_path, spoil):
    """Copied elsewhere, or stopped in an orderly way: the tables' names in its pages are enough."""
    copy = tmp_path / "alone" / "copy.db"
    copy.parent.mkdir()
    copy.write_bytes(Path(killed).read_bytes())
    spoil(str(copy))
    assert looks_like_ours(str(copy))


# --- the quick check ---------------------------------------------------------------------------------------


def test_a_finding_that_does_not_come_again_is_none(killed, monkeypatch):
    """Two looks on two connections: one may have met a page on its way to the disk."""
    found, looks = [], ["page 7 is odd", None]
    check = quick_check.QuickCheck(killed, lambda *what: found.append(what))
    monkeypatch.setattr(check, "_look", lambda *_: looks.pop(0))
    check.start()
    check._thread.join(20)
    assert (found, looks) == ([], [])


def test_odd_values_are_no_damage(killed):
    """What somebody wrote past a NOT NULL, or SQLite 3.40 believes to see, does not cost them their history."""
    with closing(sqlite3.connect(killed)) as conn:
        conn.execute("CREATE TABLE odd (id INTEGER PRIMARY KEY, a TEXT)")
        conn.execute("INSERT INTO odd VALUES (1, NULL)")
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("UPDATE sqlite_schema SET sql = replace(sql, 'a TEXT', 'a TEXT NOT NULL') WHERE name = 'odd'")
        conn.commit()
    with closing(sqlite3.connect(killed)) as conn:
        assert conn.execute("PRAGMA quick_check(odd)").fetchall() == [("NULL value in odd.a",)]
    found = []
    check = quick_check.QuickCheck(killed, lambda *what: found.append(what))
    check.start()
    check._thread.join(20)
    assert found == []
    garble(killed, "handler_invocations")
    check.start()
    check._thread.join(20)
    assert len(found) == 1


def test_a_quick_check_stops_when_it_is_told_and_begins_again(killed, monkeypatch):
    """Closing and forking wait for it, so it must not run to its end first."""
    monkeypatch.setattr(quick_check, "STEPS", 100)
    monkeypatch.setattr(quick_check, "PAUSE", 0.05)  # the whole look would take a minute
    check = quick_check.QuickCheck(killed, lambda *_: None)
    check.start()
    first = check._thread
    assert check.stop(10)
    assert not first.is_alive()
    check.resume()
    assert check._thread is not first
    assert check._thread.is_alive()
    assert check.stop(10)


async def test_a_fork_in_the_middle_of_a_quick_check_records_in_both(killed, db, rows):
    """The check's connection is closed before the process is copied; the parent's look goes on."""
    program = """
    from handspan.store import quick_check
    quick_check.STEPS, quick_check.PAUSE = 100, 0.05
    async def main():
        telemetry, listener = await record(5)
        check = telemetry._pipeline.writer._damage.check
        assert check._thread.is_alive()
        pid = os.fork()  # the loop is shared from here on: what follows does not wait on it
        await telemetry.execute(InvokeHandler(listener))
        assert telemetry.flush()
        assert pid == 0 or check._thread.is_alive()
        telemetry.close()
        if pid == 0:
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        say("done")
    asyncio.run(main())
    """
    ended = run_program(program, db)
    assert (ended.returncode, ended.stdout.strip()) == (0, "done"), ended.stderr
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": 2_007}]


# --- what went, and its count ------------------------------------------------------------------------------


def test_the_count_ends_in_time(killed):
    """A large file on a slow disk: what was counted by then is what is said, and that it may be more."""
    found = remains.read_remains(killed, killed, seconds=0.0)
    assert found.complete is False
    whole = remains.read_remains(killed, killed)
    assert (whole.complete, whole.count) == (True, 2_000)


async def test_an_episode_of_failing_becomes_an_incident(make, rows, db, until):
    """From when, until when, and what SQLite said last."""
    async with make(busy_timeout=0.05) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        assert await telemetry.aflush()
        with contextlib.closing(sqlite3.connect(db, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            await telemetry.execute(InvokeHandler(listener))
            await until(lambda: telemetry.health().failing_since is not None)
        assert await telemetry.aflush()
        (row,) = rows("SELECT kind, detail, ended_at > started_at AS lasted FROM v_incidents")
    assert (row["kind"], row["lasted"]) == ("database_unavailable", 1)
    assert "locked" in row["detail"]
    assert len(rows("SELECT * FROM incidents")) == 1


async def test_a_deleted_file_is_an_incident_too(make, rows, db):
    """What was in it nobody knows, so nothing is counted."""
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        for suffix in ("", "-wal", "-shm"):
            os.unlink(db + suffix)
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
    (row,) = rows("SELECT kind, count FROM v_incidents")
    assert row == {"kind": "database_replaced", "count": None}
    assert rows("SELECT * FROM losses") == []
