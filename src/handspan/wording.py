"""Figures and moments in plain words, for whoever speaks to people: the verdict, the command line.

At most three significant digits, each with its unit; moments by the clock on the wall of this machine.
"""

from datetime import UTC, datetime, timedelta
from typing import Final
from unicodedata import east_asian_width

from whenever import Instant

from handspan.clock import to_ns

__all__ = ["amount", "clock", "count", "one_line", "option", "share", "short", "three", "title", "took"]

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400
LONGEST_NAME: Final = 50  # cells: a line has 80, or 60
WEEK_DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def clock(moment: Instant, now: Instant) -> str:
    """``06:10 today``, ``23:40 yesterday``, ``14:00 on Monday``, ``14:00 on 2026-05-01``: this machine's time."""
    then, today = _local(moment), _local(now).date()
    days = (today - then.date()).days
    if days in (0, 1):
        return f"{then:%H:%M} {('today', 'yesterday')[days]}"
    return f"{then:%H:%M} on {WEEK_DAYS[then.weekday()] if 1 < days < 7 else then.date()}"


def option(moment: Instant, now: Instant) -> str:
    """The same as ``--since`` takes it: ``06:10``, or ``2026-05-27T23:40``; the minute that it is in."""
    then = _local(moment)
    return f"{then:%H:%M}" if then.date() == _local(now).date() else f"{then:%Y-%m-%dT%H:%M}"


def share(part: int, whole: int) -> str:
    """``18 %``. Never ``0 %`` of something, nor ``100 %`` of less than all."""
    value = 100 * part / whole if whole else 0.0
    if not part or part == whole:
        return f"{value:.0f} %"
    if value < 0.1:
        return "under 0.1 %"
    return f"{value:.1f} %" if value < 9.95 else f"{min(value, 99):.0f} %"


def title(app_key: str, name: str, instance_index: int = 0, service: str = "") -> str:
    """``app.name``, with the instance where it is not the first, and with the service if it is given."""
    instance = f" #{instance_index}" if instance_index else ""
    return one_line(f"{service}/" * bool(service) + f"{app_key}.{name}{instance}")


def count(number: int) -> str:
    """A count is exact."""
    return f"{number:,}"


def short(text: str) -> str:
    """Somebody else's name, short enough for a sentence."""
    text, room = one_line(text), LONGEST_NAME
    for place, char in enumerate(text):
        room -= 2 if east_asian_width(char) in "WF" else 1
        if room < 0:
            return f"{text[: place - 1]}\N{HORIZONTAL ELLIPSIS}"
    return text


def amount(number: int, noun: str, plural: str | None = None) -> str:
    """``1 run``, ``2 runs``"""
    return f"{count(number)} {noun if number == 1 else plural or noun + 's'}"


def took(milliseconds: float | None) -> str:
    """A duration, from microseconds to days."""
    if milliseconds is None:
        return "-"
    if milliseconds < 0.9995:
        return f"{three(milliseconds * 1000)} µs"
    if milliseconds < 999.5:
        return f"{three(milliseconds)} ms"
    if milliseconds < 59_950:
        return f"{three(milliseconds / 1000)} s"
    return _two_units(milliseconds / 1000)


def one_line(text: str) -> str:
    """Somebody else's text made safe for a cell: no line breaks, no escape sequences."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


def three(value: float) -> str:
    rounded = float(f"{value:.3g}")
    decimals = 0 if rounded >= 100 else 1 if rounded >= 10 else 2
    return f"{rounded:.{decimals}f}" if rounded else "0"


def _two_units(seconds: float) -> str:
    whole = round(seconds)
    for unit, name, below, smaller in ((DAY, "d", HOUR, "h"), (HOUR, "h", MINUTE, "m"), (MINUTE, "m", 1, "s")):
        if whole >= unit:
            rest = whole % unit // below
            return f"{whole // unit:,} {name}" + (f" {rest} {smaller}" if rest else "")
    return f"{whole} s"


def _local(moment: Instant) -> datetime:
    return (_EPOCH + timedelta(microseconds=to_ns(moment) // 1000)).astimezone()


_EPOCH: Final = datetime.fromtimestamp(0, tz=UTC)
