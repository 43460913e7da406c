"""Hostile log lines, lines the store refuses, and that no line outlives its run."""

import logging
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from handspan import InvokeHandler
from handspan.records import ListenerRegistration, ScheduledJobRegistration, Segment, Session, SpanRecord
from handspan.store.commit import commit_segment
from handspan.store.isolation import commit_what_can_be
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents
from handspan.store.queries.soundness import damage
from handspan.store.retention import Retention, live_bytes
from handspan.store.salvage import salvage
from handspan.store.service import DatabaseService

NOW = 1_800_000_000.0
DAY = 86_400
log = logging.getLogger("hostile")
log.setLevel(logging.DEBUG)
REGISTRATIONS = {
    **{n: ListenerRegistration("a.B", 0, f"l{n}", "t", "on") for n in (1, 2)},
    3: ScheduledJobRegistration("a.B", 0, "j", "tidy"),
}


class Signal(BaseException):
    """Not an Exception."""


class Raises:
    def __init__(self, error):
        self.error = error

    def __str__(self):
        raise self.error


class Liar(str):
    __slots__ = ()

    def __len__(self):
        return 0

    def __mod__(self, other):
        return 7


class Wrapped:
    def __str__(self):
        return Liar("%s")


class LogsItself:
    def __str__(self):
        log.info("%s", self)
        return "never"


async def recorded(make, rows, call, **options):
    """What a run that makes these calls leaves, and that it is a success."""

    async def on(event):
        call()

    async with make(**options) as telemetry:
        result = await telemetry.execute(InvokeHandler(telemetry.register_listener(on, topic="t", app_key="a.B")))
        assert result.status == "success"
    assert len(rows("SELECT * FROM handler_invocations")) == 1
    return [row["message"] for row in rows("SELECT message FROM log_records ORDER BY id")]


def made(**values):
    return lambda: log.handle(logging.makeLogRecord({"msg": "made", "levelno": 20, **values}))


NO_TEXT = (
    "<test_log_lines.Wrapped> <not formatted: TypeError: "
    "descriptor '__str__' requires a 'str' object but received a 'int'>"
)


@pytest.fixture(autouse=True)
def _only_ours():
    """pytest's own handlers raise what cannot be formatted into the test."""
    root = logging.getLogger()
    before = root.handlers[:]
    yield
    root.handlers[:] = before


def alone():
    root = logging.getLogger()
    root.handlers[:] = [each for each in root.handlers if type(each).__module__.startswith("handspan")]


@pytest.mark.parametrize(
    ("call", "kept"),
    [
        pytest.param(lambda: log.info("%d lamps", "two"),
                     ["%d lamps <not formatted: TypeError: %d format: a real number is required, not str>"],
                     id="format-does-not-fit"),
        pytest.param(lambda: log.info("a %s", Raises(ZeroDivisionError("x"))),
                     ["a %s <not formatted: ZeroDivisionError: x>"], id="str-raises"),
        pytest.param(lambda: log.info("a %s", Raises(Signal("x"))),
                     ["a %s <not formatted: test_log_lines.Signal: x>"], id="str-raises-no-exception"),
        pytest.param(lambda: log.info(Raises(ValueError())),
                     ["<test_log_lines.Raises> <not formatted: ValueError: >"], id="message-raises"),
        pytest.param(lambda: log.info("a %s", Raises(Raises(ValueError()).error)),
                     ["a %s <not formatted: ValueError: >"], id="error-without-text"),
        pytest.param(lambda: log.info("\ud800 and \0"), ["\\ud800 and \\x00"], id="surrogate-and-nul"),
        pytest.param(lambda: log.info("%s", "x" * 3_000_000),
                     ["x" * 2000 + " ... (2998000 characters cut by handspan)"], id="megabytes"),
        pytest.param(lambda: log.info(Liar("text")), ["text"], id="text-that-lies"),
        pytest.param(lambda: log.info(Wrapped(), 1), [NO_TEXT], id="text-that-formats-to-a-number"),
        pytest.param(made(created=math.nan), ["made"], id="time-nan"),
        pytest.param(made(created="noon"), ["made"], id="time-no-number"),
        pytest.param(made(created=1e300), ["made"], id="time-beyond-time"),
        pytest.param(made(levelno=10**40), ["made"], id="level-of-140-bits"),
        pytest.param(made(name=None), ["made"], id="logger-without-name"),
        pytest.param(made(name="n" * 10**6, pathname=7, lineno=10**40, funcName=b""), ["made"], id="odd-place"),
        pytest.param(made(exc_info=True), ["made"], id="exception-that-is-none"),
        pytest.param(made(exc_info=("a", "b", "c")), ["made"], id="exception-of-texts"),
        pytest.param(made(exc_info=(ValueError, ValueError("\ud800" * 10**6), None)), ["made"], id="huge-exception"),
    ],
)  # fmt: skip
async def test_a_hostile_line_is_kept_as_far_as_it_goes(make, rows, call, kept):
    """The application never notices, the run is stored, the row can be read."""

    def hostile():
        alone()
        call()

    assert await recorded(make, rows, hostile) == kept
    (row,) = rows("SELECT length(message || logger || attributes) AS n, typeof(level) AS l, typeof(logged_at) AS t, "
                  "logged_at AS at FROM v_log_records")  # fmt: skip
    assert row["n"] < 40_000  # an escape is six characters for one
    assert row["at"] is not None


