"""When nothing recorded: gaps between sessions, against plain arithmetic."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import seeded
from handspan.clock import instant_from_ns, to_ns
from handspan.store.queries.downtime import Gap, Lived, downtime, gaps
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from seeded import DAY, HOUR, NOW

AT = instant(NOW)
SECOND = 10**9
END = instant_from_ns(100 * SECOND)


@pytest.fixture
def house(tmp_path: Path) -> str:
    return seeded.build(tmp_path / "house.db")


def lived(number: int, start: int, length: int, *, alive: bool = False) -> Lived:
    ended = None if alive else instant_from_ns((start + length) * SECOND)
    return Lived(number, "house", None, instant_from_ns(start * SECOND), ended, "live" if alive else "crash")


@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(0, 30)), min_size=1, max_size=8),
    st.one_of(st.none(), st.integers(0, 99)),
)
def test_a_gap_is_a_second_in_which_nobody_lived(spans: list[tuple[int, int]], alive: int | None) -> None:
    """Second by second, from the first session to now: down exactly where no session lived."""
    sessions = [lived(number, start, min(length, 100 - start)) for number, (start, length) in enumerate(spans)]
    if alive is not None:
        sessions.append(lived(99, alive, 0, alive=True))
    found = list(gaps(sessions, END))
    first = min(to_ns(each.started_at) for each in sessions) // SECOND
    expected = {
        second
        for second in range(first, 100)
        if not any(
            to_ns(each.started_at) // SECOND <= second < to_ns(each.ended_at or END) // SECOND for each in sessions
        )
    }
    down = {second for gap in found for second in range(to_ns(gap.since) // SECOND, to_ns(gap.until or END) // SECOND)}
    assert down == expected
    assert sum(gap.down_s for gap in found) == len(expected)
    assert [gap.until is None for gap in found].count(True) == (99 in expected)


async def one(house: str, window: Window, service: str = "house") -> tuple[float, list[Gap]]:
    async with DatabaseService(house) as db:
        (found,) = await downtime(db, AT, window, service=service, alive=lambda *_: False)
    return found.down_s, found.gaps


async def test_gaps_of_the_house(house: str) -> None:
    """What the seeded sessions leave: a minute after the crash, eighteen hours before the last one."""
    down, found = await one(house, Window(instant(NOW - 7 * DAY)))
    assert [(gap.session_before, gap.how, gap.session_after, gap.down_s) for gap in found] == [
        (2, "clean_shutdown", 4, 18 * HOUR),
        (1, "crash", 2, 60.0),
    ]
    assert down == 18 * HOUR + 60
    assert (found[0].version_before, found[0].version_after) == ("1.0", "1.1")


@pytest.mark.parametrize(
    ("since", "until", "down"),
    [
        pytest.param(NOW - 20 * HOUR, NOW - 10 * HOUR, 10 * HOUR, id="all of it"),
        pytest.param(NOW - 20 * HOUR, NOW - 5 * HOUR, 14 * HOUR, id="its beginning"),
        pytest.param(NOW - 30 * HOUR, NOW - 20 * HOUR, 4 * HOUR, id="its end"),
        pytest.param(NOW - 5 * HOUR, NOW - HOUR, 0, id="none of it"),
    ],
)
async def test_a_window_cuts_a_gap(house: str, since: float, until: float, down: float) -> None:
    """Only what lies in the window counts, and the gap's own ends are told all the same."""
    found_down, found = await one(house, Window(instant(since), instant(until)))
    assert found_down == down
    for gap in found:
        assert (gap.since, gap.until) == (instant(NOW - DAY), instant(NOW - 6 * HOUR))


async def test_what_is_down_now(house: str) -> None:
    """A service whose last session ended is down until now, and comes first."""
    async with DatabaseService(house) as db:
        found = await downtime(db, AT, Window(instant(NOW - DAY)), alive=lambda *_: False)
    assert [(each.service, each.down_now) for each in found] == [("garage", True), ("house", False)]
    assert found[0].gaps[0].until is None
    assert found[0].down_s == DAY


async def test_what_a_gap_cost(house: str) -> None:
    """Runs cut off are those of the session before; missed ones were counted by the session after."""
    with closing(sqlite3.connect(house, isolation_level=None)) as conn:
        hour = int((NOW - 10 * HOUR) // HOUR * HOUR)
        conn.execute("INSERT INTO skips VALUES (?, 'job', 1, 4, 'down', 7, ?, ?)", (hour, hour, hour + 1))
        (cut,) = conn.execute(
            "SELECT count(*) FROM v_executions WHERE session_id = 2 AND error_type = 'ProcessInterrupted'"
        ).fetchone()
    _, found = await one(house, Window(instant(NOW - DAY - 1)))
    assert cut
    assert [(gap.interrupted, gap.missed) for gap in found] == [(cut, 7)]
