"""``make bench`` still runs and says what it should. Its budgets are its own affair: no time is asserted here."""

import json
import math
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from benchmarks.house.build import build

ROOT = Path(__file__).parents[2]

ROWS = {
    "overhead.loop": "ratio",
    "overhead.cpu": "ratio",
    "throughput": "ratio",
    "writer.idle": "ratio",
    "bytes.plain": "ours",
    "import": "difference",
    "open": "ours",
    "delay.p99": "difference",
    "stalled": "ours",
}
REPORTED_ONLY = {
    *(
        f"overhead.{variant}.{part}"
        for variant in ("published", "attributes", "job", "failing", "foreign")
        for part in ("loop", "cpu")
    ),
    "writer.busy",
    "bytes.linked",
    "bytes.failed",
    "bytes.week",
    "delay.p999",
    "delay.sdk.p99",
    "delay.sdk.p999",
}


def run(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, check=False, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    file = tmp_path_factory.mktemp("benchmarks") / "rows.json"
    done = run("--quick", "--json", str(file))
    assert done.returncode == 0, done.stderr
    return done.stdout, json.loads(file.read_text(encoding="utf-8"))


def test_every_row_of_the_design_is_measured(quick):
    _, document = quick
    found = {row["name"]: row["budget"]["of"] if row["budget"] else None for row in document["rows"]}
    assert found == ROWS | dict.fromkeys(REPORTED_ONLY)
    assert document["quick"] is True


def test_ratios_are_finite_and_their_spread_holds_them(quick):
    _, document = quick
    for row in document["rows"]:
        low, high = row["spread"]
        assert all(map(math.isfinite, (row["ratio"], row["ours"], row["other"], low, high))), row
        assert low <= row["ratio"] <= high, row
        assert (row["met"] is None) == (row["budget"] is None), row


def test_the_table_has_a_line_for_each(quick):
    table, document = quick
    head, rule, *lines = table.splitlines()
    assert head.split("  ")[0] == "what"
    assert set(rule) == {"-", " "}
    for row, line in zip(document["rows"], lines, strict=False):
        assert line.startswith(row["what"])
        assert row["against"] in line


def test_the_machine_is_described_without_its_name(quick):
    _, document = quick
    assert set(document["machine"]) == {"CPython", "OpenTelemetry", "SQLite", "handspan", "CPUs", "on"}


def test_an_unknown_measurement_is_refused_by_name():
    done = run("--only", "nonsense")
    assert done.returncode == 2
    assert "overhead" in done.stderr


# --- the house the questions are put to ------------------------------------------------------------------

END = 1_780_000_000.0
COUNTED = """
SELECT kind, id, minute, session_id, sum(runs) AS runs, sum(errors) AS errors, sum(late) AS late
FROM (SELECT 'handler' AS kind, listener_id AS id, CAST(execution_start_ts / 60 AS INTEGER) * 60 AS minute, session_id,
             1 AS runs, status = 'error' AS errors, 0 AS late
      FROM handler_invocations
      UNION ALL
      SELECT 'job', job_id, CAST(execution_start_ts / 60 AS INTEGER) * 60, session_id, 1, status = 'error',
             execution_start_ts - scheduled_ts > 5
      FROM job_executions)
GROUP BY 1, 2, 3, 4
"""
ROLLED = """
SELECT kind, registration_id, bucket_start, session_id, runs, errors, late FROM rollups WHERE resolution = 60
"""


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    path = tmp_path_factory.mktemp("house") / "house.db"
    return path, build(path, 3_000, end=END, days=8)


def rows(path, sql):
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        return conn.execute(sql).fetchall()


def test_the_rollups_of_the_house_are_those_of_its_rows(house):
    """Answers are judged by its rows: the two must not contradict each other before anybody is asked."""
    assert sorted(rows(house[0], ROLLED)) == sorted(rows(house[0], COUNTED))


def test_the_house_is_a_sound_file(house):
    assert rows(house[0], "PRAGMA foreign_key_check") == []
    assert rows(house[0], "PRAGMA integrity_check") == [("ok",)]
    assert rows(house[0], "SELECT count(*) FROM sqlite_stat1 WHERE tbl = 'rollups'") == [(1,)]


def test_the_same_seed_makes_the_same_house(house, tmp_path):
    build(tmp_path / "again.db", 3_000, end=END, days=8)
    everything = "SELECT * FROM handler_invocations ORDER BY id"
    assert rows(house[0], everything) == rows(tmp_path / "again.db", everything)
