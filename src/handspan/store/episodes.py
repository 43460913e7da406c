"""An episode of failing: how long to wait before the next try, and two log lines, not one a row."""

import logging
import random
from collections.abc import Callable
from typing import Final

from handspan.errors import NewerSchemaError

__all__ = ["Episode"]

_log = logging.getLogger("handspan.store")

FIRST_BACKOFF: Final = 0.1  # seconds; doubles up to the next
LONGEST_BACKOFF: Final = 5.0
LONGEST_FOR_A_PERSON: Final = 30.0  # a newer schema goes away when somebody upgrades, not by itself


class Episode:
    """Begins with the first failure, ends with the first success. Only the writer's thread changes it."""

    def __init__(
        self, now: Callable[[], float], on_over: Callable[[float, float, str | None], None] = lambda *_: None
    ) -> None:
        self._now, self._on_over = now, on_over
        self.since: float | None = None
        """UTC epoch seconds; None when all is well."""
        self.last_error: str | None = None
        self.backoff = 0.0
        """Seconds to wait before the next try."""
        self._waited = self._lost = 0

    def failed(self, error: BaseException, journal_trouble: str | None = None) -> None:
        self.last_error = str(error)
        if self.since is None:
            self.since, self._waited, self._lost = self._now(), 0, 0
            journal = "" if journal_trouble is None else f" The journal cannot be written either ({journal_trouble})."
            _log.error("Recording waits, the application goes on: %s%s", error, journal)
        longest = LONGEST_FOR_A_PERSON if isinstance(error, NewerSchemaError) else LONGEST_BACKOFF
        self.backoff = min(max(self.backoff * 2, FIRST_BACKOFF), longest) * random.uniform(0.8, 1.2)  # noqa: S311 - jitter

    def stored(self, spans: int, lost: int) -> None:
        """A segment is in the file, with what the ledger had to say. Of an episode's, the last line tells the sums."""
        self._waited += spans
        self._lost += lost

    def succeeded(self) -> None:
        self.backoff = 0.0
        if self.since is not None:
            until = self._now()
            _log.warning(
                "Recording goes on after %.1f s: %s spans waited and are stored, %s were lost.",
                until - self.since, self._waited, self._lost,
            )  # fmt: skip
            self._on_over(self.since, until, self.last_error)
            self.since = self.last_error = None

    def ended_for_good(self, error: BaseException) -> None:
        """What no waiting mends; whoever opened the file has been told, or is told here."""
        self.since, self.last_error = self._now(), str(error)
