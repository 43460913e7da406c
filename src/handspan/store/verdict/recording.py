"""Rules about recording itself: crashes, losses, a session that writes nothing, journals, damage, kinds of errors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from whenever import Instant

from handspan.clock import to_ns
from handspan.store.queries.runs import Kind
from handspan.store.queries.sessions import SessionSummary
from handspan.store.queries.shapes import instant
from handspan.store.verdict.shapes import Figure, Finding, Known, Rule, Severity
from handspan.store.verdict.telling import about
from handspan.wording import amount, clock, count, one_line, option, short, took

__all__ = [
    "SILENT",
    "GroupSeen",
    "Happened",
    "Interrupted",
    "Lost",
    "crashes",
    "gone",
    "happened",
    "journals",
    "kinds_of_errors",
    "losses",
    "nobody",
    "silent_sessions",
]

SILENT: Final = 75.0
"""Seconds: two heartbeats, and a commit that takes its time."""
LOOP: Final = 3
"""Crashes of one service that are an alarm."""
NEW_LEAST: Final = 5
"""Failures of a new kind: fewer are a message that had something in it which is different each time."""
LONGEST: Final = 60  # characters of somebody else's message in a sentence
NAMED: Final = 3


@dataclass(frozen=True)
class Interrupted:
    """What a crash cut off: runs by registration."""

    session_id: int
    title: str
    runs: int


@dataclass(frozen=True)
class Lost:
    """Records that one stage lost for one reason."""

    stage: str
    reason: str
    count: int
    since: float
    last: float
    habit: int
    """In the habit's time."""


@dataclass(frozen=True)
class Happened:
    """An incident of the window, or one that has not ended."""

    id: int
    session_id: int
    service: str
    kind: str
    started_at: float
    ended_at: float | None
    detail: str
    count: int | None


@dataclass(frozen=True)
class GroupSeen:
    """An error group that is new, or is back."""

    id: int
    kind: Kind
    registration_id: int
    error_type: str
    message: str
    count: int
    first_seen_at: float
    last_seen_at: float
    regressed_at: float | None


def crashes(sessions: Sequence[SessionSummary], interrupted: Sequence[Interrupted], now: Instant) -> list[Finding]:
    """One finding per service: a process that crashes all night is one thing to look at. ``sessions`` are those of the
    window, newest first."""
    findings = []
    for service in dict.fromkeys(each.service for each in sessions):
        of_service = [each for each in sessions if each.service == service]
        crashed = [each for each in of_service if each.state == "crash"]
        ends = [each.ended_at for each in crashed if each.ended_at is not None]
        if not ends:
            continue
        newest, oldest = ends[0], ends[-1]
        numbers = {each.id for each in crashed}
        cut = [each for each in interrupted if each.session_id in numbers]
        when = f"at {clock(newest, now)}"
        if len(ends) > 1:
            when = f"{count(len(ends))} times since {clock(oldest, now)}, the last {when}"
        lives = any(each.state == "live" for each in of_service)
        after = "" if of_service[0].state != "crash" else "; it has not recorded since"
        findings.append(
            _recording(
                "crash", "alarm" if len(ends) >= LOOP or after else "trouble", oldest,
                f"{short(service)} crashed {when}{_cut(cut)}{after}.",
                f"handspan sessions --since {option(oldest, now)}", service=service, session_id=crashed[0].id,
                until=newest if lives else None, now=Figure(len(ends), "sessions"),
                weight=float(sum(each.runs for each in cut) + len(ends)),
            )
        )  # fmt: skip
    return findings


def gone(sessions: Sequence[SessionSummary], window: Instant, now: Instant) -> list[Finding]:
    """Services whose newest session crashed before the window: nobody noticed. A crash inside it is told as one."""
    findings = []
    for service in dict.fromkeys(each.service for each in sessions):
        newest = next(each for each in sessions if each.service == service)
        if newest.state == "crash" and newest.ended_at is not None and newest.ended_at < window:
            since = newest.ended_at
            words = f"{short(service)} has recorded nothing since it crashed at {clock(since, now)}."
            see = f"handspan sessions --since {option(since, now)}"
            findings.append(
                _recording("not_recording", "alarm", since, words, see, service=service, session_id=newest.id)
            )
    return findings


def _cut(cut: Sequence[Interrupted]) -> str:
    runs = sum(each.runs for each in cut)
    if not runs:
        return ""
    titles = list(dict.fromkeys(each.title for each in cut))
    names = ", ".join(titles[:NAMED]) + (f" and {count(len(titles) - NAMED)} more" if len(titles) > NAMED else "")
    return f" and interrupted {amount(runs, 'run')} ({names})"


def losses(lost: Sequence[Lost], now: Instant) -> list[Finding]:
    """One finding per stage."""
    findings = []
    for stage in dict.fromkeys(each.stage for each in lost):
        of_stage = [each for each in lost if each.stage == stage]
        total = sum(each.count for each in of_stage)
        worst = max(of_stage, key=lambda each: each.count)
        since = instant(min(each.since for each in of_stage))
        where = "did not reach the store" if stage == "store" else f"did not reach {short(stage)}"
        reasons = "" if len(of_stage) == 1 else "most "
        habit = sum(each.habit for each in of_stage)
        findings.append(
            _recording(
                "losses", "trouble", since,
                f"{amount(total, 'record')} {where} since {clock(since, now)}, {reasons}for {short(worst.reason)}.",
                f"handspan losses --since {option(since, now)}",
                until=instant(max(each.last for each in of_stage) + 3600),
                now=Figure(total, "records"), habit=Figure(habit, "records"), weight=float(total),
            )
        )  # fmt: skip
    return findings


