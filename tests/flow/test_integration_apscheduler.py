"""APScheduler 3.x under handspan: real schedulers, a real file, and the same program with and without us.

Runs that must happen are due in the past; what must not happen is due far ahead. Nothing sleeps.
"""

import asyncio
import functools
import logging
import queue
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from apscheduler import events as ap
from apscheduler.executors.pool import ProcessPoolExecutor
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.combining import OrTrigger
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from opentelemetry import trace

from handspan import ExecuteJob, InvokeHandler
from handspan.errors import NotRegisteredError, RegistrationError
from handspan.integrations import apscheduler

PAST = datetime(2026, 1, 1, 12, tzinfo=UTC)
FAR = datetime(2099, 1, 1, tzinfo=UTC)
GIVE_UP = 30.0  # seconds until a test that waits has failed
ENDED = ap.EVENT_JOB_EXECUTED | ap.EVENT_JOB_ERROR
DUE = {"misfire_grace_time": None, "trigger": "date", "run_date": PAST}


def tick(*args, **kwargs):
    return "ticked", args, kwargs


async def atick(*args, **kwargs):
    return "ticked", args, kwargs


def failing():
    raise ValueError("bad bulb")


async def afailing():
    raise ValueError("bad bulb")


class Kitchen:
    def measure(self):
        return "measured"


class Heard:
    """A scheduler's events, in the order they come, waited for from a thread or from a loop."""

    def __init__(self, scheduler, mask=ENDED):
        self._queue = queue.Queue()
        scheduler.add_listener(self._queue.put, mask)

    def next(self):
        return self._queue.get(timeout=GIVE_UP)

    async def anext(self):
        return await asyncio.to_thread(self.next)


@pytest.fixture
def telemetry(make):
    with make() as telemetry:
        yield telemetry


@pytest.fixture
def background():
    """A BackgroundScheduler, stopped at the end whatever happened."""
    scheduler = BackgroundScheduler(timezone="UTC")
    yield scheduler
    if scheduler.running:
        scheduler.shutdown()


@pytest.fixture
async def on_loop():
    scheduler = AsyncIOScheduler(timezone="UTC")
    yield scheduler
    if scheduler.running:
        scheduler.shutdown()
        await asyncio.sleep(0)  # it does so in its next step on the loop


@pytest.fixture
def runs(rows, telemetry):
    def query():
        assert telemetry.flush()
        return rows("SELECT * FROM v_job_executions ORDER BY id")

    return query


@pytest.fixture
def jobs(rows, telemetry):
    def query():
        assert telemetry.flush()
        return {row["job_name"]: row for row in rows("SELECT * FROM scheduled_jobs ORDER BY id")}

    return query


# --- runs ----------------------------------------------------------------------------------------------------


async def test_a_coroutine_job_is_recorded_with_the_moment_it_was_due(telemetry, on_loop, runs):
    """One run, one row: its own duration and outcome, and the moment APScheduler meant."""
    heard, spans = Heard(on_loop), []

    async def measure(room, *, unit):
        spans.append(trace.get_current_span().get_span_context().span_id)
        return room, unit

    apscheduler.instrument(telemetry, on_loop, app_key="house")
    on_loop.start()
    on_loop.add_job(measure, args=("bath",), kwargs={"unit": "C"}, **DUE)
    assert (await heard.anext()).retval == ("bath", "C")
    (row,) = runs()
    assert (row["app_key"], row["job_name"], row["status"]) == ("house", "measure", "success")
    assert row["scheduled_at"].startswith("2026-01-01T12:00:00")
    assert [f"{span:016x}" for span in spans] == [row["span_id"]]


