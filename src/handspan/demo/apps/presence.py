"""Presence: who is home, and what that makes of the house."""

import asyncio
import json
from typing import Annotated

from handspan.demo.house import entity_of, new_state, room_of, sleep
from handspan.runtime import App, Depends, Event

__all__ = ["Presence"]


def moved(event: Event) -> bool:
    """Home or away, not from one place elsewhere to another."""
    old, new = event.data["old_state"], event.data["new_state"]
    return old is not None and new is not None and (old["state"] == "home") != (new["state"] == "home")


class Presence(App):
    async def on_start(self) -> None:
        self.home = {"person.anna", "person.ben", "person.cleo"}
        self.rooms: dict[str, int] = {}
        self.countdown: asyncio.Task[None] | None = None

        self.bus.on("state_changed.person.*", self.on_person, where=moved)
        self.bus.on("presence.left", self.leave_house_alone)
        self.bus.on("presence.arrived", self.welcome, priority=10)
        self.bus.on("state_changed.input_select.house_mode", self.on_button)
        self.bus.on("state_changed.binary_sensor.*_motion", self.on_motion)
        self.bus.on("state_changed.binary_sensor.*_motion", self.on_quiet, debounce=1800)
        self.bus.on("state_changed.device_tracker.*", self.on_phone)

        self.scheduler.run_every(self.save, 900)

    async def on_person(self, event: Event, person: Annotated[str, Depends(entity_of)]) -> None:
        if new_state(event) == "home":
            self.home.add(person)
            self.bus.publish("presence.arrived", person)
        else:
            self.home.discard(person)
            self.bus.publish("presence.left", person)

    async def leave_house_alone(self) -> None:
        """Twenty minutes after the last one left. Each departure, and each return, calls the countdown off."""
        self._call_off(asyncio.current_task())
        await sleep(20 * 60)
        if not self.home:
            self.bus.publish("house.mode", "away")

    async def welcome(self) -> None:
        self._call_off(None)
        if len(self.home) == 1:
            self.bus.publish("house.mode", "home")

    async def on_button(self, event: Event) -> None:
        """Somebody chose a mode; leaving and arriving are this app's own business."""
        mode = new_state(event).lower()
        if mode in ("evening", "night"):
            self.bus.publish("house.mode", mode)

    async def on_motion(self, room: Annotated[str, Depends(room_of)]) -> None:
        self.rooms[room] = self.rooms.get(room, 0) + 1

    async def on_quiet(self) -> None:
        """Half an hour without a step anywhere."""
        self.rooms.clear()

    def on_phone(self, event: Event) -> str:
        """A plain function: it runs in a thread, and may take its time."""
        return json.dumps(event.data["new_state"])

    def save(self) -> int:
        """So does a job that is one."""
        return len(json.dumps({"home": sorted(self.home), "rooms": self.rooms}))

    def _call_off(self, successor: asyncio.Task[None] | None) -> None:
        before, self.countdown = self.countdown, successor
        if before is not None:
            before.cancel()
