"""What did not happen: skipped runs, jobs past due, registrations that went quiet. Asked and put to the rules."""

import json
from collections.abc import Sequence
from typing import Final

from whenever import Instant

from handspan.clock import to_ns
from handspan.store.queries.schedule import skips_by_registration
from handspan.store.queries.sessions import SessionSummary
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from handspan.store.verdict import schedule
from handspan.store.verdict.facts import Facts, Key, Span, buckets, rows
from handspan.store.verdict.habit import DAY, HOUR
from handspan.store.verdict.recording import SILENT
from handspan.store.verdict.schedule import Due, Lives, Skipped
from handspan.store.verdict.shapes import Finding
from handspan.store.verdict.thresholds import Thresholds

__all__ = ["findings"]

NOT_RUN: Final = ("missed", "down", "overlapped")
DOWN: Final = 4
"""Pauses count while a session lives: one that is down three quarters of the time still has its silences looked at."""
QUIET: Final = 200
"""Registrations whose pauses are counted: the busiest of those that are silent."""


async def findings(
    db: DatabaseService,
    span: Span,
    facts: Facts,
    sessions: Sequence[SessionSummary],
    thresholds: Thresholds,
    now: Instant,
) -> list[Finding]:
    found = await _skipped(db, span, facts, now)
    live = [each for each in sessions if each.state == "live" and _since(each.last_heartbeat_at, span) <= SILENT]
    if not live:
        return found
    late = await _overdue(db, span, facts, live, now)
    named = {(each.kind, each.id) for each in late}
    silent = await _quiet(db, span, facts, sessions, thresholds, now)
    return [*found, *late, *(each for each in silent if (each.kind, each.id) not in named)]


async def _skipped(db: DatabaseService, span: Span, facts: Facts, now: Instant) -> list[Finding]:
    moments = [instant(float(each)) for each in (span.habit_start, span.window)]
    before = await skips_by_registration(db, "job", Window(moments[0], moments[1]))
    found = []
    for number, skips in (await skips_by_registration(db, "job", Window(moments[1], now))).items():
        key: Key = ("job", number)
        known, done = facts.known.get(key), facts.habits.get(key)
        if known is None:
            continue
        usual = {skip.reason: skip.count for skip in before[number]}
        began = max(span.habit_start, min(known.registered_at, done.first if done else span.window))
        for skip in skips:
            if skip.reason not in NOT_RUN:
                continue
            each = Skipped(
                skip.reason, skip.count, _epoch(skip.first_at), _epoch(skip.last_at),
                facts.sums[key].runs if key in facts.sums else 0, usual.get(skip.reason, 0),
                window_days=(span.now - span.window) / DAY, habit_days=max(0.0, (span.window - began) / DAY),
            )  # fmt: skip
            if schedule.is_news(each):
                found.append(schedule.skipped(known, each, now))
    return found


async def _overdue(
    db: DatabaseService, span: Span, facts: Facts, live: Sequence[SessionSummary], now: Instant
) -> list[Finding]:
    found = []
    for row in await rows(db, "due", span, live=json.dumps([each.id for each in live])):
        known = facts.known.get(("job", row["id"]))
        due = Due(row["next_run_ts"], row["last_run"], row["running_since"])
        each = schedule.overdue(known, due, now, span.now) if known else None
        if each is not None:
            found.append(each)
    return found


async def _quiet(
    db: DatabaseService,
    span: Span,
    facts: Facts,
    sessions: Sequence[SessionSummary],
    thresholds: Thresholds,
    now: Instant,
) -> list[Finding]:
    """Silence is looked at only where it is longer than twice the average pause: the longest is no shorter."""
    alive = {
        service: Lives((_epoch(s.started_at), _epoch(s.ended_at or now)) for s in sessions if s.service == service)
        for service in {each.service for each in sessions}
    }
    candidates: list[tuple[int, Key]] = []
    for key, done in facts.habits.items():
        known, sums = facts.known.get(key), facts.sums.get(key)
        if known is None or done.runs < schedule.ACTIVE_HOURS:
            continue
        last = sums.last if sums else done.last
        average = (span.window - max(done.first, span.habit_start)) / done.runs
        if span.now - last > max(HOUR, thresholds.quiet_factor * average / DOWN):
            candidates.append((done.runs, key))
    keys = [key for _, key in sorted(candidates, reverse=True)[:QUIET]]
    if not keys:
        return []
    series = await buckets(db, span, {(*key, HOUR, span.habit_start, int(span.now) + 1): False for key in keys})
    live = json.dumps([each.id for each in sessions if each.state == "live"])
    newest = {
        (row["kind"], row["id"]): span.now if row["running"] else row["last_run"]  # a run of hours is no silence
        for row in await rows(db, "newest", span, wanted=json.dumps(keys), live=live)
    }
    found = []
    for key in keys:
        known, hours = facts.known[key], series.get((*key, HOUR), [])
        last_run = min(newest.get(key) or (hours[-1].start + HOUR if hours else span.now), span.now)
        lives = alive.get(known.service)
        if lives is None:
            continue
        pauses = schedule.longest_pause([(hour.start, hour.runs) for hour in hours], last_run, span.now, lives)
        each = None if pauses is None else schedule.quiet(known, pauses, last_run, now, thresholds.quiet_factor)
        if each is not None:
            found.append(each)
    return found


def _since(moment: Instant, span: Span) -> float:
    return span.now - _epoch(moment)


def _epoch(moment: Instant) -> float:
    return to_ns(moment) / 1e9
