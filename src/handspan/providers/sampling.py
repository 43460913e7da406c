"""Recording everything here must not force sending everything."""

from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.sdk.trace.sampling import Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, TraceState
from opentelemetry.util.types import Attributes

from handspan.spans import run_of

__all__ = ["RecordRuns"]


class RecordRuns(Sampler):
    """Under a run, turns DROP into RECORD_ONLY: processors see the span, exporters do not.

    The SDK's own ``AlwaysRecordSampler`` reuses the attributes of the dropped result, which built-in
    samplers empty: start-time attributes would vanish (measured on 1.45.2). This one keeps the original.
    """

    def __init__(self, root: Sampler) -> None:
        self.root = root

    def should_sample(
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: TraceState | None = None,
    ) -> SamplingResult:
        result = self.root.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)
        if result.decision is Decision.DROP and run_of(parent_context) is not None:
            return SamplingResult(Decision.RECORD_ONLY, attributes, result.trace_state)
        return result

    def get_description(self) -> str:
        return f"RecordRuns{{{self.root.get_description()}}}"
