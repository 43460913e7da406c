"""Which files a ``SQLiteSpanExporter`` of this process writes to.

A ``Telemetry`` and an exporter on one file are handed the same spans. While both live, both look before they
insert (transactions take turns), so that each span is stored once.
"""

import os
from collections import Counter

__all__ = ["begin_exporting", "end_exporting", "is_exported_to"]

_paths: Counter[str] = Counter()


def begin_exporting(path: str) -> None:
    _paths[os.path.realpath(path)] += 1


def end_exporting(path: str) -> None:
    _paths[os.path.realpath(path)] -= 1


def is_exported_to(path: str) -> bool:
    return bool(_paths) and _paths[os.path.realpath(path)] > 0
