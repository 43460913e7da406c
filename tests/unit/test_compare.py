"""Two sides beside each other: what is a change, what is noise, and how it is said."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import seeded
from handspan.cli import main
from handspan.clock import instant_from_ns
from handspan.store.backfill import backfill, start_over
from handspan.store.parents import Parents
from handspan.store.queries import compare as query
from handspan.store.queries.compare import Side, changes
from handspan.store.queries.figures import Figures
from handspan.store.queries.shapes import Window
from handspan.store.service import DatabaseService
from seeded import DAY, HOUR, NOW, raw

HELD = "INSERT INTO registration_holders (session_id, kind, registration_id) VALUES (4, 'handler', 6)"
ENDED = f"UPDATE sessions SET stop_reason = 'clean_shutdown', stopped_at = {NOW + HOUR}"
AT = instant_from_ns(int(NOW) * 10**9)


def figures(runs: int, errors: int = 0, p50: float = 10.0, p95: float = 20.0, p99: float = 30.0) -> Figures:
    return Figures(runs=runs, successes=runs - errors, errors=errors, p50_ms=p50, p95_ms=p95, p99_ms=p99)


def moved(before: Figures, after: Figures) -> list[str]:
    return [("+" if change.worse else "-") + change.what for change in changes(before, after)]


# --- the rule ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after", "what"),
    [
        pytest.param(figures(1000), figures(1000), [], id="equal"),
        pytest.param(figures(1000), figures(1000, p95=25.9), [], id="p95 less than 1.3 times"),
        pytest.param(figures(1000), figures(1000, p95=26.0), ["+p95_ms"], id="p95 1.3 times"),
        pytest.param(figures(1000, p50=0.1), figures(1000, p50=1.0), [], id="ten times, less than a millisecond"),
        pytest.param(figures(19), figures(1000, p95=90.0), [], id="too few runs before"),
        pytest.param(figures(1000), figures(19, errors=19), [], id="too few runs after"),
        pytest.param(figures(1000), figures(999, p99=90.0), [], id="p99 takes a thousand"),
        pytest.param(figures(1000), figures(1000, p99=90.0), ["+p99_ms"], id="p99 of a thousand"),
        pytest.param(figures(1000), figures(99, p95=90.0), [], id="p95 takes a hundred"),
        pytest.param(figures(1000), figures(100, p95=90.0), ["+p95_ms"], id="p95 of a hundred"),
        pytest.param(figures(1000, p95=90.0), figures(1000), ["-p95_ms"], id="faster"),
        pytest.param(figures(100, 1), figures(100, 4), [], id="three more of a hundred failed"),
        pytest.param(figures(10_000, 100), figures(10_000, 400), ["+error_rate"], id="three in a hundred, of many"),
        pytest.param(figures(100, 50), figures(100, 5), ["-error_rate"], id="mended"),
        pytest.param(figures(1000, p95=90.0), figures(1000, 90), ["+error_rate", "-p95_ms"], id="worse comes first"),
        pytest.param(figures(20), figures(20, 20), ["+error_rate"], id="all of twenty"),
    ],
)
def test_what_is_a_change(before: Figures, after: Figures, what: list[str]) -> None:
    """Enough runs, far enough apart, more than chance."""
    assert moved(before, after) == what


@given(st.integers(20, 5000), st.integers(0, 5000), st.floats(0.01, 1e5), st.integers(20, 5000))
def test_a_change_has_a_direction(runs: int, errors: int, p95: float, more: int) -> None:
    """The other way round it is the same change in the other direction, and nothing differs from itself."""
    one, two = figures(runs, min(errors, runs), p95=p95), figures(more, more // 3)
    assert moved(one, one) == []
    flipped = str.maketrans("+-", "-+")
    assert {each.translate(flipped) for each in moved(one, two)} == set(moved(two, one))


# --- sides --------------------------------------------------------------------------------------------------------


@pytest.fixture
def slowed(tmp_path: Path) -> str:
    """The newest two sessions of the house: some got slower, fail more, are new or gone, or are as they were."""
    path = seeded.build(tmp_path / "handspan.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        for table in ("handler_invocations", "job_executions", "rollups"):
            conn.execute(f"DELETE FROM {table}")
        rows = []
        for session, start in ((2, NOW - 2 * DAY + 60), (4, NOW - 6 * HOUR)):
            late = session == 4
            rows += run(session, start, 1, 400, 40.0 * (2 if late else 1))  # slower
            rows += run(session, start, 2, 300, 5.0, errors=90 if late else 3)  # fails more
            rows += run(session, start, 3, 200, 5.0)  # as it was
            rows += run(session, start, 4 if late else 6, 25, 5.0)  # new, and gone
            rows += run(session, start, 5, 5, 900.0 * (4 if late else 1))  # too few
        seeded.put(conn, "handler_invocations (listener_id, session_id, execution_start_ts, duration_ms, status, "
                         "error_type, trace_id, span_id)", rows)  # fmt: skip
        conn.execute("COMMIT")
        start_over(conn)
        for _ in backfill(conn, Parents(conn)):
            pass
    return path


def run(session: int, start: float, listener: int, n: int, ms: float, errors: int = 0) -> list[tuple[Any, ...]]:
    return [(listener, session, start + i, ms * (0.9 + i % 10 / 50), "error" if i < errors else "success",
             "ValueError" if i < errors else None, b"t", b"s") for i in range(n)]  # fmt: skip


async def test_two_sessions(slowed: str) -> None:
    """What matters most comes first; figures are each session's own."""
    async with DatabaseService(slowed) as db:
        found = await query.compare(db, Side(sessions=[2]), Side(sessions=[4]))
    assert [(each.id, each.state) for each in found.compared] == [
        (2, "failing"), (1, "slower"), (4, "new"), (6, "gone"), (3, "same"), (5, "few"),
    ]  # fmt: skip
    for each in found.compared:
        for session, side in ((2, each.before), (4, each.after)):
            wanted = raw(slowed, "SELECT count(*), coalesce(sum(status = 'error'), 0) FROM handler_invocations "
                                 "WHERE session_id = ? AND listener_id = ?", session, each.id)  # fmt: skip
            assert [(side.runs, side.errors)] == wanted
    failing, slower = found.compared[:2]
    assert failing.weight == pytest.approx(90 - 3 / 300 * 300)
    assert [(change.what, round(change.ratio or 0, 1)) for change in slower.changes] == [
        ("p50_ms", 2.0), ("p95_ms", 2.0),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "state"),
    [
        pytest.param("UPDATE listeners SET retired_at = NULL", "gone", id="held by nobody"),
        pytest.param(f"UPDATE listeners SET retired_at = {NOW - HOUR} WHERE id = 6", "gone", id="retired"),
        pytest.param(HELD, "silent", id="held, and long silent"),
        pytest.param(f"{HELD}; UPDATE sessions SET last_heartbeat_at = started_at + 50 WHERE id = 4", "few",
                     id="held, in a session of 50 s"),
        pytest.param(f"{ENDED} WHERE id = 4", "silent", id="registered in a session that has ended"),
        pytest.param(f"{ENDED} WHERE id = 4; UPDATE listeners SET retired_at = {NOW + 2 * HOUR} WHERE id = 6", "silent",
                     id="retired after that session"),
        pytest.param(f"{ENDED} WHERE id = 4; UPDATE listeners SET last_registered_at = {NOW - DAY} WHERE id = 6",
                     "gone", id="not registered in a session that has ended"),
    ],
)  # fmt: skip
async def test_what_did_not_run_is_gone_only_if_nobody_held_it(slowed: str, change: str, state: str) -> None:
    """What is registered did not run: said only where it should have, by how often it used to."""
    with closing(sqlite3.connect(slowed, isolation_level=None)) as conn:
        conn.execute("UPDATE listeners SET service_id = 1, instance_index = 7 WHERE id = 6")
        conn.execute("UPDATE sessions SET last_heartbeat_at = ? WHERE id = 4", (NOW + HOUR,))  # 25 a day: 7 in 7 h
        conn.executescript(change)
    async with DatabaseService(slowed) as db:
        found = await query.compare(db, Side(sessions=[2]), Side(sessions=[4]))
    assert [each.state for each in found.compared if each.id == 6] == [state]


