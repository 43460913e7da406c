"""Memory while nothing can be written, against the SDK's processor behind an exporter that hangs.

Another connection holds the write lock while 150,000 commands run with ``queue_max_spans=20_000``. Then the lock
goes, and every run has to be a row or in the loss ledger. The SDK's queue is bounded to as many spans; what it
drops, it counts nowhere.
"""

import asyncio
import gc
import os
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from benchmarks import workloads as w
from benchmarks.measure import Budget, Row, Size, row

__all__ = ["measure"]

T = TypeVar("T")

WARM_UP = 1_000


def measure(size: Size) -> list[Row]:
    runs, bound = size.pick(150_000, 15_000), size.pick(20_000, 2_000)
    theirs = _in_own_process(_stalled_sdk, runs, bound)
    mine, kept, lost = _in_own_process(_stalled_database, runs, bound)
    note = f"{runs:,} runs: {kept:,} kept, {lost:,} in the loss ledger"
    what = f"memory grown while the database is locked, {bound:,} spans kept"
    return [row("stalled", what, "SDK: batch, exporter hangs", "MB", [mine], [theirs], Budget("ours", 64), note)]


def _in_own_process(side: Callable[[int, int], T], runs: int, bound: int) -> T:
    """What one side leaves in the heap would be the other's gift."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(side, runs, bound).result(300)


def _stalled_database(runs: int, bound: int) -> tuple[float, int, int]:
    """Megabytes grown, spans kept, spans lost."""
    w.quiet_logger("handspan.store")  # it says that the file is locked, and that it goes on
    with TemporaryDirectory() as directory, asyncio.Runner() as runner:
        telemetry = w.open_telemetry(
            directory, queue_max_spans=bound, busy_timeout=1.0, segment_max_spans=bound // 10, journal=False
        )
        executing = w.executing(telemetry, w.register(telemetry))
        runner.run(w.loop_of(executing, WARM_UP)())  # what is only made once is no growth
        telemetry.flush(30)
        locker = sqlite3.connect(Path(directory) / "ours.db", isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        before = _resident_mb()
        runner.run(w.loop_of(executing, runs)())
        grown = _resident_mb() - before
        health = telemetry.health()
        locker.execute("ROLLBACK")
        kept, lost = health.queue_size, sum(health.lost.values())
        if kept > bound or kept + lost != runs:
            raise RuntimeError(f"{kept} kept and {lost} lost do not make {runs}, or are more than {bound}")
        telemetry.flush(60)
        telemetry.close()
        (stored,) = locker.execute("SELECT count(*) FROM handler_invocations").fetchone()
        (ledger,) = locker.execute("SELECT sum(count) FROM losses").fetchone()
        locker.close()
    if stored + ledger != runs + WARM_UP:
        raise RuntimeError(f"{stored} rows and {ledger} losses do not make {runs + WARM_UP} runs")
    return grown, kept, lost


class _Hangs(SpanExporter):
    """An exporter whose backend does not answer."""

    def __init__(self) -> None:
        self.released = threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.released.wait(300)
        return SpanExportResult.SUCCESS


def _stalled_sdk(runs: int, bound: int) -> float:
    """Megabytes grown."""
    w.quiet_logger("opentelemetry.sdk._shared_internal")  # it says that its queue is full
    exporter = _Hangs()
    other = w.Idiomatic(exporter, queue=bound)
    calling = other.calling(w.no_op)
    with asyncio.Runner() as runner:
        runner.run(w.loop_of(calling, 400)())
        before = _resident_mb()
        runner.run(w.loop_of(calling, runs)())
        grown = _resident_mb() - before
    exporter.released.set()
    other.close()
    return grown


def _resident_mb() -> float:
    gc.collect()
    if os.path.exists("/proc/self/statm"):
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # macOS: bytes, and the highest so far
