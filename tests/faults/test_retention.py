"""Old and surplus rows go, in small batches, and their space comes back."""

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from handspan.records import ListenerRegistration, Segment, Session, SpanRecord
from handspan.store.commit import commit_segment
from handspan.store.doomed import for_kind
from handspan.store.leftovers import KEEP_INCIDENTS
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents
from handspan.store.retention import Retention, live_bytes, max_bytes
from handspan.store.statements import statements
from handspan.store.upkeep import Upkeep

NOW = 1_800_000_000.0
DAY = 86_400
REGISTRATIONS = {n: ListenerRegistration("a.B", 0, f"l{n}", "t", "on") for n in range(1, 4)}


def fill(conn, parents, number, count, *, listener=1, age_days=0.0, status="success"):
    start = int((NOW - age_days * DAY) * 1e6) * 1000
    records = [
        SpanRecord(
            (number * 10**6 + i).to_bytes(16, "big"), (number * 10**6 + i).to_bytes(8, "big"), start + i * 1000, 1000,
            status, listener, error_traceback="stack" if status == "error" else None,
            error_type="E" if status == "error" else None,
        )
        for i in range(count)
    ]  # fmt: skip
    commit_segment(conn, parents, Segment(number, Session("i", "s"), records, REGISTRATIONS), NOW)


@pytest.fixture
def store(db):
    conn = open_for_writing(db, busy_timeout=1)
    yield conn, Parents(conn)
    conn.close()


def counts(conn):
    return dict(conn.execute("SELECT name, count(*) FROM v_handler_invocations GROUP BY name"))


def test_by_age(store):
    """Past ``db_retention_days`` a row goes; younger ones stay."""
    conn, parents = store
    fill(conn, parents, 1, 2_000, age_days=8)
    fill(conn, parents, 2, 300, age_days=6)
    retention = Retention(conn, days=7, max_bytes=10**9)
    batches = sum(1 for _ in retention.run(NOW))
    assert counts(conn) == {"l1": 300}
    assert retention.pruned.rows == 2_000
    assert batches > 1


def test_by_size_the_noisy_one_gives_first_and_failures_last(store):
    """A noisy registration cannot push out the history of the others, nor its own failures."""
    conn, parents = store
    fill(conn, parents, 1, 30_000, listener=1, age_days=1)
    fill(conn, parents, 2, 500, listener=1, age_days=2, status="error")
    fill(conn, parents, 3, 400, listener=2, age_days=3)
    bound = live_bytes(conn) // 2
    for _ in Retention(conn, days=7, max_bytes=bound).run(NOW):
        pass
    assert live_bytes(conn) <= bound
    assert counts(conn)["l2"] == 400
    assert conn.execute("SELECT count(*) FROM handler_invocations WHERE status = 'error'").fetchone() == (500,)


def test_space_is_given_back_to_the_disk(store, db):
    """The file itself shrinks: incremental_vacuum frees every page, not one."""
    conn, parents = store
    fill(conn, parents, 1, 30_000, age_days=8)
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    (before,) = conn.execute("PRAGMA page_count").fetchone()
    for _ in Retention(conn, days=7, max_bytes=10**9).run(NOW):
        pass
    (after,) = conn.execute("PRAGMA page_count").fetchone()
    assert after < before / 5
    assert conn.execute("PRAGMA freelist_count").fetchone() == (0,)
    assert conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def prune(conn, now=NOW, **options):
    retention = Retention(conn, days=7, max_bytes=10**9, **options)
    for _ in retention.run(now):
        pass
    return {gone.kind: gone.rows for gone in retention.pruned.details}


def number_of(conn, table):
    return conn.execute(f"SELECT count(*) FROM {table}").fetchone()[0]


def test_texts_nothing_shows_any_more_go(store):
    """A traceback lives as long as a row or an error group that has it."""
    conn, parents = store
    fill(conn, parents, 1, 10, age_days=8, status="error")
    prune(conn)
    assert (number_of(conn, "handler_invocations"), number_of(conn, "tracebacks")) == (0, 1)
    conn.execute("DELETE FROM error_groups")
    prune(conn)
    assert number_of(conn, "tracebacks") == 0


