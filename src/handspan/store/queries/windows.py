"""Times as people say them: ``6h``, ``7d``, an ISO date or time. The command line's and the API's alike."""

import re
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from whenever import Instant

from handspan.clock import SystemClock, instant_from_ns, to_ns
from handspan.store.queries.shapes import Window

__all__ = ["Length", "between", "last", "length_of", "moment", "now"]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_LENGTH: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw])", re.IGNORECASE)
_CLOCK: Final = re.compile(r"\d{1,2}:\d{2}(:\d{2})?")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FAR: Final = datetime(9000, 1, 1, tzinfo=UTC)  # columns of centuries must not leave the calendar


class Length(NamedTuple):
    """Of time, as it was said."""

    number: str
    unit: str
    """Seconds, minutes, hours, days or weeks: one of ``s m h d w``."""

    @property
    def ns(self) -> int:
        return round(min(float(self.number) * _UNITS[self.unit], 1e18) * 10**9)  # 400 digits are infinity

    def __str__(self) -> str:
        return f"{self.number} {self.unit}"


def now() -> Instant:
    """By this machine's clock: what the questions take as ``now`` or ``at``."""
    return instant_from_ns(SystemClock().wall_ns())


def last(length: str, at: Instant | None = None) -> Window:
    """``last("24h")``: the 24 hours up to now, or up to ``at``. Raises ValueError for what is no length of time."""
    if length_of(length) is None:
        raise ValueError(f"{length!r} is no length of time: 90s, 15m, 6h, 7d and 2w are")
    at = at or now()
    return Window(moment(length, at), at)


def between(since: str | datetime | Instant | None, until: str | datetime | Instant | None = None) -> Window:
    """From ``since`` (inclusive) to ``until`` (exclusive); None is open. Texts are what :func:`moment` takes; a time
    without a zone is this machine's. Raises ValueError for what is no time, and for an end that is not after the
    beginning."""
    at = now()
    start = _instant(since, at)
    end = _instant(until, at, start)
    if start is not None and end is not None and start >= end:
        raise ValueError(f"{until!s} is not after {since!s}")
    return Window(start, end)


def length_of(text: str) -> Length | None:
    """None of a text that is none."""
    found = _LENGTH.fullmatch(text.strip())
    return None if found is None else Length(found[1], found[2].lower())


def moment(text: str, at: Instant, after: Instant | None = None) -> Instant:
    """A length of time is so long before ``at``; an ISO date or time without a zone is this machine's. A time of day is
    the last one there was (``23:30`` said at three in the morning is yesterday's), or the first one after ``after``,
    where that one is not. Raises ValueError, which says what a time is."""
    text = text.strip()
    length = length_of(text)
    if length is None:
        return _of_day(text, at, after) if _CLOCK.fullmatch(text) else _absolute(text, text)
    ns = to_ns(at) - length.ns
    if ns < 0:
        raise ValueError(f"{text!r} is further back than 1970")
    return instant_from_ns(ns)


def _of_day(text: str, at: Instant, after: Instant | None) -> Instant:
    found = next(each for each in reversed(_days_around(text, at)) if each <= at)
    if after is None or found > after:
        return found
    return next(each for each in _days_around(text, after) if each > after)


def _days_around(text: str, middle: Instant) -> list[Instant]:
    """That time of the day before, of that day and of the one after."""
    day = _EPOCH + timedelta(microseconds=to_ns(middle) // 1000)
    padded = text.zfill(5 if text.count(":") == 1 else 8)
    days = [(day + timedelta(days=each)).astimezone().date() for each in (-1, 0, 1)]
    return [_absolute(f"{each}T{padded}", text) for each in days]


def _absolute(text: str, said: str) -> Instant:
    try:
        return _utc(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise ValueError(f"{said!r} is no time: 15m, 6h, 7d, 2026-05-01, 2026-05-01T06:00 or 06:00 are") from None


def _instant(said: str | datetime | Instant | None, at: Instant, after: Instant | None = None) -> Instant | None:
    if isinstance(said, datetime):
        return _utc(said)
    return moment(said, at, after) if isinstance(said, str) else said


def _utc(when: datetime) -> Instant:
    within = max(_EPOCH, min(when.astimezone(UTC), _FAR))
    return instant_from_ns((within - _EPOCH) // timedelta(microseconds=1) * 1000)
