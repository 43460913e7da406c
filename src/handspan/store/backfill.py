"""Rows from before there were rollups and error groups, told of afterwards, while recording goes on.

The migration only notes which rows there are; whoever has the file open for writing goes through them, a stretch of
ids at a time, each in a transaction of its own that also says how far it came. So it may be left at any point, by any
process, and nothing is counted twice. Pruning waits for it: a row that went before it was counted would be missing for
good.
"""

import json
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from handspan.store.batches import FIRST_BATCH, Batches
from handspan.store.error_groups import Failure
from handspan.store.parents import Parents
from handspan.store.rollups import LARGEST, Kind, bucket_of_runs
from handspan.store.statements import statements

__all__ = ["backfill", "is_pending", "start_over"]

_SQL: Final = statements("sql/backfill.sql")
_KINDS: Final[dict[str, Kind]] = {"handler_invocations": "handler", "job_executions": "job"}


def is_pending(conn: sqlite3.Connection) -> bool:
    return bool(_waiting(conn))


def start_over(conn: sqlite3.Connection) -> None:
    """For a file whose rows nothing tells of: salvaged from before there were rollups."""
    conn.execute(_SQL["start_over"])


def backfill(conn: sqlite3.Connection, parents: Parents, first: int = FIRST_BATCH) -> Iterator[int]:
    """All that waits, yielding the rows of each transaction. ``first``: of how many rows the first is."""
    batches = Batches(conn, first)
    while _waiting(conn):
        rows = batches.size
        with batches.one(rows):
            waiting = _waiting(conn)  # asked again, in the lock: another process may be at it, too
            if not waiting:
                return
            table, start, last = waiting[0]
            parents.forget()  # another process may have pruned a group
            try:
                _stretch(conn, parents, table, start, end := min(start + rows, last + 1))
            finally:
                parents.forget()  # what another process adds to the same buckets must not be written over
            conn.execute(_SQL["finish" if end > last else "advance"], {"table": table, "next": end})
        yield end - start


def _stretch(conn: sqlite3.Connection, parents: Parents, table: str, first: int, end: int) -> None:
    kind = _KINDS[table]
    (found,) = conn.execute(_SQL[f"{kind}_minutes"], {"first": first, "end": end}).fetchone()
    for registration_id, session_id, minute, *counts, max_delay_ns, durations_ns in json.loads(found):
        bucket = bucket_of_runs(durations_ns)
        (bucket.errors, bucket.cancelled, bucket.dependency_failures, bucket.timeouts, bucket.interrupted,
         bucket.late) = counts  # fmt: skip
        bucket.max_delay_ns = None if max_delay_ns is None else min(max(max_delay_ns, 0), LARGEST)
        parents.rollups.add(kind, registration_id, session_id, minute, bucket)
    parents.rollups.write()
    _group(conn, parents, kind, first, end)


def _group(conn: sqlite3.Connection, parents: Parents, kind: Kind, first: int, end: int) -> None:
    (found,) = conn.execute(_SQL[f"{kind}_failures"], {"first": first, "end": end}).fetchone()
    rows = json.loads(found)
    if not rows:
        return
    ids = json.dumps(sorted({row[4] for row in rows if row[4] is not None}))
    (texts,) = conn.execute(_SQL["texts"], {"ids": ids}).fetchone()
    text_of = json.loads(texts)
    failures = [
        Failure(
            kind, registration_id, error_type, message, text_of.get(str(traceback_id)), traceback_id, seen_at,
            bytes.fromhex(trace_id), bytes.fromhex(span_id),
        )
        for _, registration_id, error_type, message, traceback_id, seen_at, trace_id, span_id in rows
    ]  # fmt: skip
    groups = parents.error_groups.of_all(failures)
    pairs = [(row[0], group) for row, group in zip(rows, groups, strict=True)]
    conn.execute(_SQL[f"{kind}_groups"], {"pairs": json.dumps(pairs)})
    parents.error_groups.write()


def _waiting(conn: sqlite3.Connection) -> list[Any]:
    (found,) = conn.execute(_SQL["waiting"]).fetchone()
    waiting: list[Any] = json.loads(found)
    return waiting
