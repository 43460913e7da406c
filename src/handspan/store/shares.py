"""Who has to give when the file is too large: a plan, made by reading, before anything is deleted.

Every registration has the same share of the size. Whoever is above it gives first, down to the level at which the
file fits: as water finds its level, so those below it lose nothing. What is worth least goes first, of all of them,
before anything that is worth more: dull successes, slow ones, cancelled runs, errors. A run takes the spans of its
trace and its log lines along, and they count as its registration's. Spans of no stored run, and a trace of more than
a fiftieth of the size, are held to shares of their own: no one of them can drive out everybody's history.

Slow is relative: longer than 95 % of the registration's own newest successes, and than twice their median. So at most
one of twenty is slow, also of a job that always takes an hour, and none of one that always takes about as long.

Counting ten million rows at every start would take longer than it is worth. Up to ``EXACT`` ids all are counted;
beyond that 1,024 stretches of 64 neighbours, at even distances, stand for the rest.
"""

import math
import sqlite3
from collections import defaultdict
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from handspan.store.doomed import KINDS, RunKind, as_ns, for_kind, ids
from handspan.store.statements import statements

__all__ = ["WORTHS", "Portion", "lowered", "make_plan"]

_SQL: Final = statements("sql/shares.sql")
_RETENTION: Final = statements("sql/retention.sql")
WORTHS: Final = ("dull", "slow", "cancelled", "error")

HABIT_RUNS: Final = 200  # newest runs that make a habit
HABIT_LEAST: Final = 20  # successes; fewer are no habit, and none of them is slow
HABIT_ROWS: Final = 200_000  # looked at for all habits together
REGISTRATIONS_AT_ONCE: Final = 500  # then the writer gets its turn
EXACT: Final = 262_144
EXACT_SPANS: Final = 32_768  # each trace is looked up: its owner is in another table
LENGTH: Final = 64
SAMPLED: Final = 4  # of what would be counted, so much is looked at: even distances cost a page each
MET: Final = 3  # stretches a trace was met in, before it is called large: one may be all of a small one
LARGE_TRACE: Final = 0.02  # of the size
LIKELY_SCALE: Final = (0.5, 3.0)  # bytes on the page for each that is in a row; more is not rows

Key = tuple[str, int | str]


@dataclass(frozen=True)
class Portion:
    """The oldest ``rows`` of one registration that are worth ``worth`` (None: all of them)."""

    kind: str
    """``handler``, ``job``; ``loose`` for spans of no stored run, ``trace`` for those of one."""
    id: int | str
    worth: str
    rows: int | None


@dataclass
class _Share:
    """Rows and bytes one has, by what they are worth."""

    rows: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    bytes: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    @property
    def total(self) -> float:
        return sum(size for worth, size in self.bytes.items() if worth != "old")


def lowered(owned: Sequence[float], can_give: Sequence[float], need: float) -> list[float]:
    """How much each gives so that ``need`` comes together and what they are left with is as level as can be.

    The level sinks from the largest; one joins in when it is reached and leaves when it has given what it can.
    """
    turns = sorted(
        [(-have, 1) for have, can in zip(owned, can_give, strict=True) if can > 0]
        + [(-(have - can), -1) for have, can in zip(owned, can_give, strict=True) if can > 0]
    )
    giving, collected, level = 0, 0.0, -turns[0][0] if turns else 0.0
    for at, change in turns:
        sunk = level + at  # turns hold the level's negative
        if giving and collected + giving * sunk >= need:
            break
        collected += giving * sunk
        level, giving = -at, giving + change
    if giving:
        level -= (need - collected) / giving
    return [min(can, max(0.0, have - level)) for have, can in zip(owned, can_give, strict=True)]


def make_plan(
    conn: sqlite3.Connection, *, live: int, target: float, before: float
) -> Generator[None, None, list[Portion]]:
    """What goes, in order, so that ``live`` bytes become ``target`` once all before ``before`` has gone by age."""
    yield from _learn_habits(conn)
    shares: defaultdict[Key, _Share] = defaultdict(_Share)
    for kind in KINDS:
        _sample_runs(conn, kind, before, shares)
        yield
    (page_size,) = conn.execute("PRAGMA page_size").fetchone()
    (btrees,) = conn.execute(_SQL["btrees"]).fetchone()
    content = max(0, live - page_size * btrees)
    conn.execute(_SQL["sampled_spans"])
    large = _sample_spans(conn, before, target, shares)
    yield
    _sample_lines(conn, before, shares)
    yield
    known = sum(sum(share.bytes.values()) for share in shares.values())
    least, most = LIKELY_SCALE
    scale = min(max(content / known, least), most) if known else 1.0
    need = live - target - scale * sum(share.bytes["old"] for share in shares.values())
    if need <= 0:
        return []
    return _divide(conn, shares, need / scale, before, large)