async def test_two_versions_and_two_times_are_the_same_two(slowed: str) -> None:
    """1.0 and 1.1 are those sessions, and so are the times they ran in."""
    middle = instant_from_ns(int(NOW - DAY) * 10**9)
    async with DatabaseService(slowed) as db:
        old, new = await query.sessions_of_version(db, "1.0"), await query.sessions_of_version(db, "1.1")
        by_version = await query.compare(db, Side(sessions=old), Side(sessions=new))
        by_time = await query.compare(db, Side(Window(None, middle)), Side(Window(middle)))
        by_session = await query.compare(db, Side(sessions=[2]), Side(sessions=[4]))
    assert (old, new) == ([1, 2], [4])
    assert by_version == by_session
    assert by_time == by_session


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def steady(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("handspan.cli.compare.now", lambda: AT)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.chdir(tmp_path)


def call(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    code = main(["compare", *args])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.mark.parametrize(
    "args",
    [
        pytest.param([], id="the last against the one before"),
        pytest.param(["previous", "last"], id="in words"),
        pytest.param(["2"], id="one number: against the last"),
        pytest.param(["2", "4"], id="numbers"),
        pytest.param(["1.0", "1.1"], id="versions"),
        pytest.param(["--version", "1.0", "1.1"], id="versions, said so"),
        pytest.param(["--window", "24h"], id="times"),
    ],
)
def test_ways_to_name_two_sides(slowed: str, capsys: pytest.CaptureFixture[str], args: list[str]) -> None:
    """All of them compare the same runs, and name what they compare."""
    if args[:1] == ["--window"]:  # the older session, into the day before
        args = ["--window", "47h"]
    code, out, err = call(capsys, *args)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].endswith("930 runs, 3 failed, 0.3 %.")
    assert lines[1].endswith("930 runs, 90 failed, 9.7 %.")
    assert [line.split("  ")[0] for line in lines[4:8]] == ["fails more", "slower", "new", "gone"]
    assert "30 % failed, was 1 %" in out
    assert "1 registration ran fewer than 20 times on one side" in out
    assert max(map(len, lines)) <= 80


def test_json(slowed: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same facts, and those that did not move, too."""
    found = json.loads(call(capsys, "--json")[1])
    assert found["before"]["runs"] == found["after"]["runs"] == 930
    assert [each["state"] for each in found["compared"]] == ["failing", "slower", "new", "gone", "same", "few"]
    assert found["compared"][1]["changes"][0]["what"] == "p50_ms"
    assert not found["more"]
    assert json.loads(call(capsys, "--json", "--limit", "2")[1])["more"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        pytest.param(["9.9", "1.1"], "versions: 1.1, 1.0", id="a version nobody ran"),
        pytest.param(["77"], "no session and no version '77'", id="a session that is not there"),
        pytest.param(["--window", "24"], "no length of time", id="a window without a unit"),
        pytest.param(["--window", "0h"], "no length of time", id="a window of nothing"),
        pytest.param(["--window", "99999w"], "no length of time", id="a window from before 1970"),
        pytest.param(["1", "--window", "24h"], "without A and B", id="both"),
        pytest.param(["--version", "1.0"], "takes two versions", id="one version"),
    ],
)
def test_slips(slowed: str, capsys: pytest.CaptureFixture[str], args: list[str], says: str) -> None:
    """One line that helps."""
    code, out, err = call(capsys, *args)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_one_session_has_nothing_beside_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The first day: what to do instead."""
    path = seeded.build(tmp_path / "handspan.db", rows=False)
    assert "There is no previous session to compare. `handspan compare --window 24h`" in call(capsys, "--db", path)[2]
