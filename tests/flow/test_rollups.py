"""Rollups: what every summary is read from says what a GROUP BY over every row ever committed would."""

import itertools
import math
import sqlite3
from collections import defaultdict
from contextlib import closing

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from msgspec import structs

from handspan.records import ListenerRegistration, ScheduledJobRegistration, Segment, Session, SpanRecord
from handspan.store.backfill import backfill, is_pending, start_over
from handspan.store.commit import commit_segment, transaction
from handspan.store.histogram import LOWEST, bucket_of, decode, encode, histogram_of, percentile
from handspan.store.interrupted import interrupt
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents
from handspan.store.retention import Retention

NOW = 1_800_000_000
DAY = 86_400
REGISTRATIONS = {
    1: ListenerRegistration("a.B", 0, "on_light", "t", "on"),
    2: ListenerRegistration("a.B", 1, "on_light", "t", "on"),
    3: ScheduledJobRegistration("a.B", 0, "tidy", "tidy"),
}
KIND = {1: "handler", 2: "handler", 3: "job"}
TABLES = {"handler": ("handler_invocations", "listener_id"), "job": ("job_executions", "job_id")}

# --- the histogram -----------------------------------------------------------------------------------------

durations = st.integers(0, 10**13) | st.integers(10**5, 10**8)


@given(durations)
def test_a_duration_lies_within_its_bucket(ns):
    """Bucket i is (2 ** (i / 8), 2 ** ((i + 1) / 8)] seconds; whole nanoseconds decide at the bounds."""
    i = bucket_of(ns)
    assert ns <= math.floor(2 ** ((i + 1) / 8) * 1e9)
    assert i == LOWEST or ns > math.floor(2 ** (i / 8) * 1e9)


@given(st.lists(durations, min_size=1, max_size=300), st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_a_percentile_is_within_five_percent(values, share):
    """Of the true one (nearest rank), whatever the durations are."""
    true = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    found = percentile(histogram_of(values), share, min(values), max(values))
    assert abs(found - true) <= 0.0445 * true + 1


@given(st.dictionaries(st.integers(LOWEST, 239), st.integers(1, 10**12)))
def test_a_histogram_survives_its_encoding(histogram):
    """What is stored is what is read."""
    assert decode(encode(histogram), sum(histogram.values()), 0, 0) == histogram


@pytest.mark.parametrize(
    "stored", [b"", b"\xff", b"\x93\x01\x02\x03", b"\x92\x01\xa1x", encode({3: 4}), encode({400: 5})]
)
def test_a_damaged_histogram_counts_its_runs_as_the_longest(stored):
    """The number of runs is right, and a look at it is due; nothing is raised."""
    assert decode(stored, 5, 10, 10**9) == {bucket_of(10**9): 5}


def test_no_runs_have_no_percentile():
    """There is no figure for nothing."""
    assert percentile(histogram_of([]), 0.5, 0, 0) is None


# --- what is written equals what was committed ---------------------------------------------------------------

runs = st.tuples(
    st.integers(1, 3),
    st.integers(-30 * DAY * 1000, 0),  # milliseconds before NOW
    durations,
    st.sampled_from(["success"] * 6 + ["cancelled", "ValueError", "TimeoutError", "DependencyError"]),
    st.none() | st.integers(-1000, 20_000),  # milliseconds late
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.integers(0, 1), st.lists(runs, max_size=30)),
        st.tuples(st.just("again"), st.just(0), st.just(())),
        st.tuples(st.just("fail"), st.integers(0, 1), st.lists(runs, min_size=1, max_size=10)),
        st.tuples(st.sampled_from(["prune", "reopen", "die"]), st.integers(0, 1), st.just(())),
    ),
    max_size=12,
)


