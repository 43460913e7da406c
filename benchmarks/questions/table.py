"""One table for all files."""

from collections.abc import Mapping, Sequence

from benchmarks.house.build import Facts
from benchmarks.questions.timing import Asked
from benchmarks.table import figure

__all__ = ["rendered"]


def rendered(found: Mapping[Facts, Sequence[Asked]]) -> str:
    """A line for each question; for each file p50, p95, first call and plain SQL."""
    lines = [
        "question".ljust(46) + "".join(f"{facts.runs:>14,} runs: p50     p95    cold   plain SQL" for facts in found)
    ]
    names = list(dict.fromkeys(one.name for answers in found.values() for one in answers))
    by_name = [{one.name: one for one in answers} for answers in found.values()]
    for name in names:
        cells = "".join(_cells(answers.get(name)) for answers in by_name)
        lines.append(f"{name:46}{cells}".rstrip())
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:], "", _summary(found)])


def _cells(one: Asked | None) -> str:
    if one is None:
        return " " * 51
    mark = "!" if one.wrong else " " if one.met else "*"
    cold = "" if one.cold_ms is None else figure(one.cold_ms)
    plain = "" if one.plain_ms is None else figure(one.plain_ms)
    return f"{figure(one.p50_ms):>23}{figure(one.p95_ms):>8}{mark}{cold:>7}{plain:>12}"


def _summary(found: Mapping[Facts, Sequence[Asked]]) -> str:
    said = []
    for facts, answers in found.items():
        asked = [one for one in answers if one.calls]
        met, wrong = sum(one.met for one in asked), [one for one in answers if one.wrong]
        compared = sum(one.plain_ms is not None for one in answers)
        said.append(
            f"{facts.runs:,} runs, {facts.megabytes:,.0f} MB: {met} of {len(answers)} within their budget (* is not);"
            f" {compared} compared with plain SQL, {len(wrong)} wrong (!)."
        )
    return "Milliseconds.\n" + "\n".join(said)
