"""Counting what did not run: exact, bounded, and never in anybody's way."""

import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handspan
import seeded
from handspan.clock import instant_from_ns
from handspan.reasons import REASONS
from handspan.recording import skips as counting
from handspan.recording.skips import Skips
from handspan.records import ListenerRegistration, ScheduledJobRegistration, Session
from handspan.store.parents import Parents
from handspan.store.skips import SkipWriter

HOUR_NS = 3_600 * 10**9
START = int(seeded.NOW // 3600) * HOUR_NS  # on the hour


class Clock:
    def __init__(self) -> None:
        self.ns = START

    def wall_ns(self) -> int:
        return self.ns

    monotonic_ns = wall_ns


OWNER = object()


def handle(number: int, owner: object = OWNER) -> Any:
    registration: Any = (
        ListenerRegistration("a", 0, f"on_{number}", "t", "on_it")
        if number % 2
        else ScheduledJobRegistration("a", 0, f"job_{number}", "run")
    )
    return SimpleNamespace(number=number, owner=owner, registration=registration)


HANDLES = [handle(number) for number in range(4)]


def counter() -> tuple[Skips, Clock]:
    clock = Clock()
    return Skips(OWNER, clock), clock


async def test_a_count_past_all_bounds_does_not_take_the_others_along(db: str) -> None:
    """SQLite's integers end at 64 bits, and all counts of a session go in one transaction."""
    async with handspan.Telemetry(db, service_name="house", set_global_providers=False) as telemetry:
        job = telemetry.register_job(lambda: None, app_key="a", job_name="tidy")
        telemetry.skipped(job, "missed")
        for count in (2**70, 10**12):
            telemetry.skipped(job, "overlapped", count)
    with closing(sqlite3.connect(db)) as conn:
        found = dict(conn.execute("SELECT reason, count FROM skips"))
    assert found == {"missed": 1, "overlapped": 2 * 10**12}


# --- counting -----------------------------------------------------------------------------------------------


def test_one_entry_for_each_registration_reason_and_hour() -> None:
    """Counts add up, the first and last time stay; the next hour is another entry."""
    skips, clock = counter()
    for second in (1, 5, 9, 3601):
        clock.ns = START + second * 10**9
        skips.add(HANDLES[1], "predicate", 2)
    skips.add(HANDLES[1], "throttle")
    found = sorted(
        (e.reason, e.count, (e.first_ns - START) // 10**9, (e.last_ns - START) // 10**9) for e in skips.take()
    )
    assert found == [("predicate", 2, 3601, 3601), ("predicate", 6, 1, 9), ("throttle", 1, 3601, 3601)]
    assert (skips.take(), skips.waiting) == ([], False)


def test_a_moment_that_is_given_counts_in_its_own_hour() -> None:
    """What was due at three is not of the hour it was noticed in."""
    skips, _ = counter()
    due = instant_from_ns(START - 5 * HOUR_NS + 7)
    skips.add(HANDLES[0], "missed", at=due)
    skips.add(HANDLES[0], "missed", 3)
    assert sorted((e.count, e.ends_ns - START) for e in skips.take()) == [(1, -4 * HOUR_NS), (3, HOUR_NS)]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((HANDLES[0], "eclipse"), "is no reason not to run"),
        ((handle(1, owner=object()), "predicate"), "belongs to another Telemetry"),
        ((None, "predicate"), "the application is not affected"),
        ((HANDLES[0], ["predicate"]), "the application is not affected"),
        ((HANDLES[0], "predicate", "many"), "the application is not affected"),
    ],
    ids=["unknown-reason", "another-telemetry", "no-handle", "no-text", "no-number"],
)
def test_what_makes_no_sense_is_not_counted_and_said_once(
    args: tuple[Any, ...], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody on the way of an event is told by an exception."""
    skips, _ = counter()
    for _ in range(3):
        skips.add(*args)
    assert [said in record.getMessage() for record in caplog.records] == [True]
    assert not skips.waiting


@pytest.mark.parametrize("count", [0, -5])
def test_nothing_is_nothing(count: int, caplog: pytest.LogCaptureFixture) -> None:
    """A host may hand on what its arithmetic gave."""
    skips, _ = counter()
    skips.add(HANDLES[0], "missed", count)
    assert (skips.waiting, caplog.records) == (False, [])


def test_a_number_that_names_another_registration_now_is_counted_apart_by_its_owner() -> None:
    """A handle of another Telemetry with the same number adds nothing to ours."""
    skips, _ = counter()
    skips.add(HANDLES[1], "predicate")
    skips.add(handle(1, owner=object()), "predicate", 100)
    assert [e.count for e in skips.take()] == [1]


def test_threads_lose_no_count() -> None:
    """Eight of them, and one that takes meanwhile."""
    skips, _ = counter()
    taken: list[int] = []
    begin = threading.Barrier(9)

    def count() -> None:
        begin.wait()
        for _ in range(5_000):
            skips.add(HANDLES[1], "predicate")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    begin.wait()
    while any(thread.is_alive() for thread in threads):
        taken += [e.count for e in skips.take()]
    taken += [e.count for e in skips.take()]
    assert sum(taken) == 40_000


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What there is no room for is counted as that, and said when the rest is written."""
    monkeypatch.setattr(counting, "MAX_ENTRIES", 3)
    skips, _ = counter()
    for each in HANDLES:
        skips.add(each, "missed", 5)
    skips.add(HANDLES[0], "missed")
    assert sorted(e.count for e in skips.take()) == [5, 5, 6]
    assert "5 events or runs that were skipped are not counted" in caplog.text


def test_the_first_count_is_told_once_until_it_is_taken() -> None:
    """A forked child starts its writer then."""
    skips, _ = counter()
    told: list[int] = []
    skips.on_first = lambda: told.append(1)
    for _ in range(3):
        skips.add(HANDLES[0], "missed")
    assert len(told) == 1
    skips.take()
    skips.add(HANDLES[0], "missed")
    assert len(told) == 2


# --- writing ------------------------------------------------------------------------------------------------


class Failing(sqlite3.Connection):
    """Commits fail while it is told to."""

    failing = False

    def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
        if self.failing and sql.lstrip().startswith("COMMIT"):
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *args)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(0, 3), st.sampled_from(REASONS), st.integers(1, 9)),
        st.tuples(st.just("pass"), st.integers(1, 5000)),
        st.tuples(st.just("write"), st.booleans()),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_every_count_is_written_exactly_once_however_often_commits_fail(steps: list[tuple[Any, ...]]) -> None:
    """Whatever is counted, when the hours change, and whichever transactions fail."""
    skips, clock = counter()
    writer = SkipWriter(skips, Session("one", "house", started_at=instant_from_ns(START)))
    expected: Counter[tuple[int, str, str]] = Counter()
    with closing(sqlite3.connect(":memory:", isolation_level=None, factory=Failing)) as conn:
        for statement in seeded.schema.split_statements(seeded.schema.schema_sql(seeded.schema.migrations_dir())):
            conn.execute(statement)
        parents = Parents(conn)
        for step in [*steps, ("write", False)]:
            if step[0] == "add":
                _, number, reason, count = step
                skips.add(HANDLES[number], reason, count)
                name = HANDLES[number].registration
                expected[clock.ns // HOUR_NS * 3600, getattr(name, "name", None) or name.job_name, reason] += count
            elif step[0] == "pass":
                clock.ns += step[1] * 10**9
            else:
                conn.failing = step[1]
                try:
                    writer.write(conn, parents, clock.ns / 1e9)
                except sqlite3.OperationalError:
                    assert step[1]
        found = conn.execute(
            "SELECT strftime('%s', hour_at) + 0, name, reason, sum(count) FROM v_skips GROUP BY 1, 2, 3"
        )
        assert Counter({tuple(row[:3]): row[3] for row in found}) == expected


def test_counts_no_file_can_take_do_not_stop_recording(caplog: pytest.LogCaptureFixture) -> None:
    """They are given up, and said; the next ones are written."""
    skips, _ = counter()
    writer = SkipWriter(skips, Session("one", "house", started_at=instant_from_ns(START)))
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        for statement in seeded.schema.split_statements(seeded.schema.schema_sql(seeded.schema.migrations_dir())):
            conn.execute(statement)
        conn.execute(
            "CREATE TRIGGER no BEFORE INSERT ON skips WHEN new.count = 13 BEGIN SELECT raise(ABORT, 'no'); END"
        )
        skips.add(HANDLES[0], "missed", 13)
        assert writer.write(conn, Parents(conn), 1.0) is False
        skips.add(HANDLES[0], "missed", 2)
        assert writer.write(conn, Parents(conn), 1.0) is True
        assert conn.execute("SELECT sum(count) FROM skips").fetchone() == (2,)
    assert "could not be stored" in caplog.text


# --- a whole Telemetry --------------------------------------------------------------------------------------


async def on_it(event: object) -> None: ...


def test_a_flush_and_a_close_write_what_was_counted(make: Any, rows: Any) -> None:
    """Each, without waiting half a minute."""
    telemetry = make().open()
    listener = telemetry.register_listener(on_it, topic="t", app_key="a")
    telemetry.skipped(listener, "predicate", 340)
    assert telemetry.flush()
    assert [(r["name"], r["reason"], r["count"]) for r in rows("SELECT * FROM v_skips")] == [
        ("on_it", "predicate", 340)
    ]
    telemetry.skipped(listener, "predicate", 2)
    telemetry.close()
    assert [r["count"] for r in rows("SELECT * FROM v_skips")] == [342]


def test_an_idle_writer_writes_counts_with_its_heartbeat(make: Any, rows: Any, db: str) -> None:
    """One transaction for both: the session's sign of life is of the same moment."""
    telemetry = make(heartbeat_interval=0.05, journal=False).open()
    listener = telemetry.register_listener(on_it, topic="t", app_key="a")
    telemetry.skipped(listener, "throttle")
    while not rows("SELECT 1 FROM skips"):
        threading.Event().wait(0.01)
    assert rows("SELECT last_heartbeat_at >= k.last_at AS told FROM sessions, skips AS k") == [{"told": 1}]


def test_nothing_is_counted_where_nothing_is_recorded(
    make: Any, monkeypatch: pytest.MonkeyPatch, db: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With OTEL_SDK_DISABLED a host need not ask."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with make() as telemetry:
        telemetry.skipped(telemetry.register_listener(on_it, topic="t", app_key="a"), "predicate")
    assert not Path(db).exists()
    assert "skips" not in caplog.text


def test_a_handle_of_another_telemetry_is_refused(make: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As its commands are."""
    ours, other = make().open(), make(db=str(tmp_path / "other.db")).open()
    ours.skipped(other.register_listener(on_it, topic="t", app_key="a"), "predicate")
    assert "belongs to another Telemetry" in caplog.text
    assert isinstance(ours, handspan.Telemetry)
