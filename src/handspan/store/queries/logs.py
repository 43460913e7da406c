"""What was logged while commands ran, line by line."""

import json
import math
import sqlite3
from dataclasses import dataclass
from typing import Any, Final

from whenever import Instant

from handspan.store.queries.shapes import instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["LogKey", "LogLine", "LogPage", "run_logs"]

_SQL: Final = statements("queries/logs.sql")
_LEVELS: Final = ((50, "critical"), (40, "error"), (30, "warning"), (20, "info"))


@dataclass(frozen=True)
class LogKey:
    """Where a page ended: the place of its last line in the order (time, id). The time as it is stored: seconds."""

    logged_at: float
    id: int


@dataclass(frozen=True)
class LogLine:
    """One line."""

    id: int
    logged_at: Instant
    level: int
    """As the logging module counts: 30 is a warning."""
    logger: str
    message: str
    trace_id: str
    run_span_id: str
    """The command's span."""
    span_id: str
    """The span it was written in: the command's own, or a child's."""
    session_id: int
    attributes: dict[str, Any]
    """Where it was logged, and its exception: names of :mod:`handspan.attributes`."""

    @property
    def level_name(self) -> str:
        """critical, error, warning, info or debug: what the level reaches."""
        return next((name for least, name in _LEVELS if self.level >= least), "debug")


@dataclass(frozen=True)
class LogPage:
    """Some lines, and where to go on; None when these were the last."""

    lines: list[LogLine]
    after: LogKey | None


async def run_logs(
    db: DatabaseService,
    trace_id_hex: str,
    run_span_id_hex: str | None = None,
    *,
    limit: int = 200,
    after: LogKey | None = None,
) -> LogPage:
    """Of one run, or without its span id of all runs of the trace, in the order they were logged. Raises ValueError
    for an id that is not hex."""
    params = {
        "trace": bytes.fromhex(trace_id_hex),
        "run": None if run_span_id_hex is None else bytes.fromhex(run_span_id_hex),
        "after_ts": -math.inf if after is None else after.logged_at,
        "after_id": -1 if after is None else after.id,
        "limit": limit + 1,  # one more tells whether there is another page
    }
    rows = await db.fetch_all(_SQL["lines"], params)
    page = rows[:limit]
    last = LogKey(page[-1]["logged_at"], page[-1]["id"]) if len(rows) > limit and page else None
    return LogPage([_line(row) for row in page], last)


def _line(row: sqlite3.Row) -> LogLine:
    values = dict(row)
    attributes = values.pop("attributes")
    return LogLine(
        logged_at=instant(values.pop("logged_at")),
        attributes={} if attributes is None else json.loads(attributes),
        **values,
    )