async def test_a_text_that_logs_itself_comes_to_an_end(make, rows):
    """At the end of the stack, within the run's bound."""

    def hostile():
        alone()
        log.info("%s", LogsItself())

    kept = await recorded(make, rows, hostile, log_max_records=10)
    assert len(kept) <= 11


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_what_ends_the_process_goes_on(make, rows, error):
    """A Ctrl-C, or a signal's handler that exits, may come while a line is formatted: it is not swallowed."""

    async def on(event):
        alone()
        log.info("%s", Raises(error()))

    async with make() as telemetry:
        with pytest.raises(error):
            await telemetry.execute(InvokeHandler(telemetry.register_listener(on, topic="t", app_key="a.B")))
    assert [row["status"] for row in rows("SELECT status FROM handler_invocations")] == ["error"]


async def test_ten_thousand_lines_are_the_first_and_the_last(make, rows):
    """And a line of ours between them says how many are missing."""

    def chatty():
        alone()
        for number in range(10_000):
            log.info("%s", number)

    kept = await recorded(make, rows, chatty, log_max_records=5)
    said = "9995 lines were left out here: log_max_records keeps the first and the last."
    assert kept == ["0", "1", "2", said, "9998", "9999"]
    assert [row["message"] for row in rows("SELECT message FROM log_records WHERE logger = 'handspan'")] == [said]


# --- the store ----------------------------------------------------------------------------------------------


def line(text="line", **values):
    given = {"at": NOW, "level": 20, "logger": "l", "span": None, "attributes": {"code.line.number": 1}, **values}
    return (given["at"], given["level"], given["logger"], text, given["span"], given["attributes"])


def record(number, *, logs=None, registration=1, status="success", age=0.0, attributes=None):
    start = int((NOW - age * DAY) * 1e6) * 1000 + number * 1000
    return SpanRecord(
        number.to_bytes(4, "big") * 4, number.to_bytes(8, "big"), start, 1000, status, registration,
        attributes=attributes, logs=logs,
    )  # fmt: skip


def segment(*records, number=1, idempotent=False):
    return Segment(number, Session("i", "s"), list(records), REGISTRATIONS, idempotent=idempotent)


@pytest.fixture
def store(db):
    conn = open_for_writing(db, busy_timeout=1)
    yield conn, Parents(conn)
    conn.close()


def counted(conn):
    runs = "(SELECT count(*) FROM handler_invocations) + (SELECT count(*) FROM job_executions)"
    return conn.execute(f"SELECT {runs}, (SELECT count(*) FROM log_records)").fetchone()


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(("too", "short"), id="too-short"),
        pytest.param(line(level=10**40), id="level-too-large"),
        pytest.param(line(at=None), id="no-time"),
        pytest.param(line(text=object()), id="no-text"),
    ],
)
def test_a_line_the_store_refuses_does_not_cost_its_run(store, bad):
    """The run and its neighbours are stored, with the neighbours' lines; nothing counts as lost."""
    conn, parents = store
    rejected = []
    records = [record(1, logs=[line()]), record(2, logs=[line(), bad]), record(3, logs=[line()])]
    commit_what_can_be(conn, parents, segment(*records), NOW, rejected.append)
    assert counted(conn) == (3, 2)
    assert rejected == []


def test_a_refused_run_with_lines_is_given_up_as_it_came(store):
    """Whoever counts it finds the very record that waits in the queue."""
    conn, parents = store
    rejected = []
    bad = SpanRecord(b"t" * 16, b"s" * 8, "no time", 1000, "success", 1, logs=[line()])
    commit_what_can_be(conn, parents, segment(record(1), bad), NOW, rejected.append)
    assert counted(conn) == (1, 0)
    assert [each for part in rejected for each in part.records] == [bad]
    assert rejected[0].records[0] is bad


def test_lines_of_a_run_come_once(store):
    """A segment that comes again brings neither its rows nor its lines twice; lines whose run came without are new."""
    conn, parents = store
    both = [record(1, logs=[line(), line()]), record(2, registration=3, logs=[line()])]
    commit_segment(conn, parents, segment(*both), NOW)
    commit_segment(conn, parents, segment(*both, record(3, logs=[line()]), idempotent=True, number=2), NOW)
    assert counted(conn) == (3, 4)
    commit_segment(conn, parents, segment(record(4), number=3), NOW)
    commit_segment(conn, parents, segment(record(4, logs=[line()]), idempotent=True, number=4), NOW)
    assert counted(conn) == (4, 5)


# --- retention ------------------------------------------------------------------------------------------------

