"""The two clocks, behind one seam, so that tests can step them.

The wall clock says *when*, the monotonic one *how long*: they are read side by side and never mixed.
"""

import time
from typing import Protocol

from whenever import Instant

__all__ = ["Clock", "SystemClock", "instant_from_ns", "to_epoch", "to_ns"]


class Clock(Protocol):
    """Nanoseconds, both."""

    def wall_ns(self) -> int:
        """UTC nanoseconds since the epoch, cut to whole microseconds."""
        ...

    def monotonic_ns(self) -> int:
        """Nanoseconds of a clock that never steps."""
        ...


class SystemClock:
    """The machine's clocks.

    Wall time is cut to whole microseconds: an instant is stored as REAL epoch seconds, whose spacing
    is 0.24 us until 2038, so a microsecond comes back exactly and a nanosecond would not.
    """

    __slots__ = ()

    monotonic_ns = staticmethod(time.perf_counter_ns)

    @staticmethod
    def wall_ns() -> int:
        return time.time_ns() // 1000 * 1000


def _has_units() -> bool:
    """whenever 0.11 replaced ``timestamp_nanos()`` by ``timestamp(unit=...)`` and deprecated the first."""
    try:
        Instant.from_timestamp(0, unit="nanosecond")
    except TypeError:
        return False
    return True


if _has_units():

    def instant_from_ns(ns: int) -> Instant:
        return Instant.from_timestamp(ns, unit="nanosecond")

    def to_ns(instant: Instant) -> int:
        return int(instant.timestamp(unit="nanosecond"))

else:

    def instant_from_ns(ns: int) -> Instant:
        return Instant.from_timestamp_nanos(ns)

    def to_ns(instant: Instant) -> int:
        return int(instant.timestamp_nanos())


def to_epoch(ns: int) -> float:
    """UTC nanoseconds as the REAL epoch seconds the tables hold."""
    return ns / 1e9
