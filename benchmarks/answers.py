"""Every question of :mod:`benchmarks.questions` put to a house of 100,000 runs: the slowest, and how many were kept.

Small, so that ``make bench`` stays a matter of minutes; ``make bench-questions`` asks at a million and ten million.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.house.build import build
from benchmarks.measure import Budget, Row, Size, row
from benchmarks.questions.asked import QUESTIONS
from benchmarks.questions.timing import asked, budget_ms

__all__ = ["measure"]

END = 1_780_000_000.0  # the same file each time


def measure(size: Size) -> list[Row]:
    with TemporaryDirectory() as directory:
        path = Path(directory) / "house.db"
        facts = build(path, size.pick(100_000, 20_000), end=END, days=size.pick(365.0, 10.0))
        found = asked(path, QUESTIONS, calls=size.pick(20, 3), cold=False)
    wrong = [f"{each.name}: {each.wrong}" for each in found if each.wrong]
    if wrong:
        raise RuntimeError(f"answers that plain SQL contradicts: {'; '.join(wrong)}")
    compared = [each for each in found if each.plain_ms is not None]
    slowest = max(compared, key=lambda each: each.p95_ms)
    met = sum(each.met for each in found)
    note = f"{slowest.name}; {met} of {len(found)} within {budget_ms(facts):g} ms at {facts.runs:,} runs"
    return [
        row(
            "answers",
            "slowest of all answers, p95",
            "plain SQL over the raw rows",
            "ms",
            [slowest.p95_ms],
            [slowest.plain_ms or 0.0],
            Budget("ours", budget_ms(facts)),
            note,
        )
    ]
