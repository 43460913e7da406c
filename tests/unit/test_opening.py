"""Every file that can lie at the path: its own clear error, its bytes untouched, the application alive."""

import logging
import os
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

import handspan
from handspan import InvokeHandler
from handspan.errors import (
    CorruptDatabaseError,
    DatabaseError,
    ForeignDatabaseError,
    NewerSchemaError,
    NotADatabaseError,
    UnwritableDatabaseError,
)
from handspan.store.connection import APPLICATION_ID
from handspan.store.damage import files_set_aside
from handspan.store.opening import open_for_writing

# --- what may lie there -----------------------------------------------------------------------------------


def sqlite_file(path, *statements):
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for statement in statements:
            conn.execute(statement)


def recorded_file(path):
    """A file of ours with a run in it, closed in an orderly way."""
    open_for_writing(str(path), busy_timeout=1).close()
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("INSERT INTO services (name) VALUES ('house')")
        conn.execute("CREATE TABLE filler (text)")
        conn.execute("INSERT INTO filler SELECT hex(randomblob(2000)) FROM sqlite_schema")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def no_directory(path, protect):
    return path.parent / "nowhere" / path.name


def a_directory(path, protect):
    path.mkdir()
    (path / "photo.jpg").write_bytes(b"\xff\xd8")


def a_short_text(path, protect):
    path.write_text("notes\n")


def a_long_text(path, protect):
    path.write_text("notes\n" * 10_000)


def a_foreign_file(path, protect):
    sqlite_file(
        path, f"PRAGMA application_id = {0x47504B47}", "CREATE TABLE theirs (a)", "INSERT INTO theirs VALUES (1)"
    )


def an_unbranded_foreign_file(path, protect):
    sqlite_file(path, "CREATE TABLE theirs (a)", "INSERT INTO theirs VALUES (1)")


def a_foreign_alembic_file(path, protect):
    sqlite_file(path, "CREATE TABLE alembic_version (version_num)", "INSERT INTO alembic_version VALUES ('0001')")


def a_foreign_file_without_tables(path, protect):
    sqlite_file(path, f"PRAGMA application_id = {0x47504B47}", "CREATE TABLE a (b)", "DROP TABLE a")


def a_foreign_file_in_wal_mode(path, protect):
    sqlite_file(path, "PRAGMA journal_mode = WAL", "CREATE TABLE theirs (a)")


def a_newer_file(path, protect):
    recorded_file(path)
    sqlite_file(path, "UPDATE alembic_version SET version_num = '9999'", "PRAGMA wal_checkpoint(TRUNCATE)")


def a_branded_file_of_nobody(path, protect):
    sqlite_file(path, f"PRAGMA application_id = {APPLICATION_ID}", "CREATE TABLE theirs (a)")


def a_truncated_file(path, protect):
    recorded_file(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 3)


def a_stump(path, protect):
    recorded_file(path)
    with path.open("r+b") as file:
        file.truncate(60)


def a_file_with_a_broken_schema(path, protect):
    recorded_file(path)
    raw = bytearray(path.read_bytes())
    raw[100:4096] = b"\xa5" * (4096 - 100)
    path.write_bytes(raw)


def a_damaged_foreign_file(path, protect):
    a_foreign_file(path, protect)
    raw = bytearray(path.read_bytes())
    raw[100:4096] = b"\xa5" * (4096 - 100)
    path.write_bytes(raw)


def a_file_with_a_broken_header(path, protect):
    recorded_file(path)
    raw = bytearray(path.read_bytes())
    raw[:16] = b"\0" * 16
    path.write_bytes(raw)


def a_read_only_file(path, protect):
    recorded_file(path)
    protect(path)


def a_new_file_in_a_read_only_directory(path, protect):
    protect(path.parent)


def a_file_in_a_read_only_directory(path, protect):
    recorded_file(path)
    protect(path.parent)


def a_file_on_read_only_media(path, protect):
    recorded_file(path)
    protect(path.parent, media=True)


