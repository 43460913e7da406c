"""``handspan export``: every row once, as the views have it, into a pipe or a new file."""

import csv
import json
import os
import sqlite3
import stat
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import seeded
from handspan.cli import main
from handspan.clock import instant_from_ns
from handspan.store.queries.export import export
from handspan.store.queries.runs import RunFilter
from handspan.store.queries.shapes import ALL_TIME, Window
from handspan.store.service import DatabaseService
from handspan.store.statements import statements
from seeded import DAY, HOUR, NOW, raw

AT = instant_from_ns(int(NOW) * 10**9)
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """With a span, a log line and an error group, one of each."""
    path = seeded.build(tmp_path / "house.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        conn.execute("UPDATE handler_invocations SET attributes = '{\"lamp\": [1, 2]}' WHERE id = 1")
        conn.execute("UPDATE handler_invocations SET error_message = '=cmd|calc' WHERE status = 'error'")
        seeded.put(conn, "spans (session_id, trace_id, span_id, name, kind, start_ns, duration_ns, status)",
                   [(1, bytes([n]) * 16, bytes([n]) * 8, f"n{n}", 0, int((NOW - n * HOUR) * 1e9), 5, "ok")
                    for n in range(1, 9)])  # fmt: skip
        seeded.put(conn, "log_records (session_id, trace_id, run_span_id, logged_at, level, logger, message)",
                   [(1, b"t" * 16, b"s" * 8, NOW - n * HOUR, 30, "house", "-1\n") for n in range(1, 9)])  # fmt: skip
        seeded.put(conn, "error_groups (kind, registration_id, fingerprint, error_type, message, first_seen_at, "
                         "last_seen_at, count, sample_trace_id, sample_span_id)",
                   [("handler", 3, bytes([n]), "ValueError", "m", NOW - 3 * DAY, NOW - n * HOUR, 3, b"t", b"s")
                    for n in range(1, 9)])  # fmt: skip
        conn.execute("COMMIT")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    monkeypatch.setenv("HANDSPAN_DB", path)
    monkeypatch.setattr("handspan.cli.export_command.now", lambda: AT)
    monkeypatch.chdir(tmp_path)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def call(*args: str) -> tuple[int, str, str]:
        code = main(list(args))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


VIEWS = {
    "handlers": ("v_handler_invocations", "execution_start_ts"),
    "jobs": ("v_job_executions", "execution_start_ts"),
    "spans": ("v_spans", "start_ns / 1e9"),
    "logs": ("v_log_records", "unixepoch(logged_at)"),
    "errors": ("v_error_groups", "unixepoch(last_seen_at)"),
    "losses": ("v_losses", "unixepoch(hour_at) + 3599"),
    "runs": ("v_executions", "execution_start_ts"),
}


@pytest.mark.parametrize("since", [False, True], ids=["all", "since"])
@pytest.mark.parametrize("stretch", [3, 2000])
@pytest.mark.parametrize("kind", VIEWS)
def test_every_row_once_as_its_view_has_it(
    house: str, run: Run, monkeypatch: pytest.MonkeyPatch, kind: str, stretch: int, since: str | None
) -> None:
    """Whatever the size of the stretches: the rows of the view, in the order of their ids."""
    monkeypatch.setattr("handspan.store.queries.export.STRETCH", stretch)
    view, time = VIEWS[kind]
    hours = 12 if kind == "jobs" else 3.5  # the newest job is older
    begin = NOW - hours * HOUR if since else 0
    code, out, err = run("export", "--kind", kind, *(["--since", f"{hours}h"] if since else []))
    assert (code, err) == (0, "")
    with closing(sqlite3.connect(f"file:{house}?mode=ro&immutable=1", uri=True)) as conn:
        conn.row_factory = sqlite3.Row
        order = "kind, id" if kind == "runs" else "id"
        wanted = [
            dict(row) for row in conn.execute(f"SELECT * FROM {view} WHERE {time} >= ? ORDER BY {order}", (begin,))
        ]
    found = [json.loads(line) for line in out.splitlines()]
    for row in wanted:
        if row.get("attributes") is not None:
            row["attributes"] = json.loads(row["attributes"])
    assert found == wanted
    assert found
    ((total,),) = raw(house, f"SELECT count(*) FROM {view}")
    assert len(found) < total if since else len(found) == total


@pytest.mark.parametrize(
    ("args", "where"),
    [
        pytest.param(["--app", "energy"], "app_key = 'energy'", id="app"),
        pytest.param(["--status", "error"], "status = 'error'", id="status"),
        pytest.param(["--app", "flaky", "--status", "success", "--until", "1d"],
                     f"app_key = 'flaky' AND status = 'success' AND execution_start_ts < {NOW - DAY}", id="all three"),
        pytest.param(["--until", "2000-01-01"], "0", id="nothing"),
    ],
)  # fmt: skip
def test_filters(house: str, run: Run, args: list[str], where: str) -> None:
    """As in plain SQL; nothing at all is no error."""
    code, out, _ = run("export", *args)
    assert code == 0
    found = [(row["kind"], row["id"]) for row in map(json.loads, out.splitlines())]
    assert found == raw(house, f"SELECT kind, id FROM v_executions WHERE {where} ORDER BY kind, id")


def test_csv(house: str, run: Run) -> None:
    """One head, a line a row, and no formula."""
    _, out, _ = run("export", "--kind", "handlers", "--format", "csv")
    rows = list(csv.DictReader(out.splitlines()))
    assert len(rows) == 300
    assert {row["error_message"] for row in rows if row["status"] == "error"} == {"'=cmd|calc"}
    wanted = raw(house, "SELECT duration_ms FROM handler_invocations ORDER BY id")
    assert [(float(row["duration_ms"]),) for row in rows] == wanted
    assert "\n'-1\n" in run("export", "--kind", "logs", "--format", "csv")[1].replace(',"\'-1\n"', "\n'-1\n")


def test_into_a_new_file(house: str, run: Run, tmp_path: Path) -> None:
    """For its owner alone; what is there is never overwritten, nor is a link followed."""
    target = tmp_path / "runs.jsonl"
    code, out, err = run("export", "-o", str(target))
    assert (code, err) == (0, "")
    assert "390 rows written" in " ".join(out.split())
    assert len(target.read_text().splitlines()) == 390
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    target.write_text("mine")
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "elsewhere")
    for path in (target, link):
        code, out, err = run("export", "-o", str(path))
        assert (code, out, err.count("\n")) == (2, "", 1)
    assert target.read_text() == "mine"
    assert not (tmp_path / "elsewhere").exists()
    code, _, err = run("export", "-o", str(tmp_path / "no" / "runs.jsonl"))
    assert (code, "cannot be written" in err) == (2, True)


