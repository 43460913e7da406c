"""The query layer against plain SQL, and plain Python, over the same rows."""

import math
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from whenever import Instant

import seeded
from handspan.clock import instant_from_ns, to_epoch, to_ns
from handspan.store.queries import failures, registrations, runs, sessions, shapes, soundness, status
from handspan.store.queries.runs import RunFilter, RunKey, RunRow, list_runs
from handspan.store.queries.shapes import ALL_TIME, Window
from handspan.store.queries.slow import slowest_runs
from handspan.store.service import DatabaseService
from handspan.store.statements import statements
from seeded import DAY, HOUR, NOW, raw

EVERY_RUN = """
    SELECT kind, id, app_key, instance_index, name, status, execution_start_ts, trace_id, session_id FROM v_executions
    ORDER BY execution_start_ts DESC, kind DESC, id DESC
"""


def at(epoch: float) -> Instant:
    return instant_from_ns(round(epoch * 1e6) * 1000)


def last(seconds: float) -> Window:
    return Window(at(NOW - seconds))


NOBODY: Callable[[str, str], bool] = lambda path, instance: False


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> str:
    return seeded.build(tmp_path_factory.mktemp("house") / "house.db")


def short(run: RunRow) -> tuple[Any, ...]:
    return (run.kind, run.id, run.app_key, run.instance_index, run.name, run.status,
            to_epoch(to_ns(run.started_at)), run.trace_id, run.session_id)  # fmt: skip


# --- runs -------------------------------------------------------------------------------------------------


async def test_runs_are_merged_newest_first(house: str) -> None:
    """Handlers and jobs in one list, equal to sorting everything."""
    async with DatabaseService(house) as db:
        page = await list_runs(db, limit=1000)
    assert [short(run) for run in page.runs] == raw(house, EVERY_RUN)
    assert page.after is None


@pytest.mark.parametrize("size", [1, 7, 389, 390, 391])
async def test_pages_join_up(house: str, size: int) -> None:
    """Page after page gives each run once, though handlers and jobs share instants."""
    found: list[RunRow] = []
    key: RunKey | None = None
    async with DatabaseService(house) as db:
        while True:
            page = await list_runs(db, limit=size, after=key)
            assert len(page.runs) <= size
            found += page.runs
            key = page.after
            if key is None:
                break
    assert [short(run) for run in found] == raw(house, EVERY_RUN)


