"""Error groups: each failure is in one, each group counts exactly its failures, and resolving is noticed."""

import asyncio
import itertools
import json
import sqlite3
import subprocess
import sys
from collections import Counter
from contextlib import closing

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from handspan import ExecuteJob, InvokeHandler
from handspan.cli import main
from handspan.clock import SystemClock, instant_from_ns
from handspan.records import ListenerRegistration, ScheduledJobRegistration, Segment, Session, SpanRecord
from handspan.store.commit import commit_segment, transaction
from handspan.store.error_groups import ANY_ERROR, ANY_MESSAGE, GROUPS, MESSAGES, ErrorGroups, Failure, reopen, resolve
from handspan.store.grouping import application_frame, normalise
from handspan.store.interrupted import interrupt
from handspan.store.isolation import commit_what_can_be
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents
from handspan.store.queries.error_groups import GroupFilter, group_runs, list_groups, whole_group
from handspan.store.queries.shapes import ALL_TIME, Window
from handspan.store.retention import Retention
from handspan.store.service import DatabaseService

NOW = 1_800_000_000
HOUR = 3_600
DAY = 86_400
REGISTRATIONS = {
    1: ListenerRegistration("a.B", 0, "on_light", "t", "on"),
    2: ListenerRegistration("a.B", 1, "on_light", "t", "on"),
    3: ScheduledJobRegistration("a.B", 0, "tidy", "tidy"),
}
FAILURES = (
    "SELECT error_group_id, execution_start_ts FROM handler_invocations WHERE status = 'error' "
    "UNION ALL SELECT error_group_id, execution_start_ts FROM job_executions WHERE status = 'error'"
)


def stack(*functions):
    frames = "".join(f'  File "/srv/apps/a.py", line {n}, in {name}\n    x()\n' for n, name in enumerate(functions))
    return f"Traceback (most recent call last):\n{frames}"


@pytest.fixture
def store(db):
    conn = open_for_writing(db, busy_timeout=1)
    yield conn, Parents(conn)
    conn.close()


numbers = itertools.count(1)


def failing(registration=1, ago=0.0, error_type="ValueError", message="m", traceback=None, status="error"):
    unique = next(numbers)
    start = int((NOW - ago) * 10**6) * 1000
    return SpanRecord(
        unique.to_bytes(16, "big"), unique.to_bytes(8, "big"), start, 1000, status, registration,
        error_type=error_type, error_message=message, error_traceback=traceback,
    )  # fmt: skip


def commit(store, *records, session="s", **options):
    segment = Segment(next(numbers), Session(session, "service"), list(records), REGISTRATIONS, **options)
    commit_segment(*store, segment, NOW)
    return segment


def groups_of(conn, columns="id, error_type, frame, message, count"):
    return conn.execute(f"SELECT {columns} FROM error_groups ORDER BY id").fetchall()


# --- one and the same -------------------------------------------------------------------------------------


async def test_failures_that_are_one_and_the_same_are_one_group(make, rows):
    """Type, place and message but for what varies; and the registration."""

    async def on_event(event):
        if event == "dict":
            {}["missing"]
        raise ValueError(f"no answer after {event} tries")

    async def tidy():
        raise ValueError("no answer after 1 tries")

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        job = telemetry.register_job(tidy, app_key="a.B")
        for event in (3, 4, 5, "dict", "dict"):
            await telemetry.execute(InvokeHandler(listener, event))
        await telemetry.execute(ExecuteJob(job))
    found = rows(
        "SELECT kind, name, error_type, frame, message, count, sample_message, state, traceback FROM v_error_groups"
    )
    place = "tests/flow/test_error_groups.py in "
    assert [list(row.values())[:-1] for row in found] == [
        ["handler", "on_event", "ValueError", f"{place}on_event", "no answer after <n> tries", 3,
         "no answer after 5 tries", "open"],
        ["handler", "on_event", "KeyError", f"{place}on_event", "<...>", 2, "'missing'", "open"],
        ["job", "tidy", "ValueError", f"{place}tidy", "no answer after <n> tries", 1,
         "no answer after 1 tries", "open"],
    ]  # fmt: skip
    assert all("in on_event" in row["traceback"] or "in tidy" in row["traceback"] for row in found)
    assert rows("SELECT count(*) AS n FROM v_executions AS v JOIN handler_invocations AS i ON i.id = v.id "
                "WHERE v.kind = 'handler' AND i.error_group_id IS NULL") == [{"n": 0}]  # fmt: skip


