"""The file a question is put to, and what a question consists of."""

import re
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from whenever import Instant

from benchmarks.house.build import Facts
from benchmarks.house.cast import BEGAN_TO_FAIL, GOT_SLOWER, STOPPED
from benchmarks.house.sessions import CRASH, STORM_BEGAN
from handspan.clock import instant_from_ns
from handspan.store.queries.shapes import Window
from handspan.store.service import DatabaseService

__all__ = ["HOUR", "Case", "Plain", "Question"]

HOUR: Final = 3_600.0
DAY: Final = 86_400.0


class Case:
    """One file: its moments, and rows to ask about."""

    def __init__(self, conn: sqlite3.Connection, facts: Facts) -> None:
        self.conn, self.facts = conn, facts
        self.end = facts.end
        self.now: Instant = self.at(facts.end)
        self.busiest = 1  # energy.on_power
        self.failing, self.slower = self._listener(BEGAN_TO_FAIL), self._listener(GOT_SLOWER)
        self.stopped = self._one("SELECT id FROM scheduled_jobs WHERE app_key || '.' || job_name = ?", STOPPED)[0]
        self.failed = self._one(
            'SELECT id, lower(hex(trace_id)) AS trace, lower(hex(span_id)) AS span, error_group_id AS "group"'
            " FROM handler_invocations WHERE listener_id = ? AND status = 'error' ORDER BY execution_start_ts DESC",
            self.failing,
        )
        self.older_session = self._one(
            "SELECT id FROM sessions WHERE stop_reason = 'clean_shutdown' ORDER BY started_at DESC LIMIT 1"
        )[0]
        self.cause = self._one(  # a run that set others off
            "SELECT lower(hex(link_trace_id)) AS trace, lower(hex(link_span_id)) AS span FROM handler_invocations"
            " WHERE link_trace_id IS NOT NULL AND execution_start_ts > ? LIMIT 1",
            self.end - DAY,
        )

    def at(self, epoch: float) -> Instant:
        return instant_from_ns(round(epoch * 1e6) * 1000)

    def last(self, seconds: float) -> Window:
        """As ``--since 24h`` means it: not on a minute's edge, and open at its end."""
        return Window(self.at(self.end - seconds))

    def between(self, since: float, until: float) -> Window:
        """Seconds before the end."""
        return Window(self.at(self.end - since), self.at(self.end - until))

    @property
    def hour(self) -> Window:
        return self.last(HOUR)

    @property
    def day(self) -> Window:
        return self.last(DAY)

    @property
    def week(self) -> Window:
        return self.last(7 * DAY)

    @property
    def storm(self) -> float:
        return self.end - STORM_BEGAN + 300

    @property
    def crash(self) -> float:
        return self.end - CRASH

    def values(self, sql: str) -> dict[str, Any]:
        """What the parameters in a piece of plain SQL stand for."""
        known = {
            "hour_ago": self.end - HOUR, "day_ago": self.end - DAY, "week_ago": self.end - 7 * DAY,
            "month_ago": self.end - 30 * DAY, "now": self.end, "storm": self.storm, "crash": self.crash,
            "busiest": self.busiest, "failing": self.failing, "slower": self.slower, "stopped": self.stopped,
            "trace": bytes.fromhex(self.failed["trace"]), "cause": bytes.fromhex(self.cause["trace"]),
            "cause_span": bytes.fromhex(self.cause["span"]), "group": self.failed["group"],
            "span": bytes.fromhex(self.failed["span"]), "older_session": self.older_session,
            "before_crash": self.crash - 1,
        }  # fmt: skip
        return {name: value for name, value in known.items() if re.search(rf":{name}\b", sql)}

    def _listener(self, full_name: str) -> int:
        sql = "SELECT id FROM listeners WHERE app_key || '.' || name = ? ORDER BY instance_index LIMIT 1"
        return int(self._one(sql, full_name)[0])

    def _one(self, sql: str, *values: Any) -> sqlite3.Row:
        found: sqlite3.Row | None = self.conn.execute(sql, values).fetchone()
        if found is None:
            raise RuntimeError(f"the file has no row for: {sql}")
        return found


@dataclass(frozen=True)
class Plain:
    """The same asked of the raw rows, and what an answer has to agree with."""

    sql: str
    differs: Callable[[Any, Sequence[sqlite3.Row], Case], str]
    """What is wrong with the answer; empty if nothing."""


@dataclass(frozen=True)
class Question:
    """One call of the query layer, as the CLI or the dashboard makes it."""

    name: str
    ask: Callable[[DatabaseService, Case], Awaitable[Any]]
    plain: Plain | None = None
