"""Keeping the file small: by age, then by size, a batch at a time, giving the space back.

A pass is a generator that yields after every batch, so that the writer commits what has come in meanwhile. It may be
left at any yield: each batch is whole by itself, and the next pass goes on with what it finds.

By age everything goes, failures too: ``db_retention_days`` means what it says. Errors and slow runs outlive dull
successes where room is short, by size: see :mod:`handspan.store.shares`. Whatever goes is counted in the ledger, under
the session it belonged to, in the transaction that deletes it.

Size is pages in use. A page is in use while a third of it is (SQLite merges emptier ones), so rows taken from between
others' give back less than they had. A plan reckons with what is in the rows and may fall short of the bound; then
another follows, unless only one was asked for: ``handspan db prune`` does what ``--dry-run`` said, no more.
"""

import logging
import sqlite3
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from typing import Final

from handspan.store.batches import Batches
from handspan.store.doomed import DAY, KINDS, NO_ROW, Doomed, Gone, as_ns, for_kind, ids
from handspan.store.leftovers import ROLLUP_DAYS, SESSIONS_WORTH, Keep, leftovers
from handspan.store.options import WriterOptions
from handspan.store.shares import Portion, make_plan
from handspan.store.statements import statements

__all__ = ["Gone", "Pruned", "Retention", "live_bytes", "max_bytes"]

_SQL: Final = statements("sql/retention.sql")
_log = logging.getLogger("handspan.store")
SIZE_TARGET: Final = 0.9  # of the bound, so that the next pass is not at once
NEXT_TARGET: Final = 0.97  # of a further plan: it is to end just under the bound, and not to take twice as much
ENOUGH: Final = 0.8  # of the bound: a plan that misjudged is stopped here
VACUUM_PAGES: Final = 50  # in the first step; 0.2 MB
QUIET_SPANS: Final = 5_000  # from the front without an old one among them: the rest is young, as far as order goes
SLICE: Final = 50_000  # ids looked through besides, another stretch every hour: a clock that jumped breaks the order


@dataclass
class Pruned:
    """What a pass removed, or a dry run would."""

    rows: int = 0
    spans: int = 0
    bytes: int = 0
    """Given back, by the file's own measure; in a dry run, what is in the rows."""
    over: int = 0
    """Bytes above the bound that are left."""
    details: list[Gone] = field(default_factory=list)
    """Only where asked for."""

    def log(self, path: str) -> None:
        if self.rows or self.spans:
            _log.info("Pruned %s runs and %s spans, %.1f MB given back.", self.rows, self.spans, self.bytes / 1e6)
        if self.over:
            _log.warning("%s is %.1f MB over db_max_size_mb, and has no run left to give.", path, self.over / 1e6)


def max_bytes(options: WriterOptions) -> int:
    return options.db_max_size_mb * 1024 * 1024


def live_bytes(conn: sqlite3.Connection) -> int:
    """Bytes of pages in use: what is on the free list is ours already."""
    (page_size,) = conn.execute("PRAGMA page_size").fetchone()
    (pages,) = conn.execute("PRAGMA page_count").fetchone()
    (free,) = conn.execute("PRAGMA freelist_count").fetchone()
    return int(page_size) * (int(pages) - int(free))


