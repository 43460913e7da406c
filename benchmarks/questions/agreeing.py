"""Whether an answer agrees with plain SQL over the raw rows: counts to the last one, percentiles within 5 %."""

import math
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from benchmarks.questions.case import Case

__all__ = ["TOLERANCE", "exact_percentile", "figures_differ", "near", "same_counts", "same_list", "same_value"]

TOLERANCE: Final = 0.05
COUNTS: Final = ("runs", "errors", "cancelled", "timeouts", "dependency_failures", "interrupted", "late")
SHARES: Final = (("p50_ms", 0.5), ("p95_ms", 0.95), ("p99_ms", 0.99))
MISSING: Final = object()
TABLES: Final = {
    "handler": ("handler_invocations", "listener_id"),
    "job": ("job_executions", "job_id"),
}


def same_list(
    of_answer: Callable[[Any], Iterable[Any]], of_row: Callable[[sqlite3.Row], Any]
) -> Callable[[Any, Sequence[sqlite3.Row], Case], str]:
    """The same things in the same order."""

    def differs(answer: Any, rows: Sequence[sqlite3.Row], _: Case) -> str:
        mine, plain = list(of_answer(answer)), [of_row(row) for row in rows]
        if mine == plain:
            return ""
        for number, (one, other) in enumerate(zip(mine, plain, strict=False)):
            if one != other:
                return f"number {number} is {one}, by plain SQL {other}"
        return f"{len(mine)} answers, by plain SQL {len(plain)}"

    return differs


def same_counts(
    of_answer: Callable[[Any], Mapping[Any, Any]], of_row: Callable[[sqlite3.Row], tuple[Any, Any]]
) -> Callable[[Any, Sequence[sqlite3.Row], Case], str]:
    """The same count under the same key; nothing and zero are the same."""

    def differs(answer: Any, rows: Sequence[sqlite3.Row], _: Case) -> str:
        mine = {key: count for key, count in of_answer(answer).items() if count}
        plain = {key: count for key, count in map(of_row, rows) if count}
        for key in sorted({*mine, *plain}, key=str):
            if mine.get(key) != plain.get(key):
                return f"{key}: {mine.get(key)}, by plain SQL {plain.get(key)}"
        return ""

    return differs


def same_value(of_answer: Callable[[Any], Any]) -> Callable[[Any, Sequence[sqlite3.Row], Case], str]:
    """One number, the first of the first row."""

    def differs(answer: Any, rows: Sequence[sqlite3.Row], _: Case) -> str:
        mine, plain = of_answer(answer), rows[0][0]
        return "" if mine == plain else f"{mine}, by plain SQL {plain}"

    return differs


def figures_differ(
    of_answer: Callable[[Any], Mapping[Any, Any]],
    of_row: Callable[[sqlite3.Row], Any],
    exact: Callable[[Case, Any, float, int], float | None] | None = None,
    *,
    percentiles_of: int = 6,
) -> Callable[[Any, Sequence[sqlite3.Row], Case], str]:
    """Objects with ``runs``, ``errors`` and so on by key; ``exact(case, key, share, runs)`` tells a percentile."""

    def differs(answer: Any, rows: Sequence[sqlite3.Row], case: Case) -> str:
        mine, plain = of_answer(answer), {of_row(row): row for row in rows}
        for key in sorted({*(k for k, figures in mine.items() if figures.runs), *plain}, key=str):
            if key not in mine or key not in plain:
                return f"{key}: only in {'plain SQL' if key in plain else 'the answer'}"
            if wrong := _counts_differ(mine[key], plain[key]):
                return f"{key}: {wrong}"
        if exact is None:
            return ""
        busiest = sorted(plain, key=lambda key: plain[key]["runs"], reverse=True)
        for key in busiest[:: max(1, len(busiest) // percentiles_of)]:
            for name, share in SHARES:
                is_, should = getattr(mine[key], name, MISSING), exact(case, key, share, plain[key]["runs"])
                if is_ is not MISSING and not near(is_, should, TOLERANCE):
                    return f"{key}: {name} {is_}, by plain SQL {should}"
        return ""

    return differs


def _counts_differ(mine: Any, plain: sqlite3.Row) -> str:
    for name in COUNTS:
        if name in plain.keys() and getattr(mine, name, plain[name]) != plain[name]:  # noqa: SIM118 - a Row's
            return f"{name} {getattr(mine, name)}, by plain SQL {plain[name]}"
    if hasattr(mine, "avg_ms") and not near(mine.avg_ms, plain["avg_ms"], 1e-6):
        return f"average {mine.avg_ms}, by plain SQL {plain['avg_ms']}"
    return ""


def near(mine: float | None, plain: float | None, tolerance: float) -> bool:
    if mine is None or plain is None:
        return mine is plain
    return abs(mine - plain) <= tolerance * abs(plain) + 1e-9


def exact_percentile(
    case: Case, kind: str, registration: int, since: float, until: float, share: float, runs: int
) -> float:
    """The duration that ``share`` of the runs did not exceed, by sorting them all."""
    table, column = TABLES[kind]
    (found,) = case.conn.execute(
        f"SELECT duration_ms FROM {table} WHERE {column} = ? AND execution_start_ts >= ? AND execution_start_ts < ?"
        " ORDER BY duration_ms LIMIT 1 OFFSET ?",
        (registration, since, until, max(1, math.ceil(share * runs)) - 1),
    ).fetchone()
    return float(found)
