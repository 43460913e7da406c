"""A question's time, warm and cold, and that of the plain SQL beside it."""

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.house.build import Facts, facts_of
from benchmarks.measure import percentile
from benchmarks.questions.case import Case, Question
from benchmarks.questions.plans import Watched, costly

__all__ = ["Asked", "asked", "budget_ms", "first_call_ms"]

CALLS: Final = 24  # beside the warm-up: p95 is the second slowest
WARM_UP: Final = 2
ENOUGH_S: Final = 20.0  # a question this slow is asked no more often than it takes to know
PATIENCE: Final = 120.0  # seconds a cold process may take


@dataclass(frozen=True)
class Asked:
    """One question put to one file."""

    name: str
    p50_ms: float
    p95_ms: float
    calls: int
    cold_ms: float | None
    """Opening included, in a process of its own."""
    plain_ms: float | None
    """None where plain SQL has no counterpart."""
    wrong: str
    """What plain SQL contradicts; empty if nothing."""
    budget_ms: float
    plans: str = ""
    """Steps that cost what the file is large."""

    @property
    def met(self) -> bool:
        return not self.wrong and self.p95_ms <= self.budget_ms

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "met": self.met}


def budget_ms(facts: Facts) -> float:
    """DESIGN section 10: 50 ms at a million runs, 100 at ten."""
    return 50.0 if facts.runs <= 2_000_000 else 100.0


def asked(
    path: Path, questions: Sequence[Question], *, calls: int = CALLS, cold: bool = True, plain: bool = True
) -> list[Asked]:
    """All of them, one after the other, through one service as the dashboard has it."""
    return asyncio.run(_asked(path, questions, calls, cold, plain))


async def _asked(path: Path, questions: Sequence[Question], calls: int, cold: bool, plain: bool) -> list[Asked]:
    facts = facts_of(path)
    found: list[Asked] = []
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        conn.row_factory = sqlite3.Row
        case = Case(conn, facts)
        async with Watched(str(path)) as db:
            for question in questions:
                try:
                    asked = question if plain else replace(question, plain=None)
                    found.append(await _one(asked, db, case, conn, path, calls, cold))
                except Exception as error:  # noqa: BLE001 - its deadline, or worse: the others are asked all the same
                    wrong = f"{type(error).__name__}: {error}"
                    found.append(Asked(question.name, 0, float("inf"), 0, None, None, wrong, budget_ms(facts)))
                _tell(found[-1])
    return found


async def _one(
    question: Question, db: Watched, case: Case, conn: sqlite3.Connection, path: Path, calls: int, cold: bool
) -> Asked:
    db.asked = {}
    for _ in range(WARM_UP):
        answer = await question.ask(db, case)
    plans = ", ".join(costly(conn, db.asked))
    took: list[float] = []
    while len(took) < calls and (len(took) < 3 or sum(took) < ENOUGH_S * 1000):
        started = time.perf_counter()
        answer = await question.ask(db, case)
        took.append((time.perf_counter() - started) * 1000)
    plain_ms, wrong = None, ""
    if question.plain is not None:
        values = case.values(question.plain.sql)
        started = time.perf_counter()
        rows = conn.execute(question.plain.sql, values).fetchall()
        plain_ms = (time.perf_counter() - started) * 1000
        wrong = question.plain.differs(answer, rows, case)
    first = first_call_ms(path, question.name) if cold else None
    budget = budget_ms(case.facts)
    return Asked(
        question.name, percentile(took, 50), percentile(took, 95), len(took), first, plain_ms, wrong, budget, plans
    )


def first_call_ms(path: Path, name: str) -> float:
    """The first answer of a process that has just been started, without what starting it took."""
    command = [sys.executable, "-m", "benchmarks.questions", str(path), "--first-call", name]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=PATIENCE)
    return float(done.stdout)


def _tell(one: Asked) -> None:
    verdict = one.wrong or ("" if one.met else "OVER BUDGET")
    verdict += f" [{one.plans}]" if one.plans else ""
    print(f"  {one.name:44} {one.p50_ms:9.1f} {one.p95_ms:9.1f} ms  {verdict}", file=sys.stderr, flush=True)
