"""The table: plain text, one line a fault."""

from board.row import Result

COLUMNS = ("fault", "tries", "runs", "lost", "duplicated", "wrong", "unaccounted", "host errors", "recovered in", "")


def rendered(results: list[Result]) -> str:
    lines = [COLUMNS, *map(_cells, results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(COLUMNS) - 1)]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in lines)


def _aligned(line: tuple[str, ...], widths: list[int]) -> list[str]:
    first, *rest, last = line
    return [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)), last]


def _cells(result: Result) -> tuple[str, ...]:
    if result.left_out is not None:
        return (result.name, *["-"] * (len(COLUMNS) - 2), f"left out: {result.left_out}")
    figures = result.verdict
    took = "-" if result.recovered is None else f"{result.recovered:.2f} s"
    counts = (figures.runs, figures.lost, figures.duplicated, figures.wrong, figures.unaccounted, figures.host_errors)
    end = "  ".join(filter(None, ("RED" if result.red else "ok", result.note)))
    return (result.name, str(result.tries), *map(str, counts), took, end)


def explained(result: Result) -> str:
    """Why a row is red, and where to look."""
    most = 8
    lines = [f"{result.name}:", *(f"    {text}" for text in result.verdict.problems[:most])]
    if len(result.verdict.problems) > most:
        lines.append(f"    and {len(result.verdict.problems) - most} more")
    return "\n".join([*lines, f"    kept in {result.directory}"])
