"""Lists of figures as people read them: until when, and what was otherwise before."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

import seeded
from handspan.cli import main
from handspan.clock import instant_from_ns
from handspan.store.backfill import backfill, start_over
from handspan.store.parents import Parents
from seeded import DAY, HOUR, NOW, raw

AT = instant_from_ns(int(NOW) * 10**9)


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("reports", "registered", "busy", "runs_command"):
        monkeypatch.setattr(f"handspan.cli.{module}.now", lambda: AT)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("HANDSPAN_DB", seeded.build(tmp_path / "house.db"))


def shown(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(list(args)) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "counted"),
    [
        pytest.param("handlers", lambda found: sum(each["activity"]["runs"] for each in found), id="handlers"),
        pytest.param("jobs", lambda found: sum(each["activity"]["runs"] for each in found), id="jobs"),
        pytest.param("runs", len, id="runs"),
    ],
)
def test_until(capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str, counted: object) -> None:
    """Runs of the time between two moments, to the second."""
    found = json.loads(shown(capsys, command, "--since", "2d", "--until", "90.5m", "--limit", "1000", "--json"))
    kind = {"handlers": "kind = 'handler'", "jobs": "kind = 'job'", "runs": "1"}[command]
    wanted = raw(str(tmp_path / "house.db"), f"SELECT count(*) FROM v_executions WHERE {kind} AND "
                 "execution_start_ts >= ? AND execution_start_ts < ?", NOW - 2 * DAY, NOW - 90.5 * 60)  # fmt: skip
    assert callable(counted)
    assert [(counted(found[command]),)] == wanted
    assert found["until"] == "90.5m"


def test_what_moved_says_what_it_was(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A handler that runs more, slower and fails more than the hour before; its neighbours are left alone."""
    with closing(sqlite3.connect(tmp_path / "house.db", isolation_level=None)) as conn:
        seeded.put(conn, "handler_invocations (listener_id, session_id, execution_start_ts, duration_ms, status, "
                         "error_type, trace_id, span_id)",
                   [(4, 4, NOW - start - n, ms, "error" if n < failing else "success",
                     "ValueError" if n < failing else None, b"t", b"s")
                    for start, runs, ms, failing in ((HOUR + 1, 40, 10.0, 0), (1, 200, 90.0, 80))
                    for n in range(runs)])  # fmt: skip
        conn.execute("DELETE FROM rollups")
        start_over(conn)
        for _ in backfill(conn, Parents(conn)):
            pass
    lines = shown(capsys, "handlers", "--since", "1h", "--sort", "runs").splitlines()
    assert lines[0].endswith("was")
    assert lines[1].startswith("house/presence.arrived")
    assert "40 runs, " in lines[1]
    assert lines[2].rstrip().endswith("ago")
    assert "in as long a time before" in lines[-1]
    found = json.loads(shown(capsys, "handlers", "--since", "1h", "--sort", "runs", "--json"))["handlers"][0]
    assert (found["activity"]["errors"], found["before"]["runs"], found["before"]["errors"]) == (80, 40, 0)


def test_figures_of_another_time_than_asked_for_say_so(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Where minutes are gone the table names the hour it begins with."""
    with closing(sqlite3.connect(tmp_path / "house.db", isolation_level=None)) as conn:
        conn.execute("DELETE FROM rollups WHERE resolution = 60 AND bucket_start < ?", ((NOW - DAY) // HOUR * HOUR,))
    out = shown(capsys, "handlers", "--since", "2d")
    assert "these are from 2026-05-26T20:00Z" in " ".join(out.split())
    assert "kept in whole hours" not in shown(capsys, "handlers", "--since", "1d")