async def test_what_was_cancelled_is_in_no_group(make, rows):
    """Nor what succeeded."""

    async def for_ever(event):
        if event:
            await asyncio.Event().wait()

    async with make() as telemetry:
        listener = telemetry.register_listener(for_ever, topic="t", app_key="a.B")
        task = asyncio.create_task(telemetry.execute(InvokeHandler(listener, "wait")))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await telemetry.execute(InvokeHandler(listener))
    assert [row["status"] for row in rows("SELECT status FROM handler_invocations ORDER BY status")] == [
        "cancelled",
        "success",
    ]
    assert rows("SELECT * FROM error_groups") == []


def test_first_last_and_sample_move_with_time_and_not_with_the_order_of_commits(store):
    """An older failure that comes later moves the beginning only."""
    conn, _ = store
    commit(store, failing(ago=60, message="after 1", traceback=stack("f")))
    commit(store, failing(ago=7200, message="after 0", traceback=stack("g", "f")))
    commit(store, failing(ago=30, message="after 2", traceback=stack("h", "f")))
    ((group, first, last, sample, text),) = conn.execute(
        "SELECT g.id, first_seen_at, last_seen_at, sample_message, t.text FROM error_groups AS g "
        "JOIN tracebacks AS t ON t.id = g.traceback_id"
    )
    assert (first, last, sample, text) == (NOW - 7200, NOW - 30, "after 2", stack("h", "f"))
    hours = conn.execute("SELECT hour, count FROM error_group_hours WHERE error_group_id = ? ORDER BY hour", [group])
    wanted = Counter(int((NOW - ago) // HOUR * HOUR) for ago in (60, 7200, 30))
    assert dict(hours.fetchall()) == wanted


def test_a_failure_without_a_type_or_a_message_has_a_group(store):
    """Somebody else's span may say no more than that it failed."""
    commit(store, failing(error_type=None, message=None), failing(error_type=None, message=None))
    assert groups_of(store[0]) == [(1, "error", None, "", 2)]


def test_texts_that_no_encoding_knows(store):
    """Lone surrogates and NULs are stored as what they are shown as."""
    commit(
        store, failing(message="a\udc80\0b", error_type="E\udc80"), failing(message="a\udc80\0b", error_type="E\udc80")
    )
    ((_, error_type, _, message, count),) = groups_of(store[0])
    assert count == 2
    assert "\\udc" in error_type
    assert "\0" not in message


def test_a_failure_in_a_file_whose_name_no_encoding_knows_is_kept(store):
    """Python shows the undecodable bytes of a path as lone surrogates, in every frame of that file."""
    traceback = stack("on_motion").replace("/srv/apps", "/srv/l\udcfcfter")
    commit(store, failing(traceback=traceback), failing(traceback=traceback))
    ((_, _, frame, _, count),) = groups_of(store[0])
    assert (frame, count) == ("l/udcfcfter/a.py in on_motion", 2)  # as of the text that is stored


@pytest.mark.parametrize("column", ["error_type", "frame"])
def test_a_bit_flipped_in_a_group_does_not_stop_recording(store, db, column):
    """No check of SQLite's sees it, and every commit of a new failure reads it."""
    conn, parents = store
    commit(store, failing(traceback=stack("a")))
    conn.execute(f"UPDATE error_groups SET {column} = CAST(x'80ff' AS TEXT)")
    parents.forget()
    commit(store, failing(traceback=stack("b")))
    assert conn.execute("SELECT count FROM error_groups ORDER BY id").fetchall() == [(1,), (1,)]


# --- exactly once -------------------------------------------------------------------------------------------

MESSAGES_MADE = ["plain", "after {} tries", "no '{}' here"]
made = st.tuples(
    st.integers(1, 3),
    st.integers(0, 40 * DAY * 10),
    st.sampled_from(["ValueError", "KeyError"]),
    st.sampled_from(MESSAGES_MADE),
    st.sampled_from([None, stack("f"), stack("f", "g")]),
    st.sampled_from(["error", "error", "error", "cancelled", "success"]),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.lists(made, max_size=20)),
        st.tuples(st.just("fail"), st.lists(made, min_size=1, max_size=10)),
        st.tuples(st.just("refuse"), st.lists(made, min_size=1, max_size=10)),
        st.tuples(st.just("backfill"), st.lists(made, min_size=1, max_size=5)),
        st.tuples(st.sampled_from(["again", "reopen", "prune", "die", "tamper"]), st.just([])),
    ),
    max_size=14,
)


