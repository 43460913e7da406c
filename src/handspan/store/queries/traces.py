"""A trace as a tree: runs and their spans, in flight and finished, nested by parent."""

import json
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any, Final

from whenever import Instant

from handspan.clock import instant_from_ns, to_ns
from handspan.store.queries.logs import LogPage, run_logs
from handspan.store.queries.moments import in_flight
from handspan.store.queries.runs import runs_by_id
from handspan.store.queries.triggers import Origin, Triggered, consequences, kin_of, origin
from handspan.store.service import DatabaseService
from handspan.store.statements import statements

__all__ = ["MOST_COUNTED", "Node", "Trace", "trace"]

_SQL: Final = statements("queries/traces.sql")

MOST_COUNTED: Final = 100_000  # spans of one trace that are counted
MOST_ORIGINS: Final = 10
SPAN_KINDS: Final = ("internal", "server", "client", "producer", "consumer")


@dataclass(frozen=True)
class Node:
    """A run, or another span."""

    kind: str
    """``handler`` or ``job``; of another span, OpenTelemetry's kind of it: ``internal``, ``client``..."""
    id: int | None
    """Of its row; None while it runs."""
    name: str
    span_id: str
    parent_span_id: str | None
    depth: int
    started_at: Instant
    offset_ns: int
    """From the beginning of the trace."""
    duration_ns: int
    """So far, of one in flight."""
    status: str
    """``success``, ``error``, ``cancelled`` or ``running``; of another span ``unset``, ``ok`` or ``error``."""
    error_type: str | None
    error_message: str | None
    attributes: dict[str, Any]
    session_id: int

    @property
    def is_run(self) -> bool:
        return self.kind in ("handler", "job")


@dataclass(frozen=True)
class Trace:
    """A trace, as far as it is stored here."""

    trace_id: str
    started_at: Instant
    duration_ns: int
    runs: int
    spans: int
    """Other spans, counted up to :data:`MOST_COUNTED`."""
    nodes: list[Node]
    """In the order of the tree; not all of them if it was cut."""
    cut: bool
    triggered_by: list[Origin]
    triggered: list[Triggered]
    logs: LogPage | None


async def trace(
    db: DatabaseService, trace_id: str, now: Instant, *, limit: int = 2000, log_limit: int = 0
) -> Trace | None:
    """At most ``limit`` runs and as many other spans, the earliest of each; None of a trace that is not here."""
    key = bytes.fromhex(trace_id)
    nodes = [*await _runs(db, trace_id, limit + 1), *await _flying(db, trace_id, now)]
    runs = len(nodes)
    rows = await db.fetch_all(_SQL["spans"], {"trace": key, "limit": limit + 1})
    nodes = [*nodes[:limit], *(_span(dict(row)) for row in rows[:limit])]
    if not nodes:
        return None
    cut = runs > limit or len(rows) > limit
    spans = len(rows)
    if len(rows) > limit:
        counted = await db.fetch_one(_SQL["count_spans"], {"trace": key, "limit": MOST_COUNTED})
        spans = counted["spans"]
    begin = min(to_ns(node.started_at) for node in nodes)
    end = max(to_ns(node.started_at) + node.duration_ns for node in nodes)
    return Trace(
        trace_id, instant_from_ns(begin), end - begin, min(runs, limit), spans, _nested(nodes, begin), cut,
        await _origins(db, trace_id, now), await consequences(db, trace_id, None),
        await run_logs(db, trace_id, limit=log_limit) if log_limit else None,
    )  # fmt: skip


async def _runs(db: DatabaseService, trace_id: str, limit: int) -> list[Node]:
    kin = {(each.kind, each.id): each for each in await kin_of(db, trace_id, limit=limit)}
    return [
        Node(
            run.kind, run.id, _title(run.app_key, run.name, run.instance_index), run.span_id,
            kin[run.kind, run.id].parent_span_id, 0, run.started_at, 0, round(run.duration_ms * 1e6), run.status,
            run.error_type, run.error_message, {}, run.session_id,
        )
        for run in await runs_by_id(db, kin)
    ]  # fmt: skip


async def _flying(db: DatabaseService, trace_id: str, now: Instant) -> list[Node]:
    return [
        Node(
            run.kind, None, _title(run.app_key, run.name, run.instance_index), run.span_id, run.parent_span_id, 0,
            run.started_at, 0, round(run.running_s * 1e9), "running", None, None, {}, run.session_id,
        )
        for run in await in_flight(db, now)
        if run.trace_id == trace_id
    ]  # fmt: skip


def _title(app_key: str, name: str, instance: int) -> str:
    return f"{app_key}.{name}" + (f" #{instance}" if instance else "")


def _span(row: dict[str, Any]) -> Node:
    attributes = _json(row["attributes"])
    extra = _json(row["extra"])
    kind = SPAN_KINDS[row["kind"]] if 0 <= row["kind"] < len(SPAN_KINDS) else "internal"
    failed = row["status"] == "error"
    error_type = attributes.get("error.type") if failed else None
    message = extra.get("status_description") if failed else None
    return Node(
        kind, row["id"], row["name"], row["span_id"], row["parent_span_id"], 0, instant_from_ns(row["start_ns"]), 0,
        row["duration_ns"], row["status"], None if error_type is None else str(error_type),
        None if message is None else str(message), attributes, row["session_id"],
    )  # fmt: skip


def _json(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _nested(nodes: list[Node], begin: int) -> list[Node]:
    """In the order of the tree. A span whose parent is elsewhere, or was cut, stands at the left."""
    known = {node.span_id for node in nodes}
    children: dict[str | None, list[Node]] = defaultdict(list)
    for node in sorted(nodes, key=lambda each: (to_ns(each.started_at), not each.is_run, each.span_id)):
        parent = node.parent_span_id if node.parent_span_id in known else None
        children[None if parent == node.span_id else parent].append(node)
    found: dict[int, Node] = {}
    _place(children[None], children, begin, found)
    # Spans that are each other's parents hang from nothing: they are shown all the same.
    for node in nodes:
        if id(node) not in found:
            _place([node], children, begin, found)
    return list(found.values())


def _place(roots: list[Node], children: dict[str | None, list[Node]], begin: int, found: dict[int, Node]) -> None:
    waiting = [(0, node) for node in reversed(roots)]
    while waiting:
        depth, node = waiting.pop()
        if id(node) in found:
            continue
        found[id(node)] = replace(node, depth=depth, offset_ns=to_ns(node.started_at) - begin)
        waiting += [(depth + 1, child) for child in reversed(children[node.span_id])]


async def _origins(db: DatabaseService, trace_id: str, now: Instant) -> list[Origin]:
    links = [(run.link_trace_id, run.link_span_id) for run in await kin_of(db, trace_id)]
    links += [(run.link_trace_id, run.link_span_id) for run in await in_flight(db, now) if run.trace_id == trace_id]
    others = dict.fromkeys(link for link in links if link[0] not in (None, trace_id))
    found = [await origin(db, now, trace_id, None, link) for link in list(others)[:MOST_ORIGINS]]
    return [each for each in found if each is not None]
