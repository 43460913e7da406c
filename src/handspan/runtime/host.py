"""What the runtime asks of whoever runs it, and of time.

:class:`handspan.Telemetry` is a :class:`Host`; so is the twenty-line fake in the tests. The runtime routes
and times; everything about running a call (span, outcome, record, error hooks) is the host's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from whenever import Instant

from handspan.clock import SystemClock
from handspan.commands import Command, ErrorHook, Handle, Job, Listener
from handspan.reasons import Reason
from handspan.records import DueBetween

__all__ = ["ErrorHooks", "Host", "LoopTimers", "Timer", "Timers", "hooks"]

ErrorHooks = ErrorHook | tuple[ErrorHook, ...] | None
"""One hook, or several with the most specific first."""


class Host(Protocol):
    """Registers what can be called, and calls it."""

    def register_listener(
        self,
        handler: Callable[..., object],
        *,
        topic: str,
        app_key: str,
        instance_index: int = 0,
        name: str | None = None,
        debounce: float | None = None,
        throttle: float | None = None,
        once: bool = False,
        priority: int = 0,
        predicate_description: str | None = None,
        timeout: float | None = None,
        on_error: ErrorHooks = None,
        invoke: Callable[..., object] | None = None,
        stacklevel: int = 1,
    ) -> Listener:
        """``invoke`` is called with the event instead of ``handler``, which gives the names and the source."""
        ...

    def register_job(
        self,
        call: Callable[..., object],
        *,
        job_name: str | None = None,
        app_key: str,
        instance_index: int = 0,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        trigger_type: str | None = None,
        trigger_value: str | None = None,
        repeat: bool = True,
        due_between: DueBetween | None = None,
        timeout: float | None = None,
        on_error: ErrorHooks = None,
        stacklevel: int = 1,
    ) -> Job: ...

    def execute(self, command: Command) -> Awaitable[object]:
        """Raises nothing but ``CancelledError``, ``KeyboardInterrupt`` and ``SystemExit``."""
        ...

    def set_next_run(self, job: Job, moment: Instant | None) -> None: ...

    def skipped(self, handle: Handle, reason: Reason, count: int = 1, *, at: Instant | None = None) -> None:
        """It did not run. Raises nothing, and costs next to nothing: a predicate may refuse thousands a second."""
        ...


class Timer(Protocol):
    """What ``call_later`` returns. A cancelled one never calls back."""

    def cancel(self) -> None: ...


class Timers(Protocol):
    """Time as the bus sees it: one seam, so that tests step it instead of sleeping."""

    def wall_ns(self) -> int:
        """UTC nanoseconds since the epoch. Called from any thread."""
        ...

    def monotonic(self) -> float:
        """Seconds of the clock ``call_later`` counts by."""
        ...

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer: ...


class LoopTimers:
    """The running event loop's clock and timers."""

    __slots__ = ()

    wall_ns = staticmethod(SystemClock.wall_ns)

    @staticmethod
    def monotonic() -> float:
        return asyncio.get_running_loop().time()

    @staticmethod
    def call_later(delay: float, callback: Callable[[], object]) -> Timer:
        return asyncio.get_running_loop().call_later(delay, callback)


def hooks(*levels: ErrorHooks) -> tuple[ErrorHook, ...] | None:
    """The hooks of several levels in one tuple, most specific first."""
    found: list[ErrorHook] = []
    for level in levels:
        found.extend(level if isinstance(level, tuple) else [] if level is None else [level])
    return tuple(found) or None
