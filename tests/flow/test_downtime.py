"""What fell due while the process was down: counted when the job is registered again, exactly once."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from whenever import Instant

import seeded
from handspan.clock import instant_from_ns, to_epoch, to_ns
from handspan.commands import ExecuteJob
from handspan.records import ScheduledJobRegistration, Session
from handspan.runtime import Scheduler
from handspan.store import downtime as counting
from handspan.store.downtime import downtime

HOUR = 3600.0
NOW = float(int(seeded.NOW))


def at(epoch: float) -> Instant:
    return instant_from_ns(round(epoch * 1e6) * 1000)


async def work() -> None: ...


class File:
    """One job of a service that is down."""

    def __init__(self, *, next_run: float | None, trigger: tuple[str | None, str | None], ran: float | None = None,
                 held: bool = False, repeat: int = 1) -> None:  # fmt: skip
        self.conn = conn = sqlite3.connect(":memory:", isolation_level=None)
        for statement in seeded.schema.split_statements(seeded.schema.schema_sql(seeded.schema.migrations_dir())):
            conn.execute(statement)
        conn.execute("INSERT INTO services (id, name) VALUES (1, 'house')")
        conn.execute("INSERT INTO sessions (id, service_id, instance_id, started_at, last_heartbeat_at) "
                     "VALUES (1, 1, 'before', 0, 0)")  # fmt: skip
        conn.execute("INSERT INTO scheduled_jobs (id, service_id, app_key, instance_index, job_name, handler_method, "
                     "trigger_type, trigger_value, repeat, first_registered_at, last_registered_at, next_run_ts) "
                     "VALUES (1, 1, 'a', 0, 'work', 'work', ?, ?, ?, 0, 0, ?)",
                     (*trigger, repeat, next_run))  # fmt: skip
        if held:
            conn.execute("INSERT INTO registration_holders VALUES ('job', 1, 1)")
        if ran is not None:
            conn.execute("INSERT INTO job_executions (job_id, session_id, execution_start_ts, duration_ms, status, "
                         "trace_id, span_id, scheduled_ts) VALUES (1, 1, ?, 1, 'success', x'00', x'00', ?)",
                         (ran + 1, ran))  # fmt: skip
        self.trigger = trigger

    def missed(
        self, due_between: Callable[[Instant, Instant], Iterable[Instant]] | None = None,
        trigger: tuple[str | None, str | None] | None = None,
    ) -> list[tuple[int, int, float, float]]:  # fmt: skip
        kind, value = trigger or self.trigger
        registration = ScheduledJobRegistration(
            "a", 0, "work", "work", trigger_type=kind, trigger_value=value, registered_at=at(NOW)
        )
        found = downtime(self.conn, Session("now", "house"), registration, due_between)
        self.conn.close()
        return [(hour, *rest) for hour, rest in sorted(found.hours.items())] if found else []


# --- how many ---------------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(every=st.integers(1, 50_000), down=st.integers(1, 9 * 86_400))
def test_an_interval_is_counted_by_its_length(every: int, down: int) -> None:
    """Each multiple since the announced moment, in the hour it fell into."""
    first = NOW - down
    found = File(next_run=first, trigger=("interval", str(float(every)))).missed()
    moments = [first + n * every for n in range(down // every + 1)]
    assert sum(count for _, count, _, _ in found) == len(moments)
    assert found[0][2] == first
    assert found[-1][3] == pytest.approx(NOW if len(moments) > counting.MOST_MOMENTS else moments[-1])
    if len(moments) <= counting.MOST_MOMENTS:
        assert [hour for hour, *_ in found] == sorted({int(m // 3600) * 3600 for m in moments})
        assert all(hour <= first_at <= last_at < hour + 3600 for hour, _, first_at, last_at in found)


@pytest.mark.parametrize(
    ("trigger", "repeat"),
    [(("cron", "0 * * * *"), 1), (("interval", "every now and then"), 1), (("interval", "0"), 1), ((None, None), 0),
     (("interval", "60"), 0), (("calendar", None), 1)],
    ids=["cron-without-a-host", "interval-in-words", "interval-of-nothing", "one-shot", "interval-once", "no-value"],
)  # fmt: skip
def test_where_only_the_announced_moment_is_known_it_is_one(trigger: tuple[Any, Any], repeat: int) -> None:
    """It says less than there was, and nothing that was not."""
    first = NOW - 5 * HOUR
    assert File(next_run=first, trigger=trigger, repeat=repeat).missed() == [
        (int(first // 3600) * 3600, 1, first, first)
    ]


def hourly(first: Instant, until: Instant) -> Iterable[Instant]:
    start, end = to_epoch(to_ns(first)), to_epoch(to_ns(until))
    return [at(start + n * HOUR) for n in range(int((end - start) // HOUR) + 1)]


def test_the_host_knows_best() -> None:
    """A cron expression is its trigger's to read."""
    found = File(next_run=NOW - 5 * HOUR, trigger=("cron", "x")).missed(hourly)
    assert [count for _, count, _, _ in found] == [1] * 6


