"""Error hooks: told of failures, after the span ended, never in the way of what runs.

A hook is a task of its own with a deadline: on the loop the failure came from, or, where a thread without
one failed, on the one loop kept for that in a thread of its own. It cannot be told of its own failure, nor of
that of a command it executes: those are counted and logged. An error storm calls it ``hooks_per_minute`` times
a minute and fingerprint; the rest is counted, before anything is started for it.
"""

import asyncio
import contextvars
import inspect
import logging
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from handspan.commands import Command, ErrorHook, Handle, is_async_callable
from handspan.executor.threads import DaemonThreadPool, LoopThread, off_loop, on_a_loop
from handspan.outcome import ExecutionResult

__all__ = ["ErrorHooks", "ErrorReport", "hook_task"]

_log = logging.getLogger("handspan.executor")
hook_task: contextvars.ContextVar[object] = contextvars.ContextVar("handspan-hook-task", default=None)

WINDOW_SECONDS: Final = 60.0
MAX_FINGERPRINTS: Final = 1_000
MAX_TASKS: Final = 100  # hooks under way; more would be a flood of its own
LOOK_AGAIN: Final = 0.1  # seconds: a loop that stops or closes tells nobody
THREADS: Final = 4  # for hooks that are plain functions: their own, so that stuck ones take none from handlers


@dataclass(frozen=True)
class ErrorReport:
    """What an ``on_error`` hook is called with."""

    handle: Handle
    """The listener or job that failed."""
    command: Command
    error: BaseException
    result: ExecutionResult
    suppressed: int
    """Failures of the same kind that no hook was told of since the last report."""


def _inside_a_hook() -> bool:
    """Only what a hook itself awaits: a task that it starts, or an event that it publishes, inherits the
    variable but is a task of its own."""
    task = hook_task.get()
    return task is not None and (not on_a_loop() or task is asyncio.current_task())


