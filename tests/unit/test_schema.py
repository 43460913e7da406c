"""The schema: one page equal to the chain, upgrades all or nothing, and never under somebody's feet."""

import re
import shutil
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from handspan import InvokeHandler
from handspan.errors import DatabaseBusyError, MigrationError, NewerSchemaError
from handspan.store import schema
from handspan.store.connection import APPLICATION_ID, prepare_writer
from handspan.store.liveness import SessionLock, sidecar_dir
from handspan.store.opening import open_for_writing

CHECKOUT = Path(__file__).resolve().parents[2]
MIGRATIONS = CHECKOUT / "migrations"
HEAD = schema.head_revision(MIGRATIONS)


def connect(path):
    conn = sqlite3.connect(path, isolation_level=None)
    prepare_writer(conn)
    return closing(conn)


def objects(conn):
    """Every table, index and view as SQLite keeps it, without comments and spacing."""
    rows = conn.execute("SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_%'")
    return {(kind, name): normal(sql) for kind, name, sql in rows}


def normal(sql):
    without_comments = re.sub(r"--[^\n]*", "", sql or "")
    return re.sub(r"\s*([(),])\s*", r"\1", " ".join(without_comments.split()))


def dump(path):
    """Everything the file says, as text; its revision included."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        (application_id,) = conn.execute("PRAGMA application_id").fetchone()
        return "\n".join([*conn.iterdump(), str(application_id)])


def revision_of(path):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        return schema.revision(conn)


@pytest.fixture
async def recorded(make, db):
    """A file of this version with a run of everything in it, its session ended."""

    async def on_light(event):
        if event == "fail":
            raise ValueError("bulb")

    async with make() as telemetry:
        listener = telemetry.register_listener(on_light, topic="light", app_key="kitchen")
        telemetry.register_job(on_light, job_name="tidy", app_key="kitchen", args=("x",))
        for event in ("on", "fail"):
            await telemetry.execute(InvokeHandler(listener, event))
    return db


@pytest.fixture
def migrations(tmp_path):
    """A copy of migrations/ that a test may add revisions to."""
    copy = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def add_revision(migrations, *statements, revision="9001", down=HEAD, code=""):
    """One more migration on top, as a developer would add it."""
    lines = "\n".join(f"    op.execute({statement!r})" for statement in statements) or "    pass"
    (migrations / "versions" / f"{revision}_extra.py").write_text(
        textwrap.dedent(
            f'''
            """An extra revision."""

            from alembic import op

            revision: str = "{revision}"
            down_revision: str | None = "{down}"


            def upgrade() -> None:
            '''
        )
        + lines
        + f"\n{textwrap.indent(code, '    ')}\n"
    )


REBUILD_LISTENERS = (
    "CREATE TABLE listeners_old AS SELECT * FROM listeners",
    "DROP TABLE listeners",
    """CREATE TABLE listeners (
        id INTEGER PRIMARY KEY, service_id INTEGER NOT NULL REFERENCES services (id), app_key TEXT NOT NULL,
        instance_index INTEGER NOT NULL, name TEXT NOT NULL, topic TEXT NOT NULL, handler_method TEXT NOT NULL,
        debounce REAL, throttle REAL, once INTEGER NOT NULL DEFAULT 0, priority INTEGER NOT NULL DEFAULT 0,
        predicate_description TEXT, source_location TEXT, registration_source TEXT, code_function TEXT, code_file TEXT,
        code_line INTEGER, first_registered_at REAL NOT NULL, last_registered_at REAL NOT NULL, retired_at REAL,
        room TEXT, UNIQUE (service_id, app_key, instance_index, name, topic))""",
    "INSERT INTO listeners SELECT *, 'kitchen' FROM listeners_old",
    "DROP TABLE listeners_old",
)

# --- one page, one chain -------------------------------------------------------------------------------


def test_the_page_and_the_chain_build_the_same_schema(tmp_path):
    """What a new file gets and what an old one is brought to do not differ in a letter that matters."""
    with connect(tmp_path / "page.db") as page, connect(tmp_path / "chain.db") as chain:
        schema.create(page, MIGRATIONS)
        schema.run_chain(chain, MIGRATIONS)
        assert objects(chain) == objects(page)
        assert schema.revision(chain) == schema.revision(page) == HEAD


def test_a_new_file_is_ours_and_stamped(tmp_path):
    """Application id, revision, WAL, incremental vacuum: what the header says from the first page on."""
    path = str(tmp_path / "new.db")
    with closing(open_for_writing(path, busy_timeout=1)) as conn:
        found = {
            name: conn.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("application_id", "journal_mode", "auto_vacuum", "foreign_keys", "synchronous")
        }
        assert schema.revision(conn) == HEAD
    assert found == {
        "application_id": APPLICATION_ID, "journal_mode": "wal", "auto_vacuum": 2, "foreign_keys": 1, "synchronous": 1,
    }  # fmt: skip


def test_the_checkout_s_migrations_are_found():
    """An editable install has no packaged copy."""
    assert schema.migrations_dir() == MIGRATIONS
    assert (schema.migrations_dir() / "schema.sql").is_file()


@pytest.mark.parametrize("file", sorted(MIGRATIONS.glob("versions/*.py")), ids=lambda file: file.name)
def test_a_migration_s_file_name_begins_with_its_revision(file):
    """The head is read off file names, without importing Alembic."""
    text = file.read_text()
    (revision,) = re.findall(r'^revision: str = "(\w+)"$', text, re.MULTILINE)
    assert file.name.startswith(f"{revision}_")
    assert revision.isdigit()
    assert "op.execute" in text
    assert not re.search(r"\b(BEGIN|COMMIT|ROLLBACK|SAVEPOINT|PRAGMA|VACUUM|VIEW)\b", text), "the transaction is ours"


def test_revisions_are_one_line_without_branches():
    """Each builds on the one before it in the order of their file names."""
    texts = [file.read_text() for file in sorted(MIGRATIONS.glob("versions/*.py"))]
    downs = [re.findall(r"^down_revision: .* = (.*)$", text, re.MULTILINE)[0].strip('"') for text in texts]
    assert downs == ["None", *schema.known_revisions(MIGRATIONS)[:-1]]


# --- upgrades --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "statements",
    [
        pytest.param(("ALTER TABLE listeners ADD COLUMN room TEXT DEFAULT 'kitchen'",), id="adds-a-column"),
        pytest.param(REBUILD_LISTENERS, id="rebuilds-a-parent-table"),
    ],
)
async def test_an_upgrade_keeps_everything(recorded, migrations, statements):
    """Rows stay, children keep their parents, views are made again, a good copy lies beside, the stamp is new."""
    add_revision(migrations, *statements)
    before = dump(recorded)
    with connect(recorded) as conn:
        views = {key: sql for key, sql in objects(conn).items() if key[0] == "view"}
        runs = conn.execute("SELECT * FROM v_executions ORDER BY id").fetchall()
        assert schema.upgrade(conn, recorded, migrations) is True
        assert schema.revision(conn) == "9001"
        assert conn.execute("SELECT room FROM listeners").fetchall() == [("kitchen",)]
        assert {key: sql for key, sql in objects(conn).items() if key[0] == "view"} == views
        assert conn.execute("SELECT * FROM v_executions ORDER BY id").fetchall() == runs
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        assert conn.execute("PRAGMA foreign_keys").fetchone() == (1,)
        assert not conn.in_transaction
        with pytest.raises(sqlite3.IntegrityError, match="FOREIGN KEY"):
            conn.execute("DELETE FROM listeners")
    assert dump(f"{recorded}.backup") == before
    with closing(sqlite3.connect(f"{recorded}.backup")) as copy:
        assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert copy.execute("PRAGMA journal_mode").fetchone() == ("delete",)


async def test_an_upgrade_runs_several_revisions_in_order(recorded, migrations):
    """A file two versions behind catches up in one go."""
    add_revision(migrations, "CREATE TABLE first (a)", revision="9001")
    add_revision(migrations, "INSERT INTO first VALUES ('from the second')", revision="9002", down="9001")
    with connect(recorded) as conn:
        schema.upgrade(conn, recorded, migrations)
        assert conn.execute("SELECT a FROM first").fetchall() == [("from the second",)]
        assert schema.revision(conn) == "9002"


async def test_a_file_of_this_version_is_left_alone(recorded, migrations):
    """Nothing to do: no copy, no transaction."""
    before = dump(recorded)
    with connect(recorded) as conn:
        assert schema.upgrade(conn, recorded, migrations) is False
    assert dump(recorded) == before
    assert not Path(f"{recorded}.backup").exists()


@pytest.mark.parametrize(
    ("statements", "why"),
    [
        pytest.param(("CREATE TABLE half (a)", "INSERT INTO nowhere VALUES (1)"), "no such table", id="second-fails"),
        pytest.param((*REBUILD_LISTENERS, "SELECT nonsense("), "incomplete input|syntax", id="after-a-rebuild"),
        pytest.param(("DELETE FROM listeners",), "lose their parent", id="orphans-left"),
        pytest.param(("DROP TABLE handler_invocations",), "no such table|no such column", id="a-view-s-table-is-gone"),
    ],
)
async def test_an_upgrade_that_fails_leaves_nothing_behind(recorded, migrations, statements, why):
    """Not a table, not a row, not a stamp: the file says to the letter what it said before."""
    add_revision(migrations, *statements)
    before = dump(recorded)
    with connect(recorded) as conn:
        with pytest.raises(MigrationError, match=why) as caught:
            schema.upgrade(conn, recorded, migrations)
        assert not conn.in_transaction
        assert conn.execute("PRAGMA foreign_keys").fetchone() == (1,)
        assert schema.revision(conn) == HEAD
        conn.execute("SELECT * FROM v_executions").fetchall()
    assert "backup" in caught.value.hint
    assert dump(recorded) == before
    assert dump(f"{recorded}.backup") == before


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("raise SystemExit(3)", id="exits"),
        pytest.param("raise KeyboardInterrupt", id="interrupted"),
        pytest.param(
            'op.get_bind().connection.commit()\nraise RuntimeError("after a commit of its own")', id="commits"
        ),
    ],
)
async def test_no_way_of_failing_leaves_half_a_migration(recorded, migrations, code):
    """Interrupted by hand, or a migration that commits by itself: still all or nothing."""
    add_revision(migrations, "CREATE TABLE half (a)", code=code)
    before = dump(recorded)
    with connect(recorded) as conn, pytest.raises(BaseException):
        schema.upgrade(conn, recorded, migrations)
    assert dump(recorded) == before


async def test_an_upgrade_waits_for_other_sessions(recorded, migrations, make):
    """While another process records, its tables do not change under it; once it has stopped, they do."""
    add_revision(migrations, "CREATE TABLE extra (a)")
    with connect(recorded) as conn:
        service_id = conn.execute("SELECT id FROM services").fetchone()[0]
        conn.execute(
            "INSERT INTO sessions (service_id, instance_id, started_at, last_heartbeat_at) VALUES (?, 'other', 1, 1)",
            [service_id],
        )
        before = dump(recorded)
        lock = SessionLock(recorded, "other")
        lock.acquire()
        with pytest.raises(DatabaseBusyError, match="another process is recording") as caught:
            schema.upgrade(conn, recorded, migrations)
        assert "once that process has stopped" in caught.value.hint
        assert dump(recorded) == before
        assert not Path(f"{recorded}.backup").exists()
        lock.release()
        assert schema.upgrade(conn, recorded, migrations) is True


async def test_a_session_that_crashed_does_not_hold_an_upgrade_up(recorded, migrations):
    """An open session without a lock is a process that is gone."""
    add_revision(migrations, "CREATE TABLE extra (a)")
    with connect(recorded) as conn:
        conn.execute("UPDATE sessions SET stopped_at = NULL, stop_reason = NULL")
        assert schema.upgrade(conn, recorded, migrations) is True
    assert not sidecar_dir(recorded).exists()


@pytest.mark.parametrize("stored", ["9999", "nonsense", None], ids=["newer", "unknown", "unstamped"])
async def test_a_newer_file_is_refused_untouched(recorded, stored):
    """Written by a later version, or by nobody we know: nothing is changed, not even the journal mode."""
    with closing(sqlite3.connect(recorded, isolation_level=None)) as conn:
        conn.execute("PRAGMA journal_mode = DELETE")
        conn.execute("UPDATE alembic_version SET version_num = ?" if stored else "DELETE FROM alembic_version",
                     [stored] if stored else [])  # fmt: skip
    before = Path(recorded).read_bytes()
    with pytest.raises(NewerSchemaError, match="Nothing was changed"):
        open_for_writing(recorded, busy_timeout=1)
    assert Path(recorded).read_bytes() == before
    assert {path.name for path in Path(recorded).parent.iterdir() if path.name.startswith("test.db")} == {"test.db"}


async def test_a_copy_that_fails_does_not_replace_a_good_one(recorded, migrations):
    """The upgrade is not even tried when its copy cannot be made, and the older copy stays."""
    add_revision(migrations, "CREATE TABLE extra (a)")
    good = Path(f"{recorded}.backup")
    good.write_bytes(b"an older copy")
    partial = Path(f"{recorded}.backup.partial")
    partial.mkdir()
    before = dump(recorded)
    with connect(recorded) as conn, pytest.raises(Exception):
        schema.upgrade(conn, recorded, migrations)
    assert good.read_bytes() == b"an older copy"
    assert dump(recorded) == before


# --- the revisions there are ------------------------------------------------------------------------------

OLD_FILE = Path(__file__).parents[1] / "data" / "recorded_0001.sql"
OLD_RUNS = "SELECT kind, name, status, started_at, trace_id FROM v_executions ORDER BY kind, id"


@pytest.fixture
def old(db):
    """A file as handspan at schema 0001 left it."""
    with closing(sqlite3.connect(db, isolation_level=None)) as conn:
        conn.executescript(OLD_FILE.read_text())
        conn.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        conn.execute("PRAGMA journal_mode = WAL").fetchone()
        assert schema.revision(conn) == "0001"
    return db


async def test_opening_an_old_file_upgrades_it_in_place(old, make, rows):
    """Its rows and losses stay, a copy of before lies beside, and recording goes on in it at once."""
    runs, before = rows(OLD_RUNS), dump(old)

    async def on_light(event): ...

    async with make() as telemetry:
        listener = telemetry.register_listener(on_light, topic="new", app_key="kitchen")
        await telemetry.execute(InvokeHandler(listener))
    assert revision_of(old) == HEAD
    assert [row for row in rows(OLD_RUNS) if row in runs] == runs
    assert len(rows(OLD_RUNS)) == len(runs) + 1
    assert rows("SELECT reason, count FROM v_losses") == [{"reason": "queue_full", "count": 3}]
    assert rows("SELECT * FROM v_incidents") == []
    with closing(sqlite3.connect(f"{old}.backup")) as copy:
        assert schema.revision(copy) == "0001"
    assert dump(f"{old}.backup") == before
    fresh = str(Path(old).with_name("fresh.db"))
    open_for_writing(fresh, busy_timeout=1).close()
    with connect(old) as upgraded, connect(fresh) as page:
        assert objects(upgraded) == objects(page)


def test_an_exporter_upgrades_an_old_file_too(old, rows):
    """Also where nothing of handspan is used but the exporter."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    from handspan_exporters.sqlite import SQLiteSpanExporter

    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(SQLiteSpanExporter(old)))
    provider.get_tracer("theirs").start_span("GET /").end()
    provider.shutdown()
    assert revision_of(old) == HEAD
    assert rows("SELECT name FROM v_spans") == [{"name": "GET /"}]
    assert Path(f"{old}.backup").exists()


