"""Where a callable is, and the source text of the call that registered it.

``location_of_caller`` walks frames with ``sys._getframe`` (``inspect.stack()`` reads every frame's source).
``registration_source`` parses the file with ``ast`` on the writer's thread, once per file.
"""

import ast
import functools
import inspect
import io
import os
import sys
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice
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


Span = tuple[int, int, int, int]
"""First line, last line, first column, last column (in UTF-8 bytes) of the instruction a frame is at."""


@dataclass(frozen=True)
class CallerLocation:
    """The registration call: ``file`` is absolute, ``location`` for people (``apps/kitchen.py:42``)."""

    file: str
    line: int
    location: str
    span: Span | None
    """None where Python was told to keep none (``-X no_debug_ranges``)."""


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
    if not file.startswith("<"):
        file = os.path.abspath(file)  # the application may change its directory before the writer looks
    return CallerLocation(file, line, f"{_relative(file)}:{line}", _span_of(frame))


def _span_of(frame: FrameType) -> Span | None:
    span = next(islice(frame.f_code.co_positions(), frame.f_lasti // 2, None), (None,))
    return span if None not in span else None  # type: ignore[return-value]  # four numbers, then


def callable_source(call: Callable[..., Any]) -> CallableSource:
    """Name and place of functions, methods, partials, lambdas and callable objects."""
    target: Any = call
    while isinstance(target, partial):
        target = target.func
    if not hasattr(target, "__qualname__"):  # an object with __call__
        target = type(target)
    qualname = str(target.__qualname__)
    module = getattr(target, "__module__", None)
    function = _unwrapped(target)
    code = getattr(function, "__code__", None) or getattr(getattr(target, "__call__", None), "__code__", None)  # noqa: B004
    return CallableSource(
        method=str(getattr(target, "__name__", qualname)),
        qualified=f"{module}.{qualname}" if module else qualname,
        file=code.co_filename if code else None,
        line=code.co_firstlineno if code else None,
    )


def _unwrapped(target: Any) -> Any:
    """Behind decorators that use ``functools.wraps``."""
    try:
        return inspect.unwrap(target)
    except ValueError:  # wrapped in a circle
        return target


def registration_source(file: str | None, line: int | None, span: Span | None = None) -> str | None:
    """Source text of the call at ``file:line``; None in a REPL, under ``exec`` or where the file is gone.

    Calls share lines (chains, lists, arguments that are calls), but each ends at a parenthesis of its own:
    the end of the instruction tells which it is. Without it, the outermost call that begins on the line.
    """
    if file is None or line is None:
        return None
    try:
        stamp = os.stat(file)
    except (OSError, ValueError):
        return None
    calls = _calls_of(file, stamp.st_mtime_ns, stamp.st_size)
    for call in calls:
        if span is not None and call.end == (span[1], span[3]):
            return call.text
    covering = [call for call in calls if call.first_line <= line <= call.end[0]]
    starting = [call for call in covering if call.first_line == line]
    if starting:
        return max(starting, key=_Call.lines).text
    return min(covering, key=_Call.lines).text if covering else None


def capture_registration_source(stacklevel: int = 1) -> tuple[str | None, str | None]:
    """``(source_location, registration_source)`` of the caller's caller, as registering captures them."""
    found = location_of_caller(__name__, stacklevel + 1)
    if found is None:
        return None, None
    return found.location, registration_source(found.file, found.line, found.span)


def forget_sources() -> None:
    """Registering is over for now: parsed files are megabytes nobody needs."""
    _calls_of.cache_clear()


@dataclass(frozen=True)
class _Call:
    """One call expression of a file."""

    first_line: int
    end: tuple[int, int]
    text: str

    def lines(self) -> int:
        return self.end[0] - self.first_line


@functools.lru_cache(maxsize=64)
def _calls_of(file: str, _mtime_ns: int, size: int) -> tuple[_Call, ...]:
    """Every call of a file, as it is now: read and parsed once, also when nothing is to be had from it."""
    if size > MAX_SOURCE_BYTES:
        return ()
    try:
        with open(file, "rb") as handle:
            raw = handle.read()
        text = raw.decode(tokenize.detect_encoding(io.BytesIO(raw).readline)[0], "replace")
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        nodes = list(ast.walk(ast.parse(text)))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    lines = [line.encode() for line in text.split("\n")]  # columns count UTF-8 bytes
    return tuple(_call(node, lines) for node in nodes if isinstance(node, ast.Call))


def _call(node: ast.Call, lines: list[bytes]) -> _Call:
    first, last = node.lineno, node.end_lineno or node.lineno
    parts = lines[first - 1 : last]
    parts[-1] = parts[-1][: node.end_col_offset]
    parts[0] = parts[0][node.col_offset :]
    text = b"\n".join(parts).decode()
    if len(text) > MAX_SNIPPET_CHARS:
        text = f"{text[:MAX_SNIPPET_CHARS]} ..."
    return _Call(first, (last, node.end_col_offset or 0), text)


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
