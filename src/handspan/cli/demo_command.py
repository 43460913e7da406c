"""``handspan demo``: a house that works without one."""

from typing import Annotated

import typer

from handspan.cli.options import DEFAULT_DB, Db
from handspan.errors import HandspanError

__all__ = ["demo"]


def demo(
    db: Db = DEFAULT_DB,
    once: Annotated[bool, typer.Option("--once", help="End after one day of the house.")] = False,
    speed: Annotated[str, typer.Option(metavar="FACTOR", help="Times as fast as the house lived, or max.")] = "60",
    live: Annotated[bool, typer.Option("--live", help="Show the runs as they happen.")] = False,
) -> int:
    """Record a real house's day, to have something to look at."""
    factor = _factor(speed)
    try:
        from handspan.demo.app import run_demo
    except ModuleNotFoundError as error:
        raise HandspanError(
            f"The demo needs {error.name}.", hint='pip install "handspan[all]" has everything it takes.'
        ) from error
    return int(run_demo(db=db, once=once, speed=factor, live=live))


def _factor(text: str) -> float | None:
    """None is as fast as it goes."""
    if text.strip().lower() == "max":
        return None
    try:
        factor = float(text)
    except ValueError:
        factor = 0.0
    if not 0 < factor < float("inf"):
        raise typer.BadParameter(f"{text!r} is neither a number above 0 nor max", param_hint="'--speed'")
    return factor
