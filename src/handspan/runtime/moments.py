"""Moments, spans of time and zones as people write them, and as APScheduler's triggers want them."""

import math
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from whenever import Instant, ZonedDateTime

from handspan.clock import instant_from_ns, to_ns
from handspan.errors import RegistrationError

__all__ = ["Moment", "Span", "to_datetime", "to_instant", "to_timedelta", "to_zone"]

Moment = Instant | ZonedDateTime | datetime
"""A ``datetime`` without a zone is in the scheduler's."""
Span = float | timedelta
"""A number is seconds."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def to_instant(moment: datetime) -> Instant:
    """Exact: a ``timestamp()`` is a float."""
    return instant_from_ns((moment - _EPOCH) // _MICROSECOND * 1000)


def to_datetime(moment: Moment, zone: tzinfo) -> datetime:
    if isinstance(moment, datetime):
        return moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
    instant = moment if isinstance(moment, Instant) else moment.to_instant()
    return _EPOCH + to_ns(instant) // 1000 * _MICROSECOND


def to_timedelta(span: Span) -> timedelta:
    if isinstance(span, timedelta):
        return span
    if not math.isfinite(span):
        raise RegistrationError(f"{span!r} is no span of time.", hint="Give seconds or a timedelta.")
    return timedelta(seconds=span)


def to_zone(zone: str | tzinfo) -> tzinfo:
    if not isinstance(zone, str):
        return zone
    try:
        return ZoneInfo(zone)
    except (KeyError, OSError, ValueError):  # not found; a directory; not a key at all
        raise RegistrationError(f"There is no time zone {zone!r}.", hint='Give one like "Europe/Vienna".') from None