def test_an_error_group_outlives_its_runs_by_a_year_and_its_trend_by_ninety_days(store):
    """What failed half a year ago and fails again is not new. A dry run says the same as the prune after it."""
    conn, parents = store
    fill(conn, parents, 1, 10, age_days=8, status="error")
    found = []
    for days in (0, 81, 83, 356, 358):
        said = prune(conn, NOW + days * DAY, dry=True)
        went = prune(conn, NOW + days * DAY, detailed=True)
        assert {kind: said.get(kind) for kind in ("error_group", "traceback")} == {
            kind: went.get(kind) for kind in ("error_group", "traceback")
        }
        found.append(tuple(number_of(conn, table) for table in ("error_group_hours", "error_groups", "tracebacks")))
    assert found == [(1, 1, 1), (1, 1, 1), (0, 1, 1), (0, 1, 1), (0, 0, 0)]
    assert conn.execute("PRAGMA foreign_key_check").fetchall() == []
    assert conn.execute("PRAGMA foreign_keys").fetchone() == (1,)


def test_an_error_group_with_a_run_stays(store):
    """However long ago: runs may be kept for years. Its trend stays as long as they."""
    conn, parents = store
    fill(conn, parents, 1, 10, age_days=0, status="error")
    for _ in Retention(conn, days=1_000, max_bytes=10**9).run(NOW + 500 * DAY):
        pass
    assert number_of(conn, "error_groups") == 1
    assert number_of(conn, "error_group_hours") == 1


def test_an_error_group_seen_again_by_the_time_it_goes_stays(store, db):
    """Between looking and deleting others write; foreign keys are off while groups go, and would not tell."""
    conn, parents = store
    fill(conn, parents, 1, 1, age_days=400, status="error")
    prune(conn, NOW - 390 * DAY)

    def look(sql):
        if sql.startswith("PRAGMA foreign_keys = OFF") and number_of(conn, "temp.doomed"):
            with sqlite3.connect(db) as other:
                other.execute("UPDATE error_groups SET last_seen_at = ?", (NOW,))

    conn.set_trace_callback(look)
    prune(conn)
    conn.set_trace_callback(None)
    assert conn.execute("SELECT last_seen_at FROM error_groups").fetchall() == [(NOW,)]


def test_error_groups_of_registrations_that_are_gone_go_with_the_runs(store):
    """Jobs of one run, each under its own name, would leave a nameless group each for a year."""
    conn, parents = store
    fill(conn, parents, 1, 10, age_days=8, status="error")
    fill(conn, parents, 2, 10, age_days=8, status="error", listener=2)
    prune(conn)
    conn.execute("DELETE FROM rollups")
    conn.execute("DELETE FROM listeners WHERE name = 'l1'")
    prune(conn)
    assert conn.execute("SELECT name FROM v_error_groups").fetchall() == [("l2",)]
    assert number_of(conn, "error_group_hours") == 1
    assert conn.execute("PRAGMA foreign_key_check").fetchall() == []


def test_a_number_once_given_to_a_registration_or_a_session_is_not_given_again(store):
    """Rollups and error groups refer to them without foreign keys: the highest ids stay."""
    conn, parents = store
    for listener in (1, 2, 3):
        fill(conn, parents, listener, 5, age_days=400, listener=listener, status="error")
    conn.execute(OLD_SESSIONS)
    conn.execute("UPDATE listeners SET retired_at = 1, last_registered_at = 1")
    conn.execute("UPDATE sessions SET stopped_at = 1, stop_reason = 'crash'")
    for _ in range(2):
        for _ in Retention(conn, days=7, max_bytes=10**9, sessions_worth=1).run(NOW + 800 * DAY):
            pass
    assert conn.execute("SELECT id FROM listeners").fetchall() == [(3,)]
    assert conn.execute("SELECT id FROM sessions").fetchall() == [(15,)]


def test_of_incidents_the_newest_stay(store):
    """A database that fails every minute must not fill the file with saying so."""
    conn, parents = store
    fill(conn, parents, 1, 1)
    add = "INSERT INTO incidents (session_id, started_at, kind, detail) VALUES (1, ?, 'database_unavailable', '')"
    conn.executemany(add, [(float(second),) for second in range(KEEP_INCIDENTS + 30)])
    for _ in Retention(conn, days=7, max_bytes=10**9).run(0.0):
        pass
    kept = conn.execute("SELECT count(*), min(started_at) FROM incidents").fetchone()
    assert kept == (KEEP_INCIDENTS, 30.0)


OLD_SESSIONS = """
WITH RECURSIVE n(i) AS (SELECT 11 UNION ALL SELECT i + 1 FROM n WHERE i < 15)
INSERT INTO sessions (id, service_id, instance_id, started_at, last_heartbeat_at, stopped_at, stop_reason)
SELECT i, 1, 'i' || i, 1, 1, 1, 'crash' FROM n
"""
"""The last has the highest id, and stays for that."""


