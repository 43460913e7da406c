"""What the verdict is made of: findings, the figures beside them, and where to look for the cause."""

from dataclasses import dataclass
from typing import Final, Literal, NamedTuple

from whenever import Instant

from handspan.store.queries.runs import Kind
from handspan.wording import amount, clock, short, title

__all__ = ["Bucket", "Figure", "Finding", "Known", "Looked", "Moments", "Rule", "Severity", "Verdict"]

Rule = Literal[
    "error_rate", "slower", "late", "missed", "overlapped", "overdue", "gone_quiet",
    "crash", "not_recording", "journal", "damage", "losses", "regressed", "new_error",
]  # fmt: skip
Severity = Literal["alarm", "trouble", "notice"]
"""``alarm``: records or most runs are being lost, now. ``trouble``: it lasts. ``notice``: it is over, or small."""

_ORDER: Final[dict[Severity, int]] = {"alarm": 0, "trouble": 1, "notice": 2}


class Bucket(NamedTuple):
    """A minute, an hour or a day of one registration: how many ran, how many of them as they should not."""

    start: int
    runs: int
    bad: int


class Moments(NamedTuple):
    """When it is asked, and from when on; epoch seconds, the latter on the hour."""

    now: float
    window: int


@dataclass(frozen=True)
class Known:
    """A registration that an application still has."""

    kind: Kind
    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    registered_at: float
    several: bool = False
    """More than one service is in the file: names begin with theirs."""

    @property
    def title(self) -> str:
        return short(title(self.app_key, self.name, self.instance_index, self.service if self.several else ""))


@dataclass(frozen=True)
class Figure:
    """A number with its unit: ``share`` (0 to 1), ``ms``, ``runs``, ``seconds``, ``records``, ``sessions``."""

    value: float
    unit: str
    runs: int | None = None
    """How many runs it was taken from."""


@dataclass(frozen=True)
class Finding:
    """One thing that needs a look."""

    rule: Rule
    severity: Severity
    kind: Kind | None
    """Of the registration, with the five after it; None where recording itself is meant."""
    id: int | None
    service: str | None
    app_key: str | None
    instance_index: int | None
    name: str | None
    session_id: int | None
    since: Instant
    """When it began to differ."""
    until: Instant | None
    """When it ended; None while it lasts."""
    now: Figure | None
    habit: Figure | None
    words: str
    """One sentence."""
    see: str
    """The command that shows its cause."""
    weight: float = 0.0
    """Runs or records that it cost, about: among equals the heaviest comes first."""

    def order(self) -> tuple[int, bool, float, str]:
        return (_ORDER[self.severity], self.until is not None, -self.weight, self.words)


@dataclass(frozen=True)
class Looked:
    """What was looked at."""

    handlers: int
    jobs: int
    runs: int
    since: Instant
    until: Instant
    habit_days: int
    began: Instant | None = None
    """When the file did, if that is later than ``since``."""


@dataclass(frozen=True)
class Verdict:
    """What needs a look, the most serious first."""

    findings: list[Finding]
    more: int
    """Findings beyond those listed."""
    remarks: list[str]
    """To be known, and nothing to look after: nothing records because it was stopped."""
    looked: Looked

    @property
    def words(self) -> str:
        """The sentence a page opens with."""
        since = clock(self.looked.since, self.looked.until)
        number = len(self.findings) + self.more
        if number:
            return f"{amount(number, 'thing needs', 'things need')} a look."
        ran = "" if self.looked.runs else " Nothing ran, either."
        if self.looked.began is not None:
            since = f"this file began, at {clock(self.looked.began, self.looked.until)}"
        return f"Nothing needs a look since {since}.{ran}"

    @property
    def basis(self) -> str:
        """What was looked at, in words."""
        looked = self.looked
        what = (
            f"Looked at {amount(looked.handlers, 'handler')} and {amount(looked.jobs, 'job')}, "
            f"{amount(looked.runs, 'run')} since {clock(looked.began or looked.since, looked.until)}, "
        )
        if looked.began is not None:
            return f"{what}when this file began: there is no habit yet."
        return f"{what}against the {amount(looked.habit_days, 'day')} before."
