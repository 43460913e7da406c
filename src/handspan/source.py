"""Where a callable is, and the source text of the call that registered it.

``location_of_caller`` walks frames with ``sys._getframe`` (``inspect.stack()`` reads every frame's source).
``registration_source`` parses the file with ``ast`` on the writer's thread, once per file.
"""

import ast
import functools
import inspect
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Final

__all__ = [
    "CallableSource",
    "CallerLocation",
    "callable_source",
    "capture_registration_source",
    "forget_sources",
    "location_of_caller",
    "registration_source",
]

MAX_SOURCE_BYTES: Final = 500_000  # a larger one is generated; parsing holds the GIL, about 0.2 ms a kilobyte
MAX_SNIPPET_CHARS: Final = 4_000


@dataclass(frozen=True)
class CallerLocation:
    """The registration call: ``file`` is absolute, ``location`` is for people (``apps/kitchen.py:42``)."""

    file: str
    line: int
    location: str


@dataclass(frozen=True)
class CallableSource:
    """What a callable is called and where it is; ``file`` and ``line`` are None where there is no code."""

    method: str
    """Just the method's name, e.g. ``on_light_change``."""
    qualified: str
    """``my_apps.kitchen.KitchenLights.on_light_change``"""
    file: str | None
    line: int | None


def location_of_caller(skip_package: str, stacklevel: int = 1) -> CallerLocation | None:
    """The nearest frame outside ``skip_package`` (then ``stacklevel - 1`` further out)."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect.stack() reads sources from disk
    while frame is not None and _belongs_to(frame, skip_package):
        frame = frame.f_back
    for _ in range(stacklevel - 1):
        frame = frame.f_back if frame is not None and frame.f_back is not None else frame
    if frame is None:
        return None
    file, line = frame.f_code.co_filename, frame.f_lineno
    return CallerLocation(file, line, f"{_relative(file)}:{line}")


def callable_source(call: Callable[..., Any]) -> CallableSource:
    """Name and place of functions, methods, partials, lambdas and callable objects."""
    target: Any = call
    while isinstance(target, partial):
        target = target.func
    if not hasattr(target, "__qualname__"):  # an object with __call__
        target = type(target)
    qualname = str(target.__qualname__)
    module = getattr(target, "__module__", None)
    function = inspect.unwrap(target, stop=lambda wrapped: hasattr(wrapped, "__code__")) if callable(target) else target
    code = getattr(function, "__code__", None) or getattr(getattr(target, "__call__", None), "__code__", None)  # noqa: B004
    return CallableSource(
        method=str(getattr(target, "__name__", qualname)),
        qualified=f"{module}.{qualname}" if module else qualname,
        file=code.co_filename if code else None,
        line=code.co_firstlineno if code else None,
    )


def registration_source(file: str | None, line: int | None) -> str | None:
    """Source text of the call at ``file:line``; None in a REPL, under ``exec`` or where the file is gone."""
    if file is None or line is None:
        return None
    try:
        stamp = os.stat(file)
        calls = _calls_of(file, stamp.st_mtime_ns, stamp.st_size)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    covering = [entry for entry in calls if entry[0] <= line <= entry[1]]
    if not covering:
        return None
    # A frame's line is that of the call's first line, or of the argument being evaluated: the smallest
    # call beginning there is a nested one, so prefer the outermost that begins on the line.
    starting = [entry for entry in covering if entry[0] == line]
    *_, text = max(starting, key=_span) if starting else min(covering, key=_span)
    return text if len(text) <= MAX_SNIPPET_CHARS else text[:MAX_SNIPPET_CHARS] + " ..."


def capture_registration_source(stacklevel: int = 1) -> tuple[str | None, str | None]:
    """``(source_location, registration_source)`` of the caller's caller, as registering captures them."""
    found = location_of_caller(__name__, stacklevel + 1)
    if found is None:
        return None, None
    return found.location, registration_source(found.file, found.line)


def forget_sources() -> None:
    """Registering is over for now: parsed files are megabytes nobody needs."""
    _calls_of.cache_clear()


def _span(entry: tuple[int, int, str]) -> int:
    return entry[1] - entry[0]


@functools.lru_cache(maxsize=64)
def _calls_of(file: str, _mtime_ns: int, size: int) -> tuple[tuple[int, int, str], ...]:
    """First line, last line and text of every call and decorated definition of a file, as it is now."""
    if size > MAX_SOURCE_BYTES:
        return ()
    with open(file, "rb") as handle:
        source = handle.read()
    text = source.decode(_encoding(file), "replace")
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.end_lineno is not None:
            segment = ast.get_source_segment(text, node)
            if segment is not None:
                found.append((node.lineno, node.end_lineno, segment))
    return tuple(found)


def _encoding(file: str) -> str:
    import tokenize

    with open(file, "rb") as handle:
        return tokenize.detect_encoding(handle.readline)[0]


def _belongs_to(frame: FrameType, package: str) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    is_demo = module.startswith(f"{package}.demo.")  # its apps are users' code that happens to live here
    return not is_demo and (module == package or module.startswith(f"{package}."))


def _relative(file: str) -> str:
    """Relative to the working directory where that is shorter; ``<stdin>`` and the like as they are."""
    if file.startswith("<"):
        return file
    try:
        relative = os.path.relpath(file)
    except (ValueError, OSError):
        return file
    return file if relative.startswith("..") else relative
