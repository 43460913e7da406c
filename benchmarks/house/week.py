"""The last seven days, run by run: a minute of all registrations at a time, so that rows lie as they came."""

import math
import random
from bisect import bisect_left
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from benchmarks.house import sessions as life
from benchmarks.house.cast import BEGAN_TO_FAIL, GOT_SLOWER, LATE, QUIET, STOPPED, STORM, WEEK, Actor, due_times
from benchmarks.house.failures import FAILURES, INTERRUPTED, TIMEOUT, Failure, Groups
from benchmarks.house.rows import Rows
from benchmarks.house.sessions import Run
from benchmarks.house.totals import Key, Rollups, Total

__all__ = ["Skip", "Week"]

LINKED: Final = 0.10  # of the handlers' runs
WITH_SPANS: Final = 0.03
WITH_LOGS: Final = 0.05
WITH_ATTRIBUTES: Final = 0.01
LATE_NS: Final = 5 * 10**9
DEADLINE_NS: Final = 10 * 10**9
BURSTS: Final = ("presence.on_position", "hub.on_event")  # come five at a time
BURST_US: Final = 15_000

_CHILDREN: Final = (
    ("GET /api/states", 3, '{"http.request.method":"GET","http.response.status_code":200,"server.port":8123}'),
    ("POST /api/services/light/turn_on", 3, '{"http.request.method":"POST","http.response.status_code":200}'),
    ("SELECT lamps", 3, '{"db.system.name":"sqlite","db.operation.name":"SELECT","db.collection.name":"lamps"}'),
    ("decide", 1, None),
)
_LINES: Final = (
    (20, "house.lights", "turning on {n} lamps"),
    (10, "house.hub", "sent {n} bytes"),
    (20, "house.climate", "target is {n} tenths of a degree"),
    (30, "house.hub", "slow answer: {n} ms"),
)
_ATTRIBUTES: Final = '{"light.brightness":80,"light.room":"kitchen"}'
_WHERE: Final = '{"code.file.path":"/srv/house/apps/base.py","code.line.number":88}'

Entry = tuple[int, int, Actor, str | Failure, int | None]
"""Start, duration, whose, how it ended, when it was due."""


@dataclass
class Skip:
    """Why something did not run, how often in an hour."""

    count: int = 0
    first_at: float = math.inf
    last_at: float = 0.0


