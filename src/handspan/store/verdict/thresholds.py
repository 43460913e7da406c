"""From when on something needs a look: the settings' share of it, and the numbers that are nobody's to turn."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Final

from handspan.settings import Settings
from handspan.store.verdict.shapes import Known, Rule

__all__ = ["CHANCE", "Bar", "Thresholds"]

CHANCE: Final = 1e-5
"""How likely chance alone may look like trouble, in one stretch of one registration. A look weighs some hundred
stretches of each of, say, sixty registrations: one look in a hundred would then speak of nothing."""


@dataclass(frozen=True)
class Bar:
    """What a share of bad runs has to pass, chance aside."""

    factor: float
    """Times the habit."""
    floor: float
    """At least so much."""
    least: int = 3
    """Bad runs: two can be one cause that has passed."""


@dataclass(frozen=True, kw_only=True)
class Thresholds:
    """``Thresholds()`` are the defaults; ``Thresholds.of(settings)`` what somebody set."""

    window_hours: int = Settings.verdict_window_hours
    habit_days: int = Settings.verdict_habit_days
    min_runs: int = Settings.verdict_min_runs
    error_factor: float = Settings.verdict_error_factor
    slower_factor: float = Settings.verdict_slower_factor
    slower_ms: float = Settings.verdict_slower_ms
    quiet_factor: float = Settings.verdict_quiet_factor
    ignore: tuple[str, ...] = Settings.verdict_ignore

    @classmethod
    def of(cls, settings: Settings) -> "Thresholds":
        return cls(
            window_hours=settings.verdict_window_hours,
            habit_days=settings.verdict_habit_days,
            min_runs=settings.verdict_min_runs,
            error_factor=settings.verdict_error_factor,
            slower_factor=settings.verdict_slower_factor,
            slower_ms=settings.verdict_slower_ms,
            quiet_factor=settings.verdict_quiet_factor,
            ignore=settings.verdict_ignore,
        )

    @property
    def errors(self) -> Bar:
        return Bar(self.error_factor, floor=0.02)

    @property
    def lateness(self) -> Bar:
        """A tenth of the runs: a scheduler that is busy now and then is late now and then."""
        return Bar(self.error_factor, floor=0.1)

    @property
    def slowness(self) -> Bar:
        """One run in twenty above ``slower_factor`` times the usual p95: the p95 has moved there."""
        return Bar(1.0, floor=0.05)

    def silences(self, rule: Rule, known: Known | None) -> bool:
        """Patterns are ``name``, ``app.name``, a rule, or ``rule:app.name``."""
        if known is None:
            return rule in self.ignore
        full = f"{known.app_key}.{known.name}"
        spellings = (full, known.name, f"{known.service}/{full}", f"{full} #{known.instance_index}", rule)
        return any(
            fnmatchcase(each, pattern) or fnmatchcase(f"{rule}:{each}", pattern)
            for pattern in self.ignore
            for each in spellings
        )
