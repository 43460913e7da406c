"""Bytes a stored run takes, its indexes included, against the same span in OTLP's own encoding.

Runs of 60 listeners at realistic times; growth of the file's live pages after a checkpoint, divided by the runs.
The other side is what the SDK would send for one such span (protobuf, uncompressed, resource and scope shared
by 512 spans); no index comes with that.
"""

import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult
from opentelemetry.trace import Link, SpanKind

from benchmarks import store_fill, workloads
from benchmarks.measure import Budget, Row, Size, row
from handspan.store.commit import commit_segment
from handspan.store.retention import live_bytes

__all__ = ["measure"]

WEEK_US = 7 * 86_400 * 1_000_000
AGAINST = "OTLP protobuf of one span"


def measure(size: Size) -> list[Row]:
    runs = size.pick(200_000, 20_000)
    with TemporaryDirectory() as directory:
        path = Path(directory)
        plain = _bytes_a_run(path / "plain.db", runs)
        linked = _bytes_a_run(path / "linked.db", runs // 2, link=True)
        failed = _bytes_a_run(path / "failed.db", runs // 2, errors=1.0)
        week, rollups = _bytes_of_a_week(path / "week.db", runs)
    return [
        row(
            "bytes.plain",
            "bytes a successful run, with indexes",
            AGAINST,
            "B",
            [plain],
            [_otlp_bytes()],
            Budget("ours", 140),
            f"{runs:,} runs",
        ),
        row("bytes.linked", "  with link and waiting time", AGAINST, "B", [linked], [_otlp_bytes(link=True)]),
        row(
            "bytes.failed", "  that failed (20 distinct tracebacks)", AGAINST, "B", [failed], [_otlp_bytes(error=True)]
        ),
        row(
            "bytes.week",
            "  of seven days, 2 % failed, rollups and all",
            AGAINST,
            "B",
            [week],
            [_otlp_bytes()],
            None,
            f"{runs:,} runs of 60 skewed handlers in seven days; rollups are {rollups:.0f} B of it",
        ),
    ]


def _bytes_a_run(path: Path, runs: int, *, link: bool = False, errors: float = 0.0) -> float:
    with store_fill.database(path) as (conn, parents):
        for segment in store_fill.segments(1, link=link, errors=errors):  # parents, statistics: not a run's
            commit_segment(conn, parents, segment, time())
        before = _live_bytes(conn)
        for segment in store_fill.segments(runs, first=2, link=link, errors=errors):
            commit_segment(conn, parents, segment, time())
        return (_live_bytes(conn) - before) / runs


def _bytes_of_a_week(path: Path, runs: int) -> tuple[float, float]:
    """Of a run in a file that took seven days, and what rollups have of it. A commit a minute: more often, the same
    buckets are only written more often."""
    apart_us = WEEK_US // runs
    with store_fill.database(path) as (conn, parents):
        before = _live_bytes(conn)
        size = max(1, 60_000_000 // apart_us)
        for segment in store_fill.segments(runs, size=size, errors=0.02, apart_us=apart_us, skewed=True):
            commit_segment(conn, parents, segment, time())
        after = _live_bytes(conn)
        conn.execute("DELETE FROM rollups")
        return (after - before) / runs, (after - _live_bytes(conn)) / runs


def _live_bytes(conn: sqlite3.Connection) -> int:
    conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return live_bytes(conn)


class _Kept(workloads.NullExporter):
    def __init__(self) -> None:
        super().__init__()
        self.spans: list[ReadableSpan] = []

    def export(self, spans: object) -> SpanExportResult:
        self.spans.extend(spans)  # type: ignore[arg-type]  # a sequence of them
        return SpanExportResult.SUCCESS


def _otlp_bytes(*, link: bool = False, error: bool = False, spans: int = 512) -> float:
    """With the attributes the SDK's side of the other measurements has; an error's with its exception event."""
    kept, provider = _Kept(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    tracer = provider.get_tracer("benchmarks", "1")
    links = [Link(workloads.PUBLISHED_BY)] if link else []
    for _ in range(spans):
        try:
            with tracer.start_as_current_span(
                "handle kitchen.on_light", kind=SpanKind.CONSUMER, attributes=workloads.SPAN_ATTRIBUTES, links=links
            ):
                if error:
                    raise ValueError("lamp 17 does not answer")
        except ValueError:
            pass
    provider.shutdown()
    return len(encode_spans(kept.spans).SerializeToString()) / spans