def test_what_did_not_run_is_told_for_a_year(store):
    """Then it goes, an hour at a time; a dry run takes nothing."""
    conn, _ = store
    hours = [int(NOW) - days * DAY for days in (1, 364, 366, 400)]
    conn.executemany("INSERT INTO skips VALUES (?, 'job', 1, 1, 'missed', 1, 0, 0)", [(hour,) for hour in hours])
    list(Retention(conn, days=7, max_bytes=10**9, dry=True).run(NOW))
    assert conn.execute("SELECT count(*) FROM skips").fetchone() == (4,)
    list(Retention(conn, days=7, max_bytes=10**9).run(NOW))
    assert [hour for (hour,) in conn.execute("SELECT hour FROM skips")] == hours[1::-1]


def test_a_dry_run_and_a_prune_agree_on_sessions_that_something_still_knows(store):
    """Of four that ended long ago, one has an incident that stays, and one a listener it never let go of. One has
    an incident that goes itself, as surplus: that one goes like the fourth, which has nothing."""
    conn, parents = store
    fill(conn, parents, 1, 1)
    conn.execute(OLD_SESSIONS)
    conn.execute("INSERT INTO registration_holders (kind, registration_id, session_id) VALUES ('handler', 1, 14)")
    add = "INSERT INTO incidents (session_id, started_at, kind, detail) VALUES (?, 1, 'database_unavailable', '')"
    conn.executemany(add, [(12,), *[(11,)] * KEEP_INCIDENTS])
    said = []
    for dry in (True, False):
        retention = Retention(conn, days=7, max_bytes=10**9, dry=dry, detailed=True, sessions_worth=1)
        for _ in retention.run(NOW):
            pass
        said.append({gone.kind: gone.rows for gone in retention.pruned.details})
    assert said == [{"session": 2, "incident": 1}] * 2
    assert conn.execute("SELECT id FROM sessions ORDER BY id").fetchall() == [(1,), (11,), (14,), (15,)]


@pytest.mark.parametrize(
    "comes",
    [
        "INSERT INTO registration_holders (kind, registration_id, session_id) VALUES ('handler', 1, 11)",
        "INSERT INTO running (session_id, span_id, trace_id, listener_id, execution_start_ts) VALUES (11, 1, 1, 1, 1)",
        "INSERT INTO incidents (session_id, started_at, kind, detail) VALUES (11, 1, 'database_replaced', '')",
    ],
)
def test_a_session_that_is_known_again_by_the_time_it_goes_stays(store, comes):
    """Between looking and deleting others write; foreign keys are off while sessions go, and would not tell."""
    conn, parents = store
    fill(conn, parents, 1, 1)
    conn.execute(OLD_SESSIONS)
    found = "SELECT count(*) FROM temp.doomed WHERE kind = 'session'"
    for _ in Retention(conn, days=7, max_bytes=10**9, sessions_worth=1).run(NOW):
        if comes and conn.execute(found).fetchone() == (4,):
            conn.execute(comes)
            comes = None
    assert comes is None
    assert conn.execute("SELECT id FROM sessions ORDER BY id").fetchall() == [(1,), (11,), (15,)]


async def test_a_running_application_prunes_and_goes_on_recording(make, rows, db):
    """Retention runs at start, on the writer's thread, between commits; what was pruned is not missed."""
    import handspan

    async def on_event(event): ...

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        await telemetry.execute(handspan.InvokeHandler(listener))
    conn = sqlite3.connect(db)
    conn.execute("UPDATE handler_invocations SET execution_start_ts = execution_start_ts - 30 * 86400")
    conn.commit()
    conn.close()
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        await telemetry.execute(handspan.InvokeHandler(listener))
        assert await telemetry.aflush()
    assert len(rows("SELECT * FROM handler_invocations")) == 1