async def test_a_plain_job_stays_in_apschedulers_own_thread(telemetry, on_loop, runs):
    """AsyncIOScheduler runs plain functions in the loop's default pool: neither on the loop nor in our threads."""
    heard, threads = Heard(on_loop), []

    def where():
        threads.append(threading.current_thread().name)
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        assert trace.get_current_span().get_span_context().is_valid

    apscheduler.instrument(telemetry, on_loop)
    on_loop.start()
    on_loop.add_job(where, **DUE)
    assert (await heard.anext()).code == ap.EVENT_JOB_EXECUTED
    (name,) = threads
    assert name.startswith("asyncio_")
    assert [row["status"] for row in runs()] == ["success"]


def test_a_background_schedulers_jobs_are_recorded_without_any_loop(telemetry, background, runs):
    """A program of threads only: each run is recorded in the worker thread it runs in."""
    heard, spans = Heard(background), []
    apscheduler.instrument(telemetry, background)
    background.start()

    def inner():
        spans.append(trace.get_current_span().get_span_context().span_id)
        return "done"

    background.add_job(inner, **DUE)
    assert heard.next().retval == "done"
    (row,) = runs()
    assert (row["app_key"], row["job_name"], row["status"]) == (__name__, "inner", "success")
    assert [f"{span:016x}" for span in spans] == [row["span_id"]]


@pytest.mark.parametrize("job", [failing, afailing], ids=["plain", "coroutine"])
async def test_a_failure_is_recorded_and_apscheduler_sees_it_as_before(telemetry, runs, caplog, job):
    """The same failing program twice: events and log lines of APScheduler are equal, and the row says why."""

    async def program(instrumented):
        scheduler = AsyncIOScheduler(timezone="UTC")
        if instrumented:
            apscheduler.instrument(telemetry, scheduler)
        heard = Heard(scheduler)
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="apscheduler"):
            scheduler.start()
            scheduler.add_job(job, id="one", **DUE)
            event = await heard.anext()
            scheduler.shutdown()
            await asyncio.sleep(0)
        lines = sorted((r.name, r.levelname, r.getMessage()) for r in caplog.records if r.name.startswith("apsch"))
        error = (type(event.exception), str(event.exception), "bad bulb" in event.traceback)
        return lines, event.code, event.job_id, event.scheduled_run_time, error, event.traceback

    *plain, without = await program(instrumented=False)
    *recorded, with_us = await program(instrumented=True)
    assert recorded == plain
    assert with_us.splitlines()[-2:] == without.splitlines()[-2:]
    (row,) = runs()
    assert (row["status"], row["error_type"], row["error_message"]) == ("error", "ValueError", "bad bulb")
    assert "handspan" not in row["error_traceback"].partition("Traceback")[2].replace(__file__, "")


async def test_a_run_cancelled_at_shutdown_is_cancelled(telemetry, on_loop, runs):
    """AsyncIOScheduler cancels coroutine jobs when it shuts down: that is no error."""
    started = asyncio.Event()

    async def waits():
        started.set()
        await asyncio.Event().wait()

    heard = Heard(on_loop)
    apscheduler.instrument(telemetry, on_loop)
    on_loop.start()
    on_loop.add_job(waits, **DUE)
    await started.wait()
    on_loop.shutdown()
    assert isinstance((await heard.anext()).exception, asyncio.CancelledError)
    assert [row["status"] for row in runs()] == ["cancelled"]


def test_each_missed_moment_that_still_runs_is_a_run_with_its_own_moment(telemetry, background, runs):
    """Without coalescing, one submission is several runs; those too late to run are counted, not recorded."""
    heard = Heard(background, ENDED | ap.EVENT_JOB_MISSED)
    instrumentation = apscheduler.instrument(telemetry, background)
    now = datetime.now(UTC)
    late = {"coalesce": False, "misfire_grace_time": 3600, "next_run_time": now - timedelta(hours=3)}
    background.add_job(tick, "interval", minutes=45, name="late", **late)
    background.start()
    codes = [heard.next().code for _ in range(5)]
    assert codes.count(ap.EVENT_JOB_MISSED) == instrumentation.missed == 3
    found = runs()
    assert len(found) == 2
    minutes = [(datetime.fromisoformat(row["scheduled_at"]) - now) / timedelta(minutes=1) for row in found]
    assert minutes == pytest.approx([-45, 0], abs=0.1)