class Field:
    """A file, and what ought to be in it."""

    def __init__(self, path):
        self.path, self.wanted, self.hours, self.last = path, Counter(), Counter(), None
        self.open()

    def open(self):
        self.conn = open_for_writing(self.path, busy_timeout=1)
        self.parents = Parents(self.conn)
        with transaction(*self.store):  # held, or a prune would take those without a run
            for number, registration in REGISTRATIONS.items():
                self.parents.register(Session("s", "service"), number, registration)

    @property
    def store(self):
        return self.conn, self.parents

    def records(self, each):
        return [
            failing(number, tenths / 10, error_type, message.format(next(numbers)), traceback, status)
            for number, tenths, error_type, message, traceback, status in each
        ]

    def expect(self, *records):
        for record in records:
            if record.status == "error":
                text = record.error_traceback
                of = (record.registration, record.error_type, application_frame(text) if text else None,
                      normalise(record.error_message))  # fmt: skip
                self.wanted[of] += 1
                self.hours[(*of, record.start_ns // 10**9 // HOUR * HOUR)] += 1

    def commit(self, each):
        self.last = commit(self.store, *self.records(each))
        self.expect(*self.last.records)

    def again(self, _):
        """A segment that comes a second time, with nothing new in it."""
        if self.last is not None:
            self.last.idempotent = True
            commit_segment(*self.store, self.last, NOW)

    def fail(self, each):
        """A commit that ends in a rollback after everything was written."""
        segment = Segment(next(numbers), Session("s", "service"), self.records(each), REGISTRATIONS, losses=[None])
        with pytest.raises(AttributeError):
            commit_segment(*self.store, segment, NOW)

    def refuse(self, each):
        """One record nothing can store: the rest goes in by halves."""
        records = self.records(each)
        poison = failing(status="impossible")
        segment = Segment(
            next(numbers), Session("s", "service"), [*records, poison, *self.records(each)], REGISTRATIONS
        )
        given_up = []
        commit_what_can_be(*self.store, segment, NOW, given_up.append)
        assert [part.records for part in given_up] == [[poison]]
        self.expect(*(record for record in segment.records if record is not poison))

    def backfill(self, each):
        """Rows that were stored before there were groups."""
        records = [record for record in self.records(each) if record.status == "error" and record.registration != 3]
        self.parents.error_groups.forget()  # nothing here is tried again, as a segment is
        with transaction(*self.store):
            for record in records:
                parent = self.parents.registration_id(
                    Session("s", "service"), record.registration, REGISTRATIONS[record.registration]
                )
                text = record.error_traceback
                self.parents.error_groups.of(Failure(
                    "handler", parent, record.error_type, record.error_message, text,
                    None if text is None else self.parents.traceback_id(text), record.start_ns / 1e9, record.trace_id,
                    record.span_id,
                ))  # fmt: skip
            self.parents.error_groups.write()
        self.expect(*records)

    def reopen(self, _):
        self.conn.close()
        self.open()

    def prune(self, _):
        for _ in Retention(self.conn, days=7, max_bytes=10**9).run(NOW):
            pass

    def die(self, _):
        """What was in flight becomes a failure like any other."""
        segment = Segment(
            next(numbers), Session("s", "service"), [], REGISTRATIONS, running=[failing(2, status="running")]
        )
        commit_segment(*self.store, segment, NOW)
        session_id = self.parents.session_id(segment.session, NOW)
        with transaction(*self.store):
            self.conn.execute(
                "UPDATE sessions SET stopped_at = ?, stop_reason = 'crash' WHERE id = ?", (NOW + 1, session_id)
            )
            interrupt(*self.store, session_id)
            self.conn.execute("DELETE FROM running")
            self.conn.execute("UPDATE sessions SET stopped_at = NULL, stop_reason = NULL WHERE id = ?", (session_id,))
        ended = (2, "ProcessInterrupted", None, "The process ended while this ran.")
        self.wanted[ended] += 1
        self.hours[(*ended, NOW // HOUR * HOUR)] += 1

    def tamper(self, _):
        """Somebody deletes groups under our feet, with their rows: what is remembered of them is wrong."""
        with closing(sqlite3.connect(self.path)) as other, other:
            other.execute("DELETE FROM handler_invocations")
            other.execute("DELETE FROM job_executions")
            other.execute("DELETE FROM error_group_hours")
            other.execute("DELETE FROM error_groups")
        self.wanted.clear()
        self.hours.clear()
        self.last = None

    def check(self):
        groups = self.conn.execute(
            "SELECT g.id, coalesce(l.instance_index + 1, 3), error_type, frame, message, count "
            "FROM error_groups AS g LEFT JOIN listeners AS l ON g.kind = 'handler' AND l.id = g.registration_id"
        ).fetchall()
        assert {tuple(row[1:5]): row[5] for row in groups} == self.wanted
        assert len(groups) == len(self.wanted)
        of = {row[0]: tuple(row[1:5]) for row in groups}
        hours = self.conn.execute("SELECT error_group_id, hour, count FROM error_group_hours").fetchall()
        assert {(*of[group], hour): count for group, hour, count in hours} == self.hours
        assert self.conn.execute("PRAGMA foreign_key_check").fetchall() == []
        assert self.conn.execute(f"SELECT count(*) FROM ({FAILURES}) WHERE error_group_id IS NULL").fetchone() == (0,)


@settings(max_examples=60, deadline=None)
@given(steps)
def test_counts_are_those_of_every_failure_ever_committed(tmp_path_factory, played):
    """Whatever the batches, retries, halves, rollbacks, restarts and prunes."""
    field = Field(str(tmp_path_factory.mktemp("groups") / "x.db"))
    try:
        for step, each in played:
            getattr(field, step)(each)
        field.check()
    finally:
        field.conn.close()


def test_counts_equal_a_group_by_over_the_rows(store):
    """As long as nothing is pruned, plain SQL over the rows says the same: counts, first, last, hours."""
    conn, _ = store
    for session in ("s", "t"):
        for number in range(5):
            commit(store, *(failing(1 + i % 3, i * 977.0 + number, message=f"m{i % 4} {'x' * (i % 2)} {i}")
                            for i in range(300)), session=session)  # fmt: skip
    by_rows = conn.execute(
        f"SELECT error_group_id, count(*), min(execution_start_ts), max(execution_start_ts) FROM ({FAILURES}) "
        "GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert groups_of(conn, "id, count, first_seen_at, last_seen_at") == by_rows
    by_hour = conn.execute(
        f"SELECT CAST(execution_start_ts AS INTEGER) / 3600 * 3600 AS hour, error_group_id, count(*) FROM ({FAILURES}) "
        "GROUP BY 1, 2 ORDER BY 1, 2"
    ).fetchall()
    assert conn.execute("SELECT * FROM error_group_hours ORDER BY 1, 2").fetchall() == by_hour


DIES = """
async def fails(event):
    raise ValueError(f"no answer after {event} tries")

async def main():
    async with make(commit_interval=60) as telemetry:
        listener = register(telemetry, fails)
        await telemetry.aflush()
        for number in range(500):
            await telemetry.execute(InvokeHandler(listener, number))
        os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""


async def test_what_a_dead_process_left_in_its_journal_is_counted_once(child, next_start, rows):
    """The next start commits its journal; the one after that finds nothing to add."""
    assert child(DIES).end() == -9
    for _ in range(2):
        await next_start()
        assert rows("SELECT message, count FROM error_groups") == [
            {"message": "no answer after <n> tries", "count": 500}
        ]
        assert rows("SELECT sum(count) AS n FROM error_group_hours") == [{"n": 500}]


# --- bounds and cost ----------------------------------------------------------------------------------------


def words(number):
    return "".join(chr(97 + int(digit)) for digit in str(number))


def test_messages_that_name_somebody_do_not_make_a_group_of_each(store):
    """Past so many of one type and place the rest is one group; another place has its own room."""
    conn, _ = store
    for batch in range(4):
        commit(store, *(failing(message=f"no user {words(batch * 100 + i)}", traceback=stack("f")) for i in range(100)))
    commit(store, failing(message="no user anna", traceback=stack("g")))
    found = groups_of(conn, "frame, message, count")
    assert len(found) == MESSAGES + 2
    assert ("srv/apps/a.py in f", ANY_MESSAGE, 400 - MESSAGES) in found
    assert ("srv/apps/a.py in g", "no user anna", 1) in found
    assert sum(count for *_, count in found) == 401


def test_types_and_places_without_end_are_bounded(store):
    """Also who makes exception classes on the fly, whatever the order and across restarts."""
    conn, _ = store
    for start in (0, 1):
        fresh = (conn, Parents(conn))
        commit(fresh, *(failing(error_type=f"E{words(i)}", message="x") for i in range(start, 2_000, 2)))
    found = groups_of(conn, "error_type, message, count")
    assert len(found) == GROUPS + MESSAGES + 1
    assert found[-1][:2] == (ANY_ERROR, ANY_MESSAGE)
    assert sum(count for *_, count in found) == 2_000


def statements_of(conn, call):
    seen = []
    conn.set_trace_callback(seen.append)
    try:
        call()
    finally:
        conn.set_trace_callback(None)
    return [sql for sql in seen if "error_group" in sql and "INTO handler_invocations" not in sql]


def test_a_storm_is_three_statements(store):
    """4,096 failures of a group that is known: one look whether it was resolved, one UPDATE, one trend."""
    storm = [failing(message=f"after {i} tries", traceback=stack("f")) for i in range(4_096)]
    commit(store, failing(message="after 0 tries", traceback=stack("f")))
    said = statements_of(store[0], lambda: commit(store, *storm))
    assert len(said) == 3
    assert groups_of(store[0], "count") == [(4_097,)]


def test_many_unknown_groups_cost_a_few_statements_together(store):
    """256 rows a statement, whatever is in them: each statement is a wait for the GIL."""
    many = [failing(1 + i % 3, message=f"{words(i % 40)} {i}") for i in range(4_096)]
    said = statements_of(store[0], lambda: commit(store, *many))
    assert len(said) < 30
    assert len(groups_of(store[0])) == 120


def test_what_is_remembered_is_bounded(store):
    """Fifty thousand different failures later, memory holds as much as before."""
    groups = ErrorGroups(store[0])
    store[0].execute("PRAGMA foreign_keys = OFF")  # their tracebacks are not there
    store[0].execute("BEGIN")
    for registration in range(100):
        for start in range(0, 500, 250):
            groups.of_all([
                Failure("handler", registration, f"E{words(i)}", f"m {i}", stack(f"f{i}"), registration * 1000 + i,
                        1.0, b"t", b"s")
                for i in range(start, start + 250)
            ])  # fmt: skip
        groups.write()
    assert len(groups._seen) <= 2_048
    assert len(groups._frames) <= 512
    assert sum(len(known.ids) for known in groups._known.values()) <= 20_000
    assert groups._tallies == {}
    store[0].execute("ROLLBACK")


# --- resolved and back --------------------------------------------------------------------------------------


def state_of(conn):
    return conn.execute("SELECT resolved_at, regressed_at FROM error_groups").fetchall()


def test_what_comes_back_is_regressed_since_its_first_failure_after(store):
    """Failures that started before it was resolved do not bring it back, also if they are committed later."""
    conn, _ = store
    commit(store, failing(ago=100))
    assert resolve(conn, 1, NOW - 50)
    commit(store, failing(ago=60), failing(ago=50))
    assert state_of(conn) == [(NOW - 50, None)]
    commit(store, failing(ago=40), failing(ago=55), failing(ago=45), failing(ago=30))
    assert state_of(conn) == [(NOW - 50, NOW - 45)]
    commit(store, failing(ago=10))
    assert state_of(conn) == [(NOW - 50, NOW - 45)]
    assert resolve(conn, 1, NOW - 5)
    assert state_of(conn) == [(NOW - 5, None)]
    commit(store, failing(ago=1))
    assert state_of(conn) == [(NOW - 5, NOW - 1)]
    assert reopen(conn, 1)
    assert state_of(conn) == [(None, None)]
    commit(store, failing(ago=0))
    assert state_of(conn) == [(None, None)]
    assert not resolve(conn, 99, NOW)
    assert not reopen(conn, 99)


async def test_the_command_line_resolves_while_an_application_records(make, rows, db, capsys):
    """From another process, between commits; the application notices, and its next failure says that it came back."""

    async def fails(event):
        raise ValueError(f"no answer after {event} tries")

    async with make(commit_interval=0.02) as telemetry:
        listener = telemetry.register_listener(fails, topic="t", app_key="a.B")
        await telemetry.execute(InvokeHandler(listener, 1))
        assert await telemetry.aflush()
        command = [sys.executable, "-m", "handspan.cli", "error", "1", "--resolve", "--db", db]
        resolving = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        out, err = await resolving.communicate()
        assert (resolving.returncode, err) == (0, b"")
        assert b"Error 1 is resolved." in out
        assert rows("SELECT state FROM v_error_groups") == [{"state": "resolved"}]
        await telemetry.execute(InvokeHandler(listener, 2))
        assert await telemetry.aflush()
        assert rows("SELECT state, count FROM v_error_groups") == [{"state": "regressed", "count": 2}]
        (group,) = (await list_groups(telemetry.database, handspan_now(), ALL_TIME)).groups
        assert (group.state, group.total) == ("regressed", 2)
    assert await asyncio.to_thread(main, ["error", "1", "--reopen", "--db", db]) == 0
    assert "open again" in capsys.readouterr().out
    assert rows("SELECT state FROM v_error_groups") == [{"state": "open"}]


def handspan_now():
    return instant_from_ns(SystemClock().wall_ns())


async def test_resolving_waits_for_a_commit_and_says_so_if_it_lasts(make, db, capsys, monkeypatch):
    """Somebody holds the write lock for longer than it waits: one line, and nothing was changed."""
    monkeypatch.setattr("handspan.cli.errors.BUSY_TIMEOUT", 0.05)
    async with make():
        pass
    with closing(sqlite3.connect(db, isolation_level=None)) as conn:
        conn.execute(
            "INSERT INTO error_groups (kind, registration_id, fingerprint, error_type, message, first_seen_at, "
            "last_seen_at, count, sample_trace_id, sample_span_id) "
            "VALUES ('job', 1, x'00', 'E', '', 1, 1, 1, x'', x'')"
        )
        conn.execute("BEGIN IMMEDIATE")
        code = await asyncio.to_thread(main, ["error", "1", "--resolve", "--db", db])
        conn.execute("ROLLBACK")
        assert code == 2
        assert "locked by another process" in capsys.readouterr().err
        assert state_of(conn) == [(None, None)]


# --- asking -------------------------------------------------------------------------------------------------

AT = instant_from_ns(NOW * 10**9)


def since(seconds, until=None):
    return Window(
        instant_from_ns(round((NOW - seconds) * 1e9)),
        None if until is None else instant_from_ns(round((NOW - until) * 1e9)),
    )


@pytest.fixture
def house(store, db):
    """Three groups: an old one that goes on, a new one, and one that was seen on both sides of a window."""
    conn, _ = store
    commit(store, *(failing(1, ago, message="old") for ago in (5 * DAY, 3 * DAY, 30_000, 9_000, 8_999.5, 60, 30)))
    commit(store, *(failing(3, ago, message="new") for ago in (9_000, 1_800, 20)))
    commit(store, *(failing(2, ago, message="both sides") for ago in (6 * DAY, 2 * DAY, 10)))
    return conn, db


WINDOWS = [
    pytest.param(since(40_000), id="since"),
    pytest.param(since(9_000), id="since an instant something was seen"),
    pytest.param(since(8_999.7), id="since within an hour"),
    pytest.param(since(4 * DAY, 40), id="until a moment ago"),
    pytest.param(since(8_999.9, 25), id="both ends within hours"),
    pytest.param(since(4 * DAY, 3 * DAY + 1), id="a window with nothing in it"),
    pytest.param(ALL_TIME, id="all time"),
]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("by", ["last_seen", "count"])
async def test_a_window_has_the_groups_and_counts_of_its_rows(house, window, by):
    """To the second, checked against plain SQL over the rows; page by page as well as at once."""
    conn, db = house
    ends = window.params()
    in_window = (
        f"SELECT error_group_id, count(*) FROM ({FAILURES}) WHERE execution_start_ts >= :since "
        "AND execution_start_ts < :until GROUP BY 1"
    )
    wanted = dict(conn.execute(in_window, ends).fetchall())
    async with DatabaseService(db) as service:
        page = await list_groups(service, AT, window, by=by)
        single, after = [], None
        while True:
            part = await list_groups(service, AT, window, by=by, limit=1, after=after)
            single += part.groups
            after = part.after
            if after is None:
                break
    assert {group.id: group.count for group in page.groups} == wanted
    assert not any(group.by_hour for group in page.groups)
    assert [group.id for group in single] == [group.id for group in page.groups]
    keys = [group.count if by == "count" else group.last_seen_at for group in page.groups]
    assert keys == sorted(keys, reverse=True)
    firsts = dict(conn.execute(f"SELECT error_group_id, min(execution_start_ts) FROM ({FAILURES}) GROUP BY 1"))
    if window is not ALL_TIME:
        assert {group.id for group in page.groups if group.new} == {
            group for group in wanted if ends["since"] <= firsts[group] < ends["until"]
        }


async def test_a_window_whose_rows_are_pruned_is_counted_by_the_hour(house):
    """It says so; groups that are all in the window are exact all the same."""
    conn, db = house
    conn.execute("DELETE FROM handler_invocations WHERE execution_start_ts < ?", (NOW - 8_000,))
    conn.execute("DELETE FROM job_executions")
    async with DatabaseService(db) as service:
        found = {group.message: group for group in (await list_groups(service, AT, since(8_999.7))).groups}
    assert (found["old"].count, found["old"].by_hour) == (4, True)
    assert (found["both sides"].count, found["both sides"].by_hour) == (1, False)


@pytest.mark.parametrize(
    ("which", "messages"),
    [
        pytest.param(GroupFilter(app="a.B"), {"old", "new", "both sides"}, id="app"),
        pytest.param(GroupFilter(app="other"), set(), id="another app"),
        pytest.param(GroupFilter(name="tidy"), {"new"}, id="job"),
        pytest.param(GroupFilter(name="a.B.on_*"), {"old", "both sides"}, id="handlers"),
        pytest.param(GroupFilter(state="open"), {"new"}, id="open"),
        pytest.param(GroupFilter(state="resolved"), {"both sides"}, id="resolved"),
        pytest.param(GroupFilter(state="regressed"), {"old"}, id="regressed"),
    ],
)
async def test_filters(house, which, messages):
    """Each alone."""
    conn, db = house
    conn.execute("UPDATE error_groups SET resolved_at = 1 WHERE message <> 'new'")
    conn.execute("UPDATE error_groups SET regressed_at = 2 WHERE message = 'old'")
    async with DatabaseService(db) as service:
        page = await list_groups(service, AT, since(40_000), which)
    assert {group.message for group in page.groups} == messages


@pytest.mark.parametrize("many", [False, True], ids=["by seeks", "by a scan"])
@pytest.mark.parametrize("window", [since(40_000), since(6 * DAY), ALL_TIME, since(4 * DAY, DAY)])
async def test_a_trend_adds_up(house, monkeypatch, window, many):
    """By the hour or the day, over one time axis for all; whole buckets at both ends."""
    if many:
        monkeypatch.setattr("handspan.store.queries.error_groups.MOST_SEEKS", 0)
    conn, db = house
    async with DatabaseService(db) as service:
        groups = (await list_groups(service, AT, window)).groups
    assert groups
    assert len({(group.trend.start, group.trend.step_s, len(group.trend.counts)) for group in groups}) == 1
    for group in groups:
        start = group.trend.start.timestamp()
        step = group.trend.step_s
        for place, count in enumerate(group.trend.counts):
            low = start + place * step
            end = min(low + step, window.params()["until"] // HOUR * HOUR + HOUR)
            of_rows = (
                f"SELECT count(*) FROM ({FAILURES}) WHERE error_group_id = ? AND execution_start_ts >= ? "
                "AND execution_start_ts < ?"
            )
            (n,) = conn.execute(of_rows, (group.id, low, end)).fetchone()
            assert count == n


async def test_one_group_whole(store, db):
    """Its newest runs page by page, its traceback, and which sessions and versions saw it."""
    conn, parents = store
    for version, ages in (("1", (5_000.0,)), ("2", range(100, 400))):
        session = Session(
            f"s{version}",
            "service",
            service_version=version,
            started_at=instant_from_ns((NOW - 6_000 // int(version)) * 10**9),
        )
        records = [failing(1, ago, message=f"after {ago}", traceback=stack("f")) for ago in ages]
        commit_segment(conn, parents, Segment(1, session, records, REGISTRATIONS), NOW)
        conn.execute(
            "UPDATE sessions SET stopped_at = started_at + 2500, stop_reason = 'crash' WHERE instance_id = 's1'"
        )
    async with DatabaseService(db) as service:
        found = await whole_group(service, AT, 1, since(DAY), limit=7)
        assert await whole_group(service, AT, 2) is None
        runs, after = list(found.runs.runs), found.runs.after
        while after is not None:
            page = await group_runs(service, "handler", 1, limit=100, after=after)
            runs += page.runs
            after = page.after
        outside = await whole_group(service, AT, 1, since(50))
    assert [run.error_message for run in runs] == [f"after {ago}" for ago in (*range(100, 400), 5_000.0)]
    assert found.traceback == stack("f")
    assert [(each.service_version, each.count, each.or_more) for each in found.sessions] == [
        ("2", 200, True),
        ("1", 1, False),
    ]
    assert (found.group.count, found.group.total, outside.group.count) == (301, 301, 0)
    assert found.sample_trace_id == runs[0].trace_id


async def test_older_failures_that_are_still_being_grouped_are_told(house):
    """Whoever counts must know that there are more."""
    conn, db = house
    conn.execute("INSERT INTO backfills VALUES ('job_executions', 1, 2)")
    async with DatabaseService(db) as service:
        assert (await list_groups(service, AT, ALL_TIME)).pending


async def test_a_group_whose_registration_is_gone_is_still_told(house):
    """By its number."""
    conn, db = house
    conn.execute("PRAGMA foreign_keys = OFF")
    conn.execute("DELETE FROM scheduled_jobs")
    async with DatabaseService(db) as service:
        names = {group.name for group in (await list_groups(service, AT, ALL_TIME)).groups}
    assert "job 1" in names


def test_json_has_what_the_table_has(house, capsys, monkeypatch):
    """One document, with the same groups."""
    _, db = house
    monkeypatch.setattr("handspan.cli.errors.now", lambda: AT)
    assert main(["errors", "--db", db, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert main(["errors", "--db", db]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [group["id"] for group in document["groups"]] == [int(line.split()[0]) for line in table[1:4]]
    assert [str(group["count"]) in table[1 + place].split() for place, group in enumerate(document["groups"])] == [
        True
    ] * 3
