"""When the writer has something to do besides writing: heartbeat, retirement, retention.

Monotonic time throughout: a clock that jumps back must not stop the heart.
"""

import time
from typing import Final

from handspan.store.sessions import RETIRE_AFTER

__all__ = ["Upkeep"]

RETENTION_INTERVAL: Final = 3600.0
JUMP: Final = 3600.0  # seconds by which the wall clock may gain or lose between two looks before it is doubted
GROWTH_CHECK: Final = 200_000  # rows written (about 30 MB) that bring the size check forward


class Upkeep:
    """Each ``..._is_due`` answers True once, and sets its next time."""

    def __init__(self, heartbeat_interval: float) -> None:
        self._heartbeat_interval = heartbeat_interval
        self._heartbeat = self._retention = self._retirement = 0.0
        self._rows = 0
        self._seen: tuple[float, float] | None = None

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

    def prune_again(self) -> None:
        """A pass was cut short: the rest is due at once."""
        self._retention = time.monotonic()

    def jumped(self, wall: float) -> bool:
        """Whether the wall clock went otherwise than time since the last look. Nothing is deleted for its age by a
        clock that has just jumped; one that goes steadily from there is believed the next time."""
        before, self._seen = self._seen, (wall, time.monotonic())
        return before is not None and abs((wall - before[0]) - (self._seen[1] - before[1])) > JUMP
