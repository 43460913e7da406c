"""All the questions."""

from typing import Final

from benchmarks.questions import failures, registrations, runs
from benchmarks.questions.case import Question

__all__ = ["QUESTIONS"]

QUESTIONS: Final[tuple[Question, ...]] = (*registrations.QUESTIONS, *failures.QUESTIONS, *runs.QUESTIONS)