PERMANENT = [
    pytest.param(a_directory, NotADatabaseError, "is a directory", id="directory"),
    pytest.param(a_short_text, NotADatabaseError, "not an SQLite database", id="short-text"),
    pytest.param(a_long_text, NotADatabaseError, "not an SQLite database", id="long-text"),
    pytest.param(a_foreign_file, ForeignDatabaseError, "another program", id="foreign"),
    pytest.param(an_unbranded_foreign_file, ForeignDatabaseError, "another program", id="foreign-unbranded"),
    pytest.param(a_foreign_alembic_file, ForeignDatabaseError, "another program", id="foreign-with-alembic"),
    pytest.param(a_foreign_file_without_tables, ForeignDatabaseError, "another program", id="foreign-without-tables"),
    pytest.param(a_foreign_file_in_wal_mode, ForeignDatabaseError, "another program", id="foreign-in-wal-mode"),
]
PASSING = [
    pytest.param(no_directory, UnwritableDatabaseError, "does not exist", id="no-directory"),
    pytest.param(a_newer_file, NewerSchemaError, "'9999'", id="newer-schema"),
    pytest.param(a_branded_file_of_nobody, DatabaseError, "no such table", id="ours-without-a-revision"),
    pytest.param(a_stump, CorruptDatabaseError, "damaged", id="stump-of-sixty-bytes"),
    pytest.param(a_damaged_foreign_file, CorruptDatabaseError, "damaged", id="damaged-foreign"),
    pytest.param(a_read_only_file, UnwritableDatabaseError, "cannot be written", id="read-only-file"),
    pytest.param(a_new_file_in_a_read_only_directory, UnwritableDatabaseError, "cannot be written",
                 id="new-in-a-read-only-directory"),
    pytest.param(a_file_in_a_read_only_directory, UnwritableDatabaseError, "cannot be written",
                 id="in-a-read-only-directory"),
    pytest.param(a_file_on_read_only_media, UnwritableDatabaseError, "cannot be written", id="on-read-only-media"),
]  # fmt: skip


DAMAGED = [
    pytest.param(a_file_with_a_broken_header, NotADatabaseError, "not an SQLite database", id="broken-header"),
    pytest.param(a_truncated_file, CorruptDatabaseError, "damaged", id="truncated"),
    pytest.param(a_file_with_a_broken_schema, CorruptDatabaseError, "damaged", id="broken-schema"),
]


@pytest.fixture
def place(tmp_path):
    """A directory of its own, which a test may make read-only."""
    found = tmp_path / "place"
    found.mkdir()
    return found


@pytest.fixture
def protect():
    """Makes a file, a directory or a whole medium read-only, also for root; and undoes it."""
    undo = []

    def apply(path, *, media=False):
        if media:
            contents = {entry.name: entry.read_bytes() for entry in path.iterdir()}
            mounted = os.geteuid() == 0 and run("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path)
            if not mounted:
                pytest.skip("a read-only medium takes a mount, and this process may not mount")
            undo.append(lambda: run("umount", path))
            for name, content in contents.items():
                (path / name).write_bytes(content)
            if not run("mount", "-o", "remount,ro", path):
                pytest.skip("a read-only medium takes a remount, and this process may not")
        elif os.geteuid() != 0:
            mode = path.stat().st_mode
            undo.append(lambda: path.chmod(mode))
            path.chmod(mode & ~0o222)
        elif shutil.which("chattr") and run("chattr", "+i", path):
            undo.append(lambda: run("chattr", "-i", path))
        else:
            pytest.skip("root ignores permissions, and there is no `chattr +i` here: run these tests as a user")

    yield apply
    for step in reversed(undo):
        step()


def run(*command):
    return subprocess.run([*map(str, command)], capture_output=True, check=False).returncode == 0


def contents(directory):
    """What lies there; without the ``-shm`` and the empty ``-wal`` that SQLite's read-only mode may leave."""
    found = {
        str(path.relative_to(directory)): path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file()
    }
    kept = {name: raw for name, raw in found.items() if not name.endswith("-shm") and (raw or name.endswith(".db"))}
    return {name: raw for name, raw in kept.items() if ".handspan/" not in name}  # ours: the journal of what waits


@pytest.fixture
def lay(place, protect):
    """Puts a case in place: the path to open, and what was there before."""

    def put(case):
        path = place / "home.db"
        path = case(path, protect) or path
        return path, contents(place)

    return put


# --- the store ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("case", "error", "text"), PERMANENT + PASSING + DAMAGED)
def test_what_cannot_be_opened_says_why_and_is_left_alone(lay, place, case, error, text):
    """The error that fits, a hint for a person, the path in it, and not a byte changed or added."""
    path, before = lay(case)
    with pytest.raises(DatabaseError) as caught:
        open_for_writing(str(path), busy_timeout=0.1)
    assert type(caught.value) is error
    assert text in str(caught.value)
    assert str(path) in str(caught.value)
    assert str(caught.value).endswith(caught.value.hint)
    assert bool(caught.value.hint) is (error is not DatabaseError)
    assert contents(place) == before


def nothing(path, protect):
    """There is no file."""


def an_empty_file(path, protect):
    path.touch()


def an_sqlite_file_without_anything(path, protect):
    sqlite_file(path, "CREATE TABLE a (b)", "DROP TABLE a")


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(nothing, id="nothing"),
        pytest.param(an_empty_file, id="empty-file"),
        pytest.param(an_sqlite_file_without_anything, id="sqlite-file-without-anything"),
    ],
)
def test_what_is_empty_becomes_a_database(lay, case):
    """A file somebody touched, or none at all: both are made into ours."""
    path, _ = lay(case)
    with closing(open_for_writing(str(path), busy_timeout=1)) as conn:
        assert conn.execute("SELECT count(*) FROM v_executions").fetchone() == (0,)
        assert conn.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)


