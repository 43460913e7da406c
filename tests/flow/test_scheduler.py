"""The scheduler on a real Telemetry and a real APScheduler: when jobs run, and what is recorded of them.

APScheduler reads the machine's clock, so runs that must happen are due at once; everything else is asked of
``next_run`` and of the file. Nothing sleeps.
"""

import asyncio
import contextvars
import itertools
import logging
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from whenever import Instant, ZonedDateTime

from handspan.clock import to_epoch, to_ns
from handspan.errors import DuplicateRegistrationError, HandspanError, RegistrationError
from handspan.runtime import App, ScheduledJob, Scheduler, clockwork
from handspan.runtime.cron import cron_fields
from handspan.runtime.moments import to_instant
from handspan.telemetry import Telemetry

VIENNA = ZoneInfo("Europe/Vienna")
GIVE_UP = 30.0  # seconds until a test that waits has failed
PAST = Instant.from_utc(2026, 1, 1)


class House:
    """A Telemetry, a scheduler in Vienna, and a look into the file."""

    def __init__(self, telemetry: Telemetry, path: Path) -> None:
        self.telemetry, self.path = telemetry, path
        self.scheduler = Scheduler(telemetry, timezone="Europe/Vienna")
        self.app = App(telemetry, "house.Test", scheduler=self.scheduler)
        self.at = self.app.scheduler

    async def rows(self, query: str) -> list[dict[str, Any]]:
        assert await self.telemetry.aflush()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    async def jobs(self) -> list[dict[str, Any]]:
        return await self.rows("SELECT * FROM scheduled_jobs ORDER BY id")

    async def runs(self) -> list[dict[str, Any]]:
        return await self.rows(
            "SELECT e.*, j.job_name FROM job_executions e JOIN scheduled_jobs j ON j.id = e.job_id ORDER BY e.id"
        )

    async def settled(self) -> None:
        """Until no run is in progress."""
        while self.scheduler._running:
            await asyncio.wait(self.scheduler._running)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    path = tmp_path / "house.db"
    async with Telemetry(path, set_global_providers=False, handle_sigterm=False) as telemetry:
        house = House(telemetry, path)
        yield house
        await house.scheduler.close()


@pytest.fixture(autouse=True)
async def nothing_reaches_the_loop() -> AsyncIterator[None]:
    """No exception of any test ends in the event loop's exception handler."""
    reached: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reached.append(context))
    yield
    assert reached == []


async def until(condition: Callable[[], bool]) -> None:
    """Give way to the loop until it is so."""
    async with asyncio.timeout(GIVE_UP):
        while not condition():
            await asyncio.sleep(0)


async def within(event: asyncio.Event) -> None:
    async with asyncio.timeout(GIVE_UP):
        await event.wait()


