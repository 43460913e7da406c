"""``python -m benchmarks.questions /tmp/ten.db``, or ``--sizes 100k 1m 10m`` to have the files built."""

import argparse
import asyncio
import json
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.house.build import build, facts_of
from benchmarks.questions import cli
from benchmarks.questions.asked import QUESTIONS
from benchmarks.questions.case import Case
from benchmarks.questions.table import rendered
from benchmarks.questions.timing import CALLS, asked
from handspan.store.service import DatabaseService

UNITS = {"k": 1_000, "m": 1_000_000}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.questions", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path, help="made by benchmarks.house")
    parser.add_argument("--sizes", nargs="+", default=[], metavar="RUNS", help="build such files first: 100k, 1m, 10m")
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY", help="where to; else they are removed at the end")
    parser.add_argument("--only", metavar="WORD", default="", help="questions with this in their name")
    parser.add_argument("--calls", type=int, default=CALLS)
    parser.add_argument("--no-cold", action="store_true", help="leave the fresh processes out")
    parser.add_argument("--no-plain", action="store_true", help="compare nothing: at ten million that takes minutes")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--first-call", metavar="NAME", help=argparse.SUPPRESS)  # what a cold measurement asks a child
    chosen = parser.parse_args()
    if chosen.first_call:
        print(asyncio.run(_first_call(chosen.files[0], chosen.first_call)))
        return 0
    with TemporaryDirectory() as directory:
        files = [*chosen.files, *(_built(chosen.keep or Path(directory), size) for size in chosen.sizes)]
        if not files:
            parser.error("which files? Give some, or --sizes")
        return _report(files, chosen)


def _report(files: list[Path], chosen: argparse.Namespace) -> int:
    found = {}
    questions = [each for each in QUESTIONS if chosen.only in each.name]
    for file in files:
        print(f"{file}: {facts_of(file).runs:,} runs", file=sys.stderr)
        answers = asked(file, questions, calls=chosen.calls, cold=not chosen.no_cold, plain=not chosen.no_plain)
        if not chosen.no_cold and not chosen.only:
            answers += cli.whole_processes(file)
        found[file] = answers
    print(rendered({facts_of(file): answers for file, answers in found.items()}))
    if chosen.json:
        document = {str(facts_of(file).runs): [each.as_json() for each in answers] for file, answers in found.items()}
        chosen.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    wrong = [each for answers in found.values() for each in answers if each.wrong]
    for each in wrong:
        print(f"WRONG {each.name}: {each.wrong}", file=sys.stderr)
    return 1 if wrong else 0


def _built(directory: Path, size: str) -> Path:
    digits, unit = size[:-1], size[-1].lower()
    runs = int(size.replace("_", "")) if unit.isdigit() else int(float(digits) * UNITS[unit])
    path = directory / f"{size}.db"
    print(f"building {path} ...", file=sys.stderr, flush=True)
    build(path, runs)
    return path


async def _first_call(path: Path, name: str) -> float:
    """Milliseconds from opening the file to the answer; what to ask about is looked up before."""
    (question,) = (each for each in QUESTIONS if each.name == name)
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as conn:
        conn.row_factory = sqlite3.Row
        case = Case(conn, facts_of(path))
        started = time.perf_counter()
        async with DatabaseService(str(path)) as db:
            await question.ask(db, case)
            return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    sys.exit(main())
