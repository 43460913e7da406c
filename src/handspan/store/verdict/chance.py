"""Trouble or chance: which stretch of buckets stands out most from what is usual, and how much.

A stretch is weighed by the likelihood ratio of a scan statistic (Kulldorff 1997): runs times the Kullback-Leibler
divergence of the stretch's share from the usual one. By Chernoff's bound ``exp(-surprise)`` is at least the probability
of so many bad runs among so many by chance, so 1 of 3 is nothing, and 5 of 5 are much.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from handspan.store.verdict.shapes import Bucket
from handspan.store.verdict.thresholds import CHANCE, Bar

__all__ = ["SURPRISE", "Stretch", "best_stretch", "clears", "surprise", "usual_share"]

SURPRISE: Final = -math.log(CHANCE)
_Z: Final = 1.96  # the upper end of a 95 % interval


@dataclass(frozen=True)
class Stretch:
    """Buckets ``first`` to ``last`` of a series."""

    first: int
    last: int
    runs: int
    bad: int
    surprise: float

    @property
    def share(self) -> float:
        return self.bad / self.runs if self.runs else 0.0


def surprise(bad: int, runs: int, usual: float) -> float:
    """In nats; 0 where there is no more than usual."""
    if not runs or bad <= usual * runs:
        return 0.0
    share = bad / runs
    good = (1 - share) * math.log((1 - share) / (1 - usual)) if bad < runs else 0.0
    return runs * (share * math.log(share / usual) + good)


def usual_share(bad: int, runs: int) -> float:
    """The most that the habit may be (Wilson's upper bound): none of 20 may still be 16 %, none of 10,000 0.04 %."""
    if not runs:
        return 1.0
    square = _Z * _Z
    share = bad / runs
    centre = share + square / (2 * runs)
    margin = _Z * math.sqrt(share * (1 - share) / runs + square / (4 * runs * runs))
    return min((centre + margin) / (1 + square / runs), 1 - 1e-9)


def best_stretch(buckets: Sequence[Bucket], usual: float) -> Stretch | None:
    """The stretch that surprises most. It begins and ends with a bucket that has something bad."""
    runs_before, bad_before = [0], [0]
    for bucket in buckets:
        runs_before.append(runs_before[-1] + bucket.runs)
        bad_before.append(bad_before[-1] + bucket.bad)
    ends = [i for i, bucket in enumerate(buckets) if bucket.bad]
    best: Stretch | None = None
    for place, first in enumerate(ends):
        for last in ends[place:]:
            runs = runs_before[last + 1] - runs_before[first]
            bad = bad_before[last + 1] - bad_before[first]
            if bad <= usual * runs:
                continue
            found = surprise(bad, runs, usual)
            if best is None or found > best.surprise:
                best = Stretch(first, last, runs, bad, found)
    return best


def clears(bad: int, runs: int, surprising: float, habit: float, bar: Bar) -> bool:
    """Whether it is neither chance nor too small to speak of."""
    share = bad / runs if runs else 0.0
    return surprising >= SURPRISE and bad >= bar.least and share >= bar.floor and share >= bar.factor * habit
