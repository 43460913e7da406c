"""The command line as people and programs meet it: output, exit codes, and no surprises."""

import json
import os
import re
import shlex
import sqlite3
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import seeded
from handspan.cli import figures, main
from handspan.cli.app import app
from handspan.clock import instant_from_ns, to_ns
from handspan.store import schema
from seeded import DAY, HOUR, NOW, raw

AT = instant_from_ns(int(NOW) * 10**9)
REPORTS = ["status", "handlers", "jobs", "runs", "errors", "sessions", "losses", "incidents", "busy", "skips"]
ISO = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")

Run = Callable[..., tuple[int, str, str]]


CLOCKS = (
    "downtime",
    "failing",
    "schedule",
    "totals",
    "skips",
    "errors",
    "busy",
    "compare",
    "incidents",
    "maintenance",
    "pruning",
    "registered",
    "registration",
    "reports",
    "run_command",
    "runs_command",
    "roll",
    "run_command",
    "runs_command",
    "status",
)
"""Modules that ask what time it is."""


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """A known moment, a known width, a zone, a folder of its own."""
    for module in CLOCKS:
        monkeypatch.setattr(f"handspan.cli.{module}.now", lambda: AT)
    for name in ("NO_COLOR", "FORCE_COLOR", "HANDSPAN_DB", "HANDSPAN_DEBUG", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def house(tmp_path: Path) -> str:
    return seeded.build(tmp_path / "house.db")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command line: its exit code, stdout and stderr."""

    def call(*args: str) -> tuple[int, str, str]:
        code = main(list(args))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def flat(text: str) -> str:
    """A sentence, however it was wrapped."""
    return " ".join(text.split())


def document(run: Run, *args: str) -> Any:
    code, out, err = run(*args, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def keys_of(value: Any) -> Any:
    """The shape of a document: its keys, and one element of each list."""
    if isinstance(value, dict):
        return {key: keys_of(item) for key, item in value.items()}
    if isinstance(value, list):
        return [keys_of(value[0])] if value else []
    return None


# --- tables -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 60, 200])
@pytest.mark.parametrize("command", [*REPORTS, "failing", "totals", "schedule", "downtime"])
def test_no_line_is_wider_than_the_terminal(
    house: str, run: Run, monkeypatch: pytest.MonkeyPatch, command: str, width: int
) -> None:
    """Whatever names and messages hold, a row is one line and fits."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE listeners SET name = ?, topic = ? WHERE id = 1", ("n" * 300, "\u5bb6" * 200))
        conn.execute("UPDATE listeners SET name = ? WHERE id = 2", ("line\nbreak \x1b[31mred\x1b[0m \u202e",))
        conn.execute("UPDATE scheduled_jobs SET trigger_value = ? WHERE id = 1", ("t" * 300,))
        conn.execute("UPDATE services SET name = ? WHERE id = 1", ("s" * 300,))
        conn.execute("UPDATE sessions SET host = ?", ("h" * 300,))
        conn.execute("UPDATE handler_invocations SET error_message = ? WHERE status = 'error'", ("\u6f22 m\n" * 200,))
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = run(command, "--db", house)
    assert code == 0
    assert max(cell_len(line) for line in out.splitlines()) <= width
    assert "\x1b" not in out
    rows = {"handlers": 5, "jobs": 3, "runs": 20, "sessions": 4}
    if command in rows:
        assert len(out.splitlines()) - 1 >= rows[command]


@pytest.mark.parametrize("command", REPORTS)
def test_figures_are_never_cut(house: str, run: Run, command: str) -> None:
    """Texts give way to an ellipsis, figures stay whole."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE listeners SET name = 'averyveryverylongname', topic = 'averyveryverylongtopic.with.parts'")
    code, out, _ = run(command, "--db", house)
    assert code == 0
    assert not re.search(r"[\d,.]\N{HORIZONTAL ELLIPSIS}|\d{4}", re.sub(r"\b[0-9a-f]{8}\b|schema \d+|/.*", "", out))


def test_runs_table(house: str, run: Run) -> None:
    """Newest first, with what they were, how they ended, how long they took."""
    code, out, err = run("runs", "--limit", "3", "--db", house)
    assert (code, err) == (0, "")
    assert out.splitlines()[0].split() == ["started", "run", "of", "status", "took", "error", "trace"]
    assert [line.split()[-1] for line in out.splitlines()[1:4]] == [
        trace[:12]
        for (trace,) in raw(house, "SELECT trace_id FROM v_executions ORDER BY execution_start_ts DESC LIMIT 3")
    ]


def test_second_instance_and_service_are_told_apart(house: str, run: Run) -> None:
    """Registrations that share a name do not look the same."""
    _, out, _ = run("handlers", "--db", house, "--since", "7d")
    first = [line.split("  ")[0] for line in out.splitlines()[1:7]]
    assert len(set(first)) == 6, out
    assert "house/lights.on_motion #1" in first
    assert "garage/lights.on_motion" in first
    assert "house/old.on_thing (retired)" in first


@pytest.mark.parametrize("command", ["status", "handlers", "errors", "runs", "sessions", "roll", "export"])
def test_a_bit_flipped_in_a_text_does_not_silence_the_rest(house: str, run: Run, command: str) -> None:
    """No check of SQLite's sees it; it is shown as what it is, beside all that is well."""
    with closing(sqlite3.connect(house)) as conn:
        for table, column in (("listeners", "name"), ("sessions", "host"), ("error_groups", "message")):
            conn.execute(f"UPDATE {table} SET {column} = CAST(x'41ff80' AS TEXT) WHERE id = 1")
        conn.execute("UPDATE handler_invocations SET error_message = CAST(x'41ff80' AS TEXT) WHERE status = 'error'")
        conn.commit()
    code, out, err = run(command, "--db", house)
    assert (code, err) == (0, "")
    assert out


EXTREMES = ["0001-01-02", "1970-01-01", "9999-12-31", "9999-12-31T23:59:59.999999", f"{'9' * 400}s", "0s", "inf", "nan"]


@pytest.mark.parametrize("command", ["status", "handlers", "errors", "runs", "roll", "skips", "losses"])
@pytest.mark.parametrize("option", ["--since", "--until"])
@pytest.mark.parametrize("when", [pytest.param(when, id=when[:12]) for when in EXTREMES])
def test_a_time_from_the_ends_of_the_calendar_is_no_bug(
    house: str, run: Run, command: str, option: str, when: str
) -> None:
    """It is answered, or refused with what would do."""
    other = {"--since": [], "--until": ["--since", "1970-01-01"]}[option]
    code, _, err = run(command, option, when, *other, "--db", house)
    assert code in (0, 2)
    assert "bug" not in err


