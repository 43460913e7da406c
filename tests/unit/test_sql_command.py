"""``handspan sql``: it answers, and nothing that is thrown at it changes a byte, runs on, or eats the machine."""

import csv
import io
import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from rich.cells import cell_len

import seeded
from handspan.cli import main
from handspan.store import schema
from seeded import raw

Run = Callable[..., tuple[int, str, str]]
BOMB = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    path = seeded.build(tmp_path / "house.db")
    monkeypatch.setenv("HANDSPAN_DB", path)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command line: its exit code, stdout, stderr. Without the bound on memory, which would stay with the tests."""
    monkeypatch.setattr("handspan.store.freehand.MEMORY", 0)

    def call(*args: str) -> tuple[int, str, str]:
        code = main(list(args))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def alone(path: str, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """In a process of its own, as people run it."""
    return subprocess.run(
        [sys.executable, "-m", "handspan.cli", "sql", *args, "--db", path],
        input=stdin, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


COMMANDS = "".join(map(chr, (0x1B, 0x7F, 0x9B, 0x202E, 0x2066, 0x200B, 0x2028, 0xFEFF))) + "\t\n\u5bb6"
HOSTILE = "SELECT char(27, 127, 155, 8238, 8294, 8203, 8232, 65279, 9, 10, 23478) AS said"


def test_json_commands_no_terminal(house: str, run: Run) -> None:
    """C1 controls and what turns a line around are escaped, and mean the same to a program."""
    _, out, _ = run("sql", HOSTILE, "--json")
    assert json.loads(out)["rows"] == [[COMMANDS]]
    assert all(char.isprintable() or char == "\n" for char in out)


def test_csv_commands_no_terminal_and_is_whole_in_a_pipe(house: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody looks, or a program reads."""
    _, piped, _ = run("sql", HOSTILE, "--csv")
    assert list(csv.reader(io.StringIO(piped))) == [["said"], [COMMANDS]]
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    _, seen, _ = run("sql", HOSTILE, "--csv")
    assert all(char.isprintable() or char in "\t\n" for char in seen)
    assert "\u5bb6" in seen


# --- answers --------------------------------------------------------------------------------------------------


def test_a_table(house: str, run: Run) -> None:
    """Figures to the right, NULL in words, BLOBs as hex, nothing wider than the terminal."""
    code, out, err = run(
        "sql", "SELECT name, count(*) AS n, NULL AS nil, x'00ff' AS octets FROM v_executions GROUP BY name"
    )
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["name", "n", "nil", "octets"]
    assert out.splitlines()[1].split() == ["on_motion", "225", "NULL", "x'00ff'"]


def test_json_and_csv_have_everything(house: str, run: Run) -> None:
    """The same rows, whole."""
    query = "SELECT id, error_message, duration_ms, x'0a' AS b, 9e999 AS f FROM v_handler_invocations ORDER BY id"
    wanted = raw(house, "SELECT id, error_message, duration_ms FROM handler_invocations ORDER BY id")
    found = json.loads(run("sql", query, "--json")[1])
    assert found["columns"] == ["id", "error_message", "duration_ms", "b", "f"]
    assert [tuple(row[:3]) for row in found["rows"]] == wanted
    assert {tuple(row[3:]) for row in found["rows"]} == {("0a", None)}
    assert found["more"] is False
    rows = list(csv.reader(io.StringIO(run("sql", query, "--csv")[1])))
    assert rows[0] == found["columns"]
    assert [int(row[0]) for row in rows[1:]] == [row[0] for row in wanted]


def test_it_says_when_it_was_cut(house: str, run: Run) -> None:
    """At the limit, and not when that was all."""
    assert "Cut after 2 rows" in run("sql", "SELECT id FROM v_spans UNION SELECT 1 UNION SELECT 2 UNION SELECT 3",
                                     "--limit", "2")[1]  # fmt: skip
    assert "Cut" not in run("sql", "SELECT 1 UNION SELECT 2", "--limit", "2")[1]
    assert json.loads(run("sql", f"{BOMB}SELECT i FROM n", "--limit", "3", "--json")[1])["rows"] == [[1], [2], [3]]


