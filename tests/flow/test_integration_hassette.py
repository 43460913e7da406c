"""Hassette under handspan: a real ``hassette run`` against a double of Home Assistant, its rows beside ours.

Hassette runs on CPython 3.13 only, so each of its lives is a process of that interpreter (hassette_program.py
says what it does).
"""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from handspan.errors import HandspanError

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("hassette_program.py")
GIVE_UP = 90  # seconds: a start, two seconds of life and a shutdown take five
HOW = "`make hassette` makes .venv-hassette with CPython 3.13 and hassette 0.60 and runs this."


def interpreter() -> str | None:
    """The one with Hassette in it: HASSETTE_PYTHON, else what ``make hassette`` made."""
    for found in (os.environ.get("HASSETTE_PYTHON"), str(ROOT / ".venv-hassette" / "bin" / "python")):
        if found and Path(found).exists():
            asked = subprocess.run([found, "-c", "import hassette, handspan"], capture_output=True, check=False)
            if asked.returncode == 0:
                return found
    return None


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    """Runs the program once per mode: its directory, exit code and output."""
    python = interpreter()
    if python is None:
        pytest.skip(f"HASSETTE IS NOT TESTED: no CPython 3.13 with hassette 0.60 here. {HOW}")
    lives = {}

    def run(mode):
        if mode not in lives:
            directory = tmp_path_factory.mktemp(mode)
            command = [python, str(PROGRAM), str(directory), mode]
            process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
            )
            try:
                output, _ = process.communicate(timeout=GIVE_UP)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                raise AssertionError(process.communicate()[0]) from None
            assert process.returncode == 0, output
            lives[mode] = directory, output
        return lives[mode]

    return run


def query(path, sql):
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute(sql)]


def theirs(directory):
    rows = query(
        directory / "data" / "hassette.db",
        "SELECT e.*, coalesce(l.name, j.job_name) AS name FROM executions e"
        " LEFT JOIN listeners l ON l.id = e.listener_id LEFT JOIN scheduled_jobs j ON j.id = e.job_id"
        " WHERE e.source_tier = 'app'",
    )
    return [(row["kind"], row["name"], row["status"], row["error_type"]) for row in rows]


def ours(directory, columns="kind, name, status, error_type"):
    return [tuple(row.values()) for row in query(directory / "handspan.db", f"SELECT {columns} FROM v_executions")]


def translated(kind, name, status, error_type):
    if status == "timed_out":
        return kind, name, "error", "TimeoutError"
    if error_type == "DependencyResolutionError":
        return kind, name, "error", "DependencyError"
    return kind, name, status, error_type


def test_each_of_hassettes_rows_is_one_of_ours(live):
    """Same number, same statuses: success, error, timed out, injection failure, cancelled; a skip is no run."""
    directory, output = live("instrumented")
    expected = Counter(translated(*row) for row in theirs(directory) if row[2] != "skipped")
    assert Counter(ours(directory)) == expected
    assert {row[2] for row in theirs(directory)} == {"success", "error", "timed_out", "cancelled", "skipped"}
    assert re.findall(r"skipped: (\d+)", output) == ["1"]
    with closing(sqlite3.connect(directory / "handspan.db")) as conn:
        assert conn.execute("SELECT kind, reason, sum(count) FROM v_skips").fetchall() == [("job", "skipped", 1)]


def test_hassette_behaves_as_without_us(live):
    """The same apps with and without handspan: every name ends the same way in Hassette's own database."""
    plain, _ = live("plain")
    instrumented, _ = live("instrumented")
    assert set(theirs(plain)) == set(theirs(instrumented))
    assert ours(plain) == []


def test_a_broken_telemetry_leaves_hassette_alone(live):
    """When everything of ours fails, each handler and job still runs once, and nothing is recorded."""
    plain, _ = live("plain")
    broken, output = live("broken")
    assert set(theirs(broken)) == set(theirs(plain))
    once = [row for row in theirs(broken) if row[1] != "often"]
    assert len(once) == len(set(once))
    assert ours(broken) == []
    assert "the application is not affected" in output


def test_an_event_of_an_app_is_linked_to_the_run_that_emitted_it(live):
    """``bus.emit`` inside a handler: the run it leads to links back, and says how long it waited."""
    directory, _ = live("instrumented")
    runs = {row["name"]: row for row in query(directory / "handspan.db", "SELECT * FROM v_handler_invocations")}
    good, echo = runs["good"], runs["echo"]
    assert (echo["link_trace_id"], echo["link_span_id"]) == (good["trace_id"], good["span_id"])
    assert good["link_span_id"] is None
    assert all(row["queue_ms"] is not None for row in runs.values())
    assert runs["plain"]["queue_ms"] >= 10  # its debounce


def test_a_job_says_when_it_was_due(live):
    """The fire time of this run, not the next one's, which Hassette has already set."""
    directory, _ = live("instrumented")
    for row in query(directory / "handspan.db", "SELECT * FROM v_job_executions"):
        assert 0 <= row["delay_ms"] < 60_000, row


def test_registrations_say_what_the_app_said(live):
    """Options, arguments, trigger, and the app's own line, though they are registered at the first run."""
    directory, _ = live("instrumented")
    listeners = {row["name"]: row for row in query(directory / "handspan.db", "SELECT * FROM listeners")}
    jobs = {row["job_name"]: row for row in query(directory / "handspan.db", "SELECT * FROM scheduled_jobs")}
    plain = listeners["plain"]
    assert (plain["app_key"], plain["handler_method"], plain["debounce"]) == ("house", "on_plain", 0.01)
    assert plain["topic"] == "hass.event.state_changed.light.plain"
    assert plain["registration_source"].startswith('on("light.plain", handler=self.on_plain')
    assert re.search(r"house\.py:\d+$", plain["source_location"])
    once, often = jobs["once"], jobs["often"]
    assert (once["trigger_type"], once["repeat"], once["kwargs_json"]) == ("after", 0, '{"room": "bath"}')
    assert (often["trigger_type"], often["trigger_value"], often["repeat"]) == ("interval", "1s", 1)


def test_a_failure_keeps_the_apps_traceback(live):
    """The row's traceback leads to the app's line, whatever wrapped it."""
    directory, _ = live("instrumented")
    rows = {row["name"]: row for row in query(directory / "handspan.db", "SELECT * FROM v_handler_invocations")}
    assert "in on_bad" in rows["bad"]["error_traceback"]
    assert rows["bad"]["error_message"] == "bad bulb"
    assert "in on_slow" in rows["slow"]["error_traceback"]
    assert rows["slow"]["error_message"] == "The deadline of 0.05 s passed."
    assert rows["own"]["error_message"] == "their own"
    assert "DependencyResolutionError" in rows["gone"]["error_traceback"]


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="where Hassette may be installed")
def test_without_hassette_the_error_says_what_is_needed(make):
    """A clear error at once, and nothing left behind."""
    from handspan.integrations import hassette

    for _ in range(2):
        with pytest.raises(HandspanError, match=r"hassette 0\.60"):
            hassette.instrument(make())
