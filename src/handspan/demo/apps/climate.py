"""Climate: keeps the rooms at their temperature and the air fresh."""

import statistics
from typing import Annotated, Final

from handspan.demo.house import answer, new_state, room_of, state
from handspan.runtime import App, Depends, Event

__all__ = ["Climate"]

HEATED: Final = {"living_room": 21.0, "kitchen": 20.0, "bedroom": 18.0, "bathroom": 23.0}
THERMOSTATS: Final = ("heatpump", "ecobee", "hvac")


def is_heated(event: Event) -> bool:
    return room_of(event) in HEATED


def window_of(room: Annotated[str, Depends(room_of)]) -> str:
    """The room's motor-driven window, and whether it is open. The bedroom has none: nobody has told this app."""
    return state(f"cover.{room}_window")


class Climate(App):
    async def on_start(self) -> None:
        self.measured: dict[str, float] = {}
        self.setback = 0.0
        self.curve = 35.0

        self.bus.on("state_changed.sensor.*_temperature", self.on_temperature, where=is_heated)
        self.bus.on("state_changed.sensor.outdoor_temperature", self.on_weather, debounce=300)
        self.bus.on("state_changed.sensor.*_co2", self.on_air)
        self.bus.on("call_service.climate.*", self.on_command)
        self.bus.on("house.mode", self.on_mode)
        self.bus.on("climate.setpoint.*", self.on_setpoint)

        self.scheduler.run_every(self.regulate, 600)
        self.scheduler.run_daily(self.lower_for_the_night, "22:30")

    async def on_temperature(self, event: Event, room: Annotated[str, Depends(room_of)]) -> None:
        self.measured[room] = float(new_state(event))

    async def on_weather(self, event: Event) -> None:
        """Five minutes without a change: the sensor means it."""
        self.curve = 45.0 - float(new_state(event))
        await answer(0.03)

    async def on_air(self, event: Event, window: Annotated[str, Depends(window_of)]) -> None:
        if float(new_state(event)) > 1000 and window == "closed":
            await answer(0.08)

    async def on_command(self) -> None:
        await answer(0.12)  # the heat pump is in no hurry

    async def on_mode(self, event: Event) -> None:
        self.setback = {"away": 4.0, "night": 2.0}.get(event.data, 0.0)
        for thermostat in THERMOSTATS:
            self.bus.publish(f"climate.setpoint.{thermostat}", 21.0 - self.setback)

    async def on_setpoint(self) -> None:
        await answer(0.12)

    async def regulate(self) -> float:
        """How much warmer it should be. Fails until a thermometer has spoken."""
        missing = statistics.fmean(HEATED[room] - self.setback - found for room, found in self.measured.items())
        await answer(0.002)
        return missing

    async def lower_for_the_night(self) -> None:
        self.setback = 2.0
        for thermostat in THERMOSTATS:
            self.bus.publish(f"climate.setpoint.{thermostat}", 19.0)
