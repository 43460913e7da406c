"""Compares the file with the account, after the next start has had its say.

``lost``: returned to its caller, and neither a row nor in the ledger. ``duplicated``: in the file twice.
``wrong``: the row tells another story than the caller was told. ``unaccounted``: what is missing in the ledger's
equation, rows + running + losses = started, of each session. What the file tells of runs elsewhere (rollups, error
groups, log lines) is ``wrong``, too, where the rows say otherwise. Reads SQLite's file with SQLite and nothing else.
"""

import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from board.account import Account, read_account
from board.told import Told, listen

INTERRUPTED = "ProcessInterrupted"
LONGEST_MS = 3_600_000  # no run of ours takes an hour: a duration beyond came from a clock that was moved
THREADS = 12  # runs of a process that may have begun for handspan and never for their own body


@dataclass
class Expected:
    """What is promised of one process."""

    account: Path
    reason: str | None = "clean_shutdown"
    """Of the session's end; None: whatever."""
    mark: int | None = None
    """Slots used when a signal was sent: what began later the process could not keep, what ended later may stand
    as interrupted."""
    may_lose: int = 0
    """Documented: what of a damaged file cannot be had back."""
    gone_before: int = 0
    """Slots used when the next file had been found: what began before may have gone with the old one."""
    must_run: bool = True
    """Something has to be in the account, or the row proves nothing."""


@dataclass
class Verdict:
    lost: int = 0
    duplicated: int = 0
    unaccounted: int = 0
    wrong: int = 0
    host_errors: int = 0
    runs: int = 0
    stored: int = 0
    ledger: int = 0
    excused: int = 0
    late: int = 0
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        self.problems.append(text)


@dataclass
class Stored:
    """One file's content."""

    rows: dict[int, tuple[int, str, str | None]] = field(default_factory=dict)
    spans: set[int] = field(default_factory=set)
    running: dict[int, int] = field(default_factory=dict)
    sessions: dict[tuple[str, int], tuple[int, str | None]] = field(default_factory=dict)
    losses: Counter[tuple[int, str]] = field(default_factory=Counter)
    duplicated: int = 0
    problems: list[str] = field(default_factory=list)
    told: Told = field(default_factory=Told)


def read_file(path: Path, *, checked: bool = True) -> Stored:
    found = Stored()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as conn:
        if checked:
            (word,) = conn.execute("PRAGMA integrity_check").fetchone()
            found.problems += [] if word == "ok" else [f"integrity_check: {word}"]
            broken = len(conn.execute("PRAGMA foreign_key_check").fetchall())
            found.problems += [f"foreign_key_check: {broken} rows"] if broken else []
        for table in ("handler_invocations", "job_executions"):
            for span, session, status, error, took in conn.execute(
                f"SELECT span_id, session_id, status, error_type, duration_ms FROM {table}"
            ):
                span_id = int.from_bytes(span, "big")
                found.duplicated += span_id in found.rows
                found.rows[span_id] = session, status, error
                if not 0 <= took <= LONGEST_MS and error != INTERRUPTED:  # that one's end is by the wall clock
                    found.problems.append(f"a run of {took:.0f} ms")
        for (span,) in conn.execute("SELECT span_id FROM spans"):
            span_id = int.from_bytes(span, "big")
            found.duplicated += span_id in found.spans
            found.spans.add(span_id)
        for session, span in conn.execute("SELECT session_id, span_id FROM running"):
            found.running[int.from_bytes(span, "big")] = session
        for number, version, pid, reason in conn.execute("SELECT id, service_version, pid, stop_reason FROM sessions"):
            found.sessions[version, pid] = number, reason
        for session, kind, count in conn.execute("SELECT session_id, kind, count FROM losses WHERE stage = 'store'"):
            found.losses[session, kind] += count
        if checked:
            found.told = listen(conn)
    return found


