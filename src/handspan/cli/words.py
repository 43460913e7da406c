"""What the tables of figures say alike: whose they are, what moved, and what time they really are of."""

from collections.abc import Iterable, Iterator
from typing import Protocol

from rich.text import Text
from whenever import Instant

from handspan import wording
from handspan.cli.figures import amount, count, iso, took
from handspan.cli.output import PALE
from handspan.store.queries.compare import RATIO, SIGMAS, Change, changes
from handspan.store.queries.cover import Cover
from handspan.store.queries.figures import Figures

__all__ = ["Nameable", "changed", "coverage", "percent", "several_services", "title", "was"]


class Nameable(Protocol):
    """A registration, which may have been pruned since."""

    @property
    def service(self) -> str | None: ...
    @property
    def app_key(self) -> str | None: ...
    @property
    def instance_index(self) -> int | None: ...
    @property
    def name(self) -> str | None: ...


def title(of: Nameable, *, service: bool = False, retired_at: Instant | None = None) -> Text:
    """``app.name``, with the instance where it is not the first."""
    if of.name is None:
        return Text("(pruned)", style=PALE)
    found = Text(wording.title(of.app_key or "", of.name, of.instance_index or 0, (of.service or "") * service))
    if retired_at is not None:
        found.append(" (retired)", style=PALE)
    return found


def several_services(found: Iterable[Nameable]) -> bool:
    return len({of.service for of in found if of.service is not None}) > 1


def percent(share: float) -> str:
    """``0.2 %``, ``12 %``"""
    value = share * 100
    if value and value < 0.1:
        return "under 0.1 %"
    return f"{value:.0f} %" if value >= 10 or value == round(value) else f"{value:.1f} %"


def changed(change: Change) -> str:
    """``p95 2.1 x, was 40.0 ms``"""
    if change.what == "error_rate":
        return f"{percent(change.after)} failed, was {percent(change.before)}"
    name = change.what.removesuffix("_ms")
    if change.ratio is None:
        return f"{name} {took(change.after)}, was nothing"
    return f"{name} {change.ratio:.2g} x, was {took(change.before)}"


def was(activity: Figures, before: Figures | None) -> str:
    """What was otherwise in as long a time before: empty if nothing moved beyond noise."""
    if before is None:
        return ""
    runs, earlier = activity.runs, before.runs
    words = []
    if abs(runs - earlier) > SIGMAS * (runs + earlier) ** 0.5 and max(runs, earlier) >= RATIO * min(runs, earlier):
        words.append(amount(earlier, "run"))
    for change in changes(before, activity):
        if change.what == "error_rate":
            words.append(f"{count(before.errors)} failed")
        else:
            words.append(f"{change.what.removesuffix('_ms')} {took(change.before)}")
    return ", ".join(words)


def coverage(found: Cover) -> Iterator[Text]:
    """Where figures are of another time than was asked for."""
    if found.widened:
        since, until = found.effective.since, found.effective.until
        ends = [f"{word} {iso(end)[:16]}Z" for word, end in (("from", since), ("to", until)) if end is not None]
        yield Text(f"Figures so old are kept in whole hours or days: these are {' '.join(ends)}.", style=PALE)
    if found.filling:
        yield Text("Runs from before an upgrade are still being counted: figures of then are too low.", style=PALE)