def test_rows_from_the_ends_of_the_calendar_are_shown(house: str, run: Run) -> None:
    """A clock that nobody set, or a flipped bit."""
    with closing(sqlite3.connect(house)) as conn:
        conn.execute("UPDATE handler_invocations SET execution_start_ts = 1e18 WHERE id = 1")
        conn.execute("UPDATE handler_invocations SET execution_start_ts = 9e999 WHERE id = 2")
        conn.execute("UPDATE handler_invocations SET execution_start_ts = -1e18 WHERE id = 3")
        conn.commit()
    for command in (["runs"], ["runs", "--json"], ["slow"], ["status"], ["errors"]):
        code, _, err = run(*command, "--db", house)
        assert (code, err) == (0, "")


@pytest.mark.parametrize("command", [["handler"], ["runs", "--handler"], ["run"], ["errors", "--app"], ["sql"]])
def test_an_argument_that_is_no_text(house: str, run: Run, command: list[str]) -> None:
    """Python hands undecodable bytes over as lone surrogates, which SQLite does not take."""
    code, _, err = run(*command, "\udcff\udcfe", "--db", house)
    assert code == 2
    assert "bug" not in err


def colours(out: str) -> set[str]:
    return set(re.findall(r"\x1b\[([\d;]+)m", out)) - {"0"}


def test_colour_on_a_terminal_only(house: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Red and pale where somebody looks, nothing in a pipe, no colour with NO_COLOR."""
    _, piped, _ = run("errors", "--db", house)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    _, terminal, _ = run("errors", "--db", house)
    monkeypatch.setenv("NO_COLOR", "1")
    _, plain, _ = run("errors", "--db", house)
    assert colours(piped) == set()
    assert "31" in colours(terminal)
    assert "2" in colours(terminal)
    assert colours(plain) <= {"2"}
    assert re.sub(r"\x1b\[[\d;]+m", "", terminal) == piped


# --- JSON -------------------------------------------------------------------------------------------------

RUN_KEYS = dict.fromkeys(
    ["kind", "id", "service", "app_key", "instance_index", "name", "trigger", "status", "started_at", "duration_ms",
     "error_type", "error_message", "trace_id", "span_id", "session_id"]
)  # fmt: skip
ACTIVITY_KEYS = dict.fromkeys(
    ["runs", "successes", "errors", "dependency_failures", "timeouts", "interrupted", "cancelled", "late", "total_ms",
     "avg_ms", "min_ms", "max_ms", "p50_ms", "p95_ms", "p99_ms", "max_delay_ms", "last_error_before"]
)  # fmt: skip
WINDOW_KEYS = dict.fromkeys(["since", "until"])
LAST_ERROR_KEYS = dict.fromkeys(["started_at", "error_type", "error_message"])
ERROR_KEYS = dict.fromkeys(
    ["id", "kind", "registration_id", "service", "app_key", "instance_index", "name", "error_type", "error_message",
     "count", "last_seen_at", "frame", "message", "state", "new", "by_hour", "total", "first_seen_at", "resolved_at",
     "regressed_at"]
) | {"trend": {"start": None, "step_s": None, "counts": [None]}}  # fmt: skip
SESSION_KEYS = dict.fromkeys(
    ["id", "service", "instance_id", "state", "recovered", "started_at", "last_heartbeat_at", "ended_at", "duration_s",
     "service_version",
     "handspan_version", "python_version", "host", "pid", "running", "lost", "counts"]
)  # fmt: skip
FAILURE_KEYS = dict.fromkeys(["errors", "dependency_failures", "timeouts", "interrupted", "cancelled"])
KIND_KEYS = {
    "registered": None,
    "active": None,
    "runs": None,
    "last_run_at": None,
    "failures": FAILURE_KEYS,
    "avg_ms": None,
    "late": None,
}

FIGURE_KEYS = dict.fromkeys(["value", "unit", "runs"])
VERDICT_KEYS = {
    **dict.fromkeys(["words", "basis", "more"]), "remarks": [],
    "looked": dict.fromkeys(["handlers", "jobs", "runs", "since", "until", "habit_days", "began"]),
    "findings": [{
        **dict.fromkeys(["rule", "severity", "kind", "id", "service", "app_key", "instance_index", "name", "session_id",
                         "since", "until", "words", "see", "weight"]), "now": FIGURE_KEYS, "habit": FIGURE_KEYS}],
}  # fmt: skip
INCIDENT_KEYS = dict.fromkeys(["id", "kind", "service", "session_id", "started_at", "ended_at", "detail", "count"])

DOCUMENTS: dict[str, Any] = {
    "incidents": {"since": None, "until": None, "incidents": [INCIDENT_KEYS], "more": None},
    "status": {"since": None, "until": None, "verdict": VERDICT_KEYS, "status": {
        "store": dict.fromkeys(["path", "schema_revision", "size_bytes", "live_bytes"]),
        "handlers": KIND_KEYS, "jobs": KIND_KEYS, "running": None, "sessions": [SESSION_KEYS], "errors": [ERROR_KEYS],
        "losses": [dict.fromkeys(["stage", "kind", "reason", "count", "last_hour"])],
        "incidents": [INCIDENT_KEYS],
        "set_aside": [], "abandoned_journals": None, "last_hour": ACTIVITY_KEYS}},
    "handlers": {"since": None, "until": None, "window": WINDOW_KEYS, "more": None, "handlers": [{
        **dict.fromkeys(["id", "service", "app_key", "instance_index", "name", "topic", "handler_method", "debounce",
                         "throttle", "once", "priority", "predicate_description", "source_location",
                         "first_registered_at", "retired_at", "last_run_at"]), "last_error": LAST_ERROR_KEYS,
        "activity": ACTIVITY_KEYS, "before": ACTIVITY_KEYS}]},
    "jobs": {"since": None, "until": None, "window": WINDOW_KEYS, "more": None, "jobs": [{
        **dict.fromkeys(["id", "service", "app_key", "instance_index", "name", "handler_method", "trigger_type",
                         "trigger_value", "repeat", "args_json", "kwargs_json", "source_location",
                         "first_registered_at", "retired_at", "next_run_at", "last_run_at"]),
        "last_error": LAST_ERROR_KEYS,
        "activity": ACTIVITY_KEYS, "before": ACTIVITY_KEYS}]},
    "busy": {"since": None, "until": None, "resolution_s": None, "window": WINDOW_KEYS, "buckets": [{
        **dict.fromkeys(["started_at", "runs", "errors"]),
        "registrations": [dict.fromkeys(["kind", "registration_id", "service", "app_key", "instance_index", "name",
                                         "runs", "errors"])]}]},
    "runs": {"since": None, "until": None, "runs": [RUN_KEYS], "more": None, "after": None, "looked_back_to": None},
    "errors": {"since": None, "until": None, "groups": [ERROR_KEYS], "more": None, "pending": None,
               "recent": [RUN_KEYS]},
    "sessions": {"since": None, "until": None, "more": None, "sessions": [
        {**SESSION_KEYS, "counts": dict.fromkeys(["runs", "errors", "interrupted"])}]},
    "losses": {**dict.fromkeys(["since", "until", "total", "pruned", "abandoned_journals", "entries"]), "losses": [
        dict.fromkeys(["hour", "service", "session_id", "instance_id", "stage", "kind", "reason", "count"])]},
    "skips": {"since": None, "until": None, "entries": None,
              "by_registration": [dict.fromkeys(["kind", "service", "app_key", "instance_index", "name", "reason",
                                                 "words", "count", "first_at", "last_at", "registration_id"])],
              "totals": [dict.fromkeys(["reason", "words", "count", "first_at", "last_at"])],
              "skips": [dict.fromkeys(["hour", "kind", "service", "app_key", "instance_index", "name", "reason",
                                       "words", "count", "first_at", "last_at", "registration_id", "session_id"])]},
}  # fmt: skip


@pytest.mark.parametrize("command", REPORTS)
def test_json_has_these_keys(house: str, run: Run, command: str) -> None:
    """Programs rely on them: a change here is a change of the interface."""
    assert keys_of(document(run, command, "--db", house)) == DOCUMENTS[command]


def test_a_closed_stdout_still_has_an_exit_code(house: str) -> None:
    """``handspan runs >&-`` prints nowhere, and is no bug of ours."""
    command = f"exec {shlex.quote(sys.executable)} -m handspan.cli runs --db {shlex.quote(house)} >&-"
    done = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_json_values(house: str, run: Run) -> None:
    """ISO 8601 times, hex ids, the newest run as it is in the table."""
    newest = document(run, "runs", "--db", house, "--limit", "1")["runs"][0]
    trace, span, start = raw(
        house, "SELECT trace_id, span_id, execution_start_ts FROM v_executions ORDER BY execution_start_ts DESC LIMIT 1"
    )[0]
    assert (newest["trace_id"], newest["span_id"]) == (trace, span)
    assert ISO.fullmatch(newest["started_at"])
    assert datetime.fromisoformat(newest["started_at"]).timestamp() == start


def test_json_knows_no_infinity(house: str, run: Run) -> None:
    """What JSON has no number for is null, never an invalid document."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE handler_invocations SET duration_ms = 9e999")
    found = document(run, "runs", "--db", house, "--handler", "*", "--limit", "1")
    assert found["runs"][0]["duration_ms"] is None