class ErrorHooks:
    """Calls the hooks of a failure: the registration's, then the app's, then the global ones."""

    def __init__(
        self, everywhere: ErrorHook | tuple[ErrorHook, ...] | None, *, timeout: float, per_minute: int
    ) -> None:
        self._global = everywhere if isinstance(everywhere, tuple) else () if everywhere is None else (everywhere,)
        self._timeout, self._per_minute = timeout, per_minute
        self.failed = 0
        """Hooks that raised or passed their deadline."""
        self.suppressed = 0
        """Reports not made: over the rate, or too many hooks under way."""
        self._begin()

    def _begin(self) -> None:
        self._pid = os.getpid()
        self._pool, self._thread = DaemonThreadPool(THREADS), LoopThread("handspan-on-error")
        self._windows: OrderedDict[tuple[int, str | None], list[float]] = OrderedDict()
        self._tasks: dict[asyncio.Task[None], asyncio.AbstractEventLoop] = {}
        self._handed: dict[int, asyncio.AbstractEventLoop] = {}  # to the thread's loop, and not yet tasks
        # Reentrant: a signal's handler may run a command that fails while this thread is in here.
        self._changed = threading.Condition(threading.RLock())

    def report(self, handle: Handle, command: Command, error: BaseException, result: ExecutionResult) -> None:
        """Start the hooks. Returns at once; does nothing inside a hook."""
        hooks = (*handle.on_error, *self._global)
        if not hooks or _inside_a_hook():
            return
        if self._pid != os.getpid():
            self._begin()  # a forked child has none of the parent's threads and tasks
        with self._changed:
            suppressed = self._admit((handle.number, result.error_type))
            if suppressed is None or not self._has_room():
                self.suppressed += 1
                return
            report = ErrorReport(handle, command, error, result, suppressed)
            if on_a_loop():
                self._start(asyncio.get_running_loop(), hooks, report)
            else:
                loop = self._handed[id(report)] = self._thread.loop()
                loop.call_soon_threadsafe(self._start, loop, hooks, report)

    def _start(self, loop: asyncio.AbstractEventLoop, hooks: tuple[ErrorHook, ...], report: ErrorReport) -> None:
        task = loop.create_task(self._call_all(hooks, report), name="handspan-on-error")
        with self._changed:
            self._handed.pop(id(report), None)
            self._tasks[task] = loop
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        with self._changed:
            self._tasks.pop(task, None)
            self._changed.notify_all()

    def _has_room(self) -> bool:
        """A loop that was closed under its hooks ends none of them: they count for nothing."""
        if len(self._tasks) + len(self._handed) >= MAX_TASKS:
            self._tasks = {task: loop for task, loop in self._tasks.items() if not loop.is_closed()}
            self._handed = {each: loop for each, loop in self._handed.items() if not loop.is_closed()}
        return len(self._tasks) + len(self._handed) < MAX_TASKS

    async def finish(self, timeout: float) -> None:
        """Wait for hooks under way; cancel what is left at the deadline."""
        loop, ends = asyncio.get_running_loop(), time.monotonic() + timeout
        with self._changed:
            mine = {task for task, its in self._tasks.items() if its is loop}
        if mine:
            _, late = await asyncio.wait(mine, timeout=timeout)
            for task in late:
                task.cancel()
        if self._handed or self._elsewhere(loop):
            await off_loop(lambda: self.wait(ends - time.monotonic()))

    def wait(self, timeout: float) -> None:
        """:meth:`finish` from a thread: hooks of this thread's own loop cannot end meanwhile, and are left."""
        here, ends = asyncio.get_running_loop() if on_a_loop() else None, time.monotonic() + timeout
        with self._changed:
            while (late := self._elsewhere(here)) or self._still_handed():
                left = ends - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(min(left, LOOK_AGAIN))
        for task, loop in late.items():
            try:
                loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                pass  # closed meanwhile

    def close(self) -> None:
        """The threads end, once what they do is done. Later failures start new ones."""
        self._thread.close()
        self._pool.close()

    def _still_handed(self) -> bool:
        return any(not loop.is_closed() for loop in self._handed.values())

    def _elsewhere(
        self, here: asyncio.AbstractEventLoop | None
    ) -> "dict[asyncio.Task[None], asyncio.AbstractEventLoop]":
        with self._changed:
            return {task: loop for task, loop in self._tasks.items() if loop is not here and loop.is_running()}

    def _admit(self, fingerprint: tuple[int, str | None]) -> int | None:
        """How many were suppressed before this one, or None: this one is, too."""
        now = time.monotonic()
        window = self._windows.get(fingerprint)
        if window is None:
            window = self._windows[fingerprint] = [now, 0, 0]  # its start, reports made, reports suppressed
            if len(self._windows) > MAX_FINGERPRINTS:
                self._windows.popitem(last=False)
        if now - window[0] >= WINDOW_SECONDS:
            window[0], window[1] = now, 0
        if window[1] >= self._per_minute:
            window[2] += 1
            return None
        window[1] += 1
        suppressed, window[2] = int(window[2]), 0
        return suppressed

    async def _call_all(self, hooks: Iterable[ErrorHook], report: ErrorReport) -> None:
        hook_task.set(asyncio.current_task())
        for hook in hooks:
            try:
                async with asyncio.timeout(self._timeout):
                    await self._call(hook, report)
            except GeneratorExit:  # its loop was closed under it
                raise
            except BaseException as error:
                task = asyncio.current_task()
                if issubclass(type(error), asyncio.CancelledError) and task is not None and task.cancelling():
                    raise  # the deadline of who closes, or the loop's end; a hook may raise it all by itself
                self.failed += 1
                self._complain(report, error)

    def _complain(self, report: ErrorReport, error: BaseException) -> None:
        what = f"took longer than {self._timeout:g} s" if issubclass(type(error), TimeoutError) else "failed"
        try:
            _log.error("An on_error hook of %s.%s %s.", report.handle.app_key, report.handle.name, what, exc_info=error)
        except Exception:  # noqa: BLE001, S110 - logging itself is broken: there is nobody left to tell
            pass

    async def _call(self, hook: ErrorHook, report: ErrorReport) -> None:
        outcome = hook(report) if is_async_callable(hook) else await self._pool.run(lambda: hook(report))
        if inspect.isawaitable(outcome):
            await outcome
