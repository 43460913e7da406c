"""Plays rows: one at a time, each in a field of its own, against a deadline."""

import dataclasses
import zlib
from collections.abc import Sequence
from pathlib import Path

import board.deaths
import board.disks
import board.files  # noqa: F401 - each adds its rows
from board.field import Field, Late, Misfit
from board.row import ROWS, LeftOut, Result, Row

SPARE = 10.0  # seconds more than the tries have
LONG = 70.0  # seconds more for each try of the full version: one of them holds a lock for a minute


def rows(only: Sequence[str] = ()) -> list[Row]:
    return [row for row in ROWS if not only or any(word in row.name for word in only)]


def play(
    row: Row, *, seed: int, full: bool = False, broken: str | None = None, tries: int | None = None,
    within: Path | None = None,
) -> Result:  # fmt: skip
    """A row that cannot be played to its end is red, and says why; its directory is kept, ``within`` if given."""
    tries = tries or (row.full_tries if full else row.tries)
    result = Result(row.name)
    seconds = (row.seconds + (LONG if full else 0)) * tries + SPARE
    where = Field(seed=seed ^ zlib.crc32(row.name.encode()), full=full, broken=broken, seconds=seconds, within=within)
    try:
        with where:
            row.run(where, result, tries)
    except LeftOut as reason:
        result.left_out = str(reason)
    except Misfit as error:
        result.misfit = True
        result.verdict.problem(f"a switch that does not fit any more: {error}")
    except (Late, RuntimeError, OSError, ValueError) as error:
        result.verdict.problem(f"{type(error).__name__}: {error}")
    except BaseException:
        where.remove()
        raise
    if result.red:
        result.directory = str(where.path)
    else:
        where.remove()
    return result


def as_json(result: Result) -> dict[str, object]:
    return dataclasses.asdict(result) | {"red": result.red}
