"""Rounds, rows and budgets: what all measurements share."""

import gc
import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

__all__ = ["Budget", "Row", "Size", "interleaved", "percentile", "row"]

T = TypeVar("T")


@dataclass(frozen=True)
class Size:
    """How much to measure: everything, or just enough to see that it still runs."""

    quick: bool

    def pick(self, full: T, quick: T) -> T:
        return quick if self.quick else full


@dataclass(frozen=True)
class Budget:
    """What a row has to keep: of its ratio, of ours minus the other, or of ours alone."""

    of: Literal["ratio", "difference", "ours"]
    limit: float
    at_least: bool = False

    def met(self, ratio: float, ours: float, other: float) -> bool:
        value = {"ratio": ratio, "difference": ours - other, "ours": ours}[self.of]
        return value >= self.limit if self.at_least else value <= self.limit

    def text(self, unit: str) -> str:
        sign = "≥" if self.at_least else "≤"
        if self.of == "ratio":
            return f"{sign} {self.limit:g} x"
        if self.of == "difference":
            return f"{sign} other + {self.limit:g} {unit}"
        return f"{sign} {self.limit:g} {unit}"


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    what: str
    against: str
    """What the other side is."""
    unit: str
    ours: float
    other: float
    ratio: float
    spread: tuple[float, float]
    """Lowest and highest ratio of a round."""
    rounds: int
    budget: Budget | None = None
    met: bool | None = None
    note: str = ""

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(found: Mapping[str, Any]) -> "Row":
        budget = found["budget"]
        return Row(**{**found, "spread": tuple(found["spread"]), "budget": Budget(**budget) if budget else None})


def row(
    name: str,
    what: str,
    against: str,
    unit: str,
    ours: Iterable[float],
    other: Iterable[float],
    budget: Budget | None = None,
    note: str = "",
) -> Row:
    """Medians of the rounds of both sides; the ratio is the median of the rounds' own ratios."""
    ours, other = list(ours), list(other)
    ratios = [mine / theirs for mine, theirs in zip(ours, other, strict=True)]
    ratio, mine, theirs = statistics.median(ratios), statistics.median(ours), statistics.median(other)
    met = None if budget is None else budget.met(ratio, mine, theirs)
    spread = (min(ratios), max(ratios))
    return Row(name, what, against, unit, mine, theirs, ratio, spread, len(ratios), budget, met, note)


def interleaved(sides: Mapping[str, Callable[[], T]], rounds: int, *, warm_up: int = 1) -> dict[str, list[T]]:
    """``A B C``, then ``C B A``, and so on: neither load from outside nor a drift favours a side."""
    found: dict[str, list[T]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(warm_up + rounds):
        for name in names if number % 2 == 0 else reversed(names):
            gc.collect()
            value = sides[name]()
            if number >= warm_up:
                found[name].append(value)
    return found


def percentile(values: Iterable[float], percent: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
