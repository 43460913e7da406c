"""``handler``, ``job`` and ``roll``: what they say, how they are drawn, and what they do with what is odd."""

import itertools
import json
import re
import sqlite3
import time
from contextlib import closing

import pytest
from rich.cells import cell_len

import seeded
from handspan.cli import main
from handspan.cli.axis import Axis, step_words
from handspan.cli.latency_view import latency
from handspan.cli.sparklines import NOT_RECORDED
from handspan.clock import instant_from_ns
from handspan.store.queries.tallies import Latency
from seeded import DAY, HOUR, NOW, raw

AT = instant_from_ns(int(NOW) * 10**9)


@pytest.fixture(autouse=True)
def steady(monkeypatch, tmp_path):
    """A known moment, a known width, a zone, a folder of its own."""
    for module in ("registration", "roll"):
        monkeypatch.setattr(f"handspan.cli.{module}.now", lambda: AT)
    for name in ("NO_COLOR", "FORCE_COLOR", "LINES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.chdir(tmp_path)
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def house(tmp_path):
    return seeded.build(tmp_path / "handspan.db")


@pytest.fixture
def run(capsys, house):
    """A command line on the house: its exit code, stdout and stderr."""

    def call(*args):
        code = main(list(args))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def change(path, statement, *params):
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute(statement, params)


def document(run, *args):
    code, out, err = run(*args, "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def flat(text):
    return " ".join(text.split())


# --- one registration ------------------------------------------------------------------------------------------


def test_a_page_adds_up(house, run):
    """Figures, their window, what was before: what plain SQL counts over the rows."""
    page = document(run, "handler", "flaky.on_push")["handler"]
    for figures, start, end in ((page["figures"], NOW - DAY, NOW), (page["before"], NOW - 2 * DAY, NOW - DAY)):
        ((runs, errors, cancelled, interrupted, longest, shortest),) = raw(
            house,
            "SELECT count(*), sum(status = 'error'), sum(status = 'cancelled'), "
            "sum(coalesce(error_type, '') = 'ProcessInterrupted'), max(duration_ms), min(duration_ms) "
            "FROM handler_invocations WHERE listener_id = 3 AND execution_start_ts >= ? AND execution_start_ts < ?",
            start, end,
        )  # fmt: skip
        assert (figures["runs"], figures["errors"], figures["cancelled"], figures["interrupted"]) == (
            runs, errors, cancelled, interrupted)  # fmt: skip
        assert (figures["max_ms"], figures["min_ms"]) == (pytest.approx(longest), pytest.approx(shortest))
        assert sum(figures["latency"]["runs"]) == runs
    assert sum(point["runs"] for point in page["series"]["points"]) >= page["figures"]["runs"]
    assert page["figures"]["since"] == "2026-05-27T20:26:40.000000Z"


def test_a_handler_says_what_it_listens_to(house, run):
    """Its options in words, and where it was registered."""
    change(house, "UPDATE listeners SET debounce = 300, throttle = 60, once = 1, priority = 10, "
                  "predicate_description = 'moved', source_location = 'apps/flaky.py:48', "
                  "registration_source = 'self.bus.on(...)' WHERE id = 3")  # fmt: skip
    _, out, _ = run("handler", "on_push")
    assert "Listens to mobile_app.*, where moved, when that was quiet for 5 m (debounce), at most once in 1 m" in flat(
        out
    )
    assert "(throttle), a single time (once), with priority 10." in flat(out)
    assert "apps/flaky.py:48 self.bus.on(...)" in flat(out)
    assert "Registered 5 d ago, last 6 h ago." in out


@pytest.mark.parametrize(
    ("kind", "value", "repeat", "words"),
    [
        ("interval", "600.0", 1, "Runs every 10 m."),
        ("interval", "30 s", 1, "Runs every 30 s."),
        ("cron", "0 * * * *", 1, "Runs by cron: 0 * * * *."),
        ("date", "2026-06-01T06:00:00+02:00", 0, "Runs once, at 2026-06-01T06:00:00+02:00."),
        ("sunset", "-30 m", 1, "Runs by sunset -30 m."),
        ("sunset", None, 1, "Runs by sunset."),
        (None, None, 0, "Runs once."),
        (None, None, 1, "Runs whenever its host says."),
    ],
)
def test_a_trigger_in_words(house, run, kind, value, repeat, words):
    """Whatever a host calls it."""
    change(house, "UPDATE scheduled_jobs SET trigger_type = ?, trigger_value = ?, repeat = ? WHERE id = 1",
           kind, value, repeat)  # fmt: skip
    assert words in run("job", "sample")[1].splitlines()


def test_a_job_says_when_it_runs_next(house, run):
    """In time, or how late it is; and with what."""
    change(house, 'UPDATE scheduled_jobs SET kwargs_json = \'{"room": "hall"}\' WHERE id = 1')
    _, out, _ = run("job", "energy.sample")
    assert "next run in 20 s." in out
    assert 'Runs every 30 s, with {"room": "hall"}.' in out
    assert "next run 5 m late." in run("job", "energy.rollup")[1]


def test_lateness_is_counted(house, run):
    """How many began more than five seconds after they were due, and the longest delay."""
    assert "No run was late; the longest delay was 250 ms." in run("job", "energy.sample", "--since", "4d")[1]
    change(house, "UPDATE rollups SET late = 1, max_delay_ns = 90000000000 WHERE kind = 'job' AND registration_id = 1")
    figures = document(run, "job", "energy.sample", "--since", "4d")["job"]["figures"]
    _, out, _ = run("job", "energy.sample", "--since", "4d")
    assert f"{figures['late']} of {figures['runs']} runs began more than 5 s after it was due" in flat(out)
    assert "the longest delay was 1 m 30 s." in flat(out)


def test_what_did_not_run_and_why(house, run):
    """By reason, in words; a reason of a newer handspan is shown as it is; what is outside the window is not."""
    hour = int(NOW // HOUR * HOUR)
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        for back, reason, count in ((0, "predicate", 340), (1, "predicate", 2), (2, "solar_wind", 7), (48, "once", 1)):
            start = hour - back * HOUR
            row = (start, "handler", 3, 4, reason, count, start + 1, start + 2)
            conn.execute("INSERT INTO skips VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
    _, out, _ = run("handler", "on_push")
    assert "Did not run in the last 24 h: 342 refused by its predicate (last 26 m ago); 7 solar_wind" in flat(out)
    assert "only run" not in out
    assert "1 after its only run" in flat(run("handler", "on_push", "--since", "4d")[1])
    until = time.strftime("%Y-%m-%dT%H:00:00Z", time.gmtime(NOW))  # the hour that begins then is outside
    assert " 2 refused by its predicate" in flat(run("handler", "on_push", "--until", until)[1])
    skips = document(run, "handler", "on_push")["handler"]["skips"]
    assert [(skip["reason"], skip["count"]) for skip in skips] == [("predicate", 342), ("solar_wind", 7)]


def test_groups_of_errors_of_this_one_only(house, run):
    """Id, type, message; how many in the window and ever."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("DELETE FROM error_group_hours")
        conn.execute("DELETE FROM error_groups")
        for number, registration, error in ((7, 3, "TimeoutError"), (8, 1, "ValueError")):
            conn.execute("INSERT INTO error_groups (id, kind, registration_id, fingerprint, error_type, message, "
                         "first_seen_at, last_seen_at, count, sample_trace_id, sample_span_id) "
                         "VALUES (?, 'handler', ?, ?, ?, 'no answer \x1b[31m', ?, ?, 1234, x'00', x'00')",
                         (number, registration, str(number).encode(), error, NOW - 3 * DAY, NOW - 60))  # fmt: skip
        hour = int(NOW // HOUR * HOUR)
        conn.executemany("INSERT INTO error_group_hours VALUES (?, 7, ?)", [(hour, 5), (hour - 3 * DAY, 99)])
    _, out, _ = run("handler", "on_push")
    line = next(line for line in out.splitlines() if "TimeoutError" in line)
    assert line.split()[:4] == ["7", "TimeoutError", "5", "1,234"]
    assert "\x1b" not in out
    groups = document(run, "handler", "on_push")["handler"]["errors"]
    assert [(group["id"], group["in_window"], group["count"]) for group in groups] == [(7, 5, 1234)]


def test_recent_runs_lead_on(house, run):
    """Newest first, with the beginning of their trace ids, as many as were asked for; the answer says it was cut."""
    _, out, _ = run("handler", "on_push", "--limit", "2")
    traces = raw(
        house, "SELECT trace_id FROM v_handler_invocations WHERE listener_id = 3 ORDER BY started_at DESC LIMIT 2"
    )
    lines = out.splitlines()
    head = next(place for place, line in enumerate(lines) if line.split()[:2] == ["started", "status"])
    assert [line.split()[-1] for line in lines[head + 1 : head + 3]] == [trace[:12] for (trace,) in traces]
    assert "These are its newest 2 runs" in out
    assert "newest" not in run("handler", "on_push", "--limit", "1000")[1]


def test_one_that_never_ran(house, run):
    """Says so; and what runs now is told."""
    _, out, _ = run("handler", "arrived")
    assert "It did not run in the last 24 h. It never ran." in out
    assert "1 running now, for 3.00 s" in out
    assert not re.search(r"\bnan\b|None|inf", out)


def test_one_that_ran_long_ago(house, run):
    """When that was."""
    assert "It last ran 19 m ago." in run("handler", "on_push", "--since", "5m")[1]


@pytest.mark.parametrize(("kind", "name", "number"), [("handler", "on_push", 3), ("job", "sample", 1)])
def test_since_the_restart_all_of_the_page_is_of_then(house, run, kind, name, number):
    """Runs, failures by group, and what did not run: nothing of the session before."""
    since = NOW - 6 * HOUR
    hour = int(since // HOUR * HOUR)
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        for session, first, reason, count in ((2, hour + 1, "down", 9), (4, since + 60, "overlapped", 2)):
            conn.execute("INSERT INTO skips VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                         (hour, kind, number, session, reason, count, first, first + 5))  # fmt: skip
    table, column = ("handler_invocations", "listener_id") if kind == "handler" else ("job_executions", "job_id")
    page = document(run, kind, name, "--since", "restart", "--limit", "100")[kind]
    ((runs,),) = raw(house, f"SELECT count(*) FROM {table} WHERE {column} = ? AND execution_start_ts >= ?",
                    number, since)  # fmt: skip
    assert len(page["runs"]) == page["figures"]["runs"] == runs
    assert page["last_run_at"] is not None  # also if that was before
    for group in page["errors"]:
        wanted = raw(house, f"SELECT count(*) FROM {table} WHERE error_group_id = ? AND execution_start_ts >= ?",
                     group["id"], since)  # fmt: skip
        assert [(group["in_window"],)] == wanted
    assert "down" not in [skip["reason"] for skip in page["skips"]]
    assert ", by whole hours" not in run(kind, name, "--since", "restart")[1]
    change(house, "UPDATE skips SET first_at = ? WHERE reason = 'overlapped' AND hour = ?", hour + 2, hour)
    assert "Did not run since the restart, by whole hours: " in flat(run(kind, name, "--since", "restart")[1])


def test_a_retired_one_still_has_its_page(house, run):
    """Its story is kept; a live one of the same name goes before it."""
    assert "retired 4 d ago" in run("handler", "on_thing", "--since", "5d")[1]
    columns = (
        "service_id, app_key, instance_index, name, topic, handler_method, first_registered_at, last_registered_at"
    )
    change(house, f"INSERT INTO listeners ({columns}) VALUES (1, 'old', 0, 'on_thing', 'other', 'm', 1, 2)")
    assert "Listens to other." in run("handler", "on_thing")[1]
    assert "Listens to thing." in run("handler", "on_thing", "--topic", "thing")[1]


@pytest.mark.parametrize(
    ("args", "title"),
    [
        (["on_motion", "--instance", "1"], "house/lights.on_motion #1"),
        (["lights.on_motion", "--service", "garage"], "garage/lights.on_motion"),
        (["house/lights.on_motion", "--instance", "0"], "house/lights.on_motion"),
        (["house/lights.on_motion #1"], "house/lights.on_motion #1"),
        (["lights.on_motion#1"], "house/lights.on_motion #1"),
    ],
)
def test_which_of_several(house, run, args, title):
    """By options, or by the name the tables show."""
    code, out, _ = run("handler", *args)
    assert (code, out.splitlines()[0].split("  ")[0]) == (0, title)


def test_several_of_one_name_are_listed(house, run):
    """Side by side, with the options that tell them apart."""
    code, out, err = run("handler", "on_motion")
    assert (code, err) == (0, "")
    shown = " ".join(out.split())
    assert shown.startswith("3 handlers are called on_motion: together ")
    assert all(f" {name} " in shown for name in ("garage/lights.on_motion", "house/lights.on_motion #1"))
    assert "Say which: --service NAME or --instance N" in shown


def test_an_instance_that_is_not_there(house, run):
    """What there is instead."""
    code, _, err = run("handler", "on_motion", "--instance", "9")
    assert code == 2
    assert "no handler 'on_motion' is like that; there are: garage/lights.on_motion" in err


@pytest.mark.parametrize(
    ("args", "hint"),
    [
        (["handler", "on_mtion"], "did you mean lights.on_motion"),
        (["job", "smaple"], "did you mean energy.sample"),
        (["job", "xyzzy"], "`handspan jobs` lists them"),
        (["handler", "on_*"], "`handspan handlers` lists them"),
        (["handler", ""], "`handspan handlers` lists them"),
    ],
)
def test_a_name_nobody_has(house, run, args, hint):
    """A slip of the pen, and what is near it."""
    code, out, err = run(*args)
    assert (code, out) == (2, "")
    assert hint in err


def test_until_ends_the_window(house, run):
    """The day before: what was then, not now."""
    page = document(run, "handler", "on_push", "--since", "2d", "--until", "1d")["handler"]
    now = document(run, "handler", "on_push")["handler"]
    assert page["figures"]["runs"] == now["before"]["runs"]
    assert all(run["execution_start_ts"] < "2026-05-27T20:27" for run in page["runs"])


# --- the roll ----------------------------------------------------------------------------------------------------


def rows_of(out):
    return [line for line in out.splitlines() if line.startswith(("on ", "at "))]


@pytest.mark.parametrize("width", [40, 60, 80, 100, 160, 300])
@pytest.mark.parametrize("command", [["roll"], ["roll", "--since", "5d"], ["handler", "on_push"], ["job", "sample"]])
def test_no_line_is_wider_than_the_terminal(house, run, monkeypatch, command, width):
    """Whatever names and messages hold."""
    change(house, "UPDATE listeners SET name = ? WHERE id = 2", "n" * 300)
    change(house, "UPDATE listeners SET name = ?, predicate_description = ? WHERE id = 1", "\u5bb6" * 90, "p\n" * 200)
    change(house, "UPDATE listeners SET topic = ? WHERE id = 3", "t \x1b[31m" * 90)
    change(house, "UPDATE services SET name = ? WHERE id = 2", "s" * 300)
    change(house, "UPDATE handler_invocations SET error_message = ? WHERE status = 'error'", "\u6f22 m\n" * 200)
    monkeypatch.setenv("COLUMNS", str(width))
    code, out, _ = run(*command)
    assert code == 0
    assert "\x1b" not in out
    assert max(cell_len(line) for line in out.splitlines()) <= width
    if command == ["roll"]:
        assert len(rows_of(out)) == 8


def test_a_name_without_end_costs_the_roll_nothing(house, run, monkeypatch):
    """Cut to its place at once, not a character at a time."""
    change(house, "UPDATE listeners SET name = ? WHERE id = 2", "n" * 100_000)
    calls = itertools.count()
    monkeypatch.setattr("handspan.cli.roll_view.cell_len", lambda text: next(calls) * 0 + cell_len(text))
    code, out, _ = run("roll")
    assert (code, len(rows_of(out))) == (0, 8)
    assert next(calls) < 1000


def test_the_roll_fills_the_terminal(house, run, monkeypatch):
    """More columns, finer steps."""
    steps = []
    for width in (40, 80, 160, 300):
        monkeypatch.setenv("COLUMNS", str(width))
        steps.append(re.search(r"(\d+-\w+) columns", flat(run("roll")[1]))[1])
    assert steps == ["1-hour", "1-hour", "30-minute", "10-minute"]


def test_failures_are_seen_without_colour(house, run, monkeypatch):
    """A cross where something failed, in red on a terminal; the same characters without."""
    _, plain, _ = run("roll", "--since", "5d")
    assert {"×", "X"} <= set("".join(rows_of(plain)))
    assert "× 5 % of them or more failed" in flat(plain)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    _, coloured, _ = run("roll", "--since", "5d")
    assert "\x1b[31m" in coloured
    assert "\x1b[35m▲" in coloured  # the crash
    bare = re.sub(r"\x1b\[[\d;]*m", "", coloured)
    assert [line.rstrip() for line in bare.splitlines()] == plain.splitlines()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in run("roll", "--since", "5d")[1]


def test_what_was_not_recorded_is_hatched(house, run):
    """The house was down for 18 hours of the last day; the garage died a day ago."""
    _, out, _ = run("roll", "--sort", "name")
    arrived = next(line for line in rows_of(out) if "arrived" in line)
    assert arrived.count(NOT_RECORDED) == 17
    assert "░ not recorded" in flat(out)


def test_crashes_and_starts_are_on_the_axis(house, run):
    """And in the legend only where they are to be seen."""
    _, out, _ = run("roll", "--since", "5d")
    assert out.count("▲") == 2  # on the axis, in the legend
    assert "▲ crash, │ start." in flat(out)
    assert "▲" not in run("roll", "--since", "24h")[1]


@pytest.mark.parametrize("sort", ["look", "runs", "failed", "p95", "name"])
def test_the_roll_is_sorted(house, run, sort):
    """Each order, by the figures it is called after."""
    rows = document(run, "roll", "--since", "5d", "--sort", sort)["rows"]
    keys = {
        "runs": [-row["total_runs"] for row in rows],
        "failed": [-row["total_errors"] for row in rows],
        "p95": [-(row["p95_ms"] or 0) for row in rows],
        "name": [(row["app_key"], row["name"], row["instance_index"], row["service"]) for row in rows],
    }
    if sort == "look":
        assert rows[0]["name"] == "on_push"
    else:
        assert keys[sort] == sorted(keys[sort])
        assert len(set(keys[sort])) > 1


def test_the_roll_says_how_many_it_leaves_out(house, run):
    """A limit is never silent."""
    _, out, _ = run("roll", "--limit", "3")
    assert len(rows_of(out)) == 3
    assert "5 more are left out: --limit shows them." in out
    assert document(run, "roll", "--limit", "3")["left_out"] == 5


def test_hundreds_of_registrations(house, run):
    """The scale is theirs together; the rest is counted."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.executemany(
            "INSERT INTO scheduled_jobs (service_id, app_key, instance_index, job_name, handler_method, "
            "first_registered_at, last_registered_at) VALUES (1, 'many', ?, 'job', 'm', 1, 2)",
            [(n,) for n in range(500)],
        )
    code, out, _ = run("roll")
    assert (code, len(rows_of(out))) == (0, 40)
    assert "468 more are left out" in out


def test_ascii_terminals(house, run, monkeypatch, capsys):
    """No question marks: every sign has its own."""
    import io
    import sys

    stdout = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stdout)
    assert main(["roll", "--since", "5d"]) == 0
    assert main(["handler", "on_push", "--since", "5d"]) == 0
    stdout.flush()
    text = stdout.buffer.getvalue().decode("ascii")
    assert "?" not in text
    assert "! crash, | start." in flat(text)


def test_nobody_there(house, run, tmp_path):
    """Why it is empty, and what to do."""
    assert "there is no app 'nope'" in run("roll", "--app", "nope")[2]
    empty = seeded.build(tmp_path / "empty.db", rows=False)
    _, out, _ = run("roll", "--db", empty)
    assert "No handler or job was registered in the last 24 h. Run your application" in flat(out)


# --- the axis, the histogram -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "start", "step", "count", "labels"),
    [
        pytest.param("UTC", 20 * 3600, 3600, 25, "    Fri 2 06:00 12:00", id="hours"),
        pytest.param("UTC", 18 * 3600 + 1800, 120, 31, "18:30  18:45   19:00  19:15", id="columns that straddle"),
        pytest.param("Asia/Kolkata", 18 * 3600, 3600, 13, "Fri 2 06:00", id="half an hour off"),
        pytest.param("UTC", 4 * 86_400, 86_400, 15, "5 Jan  12 Jan", id="weeks begin on Monday"),
    ],
)
def test_labels_are_round_moments_of_this_machines_zone(monkeypatch, zone, start, step, count, labels):
    """By the clock on the wall, at the column each lies in; none beyond the axis, none touching another."""
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    axis = Axis(start, step, count)
    assert axis.labels().plain == labels
    assert len(labels) <= axis.width


@pytest.mark.parametrize(
    ("seconds", "words"), [(60, "1-minute"), (1800, "30-minute"), (7200, "2-hour"), (86400, "1-day")]
)
def test_steps_in_words(seconds, words):
    """As in "30-minute columns"."""
    assert step_words(seconds) == words


@pytest.mark.parametrize("buckets", [1, 2, 7, 61, 400])
@pytest.mark.parametrize("width", [40, 80, 200])
def test_the_histogram_fits(buckets, width):
    """From one bucket to all of them; a label at least, and the tallest column is said."""
    bounds = [2 ** ((i - 60) / 8) * 1000 for i in range(buckets + 1)]
    lines = [line.plain for line in latency(Latency(bounds, list(range(1, buckets + 1))), width)]
    assert max(map(cell_len, lines)) <= width
    assert "█" in lines[0]
    assert re.search(r"█ [\d,]+ runs?", lines[0])
    assert re.search(r"\d (µs|ms|s|m|h|d)", lines[-1])
