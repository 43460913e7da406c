"""The one table, for people."""

from collections.abc import Sequence

from benchmarks.measure import Row

__all__ = ["figure", "rendered"]

HEAD = ("what", "ours", "the other", "ratio", "rounds", "budget", "met?", "the other is")
RIGHT = {1, 2, 3}


def rendered(rows: Sequence[Row]) -> str:
    lines = [HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]

    def text(cells: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if column in RIGHT else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    found = [text(HEAD), "  ".join("-" * width for width in widths), *(text(_cells(row)) for row in rows)]
    notes = [f"{row.what.strip()}: {row.note}" for row in rows if row.note]
    return "\n".join([*found, "", *notes]) + "\n"


def figure(value: float) -> str:
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _cells(row: Row) -> tuple[str, ...]:
    low, high = row.spread
    verdict = "" if row.met is None else "yes" if row.met else "NO"
    return (
        row.what,
        f"{figure(row.ours)} {row.unit}",
        f"{figure(row.other)} {row.unit}",
        f"{row.ratio:.2f}",
        f"{low:.2f}-{high:.2f} ({row.rounds})" if row.rounds > 1 else "(1)",
        "" if row.budget is None else row.budget.text(row.unit),
        verdict,
        row.against,
    )
