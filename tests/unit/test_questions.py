"""docs/questions.md: every command in it answers, and every function it names is there."""

import inspect
import re
import shlex
from pathlib import Path

import pytest

import seeded
from handspan import queries
from handspan.cli import main
from handspan.clock import SystemClock

DOCS = Path(__file__).resolve().parents[2] / "docs" / "questions.md"
ROWS = re.findall(
    r"^\| ([^|]+) \| `handspan ([^`|]+)` \| (`\w+`|-) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE
)
LINES = [line for line in DOCS.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> str:
    return seeded.build(tmp_path_factory.mktemp("house") / "house.db")


def test_no_row_escapes() -> None:
    """What is no head of a table is a question that the tests below put."""
    heads = [line for line in LINES if line == "| question | command | function |"]
    assert len(heads) == len(re.findall(r"^## ", DOCS.read_text(encoding="utf-8"), re.MULTILINE))
    assert len(LINES) - len(heads) == len(ROWS) >= 60


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("command", sorted({command for _, command, _ in ROWS}))
def test_every_question_is_answered(
    house: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str, form: str
) -> None:
    """The command does what it says on a small file, within 80 columns, without a complaint."""
    monkeypatch.setattr(SystemClock, "wall_ns", staticmethod(lambda: int(seeded.NOW) * 10**9))
    monkeypatch.setenv("COLUMNS", "80")
    arguments = shlex.split(command)
    code = main([*arguments, "--db", house, *(["--json"] if form == "json" else [])])
    said = capsys.readouterr()
    found_something = code == 1 and arguments[:2] in (["status", "--check"], ["db", "check"])
    assert code == 0 or found_something, said.err
    assert said.err == ""
    assert said.out
    assert form == "json" or max(map(len, said.out.splitlines())) <= 80


@pytest.mark.parametrize("name", sorted({name.strip("`") for _, _, name in ROWS} - {"-"}))
def test_every_function_is_there(name: str) -> None:
    """Behind the one import, and asked with await (or, to follow a file, a class)."""
    assert name in queries.__all__
    found = getattr(queries, name)
    assert inspect.iscoroutinefunction(found) or inspect.isclass(found)
