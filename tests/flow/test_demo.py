"""The demo, as it is looked at: the command of the README in a process of its own, then the file it left."""

import asyncio
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from rich.console import Console

from handspan import InvokeHandler
from handspan.demo import app
from handspan.demo.clock import HouseClock
from handspan.demo.counting import CountingHost
from handspan.demo.day import MIDNIGHT, clock_text, initial_states, of_day, phase_at, recorded_at, recorded_events
from handspan.demo.summary import Played, summary
from handspan.demo.view import Scene, picture
from handspan.errors import DependencyError

DEMO = [sys.executable, "-W", "error", "-m", "handspan.cli", "demo"]


def demo(db: Path) -> "subprocess.CompletedProcess[str]":
    command = [*DEMO, "--once", "--speed", "max", "--db", str(db)]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)


class Day:
    """A day that was played into a file, and the file."""

    def __init__(self, db: Path) -> None:
        self.db, self.process = db, demo(db)

    def rows(self, sql: str) -> list[tuple]:
        conn = sqlite3.connect(f"file:{self.db}?mode=ro", uri=True)
        try:
            return conn.execute(sql).fetchall()
        finally:
            conn.close()

    def one(self, sql: str):
        return self.rows(sql)[0][0]


@pytest.fixture(scope="module")
def day(tmp_path_factory) -> Day:
    return Day(tmp_path_factory.mktemp("demo") / "x.db")


RUNS = "(SELECT span_id FROM handler_invocations UNION ALL SELECT span_id FROM job_executions)"


class TestOneDay:
    def test_says_what_it_did_and_where_it_is(self, day):
        assert day.process.returncode == 0, day.process.stderr
        assert day.process.stderr == ""
        said = day.process.stdout
        assert "Every run the executor returned is in the file, and no other." in said
        assert f"handspan status --db {day.db}" in said
        assert f"handspan errors --db {day.db}" in said
        assert " 50 %" in said
        assert "Traceback" not in said
        assert "\x1b" not in said

    def test_is_large_enough_to_look_at(self, day):
        assert day.one("SELECT count(*) FROM handler_invocations") > 3_000
        assert day.one("SELECT count(*) FROM job_executions") > 500
        for table in ("handler_invocations", "job_executions"):
            statuses = {status for (status,) in day.rows(f"SELECT DISTINCT status FROM {table}")}
            assert {"success", "error"} <= statuses
        assert day.one("SELECT count(*) FROM handler_invocations WHERE status = 'cancelled'") > 20

    def test_leaves_a_sound_file(self, day):
        assert day.rows("PRAGMA foreign_key_check") == []
        assert day.rows("PRAGMA integrity_check") == [("ok",)]
        assert day.rows("SELECT stop_reason FROM sessions WHERE id = 1") == [("clean_shutdown",)]
        assert day.one(f"SELECT count(*) - count(DISTINCT hex(span_id)) FROM {RUNS}") == 0
        assert day.one("SELECT count(*) FROM losses") == 0
        assert day.one("SELECT count(*) FROM running") == 0

    def test_the_file_holds_what_the_executor_returned(self, day):
        """As counted by the demo on the way, which is not how the rows came there."""
        for words, table in (("handler invocations", "handler_invocations"), ("job executions", "job_executions")):
            line = next(line for line in day.process.stdout.splitlines() if line.startswith(words))
            said = [int(word.replace(",", "")) for word in line.removeprefix(words).split()]
            found = dict(day.rows(f"SELECT status, count(*) FROM {table} WHERE session_id = 1 GROUP BY 1"))
            expected = [found.get(status, 0) for status in ("success", "error", "cancelled")]
            assert said == [*expected, sum(expected), sum(expected)]

    def test_fails_in_all_the_ways_it_should(self, day):
        failed = {kind for (kind,) in day.rows("SELECT DISTINCT error_type FROM handler_invocations")}
        assert failed >= {"ValueError", "DependencyError", "TimeoutError", "ConnectionResetError", "TypeError"}
        assert "ConnectionRefusedError" in {e for (e,) in day.rows("SELECT DISTINCT error_type FROM job_executions")}

    def test_cascades_can_be_followed_from_run_to_run(self, day):
        """Somebody leaves, the house is left alone, its mode changes, a scene is set, lamps are."""
        longest = day.rows("""
            WITH RECURSIVE cascade (span_id, names, depth) AS (
                SELECT h.span_id, l.name, 0 FROM handler_invocations h JOIN listeners l ON l.id = h.listener_id
                WHERE h.link_span_id IS NULL AND h.session_id = 1
                UNION ALL
                SELECT h.span_id, c.names || ' ' || l.name, c.depth + 1
                FROM cascade c JOIN handler_invocations h ON h.link_span_id = c.span_id AND h.session_id = 1
                JOIN listeners l ON l.id = h.listener_id
            ) SELECT depth, names FROM cascade ORDER BY depth DESC LIMIT 1000""")
        assert longest[0][0] >= 4
        names = [names for _, names in longest]
        assert "on_person leave_house_alone on_mode on_scene on_set" in names
        assert "on_person leave_house_alone on_mode check_doors deliver" in names

    def test_the_handlers_own_spans_are_children_of_their_runs(self, day):
        rows = day.rows("""
            SELECT s.name, count(*), sum(s.trace_id = h.trace_id) FROM spans s
            JOIN handler_invocations h ON h.span_id = s.parent_span_id WHERE h.session_id = 1 GROUP BY 1""")
        assert {name for name, _, _ in rows} == {"POST /send", "gateway.connect"}
        assert all(count == same > 500 for _, count, same in rows)

    def test_a_job_was_late_and_the_rest_in_time(self, day):
        late = day.rows("""
            SELECT DISTINCT j.job_name FROM job_executions e JOIN scheduled_jobs j ON j.id = e.job_id
            WHERE e.session_id = 1 AND e.execution_start_ts - e.scheduled_ts > 1""")
        assert late == [("carry_over",)]
        kinds = set(day.rows("SELECT DISTINCT trigger_type, repeat FROM scheduled_jobs"))
        assert kinds == {("interval", 1), ("cron", 1), (None, 0)}

    def test_registrations_point_into_the_apps(self, day):
        for location, source in day.rows("SELECT source_location, registration_source FROM listeners"):
            assert "/demo/apps/" in location
            assert source.startswith("self.bus.on(")

    def test_a_second_run_adds_a_session_and_no_parent(self, day):
        def parents():
            return [day.one(f"SELECT count(*) FROM {table}") for table in ("services", "listeners", "scheduled_jobs")]

        before, runs = parents(), day.one("SELECT count(*) FROM handler_invocations")
        again = demo(day.db)
        assert again.returncode == 0, again.stdout + again.stderr
        assert parents() == before
        assert day.one("SELECT count(*) FROM handler_invocations") > 2 * runs - 100
        assert day.rows("SELECT stop_reason FROM sessions") == [("clean_shutdown",), ("clean_shutdown",)]
        assert day.one(f"SELECT count(*) - count(DISTINCT hex(span_id)) FROM {RUNS}") == 0
        assert day.rows("PRAGMA foreign_key_check") == []


