"""Energy: adds up what the meters say, and what it costs."""

from datetime import timedelta
from typing import Annotated, Final

from handspan.demo.house import answer, entity_of, new_state, state
from handspan.runtime import App, Depends, Event

__all__ = ["Energy"]

PRICE: Final = 0.32  # a kilowatt hour
HIGH: Final = 3_000  # watts


def is_high(event: Event) -> bool:
    return float(new_state(event)) > HIGH  # 'unavailable' raises: that counts as no match


class Energy(App):
    async def on_start(self) -> None:
        self.readings: dict[str, float] = {}
        self.kwh = 0.0
        self.peak = 0.0

        self.bus.on("state_changed.sensor.*", self.on_reading)
        self.bus.on("state_changed.sensor.house_power", self.on_peak, where=is_high, throttle=900)
        self.bus.on("state_changed.sensor.house_power", self.on_settled, debounce=120)
        self.bus.on("state_changed.sensor.grid_voltage", self.on_voltage, throttle=300)

        self.scheduler.run_every(self.account, 300)
        self.scheduler.run_in(self.calibrate, 900)
        self.scheduler.run_daily(self.bill, "23:55")
        # Due half an hour before the house was up: it runs at once, and its row says how late it is.
        self.scheduler.run_once(self.carry_over, self.scheduler.now() - timedelta(minutes=30))

    async def on_reading(self, event: Event, sensor: Annotated[str, Depends(entity_of)]) -> None:
        """Fails for a sensor that is ``unavailable``, or that measures no number: float() says so."""
        self.readings[sensor] = float(new_state(event))

    async def on_peak(self, event: Event) -> None:
        self.peak = max(self.peak, float(new_state(event)))
        self.bus.publish("notify.family", f"The house draws {self.peak:,.0f} W")

    async def on_settled(self) -> None:
        await answer(0.015)

    async def on_voltage(self, event: Event) -> None:
        if not 207 <= float(new_state(event)) <= 253:
            raise ValueError(f"{new_state(event)} V is no mains voltage")

    async def account(self) -> float:
        """Five minutes of what the house draws now."""
        self.kwh += float(state("sensor.net_power")) * 300 / 3_600_000
        await answer(0.001)
        return self.kwh

    async def calibrate(self) -> None:
        await answer(0.2)

    async def bill(self) -> str:
        return f"{self.kwh:.1f} kWh, {self.kwh * PRICE:.2f} EUR"

    async def carry_over(self) -> None:
        """Yesterday's last reading."""
        self.kwh = 0.0
        await answer(0.05)
