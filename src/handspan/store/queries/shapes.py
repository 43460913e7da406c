"""What every query shares: the window it looks at, and how stored values become Python's."""

import math
from dataclasses import dataclass
from typing import Any, Final, overload

from whenever import Instant

from handspan.clock import instant_from_ns, to_epoch, to_ns

__all__ = ["ALL_TIME", "Window", "instant"]


@dataclass(frozen=True)
class Window:
    """From ``since`` (inclusive) to ``until`` (exclusive); None is open."""

    since: Instant | None = None
    until: Instant | None = None

    def params(self) -> dict[str, Any]:
        return {
            "since": -math.inf if self.since is None else to_epoch(to_ns(self.since)),
            "until": math.inf if self.until is None else to_epoch(to_ns(self.until)),
        }


ALL_TIME: Final = Window()
FIRST: Final = -62_135_510_400  # 0001-01-02: a day from the end, whatever the time zone
LAST: Final = 253_402_128_000  # 9999-12-30


@overload
def instant(epoch: float) -> Instant: ...
@overload
def instant(epoch: float | None) -> Instant | None: ...
def instant(epoch: float | None) -> Instant | None:
    """Stored seconds as an instant: whole microseconds, as they were written. What no calendar has (a foreign clock,
    a flipped bit) is its first or last day."""
    return None if epoch is None else instant_from_ns(round(min(max(epoch, FIRST), LAST) * 1e6) * 1000)
