"""What a person means by an id: a run by its trace, span or row, written out or only begun."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from whenever import Instant

from handspan.store.queries.moments import InFlight, in_flight
from handspan.store.queries.runs import KINDS, Kind, RunRow, runs_by_id
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["LEAST_DIGITS", "LOOKED", "Matches", "Reference", "find", "parse", "range_of"]

_SQL: Final = statements("queries/references.sql")

LEAST_DIGITS: Final = 6  # of a trace id: 17 s of a process's traces, as ids begin with the time
LOOKED: Final = 50_000  # newest rows of a table that are looked through for a span id: 15 ms
LISTED: Final = 20
TRACE_BYTES: Final = 16
SPAN_BYTES: Final = 8

_ROW: Final = re.compile(r"(handler|job):(\d{1,18})")
_TRACEPARENT: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_HEX: Final = re.compile(r"([0-9a-f]+)(?:/([0-9a-f]+))?")


@dataclass(frozen=True)
class Reference:
    """A row; or the beginning of a trace id, and perhaps of a span id."""

    kind: Kind | None = None
    id: int | None = None
    trace: str = ""
    span: str = ""


@dataclass(frozen=True)
class Matches:
    """What it can mean."""

    runs: list[RunRow]
    in_flight: list[InFlight]
    spans: list[tuple[str, str]]
    """(trace id, span id) of other spans; looked for only where no run matches."""
    more: bool
    by_span: bool
    """No trace began so: these are spans, from the newest :data:`LOOKED` of each table."""

    def traces(self) -> list[str]:
        """Distinct, in order."""
        found = [run.trace_id for run in self.runs] + [run.trace_id for run in self.in_flight]
        return list(dict.fromkeys(found + [trace for trace, _ in self.spans]))


def parse(text: str) -> Reference:
    """Raises ValueError, which says what an id is."""
    plain = text.strip().lower()
    if row := _ROW.fullmatch(plain):
        return Reference(kind="handler" if row[1] == "handler" else "job", id=int(row[2]))
    if parent := _TRACEPARENT.fullmatch(plain):
        return Reference(trace=parent[1], span=parent[2])
    ids = _HEX.fullmatch(plain)
    if ids is None:
        raise ValueError(f"{text!r} is no id: a trace id or its beginning, trace/span, handler:123 or job:123 are")
    trace, span = ids[1], ids[2] or ""
    if len(trace) < LEAST_DIGITS:
        raise ValueError(f"{text!r} is too short: the first {LEAST_DIGITS} digits of a trace id at least")
    if len(trace) > 2 * TRACE_BYTES or len(span) > 2 * SPAN_BYTES:
        raise ValueError(f"{text!r} is too long: a trace id has 32 digits, a span id 16")
    return Reference(trace=trace, span=span)


async def find(db: DatabaseService, reference: Reference, now: Instant) -> Matches:
    """Runs, finished and in flight; other spans only if there is no run; spans alone last, and not all of them."""
    if reference.kind is not None and reference.id is not None:
        return Matches(await runs_by_id(db, [(reference.kind, reference.id)]), [], [], more=False, by_span=False)
    params = _params(reference)
    runs, more = await _runs(db, "trace", params)
    flying = [
        each
        for each in await in_flight(db, now)
        if each.trace_id.startswith(reference.trace) and each.span_id.startswith(reference.span)
    ]
    if runs or flying:
        return Matches(runs, flying, [], more, by_span=False)
    spans, more = await _spans(db, "trace", params)
    if spans or reference.span or len(reference.trace) > 2 * SPAN_BYTES:
        return Matches([], [], spans, more, by_span=False)
    params = _params(replace(reference, trace="", span=reference.trace)) | {"looked": LOOKED}
    runs, more = await _runs(db, "span", params)
    flying = [each for each in await in_flight(db, now) if each.span_id.startswith(reference.trace)]
    spans, more_spans = ([], False) if runs or flying else await _spans(db, "span", params)
    return Matches(runs, flying, spans, more or more_spans, by_span=True)


async def _runs(db: DatabaseService, by: str, params: dict[str, Any]) -> tuple[list[RunRow], bool]:
    keys: list[tuple[Kind, int]] = []
    for kind in KINDS:
        keys += [(kind, row["id"]) for row in await db.fetch_all(_SQL[f"{kind}_by_{by}"], params)]
    found = await runs_by_id(db, keys[:LISTED])
    found.sort(key=lambda run: (run.started_at, run.kind, run.id), reverse=True)
    return found, len(keys) > LISTED


async def _spans(db: DatabaseService, by: str, params: dict[str, Any]) -> tuple[list[tuple[str, str]], bool]:
    rows = await db.fetch_all(_SQL[f"span_by_{by}"], params)
    return _hex((row["trace_id"], row["span_id"]) for row in rows[:LISTED]), len(rows) > LISTED


def _hex(pairs: Iterable[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    return [(trace.hex(), span.hex()) for trace, span in pairs]


def _params(reference: Reference) -> dict[str, Any]:
    span_low, span_high = range_of(reference.span, SPAN_BYTES)
    low, high = range_of(reference.trace, TRACE_BYTES)
    return {
        "low": low, "high": high, "low4": low[:4], "high4": high[:4], "span_low": span_low, "span_high": span_high,
        "limit": LISTED + 1,
    }  # fmt: skip


def range_of(digits: str, octets: int) -> tuple[bytes, bytes]:
    """The lowest and the highest id that begin so."""
    return bytes.fromhex(digits.ljust(2 * octets, "0")), bytes.fromhex(digits.ljust(2 * octets, "f"))
