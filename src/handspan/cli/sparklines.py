"""Figures drawn in characters: a line, a small column chart, a bar. Each character is one cell wide.

Nothing is drawn for what is not known: a value that does not exist (a percentile of no runs) is blank, and what was not
recorded is hatched, so that neither looks like zero. A zero is a dot, so that it does not look like very little.
Terminals without UTF-8 get :data:`TO_ASCII`'s characters: a ramp of ink instead of one of height.
"""

import math
from collections.abc import Collection, Sequence
from typing import Final

__all__ = ["BLANK", "LEVELS", "NOT_RECORDED", "TO_ASCII", "ZERO", "bar", "columns", "level", "sparkline"]

LEVELS: Final = "▁▂▃▄▅▆▇█"
ZERO: Final = "."  # on the base line, where a zero belongs; a middle dot floats
NOT_RECORDED: Final = "░"
BLANK: Final = " "
EIGHTHS: Final = "▏▎▍▌▋▊▉█"

TO_ASCII: Final = str.maketrans(
    {
        **dict(zip(LEVELS, ":-=+*%#@", strict=True)),
        **dict.fromkeys(EIGHTHS[:3], " "),
        **dict.fromkeys(EIGHTHS[3:-1], "="),
        NOT_RECORDED: "/",
        "─": "-",
        "│": "|",
        "┴": "+",
        "·": "-",
        "×": "x",
        "▲": "!",
    }
)
"""For ``str.translate``; :mod:`handspan.cli.output` does it to whatever goes where UTF-8 is not spoken."""


def sparkline(
    values: Sequence[float | None], *, gaps: Collection[int] = (), top: float | None = None, log: bool = False
) -> str:
    """A character for each value, the largest (or ``top``) a full block.

    ``None`` is blank: there is no such value. ``gaps`` are the places of what was not recorded, whatever their
    value. ``log``: each step up is a multiple rather than an amount.
    """
    highest = _highest(values) if top is None else top
    return "".join(
        NOT_RECORDED if place in gaps else _character(value, highest, log) for place, value in enumerate(values)
    )


def level(value: float, top: float, steps: int = len(LEVELS), *, log: bool = False) -> int:
    """How many of ``steps`` a value fills: 0 only for zero (or less), all of them from ``top`` on."""
    if not value > 0 or not top > 0:  # also NaN
        return 0
    if value >= top:
        return steps
    share = math.log1p(value) / math.log1p(top) if log else value / top
    return min(steps, max(1, math.ceil(share * steps - 1e-9)))


def columns(values: Sequence[float], height: int) -> list[str]:
    """A column chart, its lines from the top down: of each column the last block is cut to eighths."""
    top = _highest(values)
    filled = [level(value, top, height * len(LEVELS)) for value in values]
    lines = []
    for row in range(height - 1, -1, -1):
        cells = (min(len(LEVELS), max(0, eighths - row * len(LEVELS))) for eighths in filled)
        lines.append("".join(LEVELS[cell - 1] if cell else BLANK for cell in cells))
    return lines


def bar(value: float, top: float, width: int) -> str:
    """A bar to the right, at most ``width`` long; a value above zero is always to be seen."""
    eighths = level(value, top, width * len(EIGHTHS))
    whole, rest = divmod(eighths, len(EIGHTHS))
    return EIGHTHS[-1] * whole + (EIGHTHS[rest - 1] if rest else "")


def _character(value: float | None, top: float, log: bool) -> str:
    if value is None or math.isnan(value):
        return BLANK
    filled = level(value, top, log=log)
    return LEVELS[filled - 1] if filled else ZERO


def _highest(values: Sequence[float | None]) -> float:
    return max((value for value in values if value is not None and math.isfinite(value)), default=0.0)
