"""The loss ledger's memory: what was dropped, until a segment takes the entries to the store."""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Final, Literal

from handspan.records import ListenerRegistration, Loss, Registration

__all__ = ["Kind", "Ledger", "kind_of"]

HOUR_NS: Final = 3_600 * 10**9
STORE: Final = "store"

Kind = Literal["handler", "job", "span"]


def kind_of(registration: Registration | None) -> Kind:
    if registration is None:
        return "span"
    return "handler" if isinstance(registration, ListenerRegistration) else "job"


class Ledger:
    """Counts by hour, kind and reason. The caller holds the queue's mutex."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[int, Kind, str]] = Counter()
        self.total: Counter[str] = Counter()
        """By reason, of this process: for the metrics."""

    def add(self, kind: Kind, reason: str, count: int = 1) -> None:
        if count:
            self._counts[time.time_ns() // HOUR_NS * HOUR_NS, kind, reason] += count
            self.total[reason] += count

    def entries(self) -> list[Loss]:
        """What is not yet in a segment."""
        return [Loss(hour, STORE, kind, reason, count) for (hour, kind, reason), count in self._counts.items()]

    def written(self) -> None:
        """The entries are a segment's from now on."""
        self._counts = Counter()

    def put_back(self, losses: Iterable[Loss]) -> None:
        """Of a segment that was given up: counted before, and still to be written."""
        for loss in losses:
            self._counts[loss.hour_ns, loss.kind, loss.reason] += loss.count

    def __bool__(self) -> bool:
        return bool(self._counts)