@pytest.mark.parametrize(
    "value", ["'a\nb\x1b[31m\u202e'", "CAST(x'ff00fe' AS TEXT)", "replace(hex(zeroblob(5000)), '0', '\u5bb6')"]
)
def test_foreign_text_is_one_line(house: str, run: Run, value: str) -> None:
    """No escape sequence, no line break, no undecodable byte gets into the terminal."""
    code, out, _ = run("sql", f"SELECT {value} AS v, {value} AS w")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert max(cell_len(line) for line in out.splitlines()) <= 80


def test_formulas_are_texts(house: str, run: Run) -> None:
    """A spreadsheet opens what an application logged."""
    _, out, _ = run("sql", "SELECT '=cmd()' AS a, '+1' AS b, '-1' AS c, '@x' AS d, -1 AS e, 'plain' AS f", "--csv")
    assert list(csv.reader(io.StringIO(out)))[1] == ["'=cmd()", "'+1", "'-1", "'@x", "-1", "plain"]


def test_from_stdin(house: str) -> None:
    """``-`` reads the query, comments and a semicolon at its end included."""
    found = alone(house, "-", "--csv", stdin="-- how many\nSELECT count(*) AS n /* runs */ FROM v_executions; -- end\n")
    assert (found.returncode, found.stdout) == (0, "n\n390\n")


def test_schema_lists_every_view_and_column_with_its_meaning(house: str, run: Run) -> None:
    """As docs/schema.md explains them, of the file as it is."""
    found = json.loads(run("sql", "--schema", "--json")[1])["views"]
    with closing(sqlite3.connect(":memory:")) as conn:
        for statement in schema.split_statements(schema.schema_sql(schema.migrations_dir())):
            conn.execute(statement)
        names = [name for (name,) in conn.execute("SELECT name FROM sqlite_schema WHERE type = 'view' ORDER BY name")]
        columns = {name: [row[1] for row in conn.execute(f"PRAGMA table_info({name})")] for name in names}
    assert {view["name"]: list(view["columns"]) for view in found} == columns
    assert all(meaning for view in found for meaning in view["columns"].values())
    code, out, _ = run("sql", "--schema", "v_losses")
    assert code == 0
    assert "v_losses" in out
    assert "v_spans" not in out
    code, _, err = run("sql", "--schema", "v_nothing")
    assert (code, "v_losses" in err) == (2, True)


# --- attacks --------------------------------------------------------------------------------------------------

WRITES = [
    "DELETE FROM handler_invocations",
    "UPDATE sessions SET host = 'x'",
    "INSERT INTO services (name) VALUES ('x')",
    "REPLACE INTO services (id, name) VALUES (1, 'x')",
    "WITH x AS (SELECT 1) DELETE FROM spans",
    "DELETE FROM spans RETURNING id",
    "DROP TABLE spans",
    "DROP VIEW v_spans",
    "CREATE TABLE x (a)",
    "CREATE TEMP TABLE x (a)",
    "CREATE TEMP VIEW x AS SELECT 1",
    "CREATE TRIGGER t AFTER INSERT ON spans BEGIN SELECT 1; END",
    "CREATE VIRTUAL TABLE x USING fts5(a)",
    "ALTER TABLE spans ADD COLUMN x",
    "ATTACH 'other.db' AS other",
    "ATTACH ':memory:' AS other",
    "DETACH main",
    "VACUUM",
    "VACUUM INTO 'other.db'",
    "REINDEX",
    "ANALYZE",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "SAVEPOINT x",
    "PRAGMA query_only = OFF",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA journal_mode",
    "PRAGMA user_version = 7",
    "PRAGMA application_id = 7",
    "PRAGMA writable_schema = ON",
    "PRAGMA wal_checkpoint(TRUNCATE)",
    "PRAGMA temp_store_directory = '/tmp'",
    "PRAGMA hard_heap_limit = 0",
    "PRAGMA optimize",
    "PRAGMA incremental_vacuum",
    "SELECT * FROM pragma_wal_checkpoint",
    "SELECT load_extension('x.so')",
    "SELECT writefile('other.db', 'x')",
    "SELECT fts3_tokenizer('x', x'00')",
    "/* SELECT 1 */ DROP TABLE spans -- SELECT",
    "EXPLAIN DELETE FROM spans",
]


