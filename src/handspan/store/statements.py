"""SQL by name: ``sql/*.sql`` files hold ``-- name: a sentence of purpose`` followed by one statement."""

import re
from functools import cache
from pathlib import Path
from typing import Final

__all__ = ["statements"]

_HEADER: Final = re.compile(r"^-- ([a-z][a-z_]*): ", re.MULTILINE)


@cache
def statements(path: str) -> dict[str, str]:
    """The statements of ``store/<path>``, by name."""
    text = (Path(__file__).parent / path).read_text(encoding="utf-8")
    headers = list(_HEADER.finditer(text))
    ends = [match.start() for match in headers[1:]] + [len(text)]
    return {
        match[1]: text[match.start() : end].partition("\n")[2].strip() for match, end in zip(headers, ends, strict=True)
    }
