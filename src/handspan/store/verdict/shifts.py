"""Rules about shares: failed, late, slow. Each compares a registration's window with its own habit.

Four ways to need a look: a *shift* away from the habit; *most* runs bad, where there is no habit or whatever it is; a
*rise* above the runs before in what has no habit yet (``young``); a *streak* of failures of something that runs too
seldom for shares.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from handspan.store.verdict.chance import SURPRISE, Stretch, best_stretch, clears, surprise
from handspan.store.verdict.habit import DAY, HOUR, Habit, Past, against_the_past, last_streak, refined
from handspan.store.verdict.shapes import Bucket, Known, Rule
from handspan.store.verdict.thresholds import Bar

__all__ = ["MOST", "MOST_LEAST", "POSSIBLE", "Shift", "Suspect", "confirmed", "cost", "is_over", "suspect", "timed"]

POSSIBLE: Final = 6.0
"""Nats in the window that make a suspect. Fewer than a finding's: the habit may hold days of the same trouble, and then
only its hours show how much it stands out."""
MOST: Final = 0.5
MOST_LEAST: Final = 5
"""Half of at least so many: what needs no habit to be wrong."""
SELDOM: Final = 5
"""Runs in the window below which shares mean nothing."""
STREAK: Final = 3
SELDOM_STREAK: Final = 2  # of what runs at most four times a day: waiting for the third may take days
STREAK_BEFORE: Final = 5  # runs before it, without which a streak may be all it ever did
STREAK_SHARE: Final = 0.1
OVER: Final = 3.0  # nats: at most one chance in twenty that runs since then went well by luck


@dataclass(frozen=True)
class Suspect:
    """What the window alone says: to be held against the hours of the habit."""

    rule: Rule
    how: Literal["shift", "most", "rise", "streak"]
    known: Known
    habit: Habit
    bar: Bar
    start: int
    """First hour."""
    end: int
    """After its last hour."""
    surprise: float


@dataclass(frozen=True)
class Shift:
    """A suspect that stood its trial, with the moment it began and, if it did, ended."""

    suspect: Suspect
    since: float
    until: float | None
    runs: int
    bad: int
    habit_runs: int
    habit_bad: int
    after_runs: int = 0
    """Since it ended."""
    after_bad: int = 0


def suspect(rule: Rule, known: Known, hours: Sequence[Bucket], habit: Habit, bar: Bar) -> Suspect | None:
    """From the hours of the window, ascending."""
    bad = sum(bucket.bad for bucket in hours)
    if not bad:
        return None
    runs = sum(bucket.runs for bucket in hours)
    if habit.enough and bad >= bar.least:
        stretch = best_stretch(hours, habit.usual)
        if stretch is not None and stretch.surprise >= POSSIBLE and stretch.share >= bar.floor:
            return Suspect(rule, "shift", known, habit, bar, *_hours(hours, stretch), stretch.surprise)
    if rule == "slower":
        return None  # slow without a habit is nobody's to say
    least = bar.least if rule == "error_rate" else MOST_LEAST  # whoever starts is late once or twice
    if runs >= MOST_LEAST and bad >= max(least, MOST * runs):
        stretch = best_stretch(hours, bar.floor)
        if stretch is not None:
            return Suspect(rule, "most", known, habit, bar, *_hours(hours, stretch), stretch.surprise)
    if rule == "error_rate" and runs < SELDOM and bad == runs:
        return Suspect(rule, "streak", known, habit, bar, hours[0].start, hours[-1].start + HOUR, SURPRISE)
    return None


def _hours(hours: Sequence[Bucket], stretch: Stretch) -> tuple[int, int]:
    return hours[stretch.first].start, hours[stretch.last].start + HOUR


def confirmed(found: Suspect, hours: Sequence[Bucket], *, min_runs: int) -> Shift | None:
    """Against habit and window by the hour, ascending. What follows from the window alone stays as it is."""
    habit = found.habit
    if found.how == "streak":
        return _streak(found, hours)
    past = None
    if found.how == "shift":
        past = against_the_past(hours, found.start, found.end, habit, min_runs=min_runs)
        if past is None or not _stands_out(past, found.bar):
            return None
    inside = [bucket for bucket in hours if found.start <= bucket.start < found.end]
    runs, bad = sum(bucket.runs for bucket in inside), sum(bucket.bad for bucket in inside)
    if past is None:
        return _ending(Shift(found, found.start, None, runs, bad, habit.runs, habit.bad), hours)
    return _ending(Shift(found, past.start, None, past.runs, past.bad, past.habit_runs, past.habit_bad), hours)


def _stands_out(past: Past, bar: Bar) -> bool:
    habit = past.habit_bad / past.habit_runs if past.habit_runs else 0.0
    return clears(past.bad, past.runs, past.surprise, habit, bar)


def _streak(found: Suspect, hours: Sequence[Bucket]) -> Shift | None:
    streak = last_streak(hours)
    if streak is None or streak.before < STREAK_BEFORE or streak.bad_before > STREAK_SHARE * streak.before:
        return None
    days = (hours[-1].start - hours[0].start) / DAY
    seldom = streak.before + streak.bad <= SELDOM * max(1.0, days)
    if streak.bad < (SELDOM_STREAK if seldom else STREAK):
        return None
    return Shift(found, streak.start, None, streak.bad, streak.bad, streak.before, streak.bad_before)


def _ending(shift: Shift, hours: Sequence[Bucket]) -> Shift:
    after = [bucket for bucket in hours if bucket.start >= shift.suspect.end]
    runs, bad = sum(bucket.runs for bucket in after), sum(bucket.bad for bucket in after)
    if not is_over(shift.runs, shift.bad, runs, bad):
        return shift
    return replace(shift, until=shift.suspect.end, after_runs=runs, after_bad=bad)


def is_over(runs: int, bad: int, after_runs: int, after_bad: int) -> bool:
    """Whether the runs after a stretch went better than luck explains."""
    runs = max(runs, bad)  # minutes and hours of a file that lost pages need not agree
    good = (runs - bad + 2) / (runs + 2)  # at least this share went well, as far as so few runs can tell
    return surprise(after_runs - after_bad, after_runs, min(good, 1 - 1e-9)) >= OVER


def timed(shift: Shift, first_hour: Sequence[Bucket], last_hour: Sequence[Bucket], usual: float) -> Shift:
    """To the minute, where there are minutes. Either may be empty: then it stays with the hour."""
    runs, bad = sum(bucket.runs for bucket in first_hour), sum(bucket.bad for bucket in first_hour)
    began = refined(first_hour, max(0, shift.runs - runs), max(0, shift.bad - bad), usual)
    if began is not None:
        before = [bucket for bucket in first_hour if bucket.start < began]
        shift = replace(
            shift,
            since=float(began),
            runs=shift.runs - sum(bucket.runs for bucket in before),
            bad=shift.bad - sum(bucket.bad for bucket in before),
        )
    ends = [bucket.start + 60 for bucket in last_hour if bucket.bad]
    if not ends or shift.suspect.how == "streak":
        return shift
    after = [bucket for bucket in last_hour if bucket.start >= ends[-1]]
    runs = sum(bucket.runs for bucket in after)
    held = replace(shift, runs=shift.runs - runs, after_runs=shift.after_runs + runs)
    if shift.until is None and not is_over(held.runs, held.bad, held.after_runs, held.after_bad):
        return shift
    return replace(held, until=float(ends[-1]))


def cost(shift: Shift) -> float:
    """Runs beyond the habit that it took."""
    habit = shift.habit_bad / shift.habit_runs if shift.habit_runs else 0.0
    return max(0.0, shift.bad - habit * shift.runs)
