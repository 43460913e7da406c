"""One row of the table: a fault, how often it is tried, and what came of it."""

from collections.abc import Callable
from dataclasses import dataclass, field

from board.field import Field
from board.referee import Verdict


class LeftOut(Exception):
    """It cannot be tried on this machine; the table says why."""


@dataclass
class Result:
    """Of all tries of a row."""

    name: str
    tries: int = 0
    verdict: Verdict = field(default_factory=Verdict)
    recovered: float | None = None
    """The longest of the tries."""
    note: str = ""
    left_out: str | None = None
    misfit: bool = False
    """The switch it was played with does not fit any more."""
    directory: str | None = None

    def add(self, verdict: Verdict, recovered: float | None = None) -> None:
        self.tries += 1
        into = self.verdict
        for name in ("lost", "duplicated", "unaccounted", "wrong", "host_errors", "runs", "stored", "ledger",
                     "excused", "late"):  # fmt: skip
            setattr(into, name, getattr(into, name) + getattr(verdict, name))
        into.problems += verdict.problems
        if recovered is not None:
            self.recovered = max(recovered, self.recovered or 0.0)

    @property
    def red(self) -> bool:
        figures = self.verdict
        return self.left_out is None and bool(
            figures.lost or figures.duplicated or figures.unaccounted or figures.wrong or figures.host_errors
            or figures.problems or not self.tries
        )  # fmt: skip


@dataclass(frozen=True)
class Row:
    name: str
    what: str
    run: Callable[[Field, Result, int], None]
    """Tries it so often, adding to the result."""
    tries: int
    full_tries: int
    switches: tuple[str, ...]
    """Each of them must make it red."""
    seconds: float = 25.0
    """For one try; the row's deadline is that many times its tries, and a little."""


ROWS: list[Row] = []


def row(
    name: str, *, tries: int, full: int, switches: tuple[str, ...], seconds: float = 25.0
) -> Callable[[Callable[[Field, Result, int], None]], Callable[[Field, Result, int], None]]:
    def keep(run: Callable[[Field, Result, int], None]) -> Callable[[Field, Result, int], None]:
        ROWS.append(Row(name, " ".join((run.__doc__ or "").split()), run, tries, full, switches, seconds))
        return run

    return keep
