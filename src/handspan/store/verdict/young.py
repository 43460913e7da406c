"""Rises in what has no habit yet: the runs of the same file before a stretch have to do.

By the hour good runs and bad ones mix while a file is young (100 good ones, then 78 of 150 failing, all since nine, are
31 %), so the hours in which a rise may begin or end are looked at by the minute.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from handspan.store.verdict.chance import SURPRISE, best_stretch, surprise
from handspan.store.verdict.habit import HOUR, Habit
from handspan.store.verdict.shapes import Bucket, Known, Rule
from handspan.store.verdict.shifts import MOST, MOST_LEAST, POSSIBLE, Shift, Suspect, is_over
from handspan.store.verdict.thresholds import Bar

__all__ = ["edges", "mixed", "rise"]

MINUTE: Final = 60


@dataclass(frozen=True)
class _Cut:
    """Buckets ``first`` to ``last``, and how unlike the others they are."""

    first: int
    last: int
    weight: float


def edges(hours: Sequence[Bucket]) -> set[int]:
    """Which hours to ask for by the minute: three at most."""
    runs, bad = sum(bucket.runs for bucket in hours), sum(bucket.bad for bucket in hours)
    found = best_stretch(hours, bad / runs) if 0 < bad < runs else None
    first, last = (found.first, found.last) if found is not None else (0, len(hours) - 1)
    return {hours[place].start for place in (max(0, first - 1), first, last)}


def mixed(hours: Sequence[Bucket], minutes: Sequence[Bucket]) -> list[Bucket]:
    """Minutes in place of their hours."""
    fine = {minute.start // HOUR * HOUR for minute in minutes}
    return sorted([*(hour for hour in hours if hour.start not in fine), *minutes])


def rise(
    rule: Rule, known: Known, buckets: Sequence[Bucket], coarse: Collection[int], habit: Habit, bar: Bar
) -> Shift | None:
    """From hours and minutes of the window, ascending; ``coarse`` are the starts of those that are hours.

    It speaks if chance is ruled out as for a habit, or if it is half of at least five runs, goes on, and is not likely
    to be chance."""
    cut = _cut(buckets, habit)
    if cut is None:
        return None
    inside, after = buckets[cut.first : cut.last + 1], buckets[cut.last + 1 :]
    runs, bad = sum(bucket.runs for bucket in inside), sum(bucket.bad for bucket in inside)
    runs_before = habit.runs + sum(bucket.runs for bucket in buckets[: cut.first])
    bad_before = habit.bad + sum(bucket.bad for bucket in buckets[: cut.first])
    runs_after, bad_after = sum(bucket.runs for bucket in after), sum(bucket.bad for bucket in after)
    over = is_over(runs, bad, runs_after, bad_after)
    half = runs >= MOST_LEAST and bad >= MOST * runs and not over
    share = bad_before / runs_before if runs_before else 0.0
    if not runs_before or bad < bar.least or bad / runs < max(bar.floor, bar.factor * share):
        return None
    if _apart(bad, runs, bad_before, runs_before) < (POSSIBLE if half else SURPRISE):
        return None
    start, last = inside[0].start, inside[-1].start
    end = last + (HOUR if last in coarse else MINUTE)
    about = Suspect(rule, "rise", known, habit, bar, start, end, cut.weight)
    if not over:
        return Shift(about, start, None, runs, bad, runs_before, bad_before)
    return Shift(about, start, end, runs, bad, runs_before, bad_before, runs_after, bad_after)


def _cut(buckets: Sequence[Bucket], habit: Habit) -> _Cut | None:
    """The best beginning, then the best end for it, then again: one rise is found so in as many steps as there are
    buckets, where all pairs would be their square."""
    places = [place for place, bucket in enumerate(buckets) if bucket.bad]
    if not places:
        return None
    runs, bad = [0], [0]
    for bucket in buckets:
        runs.append(runs[-1] + bucket.runs)
        bad.append(bad[-1] + bucket.bad)
    all_runs, all_bad = habit.runs + runs[-1], habit.bad + bad[-1]

    def weigh(first: int, last: int) -> _Cut:
        inside, failed = runs[last + 1] - runs[first], bad[last + 1] - bad[first]
        return _Cut(first, last, _apart(failed, inside, all_bad - failed, all_runs - inside))

    best = _Cut(places[0], places[-1], 0.0)
    for _ in range(2):
        best = max((weigh(place, best.last) for place in places if place <= best.last), key=_weight)
        best = max((weigh(best.first, place) for place in reversed(places) if place >= best.first), key=_weight)
    return best if best.weight else None


def _weight(cut: _Cut) -> float:
    return cut.weight


def _apart(bad: int, runs: int, other_bad: int, other_runs: int) -> float:
    """Nats by which two shares explain it better than one (Kulldorff's statistic, both sides): unlike ``surprise`` it
    knows that the other share, too, is of a few runs only. 0 where the others fail more."""
    usual = (bad + other_bad) / (runs + other_runs)
    if not other_runs or bad <= usual * runs:
        return 0.0
    return surprise(bad, runs, usual) + surprise(other_runs - other_bad, other_runs, 1 - usual)
