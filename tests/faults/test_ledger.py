"""The ledger's equation: for each session, rows + running + losses of the store = commands started."""

import asyncio
import errno
import sqlite3
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

import handspan
from handspan import ExecuteJob, InvokeHandler
from handspan.recording import journal as journal_module

EQUATION = """
SELECT s.instance_id,
       (SELECT count(*) FROM handler_invocations WHERE session_id = s.id)
       + (SELECT count(*) FROM job_executions WHERE session_id = s.id)
       + (SELECT count(*) FROM running WHERE session_id = s.id)
       + coalesce((SELECT sum(count) FROM losses WHERE session_id = s.id AND stage = 'store' AND kind <> 'span'), 0)
FROM sessions AS s
"""
ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("run"), st.integers(1, 60), st.sampled_from(["good", "bad", "huge"])),
        st.tuples(st.sampled_from(["lock", "unlock", "full", "space", "flush", "start", "late", "reopen"])),
    ),
    max_size=14,
)


class World:
    """One file, one application after the other on it, and what can go wrong around them."""

    def __init__(self, directory: str, *, journal: bool) -> None:
        self.db, self.journal = str(Path(directory) / "home.db"), journal
        self.started: Counter[str] = Counter()
        self.lock: sqlite3.Connection | None = None
        self.no_space = False
        self.gates: list[asyncio.Event] = []
        self.tasks: list[asyncio.Task[object]] = []

    async def open(self) -> None:
        self.telemetry = handspan.Telemetry(
            self.db, service_name="test", set_global_providers=False, handle_sigterm=False, open_timeout=0.2,
            shutdown_timeout=0.2, busy_timeout=0.01, queue_max_spans=40, segment_max_spans=10,
            journal=self.journal, journal_max_mb=1,
        )  # fmt: skip
        await self.telemetry.__aenter__()
        self.listener = self.telemetry.register_listener(self.on_event, topic="t", app_key="a.B")
        self.job = self.telemetry.register_job(self.on_event, app_key="a.B", args=("good",))
        self.session = self.telemetry._pipeline.session.instance_id

    async def on_event(self, what: object) -> None:
        if isinstance(what, asyncio.Event):
            await what.wait()
        if what == "bad":
            raise ValueError("bad")
        if what == "huge":
            raise ValueError("x" * 100_000)

    async def run(self, count: int, what: str) -> None:
        for number in range(count):
            self.started[self.session] += 1
            await self.telemetry.execute(
                ExecuteJob(self.job) if number % 3 == 0 else InvokeHandler(self.listener, what)
            )

    async def begin_one(self) -> None:
        self.started[self.session] += 1
        self.gates.append(asyncio.Event())
        self.tasks.append(asyncio.create_task(self.telemetry.execute(InvokeHandler(self.listener, self.gates[-1]))))
        await asyncio.sleep(0)

    async def end_those(self) -> None:
        for gate in self.gates:
            gate.set()
        await asyncio.gather(*self.tasks)
        self.gates, self.tasks = [], []

    def write(self, fd: int, data: bytes) -> int:
        if self.no_space:
            raise OSError(errno.ENOSPC, "No space left on device")
        return REAL_WRITE(fd, data)

    async def do(self, action: tuple[object, ...]) -> None:
        match action:
            case ("run", count, what):
                await self.run(count, what)
            case ("lock",) if self.lock is None and Path(self.db).exists():
                self.lock = sqlite3.connect(self.db, isolation_level=None)
                self.lock.execute("BEGIN IMMEDIATE")
            case ("unlock",):
                self.unlock()
            case ("full",) | ("space",):
                self.no_space = action == ("full",)
            case ("flush",):
                await self.telemetry.aflush(0.05)
            case ("start",):
                await self.begin_one()
            case ("late",):
                await self.end_those()
            case ("reopen",):
                await self.close()
                await self.open()

    async def close(self) -> None:
        """With all that was started accounted for: what cannot be kept anywhere is not asked for."""
        await self.end_those()
        if self.telemetry._pipeline.processor.queue.journal_trouble is not None or not self.journal:
            self.no_space = False
            self.unlock()
            assert await self.telemetry.aflush()
        await self.telemetry.aclose()

    def unlock(self) -> None:
        if self.lock is not None:
            self.lock.close()
            self.lock = None


REAL_WRITE = journal_module.write


async def live(actions: list[tuple[object, ...]], *, journal: bool) -> None:
    with tempfile.TemporaryDirectory() as directory:
        world = World(directory, journal=journal)
        journal_module.write = world.write
        try:
            await world.open()
            for action in actions:
                await world.do(action)
            await world.close()
            world.unlock()
            world.no_space = False
            await world.open()
            await world.close()
        finally:
            journal_module.write = REAL_WRITE
            world.unlock()
        with sqlite3.connect(world.db) as conn:
            accounted = dict(conn.execute(EQUATION).fetchall())
        assert {session: count for session, count in accounted.items() if count} == dict(world.started)


@given(ACTIONS, st.booleans())
@example([("lock",), ("run", 60, "good"), ("run", 60, "bad"), ("unlock",), ("flush",)], False)
@example([("lock",), ("full",), ("run", 60, "good"), ("run", 60, "bad"), ("space",), ("run", 60, "good")], True)
@example([("start",), ("flush",), ("lock",), ("run", 20, "good"), ("reopen",), ("run", 5, "good")], True)
@settings(max_examples=25, deadline=None)
def test_every_command_started_is_a_row_or_a_counted_loss(actions, journal):
    """Whatever was locked, full, too much or too late, over restarts: nothing is missing and nothing twice."""
    asyncio.run(live(actions, journal=journal))