@pytest.mark.parametrize("name", ["with space.db", "häuschen.db", "100%25?mode=ro#x.db", "-x.db", "a'b\"c.db"])
def test_any_file_name_is_a_file_name(place, name, rows):
    """What a URI or a shell would read something into is just a name."""
    path = str(place / name)
    open_for_writing(path, busy_timeout=1).close()
    assert [entry.name for entry in place.iterdir()] == [name]


def test_a_link_is_followed(place):
    """The file is where the link says; the locks are of the file."""
    real, link = place / "real.db", place / "link.db"
    link.symlink_to(real)
    open_for_writing(str(link), busy_timeout=1).close()
    assert real.stat().st_size > 0
    assert link.is_symlink()


# --- Telemetry ---------------------------------------------------------------------------------------------


def telemetry_on(path):
    return handspan.Telemetry(
        str(path), service_name="test", set_global_providers=False, handle_sigterm=False, open_timeout=0.3,
        shutdown_timeout=0.3,
    )  # fmt: skip


def complaints(caplog):
    return [each for each in caplog.records if each.name.startswith("handspan") and each.levelno >= logging.WARNING]


async def on_light(event):
    return event


@pytest.mark.parametrize(("case", "error", "text"), PERMANENT)
def test_a_path_that_can_never_be_right_stops_the_program(lay, place, case, error, text):
    """``with Telemetry(path)``: only its author can cure this, so he hears of it at once."""
    path, before = lay(case)
    with pytest.raises(error, match=text), telemetry_on(path):
        pytest.fail("opened")
    assert contents(place) == before


@pytest.mark.parametrize(("case", "error", "text"), PERMANENT)
async def test_and_likewise_on_a_loop(lay, place, case, error, text):
    """``async with``: the same error, and nothing left running."""
    path, before = lay(case)
    with pytest.raises(error, match=text):
        async with telemetry_on(path):
            pytest.fail("opened")
    assert contents(place) == before


@pytest.mark.parametrize(("case", "error", "text"), PASSING)
async def test_everything_else_costs_telemetry_and_never_service(lay, place, caplog, case, error, text):
    """The application goes on, one log line says why nothing is recorded, the file stays as it was."""
    path, before = lay(case)
    async with telemetry_on(path) as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key="app")
        for number in range(3):
            result = await telemetry.execute(InvokeHandler(listener, number))
            assert (result.status, result.value) == ("success", number)
        assert await telemetry.aflush(0.3) is False
        health = telemetry.health()
        (line,) = complaints(caplog)
        assert text in line.getMessage()
        assert text in health.last_error
        assert (health.queue_size, health.committed) == (3, 0)
    assert contents(place) == before


@pytest.mark.parametrize(("case", "error", "text"), DAMAGED)
async def test_a_damaged_file_of_ours_costs_its_runs_and_no_more(lay, place, rows, case, error, text):
    """It lies beside under a dated name, byte for byte; what runs is recorded at once."""
    path, before = lay(case)
    async with telemetry_on(path) as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key="app")
        assert (await telemetry.execute(InvokeHandler(listener, 1))).ok
        assert await telemetry.aflush(30) is True
    (aside,) = files_set_aside(str(path))
    assert Path(aside).read_bytes() == before[path.name]
    assert rows("SELECT count(*) AS n FROM handler_invocations", path=str(path)) == [{"n": 1}]


async def test_recording_resumes_by_itself_once_the_path_is_right(place, rows, caplog):
    """The directory appears (a disk was mounted late): what waited is stored, and one more line says so."""
    path = place / "late" / "home.db"
    async with telemetry_on(path) as telemetry:
        listener = telemetry.register_listener(on_light, topic="t", app_key="app")
        await telemetry.execute(InvokeHandler(listener))
        path.parent.mkdir()
        assert await telemetry.aflush(30) is True
        assert telemetry.health().failing_since is None
    assert rows("SELECT count(*) AS n FROM handler_invocations", path=str(path)) == [{"n": 1}]
    assert [line.getMessage().split(" ")[1] for line in complaints(caplog)] == ["waits,", "goes"]


def test_a_telemetry_is_opened_once(place):
    """A closed one is not opened again: its session has ended."""
    telemetry = telemetry_on(place / "home.db")
    with telemetry:
        pass
    with pytest.raises(RuntimeError, match="opened once"):
        telemetry.open()


def test_paths_may_be_objects(place):
    """What ``open()`` takes, ``Telemetry`` takes."""
    path = Path(place / "home.db")
    with handspan.Telemetry(path, set_global_providers=False, handle_sigterm=False):
        pass
    assert path.exists()
