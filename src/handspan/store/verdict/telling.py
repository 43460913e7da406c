"""Shifts in words, and where their cause is shown."""

import shlex
from typing import Final

from whenever import Instant

from handspan.store.queries.shapes import instant
from handspan.store.verdict.habit import DAY
from handspan.store.verdict.shapes import Figure, Finding, Known, Rule, Severity
from handspan.store.verdict.shifts import Shift, cost
from handspan.wording import amount, clock, count, option, share, short, took

__all__ = ["Latency", "about", "see_registration", "told"]

GRAVE: Final = 0.5
"""Share of failures, going on, that makes it an alarm."""


class Latency:
    """What the p95 is and was, in nanoseconds."""

    def __init__(self, now_ns: float, habit_ns: float) -> None:
        self.now_ms, self.habit_ms = now_ns / 1e6, habit_ns / 1e6


def see_registration(known: Known, since: Instant, now: Instant) -> str:
    """Of a name that no line has room for, the list."""
    full = f"{known.app_key}.{known.name}"
    if short(full) != full:
        return f"handspan {known.kind}s"
    name = shlex.quote(full)
    return f"handspan {known.kind} {name} --since {option(since, now)}"


def about(
    known: Known, rule: Rule, severity: Severity, since: Instant, words: str, see: str, *,
    until: Instant | None = None, now: Figure | None = None, habit: Figure | None = None, weight: float = 0.0,
) -> Finding:  # fmt: skip
    """A finding about a registration."""
    return Finding(
        rule, severity, known.kind, known.id, known.service, known.app_key, known.instance_index, known.name, None,
        since, until, now, habit, words, see, weight,
    )  # fmt: skip


def told(shift: Shift, now: Instant, latency: Latency | None = None, group: int | None = None) -> Finding:
    """``group`` is the error group most of it belongs to."""
    found = shift.suspect
    known, rule = found.known, found.rule
    since = instant(shift.since)
    until = None if shift.until is None else instant(shift.until)
    severity: Severity = "notice" if until is not None or rule == "slower" else "trouble"
    if rule == "error_rate" and until is None and found.how != "streak" and shift.bad >= GRAVE * shift.runs:
        severity = "alarm" if found.how == "shift" or not found.habit.enough else "notice"
    if latency is not None:
        figures = Figure(latency.now_ms, "ms", shift.runs), Figure(latency.habit_ms, "ms", shift.habit_runs)
    else:
        figures = _share(shift.bad, shift.runs), _share(shift.habit_bad, shift.habit_runs)
    return about(
        known, rule, severity, since, _words(shift, since, until, now, latency),
        see_registration(known, since, now) if group is None else f"handspan error {group}",
        until=until, now=figures[0], habit=figures[1] if shift.habit_runs else None, weight=cost(shift),
    )  # fmt: skip


def _share(bad: int, runs: int) -> Figure:
    return Figure(round(bad / runs, 6) if runs else 0.0, "share", runs)


def _words(shift: Shift, since: Instant, until: Instant | None, now: Instant, latency: Latency | None) -> str:
    found, name = shift.suspect, shift.suspect.known.title
    if found.how == "streak":
        before = "none" if not shift.habit_bad else count(shift.habit_bad)
        return (
            f"{name} failed its last {amount(shift.bad, 'run')}, since {clock(since, now)}; {before} of "
            f"{count(shift.habit_runs)} before."
        )
    if until is None:
        when = f"since {clock(since, now)}"
    else:
        first, last = clock(since, now), clock(until, now)
        same_day = first.partition(" ")[2] == last.partition(" ")[2]
        when = f"from {first.partition(' ')[0] if same_day else first} to {last}"
    return f"{name} {_what(shift, until is not None, when, latency)}{_habit(shift, latency)}{_after(shift, until)}."


def _what(shift: Shift, over: bool, when: str, latency: Latency | None) -> str:
    if latency is not None:
        return f"{'took' if over else 'takes'} {took(latency.now_ms)} (p95) {when}"
    part = f"{share(shift.bad, shift.runs)} of its runs ({count(shift.bad)} of {count(shift.runs)})"
    if shift.suspect.rule == "late":
        return f"{'started' if over else 'starts'} {part} late {when}"
    return f"{'failed' if over else 'fails'} {part} {when}"


def _habit(shift: Shift, latency: Latency | None) -> str:
    if shift.suspect.how == "most" and not shift.suspect.habit.enough:
        return "; there is no habit to compare with yet"
    if shift.suspect.how == "rise":  # no habit: only what ran before it
        bad = count(shift.habit_bad) if shift.habit_bad else "none"
        did = "started late" if shift.suspect.rule == "late" else "failed"
        return f"; of {amount(shift.habit_runs, 'run')} before, {bad} {did}"
    usual = took(latency.habit_ms) if latency is not None else share(shift.habit_bad, shift.habit_runs)
    seconds = max(0.0, shift.since - shift.suspect.habit.since)
    known_for = f"{count(int(seconds / DAY))} d" if seconds >= DAY else took(seconds * 1000)
    return f", {usual} is its habit ({known_for})"


def _after(shift: Shift, until: Instant | None) -> str:
    if until is None or not shift.after_runs or shift.suspect.rule != "error_rate":
        return ""
    return (
        f"; of {amount(shift.after_runs, 'run')} since, {count(shift.after_bad) if shift.after_bad else 'none'} failed"
    )
