"""What the apps know of their house: its entities' states, its time, and that devices take a while to answer.

A user's apps would ask their framework for this. The names work wherever a handler or job of the demo runs,
in threads as well.
"""

import asyncio
import random
from contextvars import ContextVar
from typing import Any, Final

from handspan.demo.clock import HouseClock
from handspan.runtime import Event

__all__ = ["House", "answer", "enter", "entity_of", "new_state", "room_of", "sleep", "state", "turned_on"]

ROOMS: Final = ("living_room", "kitchen", "bedroom", "bathroom", "hall", "stairs", "garage", "garden")


class House:
    def __init__(self, clock: HouseClock, states: dict[str, dict[str, Any]]) -> None:
        self.clock = clock
        self.states = states
        self.random = random.Random(20_26)  # noqa: S311 - the same latencies each time

    def hear(self, topic: str, data: dict[str, Any]) -> None:
        """Keep the states up to date, before anybody is told of the change."""
        if topic.startswith("state_changed."):
            if data["new_state"] is None:
                self.states.pop(data["entity_id"], None)
            else:
                self.states[data["entity_id"]] = data["new_state"]


_house: ContextVar[House] = ContextVar("house")


def enter(house: House) -> None:
    """What runs from here on runs in this house."""
    _house.set(house)


def state(entity_id: str) -> str:
    """The state of an entity now. There is none: ``LookupError``."""
    found = _house.get().states.get(entity_id)
    if found is None:
        raise LookupError(f"{entity_id} does not exist")
    return str(found["state"])


async def sleep(seconds: float) -> None:
    """Of the house's time."""
    await _house.get().clock.sleep(seconds)


async def answer(mean: float) -> None:
    """Wait for a device to answer: real seconds, now and then several times the mean."""
    await asyncio.sleep(_house.get().random.gammavariate(2.0, mean / 2.0))


# --- of an event: predicates, and providers for Depends --------------------------------------------------------


def entity_of(event: Event) -> str:
    return str(event.data["entity_id"])


def room_of(event: Event) -> str:
    """From ``binary_sensor.living_room_motion``, ``living_room``."""
    name = entity_of(event).partition(".")[2]
    return next((room for room in ROOMS if name.startswith(room)), name)


def new_state(event: Event) -> str:
    """What it changed to. Raises if the entity was removed: not every app thinks of that."""
    return str(event.data["new_state"]["state"])


def turned_on(event: Event) -> bool:
    old, new = event.data["old_state"], event.data["new_state"]
    return new is not None and new["state"] == "on" and (old is None or old["state"] != "on")
