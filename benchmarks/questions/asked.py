"""All the questions. A room whose queries this checkout does not have is named, and left out."""

import importlib
import sys
from typing import Final

from benchmarks.questions.case import Question

__all__ = ["QUESTIONS"]

ROOMS: Final = ("registrations", "overviews", "failures", "runs", "around")


def _questions() -> tuple[Question, ...]:
    found: list[Question] = []
    for room in ROOMS:
        try:
            found += importlib.import_module(f"benchmarks.questions.{room}").QUESTIONS
        except ImportError as error:
            print(f"left out: benchmarks.questions.{room} ({error})", file=sys.stderr)
    return tuple(found)


QUESTIONS: Final = _questions()
