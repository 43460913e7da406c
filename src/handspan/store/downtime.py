"""What fell due while the process was down: counted when the job is registered again.

The row says when the job was to run next. If that moment is over, nobody who lives holds the job and no run of it is
stored, it did not run, and neither did what was due since. How many that is, the host knows (``due_between``); of an
interval its length tells; else only the one moment that was announced is known, also where the trigger has changed.
"""

import logging
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from handspan.clock import instant_from_ns, to_epoch, to_ns
from handspan.records import DueBetween, Registration, ScheduledJobRegistration, Session
from handspan.serialize import clean_text
from handspan.store.skips import SkipRow, add_skips
from handspan.store.statements import statements

__all__ = ["MOST_MOMENTS", "Downtime", "downtime"]

_SQL: Final = statements("sql/skips.sql")
_log = logging.getLogger("handspan.store")

MOST_MOMENTS: Final = 10_000  # of one job and one downtime; past them an interval's rest is added to the last hour
HOUR: Final = 3600
MILLISECOND: Final = 0.001  # sums of intervals are not exact


@dataclass(frozen=True)
class Downtime:
    """What one job missed while nobody was there, found outside the write lock."""

    job_id: int
    next_run_ts: float
    hours: dict[int, tuple[int, float, float]]
    """Count, first and last, by hour."""

    def still_so(self, conn: sqlite3.Connection) -> bool:
        """Asked in the transaction that registers the job."""
        values = {"id": self.job_id, "next_run_ts": self.next_run_ts}
        return bool(conn.execute(_SQL["still_announced"], values).fetchone()[0])

    def write(self, conn: sqlite3.Connection, session_id: int) -> None:
        rows: Iterator[SkipRow] = (
            (hour, "job", self.job_id, session_id, "down", *found) for hour, found in self.hours.items()
        )
        add_skips(conn, rows)


def downtime(
    conn: sqlite3.Connection, session: Session, registration: Registration, due_between: DueBetween | None
) -> Downtime | None:
    """None if nothing was missed."""
    r = registration
    if not isinstance(r, ScheduledJobRegistration) or r.inferred or r.registered_at is None:
        return None
    until = to_epoch(to_ns(r.registered_at))
    names = {"service_name": session.service_name, "service_namespace": session.service_namespace}
    names |= {"app_key": r.app_key, "job_name": r.job_name}
    values: dict[str, Any] = {name: clean_text(text) for name, text in names.items()}
    values |= {"instance_index": r.instance_index, "registered_at": until}
    found = conn.execute(_SQL["announced"], values).fetchone()
    if found is None:
        return None
    job_id, first, kind, value, repeat, ran = found
    seconds, rest = _seconds(kind, value) if repeat else None, 0
    if due_between is not None:
        same = (kind, value) == (r.trigger_type, _clean(r.trigger_value))
        moments = _asked(due_between, first, until if same else first)
    elif seconds is not None:
        moments, rest = _every(seconds, first, until)
    else:
        moments = [first]
    after = first if ran is None else max(first, ran + MILLISECOND)
    hours = _by_hour(moment for moment in moments if after <= moment <= until)
    if rest and hours:
        count, first_at, _ = hours[max(hours)]
        hours[max(hours)] = count + rest, first_at, until
    return Downtime(job_id, first, hours) if hours else None


def _asked(due_between: DueBetween | None, first: float, until: float) -> list[float]:
    """The host's own code: whatever it does, what was announced is known."""
    if due_between is None:
        return [first]
    try:
        start, end = (instant_from_ns(round(moment * 1e6) * 1000) for moment in (first, until))
        return [to_epoch(to_ns(moment)) for moment in islice(due_between(start, end), MOST_MOMENTS)]
    except Exception:  # noqa: BLE001 - somebody else's trigger
        _log.warning("What a job missed is not known: its trigger could not tell.", exc_info=True)
        return [first]


def _seconds(kind: str | None, value: str | None) -> float | None:
    """Of an interval that says so plainly."""
    with suppress(TypeError, ValueError):
        if kind == "interval" and (seconds := float(value or "")) >= 1e-6:
            return seconds
    return None


def _every(seconds: float, first: float, until: float) -> tuple[list[float], int]:
    """The moments, and how many more there were."""
    count = int((until - first) // seconds) + 1
    return [first + n * seconds for n in range(min(count, MOST_MOMENTS))], max(0, count - MOST_MOMENTS)


def _by_hour(moments: Iterable[float]) -> dict[int, tuple[int, float, float]]:
    hours: dict[int, tuple[int, float, float]] = {}
    for moment in moments:
        hour = int(moment // HOUR) * HOUR
        count, first, last = hours.get(hour, (0, moment, moment))
        hours[hour] = count + 1, min(first, moment), max(last, moment)
    return hours


def _clean(text: str | None) -> str | None:
    return None if text is None else clean_text(text)
