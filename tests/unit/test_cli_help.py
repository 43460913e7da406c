"""``handspan --help`` and docs/cli.md: every command, in one order, each in words that fit."""

import re
from pathlib import Path

import pytest
import typer

from handspan.cli.app import app, run
from handspan.cli.help import GROUPS

DOCS = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
COMMANDS = sorted(typer.main.get_command(app).commands)
LISTED = [name for names in GROUPS.values() for name in names]


@pytest.fixture
def shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    assert run(["--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_is_for_in_one_line(shown: str, name: str) -> None:
    """Under a heading of its own kind, and not cut."""
    (line,) = re.findall(rf"^  {name} +(\S.*)$", shown, re.MULTILINE)
    assert not line.endswith("...")
    assert "Others:" not in shown


def test_the_headings_stand_in_their_order(shown: str) -> None:
    """And so do the commands under them."""
    assert re.findall(r"^(\w[\w ]*):$", shown, re.MULTILINE) == ["Options", *GROUPS]
    assert re.findall(r"^  ([a-z]+) ", shown, re.MULTILINE) == [name for name in LISTED if name in COMMANDS]


def test_every_command_has_its_section_in_the_docs() -> None:
    """In the same order: whoever looks there finds it where --help has it."""
    sections = re.findall(r"^## `handspan (\w+)(?: (\w+))?`$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
    assert list(dict.fromkeys(first for first, _ in sections)) == [name for name in LISTED if name in COMMANDS]
    assert {second for first, second in sections if first == "db"} == set(
        typer.main.get_command(app).commands["db"].commands
    )