class Signal:
    """A job that says when it has run, and how often."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.ran = asyncio.Event()

    async def __call__(self, *args: Any, **kwargs: Any) -> None:
        self.calls.append((args, kwargs))
        self.ran.set()


def at_vienna(job: ScheduledJob) -> str:
    assert job.next_run is not None
    return datetime.fromtimestamp(job.next_run.timestamp(), VIENNA).strftime("%H:%M:%S")


# --- runs ---------------------------------------------------------------------------------------------------


async def test_run_in_runs_once_with_its_arguments(house: House) -> None:
    """Recorded with the moment it was due; then its name is free and its row retired."""
    signal = Signal()
    job = house.at.run_in(signal, 0.01, name="beep", args=(1,), kwargs={"loud": True})
    due = job.next_run
    assert due is not None
    await within(signal.ran)
    await house.settled()
    assert signal.calls == [((1,), {"loud": True})]
    (run,) = await house.runs()
    assert run["scheduled_ts"] == to_epoch(to_ns(due))
    assert run["execution_start_ts"] >= run["scheduled_ts"]
    (row,) = await house.jobs()
    assert (row["trigger_type"], row["trigger_value"], row["repeat"]) == (None, None, 0)
    assert (row["args_json"], row["kwargs_json"], row["next_run_ts"]) == ("[1]", '{"loud": true}', None)
    assert row["retired_at"] is not None
    assert (job.cancelled, job.next_run) == (True, None)
    house.at.run_in(signal, 60, name="beep")


async def test_run_every_runs_again_and_again(house: House) -> None:
    """Each run carries its own due moment, one interval after the last; the next one is kept in the row."""
    three = asyncio.Event()
    calls: list[int] = []

    async def measure() -> None:
        calls.append(1)
        if len(calls) == 3:
            three.set()

    house.at.run_every(measure, 0.02, start=Instant.now())
    await within(three)
    (row,) = await house.jobs()
    assert (row["trigger_type"], row["trigger_value"], row["repeat"]) == ("interval", "0.02", 1)
    runs = await house.runs()
    due = [run["scheduled_ts"] for run in runs]
    steps = [round((later - earlier) / 0.02, 3) for earlier, later in itertools.pairwise(due)]
    assert all(step >= 1 and step == int(step) for step in steps)
    assert row["next_run_ts"] > due[0]
    assert row["retired_at"] is None


async def test_a_moment_that_has_passed_runs_at_once(house: House) -> None:
    """However late: the row says how much."""
    signal = Signal()
    house.at.run_once(signal, PAST, name="late")
    await within(signal.ran)
    await house.settled()
    (run,) = await house.runs()
    assert run["scheduled_ts"] == PAST.timestamp()


async def test_too_late_is_skipped_where_a_grace_is_given(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Said in the log; the job is over all the same."""
    job = house.at.run_once(Signal(), PAST, name="late", misfire_grace=60)
    await until(lambda: job.cancelled)
    assert await house.runs() == []
    assert "late> was due at 2026-01-01T00:00:00" in caplog.text


async def test_missed_runs_become_one(house: House) -> None:
    """The latest of them: a laptop that slept an hour does not make up for sixty minutes at once."""
    signal = Signal()
    job = house.at.run_every(signal, timedelta(days=365), start=PAST, name="yearly")
    assert job.next_run is not None
    house.scheduler._clockwork.modify_job(
        next(iter(house.scheduler._jobs)), next_run_time=datetime(2020, 1, 1, tzinfo=UTC)
    )
    await within(signal.ran)
    await house.settled()
    assert [run["job_name"] for run in await house.runs()] == ["yearly"]


