"""Incidents as people read them: the reason first, a path last."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

from rich.text import Text
from whenever import Instant

from handspan.cli.figures import ago, newest, one_line, took
from handspan.cli.output import FAILED, PALE
from handspan.cli.table import Table, figure, text, word
from handspan.clock import to_ns
from handspan.store.queries.ledger import IncidentRow

__all__ = ["incident_table", "incidents"]

_PATH_FIRST: Final = re.compile(r"(/\S*[^\s:]):? (\S.*)", re.DOTALL)
LASTING: Final = ("database_unavailable", "journal_suspended")
"""Kinds that have an end: without one they last, or their process died over them."""


def incidents(found: Sequence[IncidentRow], at: Instant, words: str, limit: int) -> Iterator[str | Text | Table]:
    if not found:
        cure = " A wider --since may show more." if words else ""
        yield f"Nothing happened to recording{' ' if words else ''}{words}.{cure}"
        return
    yield incident_table(found[:limit], at)
    if len(found) > limit:
        yield Text(f"{newest(limit)}: --limit shows more.", style=PALE)


def incident_table(found: Sequence[IncidentRow], at: Instant) -> Table:
    table = Table(word("incident"), figure("when"), figure("lasted"), text("what happened"))
    for incident in found:
        lasted = "open" if incident.kind in LASTING else "-"
        if incident.ended_at:
            lasted = took((to_ns(incident.ended_at) - to_ns(incident.started_at)) / 1e6)
        style = FAILED if incident.count or lasted == "open" else ""
        table.add(Text(incident.kind, style=style), ago(incident.started_at, at), Text(lasted, style=style),
                  Text(_reason_first(one_line(incident.detail)), style=PALE))  # fmt: skip
    return table


def _reason_first(detail: str) -> str:
    """A table cuts its texts at the end: that should be the path."""
    found = _PATH_FIRST.fullmatch(detail)
    return f"{found[2]} ({found[1]})" if found else detail