async def test_pages_join_up_within_one_instant(tmp_path: Path) -> None:
    """Many runs of many registrations at one and the same instant are still each given once."""
    path = seeded.build(tmp_path / "storm.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("UPDATE handler_invocations SET execution_start_ts = ?", (NOW,))
        conn.execute("UPDATE job_executions SET execution_start_ts = ?", (NOW,))
    found: list[RunRow] = []
    async with DatabaseService(path) as db:
        page = await list_runs(db, limit=50)
        found += page.runs
        while page.after:
            page = await list_runs(db, limit=50, after=page.after)
            found += page.runs
    assert [short(run) for run in found] == raw(path, EVERY_RUN)


async def test_many_registrations(tmp_path: Path) -> None:
    """With more registrations than rows wanted, the newest are still those of all."""
    path = seeded.build(tmp_path / "many.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("BEGIN")
        seeded.put(conn, "listeners (id, service_id, app_key, instance_index, name, topic, handler_method, "
                         "first_registered_at, last_registered_at)",
                   [(100 + n, 1, "many", n, "on", "x", "on", NOW, NOW) for n in range(400)])  # fmt: skip
        seeded.put(conn, "handler_invocations (listener_id, session_id, execution_start_ts, duration_ms, status, "
                         "trace_id, span_id)",
                   [(100 + n * 7 % 400, 4, NOW - 60 + n // 3 * 0.1, 1, "success", b"t", b"s")
                    for n in range(900)])  # fmt: skip
        conn.execute("COMMIT")
    async with DatabaseService(path) as db:
        for limit in (5, 50, 350):
            page = await list_runs(db, limit=limit)
            assert [short(run) for run in page.runs] == raw(path, f"{EVERY_RUN} LIMIT {limit}")


@pytest.mark.parametrize(
    ("which", "where"),
    [
        pytest.param(RunFilter(handler="on_push"), "kind = 'handler' AND name = 'on_push'", id="handler"),
        pytest.param(
            RunFilter(handler="lights.on_motion"), "app_key = 'lights' AND name = 'on_motion'", id="app.handler"
        ),
        pytest.param(RunFilter(handler="on_*"), "kind = 'handler' AND name GLOB 'on_*'", id="handler pattern"),
        pytest.param(RunFilter(job="sample"), "kind = 'job' AND name = 'sample'", id="job"),
        pytest.param(RunFilter(handler="on_push", job="sample"), "name IN ('on_push', 'sample')", id="handler and job"),
        pytest.param(RunFilter(app="energy"), "app_key = 'energy'", id="app"),
        pytest.param(RunFilter(status="success"), "status = 'success'", id="success"),
        pytest.param(RunFilter(status="error"), "status = 'error'", id="error"),
        pytest.param(RunFilter(status="cancelled"), "status = 'cancelled'", id="cancelled"),
        pytest.param(RunFilter(app="flaky", status="error"), "app_key = 'flaky' AND status = 'error'", id="app errors"),
        pytest.param(RunFilter(job="*", status="error"), "kind = 'job' AND status = 'error'", id="errors of all jobs"),
        pytest.param(RunFilter(handler="nobody"), "0", id="nobody"),
    ],
)
@pytest.mark.parametrize("window", [ALL_TIME, Window(at(NOW - 2 * DAY), at(NOW - DAY))], ids=["all time", "one day"])
async def test_filters(house: str, which: RunFilter, where: str, window: Window) -> None:
    """Each filter gives what the same condition gives in plain SQL, also over pages."""
    bounds = window.params()
    wanted = raw(
        house,
        f"SELECT kind, id FROM v_executions WHERE {where} AND execution_start_ts >= ? AND execution_start_ts < ? "
        "ORDER BY execution_start_ts DESC, kind DESC, id DESC",
        bounds["since"], bounds["until"],
    )  # fmt: skip
    found: list[tuple[str, int]] = []
    key = None
    async with DatabaseService(house) as db:
        while True:
            page = await list_runs(db, which, window, limit=20, after=key)
            found += [(run.kind, run.id) for run in page.runs]
            key = page.after
            if key is None:
                break
    assert found == wanted


@pytest.mark.parametrize("name", ["handler_runs", "handler_failures", "job_runs", "job_failures"])
def test_run_lists_never_scan_rows(house: str, name: str) -> None:
    """Lists of runs go through indexes: no execution table is ever scanned."""
    params = {
        "app": None,
        "name": None,
        "status": "error",
        "since": 0.0,
        "before_ts": NOW,
        "before_id": 0,
        "limit": 5,
        "session": None,
        "least_ms": None,
    }
    with closing(sqlite3.connect(f"file:{house}?mode=ro&immutable=1", uri=True)) as conn:
        plan = conn.execute(f"EXPLAIN QUERY PLAN {statements('queries/runs.sql')[name]}", params).fetchall()
    steps = [step[3] for step in plan]
    scans = [step for step in steps if step.startswith("SCAN") and "INDEX" not in step]
    assert not {"i", "e", "handler_invocations", "job_executions"} & {step.split()[1] for step in scans}, steps


async def test_last_invocations_with_their_tracebacks(house: str) -> None:
    """One listener's newest, with the text its errors left."""
    async with DatabaseService(house) as db:
        found = await runs.last_invocations(db, 3, limit=75)
    wanted = raw(house, "SELECT id, error_traceback FROM v_handler_invocations WHERE listener_id = 3 "
                        "ORDER BY execution_start_ts DESC, id DESC LIMIT 75")  # fmt: skip
    assert [(run.id, run.error_traceback) for run in found] == wanted
    assert any(run.error_traceback and "gateway.send" in run.error_traceback for run in found)


async def test_last_executions(house: str) -> None:
    """One job's newest, with when they were due."""
    async with DatabaseService(house) as db:
        found = await runs.last_executions(db, 1, limit=10)
    wanted = raw(house, "SELECT id, scheduled_ts FROM job_executions WHERE job_id = 1 "
                        "ORDER BY execution_start_ts DESC LIMIT 10")  # fmt: skip
    assert [(run.id, run.scheduled_ts) for run in found] == [(i, at(ts)) for i, ts in wanted]


# --- registrations -----------------------------------------------------------------------------------------

_FIGURES = """
    count(*), coalesce(sum(status = 'error'), 0), coalesce(sum(status = 'cancelled'), 0),
    coalesce(sum(error_type = 'DependencyError'), 0), coalesce(sum(error_type = 'TimeoutError'), 0),
    coalesce(sum(error_type = 'ProcessInterrupted'), 0)
"""
TABLES: dict[runs.Kind, tuple[str, str]] = {
    "handler": ("handler_invocations", "listener_id"),
    "job": ("job_executions", "job_id"),
}


def figures(path: str, kind: runs.Kind, row_id: int, since: float) -> tuple[int, ...]:
    table, parent = TABLES[kind]
    sql = f"SELECT {_FIGURES} FROM {table} WHERE {parent} = ? AND execution_start_ts >= ?"
    return tuple(raw(path, sql, row_id, since)[0])


def nearest_rank(path: str, kind: runs.Kind, row_id: int, since: float, share: float) -> float | None:
    """The percentile by its definition, in Python."""
    table, parent = TABLES[kind]
    sql = f"SELECT duration_ms FROM {table} WHERE {parent} = ? AND execution_start_ts >= ?"
    durations = sorted(duration for (duration,) in raw(path, sql, row_id, since))
    return durations[math.ceil(share * len(durations)) - 1] if durations else None


@pytest.mark.parametrize("seconds", [math.inf, DAY, HOUR], ids=["all time", "one day", "one hour"])
async def test_activity(house: str, seconds: float) -> None:
    """Counts, percentiles and last runs of every handler and job, as raw rows have them."""
    window = ALL_TIME if math.isinf(seconds) else last(seconds)
    since = window.params()["since"]
    async with DatabaseService(house) as db:
        listed: dict[runs.Kind, list[Any]] = {
            "handler": await registrations.list_handlers(db, window),
            "job": await registrations.list_jobs(db, window),
        }
    for kind, found in listed.items():
        table, parent = TABLES[kind]
        for each in found:
            a = each.activity
            assert (a.runs, a.errors, a.cancelled, a.dependency_failures, a.timeouts, a.interrupted) == figures(
                house, kind, each.id, since
            )
            for share, found_ms in ((0.50, a.p50_ms), (0.95, a.p95_ms), (0.99, a.p99_ms)):
                nearest = nearest_rank(house, kind, each.id, since, share)
                assert found_ms == (None if nearest is None else pytest.approx(nearest, rel=0.05))
            ((newest,),) = raw(house, f"SELECT max(execution_start_ts) FROM {table} WHERE {parent} = ?", each.id)
            assert each.last_run_at == shapes.instant(newest)


async def test_activity_before(house: str) -> None:
    """Beside each figure what it was in as long a time before; nothing where that has no meaning."""
    window, before = last(DAY), Window(at(NOW - 2 * DAY), at(NOW - DAY))
    async with DatabaseService(house) as db:
        found = await registrations.list_handlers(db, window, now=at(NOW))
        wanted = await registrations.list_handlers(db, before)
        closed = await registrations.list_handlers(db, Window(at(NOW - DAY), at(NOW)))
        endless = await registrations.list_handlers(db, ALL_TIME, now=at(NOW))
    activity = {each.id: each.activity for each in wanted}
    assert {each.id: each.before for each in found} == {each.id: activity[each.id] for each in found}
    assert [each.before for each in closed] == [each.before for each in found]
    assert {each.before for each in endless} == {None}
    assert any(each.before and each.before.runs for each in found)


@pytest.mark.parametrize(
    ("sort", "key"),
    [
        pytest.param("runs", lambda each: -each.activity.runs, id="runs"),
        pytest.param("failed", lambda each: -each.activity.errors, id="failed"),
        pytest.param("p95", lambda each: -(each.activity.p95_ms or 0), id="p95"),
        pytest.param("last", lambda each: -to_epoch(to_ns(each.last_run_at)) if each.last_run_at else 1, id="last"),
    ],
)
async def test_sorting(house: str, sort: registrations.Sort, key: Callable[[Any], float]) -> None:
    """The most of it first, equals by name; a limit cuts what is sorted."""
    async with DatabaseService(house) as db:
        by_name = await registrations.list_handlers(db, last(2 * DAY))
        found = await registrations.list_handlers(db, last(2 * DAY), sort=sort)
        first = await registrations.list_handlers(db, last(2 * DAY), sort=sort, limit=1)
    assert [each.id for each in found] == [each.id for each in sorted(by_name, key=key)]
    assert [each.id for each in found] != [each.id for each in by_name]
    assert first == found[:1]


async def test_the_last_run_outlives_its_rows(tmp_path: Path) -> None:
    """Rows pruned long ago leave the day they ran on; who never ran has none."""
    path = seeded.build(tmp_path / "pruned.db")
    ((newest,),) = raw(path, "SELECT max(execution_start_ts) FROM handler_invocations WHERE listener_id = 3")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("DELETE FROM handler_invocations WHERE listener_id = 3")
    async with DatabaseService(path) as db:
        found = {each.id: each.last_run_at for each in await registrations.list_handlers(db, ALL_TIME)}
    assert found[3] == at(newest // DAY * DAY)
    assert found[4] is None


async def test_the_last_error_of_each(tmp_path: Path) -> None:
    """The newest of its error groups, whenever it was."""
    path = seeded.build(tmp_path / "groups.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        seeded.put(conn, "error_groups (kind, registration_id, fingerprint, error_type, message, first_seen_at, "
                         "last_seen_at, count, sample_message, sample_trace_id, sample_span_id)",
                   [("handler", 3, b"a", "ValueError", "m", NOW, NOW - 50, 1, "older", b"t", b"s"),
                    ("handler", 3, b"b", "KeyError", "m", NOW, NOW - 9, 1, "newer", b"t", b"s"),
                    ("job", 3, b"a", "OSError", "m", NOW, NOW - 1, 1, "of a job", b"t", b"s")])  # fmt: skip
    async with DatabaseService(path) as db:
        found = {each.id: each.last_error for each in await registrations.list_handlers(db, ALL_TIME)}
    assert found[3] == registrations.LastError(at(NOW - 9), "KeyError", "newer")
    newest = {
        row_id: registrations.LastError(at(ts), error, message)
        for row_id, ts, error, message in raw(path, "SELECT listener_id, max(execution_start_ts), error_type, "
                                                    "error_message FROM handler_invocations WHERE status = 'error' "
                                                    "GROUP BY 1")
    }  # fmt: skip
    assert {row_id: error for row_id, error in found.items() if error} == newest | {3: found[3]}


async def test_handlers_by_app_and_name(house: str) -> None:
    """In the order of their names; one that was retired before the window is left out."""
    async with DatabaseService(house) as db:
        everybody = await registrations.list_handlers(db, ALL_TIME)
        today = await registrations.list_handlers(db, last(DAY))
        lights = await registrations.list_handlers(db, last(DAY), app="lights")
        two = await registrations.list_handlers(db, last(DAY), limit=2)
    assert [h.id for h in everybody] == [3, 1, 6, 2, 5, 4]
    assert [h.id for h in today] == [3, 1, 6, 2, 4]
    assert [h.id for h in lights] == [1, 6, 2]
    assert [h.id for h in two] == [3, 1]
    assert [h.service for h in lights] == ["house", "garage", "house"]


async def test_jobs_know_their_next_run(house: str) -> None:
    """A job that never ran and has no trigger is listed all the same."""
    async with DatabaseService(house) as db:
        found = await registrations.list_jobs(db, ALL_TIME)
    assert [(job.name, job.trigger_value, job.next_run_at) for job in found] == [
        ("rollup", "0 * * * *", at(NOW - 300)),
        ("sample", "30 s", at(NOW + 20)),
        ("good_night", None, None),
    ]
    assert found[2].activity.runs == 0
    assert found[2].activity.p50_ms is None
    assert found[2].last_run_at is None


@pytest.mark.parametrize(("kind", "row_id"), [("handler", 3), ("handler", 4), ("job", 1), ("job", 3)],
                         ids=["handler", "handler that never ran", "job", "job that never ran"])  # fmt: skip
async def test_totals(house: str, kind: runs.Kind, row_id: int) -> None:
    """One registration's sums, extremes and last error."""
    table, parent = TABLES[kind]
    window = last(2 * DAY)
    since = window.params()["since"]
    async with DatabaseService(house) as db:
        t = await registrations.registration_totals(db, kind, row_id, window)
    f = t.figures
    assert (f.runs, f.errors, f.cancelled, f.dependency_failures, f.timeouts, f.interrupted) == figures(
        house, kind, row_id, since
    )
    assert f.runs == f.successes + f.errors + f.cancelled
    durations = [
        d
        for (d,) in raw(
            house, f"SELECT duration_ms FROM {table} WHERE {parent} = ? AND execution_start_ts >= ?", row_id, since
        )
    ]
    assert f.total_ms == pytest.approx(sum(durations))
    assert (f.min_ms, f.max_ms) == ((min(durations), max(durations)) if durations else (None, None))
    newest = raw(house, f"SELECT max(execution_start_ts) FROM {table} WHERE {parent} = ? AND execution_start_ts >= ?",
                 row_id, since)  # fmt: skip
    assert t.last_run_at == shapes.instant(newest[0][0])
    sql = f"SELECT execution_start_ts, error_type, error_message FROM {table} WHERE {parent} = ? AND status = 'error' "
    last_error = raw(house, f"{sql} AND execution_start_ts >= ? ORDER BY 1 DESC LIMIT 1", row_id, since)
    found = (
        [(to_epoch(to_ns(t.last_error.started_at)), t.last_error.error_type, t.last_error.error_message)]
        if t.last_error
        else []
    )
    assert found == last_error


# --- failures ---------------------------------------------------------------------------------------------


async def test_recent_errors(house: str) -> None:
    """One by one, newest first."""
    async with DatabaseService(house) as db:
        found = await failures.recent_errors(db, ALL_TIME, limit=9)
    wanted = raw(house, "SELECT kind, id FROM v_executions WHERE status = 'error' "
                        "ORDER BY execution_start_ts DESC, kind DESC, id DESC LIMIT 9")  # fmt: skip
    assert [(run.kind, run.id) for run in found] == wanted


# --- sessions ---------------------------------------------------------------------------------------------


async def test_sessions(house: str) -> None:
    """Newest first, lasting to their end or their last sign of life."""
    async with DatabaseService(house) as db:
        found = await sessions.list_sessions(db, at(NOW), alive=NOBODY)
    assert [(s.id, s.state, s.recovered, round(s.duration_s)) for s in found] == [
        (4, "live", True, 6 * HOUR),
        (3, "unknown", True, 5 * HOUR),
        (2, "clean_shutdown", True, DAY - 60),
        (1, "crash", True, 3 * DAY),
    ]
    assert [s.running for s in found] == [1, 0, 0, 0]
    assert [s.lost for s in found] == [12, 0, 0, 2]
    assert found[0].ended_at is None
    assert found[1].ended_at == at(NOW - 25 * HOUR)


async def test_session_counts(house: str) -> None:
    """What each session ran, and failed, and left unfinished."""
    async with DatabaseService(house) as db:
        found = await sessions.with_counts(db, await sessions.list_sessions(db, at(NOW), alive=NOBODY))
        some = await sessions.with_counts(db, found[:2])
        none = await sessions.with_counts(db, [])
    for session in found:
        wanted = raw(house, "SELECT count(*), coalesce(sum(status = 'error'), 0), "
                     "coalesce(sum(error_type = 'ProcessInterrupted'), 0) FROM v_executions WHERE session_id = ?",
                     session.id)[0]  # fmt: skip
        assert session.counts == sessions.SessionCounts(*wanted)
    assert some == found[:2]
    assert none == []


@pytest.mark.parametrize(
    ("lock", "host", "silent", "state", "recovered"),
    [
        pytest.param("held", "here", 10, "live", True, id="its lock is held"),
        pytest.param("held", "here", 9999, "live", True, id="suspended, but its lock is held"),
        pytest.param("free", "here", 10, "crash", False, id="its lock is free"),
        pytest.param("none", "here", 10, "live", True, id="a fresh copy without locks"),
        pytest.param("none", "here", 9999, "crash", False, id="no lock and long silent"),
        pytest.param("free", "elsewhere", 10, "live", True, id="another host, heard of"),
        pytest.param("none", "elsewhere", 121, "unknown", True, id="another host, silent"),
        pytest.param("none", None, 9999, "unknown", True, id="nobody said which host"),
    ],
)
async def test_state_of_an_open_session(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lock: str,
    host: str | None,
    silent: float,
    state: str,
    recovered: bool,
) -> None:
    """The lock decides where it can be asked; elsewhere the heartbeat's age does."""
    monkeypatch.setattr("handspan.store.queries.sessions.socket.gethostname", lambda: "here")
    path = seeded.build(tmp_path / "house.db")
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        conn.execute("UPDATE sessions SET host = ?, last_heartbeat_at = ? WHERE id = 4", (host, NOW - silent))
    if lock != "none":
        (tmp_path / "house.db.handspan").mkdir()
        (tmp_path / "house.db.handspan" / "fourth.lock").touch()
    async with DatabaseService(path) as db:
        found = await sessions.list_sessions(db, at(NOW), alive=lambda *_: lock == "held")
    assert (found[0].state, found[0].recovered) == (state, recovered)


async def test_sessions_of_a_window(house: str) -> None:
    """Those that reach into it, whenever they began."""
    async with DatabaseService(house) as db:
        found = await sessions.list_sessions(db, at(NOW), last(26 * HOUR), alive=NOBODY)
        limited = await sessions.list_sessions(db, at(NOW), limit=1, alive=NOBODY)
    assert [s.id for s in found] == [4, 3, 2]
    assert [s.id for s in limited] == [4]


async def test_restart(house: str, tmp_path: Path) -> None:
    """The newest session's start; none where there is no session."""
    async with DatabaseService(house) as db:
        assert await sessions.newest_session_start(db) == at(NOW - 6 * HOUR)
    async with DatabaseService(seeded.build(tmp_path / "empty.db", rows=False)) as db:
        assert await sessions.newest_session_start(db) is None


@pytest.mark.parametrize(
    ("seconds", "counts"),
    [(math.inf, [12, 7, 2]), (DAY, [12, 7]), (90 * 60, [12, 7]), (30 * 60, [])],
    ids=["all time", "one day", "in the hour's middle", "after the hour"],
)
async def test_losses(house: str, seconds: float, counts: list[int]) -> None:
    """The ledger by stage, kind and reason, largest first; an hour counts while any of it is in the window."""
    window = ALL_TIME if math.isinf(seconds) else last(seconds)
    async with DatabaseService(house) as db:
        found = await sessions.list_losses(db, window)
    assert [loss.count for loss in found] == counts


# --- status -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [ALL_TIME, last(DAY)], ids=["all time", "one day"])
async def test_status(house: str, window: Window) -> None:
    """The overview's figures are sums of what the lists show."""
    async with DatabaseService(house) as db:
        found = await status.summary(db, at(NOW), window)
    for kind, of_kind in (("handler", found.handlers), ("job", found.jobs)):
        where = "FROM v_executions WHERE kind = ? AND execution_start_ts >= ?"
        since = window.params()["since"]
        wanted = raw(house, f"SELECT {_FIGURES} {where}", kind, since)[0]
        f = of_kind.failures
        assert (of_kind.runs, f.errors, f.cancelled, f.dependency_failures, f.timeouts, f.interrupted) == wanted
        ((active,),) = raw(
            house, f"SELECT count(DISTINCT service || app_key || instance_index || name) {where}", kind, since
        )
        assert of_kind.active == active
    assert (found.handlers.registered, found.jobs.registered, found.running) == (5, 3, 1)
    assert found.store.size_bytes == Path(house).stat().st_size
    assert len(found.errors) <= 3


async def test_empty_file(tmp_path: Path) -> None:
    """Every question has an answer where nothing was recorded."""
    async with DatabaseService(seeded.build(tmp_path / "empty.db", rows=False)) as db:
        found = await status.summary(db, at(NOW), ALL_TIME)
        assert (found.handlers.runs, found.jobs.registered, found.sessions, found.errors) == (0, 0, [], [])
        assert (await list_runs(db)).runs == []
        assert await registrations.list_handlers(db, ALL_TIME) == []
        assert await registrations.list_jobs(db, ALL_TIME) == []
        assert await slowest_runs(db) == []
        assert await sessions.list_losses(db) == []


async def test_damage(tmp_path: Path) -> None:
    """A sound file has none; a row without its parent is named."""
    path = seeded.build(tmp_path / "house.db")
    async with DatabaseService(path) as db:
        assert await soundness.damage(db) == []
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute("DELETE FROM scheduled_jobs WHERE id = 1")
        found = await soundness.damage(db)
    ((orphans,),) = raw(path, "SELECT count(*) FROM job_executions WHERE job_id = 1")
    assert len(found) == min(orphans, 100) + (orphans > 100)
    assert found[0] == "job_executions row 2 has no parent in scheduled_jobs"


# --- time ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("us", [0, 1, 1_780_000_000_123_456, 4_000_000_000_999_999], ids=str)
def test_instants_come_back_exactly(us: int) -> None:
    """A microsecond written is the microsecond read."""
    assert shapes.instant(to_epoch(us * 1000)) == instant_from_ns(us * 1000)
