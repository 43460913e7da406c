"""Commands a second until they are durable, against the same number of spans sent by the stock SDK.

Ours: no-op commands as fast as the loop makes them, until ``flush()`` returned True; the rows are counted
afterwards. The SDK's: as many spans with six attributes, until ``force_flush()`` returned, sent by the OTLP/HTTP
exporter to a server in another process that only answers 200. The stock processor has no back-pressure and
drops what its queue cannot hold, so its queue is made large enough for all; acknowledged spans are counted.
Neither side records metrics.
"""

import asyncio
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExportResult
from opentelemetry.trace import SpanKind

from benchmarks import workloads as w
from benchmarks.measure import Budget, Row, Size, interleaved, row
from benchmarks.sink import running_sink

__all__ = ["measure"]


class CountingExporter(OTLPSpanExporter):
    """The stock exporter, and how many spans the server acknowledged."""

    acknowledged = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = super().export(spans)
        if result is SpanExportResult.SUCCESS:
            self.acknowledged += len(spans)
        return result


def measure(size: Size) -> list[Row]:
    runs = size.pick(50_000, 2_000)
    with TemporaryDirectory() as directory, asyncio.Runner() as runner, running_sink() as url:
        telemetry = w.open_telemetry(directory)
        executing = w.executing(telemetry, w.register(telemetry))
        exporter = CountingExporter(endpoint=url)
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(exporter, max_queue_size=2 * runs))
        tracer = provider.get_tracer("benchmarks", "1")
        rounds_run = 0

        async def span_around_no_op() -> None:
            with tracer.start_as_current_span(
                "handle kitchen.on_light", kind=SpanKind.CONSUMER, attributes=w.SPAN_ATTRIBUTES
            ):
                await w.no_op(w.EVENT)

        def ours() -> float:
            nonlocal rounds_run
            rounds_run += 1
            started = perf_counter()
            runner.run(w.loop_of(executing, runs)())
            if not telemetry.flush(120):
                raise RuntimeError("not durable within two minutes")
            return runs / (perf_counter() - started)

        def sdk() -> float:
            before = exporter.acknowledged
            started = perf_counter()
            runner.run(w.loop_of(span_around_no_op, runs)())
            provider.force_flush()
            rate = runs / (perf_counter() - started)
            if exporter.acknowledged - before != runs:
                raise RuntimeError(f"the SDK lost {runs - (exporter.acknowledged - before)} of {runs} spans")
            return rate

        found = interleaved({"ours": ours, "sdk": sdk}, size.pick(5, 2))
        provider.shutdown()
        telemetry.close()
        stored = _rows(Path(directory) / "ours.db")
    if stored != runs * rounds_run:
        raise RuntimeError(f"{runs * rounds_run - stored} of {runs * rounds_run} runs are not in the file")
    note = f"{stored:,} runs, all in the file"
    return [
        row(
            "throughput",
            "no-op commands a second, durable, none lost",
            "SDK: batch + OTLP/HTTP to a null server",
            "/s",
            found["ours"],
            found["sdk"],
            Budget("ratio", 1.5, at_least=True),
            note,
        )
    ]


def _rows(path: Path) -> int:
    conn = sqlite3.connect(path)
    try:
        (found,) = conn.execute("SELECT count(*) FROM handler_invocations").fetchone()
    finally:
        conn.close()
    return int(found)
