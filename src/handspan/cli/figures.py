"""Figures in words: at most three significant digits, each with its unit."""

from datetime import UTC, datetime, timedelta
from typing import Final

from whenever import Instant

from handspan.clock import to_ns
from handspan.wording import amount, count, one_line, three, took

__all__ = ["ago", "amount", "count", "iso", "newest", "one_line", "size", "took", "until"]

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def ago(moment: Instant | None, now: Instant) -> str:
    """How long ago; a moment still to come is ``in 5 m``."""
    if moment is None:
        return "-"
    seconds = _seconds(moment, now)
    if -1 < seconds < 1:
        return "now"
    return f"{_one_unit(seconds)} ago" if seconds > 0 else f"in {_one_unit(-seconds)}"


def until(moment: Instant | None, now: Instant) -> str:
    """When something is due: ``in 5 m``, or how late it is."""
    if moment is None:
        return "-"
    seconds = _seconds(moment, now)
    return f"{_one_unit(seconds)} late" if seconds >= 1 else ago(moment, now)


def newest(limit: int) -> str:
    """How a list that was cut says so."""
    return f"These are the newest {count(limit)}" if limit > 1 else "This is the newest one"


def size(octets: int) -> str:
    """Bytes, in the decimal units disks are sold in."""
    value = float(octets)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{octets if unit == 'B' else three(value)} {unit}"
        value /= 1000
    return f"{three(value)} TB"


def iso(moment: Instant) -> str:
    """ISO 8601 in UTC, to the microsecond, which is what is stored."""
    stamp = _EPOCH + timedelta(microseconds=to_ns(moment) // 1000)
    return stamp.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _one_unit(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.0f} s" if seconds < 59.5 else "1 m"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} m"
    if seconds < 2 * DAY:
        return f"{seconds // HOUR:.0f} h"
    return f"{seconds // DAY:,.0f} d"


def _seconds(start: Instant, end: Instant) -> float:
    return (to_ns(end) - to_ns(start)) / 1e9
