"""When the writer has something to do besides writing: heartbeat, retirement, retention.

Monotonic time throughout: a clock that jumps back must not stop the heart.
"""

import time
from dataclasses import dataclass
from typing import Final

from handspan.store.options import WriterOptions
from handspan.store.retention import max_bytes
from handspan.store.sessions import RETIRE_AFTER

__all__ = ["Upkeep", "WriterStats"]

RETENTION_INTERVAL: Final = 3600.0
RETENTION_RETRY: Final = 60.0  # after a pass that a lock or a full disk cut short
GROWTH: Final = 1.05  # times what the last pass left: a bound that cannot be met is not tried for with every commit
CLOCK_JUMP: Final = 3600.0  # seconds the wall clock may move on its own between two passes


@dataclass
class WriterStats:
    """Counters others read; only the writer's thread changes them."""

    live_bytes: int = 0


class Upkeep:
    """Each ``..._is_due`` answers True once, and sets its next time."""

    def __init__(self, options: WriterOptions) -> None:
        self._heartbeat_interval = options.heartbeat_interval
        self._max_bytes = max_bytes(options)
        self._heartbeat = self._retention = self._retirement = 0.0
        self._live = self._left = 0
        self._drift: float | None = None

    def begin(self) -> None:
        """The file is open: the size is checked at once, what nobody holds is retired in a minute."""
        now = time.monotonic()
        self._heartbeat, self._retirement, self._retention = now + self._heartbeat_interval, now + RETIRE_AFTER, now

    @property
    def next_at(self) -> float:
        return min(self._heartbeat, self._retention, self._retirement)

    def committed(self) -> None:
        """A commit is a sign of life."""
        self._heartbeat = time.monotonic() + self._heartbeat_interval

    def grown_to(self, live_bytes: int) -> None:
        self._live = live_bytes

    def heartbeat_is_due(self) -> bool:
        now = time.monotonic()
        due = now >= self._heartbeat
        if due:
            self._heartbeat = now + self._heartbeat_interval
        return due

    def retirement_is_due(self) -> bool:
        return time.monotonic() >= self._retirement

    def retired(self, done: bool) -> None:
        """Not done: a session of the service is still too young to tell."""
        self._retirement = time.monotonic() + (RETENTION_INTERVAL if done else RETIRE_AFTER)

    def retention_is_due(self) -> bool:
        """Hourly, and as soon as the file has grown past its bound; soon again if :meth:`pruned` is not called."""
        now = time.monotonic()
        due = now >= self._retention or self._live > max(self._max_bytes, self._left * GROWTH)
        if due:
            self._retention, self._left = now + RETENTION_RETRY, self._live
        return due

    def pruned(self, live_bytes: int) -> None:
        self._retention, self._live, self._left = time.monotonic() + RETENTION_INTERVAL, live_bytes, live_bytes

    def clock_is_steady(self, wall: float) -> bool:
        """False for one pass after the wall clock jumped: one from 2038 would find everything old."""
        drift = wall - time.monotonic()
        steady = self._drift is None or abs(drift - self._drift) <= CLOCK_JUMP
        self._drift = drift
        return steady

    def prune_again(self) -> None:
        """A pass was cut short: the rest is due at once."""
        self._retention = time.monotonic()