def test_runs_skipped_for_max_instances_are_counted(telemetry, background, runs):
    """A run that is still going keeps the next one out: APScheduler skips it, and we count it."""
    started, go_on = threading.Event(), threading.Event()
    skipped, ended = Heard(background, ap.EVENT_JOB_MAX_INSTANCES), Heard(background)

    def slow():
        started.set()
        assert go_on.wait(GIVE_UP)

    instrumentation = apscheduler.instrument(telemetry, background)
    background.start()
    job = background.add_job(slow, "interval", days=1, next_run_time=PAST, misfire_grace_time=None)
    assert started.wait(GIVE_UP)
    job.modify(next_run_time=PAST)
    try:
        skipped.next()
    finally:
        go_on.set()
    ended.next()
    assert instrumentation.skipped == 1
    assert [row["job_name"] for row in runs()] == ["slow"]


def test_an_error_hook_is_told_of_a_run_without_a_loop(make, background):
    """In a worker thread there is no loop for the hooks' tasks: they get one in a thread of their own."""
    told = queue.Queue()

    async def on_error(report):
        told.put((report.result.error_type, report.handle.name, threading.current_thread().name))

    with make(on_error=on_error) as telemetry:
        apscheduler.instrument(telemetry, background)
        background.start()
        background.add_job(failing, **DUE)
        assert told.get(timeout=GIVE_UP) == ("ValueError", "failing", "handspan-on-error")


# --- jobs ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trigger", "described"),
    [
        (IntervalTrigger(minutes=5), ("interval", "300.0")),
        (CronTrigger.from_crontab("*/5 7 * * *"), ("cron", "*/5 7 * * *")),
        (CronTrigger(hour=7, day_of_week="0-4"), ("cron", "0 7 * * mon-fri")),
        (CronTrigger(day_of_week="5,6", second=30), ("cron", "* * * * sat,sun 30")),
        (CronTrigger(day_of_week="*/2", hour=1, minute=2), ("cron", "2 1 * * */2")),
        (CronTrigger(second="*/10"), ("cron", "* * * * * */10")),
        (CronTrigger(week=3, hour=7), ("cron", "cron[week='3', hour='7']")),
        (DateTrigger(FAR), ("date", "2099-01-01T00:00:00+00:00")),
        (
            OrTrigger([IntervalTrigger(hours=1), CronTrigger(hour=7)]),
            ("or", "or[interval[1:00:00], cron[hour='7']]"),
        ),
    ],
    ids=lambda value: value[1] if isinstance(value, tuple) else "",
)
def test_a_trigger_is_said_as_people_wrote_it(telemetry, background, jobs, trigger, described):
    """Seconds for an interval, an expression for cron (weekdays by name: APScheduler counts from Monday)."""
    apscheduler.instrument(telemetry, background)
    background.start(paused=True)
    background.add_job(tick, trigger)
    row = jobs()["tick"]
    assert (row["trigger_type"], row["trigger_value"]) == described
    assert row["repeat"] == (described[0] != "date")


def test_a_job_goes_by_its_name_else_its_id_else_its_function(telemetry, background, jobs):
    """A name that is the same after a restart: given and free, else an id somebody chose, else the function's."""
    apscheduler.instrument(telemetry, background, app_key="house")
    background.start(paused=True)
    for options in [
        {"name": "poll the meter"},
        {"name": "poll the meter", "id": "second"},
        {"name": "poll the meter"},
        {"id": "chosen"},
        {},
        {},
    ]:
        background.add_job(tick, "interval", hours=1, **options)
    background.add_job(Kitchen().measure, "interval", hours=1)
    background.add_job(functools.partial(tick, 1), "interval", hours=1, id="0" * 32)
    expected = ["poll the meter", "second", "poll the meter-2", "chosen", "tick", "tick-2", "measure", "tick-3"]
    assert list(jobs()) == expected


