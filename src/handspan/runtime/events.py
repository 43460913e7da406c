"""The event, and the moment and span it was published from."""

from typing import TYPE_CHECKING, Any

import msgspec
from opentelemetry import trace
from whenever import Instant

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

__all__ = ["Event", "publisher"]


class Event(msgspec.Struct, frozen=True, eq=False):
    """What handlers get. One object for all of them, so it cannot be changed (``data`` is yours to keep alone)."""

    topic: str
    """The topic it was published under: for a pattern's handler, the one that matched."""
    data: Any
    published_at: Instant
    published_by: "SpanContext | None" = None
    """The span that was current at ``publish()``: runs of its handlers link to it (or continue it)."""


def publisher() -> "SpanContext | None":
    context = trace.get_current_span().get_span_context()
    return context if context.is_valid else None