def test_json_of_one_error(house: str, run: Run) -> None:
    """Likewise."""
    assert keys_of(document(run, "error", "4", "--db", house)) == {"since": None, "until": None, "error": {
        "group": ERROR_KEYS, "sample_trace_id": None, "sample_span_id": None, "traceback": None,
        "sessions": [dict.fromkeys(["session_id", "service_version", "started_at", "count", "or_more"])],
        "runs": {"runs": [RUN_KEYS], "after": dict.fromkeys(["started_at", "kind", "id"])}}}  # fmt: skip


# --- options ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("since", "epoch"),
    [
        pytest.param("15m", NOW - 15 * 60, id="minutes"),
        pytest.param("6h", NOW - 6 * HOUR, id="hours"),
        pytest.param("1.5d", NOW - 36 * HOUR, id="days and a half"),
        pytest.param("7D", NOW - 7 * DAY, id="capital"),
        pytest.param("2026-05-28T12:00:00Z", 1779969600.0, id="time with a zone"),
        pytest.param("2026-05-28T14:00+02:00", 1779969600.0, id="another zone"),
        pytest.param("2026-05-28", datetime(2026, 5, 28).timestamp(), id="date of this machine"),
        pytest.param("restart", NOW - 6 * HOUR, id="restart"),
    ],
)
def test_since(house: str, run: Run, since: str, epoch: float) -> None:
    """Each way to say when selects the runs from that moment on."""
    found = document(run, "runs", "--db", house, "--since", since, "--limit", "1000")
    ((wanted,),) = raw(house, "SELECT count(*) FROM v_executions WHERE execution_start_ts >= ?", epoch)
    assert len(found["runs"]) == wanted


@pytest.mark.parametrize("since", ["yesterday", "", "5", "-3h", "2026-13-01", "99999999999d", "0001-01-01T00:00+23:00"])
def test_since_that_means_nothing(house: str, run: Run, since: str) -> None:
    """One line that shows what does."""
    code, out, err = run("runs", "--db", house, f"--since={since}")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "--since" in err


