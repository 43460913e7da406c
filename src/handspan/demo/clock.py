"""The house's own time: what the bus's timers, the scheduler and sleeping handlers count by.

One agenda for everything that is due at some time of day, worked off in order. At a given speed it waits for
each moment; as fast as it goes, it steps from moment to moment, and the day comes out the same.
"""

import asyncio
import heapq
import itertools
import math
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

from handspan.clock import SystemClock
from handspan.demo.day import of_day, recorded_at

__all__ = ["DATE", "DEFAULT_SPEED", "HouseClock"]

DATE: Final = datetime(2026, 11, 21, tzinfo=UTC)
"""The midnight the day began with."""
DEFAULT_SPEED: Final = 6.0
"""409 recorded seconds in 68."""


class _Entry:
    """Something due. ``cancel()`` takes it off."""

    def __init__(self, when: float, number: int, callback: Callable[[], object]) -> None:
        self.when, self._number, self.callback = when, number, callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True

    def __lt__(self, other: "_Entry") -> bool:
        return (self.when, self._number) < (other.when, other._number)


class HouseClock:
    """Seconds since the house's midnight. The :class:`handspan.runtime.Timers` of its bus."""

    wall_ns = staticmethod(SystemClock.wall_ns)

    def __init__(self, speed: float | None, breathe: Callable[[], Awaitable[None]]) -> None:
        """``speed``: recorded seconds a second; None is as fast as it goes. ``breathe`` is awaited before each
        step then, so that what runs keeps up."""
        self.speed = speed
        self._breathe = breathe
        self._began, self._began_wall = time.monotonic(), datetime.now(UTC)
        self._reached = 0.0
        self._agenda: list[_Entry] = []
        self._numbers = itertools.count()
        self._sooner = asyncio.Event()
        self.asleep = 0
        """Runs that wait for the house's time, not for a device."""

    def start(self) -> None:
        """Midnight is now."""
        self._began, self._began_wall = time.monotonic(), datetime.now(UTC)

    # --- what it says --------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        """Seconds since midnight."""
        if self.speed is None:
            return self._reached
        return max(self._reached, of_day((time.monotonic() - self._began) * self.speed))

    @property
    def elapsed(self) -> float:
        """Real seconds since the start."""
        return time.monotonic() - self._began

    def now(self) -> datetime:
        return DATE + timedelta(seconds=self.monotonic())

    def real(self, moment: datetime) -> datetime | None:
        """When that is for whoever looks at a watch. None: in the future, and nobody can tell how soon."""
        seconds = (moment - DATE).total_seconds()
        if self.speed is None and seconds > self._reached:
            return None
        if self.speed is None and seconds >= 0:
            return datetime.now(UTC)
        return self._began_wall + timedelta(seconds=recorded_at(seconds) / (self.speed or DEFAULT_SPEED))

    # --- what waits for it -----------------------------------------------------------------------------------

    def call_later(self, delay: float, callback: Callable[[], object]) -> _Entry:
        return self.call_at(self.monotonic() + delay, callback)

    def call_at(self, when: float, callback: Callable[[], object]) -> _Entry:
        entry = _Entry(when, next(self._numbers), callback)
        heapq.heappush(self._agenda, entry)
        if self._agenda[0] is entry:
            self._sooner.set()
        return entry

    async def sleep(self, seconds: float) -> None:
        """Of the house's time."""
        woken = asyncio.Event()
        entry = self.call_later(seconds, woken.set)
        self.asleep += 1
        try:
            await woken.wait()
        finally:
            self.asleep -= 1
            entry.cancel()

    # --- going on ---------------------------------------------------------------------------------------------

    async def reach(self, when: float) -> None:
        """Go on to ``when``, and do what is due until then, in order."""
        while True:
            while self._agenda and self._agenda[0].cancelled:
                heapq.heappop(self._agenda)
            due = self._agenda[0].when if self._agenda else math.inf
            if not await self._wait_until(min(due, when)):
                continue  # something sooner has come up
            self._reached = max(self._reached, min(due, when))
            if due > when:
                return
            entry = heapq.heappop(self._agenda)
            if not entry.cancelled:
                entry.callback()

    async def _wait_until(self, moment: float) -> bool:
        if self.speed is None:
            if self._agenda and self._agenda[0].when <= moment:
                await self._breathe()
                return self._agenda[0].when <= moment
            return True
        self._sooner.clear()
        delay = recorded_at(moment) / self.speed - self.elapsed
        if delay <= 0:
            await asyncio.sleep(0)
            return not self._sooner.is_set()
        try:
            async with asyncio.timeout(delay):
                await self._sooner.wait()
        except TimeoutError:
            return True
        return False
