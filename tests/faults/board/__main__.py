"""Every fault of docs/faults.md made to happen, and one table of what came of it. 1 if anything is not as promised."""

import argparse
import json
import random
import shutil
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # as the workers: the package is ``board``

from board.disks import forget_shim
from board.mutations import MUTATIONS
from board.play import as_json, play, rows
from board.row import Result, Row
from board.table import explained, rendered


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.faults.board", description=__doc__)
    parser.add_argument("--full", action="store_true", help="hundreds of kills, a minute of lock: half an hour")
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
    if not found:
        parser.error(f"no row is called {' or '.join(chosen.only)}")
    if chosen.list:
        for row in found:
            print(f"{row.name}: {row.what} Red with: {', '.join(row.switches)}.")
        return 0
    chosen.seed = random.randrange(2**31) if chosen.seed is None else chosen.seed
    try:
        return _prove(found, chosen) if chosen.prove else _play_all(found, chosen)
    except KeyboardInterrupt:
        print("Stopped; nothing of it is left running or mounted.")
        return 130


def _play_all(found: list[Row], chosen: argparse.Namespace) -> int:
    results = _played([(row, chosen.broken) for row in found], chosen)
    red = [result for result in results if result.red]
    for result in red:
        print(explained(result))
    if chosen.json:
        document = {"seed": chosen.seed, "full": chosen.full, "rows": [as_json(result) for result in results]}
        chosen.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return 1 if red else 0


def _prove(found: list[Row], chosen: argparse.Namespace) -> int:
    results = _played([(row, broken) for row in found for broken in row.switches], chosen)
    proven = True
    for result in results:
        if result.misfit:
            print(explained(result))
        elif not result.red and result.left_out is None:
            print(f"{result.name} stayed green: it shows nothing.")
        proven = proven and not result.misfit and (result.red or result.left_out is not None)
        shutil.rmtree(result.directory or "", ignore_errors=True)  # red was wanted: nobody needs it
    print("Every switch makes its row red." if proven else "Not every switch makes its row red.")
    return 0 if proven else 1


def _played(todo: list[tuple[Row, str | None]], chosen: argparse.Namespace) -> list[Result]:
    """Play them one after the other, and print the table; of what was played, also after Ctrl-C."""
    began, results = time.monotonic(), []
    try:
        for row, broken in todo:
            result = _watched(row, seed=chosen.seed, full=chosen.full, broken=broken, tries=chosen.tries)
            if broken is not None:
                result.name = f"{row.name} [{broken}]"
            results.append(result)
    finally:
        forget_shim()
        print(rendered(results))
        print(f"seed {chosen.seed}, {time.monotonic() - began:.0f} s")
    return results


def _watched(row: Row, **options) -> Result:
    print(f"{row.name} ...", end=" ", file=sys.stderr, flush=True)
    began = time.monotonic()
    result = play(row, **options)
    word = "left out" if result.left_out else "red" if result.red else "ok"
    print(f"{word}, {time.monotonic() - began:.1f} s", file=sys.stderr)
    return result


if __name__ == "__main__":
    sys.exit(main())
