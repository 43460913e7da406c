"""What ``execute()`` costs over the bare call, against the idiomatic pattern's cost over the bare call.

Both ways of asking: the time it takes on the loop (our writer, the SDK's exporting thread working meanwhile),
and the processor time of the whole process, threads included, until everything was flushed.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from tempfile import TemporaryDirectory

from opentelemetry.sdk.trace import TracerProvider

from benchmarks import workloads as w
from benchmarks.measure import Budget, Row, Size, interleaved, row
from handspan import ExecuteJob, Telemetry

__all__ = ["measure"]

Call = Callable[[], Awaitable[None]]
AGAINST = "SDK: span + histogram + batch"


@dataclass(frozen=True)
class Cost:
    """Microseconds a run: on the loop, and of processor time."""

    loop: float
    cpu: float


@dataclass(frozen=True)
class Contest:
    """One handler without, with us, with the SDK."""

    name: str
    what: str
    bare: Call
    ours: Call
    other: Call


class Sides:
    """What is open while we measure."""

    def __init__(self, directory: str, runner: asyncio.Runner) -> None:
        self.runner, self.sdk, self.provider = runner, w.Idiomatic(), TracerProvider()
        self.own = w.open_telemetry(directory, "own", meter_provider=w.meter_provider())
        self.foreign = w.open_telemetry(
            directory, "foreign", meter_provider=w.meter_provider(), tracer_provider=self.provider
        )

    def flush(self) -> None:
        if not (self.own.flush(60) and self.foreign.flush(60)):
            raise RuntimeError("not flushed within a minute")

    def close(self) -> None:
        for telemetry in (self.own, self.foreign):
            if telemetry.health().lost:
                raise RuntimeError(f"spans were lost while measuring: {telemetry.health().lost}")
            telemetry.close()
        self.sdk.close()
        self.provider.shutdown()

    def compare(self, contest: Contest, *, runs: int, rounds: int) -> dict[str, list[Cost]]:
        def cost(call: Call, flush: Callable[[], None]) -> Callable[[], Cost]:
            def once() -> Cost:
                cpu = time.process_time()
                loop = self.runner.run(w.loop_of(call, runs)())
                flush()
                return Cost(loop / runs * 1e6, (time.process_time() - cpu) / runs * 1e6)

            return once

        return interleaved(
            {
                "bare": cost(contest.bare, lambda: None),
                "ours": cost(contest.ours, self.flush),
                "other": cost(contest.other, self.sdk.flush),
            },
            rounds,
        )


def measure(size: Size) -> list[Row]:
    with TemporaryDirectory() as directory, asyncio.Runner() as runner:
        sides = Sides(directory, runner)
        listener = w.register(sides.own)
        plain = Contest("", "", w.bare(w.no_op), w.executing(sides.own, listener), sides.sdk.calling(w.no_op))
        found = sides.compare(plain, runs=size.pick(20_000, 1_000), rounds=size.pick(9, 3))
        if not w.Idiomatic.same_metric_attributes(listener):
            raise RuntimeError("the idiomatic pattern no longer puts on its metric what ours does")
        budget = Budget("ratio", 0.75)
        rows = [
            _row("overhead.loop", "execute(): time on the loop, a run", found, "loop", budget),
            _row("overhead.cpu", "execute(): processor time until flushed, a run", found, "cpu", budget),
        ]
        for contest in _variants(sides, listener):
            found = sides.compare(contest, runs=size.pick(8_000, 500), rounds=size.pick(5, 2))
            rows.append(_row(f"overhead.{contest.name}.loop", f"  {contest.what}: on the loop", found, "loop"))
            rows.append(_row(f"overhead.{contest.name}.cpu", f"  {contest.what}: processor", found, "cpu"))
        sides.close()
    return rows


def _variants(sides: Sides, listener: object) -> list[Contest]:
    own, sdk, bare = sides.own, sides.sdk, w.bare(w.no_op)
    quiet = w.quiet_logger("handspan.executor")
    return [
        Contest(
            "published",
            "with a link and its waiting time",
            bare,
            w.executing(own, listener, published_by=w.PUBLISHED_BY, published_at=w.PUBLISHED_AT),
            sdk.calling_published(w.no_op),
        ),
        Contest(
            "attributes",
            "handler adds two attributes",
            w.bare(w.adds_two_attributes),
            w.executing(own, w.register(own, w.adds_two_attributes, "adding")),
            sdk.calling(w.adds_two_attributes),
        ),
        Contest("job", "a job with its due time", bare, _job(own), sdk.calling_job(w.no_op)),
        Contest(
            "failing",
            "handler raises",
            w.bare_failing(w.fails, quiet),
            w.executing(own, w.register(own, w.fails, "failing")),
            sdk.calling_failing(w.fails, quiet),
        ),
        Contest(
            "foreign",
            "on a provider of the application's",
            bare,
            w.executing(sides.foreign, w.register(sides.foreign)),
            sdk.calling(w.no_op),
        ),
    ]


def _job(telemetry: Telemetry) -> Call:
    job = telemetry.register_job(w.no_op, app_key="kitchen", args=(w.EVENT,), job_name="no_op")

    async def call() -> None:
        await telemetry.execute(ExecuteJob(job, w.PUBLISHED_AT))

    return call


def _row(name: str, what: str, found: dict[str, list[Cost]], part: str, budget: Budget | None = None) -> Row:
    def over_bare(side: str) -> list[float]:
        pairs = zip(found[side], found["bare"], strict=True)
        return [float(getattr(cost, part) - getattr(bare, part)) for cost, bare in pairs]

    return row(name, what, AGAINST, "us", over_bare("ours"), over_bare("other"), budget)
