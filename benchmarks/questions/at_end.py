"""``python -m benchmarks.questions.at_end FILE ARGUMENTS``: the command line as it was the moment the file ended.

A file built an hour ago has nothing of the last hour. This turns the clock back to its end and runs the ordinary
``handspan``; everything else is as from the shell.
"""

import sys
from pathlib import Path

from benchmarks.house.build import facts_of
from handspan.cli.app import run
from handspan.clock import SystemClock


def main() -> int:
    path, *arguments = sys.argv[1:]
    end = facts_of(Path(path)).end
    SystemClock.wall_ns = staticmethod(lambda: round(end * 1e6) * 1000)  # type: ignore[method-assign]
    return run([*arguments, "--db", path])


if __name__ == "__main__":
    sys.exit(main())