class Field:
    """A file, two sessions, and what ought to be in it."""

    def __init__(self, path):
        self.path, self.numbers = path, itertools.count(1)
        self.rows = []
        self.last = None
        self.open()

    def open(self):
        self.conn = open_for_writing(self.path, busy_timeout=1)
        self.parents = Parents(self.conn)
        self.parents.rollups.own_session = 1

    def segment(self, session, made):
        records = []
        for number, ago, duration, outcome, late in made:
            unique = next(self.numbers)
            start = (NOW * 1000 + ago) * 10**6
            failed = outcome not in ("success", "cancelled")
            records.append(
                SpanRecord(
                    unique.to_bytes(16, "big"), unique.to_bytes(8, "big"), start, duration,
                    "error" if failed else outcome, number, error_type=outcome if failed else None,
                    queue_ns=late * 10**6 if late is not None and number != 3 else None,
                    scheduled_ns=start - late * 10**6 if late is not None and number == 3 else None,
                )
            )  # fmt: skip
        return Segment(next(self.numbers), Session(f"s{session}", "service"), records, REGISTRATIONS)

    def commit(self, session, made):
        self.last = self.segment(session, made)
        commit_segment(self.conn, self.parents, self.last, NOW)
        self.rows += [(session, record) for record in self.last.records]

    def again(self, *_):
        """A retried export: nothing is new."""
        if self.last is not None:
            self.last.idempotent = True
            commit_segment(self.conn, self.parents, self.last, NOW)

    def fail(self, session, made):
        """A commit that does not come to its end leaves no trace, in the file or in memory."""
        segment = self.segment(session, made)
        segment.losses = [None]
        with pytest.raises(AttributeError):
            commit_segment(self.conn, self.parents, segment, NOW)

    def prune(self, *_):
        """What is pruned and comes again is a row committed again: an export is retried within seconds, not days."""
        self.last = None
        for _ in Retention(self.conn, days=7, max_bytes=10**9).run(NOW):
            pass

    def reopen(self, *_):
        self.conn.close()
        self.open()

    def die(self, session, _):
        """A session ends with something in flight, and the next start buries it."""
        segment = self.segment(session, [(1, -5_000, 0, "success", None), (3, -7_000, 0, "success", 6_000)])
        segment.running, segment.records = segment.records, []
        commit_segment(self.conn, self.parents, segment, NOW)
        with transaction(self.conn, self.parents):
            (row_id,) = self.conn.execute("SELECT id FROM sessions WHERE instance_id = ?", [f"s{session}"]).fetchone()
            self.conn.execute("UPDATE sessions SET stopped_at = ?, stop_reason = 'crash' WHERE id = ?", [NOW, row_id])
            interrupt(self.conn, self.parents, row_id)
            self.conn.execute("DELETE FROM running")
        for record, lasted in zip(segment.running, (5, 7), strict=True):
            self.rows.append((session, replaced(record, lasted)))

    def expected(self):
        """By key: a plain GROUP BY in Python over everything that was ever committed."""
        cutoff = {60: (NOW - 7 * DAY) // 3600 * 3600, 3600: (NOW - 90 * DAY) // DAY * DAY, DAY: 0}
        groups = defaultdict(list)
        for session, record in self.rows:
            for resolution in (60, 3600, DAY):
                start = record.start_ns // 10**9 // resolution * resolution
                if start >= cutoff[resolution]:
                    groups[resolution, start, KIND[record.registration], record.registration, f"s{session}"].append(
                        record
                    )
        return {key: summary(records) for key, records in groups.items()}

    def stored(self):
        cutoff = (NOW - 7 * DAY) // 3600 * 3600
        rows = self.conn.execute(
            "SELECT resolution, bucket_start, r.kind, coalesce(l.instance_index + 1, 3), s.instance_id, runs, errors, "
            "cancelled, dependency_failures, timeouts, interrupted, late, max_delay_ns, sum_ns, min_ns, max_ns, "
            "histogram "
            "FROM rollups AS r JOIN sessions AS s ON s.id = r.session_id "
            "LEFT JOIN listeners AS l ON r.kind = 'handler' AND l.id = registration_id "
            "WHERE resolution > 60 OR bucket_start >= ?", [cutoff]
        )  # fmt: skip
        return {row[:5]: (*row[5:16], decode(row[16], row[5], row[14], row[15])) for row in rows}


def replaced(record, lasted):
    return SpanRecord(
        record.trace_id, record.span_id, record.start_ns, lasted * 10**9, "error", record.registration,
        error_type="ProcessInterrupted", scheduled_ns=record.scheduled_ns,
    )  # fmt: skip


def summary(records):
    took = [record.duration_ns for record in records]
    types = [record.error_type for record in records]
    delays = [
        record.queue_ns if record.scheduled_ns is None else record.start_ns - record.scheduled_ns for record in records
    ]
    known = [max(0, delay) for delay in delays if delay is not None]
    late = sum(
        record.scheduled_ns is not None and record.start_ns - record.scheduled_ns > 5 * 10**9 for record in records
    )
    status = [record.status for record in records]
    return (
        len(records), status.count("error"), status.count("cancelled"), types.count("DependencyError"),
        types.count("TimeoutError"), types.count("ProcessInterrupted"), late, max(known, default=None), sum(took),
        min(took), max(took), histogram_of(took),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(steps=steps)
def test_rollups_equal_every_row_ever_committed(tmp_path_factory, steps):
    """Whatever the order of commits, retries, failures, prunes, deaths and restarts."""
    field = Field(str(tmp_path_factory.mktemp("rollups") / "a.db"))
    with closing(field.conn):
        for name, session, made in steps:
            getattr(field, name)(session, made)
        assert field.stored() == field.expected()
        field.conn.close()


@pytest.mark.parametrize("start_ns", [pytest.param(NOW * 10**9 - ns, id=f"{ns}-ns-before") for ns in (1, 100, 1000)])
def test_a_bucket_is_that_of_the_row(tmp_path, start_ns):
    """A row's moment is a REAL: 100 ns before the minute are the minute."""
    field = Field(str(tmp_path / "a.db"))
    with closing(field.conn):
        segment = field.segment(1, [(1, 0, 10, "success", None)])
        segment.records[:] = [structs.replace(record, start_ns=start_ns) for record in segment.records]
        commit_segment(field.conn, field.parents, segment, NOW)
        (start,) = field.conn.execute("SELECT execution_start_ts FROM handler_invocations").fetchone()
        buckets = field.conn.execute("SELECT resolution, bucket_start FROM rollups ORDER BY 1").fetchall()
        assert buckets == [(resolution, start // resolution * resolution) for resolution in (60, 3600, DAY)]


# --- rows from before there were any -------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(before=st.lists(runs, min_size=1, max_size=60), meanwhile=st.lists(runs, max_size=20), cut=st.integers(1, 50))
def test_older_rows_are_told_of_afterwards(tmp_path_factory, before, meanwhile, cut):
    """A stretch at a time, by two processes in turn, and with runs committed in between: each is counted once, in its
    rollups and in its error group."""
    field = Field(str(tmp_path_factory.mktemp("backfill") / "a.db"))
    other = open_for_writing(field.path, busy_timeout=1)
    with closing(field.conn), closing(other):
        field.commit(1, before)
        for table, _ in TABLES.values():
            field.conn.execute(f"UPDATE {table} SET error_group_id = NULL")
        for table in ("rollups", "error_group_hours", "error_groups"):
            field.conn.execute(f"DELETE FROM {table}")
        field.parents.forget()
        start_over(field.conn)
        assert is_pending(field.conn)
        mine, theirs = small(field.conn, field.parents, cut), small(other, Parents(other), cut)
        while is_pending(field.conn):
            next(mine, None)
            field.commit(0, meanwhile)
            next(theirs, None)
        assert in_whole_microseconds(field.stored()) == in_whole_microseconds(field.expected())
        grouped = "SELECT error_group_id, count(*) FROM {} WHERE status = 'error' GROUP BY 1"
        sizes = dict(field.conn.execute(" UNION ALL ".join(grouped.format(table) for table, _ in TABLES.values())))
        assert sizes == dict(field.conn.execute("SELECT id, count FROM error_groups"))


def small(conn, parents, rows):
    """A backfill whose stretches are short."""
    for _ in backfill(conn, parents, first=rows):
        yield


def in_whole_microseconds(buckets):
    """A row's moments are stored as seconds with a fraction: of what was due when, nanoseconds are gone."""
    return {key: (*row[:7], row[7] and round(row[7], -3), *row[8:]) for key, row in buckets.items()}


def test_an_older_text_that_is_damaged_does_not_stop_the_rest(tmp_path):
    """A flipped bit is no reason to count nothing, nor to prune nothing ever again."""
    field = Field(str(tmp_path / "a.db"))
    with closing(field.conn):
        field.commit(1, [(1, -n, 1000, "ValueError", None) for n in range(9)])
        field.conn.execute("UPDATE handler_invocations SET error_message = CAST(x'80ff' AS TEXT) WHERE id = 5")
        for statement in ("UPDATE handler_invocations SET error_group_id = NULL", "DELETE FROM error_groups"):
            field.conn.execute(statement)
        start_over(field.conn)
        for _ in small(field.conn, field.parents, 2):
            pass
        assert field.conn.execute("SELECT sum(count) FROM error_groups").fetchone() == (9,)
        assert not is_pending(field.conn)


def test_what_was_not_counted_is_not_pruned(make, db):
    """An application that opens an upgraded file prunes only when all its old rows are in the rollups."""
    with make() as telemetry:
        telemetry.register_listener(lambda _: None, topic="t", app_key="a", name="on_light")
    field = Field(db)
    field.commit(1, [(1, -20 * DAY * 1000 + n, 1000, "success", None) for n in range(500)])
    field.conn.execute("DELETE FROM rollups")
    start_over(field.conn)
    field.conn.close()
    with make() as telemetry:
        telemetry._pipeline.writer.hurry()
        assert telemetry.flush()
    with closing(sqlite3.connect(db)) as conn:
        assert conn.execute("SELECT sum(runs) FROM rollups WHERE resolution = 86400").fetchone() == (500,)
        assert conn.execute("SELECT count(*) FROM backfills").fetchone() == (0,)
