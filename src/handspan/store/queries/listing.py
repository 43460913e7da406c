"""Pages of runs, newest first, whatever is asked of them: by the way that fits.

Runs that most of their neighbours are like are read off the indexes (:func:`list_runs`). Rare ones (of one session,
longer than most, failures of something that seldom fails) are found through the rollups, which say in which minutes
there are any: an index would be read to its end for them.
"""

import json
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from whenever import Instant

from handspan.clock import to_epoch, to_ns
from handspan.store.queries.buckets import DAYS, Bucket, Found, Search
from handspan.store.queries.runs import Kind, RunFilter, RunKey, RunPage, below, list_runs, runs_by_id
from handspan.store.queries.shapes import ALL_TIME, Window, instant
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["LOOKED", "TextPage", "failures_saying", "run_page"]

_SQL: Final = statements("queries/listing.sql")

LOOKED: Final = 10_000  # failures of a kind that are read for one text: 35 ms
SAME_INSTANT: Final = 1000  # runs that began with the last one of the page before


@dataclass(frozen=True)
class TextPage:
    """Failures that say something."""

    page: RunPage
    back_to: Instant | None
    """Where looking ended before the window did; None if all of it was looked through."""


async def run_page(
    db: DatabaseService, which: RunFilter, window: Window = ALL_TIME, *, limit: int = 50, after: RunKey | None = None
) -> RunPage:
    """Newest first; ``after``: those below that place."""
    if not _is_rare(which):
        return await list_runs(db, which, window, limit=limit, after=after)
    found: list[Found] = []
    if after is not None:
        window = Window(window.since, min(window.until or _past(after), _past(after)))
    for kind in which.kinds():
        search = await Search.of(db, kind, which, window)
        if search.only != []:
            found += await _latest(search, limit + 1, after)
    return await _page(db, found, limit)


async def failures_saying(
    db: DatabaseService, text: str, which: RunFilter, window: Window = ALL_TIME, *, limit: int = 50,
    after: RunKey | None = None,
) -> TextPage:  # fmt: skip
    """Failures whose type or message holds the text, in any case of ASCII letters. Looks through a bounded number."""
    found: list[Found] = []
    ends: list[float] = []
    for kind in which.kinds():
        search = await Search.of(db, kind, which, window)
        params = {
            **window.params(),
            **below(kind, window, after),
            "text": text,
            "only": None if search.only is None else json.dumps(search.only),
            "status": which.status,
            "session": which.session_id,
            "least_ms": which.at_least_ms,
            "looked": LOOKED,
            "limit": limit + 1,
        }
        for row in await db.fetch_all(_SQL[f"{kind}_texts"], params):
            if row["id"] is not None:
                found.append(Found(kind, row["id"], row["execution_start_ts"], 0.0))
            elif row["execution_start_ts"] is not None:
                ends.append(row["execution_start_ts"])
    if ends:  # of the kind that was looked through less far, older ones would be missing in between
        found = [each for each in found if each.started >= max(ends)]
    return TextPage(await _page(db, found, limit), instant(max(ends)) if ends else None)


def _is_rare(which: RunFilter) -> bool:
    named = which.app is not None or which.handler is not None or which.job is not None
    return which.session_id is not None or bool(which.at_least_ms) or (which.status is not None and named)


async def _page(db: DatabaseService, found: list[Found], limit: int) -> RunPage:
    found.sort(key=lambda each: (each.started, each.kind, each.id), reverse=True)
    rows = await runs_by_id(db, [(each.kind, each.id) for each in found[:limit]])
    rows.sort(key=lambda run: (run.started_at, run.kind, run.id), reverse=True)
    return RunPage(rows, rows[-1].key if len(found) > limit and rows else None)


async def _latest(search: Search, wanted: int, after: RunKey | None) -> list[Found]:
    """The newest rows, through days and hours from the newest on: every run of a later hour is newer."""
    begins = await search.begins()
    found = {
        each.id: each for each in _after(await search.untold(begins, limit=wanted + SAME_INSTANT), search.kind, after)
    }
    told = 0
    for _, of_day in groupby(await search.latest(DAYS), lambda bucket: bucket.start):
        hours, untold = await search.within(list(of_day), begins)
        for batch in _batches(hours, wanted):
            minutes, more = await search.within(batch, begins)
            for some in _batches(minutes, wanted):
                rows = _after(await search.rows(some), search.kind, after)
                found |= {each.id: each for each in rows}
                told += len(rows)
                if told >= wanted:
                    return list(found.values())
            found |= {each.id: each for each in _after(await search.rows(more), search.kind, after)}
        found |= {each.id: each for each in _after(await search.rows(untold), search.kind, after)}
    return list(found.values())


def _batches(buckets: list[Bucket], wanted: int) -> list[list[Bucket]]:
    """From the newest on, all of one beginning together, as many as may hold what is wanted."""
    found: list[list[Bucket]] = []
    runs = wanted
    for _, together in groupby(sorted(buckets, key=lambda each: -each.start), lambda bucket: bucket.start):
        some = list(together)
        if runs >= wanted:
            found.append([])
            runs = 0
        found[-1] += some
        runs += sum(each.runs for each in some)
    return found


def _after(rows: list[Found], kind: Kind, after: RunKey | None) -> list[Found]:
    if after is None:
        return rows
    key = (to_epoch(to_ns(after.started_at)), after.kind, after.id)
    return [each for each in rows if (each.started, kind, each.id) < key]


def _past(after: RunKey) -> Instant:
    """Just past a run: its own instant is still looked at."""
    return instant(to_epoch(to_ns(after.started_at)) + 2e-6)