HOLD_A_SESSION = """
import sys
from handspan.store.liveness import SessionLock
lock = SessionLock(sys.argv[1], "other")
lock.acquire()
print("holds", flush=True)
sys.stdin.readline()
lock.release()
"""


async def test_while_an_old_process_records_the_new_one_waits_in_memory(old, make, rows, caplog):
    """Its tables do not change under it. What runs meanwhile is stored after it has ended, and an incident tells."""
    with closing(sqlite3.connect(old, isolation_level=None)) as conn:
        conn.execute("INSERT INTO sessions (service_id, instance_id, started_at, last_heartbeat_at) "
                     "VALUES (1, 'other', 1, 1)")  # fmt: skip
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD_A_SESSION, old], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout.readline() == "holds\n"

    async def on_light(event): ...

    async with make(open_timeout=0.2) as telemetry:
        listener = telemetry.register_listener(on_light, topic="new", app_key="kitchen")
        for _ in range(20):
            await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush(0.2) is False
        assert "another process is recording" in telemetry.health().last_error
        assert revision_of(old) == "0001"
        other.communicate("\n", timeout=30)
        assert await telemetry.aflush(30)
    assert revision_of(old) == HEAD
    assert rows("SELECT count(*) AS n FROM v_handler_invocations WHERE topic = 'new'") == [{"n": 20}]
    (incident,) = rows("SELECT kind, detail FROM v_incidents")
    assert incident["kind"] == "database_unavailable"
    assert "another process is recording" in incident["detail"]
    assert rows("SELECT stop_reason FROM sessions WHERE instance_id = 'other'") == [{"stop_reason": "crash"}]


