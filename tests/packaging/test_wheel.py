"""The wheel, as users get it: everything in it, and working away from the checkout."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The wheel, built and unpacked by pip into an empty directory."""
    where = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    build = [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(where), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = where.glob("*.whl")
    target = where / "site"
    subprocess.run([*pip, "install", "--no-deps", "--target", str(target), str(wheel)], check=True, capture_output=True)
    return target


def run(installed: Path, *command: str, cwd: Path) -> str:
    environ = os.environ | {"PYTHONPATH": str(installed)}
    done = subprocess.run(
        [sys.executable, "-W", "error", *command], cwd=cwd, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_everything_needed_is_in_it(installed):
    """Migrations, SQL, the recorded day and the type markers are files, and easily forgotten."""
    for path in (
        "handspan/_migrations/schema.sql",
        "handspan/_migrations/env.py",
        "handspan/_migrations/versions/0001_initial.py",
        "handspan/_migrations/versions/0002_incidents.py",
        "handspan/store/sql/commit.sql",
        "handspan/store/queries/runs.sql",
        "handspan/_docs/schema.md",
        "handspan/demo/data/ha-day.jsonl.gz",
        "handspan/py.typed",
        "handspan_exporters/py.typed",
    ):
        assert (installed / path).is_file(), path


def test_nothing_else_is_in_it(installed):
    """No tests, no benchmarks, no bytecode."""
    (wheel,) = installed.parent.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {
        "handspan",
        "handspan_exporters",
        f"handspan-{wheel.name.split('-')[1]}.dist-info",
    }
    assert not [name for name in names if name.endswith((".pyc", ".db"))]


def test_it_records_away_from_the_checkout(installed, tmp_path):
    """The README's first minute, from the wheel: a file is made from the packaged schema and filled."""
    program = """
import asyncio, handspan
assert "site" in handspan.__file__
async def on_light(event): ...
async def main():
    async with handspan.Telemetry("home.db") as telemetry:
        light = telemetry.register_listener(on_light, topic="t", app_key="a.B")
        await telemetry.execute(handspan.InvokeHandler(light))
asyncio.run(main())
"""
    run(installed, "-c", program, cwd=tmp_path)
    assert "on_light" in run(installed, "-m", "handspan.cli", "runs", "--db", "home.db", "--json", cwd=tmp_path)


def test_the_demo_runs_from_it(installed, tmp_path):
    """Data and apps are in the wheel, and what it says at the end is true."""
    said = run(installed, "-m", "handspan.cli", "demo", "--once", "--speed", "max", "--db", "x.db", cwd=tmp_path)
    assert "Every run the executor returned is in the file, and no other." in said
