"""DatabaseService: what it opens, what it refuses, what it leaves behind."""

import asyncio
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

import pytest

import seeded
from handspan import errors
from handspan.store import reading, schema
from handspan.store.service import READERS, DatabaseService

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


@pytest.fixture
def house(tmp_path: Path) -> str:
    return seeded.build(tmp_path / "house.db")


def files_of(path: str) -> dict[str, tuple[int, int]]:
    """Names, sizes and times of everything beside the file."""
    return {f.name: (f.stat().st_size, f.stat().st_mtime_ns) for f in Path(path).parent.iterdir()}


async def runs_in(db: DatabaseService) -> int:
    return int((await db.fetch_one("SELECT count(*) FROM handler_invocations"))[0])


class Opening:
    """A writer's one attribute the service knows."""

    def __init__(self) -> None:
        self.opened: Future[None] = Future()


# --- reading ----------------------------------------------------------------------------------------------


async def test_rows_by_name(house: str) -> None:
    """Rows come whole and can be asked by name."""
    async with DatabaseService(house) as db:
        rows = await db.fetch_all("SELECT id, name FROM services WHERE id <= :most ORDER BY id", {"most": 2})
    assert [(row["id"], row["name"]) for row in rows] == [(1, "house"), (2, "garage")]


@pytest.mark.parametrize(
    "sql",
    ["DELETE FROM losses", "CREATE TABLE mine (x)", "PRAGMA user_version = 3", "PRAGMA journal_mode = DELETE"],
    ids=["delete", "create", "pragma", "journal mode"],
)
async def test_readers_cannot_write(house: str, sql: str) -> None:
    """Whatever is asked, the file and all beside it stay byte for byte as they were."""
    before, content = files_of(house), Path(house).read_bytes()
    async with DatabaseService(house) as db:
        try:
            await db.fetch_all(sql)
        except errors.DatabaseError:
            pass
    assert (files_of(house), Path(house).read_bytes()) == (before, content)


async def test_reading_leaves_no_trace(house: str) -> None:
    """SQLite's read-only mode would leave a -wal and a -shm beside a file nobody has open."""
    before = files_of(house)
    async with DatabaseService(house) as db:
        assert await runs_in(db) == 300
        assert files_of(house) == before
    assert files_of(house) == before


async def test_sees_what_is_committed_meanwhile(house: str) -> None:
    """A writer that comes after the reader is noticed, and so is one that has come and gone."""
    async with DatabaseService(house) as db:
        assert await runs_in(db) == 300
        with closing(sqlite3.connect(house, isolation_level=None)) as writer:
            writer.execute("DELETE FROM handler_invocations WHERE id <= 100")
            assert await runs_in(db) == 200
            writer.execute("DELETE FROM handler_invocations WHERE id <= 150")
            assert await runs_in(db) == 150
        with closing(sqlite3.connect(house, isolation_level=None)) as writer:
            writer.execute("DELETE FROM handler_invocations WHERE id <= 200")
        assert await runs_in(db) == 100


