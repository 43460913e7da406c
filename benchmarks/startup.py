"""What starting costs: importing, against the SDK's own import; opening a large file, against an empty one.

Each import in a fresh interpreter, in processor time (user and system) of the import alone. The large file holds
rows copied by plain SQL, a million at full size; each opening is a fresh ``Telemetry`` in a fresh interpreter.
"""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import time
from typing import Any

from benchmarks import store_fill
from benchmarks.measure import Budget, Row, Size, interleaved, row
from handspan.store.commit import commit_segment

__all__ = ["measure"]

IMPORT = """
import time
before = time.process_time()
{what}
print((time.process_time() - before) * 1000)
"""
SDK = "import opentelemetry.sdk.trace, opentelemetry.sdk.metrics"
OURS = "import handspan; handspan.Telemetry"

OPEN = """
import json, sys, time
import handspan
handspan.Telemetry
path = sys.argv[1]
started = time.perf_counter()
telemetry = handspan.Telemetry(path, db_max_size_mb=1_000_000, db_retention_days=10_000)
telemetry.open()
opened = time.perf_counter()
if telemetry.health().last_error is not None or not telemetry._pipeline.writer.opened.done():
    raise SystemExit("it did not open")
telemetry.close(60)
print(json.dumps({"open": (opened - started) * 1000, "close": (time.perf_counter() - opened) * 1000}))
"""

PADDING = 900  # bytes of attributes a row, so that a million rows make a gigabyte


def measure(size: Size) -> list[Row]:
    for what in (OURS, SDK):
        _import_ms(what)  # writes the bytecode, as installing does: a machine may be told not to cache it
    imports = interleaved({"ours": lambda: _import_ms(OURS), "sdk": lambda: _import_ms(SDK)}, size.pick(7, 2))
    with TemporaryDirectory() as directory:
        small, large = Path(directory) / "small.db", Path(directory) / "large.db"
        rows = size.pick(1_000_000, 20_000)
        _fill(small, 0)
        _fill(large, rows)
        megabytes = large.stat().st_size / 1e6
        opened = interleaved({"large": lambda: _open(large), "small": lambda: _open(small)}, size.pick(7, 2))
    closing = sorted(found["close"] for found in opened["large"])
    return [
        row(
            "import",
            "import handspan and Telemetry, processor time",
            "import of the SDK's trace and metrics",
            "ms",
            imports["ours"],
            imports["sdk"],
            Budget("difference", 60),
        ),
        row(
            "open",
            f"opening a current file of {megabytes:,.0f} MB",
            "opening an empty current file",
            "ms",
            [found["open"] for found in opened["large"]],
            [found["open"] for found in opened["small"]],
            Budget("ours", 50),
            f"{rows:,} rows; closing it again: {closing[len(closing) // 2]:.0f} ms",
        ),
    ]


def _run(code: str, *arguments: str) -> str:
    ours = ("OTEL_", "HANDSPAN_", "PYTHONDONTWRITEBYTECODE")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(ours)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment, timeout=120).stdout


def _import_ms(what: str) -> float:
    return float(_run(IMPORT.format(what=what)))


def _open(path: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads(_run(OPEN, str(path)))
    return found


def _fill(path: Path, rows: int) -> None:
    """One run of each listener by the writer's own code, then copies of them; indexes are built at the end."""
    with store_fill.database(path) as (conn, parents):
        for segment in store_fill.segments(600):
            commit_segment(conn, parents, segment, time())
        conn.execute("UPDATE sessions SET stopped_at = started_at, stop_reason = 'clean_shutdown'")
        if rows:
            _copy_rows(conn, rows)
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()


def _copy_rows(conn: sqlite3.Connection, rows: int) -> None:
    indexes: list[Any] = conn.execute(
        "SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = 'handler_invocations' AND sql <> ''"
    ).fetchall()
    conn.execute("PRAGMA wal_autocheckpoint = 50000").fetchone()
    for name, _ in indexes:
        conn.execute(f"DROP INDEX {name}")
    conn.execute(
        "WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < :times)"
        " INSERT INTO handler_invocations"
        " (listener_id, session_id, execution_start_ts, duration_ms, status, trace_id, span_id, attributes)"
        " SELECT i.listener_id, i.session_id, i.execution_start_ts - n.value, i.duration_ms, i.status,"
        " randomblob(16), randomblob(8), json_object('padding', hex(zeroblob(:padding / 2)))"
        " FROM n, (SELECT * FROM handler_invocations LIMIT 500) AS i",
        {"times": rows // 500, "padding": PADDING},
    )
    for _, sql in indexes:
        conn.execute(sql)
