"""A sealed segment, until it is committed: in memory, in the journal, or both."""

from collections import Counter
from dataclasses import dataclass, field

from handspan.recording.convert import running_record
from handspan.recording.frames import Extent, read_records
from handspan.recording.ledger import Kind
from handspan.records import Run, Segment, SpanRecord

__all__ = ["Waiting"]


@dataclass(eq=False)
class Waiting:
    """A sealed segment."""

    segment: Segment
    extent: Extent | None
    """Where it lies in the journal, if it is whole there."""
    kinds: Counter[Kind] | None = None
    """How many spans left memory; None while they are here."""
    held: bool = False
    """Being committed, or written back: left alone."""
    running: list[Run] = field(default_factory=list)
    """What was in flight; made into records by the writer: thousands of them would hold the mutex for milliseconds."""

    def complete(self) -> Segment:
        """The segment, with what was in flight."""
        if self.running:
            self.segment.running, self.running = [running_record(run) for run in self.running], []
        return self.segment

    @property
    def spans(self) -> int:
        return len(self.segment.records)

    def read(self) -> list[SpanRecord]:
        """What left memory; less of it where somebody removed or damaged the page."""
        try:
            return [] if self.extent is None else read_records(self.extent).ended
        except OSError:
            return []
