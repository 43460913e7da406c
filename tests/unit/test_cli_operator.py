"""What an operator asks by name: totals, failures of a type, several instances, schedules, times of day."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import seeded
from handspan.cli import main
from handspan.cli.options import period
from handspan.clock import SystemClock
from handspan.store.queries.shapes import instant
from handspan.store.service import DatabaseService
from seeded import DAY, HOUR, NOW, raw

Ask = Callable[..., Any]
MIDNIGHT = NOW // DAY * DAY
EVERYTHING = (
    "SELECT 'handler' AS kind, l.app_key, status, error_type, duration_ms, execution_start_ts AS ts, session_id,"
    " lower(hex(trace_id)) AS trace_id FROM handler_invocations JOIN listeners AS l ON l.id = listener_id"
    " UNION ALL SELECT 'job', j.app_key, status, error_type, duration_ms, execution_start_ts, session_id,"
    " lower(hex(trace_id)) FROM job_executions JOIN scheduled_jobs AS j ON j.id = job_id"
)


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A known moment, width and zone."""
    monkeypatch.setattr(SystemClock, "wall_ns", staticmethod(lambda: int(NOW) * 10**9))
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def house(tmp_path: Path) -> str:
    return seeded.build(tmp_path / "house.db")


@pytest.fixture
def ask(house: str, capsys: pytest.CaptureFixture[str]) -> Ask:
    """The JSON answer to a command; or, of what was refused, its complaint."""

    def call(*args: str, text: bool = False) -> Any:
        code = main([*args, "--db", house, *([] if text else ["--json"])])
        said = capsys.readouterr()
        if code == 2:
            return said.err
        return said.out if text else json.loads(said.out)

    return call


@pytest.mark.parametrize(
    ("by", "column"),
    [("kind", "kind"), ("app", "app_key"), ("session", "session_id")],
)
def test_totals_by(house: str, ask: Ask, by: str, column: str) -> None:
    """Each part has the runs, failures and time of plain SQL, and all of them together are the whole."""
    found = ask("totals", "--by", by, "--since", "30h", "--until", "5h")
    expected = raw(
        house,
        f"SELECT {column}, count(*), sum(status = 'error'), round(sum(duration_ms), 6) FROM ({EVERYTHING})"
        " WHERE ts >= ? AND ts < ? GROUP BY 1",
        NOW - 30 * HOUR, NOW - 5 * HOUR,
    )  # fmt: skip
    parts = {(part[column], part["figures"]["runs"], part["figures"]["errors"], round(part["figures"]["total_ms"], 6))
             for part in found["parts"]}  # fmt: skip
    assert parts == set(expected)
    assert found["all"]["runs"] == sum(row[1] for row in expected)


def test_totals_by_the_hour(house: str, ask: Ask) -> None:
    """Whole hours, as plain SQL counts them."""
    found = ask("totals", "--by", "hour", "--since", "6h")
    expected = dict(
        raw(
            house,
            f"SELECT CAST(ts / 3600 AS INTEGER) * 3600, count(*) FROM ({EVERYTHING}) WHERE ts >= ? GROUP BY 1",
            (NOW - 6 * HOUR) // HOUR * HOUR,
        )
    )
    hours = {each["started_at"]: each["runs"] for each in found["points"] if each["runs"]}
    assert {
        time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(hour)): runs for hour, runs in expected.items()
    } == hours
    assert sum(hours.values()) >= found["all"]["runs"]


def test_too_many_hours_are_refused(ask: Ask) -> None:
    """Rather than shown as something else."""
    assert "too many hours" in ask("totals", "--by", "hour", "--since", "400d")


@pytest.mark.parametrize("error", ["ValueError", "Value*", "ProcessInterrupted", "DependencyError"])
def test_runs_of_an_error_type(house: str, ask: Ask, error: str) -> None:
    """The same runs as plain SQL has, newest first, page by page."""
    expected = raw(house, f"SELECT trace_id FROM ({EVERYTHING}) WHERE error_type GLOB ? ORDER BY ts DESC", error)
    found, cursor = [], []
    while True:
        page = ask("runs", "--error", error, "--limit", "3", *cursor)
        found += [(run["trace_id"],) for run in page["runs"]]
        if page["after"] is None:
            break
        cursor = ["--after", page["after"]]
    assert found == expected
    assert expected


