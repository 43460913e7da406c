"""What ran by minute, hour and day, written in the transaction that writes the rows.

A segment's runs are counted by registration and minute in memory and merged into the buckets they belong to. A bucket
is written whole, never added to in SQL: its histogram can only be merged here, and a function of ours called by
SQLite would be a wait for the GIL for each row (see :mod:`handspan.store.commit`). So the buckets being written are
kept from one commit to the next, and only those met for the first time are read.

That is sound because a bucket belongs to a session, and a session is written by one process at a time: by itself while
it lives, then by whoever buries it, under its lock. Only what :mod:`handspan.store.backfill` adds may come from
anywhere, so buckets of other sessions than our own are not kept past their transaction.
"""

import json
import sqlite3
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Literal, NamedTuple

from handspan.clock import to_epoch
from handspan.records import CANCELLED, ERROR, SpanRecord
from handspan.store.histogram import Histogram, decode, encode, histogram_of
from handspan.store.statements import statements

__all__ = ["LARGEST", "RESOLUTIONS", "Bucket", "Key", "Kind", "Rollups", "bucket_of_runs"]

_SQL: Final = statements("sql/rollups.sql")

Kind = Literal["handler", "job"]
MINUTE: Final = 60
RESOLUTIONS: Final = (60, 3600, 86_400)  # seconds
LATE_NS: Final = 5 * 10**9  # after it was due: past what a busy loop or a slow commit explains
LONGEST_NS: Final = 10**16  # 116 days, for one run: a bucket of 900 of them still fits into 64 bits
LARGEST: Final = 2**63 - 1
KEPT: Final = 10_000  # buckets, about 1 kB each: three for every registration of a large application
CHUNK: Final = 256  # x 17 columns = 4,352 variables, under SQLite's default of 32,766

_ALONE: Final = {
    "DependencyError": "dependency_failures",
    "TimeoutError": "timeouts",
    "ProcessInterrupted": "interrupted",
}


class Key(NamedTuple):
    """A bucket's place, in the order of the table's key."""

    resolution: int
    bucket_start: int
    kind: str
    registration_id: int
    session_id: int


@dataclass
class Bucket:
    """What some runs come to. Adding two is associative and commutative, to the nanosecond."""

    runs: int = 0
    errors: int = 0
    cancelled: int = 0
    dependency_failures: int = 0
    timeouts: int = 0
    interrupted: int = 0
    late: int = 0
    max_delay_ns: int | None = None
    sum_ns: int = 0
    min_ns: int = LARGEST
    max_ns: int = 0
    histogram: Histogram = field(default_factory=Counter)

    def add(self, other: "Bucket") -> None:
        self.runs += other.runs
        self.errors += other.errors
        self.cancelled += other.cancelled
        self.dependency_failures += other.dependency_failures
        self.timeouts += other.timeouts
        self.interrupted += other.interrupted
        self.late += other.late
        if other.max_delay_ns is not None:
            self.max_delay_ns = max(self.max_delay_ns or 0, other.max_delay_ns)
        self.sum_ns = min(self.sum_ns + other.sum_ns, LARGEST)
        self.min_ns = min(self.min_ns, other.min_ns)
        self.max_ns = max(self.max_ns, other.max_ns)
        self.histogram.update(other.histogram)

    def columns(self) -> tuple[Any, ...]:
        histogram = None if self.runs <= 2 else encode(self.histogram)
        return (
            self.runs, self.errors, self.cancelled, self.dependency_failures, self.timeouts, self.interrupted,
            self.late, self.max_delay_ns, self.sum_ns, self.min_ns, self.max_ns, histogram,
        )  # fmt: skip

    @classmethod
    def read(cls, columns: list[Any]) -> "Bucket":
        """Of a row's columns, the histogram as hex."""
        *others, histogram = columns
        stored = None if histogram is None else bytes.fromhex(histogram)
        bucket = cls(*others)
        bucket.histogram = decode(stored, bucket.runs, bucket.min_ns, bucket.max_ns)
        return bucket