def test_a_trigger_that_has_changed_tells_nothing_of_before() -> None:
    """Only what was announced was due for certain."""
    found = File(next_run=NOW - 5 * HOUR, trigger=("cron", "x")).missed(hourly, ("cron", "y"))
    assert [count for _, count, _, _ in found] == [1]


def test_a_host_that_runs_it_late_itself_says_so() -> None:
    """A persistent job store has kept what was due."""
    assert File(next_run=NOW - 5 * HOUR, trigger=("cron", "x")).missed(lambda *_: ()) == []


def raises(first: Instant, until: Instant) -> Iterable[Instant]:
    raise ZeroDivisionError


def for_ever(first: Instant, until: Instant) -> Iterable[Instant]:
    while True:
        yield first


@pytest.mark.parametrize(
    ("trigger", "count", "said"),
    [(raises, 1, True), (lambda *_: [None], 1, True), (lambda *_: None, 1, True), (for_ever, 10_000, False),
     (lambda first, until: [at(0), first, at(NOW + HOUR)], 1, False)],
    ids=["raises", "no-moments", "nothing-at-all", "never-ends", "moments-of-another-time"],
)  # fmt: skip
def test_a_trigger_gone_wrong_harms_nobody(
    trigger: Any, count: int, said: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """It runs on the writer's thread: bounded, and what it raises is logged."""
    found = File(next_run=NOW - 2 * HOUR, trigger=("cron", "x")).missed(trigger)
    assert sum(each[1] for each in found) == count
    assert ("its trigger could not tell" in caplog.text) is said


# --- whether ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "file",
    [{"next_run": None}, {"next_run": NOW + 1}, {"next_run": NOW - HOUR, "held": True},
     {"next_run": NOW - HOUR, "ran": NOW - HOUR, "trigger": (None, None)}],
    ids=["nothing-announced", "not-yet-due", "somebody-lives", "it-ran"],
)  # fmt: skip
def test_what_was_not_missed_is_not_counted(file: dict[str, Any]) -> None:
    """Not announced, not due yet, another process's to run, or run: the row may be older than the run."""
    assert File(**{"trigger": ("interval", "10000"), **file}).missed() == []


def test_what_ran_after_it_was_announced_is_left_out() -> None:
    """The run of the announced moment is stored; the process died before it could announce the next."""
    found = File(next_run=NOW - 3 * HOUR, trigger=("interval", "3600.0"), ran=NOW - 3 * HOUR).missed()
    assert [count for _, count, _, _ in found] == [1, 1, 1]


# --- a whole process --------------------------------------------------------------------------------------

DOWN = "SELECT name, reason, sum(count) AS count, min(first_at) AS first_at FROM v_skips GROUP BY name, reason"


def shift(db: str, seconds: float) -> None:
    """As if all that was so long ago."""
    with closing(sqlite3.connect(db, isolation_level=None)) as conn:
        conn.execute("UPDATE scheduled_jobs SET next_run_ts = next_run_ts - ?", (seconds,))
        conn.execute("UPDATE job_executions SET scheduled_ts = scheduled_ts - :s, "
                     "execution_start_ts = execution_start_ts - :s", {"s": seconds})  # fmt: skip


async def start(make: Any) -> None:
    """An application with two jobs, as it starts and stops in good order."""
    async with make() as telemetry, Scheduler(telemetry, timezone="UTC") as scheduler:
        scheduler.run_every(work, timedelta(minutes=30), app_key="a", name="half_hourly")
        scheduler.run_cron(work, "0 * * * *", app_key="a", name="hourly")
        await telemetry.aflush()