def test_runs_of_an_error_type_and_more(house: str, ask: Ask) -> None:
    """Filters and times hold beside it."""
    found = ask("runs", "--error", "ValueError", "--handler", "on_push", "--since", "2d", "--session", "2")
    expected = raw(
        house, f"SELECT trace_id FROM ({EVERYTHING}) WHERE error_type = 'ValueError' AND app_key = 'flaky'"
        " AND ts >= ? AND session_id = 2 ORDER BY ts DESC", NOW - 2 * DAY,
    )  # fmt: skip
    assert [(run["trace_id"],) for run in found["runs"]] == expected
    assert ask("runs", "--error", "ValueError", "--job", "sample")["runs"] == []


def test_an_error_type_nothing_had(ask: Ask) -> None:
    """It is refused, with the one that was meant; and with --grep, which looks at types too."""
    assert "did you mean ValueError?" in ask("runs", "--error", "ValueEror")
    assert "one of them" in ask("runs", "--error", "ValueError", "--grep", "x")


def test_errors_of_a_type(ask: Ask) -> None:
    """Only groups of that type."""
    found = ask("errors", "--type", "Value*", "--since", "7d")["groups"]
    assert {group["error_type"] for group in found} == {"ValueError"}


def test_several_instances(house: str, ask: Ask) -> None:
    """Side by side, with their sum, and how to ask for one."""
    found = ask("handler", "lights.on_motion", "--since", "3d")["handlers"]
    expected = raw(
        house, "SELECT listener_id, count(*) FROM handler_invocations WHERE listener_id IN (1, 2, 6)"
        " AND execution_start_ts >= ? GROUP BY 1", NOW - 3 * DAY,
    )  # fmt: skip
    assert sorted((each["id"], each["activity"]["runs"]) for each in found) == expected
    said = " ".join(ask("handler", "lights.on_motion", "--since", "3d", text=True).split())
    assert f"3 handlers are called lights.on_motion: together {sum(n for _, n in expected)} runs" in said
    assert "Say which: --service NAME or --instance N" in said
    assert ask("handler", "lights.on_motion", "--instance", "1")["handler"]["registration"]["id"] == 2


@pytest.mark.parametrize(
    ("order", "expression"),
    [
        ("total", "sum(duration_ms)"), ("longest", "max(duration_ms)"),
        ("timeout", "sum(error_type IS 'TimeoutError')"), ("cancelled", "sum(status = 'cancelled')"),
        ("interrupted", "sum(error_type IS 'ProcessInterrupted')"),
        ("dependency", "sum(error_type IS 'DependencyError')"),
    ],
)  # fmt: skip
def test_what_comes_first(house: str, ask: Ask, order: str, expression: str) -> None:
    """Most of it, by plain SQL; and it has a column."""
    found = ask("handlers", "--sort", order, "--since", "3d")["handlers"]
    expected = dict(
        raw(
            house,
            f"SELECT listener_id, {expression} FROM handler_invocations WHERE execution_start_ts >= ? GROUP BY 1",
            NOW - 3 * DAY,
        )
    )
    values = [expected.get(each["id"], 0) for each in found]
    assert values == sorted(values, reverse=True)
    assert order in ask("handlers", "--sort", order, text=True).split("\n")[0]


@pytest.mark.parametrize(
    ("which", "ids"),
    [("never", {4, 5}), ("silent", {4, 5}), ("new", {1, 2, 3, 4, 5, 6}), ("retired", {5}), ("failed", None)],
)
def test_only_those(house: str, ask: Ask, which: str, ids: set[int] | None) -> None:
    """Handlers in a state, in the last five days and a bit (silent: in the last day)."""
    since = "12h" if which == "silent" else "121h"
    found = {each["id"] for each in ask("handlers", "--only", which, "--since", since)["handlers"]}
    if ids is None:
        ids = {
            row[0] for row in raw(house, "SELECT DISTINCT listener_id FROM handler_invocations WHERE status = 'error'")
        }
    if which == "silent":
        ran = raw(
            house, "SELECT DISTINCT listener_id FROM handler_invocations WHERE execution_start_ts >= ?", NOW - 12 * HOUR
        )
        ids = {1, 2, 3, 4, 6} - {row[0] for row in ran}
    assert found == ids


