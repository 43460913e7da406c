"""What the application does all day: handlers and jobs of every kind, several thousand a second.

Every body notes that it began before it does anything else; whoever called it notes what became of it right
after ``execute()`` returned.
"""

import asyncio
import logging
import random
import threading
from collections.abc import Callable
from typing import Any

from opentelemetry import trace

import handspan
from board.account import Book
from board.told import LINES
from handspan import ExecuteJob, InvokeHandler

TICK = 0.01  # seconds; what a tick does is below
APP = "board.House"
log = logging.getLogger("board")


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text to be had")


def deep(level: int) -> int:
    return deep(level + 1) + 1


async def on_error(report: Any) -> None:
    raise RuntimeError("the application's own hook is broken")


class House:
    """The application: what is registered, and the tasks that call it."""

    def __init__(self, telemetry: handspan.Telemetry, book: Book, seed: int, load: dict[str, Any]) -> None:
        self.telemetry, self.book, self.random, self.options = telemetry, book, random.Random(seed), load
        self.tracer = telemetry.tracer_provider.get_tracer("board")
        self.tasks: set[asyncio.Task[None]] = set()
        self.thread: threading.Thread | None = None
        self.stopping = threading.Event()
        listen, job = self._listener, self._job
        self.instant, self.failing = listen(self.on_instant), listen(self.on_failing, on_error=on_error)
        self.waiting, self.for_ever = listen(self.on_waiting), listen(self.on_for_ever)
        self.family, self.plain = listen(self.on_family), listen(self.on_plain)
        self.timed = listen(self.on_for_ever, name="timed", timeout=0.05)
        self.job, self.long_job, self.threads = job(self.tick), job(self.long), listen(self.on_thread)

    def _listener(self, call: Callable[..., object], **options: Any) -> handspan.Listener:
        return self.telemetry.register_listener(call, topic="t", app_key=APP, **options)

    def _job(self, call: Callable[..., object]) -> handspan.Job:
        return self.telemetry.register_job(call, app_key=APP, trigger_type="interval", trigger_value="1")

    # --- what runs ------------------------------------------------------------------------------------------

    def _began(self, box: list[int] | None = None) -> None:
        span_id = trace.get_current_span().get_span_context().span_id
        self.book.started(span_id)
        if box is not None:
            box.append(span_id)

    async def on_instant(self, box: list[int]) -> None:
        self._began(box)

    async def on_waiting(self, box: list[int]) -> None:
        self._began(box)
        await asyncio.sleep(self.random.choice((0, 0.001, 0.02, 0.3)))

    async def on_for_ever(self, box: list[int]) -> None:
        self._began(box)
        await asyncio.Event().wait()

    async def on_family(self, box: list[int]) -> None:
        self._began(box)
        trace.get_current_span().set_attribute("room", "kitchen" * self.options.get("fat", 1))
        with self.tracer.start_as_current_span("child") as span:
            span.set_attribute("n", 1)
            log.info("A line of the child's")
            await asyncio.sleep(0)
        log.info("A line of the run's, and that is %s", LINES)
        self.book.child(span.get_span_context().span_id)

    def on_plain(self, box: list[int]) -> None:
        self._began(box)

    def on_thread(self, box: list[int]) -> None:
        self._began(box)

    async def on_failing(self, box: list[int]) -> None:
        self._began(box)
        kind = self.random.randrange(9) if self.options.get("hostile") else 0
        if kind == 1:
            raise Unprintable
        if kind == 2:
            raise ValueError("m" * 1_000_000)
        if kind == 3:
            raise ValueError("\ud800 and NUL \0 and \udfff")
        if kind == 4:
            deep(0)
        if kind == 5:
            raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("inner", [TypeError("two")])])
        if kind == 6:
            raise handspan.DependencyError("no lamp")
        if kind == 7:
            trace.get_current_span().set_attribute("nan", float("nan"))
            trace.get_current_span().set_attribute("\ud800", "\0")
        raise ValueError(f"bulb {self.random.randrange(50)} is broken")

    async def tick(self) -> None:
        self._began()

    async def long(self) -> None:
        self._began()
        await asyncio.sleep(self.random.uniform(0.2, 1.5))

    # --- who calls ------------------------------------------------------------------------------------------

    async def call(self, command: Any, box: list[int]) -> None:
        try:
            result = await self.telemetry.execute(command)
        except asyncio.CancelledError:
            if box:
                self.book.returned(box[0], "cancelled")
            raise
        except BaseException as error:
            self.book.trouble(error)
            return
        self.book.returned(int(result.span_id, 16), result.status)

    def handle(self, listener: handspan.Listener) -> Any:
        box: list[int] = []
        return self.call(InvokeHandler(listener, box), box)

    def execute(self, job: handspan.Job) -> Any:
        return self.call(ExecuteJob(job), [])

    def spawn(self, work: Any) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        return task

    def start(self) -> None:
        rate = self.options.get("rate", 2500)
        each = max(1, int(rate * TICK))
        self.spawn(self._often(each * 7 // 10, lambda: self.handle(self.instant)))
        self.spawn(self._often(each * 3 // 20 or 1, lambda: self.execute(self.job)))
        self.spawn(self._often(2 if not self.options.get("hostile") else 6, lambda: self.handle(self.failing)))
        self.spawn(self._often(2, lambda: self.handle(self.family)))
        self.spawn(self._aside())
        self.thread = threading.Thread(target=self._in_a_thread, daemon=True)
        self.thread.start()

    async def _often(self, times: int, make: Callable[[], Any]) -> None:
        while not self.book.full:
            for _ in range(times):
                await make()
            self._look()
            await asyncio.sleep(TICK)

    async def _aside(self) -> None:
        """Those that wait: in flight while others end, some for ever, some cancelled."""
        for _ in range(3):
            self.spawn(self.handle(self.for_ever))
        while not self.book.full:
            self.spawn(self.handle(self.waiting))
            self.spawn(self.handle(self.plain))
            self.spawn(self.handle(self.timed))
            if len(self.tasks) < 100:
                self.spawn(self.execute(self.long_job))
            await asyncio.sleep(TICK)
            cancelled = self.spawn(self.handle(self.for_ever))
            await asyncio.sleep(TICK)
            cancelled.cancel()

    def _in_a_thread(self) -> None:
        while not self.stopping.wait(TICK) and not self.book.full:
            for _ in range(3):
                try:
                    result = self.telemetry.execute_sync(InvokeHandler(self.threads, []))
                    self.book.returned(int(result.span_id, 16), result.status)
                except BaseException as error:
                    self.book.trouble(error)

    def _look(self) -> None:
        """Memory stays inside its bounds, whatever goes on: looked at all the time."""
        health = self.telemetry.health()
        if health.queue_size > health.queue_capacity:
            self.book.trouble(f"the queue holds {health.queue_size} of {health.queue_capacity}")

    async def stop(self, *, leave: int = 0) -> None:
        """No more calls; what is in flight is cancelled, but for so many that hang."""
        self.stopping.set()
        if self.thread is not None:
            await asyncio.to_thread(self.thread.join)
        hanging = [self.spawn(self.handle(self.for_ever)) for _ in range(leave)]
        await asyncio.sleep(0)
        left = [task for task in self.tasks if task not in hanging]
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
