"""``run``, ``trace``, ``runs``, ``slow``, ``running``, ``completion``: single runs from the command line."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len

import seeded
from handspan import __version__
from handspan.cli import main
from handspan.cli.waterfall import FULL, OPEN, SLIVER, bar
from handspan.clock import instant_from_ns
from handspan.store.queries import references
from handspan.store.statements import statements
from rolled import roll_up
from seeded import HOUR, NOW, raw

AT = instant_from_ns(int(NOW) * 10**9)
TRACE = bytes.fromhex("abcdef0123456789abcdef0123456789")
ROOT, PUBLISH, INNER, LOST = (bytes([n]) * 8 for n in (1, 2, 3, 9))
T0 = NOW - HOUR

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A known moment, a known width, a folder of its own."""
    for module in ("runs_command", "run_command"):
        monkeypatch.setattr(f"handspan.cli.{module}.now", lambda: AT)
    for name in ("NO_COLOR", "FORCE_COLOR", "HANDSPAN_DEBUG", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A job that published twice from a span inside it; what that triggered; what was logged; what still runs."""
    path = seeded.build(tmp_path / "house.db")
    columns = "session_id, execution_start_ts, duration_ms, status, trace_id, span_id, parent_span_id, link_trace_id, "
    columns += "link_span_id, error_type, error_message, traceback_id, attributes"
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        seeded.put(conn, f"job_executions (id, job_id, {columns}, scheduled_ts)", [
            (900, 1, 4, T0, 100.0, "success", TRACE, ROOT, None, None, None, None, None, None,
             '{"meter": "main", "kwh": 1.5}', T0 - 7)])  # fmt: skip
        seeded.put(conn, f"handler_invocations (id, listener_id, {columns}, queue_ms)", [
            (901, 3, 4, T0 + 0.02, 5.0, "error", b"\xab\xcd\xef\x02" + bytes(12), b"\x11" * 8, None, TRACE, INNER,
             "ValueError", "no bulb", 1, None, 2.5),
            (902, 3, 4, T0 + 0.03, 5.0, "success", b"\xab\xcd\xef\x03" + bytes(12), b"\x12" * 8, None, TRACE, PUBLISH,
             None, None, None, None, None),
            (903, 1, 4, T0 + 0.04, 5.0, "success", TRACE, b"\x13" * 8, INNER, b"\xee" * 16, b"\xee" * 8,
             None, None, None, None, None)])  # fmt: skip
        ns = int(T0 * 1e9)
        seeded.put(conn, "spans (session_id, trace_id, span_id, parent_span_id, name, kind, start_ns, duration_ns, "
                         "status, attributes, extra)", [
            (4, TRACE, PUBLISH, ROOT, "publish", 3, ns + 10_000_000, 80_000_000, "unset", None, None),
            (4, TRACE, INNER, PUBLISH, "GET /x", 2, ns + 15_000_000, 20_000_000, "error", '{"error.type": "500"}',
             "{}"),
            (4, TRACE, LOST, b"\x77" * 8, "orphan", 0, ns + 95_000_000, 1, "ok", None, None)])  # fmt: skip
        seeded.put(conn, "log_records (session_id, trace_id, run_span_id, span_id, logged_at, level, logger, "
                         "message)", [
            (4, TRACE, ROOT, None, T0 + 0.001, 20, "energy", "reading"),
            (4, TRACE, ROOT, INNER, T0 + 0.016, 40, "http", "answered\n500 \x1b[31m")])  # fmt: skip
        roll_up(conn)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    monkeypatch.setenv("HANDSPAN_DB", path)
    return path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """A command line: its exit code, stdout and stderr."""

    def call(*args: str) -> tuple[int, str, str]:
        code = main(list(args))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def flat(text: str) -> str:
    return " ".join(text.split())


def document(run: Run, *args: str) -> Any:
    code, out, err = run(*args, "--json")
    assert (code, err) == (0, ""), err
    return json.loads(out)


# --- run ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reference",
    ["job:900", "JOB:900", f"{TRACE.hex()}/{ROOT.hex()}", "abcdef01/0101", f"00-{TRACE.hex()}-{ROOT.hex()}-01"],
)
def test_a_run_by_each_kind_of_id(house: str, run: Run, reference: str) -> None:
    """Row, trace/span, the beginning of both, a W3C traceparent."""
    detail = document(run, "run", reference)["detail"]
    assert (detail["run"]["kind"], detail["run"]["id"]) == ("job", 900)


def test_a_run_tells_what_it_was(house: str, run: Run) -> None:
    """How late, with what attributes, what was logged, and where."""
    code, out, err = run("run", "job:900")
    assert (code, err) == (0, "")
    assert flat(out).startswith("at energy.sample succeeded after 100 ms, 1 h ago.")
    assert "started 7.00 s late" in out
    assert "meter  main" in out
    assert "kwh    1.5" in out
    assert "info     energy: reading" in out
    assert "error    http: answered 500 \N{REPLACEMENT CHARACTER}[31m" in out
    assert f"{TRACE.hex()}/{ROOT.hex()}" in out


def test_a_run_tells_what_it_triggered(house: str, run: Run) -> None:
    """Runs that link to it or to a span inside it, counted by handler; and those that ran inside it."""
    found = document(run, "run", "job:900")["detail"]["triggered"]
    assert [(each["first"]["name"], each["first"]["id"], each["runs"], each["errors"]) for each in found] == [
        ("on_push", 901, 2, 1), ("on_motion", 903, 1, 0)
    ]  # fmt: skip


def test_a_run_tells_what_triggered_it(house: str, run: Run) -> None:
    """The span that published, and the run that was in; or the ids of somebody else's trace."""
    came = document(run, "run", "handler:901")["detail"]["triggered_by"]
    assert (came["by_link"], came["span_name"], came["run"]["id"]) == (True, "GET /x", 900)
    assert "energy.sample 1 h ago, in its span GET /x: abcdef012345/0101010101010101" in flat(
        run("run", "handler:901")[1]
    )
    outside = document(run, "run", "handler:903")["detail"]["triggered_by"]
    assert (outside["trace_id"], outside["run"]) == ("ee" * 16, None)
    assert f"a span not stored here: {'ee' * 16}" in flat(run("run", "handler:903")[1])


def test_a_failed_run_shows_its_traceback(house: str, run: Run) -> None:
    """Type, message, the lines, and how long it had waited."""
    _, out, _ = run("run", "handler:901")
    assert "ValueError: no bulb" in out
    assert "    await gateway.send(event)" in out
    assert "waited   2.50 ms from publication to start" in out


def test_the_runs_before_and_after(house: str, run: Run) -> None:
    """Of the same registration, by their start."""
    detail = document(run, "run", "handler:901")["detail"]
    wanted = raw(house, "SELECT id FROM handler_invocations WHERE listener_id = 3 AND execution_start_ts < ? "
                        "ORDER BY execution_start_ts DESC LIMIT 1", T0 + 0.02)  # fmt: skip
    assert ((detail["before"]["id"],),) == tuple(wanted)
    assert detail["after"]["id"] == 902


def test_the_habit_is_that_of_seven_days(house: str, run: Run) -> None:
    """Counted from the rollups, beside the run's own figure."""
    last = document(run, "runs", "--handler", "flaky.on_push", "--limit", "9")["runs"][-1]
    habit = document(run, "run", f"handler:{last['id']}")["detail"]["habit"]
    ((runs, errors),) = raw(house, "SELECT sum(runs), sum(errors) FROM rollups WHERE resolution = 86400 AND "
                                   "kind = 'handler' AND registration_id = 3 AND bucket_start <= ?", NOW)  # fmt: skip
    assert (habit["runs"], habit["errors"]) == (runs, errors)
    assert 0 < habit["p50_ms"] <= habit["p95_ms"]


def test_a_run_in_flight(house: str, run: Run) -> None:
    """What has not ended is shown as running; of a process that is gone, what becomes of it."""
    found = document(run, "run", "52525252")
    assert (found["detail"], found["in_flight"]["run"]["name"]) == (None, "arrived")
    assert "presence.arrived is running since 3 s ago." in flat(run("run", "52525252")[1])
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE sessions SET last_heartbeat_at = ? WHERE id = 4", (NOW - 9000,))
    assert "`handspan db recover`" in flat(run("run", "52525252")[1])


def test_an_ambiguous_beginning_lists_what_it_may_be(house: str, run: Run) -> None:
    """Never a guess; the list tells them apart."""
    code, out, _ = run("run", "abcdef")
    assert code == 0
    assert flat(out).startswith("abcdef is the beginning of 4 runs:")
    shown = re.findall(r"\b[0-9a-f]{16}/[0-9a-f]{10}\b", out)
    assert len(set(shown)) == 4
    for each in shown:
        assert document(run, "run", each)["detail"] is not None


def test_a_span_id_alone_is_looked_for_among_the_newest(house: str, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index knows it: a bounded search, that says so when it finds nothing."""
    assert document(run, "run", "11" * 8)["detail"]["run"]["id"] == 901
    monkeypatch.setattr(references, "LOOKED", 1)
    code, out, _ = run("run", "11" * 8)
    assert code == 1
    assert "trace/span finds any" in flat(out)


@pytest.mark.parametrize(
    "reference", ["", "abc", "xyz", "handler:", "cron:1", "0" * 33, "abcdef/" + "0" * 17, "job:-1"]
)
def test_an_id_that_is_none(house: str, run: Run, reference: str) -> None:
    """One line says what an id is."""
    code, out, err = run("run", reference)
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("command", ["run", "trace"])
def test_nothing_of_that_id(house: str, run: Run, command: str) -> None:
    """Exit code 1, and where to look."""
    code, out, err = run(command, "fedcba98")
    assert (code, err) == (1, "")
    assert "`handspan runs` lists the newest" in flat(out)


@pytest.mark.parametrize("name", sorted(statements("queries/references.sql")))
def test_ids_are_found_through_indexes(house: str, name: str) -> None:
    """Also a beginning shorter than the index: it is a range of it. A span id reads the end of the table only."""
    low, high = references.range_of("abcdef", 16)
    params = {"low": low, "high": high, "low4": low[:4], "high4": high[:4], "span_low": b"", "span_high": b"\xff" * 8,
              "limit": 5, "looked": 10}  # fmt: skip
    with closing(sqlite3.connect(f"file:{house}?mode=ro&immutable=1", uri=True)) as conn:
        plan = [
            step[3] for step in conn.execute(f"EXPLAIN QUERY PLAN {statements('queries/references.sql')[name]}", params)
        ]
    assert not [step for step in plan if step.startswith("SCAN")], plan


# --- trace --------------------------------------------------------------------------------------------------


def test_a_trace_is_a_tree(house: str, run: Run) -> None:
    """Runs and spans by parent, the orphan at the left, and what was triggered after it."""
    found = document(run, "trace", "abcdef01")["trace"]
    assert [(node["name"], node["depth"], node["status"]) for node in found["nodes"]] == [
        ("energy.sample", 0, "success"), ("publish", 1, "unset"), ("GET /x", 2, "error"),
        ("lights.on_motion", 3, "success"), ("orphan", 0, "ok"),
    ]  # fmt: skip
    assert [each["trace_id"] for each in found["triggered_by"]] == ["ee" * 16]
    assert [(each["first"]["name"], each["runs"]) for each in found["triggered"]] == [("on_push", 2)]


def test_a_waterfall(house: str, run: Run) -> None:
    """Names nested, offsets and durations, bars on one axis, errors in words."""
    _, out, _ = run("trace", "abcdef01")
    lines = {line.strip().split("  ")[0]: line for line in out.splitlines()}
    assert lines["GET /x: 500"].startswith("    GET /x: 500")
    assert "+15.0 ms   20.0 ms" in lines["GET /x: 500"]
    assert lines["at energy.sample"].count(FULL) > 4 * lines["GET /x: 500"].count(FULL)
    assert lines["orphan"].rstrip().endswith(SLIVER)


def test_log_lines_stand_under_their_span(house: str, run: Run) -> None:
    """Only where asked for, in the order they were logged."""
    assert "reading" not in run("trace", "abcdef01")[1]
    lines = run("trace", "abcdef01", "--logs")[1].splitlines()
    places = [next(i for i, line in enumerate(lines) if text in line)
              for text in ("at energy", "energy: reading", "publish", "GET /x: 500", "http: answered")]  # fmt: skip
    assert places == sorted(places)


def test_a_long_trace_is_cut_and_says_so(house: str, run: Run) -> None:
    """The earliest are kept, the rest is counted."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        seeded.put(conn, "spans (session_id, trace_id, span_id, parent_span_id, name, kind, start_ns, duration_ns, "
                         "status)",
                   [(4, TRACE, n.to_bytes(8, "big"), ROOT, f"n{n}", 0, int((T0 + 0.02) * 1e9) + n, 1, "ok")
                    for n in range(3000)])  # fmt: skip
        conn.execute("COMMIT")
    _, out, _ = run("trace", "abcdef01", "--limit", "50")
    assert "3,003 other spans" in out
    assert "Cut after the first 50 runs and spans" in out
    assert len(out.splitlines()) < 80
    assert document(run, "trace", "abcdef01", "--limit", "50")["trace"]["cut"] is True


def test_spans_that_are_each_others_parents(house: str, run: Run) -> None:
    """A cycle, which only a broken exporter makes, ends; each span is shown once."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE spans SET parent_span_id = ? WHERE span_id = ?", (INNER, PUBLISH))
        conn.execute("UPDATE spans SET parent_span_id = span_id WHERE span_id = ?", (LOST,))
    names = [node["name"] for node in document(run, "trace", "abcdef01")["trace"]["nodes"]]
    assert sorted(names) == ["GET /x", "energy.sample", "lights.on_motion", "orphan", "publish"]
    assert document(run, "run", "handler:901")["detail"]["triggered_by"]["run"] is None


@pytest.mark.parametrize(
    ("offset", "length", "whole", "drawn"),
    [(0, 100, 100, FULL * 10), (50, 50, 100, " " * 5 + FULL * 5), (99, 1, 100, " " * 9 + SLIVER), (0, 0, 0, FULL * 10),
     (100, 0, 100, " " * 9 + SLIVER), (-10, 30, 100, FULL * 2), (95, 500, 100, " " * 9 + FULL)],
)  # fmt: skip
def test_bars(offset: int, length: int, whole: int, drawn: str) -> None:
    """They begin and end where they should, and never leave the axis."""
    assert bar(offset, length, whole, 10) == drawn
    assert bar(offset, length, whole, 10, is_open=True).replace(OPEN, FULL) == drawn


# --- lists --------------------------------------------------------------------------------------------------


def test_pages_by_cursor(house: str, run: Run) -> None:
    """Page after page gives what one large page gives."""
    whole = [(each["kind"], each["id"]) for each in document(run, "runs", "--limit", "1000")["runs"]]
    found: list[tuple[str, int]] = []
    after: list[str] = []
    while True:
        page = document(run, "runs", "--limit", "150", *after)
        found += [(each["kind"], each["id"]) for each in page["runs"]]
        if not page["more"]:
            break
        after = ["--after", page["after"]]
    assert found == whole
    assert f"--after {page['runs'][0]['kind']}" in run("runs", "--limit", "1")[1] or found


@pytest.mark.parametrize(
    ("args", "where"),
    [
        pytest.param(["--session", "2"], "session_id = 2", id="session"),
        pytest.param(["--min-duration", "0.9s"], "duration_ms >= 900", id="long ones"),
        pytest.param(["--session", "4", "--status", "error"], "session_id = 4 AND status = 'error'", id="both"),
        pytest.param(["--grep", "AFTER 29"], "instr(error_message, 'after 29')", id="text"),
    ],
)
def test_filters(house: str, run: Run, args: list[str], where: str) -> None:
    """What plain SQL gives."""
    found = document(run, "runs", "--limit", "1000", *args)["runs"]
    wanted = raw(house, f"SELECT kind, id FROM v_executions WHERE {where} "
                        "ORDER BY execution_start_ts DESC, kind DESC, id DESC")  # fmt: skip
    assert [(each["kind"], each["id"]) for each in found] == wanted
    assert found


def test_slow(house: str, run: Run) -> None:
    """Over a threshold, slowest first, with a note of what was left out."""
    found = document(run, "slow", "--over", "0.5s", "--since", "7d", "--limit", "3")
    assert found["more"] is True
    wanted = raw(house, "SELECT duration_ms FROM v_executions ORDER BY 1 DESC LIMIT 3")
    assert [(each["duration_ms"],) for each in found["runs"]] == wanted
    assert "Nothing took 2h" in flat(run("slow", "--over", "2h")[1])


def test_running_at_a_moment(house: str, run: Run) -> None:
    """What had begun and not ended, and nothing else."""
    found = document(run, "running", "--at", "2026-05-28T19:26:40.022Z")
    assert [(each["kind"], each["id"]) for each in found["finished"]] == [("job", 900), ("handler", 901)]
    assert found["in_flight"] == []
    _, out, _ = run("running")
    assert "1 command runs now." in out
    assert "Nothing ran at" in run("running", "--at", "9d")[1]


@pytest.mark.parametrize("host", [socket.gethostname(), "elsewhere"])
def test_what_a_dead_process_left_running_is_told_until_somebody_recovers_it(house: str, run: Run, host: str) -> None:
    """After a kill -9 nothing else knows of it: it is neither among the runs nor running."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE sessions SET last_heartbeat_at = ?, host = ? WHERE id = 4", (NOW - 9000, host))
    code, out, _ = run("running")
    assert code == 0
    assert flat(out).startswith("Nothing runs now; 1 had not ended when its process was last heard of.")
    assert "presence.arrived" in out
    assert "its process is gone" in out
    assert "`handspan db recover`" in out
    assert "still runs" not in out
    assert [each["name"] for each in document(run, "running")["in_flight"]] == ["arrived"]
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE sessions SET stopped_at = ?, stop_reason = 'clean_shutdown' WHERE id = 4", (NOW - 2,))
    assert run("running")[1].startswith("Nothing runs now")
    assert "arrived" not in run("running")[1]


@pytest.mark.parametrize(
    "args",
    [["slow", "--over", "fast"], ["runs", "--after", "abcdef"], ["runs", "--after", "job:77777"],
     ["running", "--at", "nowish"], ["slow", "--handler", "nobody"], ["runs", "--min-duration=-1"]],
    ids=" ".join,
)  # fmt: skip
def test_slips_of_the_pen(house: str, run: Run, args: list[str]) -> None:
    """One line, which says what was meant."""
    code, out, err = run(*args)
    assert (code, out, err.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("width", [80, 60, 200])
@pytest.mark.parametrize(
    "args",
    [["run", "job:900"], ["run", "handler:901"], ["run", "52525252"], ["run", "abcdef"],
     ["trace", "abcdef01", "--logs"],
     ["slow", "--since", "7d"], ["running"], ["running", "--at", "2026-05-28T19:26:40.022Z"], ["runs"],
     ["runs", "--grep", "after"]],
    ids=" ".join,
)  # fmt: skip
def test_no_line_is_wider_than_the_terminal(
    house: str, run: Run, monkeypatch: pytest.MonkeyPatch, args: list[str], width: int
) -> None:
    """Whatever names, messages, attributes and log lines hold; and no escape sequence gets through."""
    nasty = "line\nbreak \x1b[31mred\x1b[0m \u202e" + "\u5bb6" * 200
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE listeners SET name = ?, topic = ?, source_location = ?", (nasty, nasty, nasty))
        conn.execute("UPDATE scheduled_jobs SET job_name = id || ?, trigger_value = ?", (nasty, nasty))
        conn.execute("UPDATE services SET name = id || ?", (nasty,))
        conn.execute("UPDATE sessions SET host = ?, service_version = ?", (nasty, nasty))
        conn.execute("UPDATE spans SET name = ?", (nasty,))
        conn.execute("UPDATE log_records SET message = ?, logger = ?", (nasty, nasty))
        conn.execute("UPDATE tracebacks SET text = ?", (f"  File {nasty}\n" * 200,))
        conn.execute(
            "UPDATE handler_invocations SET error_message = ?, error_type = ? WHERE status = 'error'", (nasty, nasty)
        )
        conn.execute("UPDATE job_executions SET attributes = json_object(?, ?)", (nasty, nasty))
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, err = run(*args)
    assert (code, err) == (0, "")
    assert max(cell_len(line) for line in out.splitlines()) <= max(width, 80)
    assert "\x1b" not in out
    assert "\u202e" not in out


@pytest.mark.parametrize("command", [["runs"], ["slow"], ["running"]], ids=" ".join)
def test_an_empty_file(tmp_path: Path, run: Run, command: list[str]) -> None:
    """A sentence, and no complaint."""
    path = seeded.build(tmp_path / "empty.db", rows=False)
    code, out, err = run(*command, "--db", path)
    assert (code, err) == (0, "")
    assert out.strip().endswith((".", "stored."))


# --- completion, version ----------------------------------------------------------------------------------------


def test_version(run: Run) -> None:
    """The one that is installed."""
    assert run("--version") == (0, f"handspan {__version__}\n", "")


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        pytest.param(["sess"], {"sessions"}, id="command"),
        pytest.param(["runs", "--min-d"], {"--min-duration"}, id="option"),
        pytest.param(["runs", "--handler", "fla"], {"flaky.on_push"}, id="handler"),
        pytest.param(["slow", "--job", "energy.s"], {"energy.sample"}, id="job"),
        pytest.param(["runs", "--app", "pres"], {"presence"}, id="app"),
        pytest.param(["handler", "fla"], {"flaky.on_push"}, id="handler as the argument"),
        pytest.param(["job", "energy.s"], {"energy.sample"}, id="job as the argument"),
        pytest.param(["error", ""], set("1234567"), id="error group"),
        pytest.param(["compare", "pre"], {"previous"}, id="compare in words"),
        pytest.param(["compare", "1.0", "1."], {"1.0", "1.1"}, id="compare versions"),
        pytest.param(["runs", "--db", "none.db", "--app", "x"], set(), id="no file"),
    ],
)
def test_bash_completes(house: str, words: list[str], offered: set[str]) -> None:
    """The script bash is given makes it complete what is registered in the file; without one, nothing is said."""
    bash = shutil.which("bash")
    assert bash is not None
    script = subprocess.run(
        [sys.executable, "-m", "handspan.cli", "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    function = re.search(r"complete .*-F (\S+) handspan", script)
    assert function is not None
    line = " ".join(f"'{word}'" for word in ["handspan", *words])
    program = f"{script}\nCOMP_WORDS=({line})\nCOMP_CWORD={len(words)}\n{function[1]} handspan\n"
    program += "printf '%s\\n' \"${COMPREPLY[@]}\""
    environ = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    found = subprocess.run([bash, "-c", program], capture_output=True, text=True, env=environ, check=False)
    assert set(found.stdout.split()) == offered, found.stderr
    assert found.stderr == ""


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(run: Run, shell: str) -> None:
    """Each asks the same program."""
    code, out, err = run("completion", shell)
    assert (code, err) == (0, "")
    assert "_HANDSPAN_COMPLETE" in out
