"""Lights: they follow people, scenes and commands."""

import asyncio
from typing import Annotated, Final

from handspan.demo.house import answer, new_state, room_of, sleep, turned_on
from handspan.runtime import App, Depends, Event

__all__ = ["Lights"]

SCENES: Final = {
    "home": {"hall": 60, "kitchen": 80, "living_room": 50},
    "away": {"hall": 0, "kitchen": 0, "living_room": 0},
    "evening": {"hall": 30, "kitchen": 40, "living_room": 25},
    "night": {"hall": 5, "stairs": 5},
}


class Lights(App):
    async def on_start(self) -> None:
        self.burning: set[str] = set()
        self.fades: dict[str, asyncio.Task[None] | None] = {}

        self.bus.on("state_changed.light.*", self.on_light)
        self.bus.on("call_service.light.turn_*", self.on_command, priority=10)
        self.bus.on("state_changed.binary_sensor.*_motion", self.on_motion, where=turned_on)
        self.bus.on("house.mode", self.on_mode)
        self.bus.on("lights.scene", self.on_scene)
        self.bus.on("lights.set.*", self.on_set, timeout=2.0)
        self.bus.on("zha_event", self.on_first_press, once=True)

        self.scheduler.run_daily(self.wake_up, "06:30")
        self.scheduler.run_cron(self.count_burning, "*/15 * * * *")

    async def on_light(self, event: Event) -> None:
        lamp = event.data["entity_id"]
        if event.data["new_state"] is None or new_state(event) != "on":
            self.burning.discard(lamp)
        else:
            self.burning.add(lamp)

    async def on_command(self, event: Event) -> None:
        """A lamp takes half a minute to its new colour. Asked for another one meanwhile, it starts afresh."""
        self._start_afresh(str(event.data["service_data"].get("entity_id")))
        await answer(0.01)
        await sleep(30)

    async def on_motion(self, room: Annotated[str, Depends(room_of)]) -> None:
        """Up in five steps over ten minutes. Who moves again before that begins again."""
        self._start_afresh(room)
        for level in (20, 40, 60, 80, 100):
            self.bus.publish(f"lights.set.{room}", level)
            await sleep(120)

    async def on_mode(self, event: Event) -> None:
        await answer(0.005)
        self.bus.publish("lights.scene", event.data)

    async def on_scene(self, event: Event) -> None:
        for room, level in SCENES[event.data].items():
            self.bus.publish(f"lights.set.{room}", level)

    async def on_set(self) -> None:
        await answer(0.02)

    async def on_first_press(self) -> None:
        await answer(0.05)  # a new Zigbee button: paired once

    async def wake_up(self) -> None:
        for level in range(10, 101, 10):
            self.bus.publish("lights.set.bedroom", level)
            await answer(0.01)

    async def count_burning(self) -> int:
        return len(self.burning)

    def _start_afresh(self, what: str) -> None:
        """The run that still fades this one is cancelled; this run is the one to cancel next."""
        before, self.fades[what] = self.fades.get(what), asyncio.current_task()
        if before is not None:
            before.cancel()