def _divide(
    conn: sqlite3.Connection, shares: dict[Key, _Share], need: float, before: float, large: list[Key]
) -> list[Portion]:
    plan: list[Portion] = []
    owned = {key: share.total for key, share in shares.items()}
    everybody: list[Key] | None = None
    for worth in WORTHS:
        available = {key: share.bytes[worth] for key, share in shares.items() if share.bytes[worth] > 0}
        if need < sum(available.values()):
            givers = list(available)
            gifts = lowered([owned[key] for key in givers], [available[key] for key in givers], need)
            for key, gift in zip(givers, gifts, strict=True):
                if gift > 0:
                    rows = shares[key].rows[worth]
                    plan.append(Portion(*key, worth, -int(-rows * gift // available[key])))
            return plan
        if everybody is None:  # also those no stretch has met: what is worth more goes after the last of these
            everybody = [("loose", 0), *large, *_everybody(conn, before)]
        plan += [Portion(*key, worth, None) for key in everybody if worth == "dull" or key[0] in KINDS]
        need -= sum(available.values())
        for key, size in available.items():
            owned[key] -= size
    return plan


def _everybody(conn: sqlite3.Connection, before: float) -> Iterator[Key]:
    for kind in KINDS:
        (found,) = conn.execute(for_kind(_RETENTION["parents_with_young"], kind), {"before": before}).fetchone()
        yield from ((kind, each) for each in ids(found))


def _learn_habits(conn: sqlite3.Connection) -> Generator[None, None, None]:
    conn.execute(_RETENTION["forget_habits"])
    found = [conn.execute(for_kind(_SQL["registrations"], kind)).fetchone() for kind in KINDS]
    newest = min(max(HABIT_ROWS // max(1, sum(count for count, _ in found)), HABIT_LEAST), HABIT_RUNS)
    for kind, (_, highest) in zip(KINDS, found, strict=True):
        for after in range(0, highest, REGISTRATIONS_AT_ONCE):
            values = {"after": after, "last": after + REGISTRATIONS_AT_ONCE, "newest": newest, "least": HABIT_LEAST}
            conn.execute(for_kind(_SQL["learn_habits"], kind), values)
            yield


def _stretches(lowest: int, highest: int, exact: int) -> tuple[dict[str, int], float]:
    """Where to look, and how many rows each one met stands for."""
    ids_in_all = highest - lowest + 1
    stride = LENGTH if ids_in_all <= exact else ids_in_all // (exact // LENGTH // SAMPLED)
    return {"lowest": lowest, "highest": highest, "stride": stride, "length": LENGTH}, stride / LENGTH


def _sample_runs(conn: sqlite3.Connection, kind: RunKind, before: float, shares: dict[Key, _Share]) -> None:
    lowest, highest = conn.execute(for_kind(_SQL["runs_range"], kind)).fetchone()
    if lowest is None:
        return
    where, weight = _stretches(lowest, highest, EXACT)
    (found,) = conn.execute(for_kind(_SQL["sample_runs"], kind), where | {"before": before}).fetchone()
    for line in (found or "").split(";"):
        if line:
            parent, worth, rows, size = line.split(" ")
            share = shares[kind, int(parent)]
            share.rows[worth] += int(rows) * weight
            share.bytes[worth] += int(size) * weight


def _sample_spans(conn: sqlite3.Connection, before: float, target: float, shares: dict[Key, _Share]) -> list[Key]:
    """Adds them to their owners' shares; returns the traces that got one of their own."""
    lowest, highest = conn.execute(_RETENTION["span_range"]).fetchone()
    if lowest is None:
        return []
    where, weight = _stretches(lowest, highest, EXACT_SPANS)
    conn.execute(_SQL["forget_spans"])
    conn.execute(_SQL["sample_spans"], where | {"before_ns": as_ns(before)})
    large = {"large": max(LARGE_TRACE * target / weight, 1), "met": MET if weight > 1 else 1}
    found: list[Key] = []
    for trace, rows, size in conn.execute(_SQL["large_traces"], large).fetchall():
        share = shares["trace", trace]
        share.rows["dull"], share.bytes["dull"] = rows * weight, size * weight
        found.append(("trace", trace))
    _give_to_owners(conn, shares, weight, large | {"before": before})
    return found


def _sample_lines(conn: sqlite3.Connection, before: float, shares: dict[Key, _Share]) -> None:
    """Log lines are their runs'. They go with them and never alone: a line counts as bytes, not as a row."""
    lowest, highest = conn.execute(_SQL["lines_range"]).fetchone()
    if lowest is None:
        return
    where, weight = _stretches(lowest, highest, EXACT_SPANS)
    conn.execute(_SQL["forget_spans"])
    conn.execute(_SQL["sample_lines"], where | {"before": before})
    _give_to_owners(conn, shares, weight, {"large": math.inf, "met": 1, "before": before})


def _give_to_owners(
    conn: sqlite3.Connection, shares: dict[Key, _Share], weight: float, values: dict[str, float]
) -> None:
    (owners,) = conn.execute(_SQL["span_owners"], values).fetchone()
    for line in (owners or "").split(";"):
        if line:
            kind, parent, worth, spans, size = line.split(" ")
            share = shares[kind, int(parent)]
            share.bytes[worth] += int(size) * weight
            if kind == "loose":
                share.rows[worth] += int(spans) * weight