async def test_the_command_line_prunes_while_an_application_records(make, rows, db):
    """Both write; nobody is harmed, and for the session rows and losses add up to what was started."""
    import handspan

    async def on_event(event): ...

    command = [str(Path(sys.executable).parent / "handspan"), "db", "prune", "--db", db, "--max-mb", "1"]
    started = 0
    async with make(commit_interval=0.02) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        for _ in range(2):
            for _ in range(12_000):  # more than a megabyte
                await telemetry.execute(handspan.InvokeHandler(listener))
            started += 12_000
            assert await telemetry.aflush()
            pruning = await asyncio.create_subprocess_exec(*command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            waiting = asyncio.ensure_future(pruning.communicate())
            while not waiting.done():
                await telemetry.execute(handspan.InvokeHandler(listener))
                started += 1
                await asyncio.sleep(0)
            assert (pruning.returncode, (await waiting)[1]) == (0, b"")
        assert await telemetry.aflush()
    (stored,) = rows("SELECT count(*) AS n FROM handler_invocations")
    (lost,) = rows("SELECT session_id, sum(count) AS n FROM losses WHERE reason = 'pruned_size' AND kind = 'handler'")
    assert lost["n"] > 0
    assert stored["n"] + lost["n"] == started
    assert lost["session_id"] == rows("SELECT id FROM sessions")[0]["id"]


# --- when -------------------------------------------------------------------------------------------------


@pytest.fixture
def upkeep(monkeypatch):
    """One that has begun, its first pass done, and a clock to turn."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("handspan.store.upkeep.time.monotonic", lambda: clock.now)
    options = SimpleNamespace(heartbeat_interval=30.0, db_max_size_mb=100)
    found = Upkeep(options)
    found.begin()
    assert found.retention_is_due()
    found.pruned(50)
    found.clock, found.bound = clock, max_bytes(options)
    return found


def test_a_file_that_grew_past_its_bound_is_pruned_at_once(upkeep):
    """And one that cannot be brought under it only when it has grown on."""
    assert not upkeep.retention_is_due()
    upkeep.grown_to(upkeep.bound + 1)
    assert upkeep.retention_is_due()
    upkeep.pruned(upkeep.bound + 2)
    upkeep.grown_to(upkeep.bound + 3)
    assert not upkeep.retention_is_due()
    upkeep.grown_to(int(upkeep.bound * 1.1))
    assert upkeep.retention_is_due()


def test_a_pass_that_was_cut_short_comes_again_soon(upkeep):
    """A lock or a full disk in between costs a minute, not an hour."""
    upkeep.clock.now += 3600
    assert upkeep.retention_is_due()
    assert not upkeep.retention_is_due()
    upkeep.clock.now += 60
    assert upkeep.retention_is_due()
    upkeep.pruned(50)
    upkeep.clock.now += 60
    assert not upkeep.retention_is_due()


def test_a_clock_that_jumped_is_not_believed_at_once(upkeep):
    """All history would be old in 2038: what is younger by the file's own clock waits for the next pass."""
    assert upkeep.clock_is_steady(NOW)
    upkeep.clock.now += 3600
    assert upkeep.clock_is_steady(NOW + 3600)
    upkeep.clock.now += 3600
    assert not upkeep.clock_is_steady(NOW + 20 * 365 * DAY)
    upkeep.clock.now += 3600
    assert upkeep.clock_is_steady(NOW + 20 * 365 * DAY + 3600)


def test_without_a_clock_nothing_goes_by_age(store):
    """By size it may."""
    conn, parents = store
    fill(conn, parents, 1, 3_000, age_days=8)
    for _ in Retention(conn, days=7, max_bytes=live_bytes(conn) // 2).run(NOW, by_age=False):
        pass
    assert conn.execute("SELECT DISTINCT reason FROM losses").fetchall() == [("pruned_size",)]
    assert 0 < counts(conn)["l1"] < 3_000


# --- how ----------------------------------------------------------------------------------------------------

BIG_TABLES = {"handler_invocations", "job_executions", "spans", "h", "t"}
SELECTED = {**statements("sql/retention.sql"), **statements("sql/shares.sql")}
NAMES = (
    "batch before before_ns first highest hour id large last last_row last_ts least length limit lowest met newest "
    "parent reason room row stride trace ts window worth after"
)


@pytest.mark.parametrize("kind", ["handler", "job"])
@pytest.mark.parametrize("name", [name for name in sorted(SELECTED) if name != "any_spans"])
def test_no_statement_reads_a_run_table_through(store, name, kind):
    """Ten million rows: every one of them goes by an index or by id."""
    conn, _ = store
    for table in ("doomed", "doomed_batches", "habits", "sampled_spans"):
        conn.execute(SELECTED[table])
    sql = SELECTED[name] if name == "report" else for_kind(SELECTED[name], kind)  # that one is of both
    plan = conn.execute(f"EXPLAIN QUERY PLAN {sql}", dict.fromkeys(NAMES.split(), 1)).fetchall()
    assert [step[3] for step in plan if step[3].startswith("SCAN ") and step[3].split()[1] in BIG_TABLES] == []
