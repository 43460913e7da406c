"""What the executor returned, counted on the way: the live view's figures, and the summary's other opinion."""

import time
from asyncio import CancelledError
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from handspan import ExecuteJob, ExecutionResult, InvokeHandler, Telemetry
from handspan.commands import Command, Handle
from handspan.demo.day import RECORDED_SECONDS, recorded_at
from handspan.records import CANCELLED, ERROR

__all__ = ["SLOTS", "CountingHost", "Failure", "Tally"]

SLOTS: Final = 360
"""Parts of the day, for the roll: several to a column of any terminal."""


@dataclass
class Tally:
    """The runs of an app, or of one of its handlers and jobs."""

    runs: int = 0
    errors: int = 0
    cancelled: int = 0
    finished: list[float] = field(default_factory=list)
    """Milliseconds of each run that was not cancelled: waiting is not slow."""

    @property
    def mean_ms(self) -> float | None:
        return sum(self.finished) / len(self.finished) if self.finished else None

    @property
    def max_ms(self) -> float | None:
        return max(self.finished, default=None)

    @property
    def p95_ms(self) -> float | None:
        return sorted(self.finished)[int(0.95 * (len(self.finished) - 1))] if self.finished else None

    def add(self, status: str, ms: float) -> None:
        self.runs += 1
        self.errors += status == ERROR
        self.cancelled += status == CANCELLED
        if status != CANCELLED:
            self.finished.append(ms)


@dataclass(frozen=True)
class Failure:
    """One way to fail."""

    name: str
    error_type: str
    message: str


class CountingHost:
    """A :class:`handspan.runtime.Host`: a ``Telemetry``, and a count of what its ``execute`` returned."""

    def __init__(self, telemetry: Telemetry, now: Callable[[], float]) -> None:
        """``now``: the house's seconds since midnight."""
        self.register_listener = telemetry.register_listener
        self.register_job = telemetry.register_job
        self.set_next_run, self.skipped = telemetry.set_next_run, telemetry.skipped
        self._execute = telemetry.execute
        self._now = now
        self.returned: Counter[tuple[str, str]] = Counter()
        """By kind (``handler``, ``job``) and status."""
        self.running = {"handler": 0, "job": 0}
        self.apps: dict[str, Tally] = {}
        self.handles: dict[tuple[str, str], Tally] = {}
        """By app key and name."""
        self.roll: dict[str, list[list[int]]] = {}
        """Per app and slot: runs, errors."""
        self.failures: dict[Failure, int] = {}
        """How often, the latest last."""
        self.failed_at: dict[Failure, float] = {}
        """The latest of each, in the house's seconds since midnight."""

    @property
    def total(self) -> int:
        return sum(self.returned.values())

    def count_of(self, status: str) -> int:
        return sum(count for (_, each), count in self.returned.items() if each == status)

    async def execute(self, command: Command) -> ExecutionResult:
        handle: Handle = command.listener if isinstance(command, InvokeHandler) else command.job
        kind = "job" if isinstance(command, ExecuteJob) else "handler"
        self.running[kind] += 1
        began = time.perf_counter()
        try:
            result = await self._execute(command)
        except BaseException as error:  # re-raised by the executor: cancelled, or the end of the process
            status = CANCELLED if isinstance(error, CancelledError) else ERROR
            self._count(kind, handle, status, (time.perf_counter() - began) * 1000)
            raise
        finally:
            self.running[kind] -= 1
        self._count(kind, handle, result.status, result.duration_ms)
        if result.error_type is not None:
            failure = Failure(f"{handle.app_key}.{handle.name}", result.error_type, result.error_message or "")
            self.failures[failure] = self.failures.pop(failure, 0) + 1
            self.failed_at[failure] = self._now()
        return result

    def _count(self, kind: str, handle: Handle, status: str, ms: float) -> None:
        self.returned[kind, status] += 1
        self.apps.setdefault(handle.app_key, Tally()).add(status, ms)
        self.handles.setdefault((handle.app_key, handle.name), Tally()).add(status, ms)
        slots = self.roll.setdefault(handle.app_key, [[0, 0] for _ in range(SLOTS)])
        slot = slots[min(SLOTS - 1, int(recorded_at(self._now()) / RECORDED_SECONDS * SLOTS))]
        slot[0] += 1
        slot[1] += status == ERROR
