"""``python -m benchmarks.house /tmp/ten.db --runs 10_000_000``."""

import argparse
import sys
from pathlib import Path

from benchmarks.house.build import SEED, build


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.house", description="A year of a house in one file.")
    parser.add_argument("path", type=Path)
    parser.add_argument("--runs", type=int, default=1_000_000, help="about so many in the last seven days")
    parser.add_argument("--end", type=float, help="its last moment in epoch seconds; now, if not given")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--no-statistics", action="store_true", help="as before the first PRAGMA optimize")
    chosen = parser.parse_args()
    facts = build(chosen.path, chosen.runs, end=chosen.end, seed=chosen.seed, statistics=not chosen.no_statistics)
    print(
        f"{chosen.path}: {facts.runs:,} runs, {facts.errors / facts.runs:.2%} failed, "
        f"{facts.megabytes:,.0f} MB in {facts.seconds:.0f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
