"""What SQLite does for an answer: the steps of its plans that cost what the file is large."""

import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from handspan.store.service import DEFAULT_DEADLINE, DatabaseService

__all__ = ["Watched", "costly"]

LARGE: Final = "handler_invocations|job_executions|spans|log_records|rollups"
_ALIAS: Final = re.compile(rf"\b({LARGE})(?: AS)? (?!AS\b|ON\b|WHERE\b|INDEXED\b|NOT\b|CROSS\b|JOIN\b|GROUP\b)(\w+)")
_STEP: Final = re.compile(r"(BLOOM FILTER ON|AUTOMATIC \w+ INDEX|SCAN) ?(\w*)")


class Watched(DatabaseService):
    """Remembers what it was asked."""

    asked: dict[str, Any]

    async def fetch_all(
        self, sql: str, params: Any = (), *, deadline: float | None = DEFAULT_DEADLINE
    ) -> list[sqlite3.Row]:
        self.__dict__.setdefault("asked", {})[sql] = params
        return await super().fetch_all(sql, params, deadline=deadline)


def costly(conn: sqlite3.Connection, asked: Mapping[str, Any]) -> Sequence[str]:
    """Scans of large tables, filters and indexes built for one answer: each distinct one."""
    found: dict[str, None] = {}
    for sql, params in asked.items():
        names = {alias: table for table, alias in _ALIAS.findall(sql)}
        with suppress(sqlite3.Error):  # a PRAGMA has no plan
            for row in conn.execute(f"EXPLAIN QUERY PLAN {sql}", params):
                match = _STEP.search(row[3])
                if match is None or (match[1] == "SCAN" and "USING" in row[3] and "COVERING" not in row[3]):
                    continue
                table = names.get(match[2], match[2])
                if match[1] != "SCAN" or re.fullmatch(LARGE, table):
                    found[f"{match[1].lower()} {table}".strip()] = None
    return list(found)
