"""Every fault of docs/faults.md made to happen, and one table of what came of it. 1 if anything is not as promised."""

import argparse
import json
import random
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as the workers: the package is ``board``

from board.disks import forget_shim
from board.mutations import MUTATIONS
from board.play import as_json, play, rows
from board.row import Result
from board.table import explained, rendered


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.board", description=__doc__)
    parser.add_argument("--full", action="store_true", help="hundreds of kills, a minute of lock: about an hour")
    parser.add_argument("--only", action="append", default=[], metavar="WORDS", help="rows whose name contains them")
    parser.add_argument("--tries", type=int, help="of each row, instead of its own number")
    parser.add_argument("--seed", type=int, default=None, help="the one a former run printed")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--break", dest="broken", choices=sorted(MUTATIONS), help="play with handspan broken so")
    parser.add_argument("--prove", action="store_true", help="every row with each of its switches: all must be red")
    parser.add_argument("--list", action="store_true", help="the rows, what they do and what makes them red")
    chosen = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is taken down on the way out
    found = rows(chosen.only)
    if chosen.list:
        for row in found:
            print(f"{row.name}: {row.what} Red with: {', '.join(row.switches)}.")
        return 0
    if not found:
        parser.error(f"no row is called {' or '.join(chosen.only)}")
    seed = random.randrange(2**31) if chosen.seed is None else chosen.seed
    began = time.monotonic()
    try:
        results, proven = [], True
        for row in found:
            for broken in row.switches if chosen.prove else (chosen.broken,):
                result = _played(row, seed=seed, full=chosen.full, broken=broken, tries=chosen.tries)
                if chosen.prove:
                    result.name = f"{row.name} [{broken}]"
                    proven = proven and (result.red or result.left_out is not None)
                results.append(result)
    finally:
        forget_shim()
    print(rendered(results))
    print(f"seed {seed}, {time.monotonic() - began:.0f} s")
    red = [result for result in results if result.red]
    if chosen.prove:
        _remove(red)
        print("Every switch makes its row red." if proven else "A row stayed green with its switch: it shows nothing.")
        return 0 if proven else 1
    for result in red:
        print(explained(result))
    if chosen.json:
        document = {"seed": seed, "full": chosen.full, "rows": [as_json(result) for result in results]}
        chosen.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if red else 0


def _played(row, **options) -> Result:
    print(f"{row.name} ...", end=" ", file=sys.stderr, flush=True)
    began = time.monotonic()
    result = play(row, **options)
    word = "left out" if result.left_out else "red" if result.red else "ok"
    print(f"{word}, {time.monotonic() - began:.1f} s", file=sys.stderr)
    return result


def _remove(results: list[Result]) -> None:
    """Red was wanted: nobody needs their directories."""
    import shutil

    for result in results:
        shutil.rmtree(result.directory or "", ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
