"""Rollups with their histograms, put together: what SQL hands over for a group of them, and for several such groups.

Statements give each group as one row: ``runs``, ``min_ns``, ``max_ns``, ``histograms`` and ``durations``, texts as
:func:`handspan.store.histogram.merged` takes them. A row that is fetched costs Python's lock once, so that sixty rows
are kinder to an event loop beside them than five thousand.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

from handspan.store.histogram import Histogram, merged, percentiles

__all__ = ["Merged", "merge"]

_Key = TypeVar("_Key")

EACH: Final = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class Merged:
    """Runs by bucket of duration; their shortest and their longest."""

    runs: int = 0
    min_ns: int = 0
    max_ns: int = 0
    histogram: Histogram = field(default_factory=Histogram)

    def percentiles_ms(self, shares: Sequence[float] = EACH) -> list[float | None]:
        found = percentiles(self.histogram, shares, self.min_ns, self.max_ns)
        return [None if each is None else each / 1e6 for each in found]


def merge(rows: Iterable[tuple[_Key, sqlite3.Row]]) -> dict[_Key, Merged]:
    """By key."""
    groups: dict[_Key, list[sqlite3.Row]] = {}
    for key, row in rows:
        groups.setdefault(key, []).append(row)
    return {key: _of(group) for key, group in groups.items()}


def _of(rows: Sequence[sqlite3.Row]) -> Merged:
    runs, longest = sum(row["runs"] for row in rows), max(row["max_ns"] for row in rows)
    histograms = " ".join(row["histograms"] or "" for row in rows)
    durations = " ".join(row["durations"] or "" for row in rows)
    return Merged(runs, min(row["min_ns"] for row in rows), longest, merged(histograms, durations, runs, longest))
