"""Why something that was registered did not run: a closed set, and the words for each.

Closed, so that every reader has words for what it finds and sums mean something; a framework with a reason of its own
has ``skipped``, the host's word.
"""

from typing import Final, Literal, get_args

__all__ = ["REASONS", "REASON_WORDS", "Reason", "reason_words"]

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