async def test_a_run_that_is_due_while_the_last_one_goes_on_is_skipped(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    """Said once, not at each of them."""
    released = asyncio.Event()
    calls: list[int] = []

    async def slow() -> None:
        calls.append(1)
        await released.wait()

    job = house.at.run_every(slow, 0.01, start=Instant.now())
    await until(lambda: "is still running" in caplog.text)
    seen = job.next_run
    await until(lambda: job.next_run != seen)
    assert len(calls) == 1
    assert caplog.text.count("is still running") == 1
    job.cancel()
    released.set()
    await house.settled()
    assert len(await house.runs()) == 1


async def test_a_plain_function_runs_in_a_thread(house: House) -> None:
    """And may schedule from there."""
    signal, loop = Signal(), asyncio.get_running_loop()
    threads: list[str] = []

    def plain() -> None:
        threads.append(threading.current_thread().name)
        house.at.run_in(signal, 0, name="from a thread")

    house.at.run_in(plain, 0)
    await within(signal.ran)
    await house.settled()
    assert threads[0].startswith("handspan-sync")
    assert [run["status"] for run in await house.runs()] == ["success", "success"]
    assert loop is asyncio.get_running_loop()


async def test_a_failure_is_recorded_and_the_job_goes_on(house: House) -> None:
    """One broken run does not end a repeating job; hooks hear of it, nearest first."""
    twice, told = asyncio.Event(), []

    class Kitchen(App):
        async def on_error(self, report: Any) -> None:
            told.append("app")
            if len(told) == 4:
                twice.set()

    async def burn() -> None:
        raise ValueError("burnt")

    app = Kitchen(house.telemetry, scheduler=house.scheduler)
    app.scheduler.run_every(burn, 0.01, start=Instant.now(), on_error=lambda report: told.append("registration"))
    await within(twice)
    assert told == ["registration", "app"] * 2
    assert {(run["status"], run["error_type"]) for run in await house.runs()} == {("error", "ValueError")}


async def test_a_timeout_ends_a_run(house: House) -> None:
    """The executor's own deadline, given at registration."""

    async def hangs() -> None:
        await asyncio.get_running_loop().create_future()

    job = house.at.run_in(hangs, 0, timeout=0.01)
    await until(lambda: job.cancelled)
    assert [run["error_type"] for run in await house.runs()] == ["TimeoutError"]


async def test_a_run_has_the_context_of_whoever_scheduled_it(house: House) -> None:
    """Not of whoever happened to wake the clockwork last; and its span is a new root either way."""
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")
    found, signal = [], Signal()

    async def remembers() -> None:
        found.append(who.get())

    async def schedules() -> None:
        who.set("the other job")
        house.at.run_in(signal, 0, name="wakes the clockwork")

    house.at.run_in(remembers, 0.05)
    house.at.run_in(schedules, 0)
    await within(signal.ran)
    await until(lambda: bool(found))
    assert found == ["nobody"]
    assert {run["parent_span_id"] for run in await house.runs()} == {None}


# --- when ---------------------------------------------------------------------------------------------------


async def test_run_daily_is_local_time(house: House) -> None:
    """The scheduler's zone, another one if it is given; recorded as the cron expression it is."""
    seven = house.at.run_daily(Signal(), "07:00", name="seven")
    exact = house.at.run_daily(Signal(), time(7, 0, 30), name="exact")
    elsewhere = house.at.run_daily(Signal(), "07:00", name="elsewhere", timezone="UTC")
    assert (at_vienna(seven), at_vienna(exact)) == ("07:00:00", "07:00:30")
    assert elsewhere.next_run is not None
    assert datetime.fromtimestamp(elsewhere.next_run.timestamp(), UTC).hour == 7
    found = [(row["trigger_type"], row["trigger_value"], row["repeat"]) for row in await house.jobs()]
    assert found == [("cron", "0 7 * * *", 1), ("cron", "0 7 * * * 30", 1), ("cron", "0 7 * * *", 1)]
    assert {row["next_run_ts"] for row in await house.jobs()} == {
        job.next_run.timestamp() for job in (seven, exact, elsewhere) if job.next_run
    }


@pytest.mark.parametrize(
    ("expression", "hits"),
    [
        pytest.param(
            "0 7 * * 1-5", ["11-23", "11-24", "11-25", "11-26", "11-27", "11-30"], id="1-5 is Monday to Friday"
        ),
        pytest.param("0 7 * * 0", ["11-22", "11-29"], id="0 is Sunday"),
        pytest.param("0 7 * * 7", ["11-22", "11-29"], id="7 is Sunday too"),
        pytest.param("0 7 * * sat-sun", ["11-22", "11-28", "11-29"], id="a range may end on Sunday"),
        pytest.param("0 7 * * fri-mon/3", ["11-23", "11-27", "11-30"], id="a range may wrap"),
        pytest.param("0 7 * * */3", ["11-22", "11-25", "11-28"], id="steps count from Sunday"),
        pytest.param("0 7 24 * mon", ["11-23", "11-24", "11-30"], id="day or weekday, if both are given"),
        pytest.param("0 7 24,25 * *", ["11-24", "11-25", "12-24"], id="day alone"),
        pytest.param("@weekly", ["11-22", "11-29"], id="nickname"),
    ],
)
def test_cron_means_what_cron_means(expression: str, hits: list[str]) -> None:
    """APScheduler 3 counts weekdays from Monday and wants day and weekday both: not here."""
    library = clockwork.apscheduler()
    triggers = [library.CronTrigger(timezone=UTC, **fields) for fields in cron_fields(expression)]
    trigger, now, previous, found = library.OrTrigger(triggers), datetime(2026, 11, 21, 12, tzinfo=UTC), None, []
    for _ in hits:
        previous = now = trigger.get_next_fire_time(previous, now)
        found.append(previous.strftime("%m-%d"))
    assert found == hits


async def test_run_cron_with_seconds(house: House) -> None:
    """A sixth field, last; white space is tidied for the row, so that it stays one row."""
    job = house.at.run_cron(Signal(), "30   6 * * *  15", name="early")
    assert at_vienna(job) == "06:30:15"
    (row,) = await house.jobs()
    assert (row["trigger_type"], row["trigger_value"]) == ("cron", "30 6 * * * 15")


@pytest.mark.parametrize(
    "moment",
    [
        pytest.param(Instant.from_utc(2080, 1, 1, 11), id="Instant"),
        pytest.param(ZonedDateTime(2080, 1, 1, 12, tz="Europe/Vienna"), id="ZonedDateTime"),
        pytest.param(datetime(2080, 1, 1, 11, tzinfo=UTC), id="datetime"),
        pytest.param(datetime(2080, 1, 1, 12), id="local datetime"),
    ],
)
async def test_moments_can_be_written_in_many_ways(house: House, moment: Any) -> None:
    """All of them are the same one."""
    expected = Instant.from_utc(2080, 1, 1, 11)
    assert house.at.run_once(Signal(), moment, name="once").next_run == expected
    assert house.at.run_every(Signal(), timedelta(hours=1), start=moment, name="every").next_run == expected


def test_instants_are_exact_to_the_microsecond() -> None:
    """A float's worth of seconds would be off by one now and then."""
    for microsecond in (1, 123457, 999999):
        moment = datetime(2026, 11, 21, 2, 19, 57, microsecond, tzinfo=UTC)
        assert to_ns(to_instant(moment)) % 10**9 == microsecond * 1000


@pytest.mark.parametrize(
    ("method", "arguments", "options"),
    [
        pytest.param("run_every", [0], {}, id="no interval"),
        pytest.param("run_every", [1e-9], {}, id="an interval below the clock's step"),
        pytest.param("run_in", [float("nan")], {}, id="no number"),
        pytest.param("run_daily", ["7 o'clock"], {}, id="no time of day"),
        pytest.param("run_daily", ["07:00"], {"timezone": "Mars/Olympus"}, id="no time zone"),
        pytest.param("run_cron", ["0 7 * *"], {}, id="four fields"),
        pytest.param("run_cron", ["61 7 * * *"], {}, id="minute 61"),
        pytest.param("run_cron", ["0 7 * * 8"], {}, id="weekday 8"),
        pytest.param("run_cron", ["0 7 * * 1-"], {}, id="half a range"),
        pytest.param("run_cron", ["0 7 * * */0"], {}, id="step 0"),
        pytest.param("run_cron", ["0 0 31 2 *"], {}, id="31 February"),
        pytest.param("run_in", [1], {"misfire_grace": -1}, id="negative grace"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_leaves_nothing(
    house: House, method: str, arguments: list[Any], options: dict[str, Any]
) -> None:
    """Before anything is registered: the name is still free."""
    with pytest.raises(RegistrationError):
        getattr(house.at, method)(Signal(), *arguments, name="job", **options)
    house.at.run_in(Signal(), 60, name="job")


# --- registering --------------------------------------------------------------------------------------------


async def test_a_name_is_unique_within_an_app_instance(house: House) -> None:
    """The seeds' sentence, word for word; another instance, or a cancelled job, is no obstacle."""

    def open_blinds(reason: str) -> None: ...

    morning = house.at.run_daily(open_blinds, "07:00", kwargs={"reason": "morning"})
    with pytest.raises(DuplicateRegistrationError) as caught:
        house.at.run_daily(open_blinds, "17:00", kwargs={"reason": "after_work"})
    assert str(caught.value) == (
        "A job named 'open_blinds' already exists for this app instance. Provide a distinct name."
    )
    house.at.run_daily(open_blinds, "17:00", name="open_blinds_evening", kwargs={"reason": "after_work"})
    house.scheduler.run_daily(open_blinds, "17:00", app_key="house.Test", instance_index=1)
    morning.cancel()
    morning.cancel()
    assert morning.next_run is None
    house.at.run_daily(open_blinds, "08:00")


async def test_a_one_shot_job_may_schedule_itself_again(house: House) -> None:
    """Its only run has begun, so the name is its successor's."""
    done, calls = asyncio.Event(), []

    async def poll() -> None:
        calls.append(1)
        if len(calls) < 3:
            house.at.run_in(poll, 0)
        else:
            done.set()

    house.at.run_in(poll, 0)
    await within(done)
    await house.settled()
    assert len(await house.runs()) == 3
    (row,) = await house.jobs()
    assert row["retired_at"] is not None


async def test_a_registration_is_stored_with_its_source(house: House) -> None:
    """The line that scheduled it, through the app's scheduler and the shared one."""
    house.at.run_in(Signal(), 60, name="by app")
    house.scheduler.run_in(Signal(), 60, name="shared", app_key="other")
    by_app, shared = await house.jobs()
    assert "test_scheduler.py:" in by_app["source_location"]
    assert by_app["registration_source"] == 'house.at.run_in(Signal(), 60, name="by app")'
    assert shared["registration_source"].startswith("house.scheduler.run_in(")


async def test_a_job_without_an_app_is_refused(house: House) -> None:
    """Nobody could tell whose it is."""
    with pytest.raises(RegistrationError, match="app_key"):
        house.scheduler.run_in(Signal(), 60)


# --- beginning and end --------------------------------------------------------------------------------------


def test_jobs_scheduled_before_there_is_a_loop_wait_for_start(tmp_path: Path) -> None:
    """And then run; their next moment is told to the file when it is known."""
    with Telemetry(tmp_path / "house.db", set_global_providers=False, handle_sigterm=False) as telemetry:
        scheduler = Scheduler(telemetry)
        ran = asyncio.Event()

        async def job() -> None:
            ran.set()

        handle = scheduler.run_in(job, 0, app_key="house")
        assert handle.next_run is None

        async def main() -> None:
            scheduler.start()
            scheduler.start()
            await within(ran)
            await scheduler.close()

        asyncio.run(main())


async def test_an_app_ends_with_its_jobs(house: House) -> None:
    """Its own are cancelled, another instance's stay; none is retired: the app may start again."""
    other = App(house.telemetry, "house.Test", 1, scheduler=house.scheduler)
    jobs = [app.scheduler.run_in(Signal(), 60, name="job") for app in (house.app, other)]
    await house.app.stop()
    assert [job.cancelled for job in jobs] == [True, False]
    assert [row["retired_at"] for row in await house.jobs()] == [None, None]


async def test_closing_waits_then_cancels(house: House) -> None:
    """A run within the time ends well, one beyond it is recorded as cancelled."""
    started = asyncio.Event()

    async def short() -> None:
        await asyncio.sleep(0)

    async def hangs() -> None:
        started.set()
        await asyncio.get_running_loop().create_future()

    house.at.run_in(hangs, 0)
    house.at.run_in(short, 0)
    await within(started)
    await house.scheduler.close(timeout=0.05)
    assert {run["job_name"]: run["status"] for run in await house.runs()} == {"hangs": "cancelled", "short": "success"}


async def test_apscheduler_is_quiet(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Its log of additions and runs is not the application's."""
    caplog.set_level(logging.DEBUG)
    signal = Signal()
    house.at.run_in(signal, 0, name="beep")
    await within(signal.ran)
    await house.settled()
    assert [record.name for record in caplog.records if "apscheduler" in record.name] == []


def test_without_apscheduler_the_error_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named; apps that schedule nothing never notice."""
    clockwork.apscheduler.cache_clear()
    monkeypatch.setitem(sys.modules, "apscheduler", None)
    with Telemetry(tmp_path / "house.db", set_global_providers=False, handle_sigterm=False) as telemetry:
        app = App(telemetry, "house")
        with pytest.raises(HandspanError, match=r'pip install "handspan\[scheduler\]"'):
            app.scheduler.run_in(print, 1)