def test_ctrl_c_ends_it_well(tmp_path):
    db = tmp_path / "x.db"
    command = [*DEMO, "--plain", "--speed", "60", "--db", str(db)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith(" 10 %"):
                break
        process.send_signal(signal.SIGINT)
        said, complained = process.communicate(timeout=30)
    assert process.returncode == 0, complained
    assert complained == ""
    assert "Stopped at 0" in said
    assert "Every run the executor returned is in the file" in said
    conn = sqlite3.connect(db)
    assert conn.execute("SELECT stop_reason FROM sessions").fetchall() == [("clean_shutdown",)]
    conn.close()


def test_a_difference_is_said_and_returned(tmp_path, monkeypatch, capsys):
    scene = empty_scene(str(tmp_path / "x.db"))
    scene.host.returned["handler", "success"] = 7
    Path(scene.db).touch()

    async def play(*_):
        return Played(scene, None, 1.0, recorded=True)

    async def counts(*_):
        return Counter({("handler", "success"): 6})

    monkeypatch.setattr(app, "_play", play)
    monkeypatch.setattr(app, "recorded_counts", counts)
    assert app.run_demo(scene.db, once=True, speed=None, live=True) == 1
    assert "differ" in capsys.readouterr().out


class NoTelemetry:
    register_listener = register_job = set_next_run = skipped = execute = staticmethod(lambda *_: None)


def empty_scene(db: str) -> Scene:
    async def nothing() -> None: ...

    clock = HouseClock(None, nothing)
    return Scene(db, clock, CountingHost(NoTelemetry(), clock.monotonic), lambda: None)


# --- the picture ---------------------------------------------------------------------------------------------


async def breathe() -> None:
    await asyncio.sleep(0)


@pytest.fixture
async def scene(make, db):
    """Some runs of every app, with names and messages of all kinds."""
    telemetry = make()
    clock = HouseClock(None, breathe)
    async with telemetry:
        host = CountingHost(telemetry, clock.monotonic)

        async def fine(event): ...

        async def fails(event):
            raise ValueError("a long message\nin two lines with \x1b[31m and 漢字 " * 9)

        async def lacks(event):
            raise DependencyError("nobody has it")

        async def waits(event):
            await asyncio.Event().wait()

        for key in ("lights.Lights", "climate.Climate", "flaky.Flaky"):
            for call in (fine, fails, lacks):
                listener = host.register_listener(call, topic="t", app_key=key, name=f"{call.__name__}_{'x' * 70}")
                for _ in range(5):
                    await host.execute(InvokeHandler(listener))
        pending = asyncio.create_task(
            host.execute(InvokeHandler(host.register_listener(waits, topic="t", app_key="presence.Presence")))
        )
        await asyncio.sleep(0)
        await clock.reach(of_day(200))
        pending.cancel()
        await asyncio.wait([pending])
        await telemetry.aflush()
        yield Scene(db, clock, host, telemetry.health)


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (120, 40), (200, 60), (40, 10)])
async def test_the_picture_fits_the_terminal(scene, width, height):
    lines = picture(scene, width, height)
    assert len(lines) <= height
    console = Console(record=True, width=width, height=height, force_terminal=True, color_system=None)
    for line in lines:
        console.print(line, overflow="crop")
    printed = console.export_text().splitlines()
    assert len(printed) == len(lines)  # nothing wrapped
    assert "\x1b" not in "".join(line.plain for line in lines)


