"""Whether a stretch that stands out also stands out from its own past, and when it really began.

The habit as a whole hides two things: what happens every night (a slow batch at three, a link that drops for five
minutes) and trouble that is older than the window. Both show in the hours.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from handspan.store.verdict.chance import best_stretch, surprise, usual_share
from handspan.store.verdict.shapes import Bucket

__all__ = ["DAY", "HOUR", "Habit", "Past", "Streak", "against_the_past", "last_streak", "refined"]

HOUR: Final = 3600
DAY: Final = 86_400
ALIKE: Final = 0.5
"""A day of the habit is like this one if its worst stretch surprises half as much."""
USUAL_DAYS: Final = 2
"""On how many such days it is the habit: one may be the last time it broke."""


@dataclass(frozen=True)
class Habit:
    """What a registration did before the window."""

    runs: int
    bad: int
    since: int
    """Epoch seconds of its first bucket."""
    enough: bool
    """Runs and time enough to be one."""

    @property
    def share(self) -> float:
        return self.bad / self.runs if self.runs else 0.0

    @property
    def usual(self) -> float:
        return usual_share(self.bad, self.runs)


@dataclass(frozen=True)
class Past:
    """A stretch as it looks beside its past: begun perhaps before the window."""

    start: int
    runs: int
    bad: int
    habit_runs: int
    habit_bad: int
    surprise: float


@dataclass(frozen=True)
class Streak:
    """Failures in a row, up to the newest run."""

    start: int
    bad: int
    before: int
    """Runs before it, as far back as was looked."""
    bad_before: int


def against_the_past(hours: Sequence[Bucket], start: int, end: int, habit: Habit, *, min_runs: int) -> Past | None:
    """``hours`` are habit and window, ascending; the stretch goes from ``start`` to before ``end``. None if the
    registration is often like that."""
    starts = [bucket.start for bucket in hours]
    first, after = bisect_left(starts, start), bisect_left(starts, end)
    runs = sum(bucket.runs for bucket in hours[first:after])
    bad = sum(bucket.bad for bucket in hours[first:after])
    total_runs = sum(bucket.runs for bucket in hours[:first])
    total_bad = sum(bucket.bad for bucket in hours[:first])
    found = (surprise(bad, runs, habit.usual), first, runs, bad, total_runs, total_bad)
    for i in range(first - 1, -1, -1):
        runs, bad = runs + hours[i].runs, bad + hours[i].bad
        total_runs, total_bad = total_runs - hours[i].runs, total_bad - hours[i].bad
        if total_runs < min_runs or hours[i].start - hours[0].start < DAY:
            break
        if hours[i].bad:
            found = max(
                found, (surprise(bad, runs, usual_share(total_bad, total_runs)), i, runs, bad, total_runs, total_bad)
            )
    weight, first, runs, bad, total_runs, total_bad = found
    if not total_runs:  # nothing is left of it by the hour: the sums of its days have to do
        return Past(start, runs, bad, habit.runs, habit.bad, weight)
    usual = usual_share(total_bad, total_runs)
    alike = 0
    end = hours[first].start if first < len(hours) else start
    while end > hours[0].start:
        lower, upper = bisect_left(starts, end - DAY), bisect_left(starts, end)
        worst = best_stretch(hours[lower:upper], usual)
        alike += worst is not None and worst.surprise >= ALIKE * weight
        end -= DAY
    if alike >= USUAL_DAYS:
        return None
    return Past(hours[first].start if first < len(hours) else start, runs, bad, total_runs, total_bad, weight)


def last_streak(hours: Sequence[Bucket]) -> Streak | None:
    """Hours in which every run failed, up to the last that had any."""
    bad, start, place = 0, 0, len(hours)
    for place in range(len(hours) - 1, -1, -1):
        if hours[place].bad < hours[place].runs:
            break
        bad, start = bad + hours[place].bad, hours[place].start
    else:
        place = -1
    if not bad:
        return None
    return Streak(
        start, bad, sum(bucket.runs for bucket in hours[: place + 1]), sum(bucket.bad for bucket in hours[: place + 1])
    )


def refined(buckets: Sequence[Bucket], rest_runs: int, rest_bad: int, usual: float) -> int | None:
    """The minute it began: the start that makes the whole stretch stand out most. ``rest`` comes after these."""
    found: tuple[float, int] | None = None
    runs, bad = rest_runs, rest_bad
    for bucket in reversed(buckets):
        runs, bad = runs + bucket.runs, bad + bucket.bad
        if bucket.bad:
            here = (surprise(bad, runs, usual), bucket.start)
            found = here if found is None or here[0] >= found[0] else found
    return None if found is None else found[1]