ORPHANS = """
SELECT count(*) FROM log_records WHERE hex(trace_id || run_span_id) NOT IN (
    SELECT hex(trace_id || span_id) FROM handler_invocations UNION SELECT hex(trace_id || span_id) FROM job_executions)
"""
RUNS = st.lists(
    st.tuples(
        st.integers(1, 3), st.sampled_from(["success", "error"]), st.sampled_from([0.5, 6.9, 8.0, 20_000.0]),
        st.integers(1, 60), st.integers(0, 30),
    ),
    min_size=1, max_size=8,
)  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(groups=RUNS, fraction=st.floats(0.0, 1.1))
def test_no_line_outlives_its_run_and_none_goes_before_it(groups, fraction):
    """Any mix, by age and by any bound: each stored run has all its lines, and there are no others."""
    with (
        TemporaryDirectory() as directory,
        closing(open_for_writing(str(Path(directory) / "x.db"), busy_timeout=1)) as conn,
    ):
        parents, number = Parents(conn), 0
        for registration, status, age, runs, lines in groups:
            records = []
            for _ in range(runs):
                number += 1
                logs = [line("x" * 200)] * lines or None
                records.append(record(number, registration=registration, status=status, age=age, logs=logs,
                                      attributes={"lines": lines}))  # fmt: skip
            commit_segment(conn, parents, segment(*records), NOW)
        for days, bound in ((7.0, 2**50), (1e6, int(live_bytes(conn) * fraction))):
            for _ in Retention(conn, days=days, max_bytes=bound).run(NOW):
                assert conn.execute(ORPHANS).fetchone() == (0,)
            assert conn.execute(ORPHANS).fetchone() == (0,)
            expected = "coalesce(sum(json_extract(attributes, '$.lines')), 0)"
            (left,) = conn.execute(f"SELECT {expected} FROM (SELECT attributes FROM handler_invocations UNION ALL "
                                   "SELECT attributes FROM job_executions)").fetchone()  # fmt: skip
            assert conn.execute("SELECT count(*) FROM log_records").fetchone() == (left,)


def test_who_logs_most_gives_first(store):
    """As many runs, a hundred times the lines: what they take counts as their registration's."""
    conn, parents = store
    quiet = [record(number, registration=2, age=2) for number in range(1, 2001)]
    chatty = [record(number, registration=1, age=1, logs=[line("x" * 500)] * 20) for number in range(2001, 4001)]
    commit_segment(conn, parents, segment(*quiet), NOW)
    commit_segment(conn, parents, segment(*chatty, number=2), NOW)
    bound = live_bytes(conn) // 2
    retention = Retention(conn, days=7, max_bytes=bound)
    for _ in retention.run(NOW):
        pass
    left = dict(conn.execute("SELECT name, count(*) FROM v_handler_invocations GROUP BY name"))
    assert left["l2"] == 2000
    assert 500 < left["l1"] < 1500
    assert live_bytes(conn) <= bound


def test_a_dry_run_counts_their_bytes(store):
    """What it says would go is what is in the lines, too."""
    conn, parents = store
    commit_segment(conn, parents, segment(*(record(n, age=8, logs=[line("x" * 1000)] * 10) for n in range(1, 11))), NOW)
    retention = Retention(conn, days=7, max_bytes=2**50, dry=True)
    for _ in retention.run(NOW):
        pass
    assert 100_000 < retention.pruned.bytes < 130_000
    assert counted(conn) == (10, 100)


def test_batches_stay_small_however_much_was_logged(store):
    """A batch of runs with a hundred lines each is not one transaction a hundred times as long."""
    conn, parents = store
    records = [record(n, age=8, logs=[line()] * 100) for n in range(1, 501)]
    commit_segment(conn, parents, segment(*records), NOW)
    largest = []
    retention = Retention(conn, days=7, max_bytes=2**50)
    before = conn.total_changes
    for _ in retention.run(NOW):
        largest.append(conn.total_changes - before)
        before = conn.total_changes
    assert counted(conn) == (0, 0)
    assert len(largest) > 5


# --- damage ---------------------------------------------------------------------------------------------------


async def test_salvage_takes_lines_along_and_none_without_its_run(store, db, tmp_path):
    """And the check of the saved file finds nothing wrong, where that of the old one did."""
    conn, parents = store
    commit_segment(conn, parents, segment(record(1, logs=[line("a")]), record(2, logs=[line("b")])), NOW)
    conn.execute("DELETE FROM handler_invocations WHERE id = 1")
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    conn.close()
    into = str(tmp_path / "saved.db")
    saved = {each.table: each.rows for each in salvage(db, into)}
    assert saved["log_records"] == 2
    with closing(sqlite3.connect(into)) as found:
        assert found.execute("SELECT message FROM log_records").fetchall() == [("b",)]
    async with DatabaseService(db) as old, DatabaseService(into) as new:
        assert await damage(old) == ["1 log lines belong to no stored run"]
        assert await damage(new) == []