def test_skips_by_whom(house: str, ask: Ask) -> None:
    """Added up over the hours, as plain SQL does."""
    found = ask("skips", "--since", "3d")["by_registration"]
    expected = raw(
        house,
        "SELECT kind, registration_id, reason, sum(count), min(first_at), max(last_at) FROM skips GROUP BY 1, 2, 3",
    )
    assert {(each["kind"], each["registration_id"], each["reason"], each["count"]) for each in found} == {
        row[:4] for row in expected
    }
    assert [each["count"] for each in found] == sorted((row[3] for row in expected), reverse=True)


def test_a_schedule_is_to_the_instant(house: str, ask: Ask) -> None:
    """Runs and late runs of a window that cuts hours, against plain SQL."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        conn.execute("UPDATE job_executions SET scheduled_ts = execution_start_ts - 9 WHERE id % 7 = 0")
    seeded_again = ask("schedule", "--since", "61h", "--until", "11.5h")["jobs"]
    expected = dict(
        raw(
            house,
            "SELECT job_id, count(*) FROM job_executions WHERE execution_start_ts >= ? AND execution_start_ts < ?"
            " GROUP BY 1",
            NOW - 61 * HOUR,
            NOW - 11.5 * HOUR,
        )
    )
    assert {each["id"]: each["runs"] for each in seeded_again if each["runs"]} == expected


def test_a_schedule_of_trouble(ask: Ask) -> None:
    """What ran on time is left out; what never ran, or was left out itself, is not."""
    names = {each["name"] for each in ask("schedule", "--trouble")["jobs"]}
    assert names == {"sample", "good_night"}


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        pytest.param("20:00", None, (MIDNIGHT + 20 * HOUR, None), id="earlier today"),
        pytest.param("23:30", None, (MIDNIGHT - HOUR / 2, None), id="yesterday, as it is not yet today"),
        pytest.param("9:05", None, (MIDNIGHT + 9 * HOUR + 300, None), id="one digit"),
        pytest.param("23:30", "01:00", (MIDNIGHT - HOUR / 2, MIDNIGHT + HOUR), id="over midnight"),
        pytest.param("20:00", "23:00", (MIDNIGHT + 20 * HOUR, MIDNIGHT + 23 * HOUR), id="an end to come"),
        pytest.param("3h", "1h", (NOW - 3 * HOUR, NOW - HOUR), id="both back from now"),
        pytest.param("26h", "18:00", (NOW - 26 * HOUR, MIDNIGHT + 18 * HOUR), id="relative, then a time"),
    ],
)  # fmt: skip
async def test_times_of_day(house: str, since: str, until: str | None, expected: tuple[float, float | None]) -> None:
    """The last such time there was; after --until, the first one after --since. It is 20:26."""
    async with DatabaseService(house) as db:
        found = (await period(db, since, instant(NOW), until)).window
    assert (found.since, found.until) == tuple(instant(each) for each in expected)


def test_a_time_that_is_none(ask: Ask) -> None:
    """It is told as it was said."""
    assert "'25:00' is no time" in ask("totals", "--since", "25:00")


def test_status_of_a_time_that_is_over(house: str, ask: Ask) -> None:
    """Figures of then, and no verdict: that is of now."""
    found = ask("status", "--since", "30h", "--until", "20h")
    (expected,) = raw(
        house, f"SELECT count(*) FROM ({EVERYTHING}) WHERE ts >= ? AND ts < ?", NOW - 30 * HOUR, NOW - 20 * HOUR
    )
    assert found["status"]["handlers"]["runs"] + found["status"]["jobs"]["runs"] == expected[0]
    assert found["verdict"] is None
    assert "without --until" in ask("status", "--check", "--until", "1h")


def test_nothing_at_a_moment_leads_on(ask: Ask) -> None:
    """What was asked of an instant may have been meant of its minute."""
    said = " ".join(ask("running", "--at", "2026-05-28T20:00:30", text=True).split())
    assert "`handspan runs --since 2026-05-28T20:00 --until 2026-05-28T20:01`" in said
