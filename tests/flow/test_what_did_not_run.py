"""The runtime and APScheduler tell what they did not run, and why."""

import asyncio
import logging
import queue
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from apscheduler import events as ap
from apscheduler.schedulers.background import BackgroundScheduler
from test_bus import FakeTimers
from whenever import Instant

from handspan import Telemetry
from handspan.integrations import apscheduler
from handspan.runtime import Bus, Event, Scheduler
from handspan.runtime.lateness import MOST_MOMENTS, count_missed

GIVE_UP = 30.0
PAST = Instant.from_utc(2026, 1, 1)

Skips = Callable[[], dict[tuple[str, str], int]]


@pytest.fixture
async def telemetry(make: Any) -> AsyncIterator[Telemetry]:
    async with make() as telemetry:
        yield telemetry


@pytest.fixture
def skips(telemetry: Telemetry, rows: Any) -> Skips:
    """By name and reason."""

    def found() -> dict[tuple[str, str], int]:
        assert telemetry.flush()
        return {(row["name"], row["reason"]): row["n"]
                for row in rows("SELECT name, reason, sum(count) AS n FROM v_skips GROUP BY 1, 2")}  # fmt: skip

    return found


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(GIVE_UP):
        while not condition():
            await asyncio.sleep(0)


async def handle(event: Event) -> None: ...


# --- the bus ------------------------------------------------------------------------------------------------


async def test_a_predicates_refusals_are_counted(telemetry: Telemetry, skips: Skips) -> None:
    """Also of one that raises; who has no predicate refuses nothing, and who is cancelled is nobody's."""
    bus = Bus(telemetry)
    bus.on("t", handle, app_key="a", name="picky", where=lambda event: event.data == 1)
    bus.on("t", handle, app_key="a", name="broken", where=lambda event: event.data["no such key"])
    bus.on("t", handle, app_key="a", name="open")
    gone = bus.on("t", handle, app_key="a", name="gone", where=lambda event: False)
    for data in range(5):
        bus.publish("t", data)
    gone.cancel()
    bus.publish("t", 9)
    await bus.drain()
    assert skips() == {("picky", "predicate"): 5, ("broken", "predicate"): 6, ("gone", "predicate"): 5}


async def test_what_gates_swallow_is_counted(telemetry: Telemetry, skips: Skips) -> None:
    """Of a burst all but the last (debounce), or all but the first (throttle)."""
    timers = FakeTimers()
    bus = Bus(telemetry, timers=timers)
    bus.on("t", handle, app_key="a", name="last", debounce=2)
    bus.on("t", handle, app_key="a", name="first", throttle=2)
    for _ in range(7):
        bus.publish("t")
    timers.advance(3)
    bus.publish("t")
    timers.advance(3)
    await bus.drain()
    assert skips() == {("last", "debounce"): 6, ("first", "throttle"): 6}


async def test_an_event_a_debounce_holds_back_when_it_is_cancelled_is_not_counted(
    telemetry: Telemetry, skips: Skips
) -> None:
    """Nobody listens any more; and closing drops what nobody waits for."""
    bus = Bus(telemetry, timers=FakeTimers())
    bus.on("t", handle, app_key="a", name="cancelled", debounce=2)
    bus.publish("t")
    bus.cancel_app("a", 0)
    bus.on("t", handle, app_key="a", name="closed", debounce=2)
    bus.publish("t")
    await bus.close(timeout=0)
    assert skips() == {}


async def test_events_after_the_only_run_are_counted_while_it_goes_on(telemetry: Telemetry, skips: Skips) -> None:
    """Afterwards the name is free, and nobody listens."""
    bus, go_on = Bus(telemetry), asyncio.Event()

    async def ring(event: Event) -> None:
        await go_on.wait()

    bus.on("t", ring, app_key="a", once=True)
    for _ in range(3):
        bus.publish("t")
    go_on.set()
    await bus.drain()
    bus.publish("t")
    await bus.drain()
    assert skips() == {("ring", "once"): 2}


