"""The scoreboard's small version, one test a fault; and that the referee sees what is broken.

``make faults`` plays the same rows and prints the table; ``python -m tests.faults.board --full`` the hundreds.
"""

import subprocess
import sys

import pytest
from board.disks import forget_shim
from board.play import play, rows
from board.table import explained

SEED = 20_260_727  # one draw of instants for CI; the runner takes another each time, and prints it


@pytest.fixture(autouse=True, scope="module")
def _no_shim_left():
    yield
    forget_shim()


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name.replace(" ", "-")) for row in rows()])
def test_the_fault_costs_what_is_promised_and_no_more(row, tmp_path):
    """Nothing lost, doubled, wrong or unaccounted; nothing reaches the application; the file is sound."""
    result = play(row, seed=SEED, within=tmp_path)
    if result.left_out:
        pytest.skip(f"left out: {result.left_out}")
    assert not result.red, explained(result)


@pytest.mark.parametrize(
    ("name", "switch"),
    [
        pytest.param("exit without close", "no-atexit", id="a-commit-that-never-came"),
        pytest.param("exit without close", "lose-some", id="one-run-in-a-hundred"),
        pytest.param("exit without close", "commit-twice", id="rows-that-are-there-twice"),
        pytest.param("kill -9 under load", "untold", id="rollups-that-are-behind"),
        pytest.param("kill -9 under load", "silent", id="log-lines-that-are-gone"),
        pytest.param("memory's bound, reached", "no-ledger", id="losses-nobody-counted"),
        pytest.param("memory's bound, reached", "line-per-try", id="a-log-line-for-every-try"),
        pytest.param("hostile exceptions and hooks", "raise-into-the-host", id="an-exception-of-ours-in-the-host"),
        pytest.param("a handler that blocks the loop", "no-session-lock", id="the-living-buried"),
    ],
)
def test_the_referee_sees_what_is_broken(name, switch, tmp_path):
    """A board that cannot be red shows nothing. ``--prove`` does this for every row and every switch."""
    (row,) = rows([name])
    result = play(row, seed=SEED, broken=switch, within=tmp_path)
    assert result.red
    assert result.tries, explained(result)  # seen by the referee, not a worker that fell over


def test_the_runner_says_with_its_exit_code_what_came_of_it(tmp_path):
    """0 and a table when all is as promised, 1 and a reason when not; the figures in a file on request."""
    command = [sys.executable, "-m", "tests.faults.board", "--seed", "7", "--only", "exit without", "--json"]
    well = subprocess.run([*command, tmp_path / "well.json"], check=False, capture_output=True, text=True)
    assert (well.returncode, well.stdout.split()[:2]) == (0, ["fault", "tries"]), well.stdout + well.stderr
    ill = subprocess.run(
        [*command, tmp_path / "ill.json", "--break", "lose-some"],
        check=False, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert ill.returncode == 1
    assert "are missing" in ill.stdout
    assert "seed 7" in ill.stdout
    assert '"red": true' in (tmp_path / "ill.json").read_text()
