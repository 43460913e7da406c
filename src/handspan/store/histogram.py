"""Latency histograms that can be merged: OpenTelemetry's base-2 exponential buckets, scale 3, of seconds.

Bucket ``i`` holds durations above ``2 ** (i / 8)`` s and up to ``2 ** ((i + 1) / 8)`` s, so a bound is 9.05 % above the
one before, and the middle of a bucket (the geometric mean) is at most 4.43 % from anything in it. Durations are whole
nanoseconds here: the bounds are, too, and a duration falls into the same bucket whoever counts it.

Stored as MessagePack, a flat list ``[index, count, gap, count, gap, count, ...]``: of ten buckets 22 bytes, read in
half a microsecond.
"""

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import accumulate
from typing import Final

import msgspec

__all__ = ["HIGHEST", "LOWEST", "Histogram", "bucket_of", "decode", "encode", "histogram_of", "merged", "percentile"]

Histogram = Counter[int]
"""Runs by bucket."""

SCALE: Final = 8  # buckets a doubling: OpenTelemetry's scale 3
LOWEST: Final = -240  # 1 ns is 2 ** -29.9 s
HIGHEST: Final = 239  # 34 years

_ROOM: Final = 256  # for indexes on either side of zero
_UPPER: Final = [math.floor(2 ** ((i + 1) / SCALE) * 1e9) for i in range(LOWEST, HIGHEST)]
_MIDDLE: Final = [2 ** ((i + 0.5) / SCALE) * 1e9 for i in range(LOWEST, HIGHEST + 1)]
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(list[int]).decode


def bucket_of(duration_ns: int) -> int:
    """Zero is in the lowest bucket."""
    return bisect_left(_UPPER, duration_ns) + LOWEST


def histogram_of(durations_ns: Iterable[int]) -> Histogram:
    return Counter(map(bucket_of, durations_ns))


def encode(histogram: Mapping[int, int]) -> bytes:
    flat: list[int] = []
    before = 0
    for index in sorted(histogram):
        flat += (index - before, histogram[index])
        before = index
    return _pack(flat)


def decode(stored: bytes | None, runs: int, min_ns: int, max_ns: int) -> Histogram:
    """A rollup's histogram; of up to two runs none is stored, they are its shortest and its longest. Of one that is
    damaged the runs are taken for its longest: a figure too high is looked into, one that is missing is not."""
    if stored is None and 0 < runs <= 2:
        return histogram_of((min_ns, max_ns)[:runs])
    try:
        flat = _unpack(stored or b"")
        gaps, counts = flat[::2], flat[1::2]
        found = dict(zip(accumulate(gaps), counts, strict=True))
        if sum(counts) == runs and gaps[0] >= LOWEST and sum(gaps) <= HIGHEST and min(gaps[1:], default=1) > 0:
            return Counter(found)
    except (ValueError, IndexError, msgspec.MsgspecError):
        pass
    return Counter({bucket_of(max_ns): runs} if runs else {})


def merged(stored: str, durations_ns: str, runs: int, max_ns: int) -> Histogram:
    """Many rollups' in one: ``stored`` are their histograms in hexadecimal, ``durations_ns`` what rollups without one
    have in its place, both with blanks between. Of what is damaged the runs are taken for the longest.

    A third of :func:`decode`'s time: thousands of them are added up for one answer.
    """
    counts = [0] * (_ROOM + _ROOM)  # indexed from below: a list takes half a dictionary's time
    for text in stored.split():
        try:
            pairs = iter(_unpack(bytes.fromhex(text)))
            index = _ROOM
            for gap, count in zip(pairs, pairs, strict=True):
                index += gap
                counts[index] += count
        except (ValueError, IndexError, msgspec.MsgspecError):
            continue
    found = Counter(
        {index - _ROOM: n for index, n in enumerate(counts) if n > 0 and LOWEST <= index - _ROOM <= HIGHEST}
    )
    found.update(histogram_of(map(int, durations_ns.split())))
    missing = runs - found.total()
    if missing > 0:
        found[bucket_of(max_ns)] += missing
    return found


def percentile(histogram: Mapping[int, int], share: float, min_ns: int, max_ns: int) -> float | None:
    """The duration, in nanoseconds, that ``share`` (0 to 1) of the runs did not exceed; at most 4.43 % off. None of
    no runs. Never outside the shortest and the longest."""
    total = sum(histogram.values())
    if not total:
        return None
    rank, seen = max(1, math.ceil(share * total)), 0
    if rank == total:
        return float(max_ns)
    for index in sorted(histogram):
        seen += histogram[index]
        if seen >= rank:
            return min(max(_MIDDLE[index - LOWEST], float(min_ns)), float(max_ns))
    return float(max_ns)