def test_changes_of_a_job_are_followed(telemetry, background, jobs):
    """Rescheduled, modified, paused, resumed and removed: the row always says what is so now."""
    apscheduler.instrument(telemetry, background)
    background.start()
    job = background.add_job(tick, "interval", hours=1, args=(1,), next_run_time=FAR, id="one")
    assert jobs()["one"]["next_run_ts"] == FAR.timestamp()
    job.reschedule("cron", hour=7)
    assert (jobs()["one"]["trigger_type"], jobs()["one"]["trigger_value"]) == ("cron", "0 7 * * *")
    job.modify(args=(2,), kwargs={"unit": "C"})
    assert (jobs()["one"]["args_json"], jobs()["one"]["kwargs_json"]) == ("[2]", '{"unit": "C"}')
    job.pause()
    assert jobs()["one"]["next_run_ts"] is None
    job.resume()
    assert jobs()["one"]["next_run_ts"] > datetime.now(UTC).timestamp()
    background.pause()
    assert jobs()["one"]["next_run_ts"] is None
    background.resume()
    assert jobs()["one"]["next_run_ts"] is not None
    assert jobs()["one"]["retired_at"] is None
    job.remove()
    assert jobs()["one"]["retired_at"] is not None
    background.add_job(tick, "interval", hours=1, id="one")
    assert jobs()["one"]["retired_at"] is None
    background.remove_all_jobs()
    assert jobs()["one"]["retired_at"] is not None


def test_a_modified_job_keeps_its_name_though_a_better_one_is_free(telemetry, background, jobs):
    """A job that became tick-2 stays tick-2 when the first tick goes: its history is under that name."""
    apscheduler.instrument(telemetry, background)
    background.start(paused=True)
    first, second = (background.add_job(tick, "interval", hours=1) for _ in range(2))
    first.remove()
    second.reschedule("interval", hours=2)
    found = jobs()
    assert (found["tick-2"]["trigger_value"], found["tick-2"]["retired_at"]) == ("7200.0", None)


def test_a_one_shot_job_ends_with_its_run_and_its_name_is_free_again(telemetry, background, jobs, runs):
    """It is removed before its run begins: the run is recorded all the same, twice under one name."""
    heard = Heard(background)
    apscheduler.instrument(telemetry, background)
    background.start()
    for _ in range(2):
        background.add_job(tick, **DUE)
        heard.next()
    assert [row["job_name"] for row in runs()] == ["tick", "tick"]
    row = jobs()["tick"]
    assert (row["repeat"], row["next_run_ts"]) == (0, None)
    assert row["retired_at"] is not None


def test_the_next_run_moves_on_with_each_run(telemetry, background, jobs):
    """After a run the row says when the next one is."""
    apscheduler.instrument(telemetry, background)
    heard = Heard(background, ap.EVENT_JOB_SUBMITTED)  # told after us
    background.start()
    background.add_job(tick, "interval", days=1, next_run_time=PAST, misfire_grace_time=None, id="daily")
    heard.next()
    assert jobs()["daily"]["next_run_ts"] > datetime.now(UTC).timestamp()


def test_jobs_added_before_the_start_say_where_they_were_added(telemetry, background, jobs):
    """The registration is where ``add_job`` or the decorator stands, not where ``start()`` does."""
    background.add_job(tick, "interval", hours=1, id="earlier")
    apscheduler.instrument(telemetry, background)
    background.add_job(tick, "interval", hours=1, id="pending")

    @background.scheduled_job("interval", hours=1)
    def decorated(): ...

    background.start(paused=True)
    background.add_job(tick, "interval", hours=1, id="running")
    found = jobs()
    assert set(found) == {"earlier", "pending", "decorated", "running"}
    places = [found[name]["source_location"].rpartition(":") for name in ("earlier", "pending", "decorated", "running")]
    assert {Path(file).name for file, _, _ in places} == {Path(__file__).name}
    lines = [int(line) for _, _, line in places]
    assert lines == sorted(set(lines))
    assert 'id="running"' in found["running"]["registration_source"]


