"""The verdict: what needs a look, since when, against which habit. The same for command line, API and dashboard.

The rules (``shifts``, ``schedule``, ``recording``) are functions of figures; ``facts`` asks the file for them, and this
puts the two together. docs/verdict.md describes every rule.
"""

import asyncio
from typing import Final

from whenever import Instant

from handspan.clock import instant_from_ns, to_ns
from handspan.store.liveness import abandoned_journals
from handspan.store.queries.sessions import SessionSummary, list_sessions
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService
from handspan.store.verdict import recording, registrations, waiting
from handspan.store.verdict.facts import Facts, Key, Span, gather, rows
from handspan.store.verdict.habit import DAY
from handspan.store.verdict.recording import SILENT, GroupSeen, Happened, Interrupted, Lost
from handspan.store.verdict.shapes import Figure, Finding, Looked, Rule, Severity, Verdict
from handspan.store.verdict.thresholds import Thresholds

__all__ = ["SILENT", "Figure", "Finding", "Looked", "Rule", "Severity", "Thresholds", "Verdict", "verdict"]

LISTED: Final = 50
"""Findings: whoever has more has one cause, and the first fifty show it."""
SESSIONS: Final = 500


async def verdict(db: DatabaseService, now: Instant, thresholds: Thresholds | None = None) -> Verdict:
    """What needs a look. Bounded by hours and registrations, never by runs."""
    thresholds = thresholds or Thresholds()
    now_s = to_ns(now) / 1e9
    span = Span.of(now_s, thresholds)
    facts = await gather(db, span)
    since = instant(float(span.window))
    past = Window(instant(float(span.habit_start)), instant_from_ns(to_ns(now) + 1000))
    sessions = await list_sessions(db, now, past, limit=SESSIONS)
    findings = await registrations.shares(db, span, facts, thresholds, now)
    findings += await waiting.findings(db, span, facts, sessions, thresholds, now)
    findings += await _of_recording(db, span, facts, sessions, findings, now)
    spoken = [
        each
        for each in findings
        if not thresholds.silences(each.rule, facts.known.get((each.kind, each.id)))  # type: ignore[arg-type]  # None is in no key
    ]
    spoken.sort(key=Finding.order)
    kinds = [kind for kind, _ in facts.known]
    return Verdict(
        findings=spoken[:LISTED],
        more=max(0, len(spoken) - LISTED),
        remarks=recording.nobody(sessions, now),
        looked=Looked(
            handlers=kinds.count("handler"),
            jobs=kinds.count("job"),
            runs=sum(sums.runs for sums in facts.sums.values()),
            since=since,
            until=now,
            habit_days=thresholds.habit_days,
            began=_began(facts, sessions, span),
        ),
    )


async def _of_recording(
    db: DatabaseService,
    span: Span,
    facts: Facts,
    sessions: list[SessionSummary],
    before: list[Finding],
    now: Instant,
) -> list[Finding]:
    in_window = [each for each in sessions if each.ended_at is None or _epoch(each.ended_at) >= span.window]
    crashed = [each.id for each in in_window if each.state == "crash"]
    interrupted = []
    if crashed:
        asked = {"sessions": f"[{','.join(map(str, crashed))}]", "since": span.window - DAY}
        for row in await rows(db, "interrupted", span, **asked):
            known = facts.known.get((row["kind"], row["registration_id"]))
            title = known.title if known else f"{row['kind']} {row['registration_id']}"
            interrupted.append(Interrupted(row["session_id"], title, row["runs"]))
    waiting_files = await asyncio.to_thread(abandoned_journals, db.path)
    unread = [each for each in sessions if each.state == "crash" and not each.recovered]
    live = frozenset(each.id for each in sessions if each.state == "live")
    groups = [GroupSeen(**row) for row in await rows(db, "groups", span)]
    told = {(each.kind, each.id) for each in before if each.rule == "error_rate"}
    new_to: dict[Key, bool] = {key: _has_habit(facts, key, span) and key not in told for key in facts.known}
    return [
        *recording.silent_sessions(sessions, now),
        *recording.gone(sessions, instant(float(span.window)), now),
        *recording.crashes(in_window, interrupted, now),
        *recording.journals(len(waiting_files), unread[0].ended_at if unread else None, now),
        *recording.happened([Happened(**row) for row in await rows(db, "happened", span)], live, now),
        *recording.losses([Lost(**row) for row in await rows(db, "lost", span)], now),
        *recording.kinds_of_errors(groups, facts.known, new_to, now),
    ]


def _has_habit(facts: Facts, key: Key, span: Span) -> bool:
    done = facts.habits.get(key)
    return done is not None and done.runs > 0 and span.window - max(done.first, facts.known[key].registered_at) >= DAY


def _began(facts: Facts, sessions: list[SessionSummary], span: Span) -> Instant | None:
    """When the file did, if in the window: no day, session or registration is older."""
    if not sessions or len(sessions) == SESSIONS or facts.habits:
        return None
    if facts.oldest_day is not None and facts.oldest_day < span.day:
        return None
    began = min([*(_epoch(each.started_at) for each in sessions), *(k.registered_at for k in facts.known.values())])
    return instant(began) if began > span.window else None


def _epoch(moment: Instant) -> float:
    return to_ns(moment) / 1e9
