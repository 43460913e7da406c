"""The demo, put together: one day of the house, recorded by one ``Telemetry``, and what is shown of it."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final

from rich.console import Console

from handspan import Telemetry
from handspan.demo.apps import APPS
from handspan.demo.clock import HouseClock
from handspan.demo.counting import CountingHost
from handspan.demo.day import initial_states, recorded_events
from handspan.demo.house import House, enter
from handspan.demo.jobs import HouseScheduler
from handspan.demo.live import Live
from handspan.demo.plain import Plain
from handspan.demo.replay import keep_up, replay
from handspan.demo.summary import Played, recorded_counts, summary
from handspan.demo.view import Scene
from handspan.runtime import Bus

__all__ = ["run_demo"]

SERVICE: Final = "demo-house"
CLOSE_TIMEOUT: Final = 0.5
"""Seconds for what still runs when the day ends; what waits for a later hour of the house is cancelled then."""


def run_demo(db: str, once: bool, speed: float | None, live: bool) -> int:
    """Play the day into ``db``. 0: every run the executor returned is in the file; 1: not so.

    ``speed``: recorded seconds a second, None as fast as it goes. ``live``: the live view, if there is a terminal
    to show it on; not with ``once``.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    able = console.is_terminal and not console.is_dumb_terminal and console.encoding.lower().startswith("utf")
    return asyncio.run(_run(db, speed, console, on_screen=live and not once and able))


async def _run(db: str, speed: float | None, console: Console, *, on_screen: bool) -> int:
    def say(line: str) -> None:
        console.print(line, soft_wrap=True)

    say(f"A recorded day of a real Home Assistant, into {db}.")
    with _notices(None if on_screen else say) as notices:
        played = await _play(db, speed, console if on_screen else None, say, notices)
        found = await recorded_counts(db, os.getpid()) if played.recorded else None
    for line in summary(played, found, console.width):
        console.print(line, soft_wrap=True)
    return 0 if found is None or played.scene.host.returned == found else 1


async def _play(
    db: str, speed: float | None, screen: Console | None, say: Callable[[str], None], notices: list[str]
) -> Played:
    events = recorded_events()
    async with Telemetry(db, service_name=SERVICE) as telemetry:
        clock = HouseClock(speed, lambda: keep_up(host, clock))
        host = CountingHost(telemetry, clock.monotonic)
        bus, scheduler = Bus(host, timers=clock), HouseScheduler(host, clock)
        house = House(clock, initial_states())
        enter(house)
        for app in APPS:
            await app(host, bus=bus, scheduler=scheduler).start()
        scene = Scene(db, clock, host, telemetry.health, notices)
        async with Live(scene, screen) if screen is not None else Plain(scene, say) as shown:
            clock.start()
            complete = await _until_stopped(replay(events, house, bus, host, shown.on_event))
            stopped_at = None if complete else clock.monotonic()
            await scheduler.close(CLOSE_TIMEOUT)
            await bus.close(CLOSE_TIMEOUT)
    return Played(scene, stopped_at, clock.elapsed, recorded=telemetry.recording)


async def _until_stopped(play: Coroutine[Any, Any, None]) -> bool:
    """False: Ctrl-C came before the end. A second one changes nothing, closing takes a second."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(play)
    try:
        loop.add_signal_handler(signal.SIGINT, task.cancel)
    except (NotImplementedError, RuntimeError, ValueError):
        pass  # not the main thread: Ctrl-C is somebody else's
    await asyncio.wait([task])
    if task.cancelled():
        return False
    task.result()
    return True


class _Notices(logging.Handler):
    """What handspan complains of, a line each. Not of runs that fail or are skipped: that is the demo itself."""

    def __init__(self, lines: list[str], say: Callable[[str], None] | None) -> None:
        super().__init__(logging.WARNING)
        self._lines, self._say = lines, say

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith(("handspan.executor", "handspan.runtime", "handspan.demo")):
            line = " ".join(record.getMessage().split())
            self._lines.append(line)
            if self._say is not None:
                self._say(line)


@contextmanager
def _notices(say: Callable[[str], None] | None) -> Iterator[list[str]]:
    """While this lasts, nothing that is logged under ``handspan`` reaches the screen by itself."""
    log, lines = logging.getLogger("handspan"), list[str]()
    handler, propagated = _Notices(lines, say), log.propagate
    log.addHandler(handler)
    log.propagate = False
    try:
        yield lines
    finally:
        log.removeHandler(handler)
        log.propagate = propagated
