"""Figures in words: at most three significant digits, each with its unit."""

from datetime import UTC, datetime, timedelta
from typing import Final

from whenever import Instant

from handspan.clock import to_ns

__all__ = ["ago", "amount", "count", "iso", "one_line", "size", "took", "until"]

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def count(number: int) -> str:
    """A count is exact."""
    return f"{number:,}"


def amount(number: int, noun: str, plural: str | None = None) -> str:
    """``1 run``, ``2 runs``"""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"


def took(milliseconds: float | None) -> str:
    """A duration, from microseconds to days."""
    if milliseconds is None:
        return "-"
    if milliseconds < 0.9995:
        return f"{_three(milliseconds * 1000)} µs"
    if milliseconds < 999.5:
        return f"{_three(milliseconds)} ms"
    if milliseconds < 59_950:
        return f"{_three(milliseconds / 1000)} s"
    return _two_units(milliseconds / 1000)


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


def size(octets: int) -> str:
    """Bytes, in the decimal units disks are sold in."""
    value = float(octets)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{octets if unit == 'B' else _three(value)} {unit}"
        value /= 1000
    return f"{_three(value)} TB"


def iso(moment: Instant) -> str:
    """ISO 8601 in UTC, to the microsecond, which is what is stored."""
    stamp = _EPOCH + timedelta(microseconds=to_ns(moment) // 1000)
    return stamp.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def one_line(text: str) -> str:
    """Somebody else's text made safe for a cell: no line breaks, no escape sequences."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


def _three(value: float) -> str:
    rounded = float(f"{value:.3g}")
    decimals = 0 if rounded >= 100 else 1 if rounded >= 10 else 2
    return f"{rounded:.{decimals}f}" if rounded else "0"


def _one_unit(seconds: float) -> str:
    if seconds < MINUTE:
        return f"{seconds:.0f} s" if seconds < 59.5 else "1 m"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} m"
    if seconds < 2 * DAY:
        return f"{seconds // HOUR:.0f} h"
    return f"{seconds // DAY:,.0f} d"


def _two_units(seconds: float) -> str:
    whole = round(seconds)
    for unit, name, below, smaller in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "m"), (MINUTE, "m", 1, "s")):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit:,} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def _seconds(start: Instant, end: Instant) -> float:
    return (to_ns(end) - to_ns(start)) / 1e9