def test_database_from_the_environment(house: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """--db wins over HANDSPAN_DB, which wins over handspan.db."""
    assert run("db", "path")[1] == f"{Path.cwd()}/handspan.db\n"
    monkeypatch.setenv("HANDSPAN_DB", house)
    assert run("db", "path")[1] == f"{house}\n"
    assert run("db", "path", "--db", "/other.db")[1] == "/other.db\n"
    assert document(run, "runs")["runs"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        pytest.param(["runs", "--handler", "on_pusch"], "did you mean flaky.on_push?", id="misspelt"),
        pytest.param(["runs", "--handler", "flaky.on_pusch"], "did you mean flaky.on_push?", id="misspelt in full"),
        pytest.param(["runs", "--job", "zzz"], "`handspan jobs` lists them", id="nothing like it"),
        pytest.param(["runs", "--status", "failed"], "--status", id="unknown status"),
        pytest.param(["runs", "--limit", "0"], "--limit", id="limit of nothing"),
        pytest.param(["runs", "--limit", "999999"], "--limit", id="limit of everything"),
        pytest.param(["runs", "--nonsense"], "--nonsense", id="unknown option"),
        pytest.param(["error", "99"], "`handspan errors` lists them", id="unknown error"),
        pytest.param(["error", "99", "--resolve"], "`handspan errors` lists them", id="unknown error to resolve"),
        pytest.param(["error", "1", "--resolve", "--reopen"], "exclude each other", id="both"),
        pytest.param(["errors", "--since", "1h", "--until", "2h"], "--until", id="ends before it begins"),
        pytest.param(["errors", "--state", "shut"], "--state", id="unknown state"),
        pytest.param(["nonsense"], "nonsense", id="unknown command"),
        pytest.param(["db", "nonsense"], "nonsense", id="unknown db command"),
    ],
)
def test_usage_errors(house: str, run: Run, monkeypatch: pytest.MonkeyPatch, args: list[str], says: str) -> None:
    """A slip of the pen costs one line, which helps."""
    monkeypatch.setenv("HANDSPAN_DB", house)
    code, out, err = run(*args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert err.startswith("handspan: ")


@pytest.mark.parametrize("args", [[], ["--help"], ["db"], ["runs", "-h"]], ids=["bare", "help", "db", "of a command"])
def test_help(run: Run, args: list[str]) -> None:
    """Asking for nothing shows what there is, and is no error."""
    code, out, err = run(*args)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: handspan")


# --- nothing to show ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", REPORTS)
def test_empty_file_says_what_to_do(tmp_path: Path, run: Run, command: str) -> None:
    """Before the first run there is a sentence instead of an empty table."""
    path = seeded.build(tmp_path / "empty.db", rows=False)
    code, out, err = run(command, "--db", path)
    assert (code, err) == (0, "")
    assert "handspan demo" in flat(out) or "--since" in flat(out)


def test_window_without_runs_names_the_newest(house: str, run: Run) -> None:
    """An empty window says how far back to look."""
    _, out, _ = run("runs", "--db", house, "--since", "1m")
    assert flat(out) == "Nothing ran in the last 1 m. The newest run of all was 19 m ago: a wider --since shows more."


@pytest.mark.parametrize("command", REPORTS)
def test_missing_file(tmp_path: Path, run: Run, command: str) -> None:
    """Looking never makes a file."""
    code, out, err = run(command, "--db", str(tmp_path / "none.db"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "There is no file at" in err
    assert "handspan demo" in err
    assert list(tmp_path.iterdir()) == []


# --- status ---------------------------------------------------------------------------------------------------


def test_status_tells_what_failed(house: str, run: Run) -> None:
    """After the verdict, a sentence in figures that are in the rows."""
    since = NOW - DAY
    ((runs, errors),) = raw(
        house, "SELECT count(*), sum(status = 'error') FROM v_executions WHERE execution_start_ts >= ?", since
    )
    _, out, _ = run("status", "--db", house)
    assert f"{errors} of {runs} runs failed in the last 24 h; the last " in out
    assert "recording  house 1.1 for 6 h, pid 104 on elsewhere" in out
    assert "19 records, most for queue_full" in out


def at_peace(house: str) -> None:
    """Nothing failed, nothing was lost, nothing is silent."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE handler_invocations SET status = 'success'")
        conn.execute("UPDATE job_executions SET status = 'success'")
        conn.execute("UPDATE rollups SET errors = 0")
        conn.execute("DELETE FROM losses")
        conn.execute("UPDATE scheduled_jobs SET retired_at = 1")


def test_status_when_all_is_well(house: str, run: Run) -> None:
    """The best line of all, and what it was taken from."""
    at_peace(house)
    code, out, _ = run("status", "--db", house)
    assert (code, out.splitlines()[0]) == (0, "Nothing needs a look since 20:00 yesterday.")
    assert "Looked at 5 handlers and 0 jobs, " in flat(out)
    assert "Nothing failed in the last 24 h." in out


def test_check_is_for_monitoring(house: str, run: Run) -> None:
    """Exit code 1 and the findings alone when something needs a look, 0 and one sentence when not, 2 for trouble."""
    code, out, _ = run("status", "--check", "--db", house)
    assert code == 1
    assert "12 records did not reach the store since 18:26 today" in flat(out)
    assert "registered" not in out
    at_peace(house)
    code, out, _ = run("status", "--check", "--db", house)
    assert (code, out.splitlines()[0]) == (0, "Nothing needs a look since 20:00 yesterday.")
    assert run("status", "--check", "--db", f"{house}.none")[0] == 2


def test_check_looks_at_the_time_that_is_asked_for(house: str, run: Run) -> None:
    """What was lost two hours ago is no finding of the last hour."""
    code, out, _ = run("status", "--check", "--since", "1h", "--db", house)
    assert "did not reach" not in out
    assert code == 1  # the job that fell silent is still silent


def test_the_verdict_can_be_told_to_be_silent(house: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """By rule and by name, from the environment; a value that makes no sense names its variable."""
    monkeypatch.setenv("HANDSPAN_VERDICT_IGNORE", "losses,gone_quiet:energy.*")
    assert run("status", "--check", "--db", house)[0] == 0
    monkeypatch.setenv("HANDSPAN_VERDICT_HABIT_DAYS", "many")
    code, out, err = run("status", "--db", house)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "HANDSPAN_VERDICT_HABIT_DAYS" in err


def test_a_misspelt_variable_is_told(house: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the name that was meant: it would otherwise do nothing, silently."""
    monkeypatch.setenv("HANDSPAN_RETENTION_DAYS", "3")
    _, out, _ = run("status", "--db", house)
    assert flat(out).startswith(
        "HANDSPAN_RETENTION_DAYS is no setting, and nothing reads it. Did you mean HANDSPAN_DB_RETENTION_DAYS?"
    )


def test_status_before_the_first_commit_was_recovered(tmp_path: Path, run: Run) -> None:
    """A process that died before it committed anything left a journal: that is not nothing."""
    path = seeded.build(tmp_path / "empty.db", rows=False)
    sidecar = Path(f"{path}.handspan")
    sidecar.mkdir()
    (sidecar / "gone.journal").write_bytes(b"12345")
    _, out, _ = run("status", "--db", path)
    assert "a process that died before its first commit left its journal" in flat(out)
    code, out, _ = run("status", "--check", "--db", path)
    assert (code, "handspan db recover" in out) == (1, True)


def test_incidents(house: str, run: Run) -> None:
    """Newest first, cut where asked, the reason before the path, and open ones say so."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        seeded.put(
            conn,
            "incidents (session_id, started_at, ended_at, kind, detail, count)",
            [(4, NOW - 60, None, "journal_suspended", "/a/very/long/path/to.journal: No space left", None)],
        )
    _, out, _ = run("incidents", "--db", house)
    first = out.splitlines()[1].split(maxsplit=5)
    assert first[0] == "journal_suspended"
    assert first[4] == "open"
    assert first[5].startswith("No space left (/a/very")
    found = document(run, "incidents", "--db", house, "--limit", "1")
    assert ([each["kind"] for each in found["incidents"]], found["more"]) == (["journal_suspended"], True)
    assert "This is the newest one" in run("incidents", "--db", house, "--limit", "1")[1]
    assert "Nothing happened to recording" in run("incidents", "--db", house, "--since", "1s")[1]


def test_status_of_a_crash(house: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead process nobody has noticed yet is said in words."""
    monkeypatch.setattr("handspan.store.queries.sessions.socket.gethostname", lambda: "elsewhere")
    lock = Path(f"{house}.handspan/fourth.lock")
    lock.parent.mkdir()
    lock.touch()
    _, out, _ = run("status", "--db", house)
    assert "the last session crashed, not yet recovered" in flat(out)
    assert "crashed, not yet recovered" in run("sessions", "--db", house)[1].splitlines()[1] or "crashed" in out


# --- errors ---------------------------------------------------------------------------------------------------


def test_errors_that_are_none(house: str, run: Run) -> None:
    """Why the answer is empty, and what to do."""
    assert flat(run("errors", "--db", house, "--since", "1m")[1]) == (
        "Nothing failed in the last 1 m. A wider --since may show more."
    )
    assert "No error matches" in run("errors", "--db", house, "--name", "none")[1]


def test_a_list_of_errors_says_that_it_was_cut(house: str, run: Run) -> None:
    """And how to see the rest."""
    _, out, _ = run("errors", "--db", house, "--since", "7d", "--limit", "2")
    assert "These are the first 2: --limit shows more" in flat(out)
    assert document(run, "errors", "--db", house, "--since", "7d", "--limit", "2")["more"] is True
    assert document(run, "errors", "--db", house, "--since", "7d")["more"] is False


def test_errors_while_older_ones_are_still_grouped(house: str, run: Run) -> None:
    """Figures that will grow say so."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("INSERT INTO backfills VALUES ('job_executions', 1, 2)")
    assert "still being grouped" in flat(run("errors", "--db", house)[1])


@pytest.mark.parametrize("width", [80, 60])
def test_one_error_with_hostile_texts(house: str, run: Run, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    """Nothing of it reaches the terminal as it is, and no line is wider than that but for a path."""
    text = (
        "Traceback (most recent call last):\n" + '  File "a.py", line 1, in f\n    x = "\x1b[31m" ' + "w " * 300 + "\n"
    )
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE tracebacks SET text = ?", (text * 100,))
        conn.execute("UPDATE error_groups SET sample_message = ?, frame = ?", ("\u6f22 \x1b[2J m\n" * 900, "f " * 200))
        conn.execute("UPDATE handler_invocations SET error_message = ?", ("\x1b]0;title\x07 " * 90,))
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = run("error", "5", "--db", house)
    assert code == 0
    assert "\x1b" not in out
    assert "lines not shown" in out
    assert max(cell_len(line) for line in out.splitlines()) <= width


def test_one_error_whose_runs_are_pruned(house: str, run: Run) -> None:
    """The group stays, and says why it shows no run."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("DELETE FROM handler_invocations")
    code, out, _ = run("error", "4", "--db", house)
    assert code == 0
    assert "None of its runs is stored any more" in flat(out)
    assert "14 times ever" in out


@pytest.mark.parametrize(
    ("group", "says"),
    [(1, "once, 2 d ago"), (4, "since 3 d ago"), (3, "came back"), (7, "not seen in a run that started later")],
    ids=["once", "open", "regressed", "resolved"],
)
def test_one_error_says_how_it_stands(house: str, run: Run, group: int, says: str) -> None:
    """In the first sentence."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE error_groups SET resolved_at = ? WHERE id IN (3, 7)", (NOW - 4 * DAY,))
        conn.execute("UPDATE error_groups SET regressed_at = last_seen_at WHERE id = 3")
    assert says in flat(run("error", str(group), "--db", house)[1].split("\n\n")[0])


def test_resolving_makes_no_file(tmp_path: Path, run: Run) -> None:
    """A wrong path is an error here, too."""
    code, out, err = run("error", "1", "--resolve", "--db", str(tmp_path / "none.db"))
    assert (code, out) == (2, "")
    assert "There is no file at" in err
    assert list(tmp_path.iterdir()) == []


# --- db -------------------------------------------------------------------------------------------------------


def test_upgrade_of_a_current_file(house: str, run: Run) -> None:
    """Says that there was nothing to do."""
    code, out, _ = run("db", "upgrade", "--db", house)
    assert code == 0
    assert "is up to date" in flat(out)
    head = schema.head_revision(schema.migrations_dir())
    assert document(run, "db", "upgrade", "--db", house) == {"path": house, "from": head, "to": head, "backup": None}


def test_upgrade_says_what_it_did(house: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """From where, to where, and where the copy is."""

    def open_newer(path: str, *, busy_timeout: float) -> sqlite3.Connection:
        conn = sqlite3.connect(path, isolation_level=None)
        conn.execute("UPDATE alembic_version SET version_num = '0999'")
        return conn

    monkeypatch.setattr("handspan.cli.maintenance.open_for_writing", open_newer)
    _, out, _ = run("db", "upgrade", "--db", house)
    assert "from schema 0003 to 0999" in flat(out)
    assert f"{house}.backup" in "".join(out.split())


@pytest.mark.parametrize("command", ["upgrade", "check", "recover", "backup", "prune"])
def test_db_commands_never_make_a_file(tmp_path: Path, run: Run, command: str) -> None:
    """A wrong path is an error, not a new database."""
    code, out, err = run("db", command, "--db", str(tmp_path / "none.db"))
    assert (code, out) == (2, "")
    assert "There is no file at" in err
    assert list(tmp_path.iterdir()) == []


def test_check(house: str, run: Run) -> None:
    """Sound is 0; damaged is 1, with what is wrong."""
    head = schema.head_revision(schema.migrations_dir())
    assert document(run, "db", "check", "--db", house) == {
        "path": house, "sound": True, "damage": [], "schema_revision": head, "notes": [],
    }  # fmt: skip
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("DELETE FROM scheduled_jobs")
    code, out, err = run("db", "check", "--db", house)
    assert (code, err) == (1, "")
    assert "job_executions row 1 has no parent in scheduled_jobs" in out


def test_check_of_a_file_that_cannot_even_be_opened(house: str, run: Run) -> None:
    """Damage of the first page is damage too, and not a usage error."""
    content = bytearray(Path(house).read_bytes())
    content[100:4096] = b"\xff" * 3996
    Path(house).write_bytes(content)
    code, out, _ = run("db", "check", "--db", house)
    assert code == 1
    assert "is damaged" in flat(out)


def test_check_of_what_lies_beside(house: str, run: Run) -> None:
    """Files set aside and what dead processes left are told, and are no damage of this file."""
    aside = Path(f"{house}.corrupt-20260524T202640Z")
    aside.write_bytes(b"x")
    Path(f"{aside}-wal").write_bytes(b"x")
    sidecar = Path(f"{house}.handspan")
    sidecar.mkdir()
    (sidecar / "fourth.lock").touch()
    (sidecar / "fourth.journal").write_bytes(b"12345")
    for number in range(1, 5):
        (sidecar / f"third.0000000{number}.journal.unread").write_bytes(b"?")
    found = document(run, "db", "check", "--db", house)
    assert found["sound"] is True
    assert found["notes"] == [
        f"A damaged file was set aside as {aside}.",
        "1 of 1 session locks are of processes that are gone.",
        "1 journal file (5 bytes) of processes that are gone waits to be read back.",
        "The next start of an application takes care of them; `handspan db recover` does it now.",
        (
            f"4 journal files in {sidecar} could not be read, damaged or of a newer handspan, and are kept: "
            "third.00000001.journal.unread, third.00000002.journal.unread, third.00000003.journal.unread and more. "
            "Renamed back to .journal, the next start tries them again."
        ),
    ]
    assert f"A damaged file was set aside as {aside}." in flat(run("status", "--db", house)[1])
    assert document(run, "status", "--db", house)["status"]["set_aside"] == [str(aside)]


def test_check_finds_what_no_page_shows(house: str, run: Run) -> None:
    """A session that ended and still runs something; a loss of less than one."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("PRAGMA ignore_check_constraints = ON")
        conn.execute("UPDATE running SET session_id = 1")
        conn.execute("UPDATE registration_holders SET session_id = 2 WHERE kind = 'job'")
        conn.execute("UPDATE losses SET count = -3 WHERE id = 2")
    code, out, _ = run("db", "check", "--db", house)
    assert code == 1
    assert "session first has ended, and 1 of its commands count as running" in flat(out)
    assert "session second has ended, and holds 1 registrations" in flat(out)
    assert "losses row 2 makes no sense: -3 lost" in flat(out)


def test_check_of_ours_without_a_beginning_and_of_a_text(house: str, run: Run, tmp_path: Path) -> None:
    """The first is damage, with its cure; the second is nobody's database, and an error."""
    content = bytearray(Path(house).read_bytes())
    content[:100] = bytes(100)
    Path(house).write_bytes(content)
    code, out, _ = run("db", "check", "--db", house)
    assert code == 1
    assert "its beginning is gone" in out
    assert f"`handspan db salvage {house} --into NEW.db`" in flat(out).replace("db salvage /", "db salvage /")
    text = tmp_path / "notes.txt"
    text.write_text("notes\n" * 1000)
    assert run("db", "check", "--db", str(text))[0] == 2


def test_salvage(house: str, run: Run, tmp_path: Path) -> None:
    """What was saved of each table; nothing is overwritten; a text is no damaged database."""
    target = str(tmp_path / "saved.db")
    found = document(run, "db", "salvage", house, "--into", target)
    assert {each["table"]: each["rows"] for each in found["tables"]}["handler_invocations"] == 300
    interrupted, *others = document(run, "runs", "--db", target)["runs"]
    assert interrupted["error_type"] == "ProcessInterrupted"  # what ran when the file was left
    assert others == document(run, "runs", "--db", house)["runs"][:-1]
    code, _, err = run("db", "salvage", house, "--into", target)
    assert code == 2
    assert "exists already" in err
    (tmp_path / "notes.txt").write_text("notes\n")
    code, _, err = run("db", "salvage", str(tmp_path / "notes.txt"), "--into", str(tmp_path / "x.db"))
    assert code == 2
    assert not (tmp_path / "x.db").exists()


def test_losses(house: str, run: Run) -> None:
    """Entry by entry, newest first, and the sum of all of them, shown or not."""
    found = document(run, "losses", "--db", house, "--limit", "1")
    assert [(each["reason"], each["count"]) for each in found["losses"]] == [("queue_full", 12)]
    assert (found["total"], found["entries"]) == (21, 3)
    assert document(run, "losses", "--db", house, "--since", "1d")["total"] == 19
    _, out, _ = run("losses", "--db", house, "--limit", "1")
    assert "This is the newest one of 3" in flat(out)


def test_backup(house: str, run: Run, tmp_path: Path) -> None:
    """A copy that can be read, beside the file or where it was asked for; nothing is overwritten."""
    made = document(run, "db", "backup", "--db", house)
    assert re.fullmatch(re.escape(house) + r"\.backup-\d{8}-\d{6}", made["target"])
    assert made["size_bytes"] == Path(made["target"]).stat().st_size
    assert raw(made["target"], "SELECT count(*) FROM handler_invocations") == [(300,)]
    target = str(tmp_path / "copy.db")
    assert run("db", "backup", target, "--db", house)[0] == 0
    before = Path(target).read_bytes()
    code, _, err = run("db", "backup", target, "--db", house)
    assert code == 2
    assert "exists already" in err
    assert Path(target).read_bytes() == before
    code, _, err = run("db", "backup", str(tmp_path / "no" / "copy.db"), "--db", house)
    assert code == 2
    assert "cannot be written" in err


def test_prune(house: str, run: Run) -> None:
    """What is older goes, what is not stays, and it is said."""
    ((old,),) = raw(house, "SELECT count(*) FROM v_executions WHERE execution_start_ts < ?", NOW - 2 * DAY)
    assert document(run, "db", "prune", "--db", house, "--days", "2")["rows"] == old
    assert raw(house, "SELECT min(execution_start_ts) >= ? FROM v_executions", NOW - 2 * DAY) == [(1,)]
    code, out, _ = run("db", "prune", "--db", house, "--days", "2")
    assert code == 0
    assert "no run is older than 2 days" in flat(out)


@pytest.mark.parametrize("limits", [["--days", "2"], ["--max-mb", "1"], ["--days", "3.5", "--max-mb", "1"]])
def test_what_a_dry_run_says_is_what_a_prune_then_does(house: str, run: Run, limits: list[str]) -> None:
    """By table, registration and reason; and until then not a byte of the file has changed, nor is one beside it."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE handler_invocations SET attributes = ?", ("a" * 4000,))
        conn.execute("UPDATE scheduled_jobs SET last_registered_at = 1, retired_at = 1")
        seeded.put(
            conn, "spans (session_id, trace_id, span_id, name, kind, start_ns, duration_ns, status)",
            [(1, n.to_bytes(4, "big") * 4, n.to_bytes(8, "big"), "GET", 0, int(NOW - 4 * DAY + n * 1000) * 10**9, 1,
              "ok") for n in range(300)],
        )  # fmt: skip
    before = Path(house).read_bytes()
    foreseen = document(run, "db", "prune", "--db", house, *limits, "--dry-run")
    code, out, _ = run("db", "prune", "--db", house, *limits, "--dry-run")
    assert code == 0
    assert flat(out).startswith(f"{foreseen['rows']:,} runs and {foreseen['spans']:,} spans would go, about ")
    assert Path(house).read_bytes() == before
    assert [path.name for path in Path(house).parent.iterdir()] == ["house.db"]
    done = document(run, "db", "prune", "--db", house, *limits)
    assert (foreseen["dry_run"], done["dry_run"]) == (True, False)
    assert foreseen["rows"] > 0
    assert foreseen["details"] == done["details"]
    assert (foreseen["rows"], foreseen["spans"]) == (done["rows"], done["spans"])
    losses = raw(house, "SELECT sum(count) FROM losses WHERE reason LIKE 'pruned%'")
    assert losses == [(done["rows"] + done["spans"],)]


def test_what_was_pruned_is_not_called_lost(house: str, run: Run) -> None:
    """It was stored, and kept as long as it was to be: `status` counts 19 lost, before and after."""
    before = document(run, "sessions", "--db", house, "--since", "7d")["sessions"]
    document(run, "db", "prune", "--db", house, "--days", "1")
    assert "19 records, most for queue_full" in flat(run("status", "--db", house)[1])
    after = document(run, "sessions", "--db", house, "--since", "7d")["sessions"]
    assert [session["lost"] for session in after] == [session["lost"] for session in before]


def test_a_dry_run_beside_a_writer(house: str, run: Run) -> None:
    """With somebody's -wal beside the file it reads with locks, and leaves what it found."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE sessions SET host = 'other'")
        names = {path.name for path in Path(house).parent.iterdir()}
        assert "house.db-wal" in names
        wal = Path(f"{house}-wal").read_bytes()
        assert document(run, "db", "prune", "--db", house, "--days", "2", "--dry-run")["rows"] > 0
        assert Path(f"{house}-wal").read_bytes() == wal
        assert {path.name for path in Path(house).parent.iterdir()} == names


def test_path_of_a_file_that_is_not_there(run: Run) -> None:
    """The path is known before the file is."""
    assert document(run, "db", "path", "--db", "x.db") == {"path": f"{Path.cwd()}/x.db", "exists": False}


# --- demo -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "called"),
    [
        pytest.param([], {"once": False, "speed": 6.0, "live": True}, id="as it is"),
        pytest.param(["--once", "--speed", "max"], {"once": True, "speed": None, "live": False}, id="once, at once"),
        pytest.param(["--live", "--speed", "1.5"], {"once": False, "speed": 1.5, "live": True}, id="live"),
    ],
)
def test_demo(run: Run, monkeypatch: pytest.MonkeyPatch, args: list[str], called: dict[str, Any]) -> None:
    """The demo gets what was asked, and its exit code is the command's."""
    calls: list[dict[str, Any]] = []
    module = types.ModuleType("handspan.demo.app")
    module.run_demo = lambda **options: calls.append(options) or 3  # type: ignore[attr-defined,func-returns-value]
    monkeypatch.setitem(sys.modules, "handspan.demo.app", module)
    code, _, _ = run("demo", "--db", "demo.db", *args)
    assert (code, calls) == (3, [{"db": "demo.db", **called}])


@pytest.mark.parametrize("speed", ["fast", "0", "-1", "nan", "inf"])
def test_demo_speed_that_is_none(run: Run, speed: str) -> None:
    """A speed is a number above zero, or max."""
    code, out, err = run("demo", f"--speed={speed}")
    assert (code, out) == (2, "")
    assert "--speed" in err


# --- ends -----------------------------------------------------------------------------------------------------


def test_interrupted(house: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C ends it without a word."""

    def interrupt(*args: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("handspan.cli.runs_command.ask", interrupt)
    assert run("runs", "--db", house) == (130, "", "")


def test_a_bug_is_one_line(house: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody foresaw still ends without a traceback, and says how to get one."""

    def fail(*args: object, **options: object) -> None:
        raise ZeroDivisionError("of all things")

    monkeypatch.setattr("handspan.cli.runs_command.ask", fail)
    code, out, err = run("runs", "--db", house)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "ZeroDivisionError: of all things" in err
    assert "HANDSPAN_DEBUG" in err
    monkeypatch.setenv("HANDSPAN_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        main(["runs", "--db", house])


@pytest.mark.parametrize("args", [["runs", "--json"], ["runs"], ["db", "path"], ["runs", "--help"]], ids=" ".join)
def test_closed_pipe(house: str, args: list[str]) -> None:
    """When nobody reads any more (`| head`), it ends without a word."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "handspan.cli", *args, *(["--db", house] if "--help" not in args else [])]
    try:
        ended = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(write)
    assert (ended.returncode, ended.stderr) == (1 if "--help" in args else 141, b"")


def test_terminal_without_utf8(house: str) -> None:
    """An old terminal gets its table too."""
    program = "import sys; from handspan.cli import main; sys.exit(main(sys.argv[1:]))"
    args = [sys.executable, "-X", "utf8=0", "-c", program, "errors", "--since", "2000-01-01", "--db", house]
    env = {"PYTHONIOENCODING": "ascii", "COLUMNS": "60", "PYTHONPATH": ":".join(sys.path), "PATH": "/usr/bin:/bin"}
    ended = subprocess.run(args, capture_output=True, timeout=60, check=False, env=env)
    assert (ended.returncode, ended.stderr) == (0, b"")
    assert ended.stdout.isascii()
    assert b"~" in ended.stdout


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_the_extra(missing: str) -> None:
    """One sentence says what to install."""
    program = f"import sys; sys.modules[{missing!r}] = None; from handspan.cli import main; sys.exit(main(['status']))"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)
    assert 'pip install "handspan[cli]"' in ended.stderr


def test_importing_the_package_is_cheap() -> None:
    """The entry point's module loads nothing of what the commands take."""
    program = (
        "import sys, handspan.cli; print([m for m in ('typer', 'rich', 'asyncio', 'sqlite3') if m in sys.modules])"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert ended.stdout == "[]\n"


# --- figures --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("milliseconds", "text"),
    [(None, "-"), (0, "0 µs"), (0.0004, "0.40 µs"), (0.45, "450 µs"), (0.9999, "1.00 ms"), (6.5, "6.50 ms"),
     (10.74, "10.7 ms"), (99.96, "100 ms"), (999.4, "999 ms"), (999.6, "1.00 s"),
     (1240, "1.24 s"), (59_949, "59.9 s"), (59_990, "1 m"),
     (125_000, "2 m 5 s"), (3_600_000, "1 h"), (90_061_000, "1 d 1 h")],
    ids=str,
)  # fmt: skip
def test_durations(milliseconds: float | None, text: str) -> None:
    """At most three significant digits, and the unit people say."""
    assert figures.took(milliseconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "now"), (0.9, "now"), (1, "1 s ago"), (59, "59 s ago"), (59.7, "1 m ago"), (61, "1 m ago"), (7199, "1 h ago"),
     (47 * 3600, "47 h ago"), (48 * 3600, "2 d ago"), (-300, "in 5 m"), (-0.5, "now")],
    ids=str,
)  # fmt: skip
def test_ago(seconds: float, text: str) -> None:
    """How long ago, in one unit."""
    moment = instant_from_ns(to_ns(AT) - round(seconds * 1e9))
    assert figures.ago(moment, AT) == text


@pytest.mark.parametrize(("octets", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (128_225_280, "128 MB"),
                                              (5 * 10**12, "5.00 TB")])  # fmt: skip
def test_sizes(octets: int, text: str) -> None:
    """Decimal units."""
    assert figures.size(octets) == text


# --- the documentation ------------------------------------------------------------------------------------------

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def commands() -> Iterator[tuple[str, Any]]:
    import typer

    root: Any = typer.main.get_command(app)
    for name, command in root.commands.items():
        if hasattr(command, "commands"):
            yield from ((f"{name} {inner}", each) for inner, each in command.commands.items())
        else:
            yield name, command


def test_every_command_and_option_is_documented() -> None:
    """docs/cli.md has a heading for each command, and names each of its options under it or for all."""
    shared, *sections = re.split(r"^## `handspan ([\w ]+)`$", DOCS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    documented = dict(zip(sections[::2], sections[1::2], strict=True))
    assert set(documented) == {name for name, _ in commands()}
    for name, command in commands():
        for parameter in command.params:
            spelled = [opt for opt in parameter.opts if opt.startswith("--")] or [parameter.name.upper()]
            for option in spelled:
                assert f"`{option}" in documented[name] or f"`{option}" in shared, f"handspan {name} {option}"


def steady_text(text: str) -> str:
    """Without what depends on SQLite's version or on the time zone."""
    text = re.sub(r"[\d.]+ kB", "180 kB", text)
    text = re.sub(r'("size_bytes"|"live_bytes"|"bytes"): \d+', r"\1: 1", text)
    return re.sub(r"\d{8}-\d{6}", "20260528-202640", text)


def test_examples_are_real(tmp_path: Path, run: Run) -> None:
    """Each example of docs/cli.md prints what it prints there, one after the other on one file."""
    seeded.build(tmp_path / "handspan.db")
    text = DOCS.read_text(encoding="utf-8")
    examples = re.findall(r"^```console\n\$ handspan ([^\n]*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(examples) >= 11
    for arguments, expected in examples:
        _, out, err = run(*arguments.split())
        assert steady_text(out + err).replace(str(tmp_path), "/srv/house") == steady_text(expected), arguments


def test_skips_of_one_handler_or_job(house: str, run: Run) -> None:
    """Each filter by itself, and all against plain SQL."""
    for option, kind, name in (("--handler", "handler", "on_motion"), ("--job", "job", "roll*")):
        found = document(run, "skips", "--db", house, option, name, "--since", "7d")
        assert {each["kind"] for each in found["skips"]} == {kind}
        (expected,) = raw(house, "SELECT sum(count), count(*) FROM v_skips WHERE kind = ? AND name GLOB ?", kind, name)
        assert (sum(each["count"] for each in found["totals"]), found["entries"]) == expected
    assert document(run, "skips", "--db", house, "--app", "energy", "--since", "2d")["entries"] == 2
    assert document(run, "skips", "--db", house, "--since", "2d", "--until", "5h")["entries"] == 1


def test_skips_of_nobody_and_of_the_unknown(house: str, run: Run) -> None:
    """An empty answer says what to do; a slip of the pen is told."""
    _, out, _ = run("skips", "--db", house, "--handler", "arrived")
    assert out.startswith("Nothing that matches was skipped in the last 24 h, as far as")
    _, out, _ = run("skips", "--db", house, "--since", "1s")
    assert "as far as is stored (counts are written every 30 s)." in " ".join(out.split())
    code, _, err = run("skips", "--db", house, "--job", "rollip")
    assert (code, "did you mean energy.rollup?" in err) == (2, True)


def test_skips_say_when_they_are_cut_and_of_whom_nothing_is_left(house: str, run: Run) -> None:
    """With a limit; and of a registration that was pruned."""
    with closing(sqlite3.connect(house)) as conn:
        conn.execute("UPDATE skips SET registration_id = 99 WHERE reason = 'down'")
        conn.commit()
    _, out, _ = run("skips", "--db", house, "--limit", "2", "--hourly")
    assert "These are the newest 2 of 4: --limit shows more." in out
    _, out, _ = run("skips", "--db", house, "--limit", "2")
    assert "These are the 2 with most: --limit shows more." in out
    _, out, _ = run("skips", "--db", house, "--limit", "3")
    assert "--limit shows more" not in out
    _, out, _ = run("skips", "--db", house, "--since", "2d")
    assert "job 99 (pruned)" in out
    assert all(cell_len(line) <= 80 for line in out.splitlines())


def test_sessions_show_service_and_version_whole_and_more_where_there_is_room(
    house: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 80 columns what a restart is told by; from 100 on the clock and the process, too."""
    narrow = run("sessions", "--db", house, "--since", "7d")[1]
    assert "process" not in narrow
    assert "house 1.1" in narrow
    assert "…" not in narrow
    monkeypatch.setenv("COLUMNS", "120")
    wide = run("sessions", "--db", house, "--since", "7d")[1]
    assert "104 on elsewhere" in wide
    assert re.search(r"6 h ago  \d\d:\d\d (today|yesterday) ", wide)


@pytest.mark.parametrize(("command", "column"), [("jobs", "job_name"), ("handlers", "name")])
def test_long_names_keep_their_end(house: str, run: Run, command: str, column: str) -> None:
    """What is before the last dot is the same in many rows."""
    table = "scheduled_jobs" if command == "jobs" else "listeners"
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute(f"UPDATE {table} SET app_key = 'automations.of.the.whole.house.and.garden.' || id")
        names = [name for (name,) in conn.execute(f"SELECT {column} FROM {table} WHERE id < 4")]
    out = run(command, "--db", house)[1]
    for name in names:
        assert re.search(rf"^\S*….*\.{name}( #\d)? ", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) <= 80


def test_nothing_moved_where_nothing_ran_before(house: str, run: Run) -> None:
    """The first day: a column of zeros would cost the names their room."""
    for command in ("jobs", "handlers"):
        assert "was" not in run(command, "--db", house, "--since", "30d")[1].splitlines()[0].split()
