"""When the writer has something to do besides writing: heartbeat, retirement, retention.

Monotonic time throughout: a clock that jumps back must not stop the heart.
"""

import time
from dataclasses import dataclass
from typing import Final

from handspan.store.sessions import RETIRE_AFTER

__all__ = ["Upkeep", "WriterStats"]

RETENTION_INTERVAL: Final = 3600.0
GROWTH_CHECK: Final = 200_000  # rows written (about 30 MB) that bring the size check forward


@dataclass
class WriterStats:
    """Counters others read; only the writer's thread changes them."""

    live_bytes: int = 0


class Upkeep:
    """Each ``..._is_due`` answers True once, and sets its next time."""

    def __init__(self, heartbeat_interval: float) -> None:
        self._heartbeat_interval = heartbeat_interval
        self._heartbeat = self._retention = self._retirement = 0.0
        self._rows = 0

    def begin(self) -> None:
        """The file is open: the size is checked at once, what nobody holds is retired in a minute."""
        now = time.monotonic()
        self._heartbeat, self._retirement, self._retention = now + self._heartbeat_interval, now + RETIRE_AFTER, now

    @property
    def next_at(self) -> float:
        return min(self._heartbeat, self._retention, self._retirement)

    def committed(self, rows: int) -> None:
        """A commit is a sign of life, and makes the file grow."""
        self._rows += rows
        self._heartbeat = time.monotonic() + self._heartbeat_interval

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
        due = time.monotonic() >= self._retention or self._rows > GROWTH_CHECK
        if due:
            self._retention, self._rows = time.monotonic() + RETENTION_INTERVAL, 0
        return due
