"""What triggered a run, and what it triggered: one step along the links, up and down."""

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Final

from whenever import Instant

from handspan.store.queries.moments import InFlight, in_flight
from handspan.store.queries.runs import KINDS, Kind, RunRow, runs_by_id
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["Kin", "Origin", "Triggered", "consequences", "kin_of", "origin", "subtree"]

_SQL: Final = statements("queries/traces.sql")

LARGEST_TRACE: Final = 5_000  # spans of a trace that are looked at for who is in whom
MOST_LINKED: Final = 10_000  # runs that are counted of one kind


@dataclass(frozen=True)
class Origin:
    """Where a run came from."""

    trace_id: str
    span_id: str
    by_link: bool
    """True: the span that published its event; False: the span it ran in."""
    span_name: str | None = None
    """If it is no run itself."""
    run: RunRow | None = None
    """The run it is, or is part of; None for a trace of somebody else's."""
    in_flight: InFlight | None = None
    """Likewise, of one that has not ended."""


@dataclass(frozen=True)
class Triggered:
    """Runs of one handler or job."""

    first: RunRow
    runs: int
    errors: int
    bound: bool
    """There are more than were counted."""


@dataclass(frozen=True)
class Kin:
    """A run of a trace, by its span and the one it is in."""

    kind: Kind
    id: int
    span_id: str
    parent_span_id: str | None
    link_trace_id: str | None
    link_span_id: str | None


async def kin_of(db: DatabaseService, trace_id: str, *, limit: int = LARGEST_TRACE) -> list[Kin]:
    """The finished runs of a trace."""
    found = []
    for kind in KINDS:
        rows = await db.fetch_all(_SQL[f"{kind}_runs"], {"trace": bytes.fromhex(trace_id), "limit": limit})
        found += [
            Kin(
                kind, row["id"], row["span_id"], row["parent_span_id"] or None, row["link_trace_id"] or None,
                row["link_span_id"] or None,
            )
            for row in rows
        ]  # fmt: skip
    return found


async def origin(
    db: DatabaseService, now: Instant, trace_id: str, parent_span_id: str | None, link: tuple[str | None, str | None]
) -> Origin | None:
    """The run whose span it is, or is inside; a name if it is a span we have; else only its ids."""
    by_link = link[0] is not None and link[1] is not None
    trace, span = (link[0] or "", link[1] or "") if by_link else (trace_id, parent_span_id or "")
    if not span:
        return None
    runs = {each.span_id: each for each in await kin_of(db, trace)}
    flying = {each.span_id: each for each in await in_flight(db, now) if each.trace_id == trace}
    spans = await _parents(db, trace)
    name = None if span in runs or span in flying or span not in spans else spans[span][1]
    at: str | None = span
    for _ in range(len(spans) + 1):  # a cycle ends here
        if at is None or at in runs or at in flying:
            break
        at = spans.get(at, (None, ""))[0]
    run = (await runs_by_id(db, [(runs[at].kind, runs[at].id)]))[:1] if at in runs else []
    return Origin(trace, span, by_link, name, run[0] if run else None, flying.get(at or ""))


async def consequences(db: DatabaseService, trace_id: str, span_id: str | None) -> list[Triggered]:
    """Runs that a run's spans triggered, by handler and job; without a span, those of all the trace's."""
    kin = await kin_of(db, trace_id)
    inside: set[str] | None = None
    if span_id is not None:
        below = subtree(span_id, kin, await _parents(db, trace_id))
        inside = None if len(kin) <= 1 else below
        children = [each for each in kin if each.span_id != span_id and each.parent_span_id in below]
    else:
        children = []
    found: list[tuple[Kind, int, int, int, bool]] = []
    spans = None if inside is None else json.dumps(sorted(inside))
    for kind in KINDS:
        params = {"trace": bytes.fromhex(trace_id), "spans": spans, "bound": MOST_LINKED}
        found += [
            (kind, row["id"], row["runs"], row["errors"], bool(row["bound"]))
            for row in await db.fetch_all(_SQL[f"{kind}_linked"], params)
        ]
    rows = {(run.kind, run.id): run for run in await runs_by_id(db, [(kind, number) for kind, number, *_ in found])}
    linked = [
        Triggered(rows[kind, number], runs, errors, bound)
        for kind, number, runs, errors, bound in found
        if (kind, number) in rows
    ]
    together: dict[tuple[str, ...], list[RunRow]] = defaultdict(list)
    for run in await runs_by_id(db, [(each.kind, each.id) for each in children]):
        together[run.kind, run.service, run.app_key, str(run.instance_index), run.name].append(run)
    linked += [
        Triggered(runs[0], len(runs), sum(run.status == "error" for run in runs), bound=False)
        for runs in together.values()
    ]
    return sorted(linked, key=lambda each: (each.first.started_at, each.first.kind, each.first.id))


def subtree(span_id: str, kin: list[Kin], parents: dict[str, tuple[str | None, str]]) -> set[str]:
    """A span and what is inside it, not past the runs it has started."""
    children: dict[str, list[str]] = defaultdict(list)
    for child, (parent, _) in parents.items():
        children[parent or ""].append(child)
    found = {span_id}
    waiting = [span_id]
    others = {each.span_id for each in kin}
    while waiting:
        for child in children[waiting.pop()]:
            if child not in found and child not in others:
                found.add(child)
                waiting.append(child)
    return found


async def _parents(db: DatabaseService, trace_id: str) -> dict[str, tuple[str | None, str]]:
    rows = await db.fetch_all(_SQL["parents"], {"trace": bytes.fromhex(trace_id), "limit": LARGEST_TRACE})
    return {row["span_id"]: (row["parent_span_id"], row["name"]) for row in rows}