# --- two at once -------------------------------------------------------------------------------------------

CREATE_AT_ONCE = """
import sys
from handspan.store.opening import open_for_writing
print("ready", flush=True)
sys.stdin.readline()
conn = open_for_writing(sys.argv[1], busy_timeout=30)
print(conn.execute("SELECT version_num FROM alembic_version").fetchall(), flush=True)
conn.close()
"""


@pytest.mark.parametrize("attempt", range(3))
def test_two_processes_may_make_the_same_file_at_once(tmp_path, attempt):
    """Whoever is second finds it done: both have a file, and it is one."""
    path = str(tmp_path / "same.db")
    both = [
        subprocess.Popen(
            [sys.executable, "-c", CREATE_AT_ONCE, path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for _ in range(4)
    ]  # fmt: skip
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("\n")
        process.stdin.flush()
    answers = [process.communicate(timeout=60) for process in both]
    assert answers == [(f"[('{HEAD}',)]\n", "")] * len(both)
    with closing(sqlite3.connect(path)) as conn:
        assert conn.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
        assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert objects(conn).keys() >= {("view", "v_executions"), ("table", "listeners")}


# --- from the command line ---------------------------------------------------------------------------------


def alembic(*arguments, cwd=CHECKOUT):
    return subprocess.run(
        [sys.executable, "-m", "alembic", *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False
    )


def test_alembic_tells_the_revision_from_the_checkout(db, tmp_path):
    """What a developer types first."""
    open_for_writing(db, busy_timeout=1).close()
    found = alembic("-x", f"db={db}", "current")
    assert (found.returncode, found.stdout.strip()) == (0, f"{HEAD} (head)"), found.stderr


async def test_alembic_upgrades_an_older_file_the_way_opening_does(recorded, migrations, tmp_path):
    """Copy first, then the chain, views and all."""
    add_revision(migrations, "ALTER TABLE listeners ADD COLUMN room TEXT")
    shutil.copy(CHECKOUT / "alembic.ini", tmp_path / "alembic.ini")
    before = dump(recorded)
    found = alembic("-x", f"db={recorded}", "upgrade", "head", cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    assert revision_of(recorded) == "9001"
    assert dump(f"{recorded}.backup") == before
    with connect(recorded) as conn:
        assert ("view", "v_executions") in objects(conn)
        assert conn.execute("SELECT room FROM listeners").fetchall() == [(None,)]


async def test_alembic_rolls_a_failing_upgrade_back(recorded, migrations, tmp_path):
    """All or nothing there, too."""
    add_revision(migrations, "CREATE TABLE half (a)", "INSERT INTO nowhere VALUES (1)")
    shutil.copy(CHECKOUT / "alembic.ini", tmp_path / "alembic.ini")
    before = dump(recorded)
    found = alembic("-x", f"db={recorded}", "upgrade", "head", cwd=tmp_path)
    assert found.returncode != 0
    assert dump(recorded) == before


async def test_alembic_refuses_to_upgrade_while_somebody_records(recorded, migrations, tmp_path):
    """The rule of section 3 holds on the command line as well: only while no other session lives."""
    add_revision(migrations, "CREATE TABLE extra (a)")
    shutil.copy(CHECKOUT / "alembic.ini", tmp_path / "alembic.ini")
    with closing(sqlite3.connect(recorded, isolation_level=None)) as conn:
        (instance_id,) = conn.execute("SELECT instance_id FROM sessions").fetchone()
        conn.execute("UPDATE sessions SET stopped_at = NULL, stop_reason = NULL")
    lock = SessionLock(recorded, instance_id)
    lock.acquire()
    try:
        found = alembic("-x", f"db={recorded}", "upgrade", "head", cwd=tmp_path)
    finally:
        lock.release()
    assert found.returncode != 0
    assert revision_of(recorded) == HEAD


def test_alembic_makes_no_file_where_there_is_none(tmp_path):
    """A typing error in the path is told, not turned into an empty database."""
    found = alembic("-x", f"db={tmp_path / 'none.db'}", "current")
    assert found.returncode != 0
    assert "There is no file" in found.stderr
    assert list(tmp_path.iterdir()) == []


def test_alembic_leaves_a_foreign_file_alone(tmp_path):
    """Somebody else's database gets no table of ours."""
    path = tmp_path / "foreign.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE theirs (a)")
    before = path.read_bytes()
    found = alembic("-x", f"db={path}", "upgrade", "head")
    assert found.returncode != 0
    assert "another program" in found.stderr
    assert path.read_bytes() == before
