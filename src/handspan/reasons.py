"""Why something that was registered did not run: a closed set, the words for each, and what is counted of it.

Closed, so that every reader has words for what it finds and sums mean something; a framework with a reason of its own
has ``skipped``, the host's word.
"""

from dataclasses import dataclass
from typing import Final, Literal, Protocol, get_args

from handspan.records import Registration

__all__ = ["REASONS", "REASON_WORDS", "Reason", "SkipSource", "Skipped", "reason_words"]

HOUR_NS: Final = 3_600 * 10**9

Reason = Literal["predicate", "debounce", "throttle", "once", "missed", "overlapped", "down", "skipped"]
REASONS: Final[tuple[Reason, ...]] = get_args(Reason)

REASON_WORDS: Final[dict[Reason, str]] = {
    "predicate": "refused by its predicate",
    "debounce": "replaced by a later event",
    "throttle": "too soon after another event",
    "once": "after its only run",
    "missed": "missed: too late to run",
    "overlapped": "left out: one was still running",
    "down": "due while the process was down",
    "skipped": "skipped by the host",
}
"""Each stands after a count: ``340 refused by its predicate``."""


def reason_words(reason: str) -> str:
    """Of a newer handspan's file, too: what has no words here is shown as it is."""
    return next((words for known, words in REASON_WORDS.items() if known == reason), reason)


@dataclass(slots=True)
class Skipped:
    """What one registration did not run, for one reason, in one hour."""

    number: int
    registration: Registration
    reason: str
    count: int
    first_ns: int
    last_ns: int
    ends_ns: int = 0
    """When the hour does."""

    def __post_init__(self) -> None:
        self.ends_ns = (self.first_ns // HOUR_NS + 1) * HOUR_NS


class SkipSource(Protocol):
    """Where the writer gets those counts. Taken, they are its to write or to put back."""

    @property
    def waiting(self) -> bool: ...

    def take(self) -> list[Skipped]: ...

    def put_back(self, entries: list[Skipped]) -> None: ...
