"""CSV that a spreadsheet may open.

A cell that begins with ``=``, ``+``, ``-``, ``@``, a tab or a line break is taken for a formula, and what an
application logs is anybody's text: such a text gets an apostrophe before it. Numbers stay as they are.
"""

from typing import Any, Final

__all__ = ["cell"]

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cell(value: Any) -> Any:
    """A value as CSV has it: NULL is empty."""
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(FORMULA):
        return f"'{value}"
    return value
