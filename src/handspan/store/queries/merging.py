"""Histograms of many rollups, put together.

One by one, a histogram costs its fetching, its decoding and ten microseconds of Python, and a year of sixty
registrations has 22,000. So SQL hands over all of a bucket's as one text, MessagePack decodes them in one call, and
their counts are added up in a plain list, whole stretches at once where a histogram has no holes.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from operator import add
from typing import Any, Final, TypeVar

import msgspec

from handspan.store.histogram import Histogram, bucket_of, percentile

__all__ = ["Merged", "bound_ms", "merge_rows", "merge_texts"]

_Key = TypeVar("_Key")

BUCKETS: Final = 480  # of handspan.store.histogram
ZERO: Final = 240  # the place of bucket 0: theirs go from -240 to 239
_unpack_all: Final = msgspec.msgpack.Decoder(list[list[int]]).decode


@dataclass
class Merged:
    """Runs by bucket of duration; their shortest and their longest."""

    runs: int = 0
    min_ns: int = 0
    max_ns: int = 0
    counts: list[int] = field(default_factory=lambda: [0] * BUCKETS)

    def widen(self, runs: int, min_ns: int, max_ns: int) -> None:
        self.min_ns = min(self.min_ns, min_ns) if self.runs else min_ns
        self.max_ns = max(self.max_ns, max_ns)
        self.runs += runs

    def count(self, histograms: int, packed: bytes, alone: Iterable[int]) -> None:
        """Encoded histograms, one after the other; durations of runs that have none. A damaged one's runs, and all that
        came together with it, count as long as the longest: as :func:`handspan.store.histogram.decode` has it."""
        found = _added(self.counts, histograms, packed)
        for duration_ns in alone:
            found[ZERO + bucket_of(duration_ns)] += 1
        missing = self.runs - sum(found)
        if missing < 0:
            found = [0] * BUCKETS
            missing = self.runs
        found[ZERO + bucket_of(self.max_ns)] += missing
        self.counts = found

    @property
    def histogram(self) -> Histogram:
        return Histogram({place - ZERO: count for place, count in enumerate(self.counts) if count})

    def percentiles_ms(self, *shares: float) -> list[float | None]:
        histogram = self.histogram
        found = [percentile(histogram, share, self.min_ns, self.max_ns) for share in shares]
        return [None if each is None else each / 1e6 for each in found]


def bound_ms(bucket: int) -> float:
    """The lower bound of a bucket."""
    return float(2 ** (bucket / 8) * 1e3)


def merge_rows(rows: Iterable[tuple[int, Any]]) -> dict[int, Merged]:
    """By point: rollups, one row each, with their histograms as they are stored."""
    found: defaultdict[int, Merged] = defaultdict(Merged)
    packed: defaultdict[int, list[bytes]] = defaultdict(list)
    alone: defaultdict[int, list[int]] = defaultdict(list)
    for point, row in rows:
        runs, min_ns, max_ns, histogram = row["runs"], row["min_ns"], row["max_ns"], row["histogram"]
        found[point].widen(runs, min_ns, max_ns)
        if histogram is None:
            alone[point] += (min_ns, max_ns)[:runs]
        else:
            packed[point].append(histogram)
    for point, merged in found.items():
        merged.count(len(packed[point]), b"".join(packed[point]), alone[point])
    return found


def merge_texts(rows: Iterable[tuple[_Key, Any]]) -> dict[_Key, Merged]:
    """By key: many rollups in one row, as the statements ``latencies`` and ``roll_latencies`` give them."""
    found: defaultdict[_Key, Merged] = defaultdict(Merged)
    for key, row in rows:
        alone = map(int, row["alone"].split(",")) if row["alone"] else ()
        found[key].widen(row["runs"], row["min_ns"], row["max_ns"])
        found[key].count(row["histograms"], bytes.fromhex(row["packed"] or ""), alone)
    return found


def _added(before: Sequence[int], histograms: int, packed: bytes) -> list[int]:
    """``before`` and the counts of all histograms; without any of them if one cannot be read."""
    counts = list(before)
    try:
        for flat in _unpack_all(b"\xdd" + struct.pack(">I", histograms) + packed):  # the head of a list so long
            runs = flat[1::2]
            if flat[2::2].count(1) == len(runs) - 1:  # no holes
                start = ZERO + flat[0]
                if not 0 <= start <= BUCKETS - len(runs):
                    return list(before)
                counts[start : start + len(runs)] = map(add, counts[start : start + len(runs)], runs)
            else:
                for bucket, count in zip(accumulate(flat[::2], initial=ZERO), (0, *runs), strict=True):
                    counts[bucket] += count
    except (ValueError, IndexError, msgspec.MsgspecError):
        return list(before)
    return counts if min(counts) >= 0 else list(before)