class Retention:
    """Prunes one file through one connection. ``dry``: says what would go; a connection that may only read will do."""

    def __init__(
        self, conn: sqlite3.Connection, *, days: float, max_bytes: int, dry: bool = False, detailed: bool = False,
        one_plan: bool = False, sessions_worth: int = SESSIONS_WORTH, rollup_days: tuple[float, float] = ROLLUP_DAYS,
    ) -> None:  # fmt: skip
        self._conn, self._days, self._max_bytes = conn, days, max_bytes
        self._dry, self._detailed, self._sessions_worth = dry, detailed, sessions_worth
        self._one_plan, self._rollup_days = one_plan or dry, rollup_days
        self.batches = Batches(conn)
        self.pruned = Pruned()

    @classmethod
    def of(cls, conn: sqlite3.Connection, options: WriterOptions) -> "Retention":
        rollup_days = options.hourly_rollup_days, options.daily_rollup_days
        return cls(conn, days=options.db_retention_days, max_bytes=max_bytes(options), rollup_days=rollup_days)

    def run(self, now: float, *, by_age: bool = True) -> Iterator[None]:
        """One pass. Without ``by_age`` while the clock is not to be trusted."""
        before = live_bytes(self._conn)
        cutoff = now - self._days * DAY if by_age else -1e18
        doomed = Doomed(self._conn, self.batches, now, dry=self._dry, detailed=self._detailed)
        plan: list[Portion] = []
        if before > self._max_bytes:
            plan = yield from self._plan(before, cutoff, SIZE_TARGET)
        if by_age:
            yield from self._by_age(doomed, cutoff, now)
        yield from self._by_size(doomed, plan, cutoff)
        if by_age:
            yield from leftovers(self._conn, doomed, Keep.at(now, self._days, self._rollup_days), self._sessions_worth)
        if not self._dry:
            yield from self._give_space_back()
        self._account(doomed, before)

    # --- by age -------------------------------------------------------------------------------------

    def _by_age(self, doomed: Doomed, cutoff: float, now: float) -> Iterator[None]:
        for kind in KINDS:
            (parents,) = self._conn.execute(for_kind(_SQL["parents_with_old"], kind), {"before": cutoff}).fetchone()
            for parent in ids(parents):
                yield from doomed.runs(kind, parent, "pruned_age", before=cutoff)
            yield from doomed.flush()
        if doomed.any_spans:
            yield from self._old_spans(doomed, cutoff, now)

    def _old_spans(self, doomed: Doomed, cutoff: float, now: float) -> Iterator[None]:
        """Those whose run is not stored (yet): the others went with their run."""
        lowest, highest = self._conn.execute(_SQL["span_range"]).fetchone()
        if lowest is None:
            return
        yield from self._old_spans_between(doomed, cutoff, lowest, highest, QUIET_SPANS)
        slices = (highest - lowest) // SLICE + 1
        start = lowest + int(now // 3600) % slices * SLICE
        yield from self._old_spans_between(doomed, cutoff, start, min(start + SLICE, highest), SLICE)

    def _old_spans_between(
        self, doomed: Doomed, cutoff: float, first: int, last: int, quiet_for: int
    ) -> Iterator[None]:
        row, quiet = first - 1, 0
        while row < last and quiet < quiet_for:
            window = max(1, doomed.room)
            found = self._conn.execute(_SQL["span_window"], {"row": row, "window": window}).fetchone()
            edge = min(found[0], last) if found else last
            values = {"row": row, "last_row": edge, "before_ns": as_ns(cutoff)}
            quiet = 0 if doomed.choose(_SQL["doom_old_spans"], values) else quiet + window
            row = edge
            yield from doomed.flush()

    # --- by size ------------------------------------------------------------------------------------

    def _plan(self, live: int, cutoff: float, target: float) -> Generator[None, None, list[Portion]]:
        return make_plan(self._conn, live=live, target=self._max_bytes * target, before=cutoff)

    def _by_size(self, doomed: Doomed, plan: list[Portion], cutoff: float) -> Iterator[None]:
        while self._dry or live_bytes(self._conn) > self._max_bytes:
            had = sum(doomed.rows.values())
            for portion in plan:
                yield from self._take(doomed, portion, cutoff)
                if not self._dry and live_bytes(self._conn) < self._max_bytes * ENOUGH:
                    break
            yield from doomed.flush()
            if self._one_plan or (plan and sum(doomed.rows.values()) == had):
                return  # or nothing left to give
            if (live := live_bytes(self._conn)) > self._max_bytes:
                plan = yield from self._plan(live, cutoff, NEXT_TARGET)
                if not plan:
                    return

    def _take(self, doomed: Doomed, portion: Portion, cutoff: float) -> Iterator[None]:
        for kind in KINDS:
            if portion.kind == kind:
                yield from doomed.runs(
                    kind, int(portion.id), "pruned_size", since=cutoff, worth=portion.worth, limit=portion.rows
                )
        if portion.kind == "trace":
            yield from self._none(doomed.spans("doom_trace", {"trace": bytes.fromhex(str(portion.id))}, portion.rows))
        elif portion.kind == "loose":
            yield from self._loose_spans(doomed, portion.rows)

    def _loose_spans(self, doomed: Doomed, limit: int | None) -> Iterator[None]:
        row = NO_ROW
        while limit is None or limit > 0:
            window = max(1, doomed.room)
            found = self._conn.execute(_SQL["span_window"], {"row": row, "window": window}).fetchone()
            edge = found[0] if found else 2**63 - 1
            room = window if limit is None else min(window, limit)
            chosen = doomed.choose(_SQL["doom_loose_spans"], {"row": row, "last_row": edge, "room": room})
            if limit is not None:
                limit -= chosen
            yield from doomed.flush()
            yield
            if found is None:
                return
            row = edge

    @staticmethod
    def _none(batches: Iterator[int]) -> Iterator[None]:
        for _ in batches:
            yield

    # --- afterwards ---------------------------------------------------------------------------------

    def _give_space_back(self) -> Iterator[None]:
        """Also what a pass that was cut short left free. ``incremental_vacuum`` frees one page for each row that is
        read of it: ``execute`` alone would free one."""
        steps = Batches(self._conn, VACUUM_PAGES)
        while self._conn.execute("PRAGMA freelist_count").fetchone()[0]:
            before = self._conn.execute("PRAGMA page_count").fetchone()[0]
            steps.script(steps.size, f"PRAGMA incremental_vacuum({steps.size})")
            self.batches.longest = max(self.batches.longest, steps.longest)
            if self._conn.execute("PRAGMA page_count").fetchone()[0] >= before:
                return  # a file not made with auto_vacuum keeps its pages, and reuses them
            yield

    def _account(self, doomed: Doomed, before: int) -> None:
        pruned = self.pruned
        pruned.rows, pruned.spans = doomed.rows["handler"] + doomed.rows["job"], doomed.rows["span"]
        pruned.details = doomed.details
        if self._dry:
            pruned.bytes = sum(gone.bytes for gone in pruned.details)
        else:
            live = live_bytes(self._conn)
            pruned.bytes, pruned.over = max(0, before - live), max(0, live - self._max_bytes)