@pytest.mark.parametrize("statement", WRITES)
@pytest.mark.parametrize("live", [False, True], ids=["at rest", "being written"])
def test_nothing_is_written(house: str, run: Run, statement: str, live: bool) -> None:
    """Not a byte of the file, no file beside it, not even in memory; one line says that it only reads."""
    with closing(sqlite3.connect(house, isolation_level=None)) as writer:
        if live:
            writer.execute("UPDATE sessions SET pid = pid")
        before = {
            path.name: path.read_bytes() for path in Path(house).parent.iterdir() if not path.name.endswith("-shm")
        }
        code, out, err = run("sql", statement)
        after = {
            path.name: path.read_bytes() for path in Path(house).parent.iterdir() if not path.name.endswith("-shm")
        }
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert after == before


@pytest.mark.parametrize(
    "statement",
    ["SELECT 1; DROP TABLE spans", "SELECT 1; SELECT 2", "SELECT 1;; DELETE FROM spans", ";", "", "   ", "-- nothing",
     "/* open", "SELECT", "SELECT '", "SELECT ?", "SELECT :a", "SELECT * FROM nothing", "SELECT \x00", "EXPLAIN",
     "not sql at all", "SELECT abs(-9223372036854775808)"],
)  # fmt: skip
def test_what_is_no_statement(house: str, run: Run, statement: str) -> None:
    """One line; nothing of several statements is run."""
    code, out, err = run("sql", "--", statement)
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert "bug in handspan" not in err
    assert raw(house, "SELECT count(*) FROM sqlite_schema WHERE name = 'spans'") == [(1,)]


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param(f"{BOMB}SELECT max(i) FROM n", id="recursion without end"),
        pytest.param(f"{BOMB}SELECT count(*) FROM n AS a, n AS b", id="product"),
        pytest.param("SELECT count(*) FROM v_executions a, v_executions b, v_executions c, v_executions d", id="join"),
        pytest.param("SELECT instr(zeroblob(16000000), CAST(zeroblob(8000000) AS BLOB) || x'01')", id="one long step"),
    ],
)
def test_what_never_ends_is_stopped(house: str, statement: str) -> None:
    """At its deadline, also within a function that looks at none."""
    found = alone(house, statement, "--timeout", "300ms")
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "longer than 0.3 s" in found.stderr


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param("SELECT zeroblob(2000000000)", id="huge value"),
        pytest.param("SELECT replace(hex(zeroblob(8000000)), '0', 'four')", id="huge text"),
        pytest.param("SELECT group_concat(hex(zeroblob(1000000))) FROM v_executions", id="grown value"),
        pytest.param(f"{BOMB}SELECT randomblob(10000000) AS b FROM n ORDER BY b", id="sorting"),
        pytest.param(f"{BOMB}SELECT DISTINCT randomblob(10000000) FROM n", id="distinct"),
        pytest.param("SELECT 'a' LIKE printf('%.*c', 100000, '%')", id="pattern"),
    ],
)
def test_what_is_too_large_is_refused(house: str, statement: str) -> None:
    """A bound on values and on memory: sorting does not spill to the disk either."""
    found = alone(house, statement, "--timeout", "60s", "--limit", "10000")
    assert found.returncode == 2
    assert found.stderr.count("\n") == 1
    assert "bug in handspan" not in found.stderr
    assert "longer than" not in found.stderr


def test_a_file_that_is_not_there_or_not_ours(tmp_path: Path, run: Run) -> None:
    """As for every other command."""
    code, _, err = run("sql", "SELECT 1", "--db", str(tmp_path / "none.db"))
    assert (code, "There is no file at" in err) == (2, True)
    with closing(sqlite3.connect(tmp_path / "other.db")) as conn:
        conn.execute("CREATE TABLE t (a)")
    code, _, err = run("sql", "SELECT 1", "--db", str(tmp_path / "other.db"))
    assert (code, "another program" in err) == (2, True)