async def test_writer_in_the_middle_of_an_unlocked_query(house: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result read without locks while somebody wrote is thrown away, and read again with them."""
    looks = iter([reading.fingerprint(house), reading.fingerprint(house), reading.Fingerprint(True, 0, 0, 0)])
    monkeypatch.setattr("handspan.store.reading.fingerprint", lambda path: next(looks))
    monkeypatch.setattr("handspan.store.service.fingerprint", lambda path: next(looks))
    next(looks)
    async with DatabaseService(house) as db:
        assert await runs_in(db) == 300
        (reader,) = db._readers
        assert reader._conn is not None
        assert reader._conn.unlocked is None


async def test_queries_at_once(house: str) -> None:
    """More queries than connections all get their answer, and no more connections are opened."""
    async with DatabaseService(house) as db:
        assert await asyncio.gather(*(runs_in(db) for _ in range(5 * READERS))) == [300] * (5 * READERS)
        assert len(db._readers) <= READERS


async def test_errors_of_sql_are_ours(house: str) -> None:
    """A statement SQLite refuses is a DatabaseError that names the file, and the connection lives on."""
    async with DatabaseService(house) as db:
        with pytest.raises(errors.DatabaseError, match=r"house\.db: no such table: nowhere"):
            await db.fetch_all("SELECT * FROM nowhere")
        assert await runs_in(db) == 300


async def test_opened_on_first_use(house: str) -> None:
    """Opening the service opens no connection, closing it closes all, twice is once, and then it is over."""
    before = set(threading.enumerate())
    db = DatabaseService(house)
    await db.open()
    assert db._readers == []
    await runs_in(db)
    threads = set(threading.enumerate()) - before
    assert len(threads) == 1
    assert all(thread.daemon for thread in threads)
    await db.close()
    await db.close()
    with pytest.raises(errors.DatabaseError, match="was closed"):
        await runs_in(db)


# --- deadlines --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deadline", [0.0, 0.02], ids=["before it starts", "while it runs"])
async def test_deadline(house: str, deadline: float) -> None:
    """A query past its deadline is stopped, says so, and does not harm the next one."""
    async with DatabaseService(house) as db:
        with pytest.raises(errors.QueryTimeoutError, match=f"longer than {deadline:g} s"):
            await db.fetch_all(ENDLESS, deadline=deadline)
        assert await runs_in(db) == 300


async def test_deadline_includes_the_wait_for_a_connection(house: str) -> None:
    """A query that gets no connection in time fails like a slow one."""
    async with DatabaseService(house) as db:
        hogs = [asyncio.create_task(db.fetch_all(ENDLESS, deadline=None)) for _ in range(READERS)]
        while len(db._readers) < READERS:
            await asyncio.sleep(0)
        with pytest.raises(errors.QueryTimeoutError):
            await db.fetch_all("SELECT 1", deadline=0.01)
        for hog in hogs:
            hog.cancel()
        assert all(isinstance(e, asyncio.CancelledError) for e in await asyncio.gather(*hogs, return_exceptions=True))
        assert await runs_in(db) == 300


async def test_cancelled_while_opening(house: str) -> None:
    """A query given up before its connection stands leaves no connection behind, and the next one gets its own."""
    async with DatabaseService(house) as db:
        task = asyncio.create_task(runs_in(db))
        while not db._readers:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await runs_in(db) == 300


async def test_closed_while_opening(house: str) -> None:
    """A connection that arrives after close() is closed, and its query told."""
    db = DatabaseService(house)
    task = asyncio.create_task(runs_in(db))
    while not db._readers:
        await asyncio.sleep(0)
    (reader,) = db._readers
    await db.close()
    with pytest.raises(errors.DatabaseError, match="was closed"):
        await task
    assert reader._conn is None


def test_failing_to_open_leaves_nothing_to_say(tmp_path: Path) -> None:
    """aiosqlite's thread would now and then find its loop closed, and print a traceback."""
    program = f"""
        import asyncio, sys
        from handspan.errors import MissingDatabaseError
        from handspan.store.service import DatabaseService

        async def main():
            async with DatabaseService({str(tmp_path / "none.db")!r}) as db:
                await db.fetch_all("SELECT 1")

        for _ in range(200):
            try:
                asyncio.run(main())
            except MissingDatabaseError:
                pass
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")


async def test_close_ends_what_runs(house: str) -> None:
    """Closing does not wait for an endless query: it stops it, with an error that says why."""
    db = DatabaseService(house)
    task = asyncio.create_task(db.fetch_all(ENDLESS, deadline=None))
    while not db._readers or db._readers[0]._conn is None or db._readers[0]._conn.query is None:
        await asyncio.sleep(0)
    await db.close()
    with pytest.raises(errors.DatabaseError, match="was closed while this query ran"):
        await task


# --- the writer -------------------------------------------------------------------------------------------


async def test_waits_for_the_writer(house: str) -> None:
    """open() returns when the writer has opened the file."""
    writer = Opening()
    opening = asyncio.create_task(DatabaseService(house, writer=writer).open())
    await asyncio.sleep(0)
    assert not opening.done()
    writer.opened.set_result(None)
    await opening


async def test_raises_what_the_writer_raised(house: str) -> None:
    """open() raises what made the writer give up."""
    writer = Opening()
    writer.opened.set_exception(errors.ForeignDatabaseError("it is somebody else's"))
    with pytest.raises(errors.ForeignDatabaseError):
        await DatabaseService(house, writer=writer).open()


async def test_cancelled_open_leaves_the_writer_alone(house: str) -> None:
    """Whoever stops waiting for the file does not stop its being opened."""
    writer = Opening()
    opening = asyncio.create_task(DatabaseService(house, writer=writer).open())
    await asyncio.sleep(0)
    opening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await opening
    assert not writer.opened.cancelled()
    writer.opened.set_result(None)


# --- files that are not what they should be ----------------------------------------------------------------


def text_file(path: Path) -> None:
    path.write_text("a shopping list, long enough to be taken for a header page\n" * 20)


def foreign_file(path: Path) -> None:
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE photos (id)")


def stamped(revision: str) -> "Stamp":
    return Stamp(revision)


class Stamp:
    """A file of another schema revision."""

    def __init__(self, revision: str) -> None:
        self._revision = revision

    def __call__(self, path: Path) -> None:
        seeded.build(path)
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute("UPDATE alembic_version SET version_num = ?", (self._revision,))


def damaged_file(path: Path) -> None:
    seeded.build(path)
    content = bytearray(path.read_bytes())
    content[100:4096] = b"\xff" * 3996
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        pytest.param(lambda path: None, errors.MissingDatabaseError, "There is no file at", id="missing"),
        pytest.param(Path.touch, errors.MissingDatabaseError, "is empty", id="empty"),
        pytest.param(text_file, errors.NotADatabaseError, "is not an SQLite database", id="text"),
        pytest.param(Path.mkdir, errors.NotADatabaseError, "is a directory", id="directory"),
        pytest.param(os.mkfifo, errors.NotADatabaseError, "is not a file", id="named pipe"),
        pytest.param(foreign_file, errors.ForeignDatabaseError, "of another program", id="foreign"),
        pytest.param(stamped("9999"), errors.NewerSchemaError, "has schema '9999'", id="newer"),
        pytest.param(damaged_file, errors.CorruptDatabaseError, "is damaged", id="damaged"),
    ],
)
async def test_clear_errors(tmp_path: Path, make: object, error: type[Exception], says: str) -> None:
    """Each wrong file gets its own error with a cure, and is left as it was."""
    path = tmp_path / "some.db"
    make(path)  # type: ignore[operator]
    before = files_of(str(path))
    async with DatabaseService(str(path)) as db:
        with pytest.raises(error, match=says) as raised:
            await db.fetch_all("SELECT 1")
    assert isinstance(raised.value, errors.DatabaseError)
    assert raised.value.hint
    assert files_of(str(path)) == before


async def test_older_schema(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older file names the command that upgrades it."""
    path = seeded.build(tmp_path / "old.db")
    known = [*schema.known_revisions(schema.migrations_dir()), "0999"]
    monkeypatch.setattr(schema, "known_revisions", lambda directory: known)
    async with DatabaseService(path) as db:
        with pytest.raises(errors.DatabaseError, match="handspan db upgrade"):
            await db.fetch_all("SELECT 1")
    async with DatabaseService(path, any_schema=True) as db:
        assert await runs_in(db) == 300


@pytest.mark.parametrize("code", [sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM], ids=["cannot open", "no permission"])
async def test_unreadable(house: str, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """A file this user may not read says that, and not that it cannot be written."""

    connect = sqlite3.connect

    def refuse(database: str, **options: object) -> sqlite3.Connection:
        if database == ":memory:":
            return connect(database, **options)  # type: ignore[call-overload, no-any-return]
        error = sqlite3.OperationalError("unable to open database file")
        error.sqlite_errorcode = code
        raise error

    monkeypatch.setattr("handspan.store.reading.sqlite3.connect", refuse)
    async with DatabaseService(house) as db:
        with pytest.raises(errors.DatabaseError, match=r"cannot be read.*Check that this user may read"):
            await db.fetch_all("SELECT 1")


async def test_read_only_media_with_a_log(
    house: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where SQLite cannot make what reading the log takes, the file is read without it, and that is said."""
    Path(f"{house}-wal").write_bytes(b"x" * 40)
    monkeypatch.setattr("handspan.store.reading.os.access", lambda path, mode: False)
    connect = sqlite3.connect

    def refuse_locks(database: str, **options: object) -> sqlite3.Connection:
        if "immutable" not in database:
            error = sqlite3.OperationalError("unable to open database file")
            error.sqlite_errorcode = sqlite3.SQLITE_CANTOPEN
            raise error
        return connect(database, **options)  # type: ignore[call-overload, no-any-return]

    monkeypatch.setattr("handspan.store.reading.sqlite3.connect", refuse_locks)
    async with DatabaseService(house) as db:
        assert await runs_in(db) == 300
    assert "read-only media" in caplog.text


# --- the interpreter's end ----------------------------------------------------------------------------------


def test_forgotten_service_lets_the_interpreter_exit(house: str) -> None:
    """aiosqlite's threads would keep the process for ever."""
    program = f"""
        import asyncio
        from handspan.store.service import DatabaseService

        async def main():
            global db
            db = DatabaseService({house!r})
            await db.fetch_all("SELECT 1")

        asyncio.run(main())
        print("done", flush=True)
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout) == (0, "done\n")
