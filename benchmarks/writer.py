"""Rows a second of ``commit_segment``, against ``executemany`` of the same rows into the same tables.

Both write batches of the default segment's size, one transaction each, into files of the same schema, indexes and
PRAGMAs. ``executemany`` is given finished tuples, and writes nothing else; ours makes its rows of records inside the
measured time, and rollups and error groups with them: two runs of a hundred fail. With a busy main thread (a
pure-Python loop, as an event loop under load) each transaction is smaller, because ``executemany`` gives up the GIL
once a row and waits for it up to 5 ms each time.
"""

import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, time
from typing import Any

from benchmarks import store_fill
from benchmarks.measure import Budget, Row, Size, interleaved, row
from handspan.records import Segment
from handspan.store.commit import commit_segment
from handspan.store.parents import Parents

__all__ = ["measure"]

COLUMNS = (
    "session_id, execution_start_ts, duration_ms, status, trace_id, span_id, parent_span_id, link_trace_id, "
    "link_span_id, error_type, error_message, traceback_id, attributes, extra, listener_id, queue_ms"
)
INSERT = f"INSERT INTO handler_invocations ({COLUMNS}) VALUES ({', '.join('?' * 16)})"
BUSY_BATCH = 512
AGAINST = "executemany of the same rows"


def measure(size: Size) -> list[Row]:
    with TemporaryDirectory() as directory:
        folder = Path(directory)
        with store_fill.database(folder / "ours.db") as mine, store_fill.database(folder / "other.db") as theirs:
            idle = _compare(mine, theirs, batches=size.pick(8, 1), batch=store_fill.SEGMENT, rounds=size.pick(7, 2))
            busy = _compare(mine, theirs, batches=1, batch=size.pick(BUSY_BATCH, 64), rounds=size.pick(5, 2), busy=True)
    budget = Budget("ratio", 0.6, at_least=True)
    return [
        row("writer.idle", "rows a second, writer's commits", AGAINST, "/s", idle["ours"], idle["other"], budget),
        row("writer.busy", "  while the main thread is busy", AGAINST, "/s", busy["ours"], busy["other"]),
    ]


def _compare(
    mine: tuple[sqlite3.Connection, Parents],
    theirs: tuple[sqlite3.Connection, Parents],
    *,
    batches: int,
    batch: int,
    rounds: int,
    busy: bool = False,
) -> dict[str, list[float]]:
    count = batches * batch
    found = list(store_fill.segments(count, size=batch, errors=0.02, logged=0.05))
    parents = _all_parents(*mine, found[0]), _all_parents(*theirs, found[0])
    if parents[0] != parents[1]:
        raise RuntimeError("the two files do not have the same parents")
    tracebacks = _all_tracebacks(*theirs, found)
    rows = [_tuples(segment, parents[1], tracebacks) for segment in found]
    conn, cache = mine
    other = theirs[0]

    def ours() -> None:
        for segment in found:
            commit_segment(conn, cache, segment, time())

    def executemany() -> None:
        for each in rows:
            other.execute("BEGIN IMMEDIATE")
            other.executemany(INSERT, each)
            other.execute("COMMIT")

    timed = _while_busy if busy else _idle
    return interleaved({"ours": lambda: count / timed(ours), "other": lambda: count / timed(executemany)}, rounds)


def _idle(write: Callable[[], None]) -> float:
    """On a thread of its own as well; the main thread waits."""
    took: list[float] = []
    thread = threading.Thread(target=lambda: took.append(_seconds(write)))
    thread.start()
    thread.join()
    return took[0]


def _while_busy(write: Callable[[], None]) -> float:
    took: list[float] = []
    thread = threading.Thread(target=lambda: took.append(_seconds(write)))
    thread.start()
    turns = 0
    while not took:
        turns += 1
    thread.join()
    return took[0]


def _seconds(write: Callable[[], None]) -> float:
    started = perf_counter()
    write()
    return perf_counter() - started


def _all_parents(conn: sqlite3.Connection, parents: Parents, segment: Segment) -> dict[int, int]:
    """Every registration's row, made before the measurement."""
    conn.execute("BEGIN IMMEDIATE")
    known = segment.registrations.items()
    found = {number: parents.registration_id(segment.session, number, each) for number, each in known}
    found[0] = parents.session_id(segment.session, time())
    conn.execute("COMMIT")
    return found


def _all_tracebacks(conn: sqlite3.Connection, parents: Parents, found: list[Segment]) -> dict[str, int]:
    texts = {record.error_traceback for segment in found for record in segment.records if record.error_traceback}
    conn.execute("BEGIN IMMEDIATE")
    ids = {text: parents.traceback_id(text) for text in sorted(texts)}
    conn.execute("COMMIT")
    return ids


def _tuples(segment: Segment, parents: dict[int, int], tracebacks: dict[str, int]) -> list[tuple[Any, ...]]:
    return [
        (
            parents[0],
            record.start_ns / 1e9,
            record.duration_ns / 1e6,
            record.status,
            record.trace_id,
            record.span_id,
            *(None,) * 3,
            record.error_type,
            record.error_message,
            tracebacks.get(record.error_traceback or ""),
            *(None,) * 2,
            parents[record.registration],
            None,
        )
        for record in segment.records
    ]
