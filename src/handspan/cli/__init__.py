"""The command line. Importing this costs nothing: what it takes is imported when it runs."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(args: Sequence[str] | None = None) -> int:
    """The ``handspan`` command. Returns its exit code."""
    try:
        from handspan.cli.app import run
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("rich", "typer"):
            raise
        print('handspan: the command line needs two more packages: pip install "handspan[cli]"', file=sys.stderr)
        return 2
    return run(args)
