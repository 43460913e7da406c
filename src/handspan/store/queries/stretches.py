"""A window as stretches of rollup buckets: long ones by the day, their edges by the hour and by the minute."""

import json
from typing import Final

from whenever import Instant

from handspan.clock import to_epoch, to_ns
from handspan.store.queries.shapes import Window

__all__ = ["Stretch", "as_json", "stretches"]

Stretch = tuple[int, int, int]
"""Resolution, first bucket, and the one behind the last."""

MINUTE: Final = 60
HOUR: Final = 3600
DAY: Final = 86_400
FINE: Final = DAY  # how far back an edge is read by the minute: minutes go with the rows, perhaps after a day
HOURLY: Final = 80 * DAY  # likewise by the hour: hours are kept for 90 days


def stretches(window: Window, now: Instant) -> list[Stretch]:
    """The first bucket of each is one the window begins in, so what ran just before it may be among them: up to a
    minute's in the last day, an hour's before that, a day's at the far end."""
    at = to_epoch(to_ns(now))
    since = 0 if window.since is None else max(0, int(to_epoch(to_ns(window.since))))
    until = int(at) + DAY if window.until is None else -int(-to_epoch(to_ns(window.until)) // 1)
    return [stretch for stretch in _split(since, until, at) if stretch[1] < stretch[2]]


def as_json(found: list[Stretch]) -> str:
    return json.dumps(found)


def _split(since: int, until: int, at: float) -> list[Stretch]:
    if until <= at - HOURLY:
        return [(DAY, since // DAY * DAY, until)]
    start_by = MINUTE if since > at - FINE else HOUR if since > at - HOURLY else DAY
    start = since // start_by * start_by
    first_hour = min(_up(start, HOUR), until)
    first_day = min(_up(first_hour, DAY), until)
    last_day = max(until // DAY * DAY, first_day)
    last_hour = max(until // HOUR * HOUR, first_hour)
    days = first_day < last_day
    return [
        (MINUTE, start, first_hour),
        (HOUR, first_hour, first_day if days else last_hour),
        (DAY, first_day, last_day),
        (HOUR, last_day if days else last_hour, last_hour),
        (MINUTE if until > at - FINE else HOUR, last_hour, until),
    ]


def _up(moment: int, step: int) -> int:
    return -(-moment // step) * step
