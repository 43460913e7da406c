"""Error hooks: told of failures, after the span ended, never in the way of what runs.

A hook is a task of its own with a deadline. It cannot be told of its own failure, nor of that of a
command it executes: those are counted and logged. An error storm calls it ``hooks_per_minute`` times a
minute and fingerprint; the rest is counted.
"""

import asyncio
import contextvars
import inspect
import logging
import time
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from handspan.commands import Command, ErrorHook, Handle, is_async_callable
from handspan.executor.threads import DaemonThreadPool
from handspan.outcome import ExecutionResult

__all__ = ["ErrorHooks", "ErrorReport", "hook_task"]

_log = logging.getLogger("handspan.executor")
hook_task: contextvars.ContextVar[object] = contextvars.ContextVar("handspan-hook-task", default=None)

WINDOW_SECONDS: Final = 60.0
MAX_FINGERPRINTS: Final = 1_000
MAX_TASKS: Final = 100  # hooks under way; more would be a flood of its own


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
    return task is not None and task is asyncio.current_task()


class ErrorHooks:
    """Calls the hooks of a failure: the registration's, then the app's, then the global ones."""

    def __init__(
        self, global_hooks: tuple[ErrorHook, ...], pool: DaemonThreadPool, *, timeout: float, per_minute: int
    ) -> None:
        self._global = global_hooks
        self._pool, self._timeout, self._per_minute = pool, timeout, per_minute
        self._windows: OrderedDict[tuple[int, str | None], list[float]] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()
        self.failed = 0
        """Hooks that raised or passed their deadline."""
        self.suppressed = 0
        """Reports not made: over the rate, or too many hooks under way."""

    def report(self, handle: Handle, command: Command, error: BaseException, result: ExecutionResult) -> None:
        """Start the hooks. Returns at once; does nothing inside a hook."""
        hooks = (*handle.on_error, *self._global)
        if not hooks or _inside_a_hook():
            return
        suppressed = self._admit((handle.number, result.error_type))
        if suppressed is None or len(self._tasks) >= MAX_TASKS:
            self.suppressed += 1
            return
        report = ErrorReport(handle, command, error, result, suppressed)
        task = asyncio.get_running_loop().create_task(self._call_all(hooks, report), name="handspan-on-error")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def finish(self, timeout: float) -> None:
        """Wait for hooks under way on this loop; cancel what is left at the deadline."""
        loop = asyncio.get_running_loop()
        mine = {task for task in self._tasks if task.get_loop() is loop}
        if mine:
            _, late = await asyncio.wait(mine, timeout=timeout)
            for task in late:
                task.cancel()

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
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - a hook's SystemExit must not end the application
                self.failed += 1
                what = f"took longer than {self._timeout:g} s" if issubclass(type(error), TimeoutError) else "failed"
                _log.error(
                    "An on_error hook of %s.%s %s.", report.handle.app_key, report.handle.name, what, exc_info=error
                )

    async def _call(self, hook: ErrorHook, report: ErrorReport) -> None:
        outcome = hook(report) if is_async_callable(hook) else await self._pool.run(lambda: hook(report))
        if inspect.isawaitable(outcome):
            await outcome