def silent_sessions(sessions: Sequence[SessionSummary], now: Instant) -> list[Finding]:
    """Sessions that live and write nothing."""
    findings = []
    for session in sessions:
        silent = (to_ns(now) - to_ns(session.last_heartbeat_at)) / 1e9
        if session.state == "live" and silent > SILENT:
            since = session.last_heartbeat_at
            words = (
                f"{short(session.service)} lives and has written nothing for {took(silent * 1000)}, since "
                f"{clock(since, now)}: its database is locked or its disk full. Its log says why."
            )
            findings.append(
                _recording(
                    "not_recording", "alarm", since, words, "handspan db check", service=session.service,
                    session_id=session.id, now=Figure(silent, "seconds"),
                )
            )  # fmt: skip
    return findings


def journals(waiting: int, crashed_at: Instant | None, now: Instant) -> list[Finding]:
    """What dead processes wrote and nobody has read back."""
    if not waiting:
        return []
    since = crashed_at or now
    whose = (
        "A process that died left its journal"
        if waiting == 1
        else f"Processes that died left {count(waiting)} files of journal"
    )
    verb = "it waits" if waiting == 1 else "they wait"
    words = f"{whose}: {verb} to be read back, and what it did last is not in these figures."
    return [_recording("journal", "trouble", since, words, "handspan db recover", now=Figure(waiting, "records"))]


def happened(found: Sequence[Happened], live: frozenset[int], now: Instant) -> list[Finding]:
    findings = []
    for each in found:
        since = instant(each.started_at)
        until = None if each.ended_at is None else instant(each.ended_at)
        when = clock(since, now)
        service, detail = short(each.service), one_line(each.detail)[:LONGEST]
        ongoing = each.ended_at is None and each.session_id in live
        rule: Rule
        severity: Severity = "alarm" if ongoing else "notice"
        if each.kind == "journal_suspended" and ongoing:
            rule, words = (
                "journal",
                f"{service} cannot write its journal since {when} ({detail}): a kill -9 would lose runs.",
            )
        elif each.kind == "database_unavailable" and ongoing:
            rule, words = "not_recording", f"{service} cannot write its database since {when} ({detail})."
        elif each.kind == "corrupt_database":
            rule, severity = "damage", "trouble"
            words = f"The database was damaged at {when}; it was set aside and a new one begun."
        elif each.kind == "database_replaced":
            rule, severity = "damage", "trouble"
            words = f"The database was deleted or replaced at {when}, while it was recorded into."
        elif each.kind == "journal_damaged":
            rule, words = "damage", f"A journal of {service} had entries that could not be read, found at {when}."
        else:
            continue
        findings.append(
            _recording(
                rule, severity, since, words, f"handspan incidents --since {option(since, now)}", until=until,
                service=each.service, session_id=each.session_id, weight=float(each.count or 0),
            )
        )  # fmt: skip
    return findings


def kinds_of_errors(
    seen: Sequence[GroupSeen],
    known: Mapping[tuple[Kind, int], Known],
    new_to: Mapping[tuple[Kind, int], bool],
    now: Instant,
) -> list[Finding]:
    """Errors that came back after somebody said they were mended, and new kinds where there is a habit (``new_to``)."""
    findings = []
    for each in seen:
        key = (each.kind, each.registration_id)
        of = known.get(key)
        if of is None:
            continue
        what = f"{short(each.error_type)} of {of.title}"
        message = one_line(each.message)
        said = f" ({message[:LONGEST]}{'...' * (len(message) > LONGEST)})" if message else ""
        see = f"handspan error {each.id}"
        if each.regressed_at is not None:
            since = instant(each.regressed_at)
            words = f"{what} is back since {clock(since, now)}, after it was resolved{said}."
            findings.append(about(of, "regressed", "trouble", since, words, see))
        elif each.count >= NEW_LEAST and new_to.get(key):
            since = instant(each.first_seen_at)
            words = f"{what} is new since {clock(since, now)}: {amount(each.count, 'time')}{said}."
            findings.append(
                about(of, "new_error", "notice", since, words, see, now=Figure(each.count, "runs"), weight=each.count)
            )
    return findings


def nobody(sessions: Sequence[SessionSummary], now: Instant) -> list[str]:
    """That nothing records, where it was meant to stop; a crash is a finding."""
    if not sessions or any(session.state == "live" for session in sessions):
        return []
    last = sessions[0]
    if last.state == "crash" or last.ended_at is None:
        return []
    ended = "ended" if last.state == "clean_shutdown" else "gave its last sign of life"
    return [f"Nothing is recording: {short(last.service)} {ended} at {clock(last.ended_at, now)}."]


def _recording(
    rule: Rule, severity: Severity, since: Instant, words: str, see: str, *, until: Instant | None = None,
    service: str | None = None, session_id: int | None = None, now: Figure | None = None, habit: Figure | None = None,
    weight: float = 0.0,
) -> Finding:  # fmt: skip
    return Finding(
        rule, severity, None, None, service, None, None, None, session_id, since, until, now, habit, words, see, weight
    )
