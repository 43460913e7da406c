"""Commands as whole processes: from the shell to the prompt."""

import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.house.build import facts_of
from benchmarks.measure import percentile
from benchmarks.questions.timing import Asked

__all__ = ["COMMANDS", "whole_processes"]

ROUNDS: Final = 7
BUDGET_MS: Final = float("inf")  # reported only: most of it is Python's start
COMMANDS: Final = (("status",), ("handlers",), ("errors",), ("runs",))


def whole_processes(path: Path) -> list[Asked]:
    """Of the file's last day, by the clock its end was made with."""
    since = datetime.fromtimestamp(facts_of(path).end - 86_400, UTC).isoformat()
    return [_timed(path, [*command, "--since", since]) for command in COMMANDS]


def _timed(path: Path, arguments: list[str]) -> Asked:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HANDSPAN_", "OTEL_"))}
    command = [sys.executable, "-m", "handspan.cli", *arguments, "--db", str(path)]
    took = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True, env=environment, timeout=120)
        took.append((time.perf_counter() - started) * 1000)
        if done.returncode not in (0, 1) or not done.stdout:
            raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}")
    return Asked(
        f"process: handspan {arguments[0]}", percentile(took, 50), percentile(took, 95), ROUNDS, took[0], None, "",
        BUDGET_MS,
    )  # fmt: skip
