"""Who gives when the file is too large, and that every row that goes is in the ledger."""

import math
import sqlite3
from collections import Counter
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import seeded
from handspan.store.batches import BATCH_SECONDS, Batches
from handspan.store.opening import open_for_writing
from handspan.store.retention import Retention, live_bytes
from handspan.store.shares import lowered

NOW = seeded.NOW
DAY = seeded.DAY
BULKY = "x" * 900  # attributes: a few hundred rows are then many pages

SESSION = "id, service_id, instance_id, started_at, last_heartbeat_at, stopped_at, stop_reason"


class House:
    """A file, and rows of any kind put into it."""

    def __init__(self, path):
        self.path = str(path)
        self.conn = open_for_writing(self.path, busy_timeout=1)
        self.conn.execute("INSERT INTO services (id, name) VALUES (1, 's')")
        self.n = 0
        for session in (1, 2):
            values = (session, f"i{session}", NOW - 9 * DAY, NOW - DAY, NOW - DAY)
            self.conn.execute(f"INSERT INTO sessions ({SESSION}) VALUES (?, 1, ?, ?, ?, ?, 'crash')", values)

    def registrations(self, count, kind="handler", first=1):
        table, name = ("listeners", "name") if kind == "handler" else ("scheduled_jobs", "job_name")
        topic, what = ("topic, ", "'t', ") if kind == "handler" else ("", "")
        self.conn.executemany(
            f"INSERT INTO {table} (id, service_id, app_key, instance_index, {name}, {topic}handler_method, "
            f"first_registered_at, last_registered_at) VALUES (?, 1, 'a', 0, ?, {what}'on', ?, ?)",
            [(n, f"r{n}", NOW - 9 * DAY, NOW) for n in range(first, first + count)],
        )

    def runs(self, parent, count, *, kind="handler", status="success", age=1.0, ms=1.0, session=1, spans=0, bulk=BULKY):
        table, column = ("handler_invocations", "listener_id") if kind == "handler" else ("job_executions", "job_id")
        rows, inner = [], []
        for _ in range(count):
            self.n += 1
            trace = self.n.to_bytes(4, "big") * 4
            start = NOW - age * DAY + self.n * 1e-3
            rows.append((parent, session, start, ms, status, trace, self.n.to_bytes(8, "big"), bulk))
            inner += [self.span(trace, start, session, number) for number in range(spans)]
        with self.transaction():
            self.conn.executemany(
                f"INSERT INTO {table} ({column}, session_id, execution_start_ts, duration_ms, status, trace_id, "
                "span_id, attributes) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows,
            )  # fmt: skip
            self.spans(inner)

    def span(self, trace, start, session=1, number=0):
        return session, trace, self.n.to_bytes(4, "big") + number.to_bytes(4, "big"), int(start * 1e9), BULKY

    def spans(self, rows):
        self.conn.executemany(
            "INSERT INTO spans (session_id, trace_id, span_id, start_ns, attributes, name, kind, duration_ns, status) "
            "VALUES (?, ?, ?, ?, ?, 'GET', 0, 1, 'ok')", rows,
        )  # fmt: skip

    def transaction(self):
        self.conn.execute("BEGIN")
        return _Commit(self.conn)

    def prune(self, *, fraction=math.inf, days=7.0, now=NOW, **options):
        bound = 2**50 if math.isinf(fraction) else int(live_bytes(self.conn) * fraction)
        retention = Retention(self.conn, days=days, max_bytes=bound, **options)
        for _ in retention.run(now):
            pass
        return retention

    def stored(self):
        """Rows by session and kind."""
        return Counter(
            {
                (session, kind): count
                for kind, table in (("handler", "handler_invocations"), ("job", "job_executions"), ("span", "spans"))
                for session, count in self.all(f"SELECT session_id, count(*) FROM {table} GROUP BY 1")
            }
        )

    def pruned(self, by="session_id, kind"):
        keys = by.count(",") + 1
        rows = self.all(f"SELECT {by}, sum(count) FROM losses WHERE stage = 'store' GROUP BY {by}")
        return Counter({row[:keys]: row[keys] for row in rows})

    def by_worth(self):
        """Runs by registration and status."""
        sql = "SELECT 'handler', listener_id, status, count(*) FROM handler_invocations GROUP BY 2, 3 UNION ALL "
        sql += "SELECT 'job', job_id, status, count(*) FROM job_executions GROUP BY 2, 3"
        return Counter({(kind, parent, status): count for kind, parent, status, count in self.all(sql)})

    def all(self, sql, *values):
        return self.conn.execute(sql, values).fetchall()

    def one(self, sql, *values):
        return self.all(sql, *values)[0][0]


