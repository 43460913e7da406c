"""Moments at which an APScheduler job was due and did not run: coalesced, given up, or nobody was there."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import groupby, islice, takewhile
from typing import Any, Final

from whenever import Instant

from handspan.clock import to_ns
from handspan.commands import Job
from handspan.integrations.host import Host, to_instant
from handspan.records import DueBetween

__all__ = ["count_missed", "due_between", "moments_before"]

MOST_COALESCED: Final = 1_000  # asked of the trigger on the scheduler's thread, 5 to 50 us each


def due_between(job: Any) -> DueBetween:
    """For when the job is registered: what fell due since the last process announced it. What a persistent job store
    has kept is none of that: the scheduler itself runs it late, or gives it up, and is heard of then."""
    announced, trigger = getattr(job, "next_run_time", None), job.trigger
    if announced is not None and announced <= datetime.now(UTC):
        return lambda _first, _until: ()

    def due(first: Instant, until: Instant) -> Iterator[Instant]:
        start, end = (datetime.fromtimestamp(to_ns(each) / 1e9, UTC) for each in (first, until))
        return map(to_instant, takewhile(lambda moment: moment <= end, _from(trigger, start)))

    return due


def moments_before(job: Any, run_times: list[datetime]) -> Iterator[datetime]:
    """Those that became one with the first of these: the job's next run is still the one it announced."""
    announced = getattr(job, "next_run_time", None)
    if announced is None or not run_times or announced >= run_times[0]:
        return iter(())
    return islice(takewhile(lambda moment: moment < run_times[0], _from(job.trigger, announced)), MOST_COALESCED)


def count_missed(host: Host, handle: Job, moments: Iterable[datetime], since: datetime) -> None:
    """By the hour they were due in. What was due before ``since`` fell while the process was down."""

    def hour_and_reason(moment: datetime) -> tuple[float, str]:
        return moment.timestamp() // 3600, "down" if moment < since else "missed"

    for (_, reason), group in groupby(moments, hour_and_reason):
        first, *others = group
        host.skipped(handle, reason, at=to_instant(first))
        if others:
            host.skipped(handle, reason, len(others), at=to_instant(others[-1]))


def _from(trigger: Any, moment: datetime | None) -> Iterator[datetime]:
    while moment is not None:
        yield moment
        moment = trigger.get_next_fire_time(moment, moment)
