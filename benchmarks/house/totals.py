"""Rollups while runs are made: minutes into hours into days."""

import sqlite3
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from handspan.store.histogram import bucket_of, encode

__all__ = ["DAY", "HOUR", "Key", "Rollups", "Total"]

MINUTE: Final = 60
HOUR: Final = 3_600
DAY: Final = 86_400

Key = tuple[int, str, int, int]  # bucket's start, kind, registration, session

_INSERT: Final = f"INSERT INTO rollups VALUES ({', '.join('?' * 17)})"


@dataclass
class Total:
    """What one registration did in one bucket of one session."""

    runs: int = 0
    errors: int = 0
    cancelled: int = 0
    dependency_failures: int = 0
    timeouts: int = 0
    interrupted: int = 0
    late: int = 0
    max_delay_ns: int | None = None
    sum_ns: int = 0
    min_ns: int = 1 << 62
    max_ns: int = 0
    histogram: Counter[int] = field(default_factory=Counter)

    def add(self, durations: list[int]) -> None:
        self.runs += len(durations)
        self.sum_ns += sum(durations)
        self.min_ns = min(self.min_ns, *durations)
        self.max_ns = max(self.max_ns, *durations)
        self.histogram.update(map(bucket_of, durations))

    def failed(self, error_type: str) -> None:
        self.errors += 1
        self.dependency_failures += error_type == "DependencyError"
        self.timeouts += error_type == "TimeoutError"
        self.interrupted += error_type == "ProcessInterrupted"

    def delayed(self, delay_ns: int, *, late: bool = False) -> None:
        self.late += late
        self.max_delay_ns = delay_ns if self.max_delay_ns is None else max(self.max_delay_ns, delay_ns)

    def merge(self, other: "Total") -> None:
        self.runs += other.runs
        self.errors += other.errors
        self.cancelled += other.cancelled
        self.dependency_failures += other.dependency_failures
        self.timeouts += other.timeouts
        self.interrupted += other.interrupted
        self.late += other.late
        if other.max_delay_ns is not None:
            self.delayed(other.max_delay_ns)
        self.sum_ns += other.sum_ns
        self.min_ns = min(self.min_ns, other.min_ns)
        self.max_ns = max(self.max_ns, other.max_ns)
        mine = self.histogram
        for index, count in other.histogram.items():
            mine[index] = mine.get(index, 0) + count

    def row(self, resolution: int, key: Key) -> tuple[Any, ...]:
        return (
            resolution, *key, self.runs, self.errors, self.cancelled, self.dependency_failures, self.timeouts,
            self.interrupted, self.late, self.max_delay_ns, self.sum_ns, self.min_ns, self.max_ns,
            encode(self.histogram) if self.runs > 2 else None,
        )  # fmt: skip


class Rollups:
    """Minutes are written as they end; hours and days are kept until :meth:`finish`."""

    def __init__(self, conn: sqlite3.Connection) -> None:
        self._conn = conn
        self.hours: dict[Key, Total] = {}
        self.days: dict[Key, Total] = {}

    def minute(self, found: Iterable[tuple[Key, Total]]) -> None:
        found = sorted(found, key=lambda each: each[0])
        self._conn.executemany(_INSERT, [total.row(MINUTE, key) for key, total in found])
        for (start, *rest), total in found:
            self.hour((start // HOUR * HOUR, *rest), total)

    def hour(self, key: Key, total: Total) -> None:
        into = self.hours.get(key)
        if into is None:
            into = self.hours[key] = Total()
        into.merge(total)

    def finish(self) -> None:
        for (start, *rest), total in self.hours.items():
            key = (start // DAY * DAY, *rest)
            self.days.setdefault(key, Total()).merge(total)
        for resolution, buckets in ((HOUR, self.hours), (DAY, self.days)):
            self._conn.executemany(_INSERT, [buckets[key].row(resolution, key) for key in sorted(buckets)])
