"""One registration's window added up, beside as long a time before it, with how long its runs took."""

from dataclasses import dataclass

from whenever import Instant

from handspan.clock import instant_from_ns, to_ns
from handspan.store.histogram import bound_ms
from handspan.store.queries.cover import cover
from handspan.store.queries.figures import Figures, Which, with_latency
from handspan.store.queries.merging import Merged
from handspan.store.queries.runs import Kind
from handspan.store.queries.shapes import Window, instant
from handspan.store.service import DatabaseService

__all__ = ["Latency", "Tally", "before", "tally"]


@dataclass(frozen=True)
class Latency:
    """Runs by bucket of duration: bucket ``i`` holds durations above ``bounds_ms[i]``, up to the next bound."""

    bounds_ms: list[float]
    runs: list[int]


@dataclass(frozen=True, kw_only=True)
class Tally(Figures):
    """What ran from ``since`` (inclusive) to ``until`` (exclusive)."""

    since: Instant
    """What was asked for; earlier where figures so old are kept in whole hours or days."""
    until: Instant
    latency: Latency


async def tally(db: DatabaseService, kind: Kind, registration_id: int, window: Window, at: Instant) -> Tally:
    """A few hundred point seeks. A window without an end ends at ``at``, one without a beginning with what is known."""
    covered = await cover(db, window)
    found, latency = await with_latency(db, covered, Which(kind, registration_id))
    until = covered.effective.until or max(at, window.since or at)
    since = covered.effective.since or min(instant(covered.begins), until)
    return Tally(**vars(found), since=since, until=until, latency=_latency(latency))


def before(found: Tally) -> Window:
    """As long, and right before it."""
    since, until = to_ns(found.since), to_ns(found.until)
    return Window(instant_from_ns(max(0, 2 * since - until)), found.since)


def _latency(merged: Merged) -> Latency:
    histogram = merged.histogram
    if not histogram:
        return Latency([], [])
    buckets = range(min(histogram), max(histogram) + 1)
    bounds = [bound_ms(bucket) for bucket in range(buckets.start, buckets.stop + 1)]
    return Latency(bounds, [histogram[bucket] for bucket in buckets])
