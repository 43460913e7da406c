"""Flaky: hands everything on to a gateway that is often slow, sometimes deaf, and for hours away."""

import asyncio
import random
from typing import Any

from opentelemetry import trace

from handspan.demo.house import answer, state
from handspan.runtime import App, Event

__all__ = ["Flaky"]

tracer = trace.get_tracer("demo.gateway")
"""OpenTelemetry's own API: its spans join the run's trace."""


class Gateway:
    """What it stands for is far away: a connection, then a request."""

    def __init__(self) -> None:
        self.luck = random.Random(7)  # noqa: S311 - the same bad luck each time

    async def send(self, payload: Any) -> None:
        with tracer.start_as_current_span("gateway.connect"):
            await answer(0.004)
            if state("binary_sensor.hub_connection") == "off":
                raise ConnectionRefusedError("the gateway is away")
        with tracer.start_as_current_span("POST /send", kind=trace.SpanKind.CLIENT) as span:
            span.set_attribute("http.request.method", "POST")
            span.set_attribute("http.request.body.size", len(str(payload)))
            await self._answer()

    async def _answer(self) -> None:
        luck = self.luck.random()
        if luck < 0.008:
            await asyncio.sleep(60)  # it took the request and never answers
        if luck < 0.020:
            raise ConnectionResetError("the gateway hung up")
        await answer(0.15 if luck < 0.05 else 0.012)


class Flaky(App):
    async def on_start(self) -> None:
        self.gateway = Gateway()
        self.undelivered = 0

        self.bus.on("call_service.**", self.forward, timeout=0.4)
        self.bus.on("automation_triggered", self.report, timeout=0.4)
        self.bus.on("notify.*", self.deliver, timeout=0.4)

        self.scheduler.run_every(self.heartbeat, 600, timeout=0.2)

    async def on_error(self, _report: object) -> None:
        """Told of each kind of failure, a few times a minute."""
        self.undelivered += 1

    async def forward(self, event: Event) -> None:
        await self.gateway.send(event.data)

    async def report(self, event: Event) -> None:
        await self.gateway.send(event.data["name"])

    async def deliver(self, event: Event) -> None:
        await self.gateway.send(event.data)

    async def heartbeat(self) -> None:
        with tracer.start_as_current_span("gateway.connect"):
            await answer(0.003)
            if state("binary_sensor.hub_connection") == "off":
                raise ConnectionRefusedError("the gateway is away")
