"""A segment the store refuses: find the record, give up that one, keep the rest.

Some values no SQLite or driver can take. Retrying would stop recording for good, so the segment is halved
until the record is alone; what a run logged is given up before the run is. The parts are committed by themselves;
``idempotent``, because a failure that can pass may come in between, and then the whole segment is tried again.
"""

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from msgspec import structs

from handspan.errors import DatabaseError
from handspan.records import Segment
from handspan.store.commit import commit_segment
from handspan.store.parents import Parents

__all__ = ["can_pass", "commit_what_can_be"]

_log = logging.getLogger("handspan.store")

_REFUSED: Final = (
    sqlite3.IntegrityError,
    sqlite3.DataError,
    sqlite3.ProgrammingError,
    sqlite3.InterfaceError,
    sqlite3.NotSupportedError,
)


def can_pass(error: Exception) -> bool:
    """True for what time or a person can mend; False for a value that SQLite or its driver cannot take."""
    return isinstance(error, sqlite3.Error | DatabaseError | MemoryError) and not isinstance(error, _REFUSED)


def commit_what_can_be(
    conn: sqlite3.Connection,
    parents: Parents,
    segment: Segment,
    now: float,
    rejected: Callable[[Segment], None],
) -> None:
    """Commit the segment; a record that cannot be is handed to ``rejected`` alone. Raises what can pass."""
    try:
        commit_segment(conn, parents, segment, now)
        segment.losses.clear()  # they are in the ledger, also if the rest of the whole has to come again
    except Exception as error:
        if can_pass(error):
            raise
        if len(segment.records) + len(segment.running) > 1:
            segment.idempotent = True  # if it comes again, some of its parts are in the file
            for half in _halves(segment):
                commit_what_can_be(conn, parents, half, now, rejected)
            return
        if any(record.logs for record in segment.records):
            _log.error("What a run logged could not be stored: %s: %s", type(error).__name__, error)
            without = replace(segment, records=[structs.replace(record, logs=None) for record in segment.records])
            commit_what_can_be(conn, parents, without, now, lambda _: rejected(replace(segment, losses=[])))
            return
        _log.error("One span could not be stored and is given up: %s: %s", type(error).__name__, error)
        rejected(replace(segment, losses=[]))
        commit_segment(conn, parents, replace(segment, records=[], running=[]), now)


def _halves(segment: Segment) -> tuple[Segment, Segment]:
    records, running = segment.records, segment.running
    if len(records) > 1 or not running:
        middle = len(records) // 2
        first = replace(segment, records=records[:middle], running=[], losses=[])
        second = replace(segment, records=records[middle:])
    else:
        middle = len(running) // 2 if not records else 0
        first = replace(segment, running=running[:middle], losses=[])
        second = replace(segment, records=[], running=running[middle:])
    first.number -= 1  # the mark must not move, nor the losses be counted, before the last part is in the file
    first.idempotent = second.idempotent = True
    return first, second