def test_jobs_of_a_persistent_store_are_found_at_the_start(telemetry, background, jobs, runs, tmp_path: Path):
    """A store that outlives the process gives new job objects each time: one registration, one name."""
    url = f"sqlite:///{tmp_path / 'jobs.db'}"
    first = BackgroundScheduler(timezone="UTC", jobstores={"default": SQLAlchemyJobStore(url)})
    first.start(paused=True)
    later = {"misfire_grace_time": None, "next_run_time": FAR}
    first.add_job(Kitchen().measure, "interval", days=1, name="measure it", **later)
    first.shutdown()
    first._jobstores["default"].engine.dispose()
    store = SQLAlchemyJobStore(url)
    background.add_jobstore(store)
    apscheduler.instrument(telemetry, background, app_key="house")
    heard, submitted = Heard(background), Heard(background, ap.EVENT_JOB_SUBMITTED)
    background.start()
    for _ in range(2):
        background.get_jobs()[0].modify(next_run_time=PAST)
        submitted.next()  # told after us, and after the store
        assert heard.next().retval == "measured"
    assert {(row["app_key"], row["job_name"], row["status"]) for row in runs()} == {("house", "measure it", "success")}
    assert jobs()["measure it"]["next_run_ts"] > datetime.now(UTC).timestamp()
    background.shutdown()
    store.engine.dispose()
    assert jobs()["measure it"]["next_run_ts"] is not None, "the next start counts from there"


# --- never harm ------------------------------------------------------------------------------------------------


def test_uninstrumenting_leaves_the_scheduler_as_it_was(telemetry, background, jobs, runs):
    """Nothing is recorded any more, registrations are retired, and not one attribute of ours is left."""
    background.start()
    before = set(vars(background)), {name: set(vars(e)) for name, e in background._executors.items()}
    uninstrument = apscheduler.instrument(telemetry, background)
    background.add_job(tick, "interval", hours=1, id="one")
    uninstrument()
    uninstrument()
    heard = Heard(background)
    background.add_job(tick, **DUE)
    assert heard.next().retval[0] == "ticked"
    assert (set(vars(background)), {name: set(vars(e)) for name, e in background._executors.items()}) == before
    assert runs() == []
    assert jobs()["one"]["retired_at"] is not None
    apscheduler.instrument(telemetry, background)()


def test_only_the_instrumented_scheduler_is_touched(telemetry, background, runs):
    """Another scheduler of the same process runs as if we were not there."""
    apscheduler.instrument(telemetry, background)
    other = BackgroundScheduler(timezone="UTC")
    heard = Heard(other)
    other.start()
    other.add_job(tick, **DUE)
    heard.next()
    other.shutdown()
    assert runs() == []


def test_a_scheduler_is_instrumented_once(telemetry, background):
    """Twice would record each run twice."""
    apscheduler.instrument(telemetry, background)
    with pytest.raises(RegistrationError, match="instrumented already"):
        apscheduler.instrument(telemetry, background)


def test_process_pools_are_left_alone(telemetry, background):
    """What runs in another process cannot be wrapped here; the job's row exists all the same."""
    pool = ProcessPoolExecutor(1)
    background.add_executor(pool, "processes")
    apscheduler.instrument(telemetry, background)
    background.start(paused=True)
    assert "submit_job" not in vars(pool)
    assert "submit_job" in vars(background._executors["default"])


class Broken:
    """A Telemetry of which nothing works."""

    def __init__(self, error):
        self.error = error

    def __getattr__(self, name):
        raise self.error


