"""Rollups from before the week: hours back to 90 days, days back to a year. There are no rows for them any more."""

import math
import random
from collections import Counter
from typing import Final

from benchmarks.house.cast import WEEK, Actor
from benchmarks.house.sessions import Run
from benchmarks.house.totals import DAY, HOUR, Rollups, Total
from handspan.store.histogram import bucket_of

__all__ = ["Year"]

HOURS_KEPT: Final = 90 * DAY
DAYS_KEPT: Final = 365 * DAY
TEMPLATE: Final = 2_000  # durations a registration's shape is taken from


class _Shape:
    """The distribution of one registration's durations, to be had in any number of runs."""

    def __init__(self, actor: Actor) -> None:
        durations = [int(each * actor.median_ns) for each in actor.pool[:TEMPLATE]]
        counts = Counter(map(bucket_of, durations))
        self.shares = [(index, counts[index] / TEMPLATE) for index in sorted(counts)]
        self.mode = max(counts, key=lambda index: counts[index])
        self.mean = sum(durations) / TEMPLATE

    def total(self, actor: Actor, runs: int, chance: random.Random) -> Total:
        histogram: Counter[int] = Counter()
        left = runs
        for index, share in self.shares:
            count = min(left, int(runs * share + chance.random()))
            if count:
                histogram[index] = count
                left -= count
        if left:
            histogram[self.mode] += left
        lowest, highest = (int(2 ** ((index + 0.5) / 8) * 1e9) for index in (min(histogram), max(histogram)))
        if runs <= 2:
            return _few(runs, lowest, highest)
        errors = _about(runs * actor.error_rate, chance)
        errors, cancelled = min(errors, runs), min(_about(runs * actor.cancel_rate, chance), runs - min(errors, runs))
        total = sum(count * int(2 ** ((index + 0.5) / 8) * 1e9) for index, count in histogram.items())
        delay = int(chance.expovariate(1 / 30e6)) if actor.kind == "job" else None
        return Total(
            runs,
            errors,
            cancelled,
            max_delay_ns=delay,
            sum_ns=total,
            min_ns=lowest,
            max_ns=highest,
            histogram=histogram,
        )


class Year:
    """Adds to the rollups what was before ``end - 7 d``."""

    def __init__(self, actors: list[Actor], sessions: list[Run], end: float, rollups: Rollups, seed: int) -> None:
        self._actors, self._sessions, self._end, self._rollups = actors, sessions, end, rollups
        self._chance = random.Random(seed)
        self._shapes = {(actor.kind, actor.id): _Shape(actor) for actor in actors}

    def make(self, days: float) -> None:
        edge = self._end - WEEK
        hour = math.floor((self._end - min(HOURS_KEPT, days * DAY)) / HOUR) * HOUR
        first_day = math.floor((self._end - min(DAYS_KEPT, days * DAY)) / DAY) * DAY
        for start in range(first_day, hour // DAY * DAY, DAY):
            self._bucket(start, start + DAY, self._rollups.days, 0)
        self._bucket(hour // DAY * DAY, hour, self._rollups.days, 0)
        while hour < edge:
            self._bucket(hour, min(hour + HOUR, edge), self._rollups.hours, hour)
            hour += HOUR

    def _bucket(self, since: float, until: float, into: dict[tuple[int, str, int, int], Total], hour: int) -> None:
        for run in self._sessions:
            share = min(until, run.until(self._end)) - max(since, run.started_at)
            if share <= 0:
                continue
            for actor in self._actors:
                if actor.service != run.service:
                    continue
                rhythm = actor.rhythm[hour // HOUR % 24] if hour and actor.kind == "handler" else 1.0
                runs = _about(actor.per_week / WEEK * share * rhythm, self._chance)
                if runs:
                    total = self._shapes[actor.kind, actor.id].total(actor, runs, self._chance)
                    into.setdefault((int(since), actor.kind, actor.id, run.id), Total()).merge(total)


def _few(runs: int, lowest: int, highest: int) -> Total:
    ends = [lowest, highest][:runs]
    total = Total()
    total.add(ends)
    return total


def _about(mean: float, chance: random.Random) -> int:
    if mean > 12:
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    whole = int(mean)
    return whole + (chance.random() < mean - whole)