class _Commit:
    def __init__(self, conn):
        self.conn = conn

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.conn.execute("COMMIT")


@pytest.fixture
def house(tmp_path):
    found = House(tmp_path / "house.db")
    yield found
    found.conn.close()


# --- any mix, any bound -------------------------------------------------------------------------------

GROUPS = st.lists(
    st.tuples(
        st.sampled_from(["handler", "job"]), st.integers(1, 4), st.sampled_from(["success", "error", "cancelled"]),
        st.integers(1, 120), st.sampled_from([0.5, 3.0, 6.9, 8.0, -2.0, 20_000.0]), st.integers(1, 2),
        st.integers(0, 2),
    ),
    min_size=1, max_size=12,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(groups=GROUPS, fraction=st.floats(0.0, 1.2))
def test_any_mix_and_any_bound(groups, fraction):
    """Rows and ledger add up per session and kind; what is worth more stays while there is less; shares are level."""
    with TemporaryDirectory() as directory:
        house = House(Path(directory) / "house.db")
        with closing(house.conn):
            house.registrations(4)
            house.registrations(4, "job")
            for kind, parent, status, count, age, session, spans in groups:
                house.runs(parent, count, kind=kind, status=status, age=age, session=session, spans=spans)
            before = house.stored()
            aged = house.prune()
            young = house.by_worth()
            assert house.stored() + house.pruned() == before
            assert house.one("SELECT count(*) FROM v_executions WHERE execution_start_ts < ?", NOW - 7 * DAY) == 0
            house.prune(fraction=fraction, days=1e6)
            left = house.by_worth()
            assert house.stored() + house.pruned() == before
            check_order(young, left)
            check_level(young, left, spans={spans for *_, spans in groups})
            assert aged.pruned.rows + sum((young - left).values()) == sum(
                (house.pruned("kind") - spans_of(house)).values()
            )
            assert house.all("PRAGMA foreign_key_check") == []
            assert house.one("PRAGMA integrity_check") == "ok"


def spans_of(house):
    return Counter({("span",): house.pruned("kind")["span",]})


def check_order(before, after):
    gone = before - after
    for worse, better in (("success", "cancelled"), ("cancelled", "error"), ("success", "error")):
        if any(status == better for _, _, status in gone):
            assert not [key for key in after if key[2] == worse], f"a {better} went before the last {worse}"


def check_level(before, after, spans):
    """Whoever gave a success by size is left with no less than anybody who still has one to give."""
    if len(spans) > 1 or any(status != "success" for *_, status in before - after):
        return  # rows of one size only: a row is then as good a measure as its bytes
    total = Counter()
    for (kind, parent, _), count in after.items():
        total[kind, parent] += count
    gave = {(kind, parent) for (kind, parent, _) in before - after}
    could = {(kind, parent) for (kind, parent, status) in after if status == "success"}
    for giver in gave:
        assert all(total[other] <= total[giver] + 2 for other in could)  # a row of rounding for each of two plans


@given(st.lists(st.tuples(st.floats(0, 1e9), st.floats(0, 1)), min_size=1, max_size=30), st.floats(0, 1))
def test_water_finds_its_level(having, part):
    """What is needed comes together, nobody gives more than it can, nobody above the level keeps any."""
    owned = [have for have, _ in having]
    can = [have * share for have, share in having]
    need = sum(can) * part
    gifts = lowered(owned, can, need)
    assert sum(gifts) == pytest.approx(need, rel=1e-6, abs=1e-3)
    assert all(0 <= gift <= most for gift, most in zip(gifts, can, strict=True))
    level = min((have - gift for have, gift in zip(owned, gifts, strict=True) if gift > 0), default=math.inf)
    for have, most, gift in zip(owned, can, gifts, strict=True):
        assert gift == most or have - gift <= level * (1 + 1e-6) + 1e-3 or level == math.inf


def test_shares_of_a_large_file_are_estimated(house, monkeypatch):
    """From stretches of ids instead of all of them: the noisy one gives, the quiet ones keep everything."""
    monkeypatch.setattr("handspan.store.shares.EXACT", 4096)
    monkeypatch.setattr("handspan.store.shares.EXACT_SPANS", 1024)
    house.registrations(5)
    for _ in range(60):
        house.runs(1, 90, bulk=None, spans=1)
        for quiet in range(2, 6):
            house.runs(quiet, 5, bulk=None)
    bound = int(live_bytes(house.conn) * 0.7)
    before = house.stored()
    house.prune(fraction=0.7)
    assert live_bytes(house.conn) <= bound
    assert house.stored() + house.pruned() == before
    left = house.by_worth()
    assert [left["handler", quiet, "success"] for quiet in range(2, 6)] == [300] * 4
    assert 300 < left["handler", 1, "success"] < 5_000
    assert house.one("SELECT count(*) FROM spans") == left["handler", 1, "success"]


# --- slow is relative -----------------------------------------------------------------------------------


def test_an_unusually_slow_run_outlives_dull_ones(house):
    """Slow by its own habit stays; a job that always takes an hour is as dull as any."""
    house.registrations(2)
    house.runs(1, 300, ms=5.0)
    house.runs(1, 6, ms=900.0, age=2)
    house.runs(2, 300, ms=3_600_000.0)
    house.prune(fraction=0.6)
    assert house.one("SELECT count(*) FROM handler_invocations WHERE duration_ms = 900") == 6
    left = dict(house.all("SELECT listener_id, count(*) FROM handler_invocations WHERE duration_ms <> 900 GROUP BY 1"))
    assert left[1] < 300
    assert left[2] < 300, "the slow job gave its share"


def test_a_duration_without_end_is_slow_and_harms_nothing(house):
    """Infinity is a REAL like any other."""
    house.registrations(1)
    house.runs(1, 2_000)
    house.runs(1, 1, ms=math.inf, age=3)
    house.prune(fraction=0.5)
    assert house.one("SELECT count(*) FROM handler_invocations WHERE duration_ms > 1e300") == 1


# --- spans ------------------------------------------------------------------------------------------------


def test_spans_go_with_their_run_and_stay_with_it(house):
    """The spans of a pruned run are worthless; those of an error live as long as it does."""
    house.registrations(1)
    house.runs(1, 100, spans=2)
    house.runs(1, 10, spans=2, status="error", age=2)
    house.prune(fraction=0.5)
    runs = house.one("SELECT count(*) FROM handler_invocations")
    assert house.by_worth()["handler", 1, "error"] == 10
    assert 10 < runs < 110
    assert house.one("SELECT count(*) FROM spans") == 2 * runs
    assert house.pruned("kind, reason") == {
        ("handler", "pruned_size"): 110 - runs, ("span", "pruned_size"): 2 * (110 - runs),
    }  # fmt: skip


@pytest.mark.parametrize("owner", [None, "error"])
def test_spans_cannot_fill_the_file_for_ever(house, owner):
    """Without a run, or all in one trace, they have a share of their own, and everybody's history stays."""
    house.registrations(2)
    house.runs(2, 100, age=2)
    house.runs(1, 1, status=owner or "success", age=3)
    trace = house.n.to_bytes(4, "big") * 4 if owner else b"loose" + b"." * 11
    with house.transaction():
        house.spans([house.span(trace, NOW - DAY, 1, number) for number in range(2_000)])
    house.prune(fraction=0.4)
    assert house.one("SELECT count(*) FROM handler_invocations") == 101
    assert 0 < house.one("SELECT count(*) FROM spans") < 900
    assert house.stored()[1, "span"] + house.pruned()[1, "span"] == 2_000


def test_a_trace_keeps_its_spans_while_one_of_its_runs_is_left_or_running(house):
    """Two runs may share a trace."""
    house.registrations(2)
    house.runs(1, 1, age=8)
    house.runs(2, 1, age=1)
    house.conn.execute("UPDATE handler_invocations SET trace_id = ?", (b"T" * 16,))
    house.runs(1, 1, age=8)
    house.conn.execute("UPDATE handler_invocations SET trace_id = ? WHERE trace_id <> ?", (b"R" * 16, b"T" * 16))
    house.conn.execute(
        "INSERT INTO running (session_id, span_id, trace_id, listener_id, execution_start_ts) "
        "VALUES (1, 'x', ?, 1, 1)", (b"R" * 16,),
    )  # fmt: skip
    with house.transaction():
        house.spans([house.span(b"T" * 16, NOW), house.span(b"R" * 16, NOW, number=1)])
    house.prune()
    assert house.one("SELECT count(*) FROM handler_invocations") == 1
    assert house.one("SELECT count(*) FROM spans") == 2


# --- the ledger and the batches ------------------------------------------------------------------------------


def test_left_between_any_two_batches_the_ledger_is_right(house):
    """A process may end at each yield: rows and losses add up, and the next pass finishes and gives the space back."""
    house.registrations(3)
    for parent in (1, 2, 3):
        house.runs(parent, 400, age=8, spans=1)
    before = house.stored()
    for stop in range(1, 12):
        retention = Retention(house.conn, days=7, max_bytes=2**40)
        retention.batches.size = 40
        for number, _ in enumerate(retention.run(NOW)):
            assert house.stored() + house.pruned() == before
            if number == stop:
                break
    house.prune()
    assert house.stored() == Counter()
    assert house.pruned() == before
    assert house.one("PRAGMA freelist_count") == 0


def test_space_a_cut_short_pass_left_free_is_given_back(house):
    """Also when the next pass has nothing to prune."""
    house.registrations(1)
    house.runs(1, 2_000)
    house.conn.execute("DELETE FROM handler_invocations")
    assert house.one("PRAGMA freelist_count") > 100
    house.prune()
    assert house.one("PRAGMA freelist_count") == 0


def test_a_failing_batch_counts_nothing(house):
    """Rows and their ledger entry go in one transaction, or not at all."""
    house.registrations(1)
    house.runs(1, 50, age=8)
    house.conn.execute("CREATE TRIGGER no AFTER DELETE ON handler_invocations BEGIN SELECT raise(ABORT, 'no'); END")
    with pytest.raises(sqlite3.IntegrityError):
        house.prune()
    assert house.pruned() == Counter()
    assert house.one("SELECT count(*) FROM handler_invocations") == 50
    assert not house.conn.in_transaction


def test_a_batch_follows_the_machine():
    """Down at once when one took too long, up step by step while they are quick; within its bounds."""
    ticks = iter([0.0, 4 * BATCH_SECONDS, 10.0, 10.0 + BATCH_SECONDS / 100] + [20.0, 20.0] * 200)
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as conn:
        batches = Batches(conn, 1000, clock=lambda: next(ticks))
        with batches.one(1000):
            pass
        small = batches.size
        assert small <= 1000 / 8, "a fourth of the time, and a margin"
        with batches.one(small):
            pass
        assert small < batches.size <= 2 * small + 1
        sizes = []
        for _ in range(100):
            with batches.one(batches.size):
                pass
            sizes.append(batches.size)
        assert sizes == sorted(sizes)
        assert sizes[-1] == sizes[-2] == 20_000
        assert batches.longest == 4 * BATCH_SECONDS


# --- hostile files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [20_000.0, 0.0, -36_500.0], ids=["1970", "now", "a century ahead"])
def test_whatever_the_clock_said_rows_go_by_size(house, age):
    """A clock that jumped leaves rows of any time: none of them is kept for ever."""
    house.registrations(1)
    house.runs(1, 500, age=age)
    bound = live_bytes(house.conn) // 2
    house.prune(fraction=0.5, days=1e6)
    assert live_bytes(house.conn) <= bound


def test_ten_thousand_registrations(house):
    """A batch takes rows of many; each is left with its newest."""
    house.registrations(10_000)
    with house.transaction():
        house.conn.executemany(
            "INSERT INTO handler_invocations (listener_id, session_id, execution_start_ts, duration_ms, status, "
            "trace_id, span_id) VALUES (?, 1, ?, 1, 'success', ?, ?)",
            [(n % 10_000 + 1, NOW - (8 if n < 10_000 else 1) * DAY, n.to_bytes(4, "big") * 4, n.to_bytes(8, "big"))
             for n in range(20_000)],
        )  # fmt: skip
    retention = house.prune()
    assert retention.pruned.rows == 10_000
    assert house.one("SELECT count(DISTINCT listener_id) FROM handler_invocations") == 10_000
    assert retention.batches.count < 2_000


def test_a_bound_no_file_can_meet(house):
    """All runs go, it ends, and says what is missing."""
    house.registrations(1)
    house.runs(1, 300, status="error")
    found = house.prune(fraction=0.0).pruned
    assert (found.rows, house.one("SELECT count(*) FROM handler_invocations")) == (300, 0)
    assert found.over == live_bytes(house.conn)


# --- what nothing points to ---------------------------------------------------------------------------------------


def test_one_shot_jobs_do_not_pile_up(house):
    """Nobody's registration goes with its last run, once it has been nobody's for the retention time."""
    house.registrations(500, "job")
    house.runs(1, 1, kind="job", age=1)
    house.runs(2, 1, kind="job", age=8)
    house.conn.execute("UPDATE scheduled_jobs SET retired_at = ? WHERE id <= 490", (NOW - 8 * DAY,))
    house.conn.execute("UPDATE scheduled_jobs SET retired_at = ? WHERE id > 495", (NOW - 6 * DAY,))
    house.conn.execute("INSERT INTO registration_holders VALUES ('job', 490, 1)")
    house.prune()
    assert [row[0] for row in house.all("SELECT id FROM scheduled_jobs")] == [1, *range(490, 501)]


def test_tracebacks_go_in_batches_with_their_last_row(house):
    """A text lives as long as a row that shows it."""
    house.registrations(1)
    house.runs(1, 1, status="error")
    house.conn.executemany(
        "INSERT INTO tracebacks (hash, text) VALUES (?, 'stack')", [(str(n).encode(),) for n in range(900)]
    )
    house.conn.execute("UPDATE handler_invocations SET traceback_id = 450")
    retention = house.prune()
    assert house.all("SELECT id FROM tracebacks") == [(450,)]
    assert retention.batches.count > 2


def test_sessions_and_their_ledger_go_when_nothing_is_left(house):
    """A session stays while a row or a loss is its; the ledger a year after its end; a living one always."""
    house.registrations(1)
    house.runs(1, 1, session=1)
    house.conn.executemany(
        f"INSERT INTO sessions ({SESSION}) VALUES (?, 1, ?, 1, 1, ?, ?)",
        [(n, f"n{n}", None if n == 9 else NOW - (400 if n != 8 else 10) * DAY, None if n == 9 else "crash")
         for n in range(3, 12)],
    )  # fmt: skip
    house.conn.execute("UPDATE sessions SET stopped_at = ? WHERE id IN (1, 2)", (NOW - 300 * DAY,))
    house.conn.executemany(
        "INSERT INTO losses (hour, session_id, stage, kind, reason, count) "
        "VALUES (3600, ?, 'store', 'job', 'pruned_age', 1)",
        [(2,), (3,), (9,)],
    )
    house.prune(days=1e4, sessions_worth=100)
    assert house.one("SELECT count(*) FROM sessions") == 11, "not worth looking through all rows"
    house.prune(days=31, sessions_worth=2)
    assert [row[0] for row in house.all("SELECT session_id FROM losses")] == [2, 9]
    left = [row[0] for row in house.all("SELECT id FROM sessions ORDER BY id")]
    assert left == [1, 2, 8, 9, 11], "the newest stays: its number must not be given again"
    assert house.one("PRAGMA foreign_keys") == 1
    assert house.all("PRAGMA foreign_key_check") == []