def bucket_of_runs(durations_ns: Iterable[int]) -> Bucket:
    """Of runs of which nothing else is known yet."""
    durations = [min(max(each, 0), LONGEST_NS) for each in durations_ns]
    return Bucket(
        runs=len(durations),
        sum_ns=min(sum(durations), LARGEST),
        min_ns=min(durations),
        max_ns=max(durations),
        histogram=histogram_of(durations),
    )


class Rollups:
    """The buckets of one file, on the writer's connection, inside the caller's transaction."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self._kept: OrderedDict[Key, Bucket] = OrderedDict()
        self._added: dict[Key, Bucket] = {}
        self.own_session: int | None = None
        """Whose buckets may be kept between transactions."""

    def forget(self) -> None:
        """After a rollback: what is kept may not be in the file."""
        self._kept.clear()
        self._added.clear()

    def count(self, kind: Kind, session_id: int, records: list[SpanRecord], parent_id: Callable[[int], int]) -> None:
        """Runs whose rows this transaction inserts."""
        together: defaultdict[tuple[int, float], list[SpanRecord]] = defaultdict(list)
        for record in records:  # by the row's own moment: a REAL may round the last 100 ns of a minute into the next
            together[record.registration, to_epoch(record.start_ns) // MINUTE].append(record)
        for (number, minute), runs in together.items():
            bucket = bucket_of_runs([run.duration_ns for run in runs])
            for run in runs:
                if run.status == ERROR:
                    bucket.errors += 1
                    if run.error_type in _ALONE:
                        name = _ALONE[run.error_type]
                        setattr(bucket, name, getattr(bucket, name) + 1)
                elif run.status == CANCELLED:
                    bucket.cancelled += 1
                delay = run.queue_ns if run.scheduled_ns is None else run.start_ns - run.scheduled_ns
                if delay is not None:
                    bucket.max_delay_ns = min(max(bucket.max_delay_ns or 0, delay), LARGEST)
                    bucket.late += run.scheduled_ns is not None and delay > LATE_NS
            self.add(kind, parent_id(number), session_id, int(minute) * MINUTE, bucket)

    def add(self, kind: Kind, registration_id: int, session_id: int, minute: int, bucket: Bucket) -> None:
        """Into its minute, hour and day. ``minute``: its beginning, in epoch seconds."""
        for resolution in RESOLUTIONS:
            key = Key(resolution, minute // resolution * resolution, kind, registration_id, session_id)
            found = self._added.get(key)
            if found is None:
                found = self._added[key] = Bucket()
            found.add(bucket)

    def write(self) -> None:
        """Merge what was added into the file."""
        if not self._added:
            return
        added, self._added = self._added, {}
        unknown = [key for key in added if key not in self._kept]
        for start in range(0, len(unknown), CHUNK):
            self._read(unknown[start : start + CHUNK])
        for key, bucket in added.items():
            kept = self._kept.setdefault(key, Bucket())
            kept.add(bucket)
            self._kept.move_to_end(key)
        self._store([(key, self._kept[key]) for key in added])
        if any(key.session_id != self.own_session for key in added):
            self._kept = OrderedDict(item for item in self._kept.items() if item[0].session_id == self.own_session)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def _read(self, keys: list[Key]) -> None:
        (found,) = self._conn.execute(_read_statement(len(keys)), [value for key in keys for value in key]).fetchone()
        for row in json.loads(found):
            self._kept[Key(*row[:5])] = Bucket.read(row[5:])

    def _store(self, buckets: list[tuple[Key, Bucket]]) -> None:
        start, size = 0, CHUNK
        while start < len(buckets):  # a remainder goes in halving sizes, as in handspan.store.commit
            if len(buckets) - start < size:
                size //= 2
                continue
            values: list[Any] = []
            for key, bucket in buckets[start : start + size]:
                values.extend(key)
                values.extend(bucket.columns())
            self._conn.execute(_store_statement(size), values)
            start += size


@cache
def _read_statement(keys: int) -> str:
    return _SQL["read_buckets"].replace("(:keys)", ", ".join(["(?, ?, ?, ?, ?)"] * keys))


@cache
def _store_statement(rows: int) -> str:
    return _SQL["store_buckets"].replace("(:rows)", ", ".join([f"({', '.join('?' * 17)})"] * rows))
