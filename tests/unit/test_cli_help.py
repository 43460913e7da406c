"""``handspan --help`` and docs/cli.md: every command, in one order, each in words that fit."""

import json
import re
from pathlib import Path

import pytest
import typer

import seeded
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


SHARED = (
    "--db", "--json", "--since", "--until", "--handler", "--job", "--app", "--name", "--status", "--sort", "--by",
    "--limit",
)  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_options_come_in_one_order(name: str) -> None:
    """Where to look, when, whose, how, how many: whoever knows one command's help knows the next one's."""
    command = typer.main.get_command(app).commands[name]
    given = [param.opts[0] for param in command.params if param.opts[0] in SHARED]
    assert given == [option for option in SHARED if option in given]


def test_an_option_is_explained_alike_everywhere() -> None:
    """One text for --until, --handler, --job, --app and --status."""
    texts: dict[str, set[str]] = {}
    for command in typer.main.get_command(app).commands.values():
        for param in command.params:
            texts.setdefault(param.opts[0], set()).add(getattr(param, "help", ""))
    alike = {"--until", "--handler", "--job", "--app", "--status"}
    assert {option: found for option, found in texts.items() if option in alike and len(found) > 1} == {}


WITH_APP = [
    name for name in COMMANDS if "--app" in {each.opts[0] for each in typer.main.get_command(app).commands[name].params}
]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> str:
    return seeded.build(tmp_path_factory.mktemp("house") / "house.db")


@pytest.mark.parametrize("name", sorted(set(WITH_APP) - {"tail"}))
def test_an_app_that_nobody_has_is_a_slip(house: str, capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Not an empty answer: of `lihgts` nothing fails, nothing was missed, and nothing is true."""
    assert run([name, "--db", house, "--app", "lihgts"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "there is no app 'lihgts'; did you mean lights?" in said.err


def test_an_empty_file_has_other_worries(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where nothing is registered at all, that is what is said."""
    path = seeded.build(tmp_path / "house.db", rows=False)
    assert run(["handlers", "--db", path, "--app", "lights"]) == 0
    assert "No handler is" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("command", "key", "shown"), [("handlers", "handlers", "first 2"), ("sessions", "sessions", "newest 2")]
)
def test_a_list_says_that_it_was_cut_only_if_it_was(
    house: str, capsys: pytest.CaptureFixture[str], command: str, key: str, shown: str
) -> None:
    """As many rows as there is room for are all there are."""
    run([command, "--db", house, "--since", "9999d", "--json"])
    total = len(json.loads(capsys.readouterr().out)[key])
    for limit, more in ((total, False), (2, True)):
        run([command, "--db", house, "--since", "9999d", "--limit", str(limit), "--json"])
        found = json.loads(capsys.readouterr().out)
        assert (len(found[key]), found["more"]) == (limit, more)
        run([command, "--db", house, "--since", "9999d", "--limit", str(limit)])
        assert (f"These are the {shown}" in capsys.readouterr().out) is more