async def test_a_stopped_application_finds_out_what_it_missed(make: Any, rows: Any, db: str) -> None:
    """By interval and by cron; at the next start of all there is nothing more."""
    await start(make)
    shift(db, 10 * HOUR)
    await start(make)
    found = {(row["name"], row["reason"]): row["count"] for row in rows(DOWN)}
    assert found[("hourly", "down")] in (10, 11)  # the hour may change meanwhile
    assert 18 <= found[("half_hourly", "down")] <= 20
    before = rows("SELECT * FROM skips")
    await start(make)
    assert rows("SELECT * FROM skips") == before


async def test_an_app_that_comes_back_within_its_process_missed_nothing(make: Any, rows: Any, db: str) -> None:
    """The process was not down: it is held by this very session."""
    async with make() as telemetry:
        async with Scheduler(telemetry, timezone="UTC") as scheduler:
            job = scheduler.run_every(work, timedelta(minutes=30), app_key="a")
            await telemetry.aflush()
            job.job.release()
            job.cancel()
        shift(db, 10 * HOUR)
        async with Scheduler(telemetry, timezone="UTC") as scheduler:
            scheduler.run_every(work, timedelta(minutes=30), app_key="a")
            await telemetry.aflush()
    assert rows("SELECT * FROM skips") == []


async def test_a_run_just_before_the_end_is_not_called_missed(make: Any, rows: Any, db: str) -> None:
    """The next run it announced in its last moment is stored although the application let go of the job."""
    async with make(commit_interval=30) as telemetry:
        job = telemetry.register_job(work, app_key="a", trigger_type="interval", trigger_value="3600.0")
        due = datetime.now(UTC).timestamp()
        telemetry.set_next_run(job, at(due))
        await telemetry.aflush()
        await telemetry.execute(ExecuteJob(job, scheduled_at=at(due)))
        telemetry.set_next_run(job, at(due + HOUR))
        job.release()
    assert rows("SELECT next_run_ts FROM scheduled_jobs") == [{"next_run_ts": pytest.approx(due + HOUR, abs=1e-5)}]
    await asyncio.sleep(0)


KILLED = """
async def work(): ...

async def main():
    from datetime import timedelta
    from handspan.runtime import Scheduler
    async with make(journal=JOURNAL) as telemetry:
        async with Scheduler(telemetry, timezone="UTC") as scheduler:
            ran = asyncio.Event()
            async def soon(): ran.set()
            scheduler.run_every(work, timedelta(minutes=30), app_key="a", name="half_hourly")
            scheduler.run_cron(work, "0 * * * *", app_key="a", name="hourly")
            scheduler.run_every(soon, 0.01, app_key="a", name="often")
            await ran.wait()
            await telemetry.aflush()
            say("ready")
            await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "no-journal"])
async def test_a_killed_process_leaves_behind_when_its_jobs_were_due(
    make: Any, rows: Any, db: str, child: Any, journal: bool
) -> None:
    """kill -9, ten hours, the next start: what fell due meanwhile is counted, also of what ran until the end."""
    process = child(KILLED.replace("JOURNAL", str(journal)))
    process.wait_for("ready")
    process.kill()
    assert all(row["next_run_ts"] is not None for row in rows("SELECT next_run_ts FROM scheduled_jobs"))
    async with make(service_name="child", db=db):
        pass  # takes over what the journal has, so that the clock can be turned back
    shift(db, 10 * HOUR)
    async with make(service_name="child") as telemetry, Scheduler(telemetry, timezone="UTC") as scheduler:
        scheduler.run_every(work, timedelta(minutes=30), app_key="a", name="half_hourly")
        scheduler.run_cron(work, "0 * * * *", app_key="a", name="hourly")
        scheduler.run_every(work, 0.01, app_key="a", name="often")
    found = {row["name"]: row["count"] for row in rows(DOWN) if row["reason"] == "down"}
    assert found["hourly"] in (10, 11)
    assert 18 <= found["half_hourly"] <= 20
    assert 3_500_000 < found["often"] < 3_700_000
