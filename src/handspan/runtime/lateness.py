"""Moments that passed without a run."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Final

from handspan.commands import Job
from handspan.runtime.host import Host
from handspan.runtime.moments import to_instant

__all__ = ["count_missed", "is_too_late"]

log = logging.getLogger(__name__)

MOST_MOMENTS: Final = 10_000  # told by their hours, 3 ms on the loop: three hours' sleep of a job of each second


def count_missed(host: Host, job: Job, moments: Sequence[datetime]) -> None:
    """By the hour they were due in; of more than ``MOST_MOMENTS``, all in the last one's."""
    told = moments[-1:] if len(moments) > MOST_MOMENTS else moments
    rest = len(moments) - len(told)
    for _, group in groupby(told, _hour):
        first, *others = group
        host.skipped(job, "missed", 1 + rest, at=to_instant(first))
        if others:
            host.skipped(job, "missed", len(others), at=to_instant(others[-1]))


def is_too_late(what: object, moment: datetime, grace: float | None) -> bool:
    """Past the grace a job was given, which is logged."""
    if grace is None:
        return False
    late = (datetime.now(UTC) - moment).total_seconds()
    if late <= grace:
        return False
    log.warning("%r was due at %s, %.1f seconds ago; that run is skipped.", what, moment.isoformat(), late)
    return True


def _hour(moment: datetime) -> float:
    return moment.timestamp() // 3600