# --- the scheduler ------------------------------------------------------------------------------------------


async def test_a_run_past_its_grace_is_missed(telemetry: Telemetry, skips: Skips, rows: Any) -> None:
    """In the hour it was due in."""
    async with Scheduler(telemetry) as scheduler:
        job = scheduler.run_once(handle, PAST, name="late", misfire_grace=60, app_key="a")
        await until(lambda: job.cancelled)
        assert skips() == {("late", "missed"): 1}
    assert rows("SELECT first_at, hour FROM skips") == [{"first_at": PAST.timestamp(), "hour": PAST.timestamp()}]


@pytest.mark.parametrize(("grace", "missed", "ran"), [(None, 6, 1), (60, 7, 0)], ids=["runs-late", "never"])
async def test_of_runs_that_became_one_the_others_are_missed(
    telemetry: Telemetry, skips: Skips, rows: Any, grace: float | None, missed: int, ran: int
) -> None:
    """A laptop that slept: each moment is either run or counted."""
    calls: list[int] = []
    async with Scheduler(telemetry, timezone="UTC") as scheduler:
        scheduler.run_every(lambda: calls.append(1), timedelta(days=30), start=PAST, name="monthly", app_key="a",
                            misfire_grace=grace)  # fmt: skip
        moment = datetime.now(UTC) - timedelta(days=6 * 30, seconds=100)
        scheduler._clockwork.modify_job(next(iter(scheduler._jobs)), next_run_time=moment)
        await until(lambda: bool(scheduler._running))
        await until(lambda: not scheduler._running)
    assert skips() == {("monthly", "missed"): missed}
    assert len(calls) == ran == rows("SELECT count(*) AS n FROM job_executions")[0]["n"]
    assert rows("SELECT count(*) AS n FROM skips") == [{"n": missed}], "each in its own hour"


