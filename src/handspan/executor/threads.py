"""Threads for plain functions: bounded, and never in the way of the process's end.

``ThreadPoolExecutor`` joins its threads at exit: one handler stuck in ``requests.get`` without a timeout
would keep the process alive for ever. These are daemons.
"""

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

__all__ = ["DaemonThreadPool", "LoopThread", "off_loop", "on_a_loop"]

_Call = tuple["asyncio.Future[Any]", contextvars.Context, Callable[[], Any]]


class DaemonThreadPool:
    """Runs calls in up to ``max_workers`` threads, started as they are needed."""

    def __init__(self, max_workers: int) -> None:
        self._max = max_workers
        self._begin()

    def _begin(self) -> None:
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._threads, self._pid = 0, os.getpid()

    def run(self, call: Callable[[], Any]) -> "asyncio.Future[Any]":
        """Called on a loop: a future of that loop. The caller's context goes along, as in ``to_thread``."""
        if self._pid != os.getpid():
            self._begin()  # a forked child has none of the parent's threads
        future = asyncio.get_running_loop().create_future()
        if not self._idle.acquire(blocking=False):
            self._start_thread()
        self._calls.put((future, contextvars.copy_context(), call))
        return future

    def close(self) -> None:
        """Idle threads end. A stuck one is left to the process's end."""
        with self._lock:
            for _ in range(self._threads):
                self._calls.put(None)
            # Later calls get threads of their own: the old ones end, and a stuck one counts for nothing.
            self._calls, self._idle, self._threads = SimpleQueue(), threading.Semaphore(0), 0

    def _start_thread(self) -> None:
        """One more, up to the bound. Raises RuntimeError where none can be had and there is none: a call put
        into the queue then would wait for ever, or run long after its caller was told that it had failed."""
        with self._lock:
            if self._threads >= self._max:
                return
            name = f"handspan-sync-{self._threads + 1}"
            try:
                threading.Thread(target=self._serve, name=name, daemon=True).start()
            except RuntimeError:
                if not self._threads:
                    raise
                return
            self._threads += 1

    def _serve(self) -> None:
        calls, idle = self._calls, self._idle
        while (work := calls.get()) is not None:
            future, context, call = work
            if not future.cancelled():  # its deadline passed, or its task was cancelled, while it waited
                self._serve_one(future, context, call)
            del work, future, context, call  # an idle thread keeps nobody's objects alive
            idle.release()

    @staticmethod
    def _serve_one(future: "asyncio.Future[Any]", context: contextvars.Context, call: Callable[[], Any]) -> None:
        try:
            value, error = context.run(call), None
        except BaseException as raised:  # noqa: BLE001 - it is the caller's, whatever it is
            value, error = None, raised
        try:
            future.get_loop().call_soon_threadsafe(_settle, future, value, error)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more


def _settle(future: "asyncio.Future[Any]", value: Any, error: BaseException | None) -> None:
    if future.cancelled():
        return
    if issubclass(type(error), StopIteration):  # a future refuses it, and a coroutine cannot raise it
        error = RuntimeError(f"the function raised {type(error).__name__}")
    if error is None:
        future.set_result(value)
    else:
        future.set_exception(error)


class LoopThread:
    """An event loop in a daemon thread: started when it is needed, gone when it was not for ``IDLE`` seconds."""

    IDLE: Final = 10.0

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.RLock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wanted = False
        self._close: asyncio.Event | None = None

    def loop(self) -> asyncio.AbstractEventLoop:
        """A loop that takes calls. Raises RuntimeError where no thread can be had."""
        with self._lock:
            if self._loop is None:
                loop, close = asyncio.new_event_loop(), asyncio.Event()
                try:
                    threading.Thread(target=self._run, args=(loop, close), name=self._name, daemon=True).start()
                except RuntimeError:
                    loop.close()
                    raise
                self._loop, self._close = loop, close
            self._wanted = True
            return self._loop

    def close(self) -> None:
        """What still runs on it is cancelled."""
        with self._lock:
            loop, close, self._loop, self._close = self._loop, self._close, None, None
        if loop is not None and close is not None:
            loop.call_soon_threadsafe(close.set)

    def _run(self, loop: asyncio.AbstractEventLoop, close: asyncio.Event) -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(self._until_idle(close))

    async def _until_idle(self, close: asyncio.Event) -> None:
        while not close.is_set():
            with self._lock:
                if not self._wanted and len(asyncio.all_tasks()) == 1 and self._close is close:
                    self._loop = self._close = None
                    return
                self._wanted = False
            try:
                await asyncio.wait_for(close.wait(), self.IDLE)
            except TimeoutError:
                pass


async def off_loop(call: Callable[[], Any]) -> Any:
    """Run one blocking call in a thread of its own. ``to_thread``'s are waited for at exit; this one is not."""
    pool = DaemonThreadPool(1)
    try:
        waiting = pool.run(call)
    except RuntimeError:  # no thread can be started any more: the interpreter is on its way out
        return call()
    try:
        return await waiting
    finally:
        pool.close()


def on_a_loop() -> bool:
    """Whether this thread is running an event loop right now."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