def test_a_job_runs_though_all_of_ours_fails(background, caplog):
    """Registration, following, wrapping: whatever fails of ours is logged, and the job runs once."""
    ran, heard = [], Heard(background)
    apscheduler.instrument(Broken(OSError("nothing works")), background)
    background.add_job(ran.append, args=("pending",), **DUE)
    background.start()
    heard.next()
    background.add_job(ran.append, args=("running",), **DUE)
    heard.next()
    assert ran == ["pending", "running"]
    assert "the application is not affected" in caplog.text


class Strangers:
    """Registers with one Telemetry and executes with another: every command is refused."""

    def __init__(self, telemetry, other):
        self.register_job, self.set_next_run = telemetry.register_job, telemetry.set_next_run
        self.execute, self.execute_sync = other.execute, other.execute_sync


@pytest.mark.parametrize("job", [tick, atick], ids=["plain", "coroutine"])
async def test_a_refused_command_leaves_the_call_to_apscheduler(telemetry, make, on_loop, tmp_path, job):
    """When the executor will not run the command, the function is called without it."""
    other = make(db=tmp_path / "other.db")
    heard = Heard(on_loop)
    apscheduler.instrument(Strangers(telemetry, other), on_loop)
    on_loop.start()
    on_loop.add_job(job, args=(1,), kwargs={"a": 2}, **DUE)
    assert (await heard.anext()).retval == ("ticked", (1,), {"a": 2})


# --- execute_sync: the executor's contract in a host's own thread -------------------------------------------------


def test_execute_sync_runs_a_command_here_and_now(telemetry, rows):
    """Same span, same row, same result as ``execute``, without a loop."""
    listener = telemetry.register_listener(lambda event: (event, threading.get_ident()), topic="t", app_key="a")
    result = telemetry.execute_sync(InvokeHandler(listener, "on"))
    assert result.value == ("on", threading.get_ident())
    assert telemetry.flush()
    (row,) = rows("SELECT * FROM v_handler_invocations")
    assert (row["span_id"], row["status"], row["duration_ms"]) == (result.span_id, "success", result.duration_ms)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3), asyncio.CancelledError()], ids=repr)
def test_execute_sync_raises_again_what_execute_does(telemetry, runs, error):
    """What ends a program, or a task, is recorded and goes on."""

    def ends():
        raise error

    with pytest.raises(type(error)):
        telemetry.execute_sync(ExecuteJob(telemetry.register_job(ends, app_key="a")))
    (row,) = runs()
    assert row["status"] == ("cancelled" if isinstance(error, asyncio.CancelledError) else "error")


def test_execute_sync_swallows_and_logs_the_rest(telemetry, runs, caplog):
    """An exception is the result's, in one log line with its traceback, and none of our frames in it."""
    result = telemetry.execute_sync(ExecuteJob(telemetry.register_job(failing, app_key="a")))
    assert (result.status, result.error_type) == ("error", "ValueError")
    (logged,) = [record for record in caplog.records if record.name == "handspan.executor"]
    assert logged.exc_info
    assert "handspan/executor" not in runs()[0]["error_traceback"]


def test_execute_sync_refuses_a_handle_of_another(telemetry, make, tmp_path):
    """Nothing ran then."""
    job = make(db=tmp_path / "other.db").register_job(tick, app_key="a")
    with pytest.raises(NotRegisteredError):
        telemetry.execute_sync(ExecuteJob(job))


def test_a_plain_hook_is_not_told_of_what_it_executes(make, monkeypatch):
    """A hook in our own thread that executes a failing command must not call itself for ever."""
    told, threads = queue.Queue(), []

    class Noted(threading.Thread):
        def start(self):
            threads.append(self.name)
            super().start()

    def on_error(report):
        assert telemetry.execute_sync(ExecuteJob(job)).status == "error"
        told.put(report.handle.name)

    with make(on_error=on_error) as telemetry:
        job = telemetry.register_job(failing, app_key="a")
        monkeypatch.setattr(threading, "Thread", Noted)
        telemetry.execute_sync(ExecuteJob(job))
        assert told.get(timeout=GIVE_UP) == "failing"
    assert threads.count("handspan-on-error") == 1
