"""Shares of every registration: from sums to suspects, from suspects to findings.

Sums and hours of all are cheap; hours of the habit, minutes and histograms are asked for the few that stand out.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from whenever import Instant

from handspan.store.histogram import Histogram, bucket_of, merged, percentile
from handspan.store.queries.merging import Merged
from handspan.store.queries.runs import Kind
from handspan.store.service import DatabaseService
from handspan.store.verdict.facts import Done, Facts, Hour, Key, Span, Wanted, buckets, hours_of, latencies, rows
from handspan.store.verdict.habit import DAY, HOUR, Habit
from handspan.store.verdict.shapes import Bucket, Finding, Rule
from handspan.store.verdict.shifts import Shift, Suspect, confirmed, suspect, timed
from handspan.store.verdict.telling import Latency, told
from handspan.store.verdict.thresholds import Bar, Thresholds
from handspan.store.verdict.young import edges, mixed, rise

__all__ = ["shares"]

SUSPECTS: Final = 60
"""Looked at by the minute: whoever has more has one cause, and the gravest sixty show it."""
LATENCIES: Final = 500
"""Registrations whose histograms are read: those whose hours grew most, so that ten thousand do not take seconds."""

Series = Mapping[tuple[Kind, int, int], list[Hour]]
Bad = Callable[[Hour], int]
P95: Final = 0.95


@dataclass(frozen=True)
class _Slow:
    """What counts as slow for one registration."""

    above: int
    """Histogram buckets above this one."""
    limit_ns: int
    habit_p95: float

    def __call__(self, hour: Hour) -> int:
        if hour.max_ns <= self.limit_ns:  # most hours: nothing to decode
            return 0
        return self.of(hour.histogram)

    def of(self, histogram: Histogram) -> int:
        return sum(runs for index, runs in histogram.items() if index > self.above)


def _errors(hour: Hour) -> int:
    return hour.errors


def _late(hour: Hour) -> int:
    return hour.late


async def shares(db: DatabaseService, span: Span, facts: Facts, thresholds: Thresholds, now: Instant) -> list[Finding]:
    """Findings of the rules ``error_rate``, ``late`` and ``slower``."""
    failing: list[Key] = [key for key, sums in facts.sums.items() if key in facts.known and (sums.errors or sums.late)]
    grown = _grown(facts, span, thresholds)
    hours = await hours_of(db, span, {*failing, *grown})
    suspects = await asyncio.to_thread(_by_counts, facts, {key: hours[key] for key in failing}, span, thresholds)
    found: list[tuple[Suspect, Bad]] = [(each, _errors if each.rule == "error_rate" else _late) for each in suspects]
    found += await _by_latency(db, span, facts, {key: hours[key] for key in grown}, thresholds)
    found.sort(key=lambda each: -each[0].surprise)
    shifts = await _tried(db, span, found[:SUSPECTS], thresholds)
    shifts += await _rises(db, span, facts, {key: hours[key] for key in failing}, suspects, thresholds)
    groups = await _main_groups(db, span, shifts)
    return [
        told(shift, now, latency, groups.get((shift.suspect.known.kind, shift.suspect.known.id))
             if shift.suspect.rule == "error_rate" else None)
        for shift, latency in shifts
    ]  # fmt: skip


def _by_counts(
    facts: Facts, windows: Mapping[Key, Sequence[Hour]], span: Span, thresholds: Thresholds
) -> list[Suspect]:
    found = []
    for key, hours in windows.items():
        known, done = facts.known[key], facts.habits.get(key)
        for rule, bad, bar in (("error_rate", _errors, thresholds.errors), ("late", _late, thresholds.lateness)):
            if not any(map(bad, hours)):
                continue
            habit = _habit(done, known.registered_at, span, thresholds, bad)
            each = suspect(rule, known, _series(hours, bad), habit, bar)  # type: ignore[arg-type]  # of two rules
            if each is not None:
                found.append(each)
    return found


def _habit(done: Done | None, registered_at: float, span: Span, thresholds: Thresholds, bad: Bad) -> Habit:
    if done is None:
        return Habit(0, 0, span.window, enough=False)
    since = int(max(done.first, min(registered_at, done.last)))
    enough = done.runs >= thresholds.min_runs and span.window - since >= DAY
    return Habit(done.runs, bad(Hour(0, done.runs, done.errors, done.late)), since, enough)


def _series(hours: Sequence[Hour], bad: Bad) -> list[Bucket]:
    return [Bucket(hour.start, hour.runs, bad(hour)) for hour in hours]


# --- latency -----------------------------------------------------------------------------------------------


async def _by_latency(
    db: DatabaseService, span: Span, facts: Facts, windows: Mapping[Key, Sequence[Hour]], thresholds: Thresholds
) -> list[tuple[Suspect, Bad]]:
    """The habit from whole days; of the window only hours whose longest run was slow."""
    usual = await latencies(db, span, windows)
    slow = await asyncio.to_thread(_limits, thresholds, usual)
    suspicious: dict[Wanted, bool] = {
        (*key, HOUR, hour.start, hour.start + HOUR): True
        for key, bad in slow.items()
        for hour in windows[key]
        if hour.max_ns > bad.limit_ns
    }
    if not suspicious:
        return []
    hours = await buckets(db, span, suspicious)
    found: list[tuple[Suspect, Bad]] = []
    for key, bad in slow.items():
        counted = {hour.start: bad(hour) for hour in hours.get((*key, HOUR), ())}
        if not any(counted.values()):
            continue
        known, done = facts.known[key], facts.habits[key]
        habit = _habit(done, known.registered_at, span, thresholds, _errors)
        habit = replace(habit, runs=usual[key].runs, bad=bad.of(usual[key].histogram))
        window = [Bucket(hour.start, hour.runs, counted.get(hour.start, 0)) for hour in windows[key]]
        each = suspect("slower", known, window, habit, thresholds.slowness)
        if each is not None:
            found.append((each, bad))
    return found


def _grown(facts: Facts, span: Span, thresholds: Thresholds) -> list[Key]:
    """Those with a habit and some hour whose average grew, the most first."""
    ranked = []
    for key, sums in facts.sums.items():
        known, done = facts.known.get(key), facts.habits.get(key)
        if known is None or done is None or not _habit(done, known.registered_at, span, thresholds, _errors).enough:
            continue
        growth = sums.peak_ns * done.runs / max(1, done.sum_ns)
        if growth > 1.0:
            ranked.append((growth, key))
    ranked.sort(reverse=True)
    return [key for _, key in ranked[:LATENCIES]]


def _limits(thresholds: Thresholds, habits: Mapping[Key, Merged]) -> dict[Key, _Slow]:
    """What is slow for each."""
    found = {}
    for key, usual in habits.items():
        p95 = percentile(usual.histogram, P95, usual.min_ns, usual.max_ns)
        if p95 is not None:
            limit = round(max(thresholds.slower_factor * p95, p95 + thresholds.slower_ms * 1e6))
            found[key] = _Slow(bucket_of(limit), limit, p95)
    return found


def _p95(hours: Sequence[Hour]) -> float | None:
    """Of all of them together."""
    if not hours:
        return None
    runs, longest = sum(hour.runs for hour in hours), max(hour.max_ns for hour in hours)
    histograms, durations = " ".join(h.histograms for h in hours), " ".join(h.durations for h in hours)
    histogram = merged(histograms, durations, runs, longest)
    return percentile(histogram, P95, min(hour.min_ns for hour in hours), longest)


# --- the trial ---------------------------------------------------------------------------------------------


async def _tried(
    db: DatabaseService, span: Span, found: Sequence[tuple[Suspect, Bad]], thresholds: Thresholds
) -> list[tuple[Shift, Latency | None]]:
    """Against the hours of the habit, then to the minute."""
    wanted: dict[Wanted, bool] = {}
    for each, _ in found:
        hours_wanted = (each.known.kind, each.known.id, HOUR, span.habit_start, int(span.now) + 1)
        wanted[hours_wanted] = wanted.get(hours_wanted, False) or each.rule == "slower"
    if not wanted:
        return []
    series = await buckets(db, span, wanted)
    shifts: list[tuple[Shift, Bad, list[Hour]]] = []
    for each, bad in found:
        hours = series.get((each.known.kind, each.known.id, HOUR), [])
        shift = confirmed(each, _series(hours, bad), min_runs=thresholds.min_runs)
        if shift is not None:
            shifts.append((shift, bad, hours))
    at_edges: dict[Wanted, bool] = {}
    for shift, bad, _ in shifts:
        for hour in (int(shift.since), shift.suspect.end - HOUR):
            edge = (shift.suspect.known.kind, shift.suspect.known.id, 60, hour, hour + HOUR)
            at_edges[edge] = at_edges.get(edge, False) or isinstance(bad, _Slow)
    minutes = await buckets(db, span, at_edges) if at_edges else {}
    return [_to_the_minute(span, minutes, *each) for each in shifts]


def _to_the_minute(
    span: Span, by_minute: Series, shift: Shift, bad: Bad, hours: list[Hour]
) -> tuple[Shift, Latency | None]:
    known = shift.suspect.known
    first, last = int(shift.since), shift.suspect.end - HOUR
    minutes = by_minute.get((known.kind, known.id, 60), [])
    in_first = [minute for minute in minutes if first <= minute.start < first + HOUR]
    in_last = [minute for minute in minutes if last <= minute.start < last + HOUR]
    usual = shift.habit_bad / shift.habit_runs if shift.habit_runs else 0.0
    timed_shift = timed(shift, _series(in_first, bad), _series(in_last, bad), max(usual, 1e-4))
    if not isinstance(bad, _Slow):
        return timed_shift, None
    since, until = timed_shift.since, timed_shift.until or span.now
    inside = [hour for hour in hours if first < hour.start < until and hour.start != last]
    inside += [minute for minute in {m.start: m for m in in_first + in_last}.values() if since <= minute.start < until]
    return timed_shift, Latency(_p95(inside) or 0.0, bad.habit_p95)


async def _rises(
    db: DatabaseService, span: Span, facts: Facts, windows: Mapping[Key, Sequence[Hour]],
    told_already: Sequence[Suspect], thresholds: Thresholds,
) -> list[tuple[Shift, Latency | None]]:  # fmt: skip
    """Of what has no habit and is not suspect as a whole, the worst first."""
    named = {(each.rule, each.known.kind, each.known.id) for each in told_already}
    asked: list[tuple[int, Rule, Key, Bad, Bar, Habit]] = []
    for key, hours in windows.items():
        known, done = facts.known[key], facts.habits.get(key)
        rules: tuple[tuple[Rule, Bad, Bar], ...] = (
            ("error_rate", _errors, thresholds.errors), ("late", _late, thresholds.lateness),
        )  # fmt: skip
        for rule, bad, bar in rules:
            habit, total = _habit(done, known.registered_at, span, thresholds, bad), sum(map(bad, hours))
            if not habit.enough and total >= bar.least and (rule, *key) not in named:
                asked.append((total, rule, key, bad, bar, habit))
    asked = sorted(asked, key=lambda each: -each[0])[:SUSPECTS]
    fine: dict[Wanted, bool] = {
        (*key, 60, hour, hour + HOUR): False
        for _, _, key, bad, _, _ in asked
        for hour in edges(_series(windows[key], bad))
    }
    minutes = await buckets(db, span, fine) if fine else {}
    found: list[tuple[Shift, Latency | None]] = []
    for _, rule, key, bad, bar, habit in asked:
        series = mixed(_series(windows[key], bad), _series(minutes.get((*key, 60), []), bad))
        by_minute = {minute.start // HOUR * HOUR for minute in minutes.get((*key, 60), [])}
        coarse = {hour.start for hour in windows[key]} - by_minute
        shift = rise(rule, facts.known[key], series, coarse, habit, bar)
        if shift is not None:
            found.append((shift, None))
    return found


async def _main_groups(
    db: DatabaseService, span: Span, shifts: Sequence[tuple[Shift, Latency | None]]
) -> dict[Key, int]:
    """The error group that at least half of a registration's failures belong to."""
    failing: dict[Key, int] = {
        (shift.suspect.known.kind, shift.suspect.known.id): shift.bad
        for shift, _ in shifts
        if shift.suspect.rule == "error_rate"
    }
    if not failing:
        return {}
    found: dict[Key, tuple[int, int]] = {}
    for row in await rows(db, "main_groups", span):
        key = (row["kind"], row["registration_id"])
        if key in failing and row["count"] * 2 >= failing[key]:
            found[key] = max(found.get(key, (0, 0)), (row["count"], row["error_group_id"]))
    return {key: number for key, (_, number) in found.items()}
