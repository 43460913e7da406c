"""`handspan db salvage` on really damaged files: what can be read is saved, and the damaged file stays as it is."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from handspan import ExecuteJob, InvokeHandler
from handspan.errors import CorruptDatabaseError, DependencyError, HandspanError
from handspan.store.around_damage import readable
from handspan.store.salvage import salvage

PAGE = 4096
RUNS = 1_500


async def on_event(event):
    if event == "bad":
        raise DependencyError("bad")


async def tidy(): ...


@pytest.fixture
async def recorded(make, db):
    """Runs of a handler and a job, every tenth failed; closed in an orderly way."""
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        job = telemetry.register_job(tidy, job_name="tidy", app_key="a.B")
        for number in range(RUNS):
            await telemetry.execute(InvokeHandler(listener, event="bad" if number % 10 == 0 else "good"))
            if number % 10 == 0:
                await telemetry.execute(ExecuteJob(job))
    return Path(db)


def pages_of(path, name):
    with closing(sqlite3.connect(f"file:{path}?mode=ro&immutable=1", uri=True)) as conn:
        found = conn.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' ORDER BY path", [name])
        return [number - 1 for (number,) in found]


def spoil(path, *pages, first_bytes=0):
    raw = bytearray(path.read_bytes())
    for page in pages:
        raw[page * PAGE : (page + 1) * PAGE] = b"\xa5" * PAGE
    raw[:first_bytes] = bytes(first_bytes)
    path.write_bytes(raw)


def saved_of(source, target):
    """Salvages, and checks what must hold of every salvage."""
    before = source.read_bytes()
    beside = sorted(source.parent.iterdir())
    found = {each.table: each for each in salvage(str(source), str(target))}
    assert source.read_bytes() == before
    assert sorted(source.parent.iterdir()) == sorted([*beside, target])
    with closing(sqlite3.connect(target)) as conn:
        assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
        for table, each in found.items():
            assert conn.execute(f"SELECT count(*) >= {each.rows} FROM {table}").fetchone() == (1,), table
    return found


def rows_of(path, sql):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        return sorted(conn.execute(sql).fetchall(), key=repr)


def test_a_sound_file_is_saved_whole(recorded, tmp_path):
    """Every row of every view, to the letter."""
    found = saved_of(recorded, tmp_path / "new.db")
    assert (found["handler_invocations"].rows, found["handler_invocations"].missing) == (RUNS, 0)
    tables = ("sessions", "error_groups", "error_group_hours")
    for view in ("v_handler_invocations", "v_job_executions", "v_losses", "v_error_groups", *tables):
        assert rows_of(tmp_path / "new.db", f"SELECT * FROM {view}") == rows_of(recorded, f"SELECT * FROM {view}")


def test_pages_in_the_middle_cost_their_own_rows(recorded, tmp_path):
    """One page of a table, one of an index: all rows of the other pages are saved, those missing are counted."""
    pages = pages_of(recorded, "handler_invocations")
    with closing(sqlite3.connect(recorded)) as conn:
        cells = conn.execute("SELECT ncell FROM dbstat WHERE pageno = ?", [pages[len(pages) // 2] + 1]).fetchone()[0]
    spoil(recorded, pages[len(pages) // 2], pages_of(recorded, "ix_job_executions_job")[0])
    found = saved_of(recorded, tmp_path / "new.db")
    assert found["handler_invocations"].rows == RUNS - cells
    assert found["handler_invocations"].missing == cells
    assert found["job_executions"].rows == RUNS // 10


def test_islands_between_damaged_pages_are_saved(recorded):
    """Every other page of a table gone: each readable one in between is read to its last row."""
    pages = pages_of(recorded, "handler_invocations")
    with closing(sqlite3.connect(recorded)) as conn:
        cells = dict(conn.execute("SELECT pageno - 1, ncell FROM dbstat WHERE name = 'handler_invocations'"))
    spoil(recorded, *pages[1:-1:2])
    with closing(sqlite3.connect(recorded)) as conn:
        found = list(readable(conn, "handler_invocations", "status", 1, RUNS))
    assert len(found) == sum(cells[page] for page in pages if page not in pages[1:-1:2])
    assert [row[0] for row in found] == sorted({row[0] for row in found})


def test_runs_outlive_their_registration(recorded, tmp_path):
    """The page with all listeners and the one with the sessions gone: stand-ins take their place."""
    spoil(recorded, pages_of(recorded, "listeners")[0], pages_of(recorded, "sessions")[0])
    found = saved_of(recorded, tmp_path / "new.db")
    assert (found["listeners"].rows, found["sessions"].rows) == (0, 0)
    assert rows_of(tmp_path / "new.db", "SELECT app_key, name, count(*) FROM v_handler_invocations GROUP BY 1, 2") == [
        ("lost", "lost-1", RUNS)
    ]


def test_failures_outlive_their_error_groups_and_these_their_tracebacks(recorded, tmp_path):
    """The page with all groups gone: rows point to none, nothing is counted for nobody. The tracebacks': likewise."""
    whole = recorded.read_bytes()
    spoil(recorded, pages_of(recorded, "error_groups")[0])
    found = saved_of(recorded, tmp_path / "new.db")
    assert (found["error_groups"].rows, found["handler_invocations"].rows) == (0, RUNS)
    assert rows_of(tmp_path / "new.db", "SELECT count(*), count(error_group_id) FROM handler_invocations "
                                        "WHERE status = 'error'") == [(RUNS // 10, 0)]  # fmt: skip
    assert rows_of(tmp_path / "new.db", "SELECT count(*) FROM error_group_hours") == [(0,)]
    recorded.write_bytes(whole)
    spoil(recorded, pages_of(recorded, "tracebacks")[0])
    saved_of(recorded, tmp_path / "other.db")
    assert rows_of(tmp_path / "other.db", "SELECT count, traceback FROM v_error_groups") == [(RUNS // 10, None)]


@pytest.mark.parametrize(
    ("damage", "least"),
    [
        pytest.param(lambda path: spoil(path, first_bytes=100), RUNS, id="header-zeroed"),
        pytest.param(lambda path: spoil(path, 0), RUNS, id="first-page-overwritten"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 8 * 7]), 200, id="cut"),
    ],
)
def test_a_file_sqlite_does_not_open_at_all(recorded, tmp_path, damage, least):
    """The beginning is put right from a fresh file, a cut file is told its size; then it is read like any other."""
    damage(recorded)
    found = saved_of(recorded, tmp_path / "new.db")
    assert least <= found["handler_invocations"].rows <= RUNS


def test_an_older_file_is_saved_into_the_current_schema(tmp_path):
    """Its rows, with the tables it did not have empty."""
    old = tmp_path / "old.db"
    dump = Path(__file__).parents[1] / "data" / "recorded_0001.sql"
    with closing(sqlite3.connect(old)) as conn:
        conn.executescript(dump.read_text())
    found = saved_of(old, tmp_path / "new.db")
    assert (found["handler_invocations"].rows, found["incidents"].rows, found["error_group_hours"].rows) == (2, 0, 0)
    assert rows_of(tmp_path / "new.db", "SELECT reason, count FROM v_losses") == [("queue_full", 3)]


def test_nothing_is_left_where_nothing_can_be_saved(tmp_path):
    """No half a target, no copy; what is there already is never overwritten."""
    rubbish, target = tmp_path / "rubbish.db", tmp_path / "new.db"
    rubbish.write_bytes(b"\xa5" * 50_000)
    with pytest.raises(CorruptDatabaseError):
        salvage(str(rubbish), str(target))
    assert sorted(tmp_path.iterdir()) == [rubbish]
    target.write_text("mine")
    with pytest.raises(HandspanError, match="exists already"):
        salvage(str(rubbish), str(target))
    assert target.read_text() == "mine"
