"""``handspan demo``: a house that works without one."""

from typing import Annotated, Final

import typer

from handspan.errors import HandspanError

__all__ = ["demo"]

DEMO_DB: Final = "handspan-demo.db"
"""Not the application's own file, whatever ``HANDSPAN_DB`` says."""


def demo(
    db: Annotated[str, typer.Option("--db", metavar="PATH", help="The database file.")] = DEMO_DB,
    once: Annotated[bool, typer.Option("--once", help="Without the live view, as where there is no terminal.")] = False,
    speed: Annotated[
        str, typer.Option(metavar="FACTOR", help="Times as fast as it was recorded (409 s), or max.")
    ] = "6",
    live: Annotated[bool, typer.Option("--live/--plain", help="Show the house as it runs, or a few lines.")] = True,
) -> int:
    """Record a real house's day, to have something to look at."""
    factor = _factor(speed)
    try:
        from handspan.demo.app import run_demo
    except ModuleNotFoundError as error:
        raise HandspanError(
            f"The demo needs {error.name}.", hint='pip install "handspan[all]" has everything it takes.'
        ) from error
    return int(run_demo(db=db, once=once, speed=factor, live=live and not once))


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