def judge(db: Path, expected: list[Expected], *, gone: list[Path] = ()) -> Verdict:  # type: ignore[assignment]
    """``gone``: files that somebody took away; what they hold went with them, and only that."""
    found, verdict = read_file(db), Verdict()
    verdict.problems += found.problems + found.told.problems
    verdict.wrong = found.told.wrong
    verdict.duplicated = found.duplicated
    taken: set[int] = set()
    for path in gone:
        old = read_file(path, checked=False)
        taken |= set(old.rows) | old.spans | set(old.running)
    accounts = [(each, read_account(each.account)) for each in expected if each.account.exists()]
    for each, account in accounts:
        _judge_one(each, account, found, taken, verdict)
    if len(accounts) < len(expected):
        verdict.problem("a process never began")
    ended = {number for number, reason in found.sessions.values() if reason is not None}
    ghosts = sum(session in ended for session in found.running.values())
    if ghosts:
        verdict.problem(f"{ghosts} runs of ended sessions still count as running")
    verdict.unaccounted += ghosts
    keys = {(account.name, account.pid) for _, account in accounts}
    known = {number for key, (number, _) in found.sessions.items() if key in keys}
    started = {span for _, account in accounts for span in account.started}
    strangers = Counter(  # True: begun for handspan, killed or cancelled on the way to the thread pool or the body
        error == INTERRUPTED or status == "cancelled"
        for span, (session, status, error) in found.rows.items()
        if span not in started and session in known
    )
    if strangers[False] or strangers[True] > THREADS * len(expected):
        verdict.wrong += strangers.total()
        verdict.problem(f"{strangers.total()} rows of runs that nobody ran")
    return verdict


def _judge_one(each: Expected, account: Account, found: Stored, taken: set[int], verdict: Verdict) -> None:
    name = account.name
    session, reason = found.sessions.get((name, account.pid), (None, None))
    late = {span for span, slot in account.started.items() if each.mark is not None and slot >= each.mark}
    late -= set(found.rows)
    verdict.late += len(late)
    started = set(account.started) - late
    excused = {
        span for span, slot in account.started.items()
        if slot < each.gone_before and span in taken and span in started and span not in found.rows
    }  # fmt: skip
    verdict.excused += len(excused)
    verdict.runs += len(started)
    if each.must_run and len(started) < 50:
        verdict.problem(f"{name} ran only {len(started)} times: nothing is shown")
    rows = started & set(found.rows)
    running = {span for span in started - rows if span in found.running}
    losses = sum(found.losses[session, kind] for kind in ("handler", "job")) if session is not None else 0
    verdict.stored += len(rows)
    verdict.ledger += losses
    missing = {span for span in account.returned if span in started} - rows - excused
    children = {span for span, slot in account.children.items() if each.mark is None or slot < each.mark}
    no_child = {
        span for span in children - found.spans if span not in taken or account.children[span] >= each.gone_before
    }
    lost_children = found.losses[session, "span"] if session is not None else 0
    short = max(0, len(missing) - losses) + max(0, len(no_child) - lost_children)
    gap = len(started) - len(rows) - len(running) - len(excused) - losses
    unaccounted = gap if gap > 0 else max(0, -gap - len(late))  # the ledger may know of the late ones
    untold = [span for span in rows & set(account.returned) if found.rows[span][2] == INTERRUPTED]
    if each.may_lose:  # an end that went with a damaged page leaves its beginning, or nothing
        allowed = min(each.may_lose, max(short, unaccounted) + len(untold))
        verdict.excused += allowed
        short, unaccounted = max(0, short - allowed), max(0, unaccounted - allowed)
    if short:
        verdict.problem(f"{name}: {len(missing)} runs and {len(no_child)} child spans of {len(started)} are missing")
    verdict.lost += short
    verdict.unaccounted += unaccounted
    for span, (slot, status) in account.returned.items():
        if span not in rows:
            continue
        _, stands, error = found.rows[span]
        late_end = each.mark is not None and slot >= each.mark
        interrupted = error == INTERRUPTED and (late_end or len(untold) <= each.may_lose)
        if stands != status and not interrupted:
            verdict.wrong += 1
            if verdict.wrong <= 3:
                verdict.problem(f"{name}: {span:016x} returned {status} and stands as {stands} {error or ''}".strip())
    verdict.host_errors += len(account.troubles)
    for text in account.troubles[:3]:
        verdict.problem(f"{name}: in the application's hands: {text[:200]}")
    if each.reason is not None and started and reason != each.reason and not excused:
        verdict.problem(f"{name}: its session ended as {reason}, not {each.reason}")
