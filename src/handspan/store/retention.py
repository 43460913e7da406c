"""Keeping the file small: by age, then by size, a batch at a time, giving the space back.

Each pass is a generator that yields after every batch, so that the writer commits what has come in
meanwhile. A batch's size follows what the last one took, towards ``BATCH_SECONDS`` in the write lock.

By size, the registration with most rows gives first, its oldest successes before anything else: a noisy
one uses up its own share, and a failure outlives a dull success.
"""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from handspan.store.statements import statements

__all__ = ["Pruned", "Retention", "live_bytes"]

_SQL: Final = statements("sql/retention.sql")
BATCH_SECONDS: Final = 0.05  # in the write lock, at most about this long
FIRST_BATCH: Final = 500
LARGEST_BATCH: Final = 20_000
VACUUM_PAGES: Final = 500  # about 2 MB given back in one transaction
SIZE_TARGET: Final = 0.9  # prune to 90 % of the bound, so that the next pass is not at once
_TABLES: Final = {
    "handler_invocations": ("listener_ids", "old_invocations", "dull_invocations"),
    "job_executions": ("job_ids", "old_executions", "dull_executions"),
}


@dataclass
class Pruned:
    """What a pass removed."""

    rows: int = 0
    spans: int = 0
    bytes: int = 0


def live_bytes(conn: sqlite3.Connection) -> int:
    """Bytes of pages in use: what is on the free list is ours already."""
    (page_size,) = conn.execute("PRAGMA page_size").fetchone()
    (pages,) = conn.execute("PRAGMA page_count").fetchone()
    (free,) = conn.execute("PRAGMA freelist_count").fetchone()
    return int(page_size) * (int(pages) - int(free))


class Retention:
    """Prunes one file through the writer's connection."""

    def __init__(self, conn: sqlite3.Connection, *, days: float, max_bytes: int) -> None:
        self._conn, self._days, self._max_bytes = conn, days, max_bytes
        self._batch = FIRST_BATCH
        self.pruned = Pruned()

    def run(self, now: float, *, doubtful: bool = False) -> Iterator[None]:
        """``doubtful``: nobody knows how late it is, so nothing is too old."""
        before = live_bytes(self._conn)
        if not doubtful:
            yield from self.by_age(now)
        yield from self.by_size()
        if self.pruned.rows or self.pruned.spans:
            self._delete("unused_tracebacks", {})
            yield
            yield from self._give_space_back()
        self.pruned.bytes = max(0, before - live_bytes(self._conn))

    def by_age(self, now: float) -> Iterator[None]:
        cutoff = now - self._days * 86_400
        for ids, old, _ in _TABLES.values():
            for (parent_id,) in self._conn.execute(_SQL[ids]).fetchall():
                while deleted := self._delete(old, {"id": parent_id, "before": cutoff}):
                    self.pruned.rows += deleted
                    yield
        before_ns = int(cutoff * 1e9)
        while True:
            values = {"before_ns": before_ns, "limit": self._batch}
            first, last = self._conn.execute(_SQL["find_old_spans"], values).fetchone()
            if first is None:
                return
            self.pruned.spans += self._delete("old_spans", {"before_ns": before_ns, "first": first, "last": last})
            yield

    def by_size(self) -> Iterator[None]:
        if live_bytes(self._conn) <= self._max_bytes:
            return
        counts = {(table, row_id): rows for table, row_id, rows in self._counts()}
        target = self._max_bytes * SIZE_TARGET
        kinds = ["dull", "any"]
        while live_bytes(self._conn) > target:
            if not counts:
                if deleted := self._delete("any_spans", {}):
                    self.pruned.spans += deleted
                    yield
                    continue
                if not kinds[1:]:
                    return
                kinds.pop(0)
                counts = {(table, row_id): rows for table, row_id, rows in self._counts()}
                if not counts:
                    return
            table, row_id = max(counts, key=counts.__getitem__)
            _, old, dull = _TABLES[table]
            values = {"id": row_id, "before": float("inf")}
            deleted = self._delete(dull if kinds[0] == "dull" else old, values)
            self.pruned.rows += deleted
            counts[table, row_id] -= deleted
            if not deleted or counts[table, row_id] <= 0:
                del counts[table, row_id]
            yield

    def _counts(self) -> list[tuple[str, int, int]]:
        return [row for name in ("count_invocations", "count_executions") for row in self._conn.execute(_SQL[name])]

    def _delete(self, statement: str, values: dict[str, float]) -> int:
        started = time.perf_counter()
        self._conn.execute("BEGIN IMMEDIATE")
        try:
            deleted = self._conn.execute(_SQL[statement], {"limit": self._batch, **values}).rowcount
            self._conn.execute("COMMIT")
        except BaseException:
            if self._conn.in_transaction:
                self._conn.execute("ROLLBACK")
            raise
        if deleted >= self._batch:
            took = max(time.perf_counter() - started, 1e-6)
            self._batch = int(min(max(self._batch * min(BATCH_SECONDS / took, 2), 50), LARGEST_BATCH))
        return deleted

    def _give_space_back(self) -> Iterator[None]:
        """``incremental_vacuum`` frees one page a step: the cursor has to be read to its end."""
        while self._conn.execute("PRAGMA freelist_count").fetchone()[0]:
            before = self._conn.execute("PRAGMA page_count").fetchone()[0]
            self._conn.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
            if self._conn.execute("PRAGMA page_count").fetchone()[0] >= before:
                return  # a file not made with auto_vacuum keeps its pages, and reuses them
            yield