def test_a_file_that_could_not_be_finished_goes(
    house: str, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an export would be taken for a whole one."""

    def fail(*args: Any) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("handspan.cli.export_command._json_lines", fail)
    code, _, err = run("export", "-o", str(tmp_path / "runs.jsonl"))
    assert (code, "No space left" in err) == (2, True)
    assert not (tmp_path / "runs.jsonl").exists()


@pytest.mark.parametrize(
    "args", [["--kind", "spans", "--app", "x"], ["--kind", "losses", "--status", "error"], ["--kind", "x"],
     ["--format", "x"]],
    ids=" ".join,
)  # fmt: skip
def test_what_makes_no_sense(house: str, run: Run, args: list[str]) -> None:
    """One line rather than an empty answer."""
    code, out, err = run("export", *args)
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("name", sorted(statements("queries/export.sql")))
def test_no_stretch_reads_the_whole_table(house: str, name: str) -> None:
    """Each statement seeks its ids, or an index: its cost does not grow with the file."""
    params = {"after": 1, "end": 9, "top": 99, "rows": 5, "since": 0.0, "until": NOW, "app": None, "status": None}
    with closing(sqlite3.connect(f"file:{house}?mode=ro&immutable=1", uri=True)) as conn:
        sql = statements("queries/export.sql")[name]
        plan = [step[3] for step in conn.execute(f"EXPLAIN QUERY PLAN {sql}", params)]
    large = ("SCAN i", "SCAN e", "SCAN v", "SCAN r", "SCAN g", "SCAN handler", "SCAN job_", "SCAN spans", "SCAN log")
    assert not [step for step in plan if step.startswith(large)], plan


async def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """Forty thousand rows pass through no more memory than four thousand do."""
    path = seeded.build(tmp_path / "large.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        seeded.put(conn, "handler_invocations (listener_id, session_id, execution_start_ts, duration_ms, status, "
                         "trace_id, span_id, error_message)",
                   [(1, 4, NOW - n, 1, "success", b"t" * 16, b"s" * 8, "m" * 200) for n in range(40_000)])  # fmt: skip
        conn.execute("COMMIT")
    peaks = []
    for window in (Window(instant_from_ns(int(NOW - 4000) * 10**9)), ALL_TIME):
        async with DatabaseService(path) as db:
            total = 0
            tracemalloc.start()
            async for rows in export(db, "handlers", RunFilter(), window):
                total += len(rows)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        assert total >= 4000
    assert peaks[1] < 1.5 * peaks[0]


async def test_rows_that_come_and_go_meanwhile(house: str) -> None:
    """What is there all the time comes once; what is stored later does not come."""
    before = raw(house, "SELECT id FROM handler_invocations WHERE id > 100 ORDER BY id")
    found: list[int] = []
    async with DatabaseService(house) as db:
        with pytest.MonkeyPatch.context() as patch, closing(sqlite3.connect(house, isolation_level=None)) as conn:
            patch.setattr("handspan.store.queries.export.STRETCH", 50)
            async for rows in export(db, "handlers"):
                found += [row["id"] for row in rows]
                conn.execute("DELETE FROM handler_invocations WHERE id <= 100")
                conn.execute(
                    "INSERT INTO handler_invocations (listener_id, session_id, execution_start_ts, duration_ms, "
                    "status, trace_id, span_id) VALUES (1, 4, ?, 1, 'success', x'00', x'00')",
                    (NOW,),
                )  # fmt: skip
    assert found[50:] == [i for (i,) in before]


def test_a_reader_who_has_enough(house: str) -> None:
    """``| head``: it ends without a word."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "handspan.cli", "export"]
    try:
        ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (141, b"")
