"""The processors of our own provider, kept from hurting each other.

The SDK calls processors one after the other without isolation: one that raises in ``on_end`` hides the
span from those after it and replaces the application's exception (opentelemetry-python#5624).
"""

import logging
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, SynchronousMultiSpanProcessor

__all__ = ["FanOut"]

_log = logging.getLogger("handspan.providers")


class FanOut(SynchronousMultiSpanProcessor):
    """Ours first, so that a slow exporter cannot delay recording; each one's exception stays its own."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # the SDK's
        self._ours: tuple[SpanProcessor, ...] = ()
        self.others: tuple[SpanProcessor, ...] = ()
        self._complained: set[int] = set()

    def add_span_processor(self, span_processor: SpanProcessor) -> None:
        with self._lock:
            if getattr(span_processor, "takes_light_spans", False):
                self._ours += (span_processor,)
            else:
                self.others += (span_processor,)
            self._span_processors = self._ours + self.others

    def remove(self, span_processor: SpanProcessor) -> None:
        with self._lock:
            self._ours = tuple(each for each in self._ours if each is not span_processor)
            self._span_processors = self._ours + self.others

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for processor in self._span_processors:
            self._guarded(processor, lambda p: p.on_start(span, parent_context))

    def on_end(self, span: ReadableSpan) -> None:
        for processor in self._span_processors:
            self._guarded(processor, lambda p: p.on_end(span))

    def light_ended(self, span: ReadableSpan) -> None:
        """A light span, made a true one, to the processors that joined while it ran."""
        for processor in self.others:
            self._guarded(processor, lambda p: p.on_end(span))

    def _guarded(self, processor: SpanProcessor, call: Callable[[SpanProcessor], None]) -> None:
        try:
            call(processor)
        except Exception:  # noqa: BLE001 - somebody else's processor
            if id(processor) not in self._complained:
                self._complained.add(id(processor))
                _log.exception("%s raised; this is said once.", type(processor).__name__)
