"""``python -m benchmarks``: every measurement, one table. Each runs in an interpreter of its own."""

import argparse
import importlib
import json
import os
import platform
import sqlite3
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.measure import Row, Size
from benchmarks.table import rendered

MEASUREMENTS = ("overhead", "throughput", "writer", "footprint", "startup", "loop_delay", "stalled")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", action="append", choices=MEASUREMENTS, metavar="NAME", help=", ".join(MEASUREMENTS))
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes; the figures mean little")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    parser.add_argument("--alone", choices=MEASUREMENTS, help=argparse.SUPPRESS)  # what the parent asks of a child
    chosen = parser.parse_args()
    if chosen.alone:
        rows = _measure_here(chosen.alone, Size(chosen.quick))
        print(json.dumps([row.as_json() for row in rows]))
        return 0

    started, found = time.monotonic(), []
    for name in chosen.only or MEASUREMENTS:
        print(f"{name} ...", end=" ", file=sys.stderr, flush=True)
        begun = time.monotonic()
        found += _measure_apart(name, quick=chosen.quick)
        print(f"{time.monotonic() - begun:.0f} s", file=sys.stderr)
    about = _machine()
    print(rendered(found))
    print(", ".join(f"{key} {value}" for key, value in about.items()), f"({time.monotonic() - started:.0f} s)")
    if chosen.json:
        document = {"machine": about, "quick": chosen.quick, "rows": [row.as_json() for row in found]}
        chosen.json.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


def _measure_here(name: str, size: Size) -> list[Row]:
    found: list[Row] = importlib.import_module(f"benchmarks.{name}").measure(size)
    return found


def _measure_apart(name: str, *, quick: bool) -> list[Row]:
    """In a fresh interpreter: no measurement inherits another's threads, heap or warm caches."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OTEL_", "HANDSPAN_"))}
    command = [sys.executable, "-m", "benchmarks", "--alone", name, *(["--quick"] if quick else [])]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, timeout=900)
    return [Row.from_json(each) for each in json.loads(done.stdout)]


def _machine() -> dict[str, Any]:
    """What the figures depend on; nothing that names a host."""
    return {
        "CPython": platform.python_version(),
        "OpenTelemetry": version("opentelemetry-sdk"),
        "SQLite": sqlite3.sqlite_version,
        "handspan": version("handspan"),
        "CPUs": os.cpu_count(),
        "on": f"{platform.system()} {platform.machine()}",
    }


if __name__ == "__main__":
    sys.exit(main())
