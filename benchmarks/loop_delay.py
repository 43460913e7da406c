"""How late a ticking task comes while 2,000 runs a second go through, with us, without, and with the SDK.

A pacer starts ten runs every 5 ms; a ticker asks to be woken every 2 ms and notes how late it was. What bare
handlers at the same rate cost it is the machine's and asyncio's; the rest is ours: ``execute()`` itself, and the
writer's commits (twice a second) when they take the GIL.
"""

import asyncio
from collections.abc import Awaitable, Callable
from tempfile import TemporaryDirectory

from benchmarks import workloads as w
from benchmarks.measure import Budget, Row, Size, interleaved, percentile, row

__all__ = ["measure"]

RATE = 2_000
PACE = 0.005
TICK = 0.002

Call = Callable[[], Awaitable[None]]


def measure(size: Size) -> list[Row]:
    other = w.Idiomatic()
    with TemporaryDirectory() as directory, asyncio.Runner() as runner:
        ours = w.open_telemetry(directory, meter_provider=w.meter_provider())
        calls = {
            "bare": w.bare(w.no_op),
            "ours": w.executing(ours, w.register(ours)),
            "other": other.calling(w.no_op),
        }
        seconds = size.pick(2.5, 0.2)
        sides = {name: (lambda call=call: runner.run(_lateness(call, seconds))) for name, call in calls.items()}
        found = interleaved(sides, size.pick(3, 2))
        ours.close()
        other.close()

    def at(percent: float, side: str) -> list[float]:
        return [percentile(late, percent) for late in found[side]]

    def line(name: str, what: str, percent: float, side: str, budget: Budget | None = None) -> Row:
        return row(name, what, "the bare handlers at that rate", "ms", at(percent, side), at(percent, "bare"), budget)

    return [
        line("delay.p99", "loop's lateness at 2,000 runs/s, p99", 99, "ours", Budget("difference", 5)),
        line("delay.p999", "  p99.9", 99.9, "ours"),
        line("delay.sdk.p99", "  the SDK's pattern instead, p99", 99, "other"),
        line("delay.sdk.p999", "  the SDK's pattern instead, p99.9", 99.9, "other"),
    ]


async def _lateness(call: Call, seconds: float) -> list[float]:
    """Milliseconds each tick came late."""
    loop = asyncio.get_running_loop()
    late: list[float] = []
    end = loop.time() + seconds

    async def tick() -> None:
        due = loop.time()
        while due < end:
            due += TICK
            await asyncio.sleep(due - loop.time())
            now = loop.time()
            late.append((now - due) * 1000)
            due = max(due, now - TICK)  # a stall is one late tick, not a burst of them

    async def pace() -> None:
        due, running = loop.time(), set()
        while due < end:
            due += PACE
            await asyncio.sleep(due - loop.time())
            for _ in range(int(RATE * PACE)):
                task = asyncio.ensure_future(call())
                running.add(task)
                task.add_done_callback(running.discard)

    await asyncio.gather(tick(), pace())
    return late