async def test_the_picture_says_what_happened(scene):
    text = "\n".join(line.plain for line in picture(scene, 120, 40))
    assert "16:40  tidying up" in text
    assert "46 runs   30 failed   1 cancelled" in text
    assert "ValueError: a long message in two lines" in "\n".join(line.plain for line in picture(scene, 200, 40))
    assert "0 lost" in text
    for name in ("Lights", "Climate", "Presence", "Security", "Energy", "Flaky"):
        assert name in text


async def test_lists_that_grow_move_nothing(scene):
    before = [line.plain for line in picture(scene, 100, 30)]
    scene.host.failures.clear()
    scene.host.handles.clear()
    after = [line.plain for line in picture(scene, 100, 30)]
    assert len(before) == len(after)
    assert before[-1][:10] == after[-1][:10]


async def test_the_summary_of_a_stopped_day(scene):
    Path(scene.db).touch()
    lines = [line.plain for line in summary(Played(scene, of_day(50), 3.0, recorded=True), scene.host.returned, 80)]
    assert lines[1] == "Stopped at 07:24: 46 runs in 3.00 s."
    assert "Every run" in "\n".join(lines)
    unrecorded = summary(Played(scene, None, 3.0, recorded=False), None, 80)
    assert "nothing was recorded" in unrecorded[-1].plain


# --- the day and its clock -------------------------------------------------------------------------------------


def test_the_recording_is_what_its_readme_says():
    events = list(recorded_events())
    assert len(events) == 5_480
    assert [event.second for event in events] == sorted(event.second for event in events)
    assert Counter(event.topic.partition(".")[0] for event in events)["call_service"] == 741
    assert "person.anna" in initial_states()


def test_the_time_of_day_follows_the_phases():
    assert clock_text(of_day(26)) == "06:30"
    assert phase_at(of_day(26)) == "waking up"
    assert of_day(0) == 0
    for second in (0, 13, 66, 122.5, 300, 409):
        assert recorded_at(of_day(second)) == pytest.approx(second)
    assert of_day(recorded_at(MIDNIGHT)) == MIDNIGHT
    assert recorded_at(-3600) < 0


@pytest.mark.parametrize("speed", [None, 1e9])
async def test_what_is_due_comes_in_order_and_the_clock_stands_at_it(speed):
    clock = HouseClock(speed, breathe)
    clock.start()
    seen = []
    for when in (300, 100, 200, 99_999):
        clock.call_at(when, lambda when=when: seen.append((when, clock.monotonic() >= when)))
    clock.call_at(150, lambda: seen.append("cancelled")).cancel()
    clock.call_at(200, lambda: clock.call_at(150, lambda: seen.append("at once")))
    await clock.reach(400)
    assert seen == [(100, True), (200, True), "at once", (300, True)]


async def test_a_sleeping_run_can_be_cancelled():
    clock = HouseClock(None, breathe)
    sleepers = [asyncio.create_task(clock.sleep(seconds)) for seconds in (60, 120)]
    await asyncio.sleep(0)
    assert clock.asleep == 2
    sleepers[1].cancel()
    await clock.reach(1_000)
    await asyncio.wait(sleepers)
    assert [sleeper.cancelled() for sleeper in sleepers] == [False, True]
    assert clock.asleep == 0
