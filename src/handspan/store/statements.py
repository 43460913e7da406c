"""SQL by name: ``sql/*.sql`` files hold ``-- name: a sentence of purpose`` followed by one statement."""

import re
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["statements"]

_HEADER: Final = re.compile(r"^-- ([a-z][a-z_]*): ", re.MULTILINE)


@cache
def statements(path: str) -> dict[str, str]:
    """The statements of ``store/<path>``, by name.

    Raises :class:`ValueError` for a name without SQL, and for one that is there twice: a comment that goes on in a line
    like ``-- word: ...`` would otherwise take the statement under its own name, and leave the one before it empty.
    """
    text = (Path(__file__).parent / path).read_text(encoding="utf-8")
    headers = list(_HEADER.finditer(text))
    ends = [match.start() for match in headers[1:]] + [len(text)]
    found: dict[str, str] = {}
    for match, end in zip(headers, ends, strict=True):
        sql = text[match.start() : end].partition("\n")[2].strip()
        if all(not line.strip() or line.lstrip().startswith("--") for line in sql.splitlines()):
            raise ValueError(
                f"{path}: {match[1]} has no SQL. No comment of it may go on with a line like '-- word: ...'."
            )
        if match[1] in found:
            raise ValueError(f"{path}: {match[1]} is there twice.")
        found[match[1]] = sql
    return found