async def test_each_run_left_out_by_an_overrun_is_counted(
    telemetry: Telemetry, skips: Skips, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says it once; the count is of all."""
    released = asyncio.Event()
    async with Scheduler(telemetry) as scheduler:
        job = scheduler.run_every(released.wait, 0.01, name="slow", app_key="a")
        heard: list[int] = []
        scheduler._clockwork.add_listener(
            lambda event: heard.append(len(event.scheduled_run_times)), ap.EVENT_JOB_MAX_INSTANCES
        )
        await until(lambda: len(heard) >= 3)
        job.cancel()
        released.set()
        assert skips()["slow", "overlapped"] == sum(heard)
    assert caplog.text.count("is still running") == 1


async def test_a_very_long_sleep_is_counted_at_once(telemetry: Telemetry, skips: Skips) -> None:
    """A job of each second and a day of sleep: one call, not 86,400, on the event loop."""
    calls: list[int] = []

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(telemetry, name)

        def skipped(self, *args: Any, **options: Any) -> None:
            calls.append(1)
            telemetry.skipped(*args, **options)

    host: Any = Counting()
    job = telemetry.register_job(handle, app_key="a")
    start = datetime(2026, 1, 1, tzinfo=UTC)
    count_missed(host, job, [start + timedelta(seconds=n) for n in range(MOST_MOMENTS * 2)])
    assert len(calls) == 1
    count_missed(host, job, [start + timedelta(seconds=n) for n in range(7200)])
    assert len(calls) == 5
    count_missed(host, job, [])
    assert skips() == {("handle", "missed"): MOST_MOMENTS * 2 + 7200}


# --- APScheduler ----------------------------------------------------------------------------------------------


@pytest.fixture
def background() -> Any:
    logging.getLogger("apscheduler").setLevel(logging.CRITICAL)
    scheduler = BackgroundScheduler(timezone="UTC")
    yield scheduler
    if scheduler.running:
        scheduler.shutdown()


class Heard:
    """A scheduler's events, waited for."""

    def __init__(self, scheduler: Any, mask: int) -> None:
        self._queue: queue.Queue[Any] = queue.Queue()
        scheduler.add_listener(self._queue.put, mask)

    def next(self) -> Any:
        return self._queue.get(timeout=GIVE_UP)


async def test_apschedulers_missed_and_coalesced_runs_are_counted(
    telemetry: Telemetry, skips: Skips, background: Any
) -> None:
    """Those given up one by one, and those that became one: what was due before it began is down time."""
    apscheduler.instrument(telemetry, background, app_key="a")
    now = datetime.now(UTC)
    heard = Heard(background, ap.EVENT_JOB_MISSED | ap.EVENT_JOB_EXECUTED)
    three_hours = {"next_run_time": now - timedelta(hours=3), "misfire_grace_time": 3600}
    background.add_job(lambda: None, "interval", minutes=45, name="each", id="1", coalesce=False, **three_hours)
    background.add_job(lambda: None, "interval", minutes=45, name="one", id="2", coalesce=True, **three_hours)
    background.start()
    for _ in range(6):  # each: -180, -135, -90 given up, -45 and 0 run; one: 0 runs
        heard.next()
    assert skips() == {("each", "down"): 3, ("one", "down"): 4}


async def test_a_one_shot_job_that_was_missed_is_counted_although_it_is_gone(
    telemetry: Telemetry, skips: Skips, background: Any
) -> None:
    """APScheduler removes it before it tells."""
    instrumentation = apscheduler.instrument(telemetry, background, app_key="a")
    instrumentation._since -= timedelta(hours=1)  # as if it had been at it for an hour
    missed = Heard(background, ap.EVENT_JOB_MISSED)
    background.add_job(print, "date", run_date=datetime.now(UTC) - timedelta(minutes=1), name="shot",
                       misfire_grace_time=1)  # fmt: skip
    background.start()
    missed.next()
    assert skips() == {("shot", "missed"): 1}


async def test_apschedulers_overlapping_runs_are_counted(telemetry: Telemetry, skips: Skips, background: Any) -> None:
    """``max_instances`` were still running."""
    apscheduler.instrument(telemetry, background, app_key="a")
    started, go_on = threading.Event(), threading.Event()
    overlapping = Heard(background, ap.EVENT_JOB_MAX_INSTANCES)

    def slow() -> None:
        started.set()
        go_on.wait(GIVE_UP)

    background.start()
    now = datetime.now(UTC)
    job = background.add_job(slow, "interval", days=1, next_run_time=now, misfire_grace_time=None, name="slow")
    assert started.wait(GIVE_UP)
    job.modify(next_run_time=now)
    overlapping.next()
    go_on.set()
    assert skips() == {("slow", "overlapped"): 1}


async def test_apschedulers_jobs_are_counted_for_a_time_without_a_process(
    make: Any, rows: Any, db: str, background: Any
) -> None:
    """By their triggers, from what the scheduler announced before it was shut down."""
    for turn in range(2):
        async with make() as telemetry:
            scheduler = background if turn else BackgroundScheduler(timezone="UTC")
            apscheduler.instrument(telemetry, scheduler, app_key="a")
            scheduler.add_job(print, "cron", minute=0, id="hourly")
            scheduler.add_job(print, "interval", minutes=30, id="half_hourly")
            scheduler.start()
            await telemetry.aflush()
            scheduler.shutdown()
        if not turn:
            with closing(sqlite3.connect(db, isolation_level=None)) as conn:
                conn.execute("UPDATE scheduled_jobs SET next_run_ts = next_run_ts - 36000")
    found = {row["name"]: (row["reason"], row["n"])
             for row in rows("SELECT name, reason, sum(count) AS n FROM v_skips GROUP BY 1, 2")}  # fmt: skip
    assert found["hourly"] in (("down", 10), ("down", 11))
    assert found["half_hourly"] in (("down", 19), ("down", 20))
