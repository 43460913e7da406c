"""Twenty questions at three in the morning, each put to the command line: one command, and the facts it must hold.

``python -m benchmarks.questions.operator FILE`` asks them as of the file's end, as whole processes, with ``--json``,
and looks for what plain SQL says in what came back. ``-v`` prints the answers as people get them.
"""

import argparse
import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from benchmarks.house.build import facts_of
from benchmarks.questions.case import Case

__all__ = ["TWENTY", "Asked", "answer"]

PATIENCE: Final = 120.0
Facts = Callable[[Case], Sequence[Any]]


@dataclass(frozen=True)
class Asked:
    """A question in words, its command, what has to be in the answer: numbers as they are, texts as parts of texts."""

    question: str
    command: Callable[[Case], Sequence[str]]
    facts: Facts


def _iso(case: Case, epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _sql(case: Case, sql: str) -> list[Any]:
    return [value for row in case.conn.execute(sql, case.values(sql)).fetchall() for value in row]


_LAST_HOUR: Final = """
SELECT count(*) AS n FROM (
    SELECT error_group_id, execution_start_ts FROM handler_invocations WHERE status = 'error'
    UNION ALL SELECT error_group_id, execution_start_ts FROM job_executions WHERE status = 'error')
WHERE execution_start_ts >= :hour_ago GROUP BY error_group_id ORDER BY n DESC LIMIT 3
"""
_DOWN: Final = """
SELECT round((SELECT min(n.started_at) FROM sessions AS n
              WHERE n.service_id = s.service_id AND n.id > s.id) - s.stopped_at)
FROM sessions AS s WHERE s.stop_reason = 'crash' ORDER BY s.started_at DESC LIMIT 2
"""
_FLIGHT: Final = """
SELECT lower(hex(span_id)) FROM handler_invocations
WHERE error_type = 'ProcessInterrupted' AND execution_start_ts > :crash - 60
"""
_TWO_MINUTES: Final = """
SELECT lower(hex(span_id)) FROM handler_invocations
WHERE execution_start_ts >= :storm AND execution_start_ts < :storm + 120 ORDER BY execution_start_ts DESC LIMIT 5
"""
_LOGGED: Final = "SELECT message FROM log_records WHERE trace_id = :trace AND run_span_id = :span"
_SLOWEST: Final = """
SELECT lower(hex(span_id)) FROM (
    SELECT span_id, duration_ms FROM handler_invocations WHERE execution_start_ts >= :day_ago
    UNION ALL SELECT span_id, duration_ms FROM job_executions WHERE execution_start_ts >= :day_ago)
ORDER BY duration_ms DESC LIMIT 3
"""
_SET_OFF: Final = """
SELECT lower(hex(trace_id)) FROM handler_invocations WHERE link_trace_id = :cause AND link_span_id = :cause_span LIMIT 1
"""
_LOST: Final = "SELECT sum(count) FROM losses WHERE hour >= :week_ago - 3599 AND reason = 'queue_full' GROUP BY kind"
_REFUSED: Final = """
SELECT count FROM skips
WHERE kind = 'handler' AND registration_id = 2 AND reason = 'predicate' ORDER BY hour DESC LIMIT 1
"""
_LATE: Final = """
SELECT sum(e.execution_start_ts - e.scheduled_ts > 5) FROM job_executions AS e
WHERE e.execution_start_ts >= :day_ago GROUP BY e.job_id HAVING sum(e.execution_start_ts - e.scheduled_ts > 5) > 0
"""
_APP: Final = """
SELECT count(*) FROM handler_invocations WHERE execution_start_ts >= :day_ago
  AND listener_id IN (SELECT id FROM listeners WHERE app_key = 'lights') GROUP BY listener_id
"""
_BACKUP: Final = """
SELECT lower(hex(span_id)) FROM job_executions
WHERE job_id = (SELECT id FROM scheduled_jobs WHERE job_name = 'nightly') ORDER BY execution_start_ts DESC LIMIT 1
"""
_REGRESSED: Final = "SELECT id FROM error_groups WHERE regressed_at IS NOT NULL ORDER BY last_seen_at DESC LIMIT 1"
_STORM: Final = """
SELECT count(*) FROM handler_invocations WHERE error_type = 'ConnectionError'
  AND execution_start_ts >= :storm AND execution_start_ts < :storm + 600 GROUP BY listener_id ORDER BY 1 DESC LIMIT 3
"""
_STUCK: Final = "SELECT lower(hex(span_id)) FROM running"


def _between(case: Case, since: float, seconds: float) -> list[str]:
    return ["--since", _iso(case, since), "--until", _iso(case, since + seconds)]


TWENTY: Final = (
    Asked(
        "Is anything wrong right now?", lambda c: ["status"], lambda c: ["on_message", "read_meter", "on_temperature"]
    ),
    Asked(
        "What failed in the last hour, and how often?",
        lambda c: ["errors", "--since", "1h"],
        lambda c: _sql(c, _LAST_HOUR),
    ),
    Asked(
        "Since when does notify.on_message fail so often?",
        lambda c: ["handler", "notify.on_message", "--since", "24h"],
        lambda c: ["RateLimitError"],
    ),
    Asked(
        "What does that failure say, and where in the code is it?",
        lambda c: ["error", str(c.failed["group"])],
        lambda c: ["apps/notify.py", "push" if c.failed["group"] else ""],
    ),
    Asked("Is anything not running that should?", lambda c: ["jobs"], lambda c: ["read_meter"]),
    Asked("Which job missed its time, or was late?", lambda c: ["jobs", "--since", "24h"], lambda c: _sql(c, _LATE)),
    Asked(
        "Which handler got slower with yesterday's deploy?",
        lambda c: ["compare", "2026.5.1", "2026.6.0"],
        lambda c: ["on_temperature"],
    ),
    Asked(
        "What ran between ten and twelve past?",
        lambda c: ["runs", *_between(c, c.storm, 120)],
        lambda c: _sql(c, _TWO_MINUTES),
    ),
    Asked(
        "What was running when it crashed?",
        lambda c: ["running", "--at", _iso(c, c.crash - 0.001)],
        lambda c: _sql(c, _FLIGHT),
    ),
    Asked(
        "Why did the lights not react?",
        lambda c: ["skips", "--since", "24h"],
        lambda c: _sql(c, _REFUSED),
    ),
    Asked("What was logged by the run that failed?", lambda c: ["run", c.failed["trace"]], lambda c: _sql(c, _LOGGED)),
    Asked("How long was it down?", lambda c: ["sessions", "--since", "7d"], lambda c: _sql(c, _DOWN)),
    Asked("Did we lose anything?", lambda c: ["losses"], lambda c: _sql(c, _LOST)),
    Asked(
        "What triggered this run, and what did it set off?",
        lambda c: ["run", c.cause["trace"]],
        lambda c: _sql(c, _SET_OFF),
    ),
    Asked("What took longest today?", lambda c: ["slow", "--since", "24h"], lambda c: _sql(c, _SLOWEST)),
    Asked("What hangs right now?", lambda c: ["running"], lambda c: _sql(c, _STUCK)),
    Asked(
        "What broke together that evening?",
        lambda c: ["errors", *_between(c, c.storm, 600)],
        lambda c: _sql(c, _STORM),
    ),
    Asked(
        "Did last night's backup run?", lambda c: ["job", "backup.nightly", "--since", "7d"], lambda c: _sql(c, _BACKUP)
    ),
    Asked(
        "How are the lights doing?",
        lambda c: ["handlers", "--app", "lights", "--since", "24h"],
        lambda c: _sql(c, _APP),
    ),
    Asked(
        "Did what we mended come back?",
        lambda c: ["errors", "--since", "7d"],
        lambda c: [*_sql(c, _REGRESSED), "regressed"],
    ),
)


def answer(path: Path, arguments: Sequence[str], *, as_json: bool = True) -> tuple[int, str, str, float]:
    """Exit code, what it printed, what it complained of, milliseconds from the shell to the prompt."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HANDSPAN_", "OTEL_"))}
    command = [
        sys.executable,
        "-m",
        "benchmarks.questions.at_end",
        str(path),
        *arguments,
        *(["--json"] if as_json else []),
    ]
    started = time.perf_counter()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    return done.returncode, done.stdout, done.stderr.strip(), (time.perf_counter() - started) * 1000


def missing(printed: str, facts: Sequence[Any]) -> list[Any]:
    """Which of them are nowhere in the document."""
    values = list(_leaves(json.loads(printed)))
    numbers = {value for value in values if isinstance(value, int | float) and not isinstance(value, bool)}
    texts = [value for value in values if isinstance(value, str)]
    return [
        fact
        for fact in facts
        if (fact not in numbers if isinstance(fact, int | float) else not any(fact in text for text in texts))
    ]


def _leaves(document: Any) -> Iterator[Any]:
    if isinstance(document, dict):
        for each in document.values():
            yield from _leaves(each)
    elif isinstance(document, list):
        for each in document:
            yield from _leaves(each)
    else:
        yield document


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.questions.operator", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("-v", "--verbose", action="store_true", help="print the answers, too")
    chosen = parser.parse_args()
    failed = 0
    with closing(sqlite3.connect(f"file:{chosen.file}?mode=ro", uri=True)) as conn:
        conn.row_factory = sqlite3.Row
        case = Case(conn, facts_of(chosen.file))
        for number, asked in enumerate(TWENTY, 1):
            arguments = [*asked.command(case)]
            code, printed, complaint, ms = answer(chosen.file, arguments)
            facts = asked.facts(case)
            absent = missing(printed, facts) if printed.strip() and code in (0, 1) else list(facts)
            said = complaint.splitlines()[-1] if complaint else f"not in the answer: {absent}" if absent else "answered"
            failed += bool(absent or complaint)
            print(f"{number:2} {asked.question:58} {ms:6.0f} ms  {said[:150]}")
            print(f"   handspan {' '.join(arguments)}")
            if chosen.verbose:
                print(answer(chosen.file, arguments, as_json=False)[1])
    print(f"{len(TWENTY) - failed} of {len(TWENTY)} answered by one command.")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
