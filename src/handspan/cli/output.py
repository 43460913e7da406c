"""Where answers go: tables to people, one JSON document to programs, complaints to stderr.

Colour means something or is absent: red failed, yellow cancelled, magenta a crash, pale a zero. It is never
alone (the word or the figure stands there too), only on a terminal, and not with ``NO_COLOR``.
"""

import json
import math
import os
import re
import sys
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text
from whenever import Instant

from handspan.cli.figures import count, iso, one_line
from handspan.cli.sparklines import TO_ASCII
from handspan.cli.table import Table

__all__ = [
    "CANCELLED",
    "CRASHED",
    "FAILED",
    "PALE",
    "STYLE_OF",
    "PipeClosedError",
    "as_json",
    "complain",
    "discard_stdout",
    "failed",
    "json_line",
    "pale_zero",
    "say",
    "show",
    "show_json",
]

FAILED: Final = "red"
CANCELLED: Final = "yellow"
CRASHED: Final = "magenta"
PALE: Final = "dim"
STYLE_OF: Final = {"error": FAILED, "cancelled": CANCELLED, "crash": CRASHED, "success": PALE}


_UNSEEN: Final = r"\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"  # C1, bidi and the like
_JSON_LEAVES: Final = re.compile(f"[{_UNSEEN}]")  # as they are, where they command a terminal
_COMMANDS: Final = re.compile(rf"[\x00-\x08\x0b-\x1f{_UNSEEN}]")


class PipeClosedError(Exception):
    """Whoever read the output has had enough."""


def show(*parts: str | Text | Table | Iterable[str | Text]) -> None:
    """Sentences and tables, one under the other, as wide as the terminal (80 columns where there is none).

    Sentences wrap between words (a path stays whole, for copying); a table's lines never do.
    """
    console = Console(highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        for part in parts:
            if isinstance(part, Table):
                for row in part.lines(console.width):
                    console.print(row, no_wrap=True, overflow="ellipsis", crop=True)
            else:
                for sentence in [part] if isinstance(part, str | Text) else part:
                    console.print(sentence, soft_wrap=_longest_word(sentence) > console.width)
    _write("\n".join(line.rstrip(" ") for line in captured.get().split("\n")))


def say(line: str) -> None:
    """As it is, however long: for copying. On a terminal without what would command it."""
    _write((_COMMANDS.sub("\N{REPLACEMENT CHARACTER}", line) if sys.stdout.isatty() else line) + "\n")


def show_json(document: dict[str, Any]) -> None:
    _write(_json(document, indent=2) + "\n")


def json_line(value: Any) -> str:
    """A document that is one line of many."""
    return _json(value)


def _json(value: Any, indent: int | None = None) -> str:
    text = json.dumps(as_json(value), indent=indent, ensure_ascii=not _speaks_utf8(), allow_nan=False)
    return _JSON_LEAVES.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def as_json(value: Any) -> Any:
    """Dataclasses by their fields, instants as ISO 8601; what JSON has no number for is null."""
    if isinstance(value, Instant):
        return iso(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def complain(message: str) -> None:
    """One line on stderr."""
    console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
    try:
        console.print(Text.assemble(("handspan: ", FAILED), one_line(message)))
    except OSError:
        pass  # nobody listens


def discard_stdout() -> None:
    """After a closed pipe: what is still buffered must not raise again when the interpreter ends."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # stdout is no file


def pale_zero(number: int) -> Text:
    return Text(count(number), style="" if number else PALE)


def failed(number: int) -> Text:
    """A count of failures: red, unless there are none."""
    return Text(count(number), style=FAILED if number else PALE)


def _longest_word(sentence: str | Text) -> int:
    return max(map(cell_len, str(sentence).split()), default=0)


def _write(text: str) -> None:
    if not _speaks_utf8():
        encoding = sys.stdout.encoding or "ascii"
        text = (
            text.replace("\N{HORIZONTAL ELLIPSIS}", "~")
            .replace("\N{MICRO SIGN}", "u")
            .translate(TO_ASCII)
            .encode(encoding, "replace")
            .decode(encoding)
        )
    try:
        sys.stdout.write(text)
        sys.stdout.flush()  # here, where a closed pipe can still be caught
    except BrokenPipeError:
        raise PipeClosedError from None  # typer would take the original for its own


def _speaks_utf8() -> bool:
    return (sys.stdout.encoding or "").lower().replace("-", "").startswith("utf8")
