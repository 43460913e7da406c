"""The recorded day, onto the bus."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Final

from handspan.demo.clock import HouseClock
from handspan.demo.counting import CountingHost
from handspan.demo.day import MIDNIGHT, Recorded, of_day
from handspan.demo.house import House
from handspan.runtime import Bus

__all__ = ["keep_up", "replay"]

MAX_RUNNING: Final = 24
"""Handlers at work at once when nothing but the machine sets the pace; more would be late for their own events."""


async def replay(
    events: Iterable[Recorded], house: House, bus: Bus, host: CountingHost, on_event: Callable[[], None]
) -> None:
    """Each event at its time of the house's day, in the order of their receipt; jobs and timers between them."""
    clock = house.clock
    for event in events:
        await clock.reach(of_day(event.second))
        if clock.speed is None:
            await keep_up(host, clock)
        house.hear(event.topic, event.data)
        bus.publish(event.topic, event.data)
        on_event()
    await clock.reach(MIDNIGHT - 1)
    on_event()


async def keep_up(host: CountingHost, clock: HouseClock) -> None:
    """Let what was begun get on; wait if too much is at work, or a job."""
    await asyncio.sleep(0)
    while host.running["job"] or host.running["handler"] - clock.asleep > MAX_RUNNING:  # noqa: ASYNC110 - two counts
        await asyncio.sleep(0.001)
    await asyncio.sleep(0)  # what ended is noticed by those who waited for it