class Week:
    """Makes the rows; knows afterwards what else belongs into the file."""

    def __init__(self, actors: list[Actor], runs: list[Run], end: float, rows: Rows, rollups: Rollups, seed: int):
        self.end, self.start = end, end - WEEK
        self.actors, self.sessions = actors, [run for run in runs if run.until(end) > self.start]
        self.groups = Groups()
        self.skips: dict[tuple[int, str, int, int, str], Skip] = {}
        self.tracebacks: dict[str, int] = {}
        self._rows, self._rollups, self._chance = rows, rollups, random.Random(seed)
        self._until_failure: dict[tuple[int, float], int] = {}
        self._due = {actor.id: due_times(actor, self.start, end) for actor in actors if actor.kind == "job"}

    def make(self) -> None:
        """Every minute of the week, every session of it."""
        minute = math.floor(self.start / 60) * 60
        while minute < self.end:
            found: dict[Key, Total] = {}
            for run in self.sessions:
                since = max(minute, self.start, run.started_at)
                until = min(minute + 60, self.end, run.until(self.end))
                if since < until:
                    self._minute(minute, run, since, until, found)
            self._rollups.minute(found.items())
            self._rows.write()
            minute += 60
        for actor in self.actors:
            if actor.kind == "job":
                self._missed(actor)

    # --- one minute ------------------------------------------------------------------------------------

    def _minute(self, minute: int, run: Run, since: float, until: float, found: dict[Key, Total]) -> None:
        entries: list[Entry] = []
        for actor in self.actors:
            if actor.service != run.service:
                continue
            before = len(entries)
            if actor.kind == "handler":
                self._events(actor, since, until, entries)
            else:
                self._fired(actor, since, until, entries)
            mine = entries[before:]
            if mine:
                found[minute, actor.kind, actor.id, run.id] = _counted(mine)
        if run.reason == "crash" and until == run.stopped_at:
            self._interrupted(minute, run, until, entries, found)
        entries.sort(key=_start)
        self._store(minute, run, entries, found)

    def _events(self, actor: Actor, since: float, until: float, entries: list[Entry]) -> None:
        if actor.full_name == QUIET and since > self.end - life.DEPLOY:
            return
        rate = actor.per_week / WEEK * actor.rhythm[int(since // 3600) % 24]
        runs = self._poisson(rate * (until - since))
        if not runs:
            return
        lowest, width = math.ceil(since * 1e6), (until - since) * 1e6 - 2
        in_bursts = actor.full_name in BURSTS
        if in_bursts:
            width = max(1.0, width - BURST_US)
        chance = self._chance.random
        starts = [(lowest + int(chance() * width)) * 1000 for _ in range(runs)]
        if in_bursts and width > 1:
            starts = _in_bursts(starts)
        self._ended(actor, since, starts, self._durations(actor, since, runs), [None] * runs, entries)

    def _fired(self, actor: Actor, since: float, until: float, entries: list[Entry]) -> None:
        times = self._due[actor.id]
        due = times[bisect_left(times, since) : bisect_left(times, until)]
        if actor.full_name == STOPPED:
            due = [each for each in due if each < self.end - life.STOPPED_SINCE]
        if not due:
            return
        chance, starts = self._chance, []
        for each in due:
            delay = chance.expovariate(80)
            if actor.full_name in LATE and chance.random() < (0.2 if actor.interval else 0.9):
                delay = chance.uniform(6, 40)
            starts.append(int((each + delay) * 1e6) * 1000)
        bound = int(until * 1e6) * 1000 - 1000  # as late as it may be and still lie in this minute and session
        starts = [min(start, bound) for start in starts]
        due_ns = [int(each * 1e6) * 1000 for each in due]
        self._ended(actor, since, starts, self._durations(actor, since, len(due)), due_ns, entries)

    def _durations(self, actor: Actor, since: float, runs: int) -> list[int]:
        pool, median = actor.pool, actor.median_ns
        if actor.full_name == GOT_SLOWER and since >= self.end - life.SLOWER:
            median *= 3
        offset = self._chance.randrange(len(pool) // 2)
        if runs > len(pool) // 2:
            return [int(self._chance.choice(pool) * median) for _ in range(runs)]
        return [int(each * median) for each in pool[offset : offset + runs]]

    def _ended(
        self, actor: Actor, since: float, starts: list[int], durations: list[int], due: list[int | None] | list[int],
        entries: list[Entry],
    ) -> None:  # fmt: skip
        """Adds them all, some as failures: the distance to the next one is drawn, not each one's fate."""
        ends: dict[int, str | Failure] = {}
        rate, ways = self._error_rate(actor, since)
        for index in self._marked(actor.id if actor.kind == "handler" else -actor.id, rate, len(starts)):
            ends[index] = way = self._chance.choice(ways)
            if way is TIMEOUT:
                durations[index] = DEADLINE_NS + durations[index] % 10**7
        if actor.cancel_rate:
            for index in self._marked(actor.id + 10_000, actor.cancel_rate, len(starts)):
                ends.setdefault(index, "cancelled")
        if ends:
            how: list[str | Failure] = [ends.get(index, "success") for index in range(len(starts))]
            entries.extend(zip(starts, durations, [actor] * len(starts), how, due, strict=True))
        else:
            entries.extend(
                (start, ns, actor, "success", at) for start, ns, at in zip(starts, durations, due, strict=True)
            )

    def _error_rate(self, actor: Actor, at: float) -> tuple[float, list[Failure]]:
        name, age = actor.full_name, self.end - at
        if name in STORM and life.STORM_BEGAN - life.STORM_SECONDS < age <= life.STORM_BEGAN:
            return 0.85, [FAILURES[0]]
        if name == BEGAN_TO_FAIL:
            return (0.4, [FAILURES[10], FAILURES[14]]) if age < life.BEGAN else (0.0005, [FAILURES[10]])
        return actor.error_rate, actor.failures

    def _marked(self, key: int, rate: float, runs: int) -> list[int]:
        """Which of the next ``runs`` are hit, at ``rate``."""
        found: list[int] = []
        if rate <= 0:
            return found
        left = self._until_failure.get((key, rate))
        if left is None:
            left = self._distance(rate)
        while left < runs:
            found.append(left)
            left += 1 + self._distance(rate)
        self._until_failure[key, rate] = left - runs
        return found

    def _distance(self, rate: float) -> int:
        return int(math.log(1 - self._chance.random()) / math.log(1 - rate))

    def _poisson(self, mean: float) -> int:
        if mean > 12:
            return max(0, round(self._chance.gauss(mean, math.sqrt(mean))))
        limit, product, found = math.exp(-mean), self._chance.random(), 0
        while product > limit:
            product *= self._chance.random()
            found += 1
        return found

    def _interrupted(self, minute: int, run: Run, until: float, entries: list[Entry], found: dict[Key, Total]) -> None:
        """What was in flight when the process died: a few of the slow ones."""
        for actor in [a for a in self.actors if a.service == run.service and a.per_week > 2000][:5]:
            start = max(minute, run.started_at, until - self._chance.uniform(0.01, 8))
            entry: Entry = (int(start * 1e6) * 1000, 0, actor, INTERRUPTED, None)
            entry = (entry[0], max(0, int(until * 1e9) - entry[0]), *entry[2:])
            entries.append(entry)
            found.setdefault((minute, actor.kind, actor.id, run.id), Total()).merge(_counted([entry]))

    # --- their rows ------------------------------------------------------------------------------------

    def _store(self, minute: int, run: Run, entries: list[Entry], found: dict[Key, Total]) -> None:
        count, session = len(entries), run.id
        chance, rows = self._chance, self._rows
        linked, traced, logged = (
            set(self._marked(20_000 + n, rate, count)) for n, rate in enumerate((LINKED, WITH_SPANS, WITH_LOGS))
        )
        described = set(self._marked(20_003, WITH_ATTRIBUTES, count))
        special = linked | described
        random_bytes = chance.randbytes(20 * count)
        ids: list[tuple[bytes, bytes]] = []
        plain = rows.plain.append
        for index, (start, ns, actor, ended, due) in enumerate(entries):
            at = index * 20
            trace = (start >> 26 & 0xFFFF_FFFF).to_bytes(4, "big") + random_bytes[at : at + 12]
            span = random_bytes[at + 12 : at + 20]
            ids.append((trace, span))
            if ended == "success" and due is None and index not in special and actor.kind == "handler":
                plain((session, start / 1e9, ns / 1e6, trace, span, actor.id, "success"))
                continue
            link: tuple[bytes | None, bytes | None] = (None, None)
            queue: float | None = None
            if index in linked and index and actor.kind == "handler":
                link = ids[chance.randrange(max(0, index - 12), index)]
                queue_ns = int(chance.expovariate(1 / 400_000))
                queue = queue_ns / 1e6
                found[minute, "handler", actor.id, session].delayed(queue_ns)
            self._special(session, start, ns, actor, ended, due, trace, span, link, queue, index in described)
        for index in traced:
            self._children(session, entries[index], *ids[index])
        for index in logged:
            self._lines(session, entries[index], *ids[index])

    def _special(
        self, session: int, start: int, ns: int, actor: Actor, ended: str | Failure, due: int | None, trace: bytes,
        span: bytes, link: tuple[bytes | None, bytes | None], queue: float | None, described: bool,
    ) -> None:  # fmt: skip
        status, error_type, message, traceback, group = "error", None, None, None, None
        if isinstance(ended, Failure):
            error_type, message = ended.error_type, ended.text(self._chance)
            if ended.has_traceback:
                traceback = self.tracebacks.setdefault(ended.traceback(), len(self.tracebacks) + 1)
            group = self.groups.seen(actor.kind, actor.id, ended, start / 1e9, message, trace, span)
            self._rows.errors += 1
            if ended.number % 3 and ended is not INTERRUPTED:  # most say something before they fail
                where = (session, trace, span, None, (start + ns) / 1e9 - 1e-4)
                self._rows.logs.append((*where, 40, f"house.{actor.app_key}", f"giving up: {message}", _WHERE))
        else:
            status = ended
        common = (
            session, start / 1e9, ns / 1e6, status, trace, span, None, *link, error_type, message, traceback,
            _ATTRIBUTES if described else None, None, group, actor.id,
        )  # fmt: skip
        if actor.kind == "handler":
            self._rows.handlers.append((*common, queue))
        else:
            self._rows.jobs.append((*common, None if due is None else due / 1e9))

    def _children(self, session: int, entry: Entry, trace: bytes, span: bytes) -> None:
        start, ns, *_ = entry
        parent, at = span, start + ns // 10
        for number in range(1 + self._chance.randrange(3)):
            name, kind, attributes = self._chance.choice(_CHILDREN)
            child, took = self._chance.randbytes(8), max(1, ns // 5)
            status = "error" if isinstance(entry[3], Failure) and not number else "unset"
            self._rows.spans.append((session, trace, child, parent, name, kind, at, took, status, attributes))
            at += took
            parent = child if number == 0 else parent

    def _lines(self, session: int, entry: Entry, trace: bytes, span: bytes) -> None:
        start, ns, *_ = entry
        for number in range(1 + self._chance.randrange(3)):
            level, logger, message = self._chance.choice(_LINES)
            at = (start + (number + 1) * ns // 5) / 1e9
            text = message.replace("{n}", str(self._chance.randrange(2000)))
            self._rows.logs.append((session, trace, span, None, at, level, logger, text, None))

    # --- what did not run ------------------------------------------------------------------------------

    def _missed(self, actor: Actor) -> None:
        """Due while nobody was there to run it."""
        mine = [run for run in self.sessions if run.service == actor.service]
        gaps = [
            (a.until(self.end), b)
            for a, b in pairwise(mine)
            if b.started_at > self.start and a.until(self.end) < b.started_at
        ]
        for since, run in gaps:
            times = self._due[actor.id]
            for due in times[bisect_left(times, since) : bisect_left(times, run.started_at)]:
                if actor.full_name == STOPPED and due >= self.end - life.STOPPED_SINCE:
                    continue
                self.skipped(actor, run, "down", due)

    def skipped(self, actor: Actor, run: Run, reason: str, at: float, count: int = 1) -> None:
        hour = int(at) // 3600 * 3600
        skip = self.skips.setdefault((hour, actor.kind, actor.id, run.id, reason), Skip())
        skip.count += count
        skip.first_at, skip.last_at = min(skip.first_at, at), max(skip.last_at, at)


def _start(entry: Entry) -> int:
    return entry[0]


def _counted(entries: list[Entry]) -> Total:
    total = Total()
    total.add([ns for _, ns, _, _, _ in entries])
    for start, _, _, ended, due in entries:
        if ended == "cancelled":
            total.cancelled += 1
        elif isinstance(ended, Failure):
            total.failed(ended.error_type)
        if due is not None:
            total.delayed(start - due, late=start - due > LATE_NS)
    return total


def _in_bursts(starts: list[int]) -> list[int]:
    """Five at a time, a few milliseconds apart, as one real thing sets off several events."""
    heads = starts[::5]
    return [heads[index // 5] + index % 5 * 3_000_000 if index % 5 else start for index, start in enumerate(starts)]
