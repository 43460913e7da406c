"""What did not run and why, entry by entry."""

from dataclasses import dataclass
from typing import Any, Final

from whenever import Instant

from handspan.reasons import reason_words
from handspan.store.queries.runs import Kind, RunFilter
from handspan.store.queries.schedule import SkipCount
from handspan.store.queries.shapes import ALL_TIME, Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["SkipPage", "SkipRow", "SkipSum", "list_skips", "sum_skips"]

_SQL: Final = statements("queries/skips.sql")


@dataclass(frozen=True)
class SkipRow:
    """What one registration did not run in one hour, for one reason, as one session counted it."""

    hour: Instant
    kind: Kind
    service: str | None
    app_key: str | None
    """This, and what names it, is None once the registration was pruned."""
    instance_index: int | None
    name: str | None
    reason: str
    words: str
    """What stands after the count."""
    count: int
    first_at: Instant
    last_at: Instant
    registration_id: int
    session_id: int


@dataclass(frozen=True)
class SkipSum:
    """What one registration did not run in all of the window, for one reason."""

    kind: Kind
    service: str | None
    app_key: str | None
    """This, and what names it, is None once the registration was pruned."""
    instance_index: int | None
    name: str | None
    reason: str
    words: str
    """What stands after the count."""
    count: int
    first_at: Instant
    last_at: Instant
    registration_id: int


@dataclass(frozen=True)
class SkipPage:
    """The newest entries, and what all of the window come to."""

    skips: list[SkipRow]
    totals: list[SkipCount]
    """By reason, most first."""
    entries: int


async def list_skips(db: DatabaseService, which: RunFilter, window: Window = ALL_TIME, *, limit: int = 100) -> SkipPage:
    """Newest hours first; of ``which`` its names and app count."""
    params = {**window.params(), "app": which.app, "handler": which.handler, "job": which.job, "limit": limit}
    sums = [dict(row) for row in await db.fetch_all(_SQL["skip_totals"], params)]
    rows = [dict(row) for row in await db.fetch_all(_SQL["skips"], params)] if sums else []
    entries = sum(row.pop("entries") for row in sums)
    return SkipPage(
        [SkipRow(**_shown(row, "hour")) for row in rows], [SkipCount(**_shown(row)) for row in sums], entries
    )


async def sum_skips(
    db: DatabaseService, which: RunFilter, window: Window = ALL_TIME, *, limit: int = 100
) -> list[SkipSum]:
    """By registration and reason, most first."""
    params = {**window.params(), "app": which.app, "handler": which.handler, "job": which.job, "limit": limit}
    rows = [dict(row) for row in await db.fetch_all(_SQL["skips_by_whom"], params)]
    return [SkipSum(**_shown(row)) for row in rows]


def _shown(row: dict[str, Any], *times: str) -> dict[str, Any]:
    found = {key: instant(row[key]) for key in (*times, "first_at", "last_at")}
    return {**row, **found, "words": reason_words(row["reason"])}
