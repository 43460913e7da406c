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
from collections.abc import Callable, Sequence
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
    its_call = getattr(target, "__call__", None)  # noqa: B004 - what it is, not whether there is one
    code = getattr(function, "__code__", None) or getattr(its_call, "__code__", None)
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
    if span is not None and (text := _cut_out(file, stamp.st_mtime_ns, stamp.st_size, span)) is not None:
        return text
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
    _lines_of.cache_clear()


def _cut_out(file: str, mtime_ns: int, size: int, span: Span) -> str | None:
    """The text at the instruction's own position, where that is the whole call: nearly always, and without parsing
    the file, which holds the GIL (50 ms for 60 kB). Not in a chain of several lines: there the position begins
    at the method's name."""
    lines = _lines_of(file, mtime_ns, size)
    first, last, start, end = span
    if not 0 < first <= last <= len(lines):
        return None
    before = lines[first - 1][:start].rstrip() or (lines[first - 2].rstrip() if first > 1 else b"")
    text = _between(lines, first, last, start, end)
    if before.endswith(b".") or not text.endswith(")"):
        return None
    try:
        node = ast.parse(f"({text}\n)", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return _shortened(text) if isinstance(node, ast.Call) else None


def _between(lines: Sequence[bytes], first: int, last: int, start: int, end: int) -> str:
    parts = list(lines[first - 1 : last])
    parts[-1] = parts[-1][:end]
    parts[0] = parts[0][start:]
    return b"\n".join(parts).decode()


def _shortened(text: str) -> str:
    return text if len(text) <= MAX_SNIPPET_CHARS else f"{text[:MAX_SNIPPET_CHARS]} ..."


@functools.lru_cache(maxsize=64)
def _lines_of(file: str, _mtime_ns: int, size: int) -> tuple[bytes, ...]:
    """A file's lines, in UTF-8, as columns are counted; none of one that cannot or should not be read."""
    if size > MAX_SOURCE_BYTES:
        return ()
    try:
        with open(file, "rb") as handle:
            raw = handle.read()
        text = raw.decode(tokenize.detect_encoding(io.BytesIO(raw).readline)[0], "replace")
    except (OSError, SyntaxError, ValueError, LookupError):
        return ()
    return tuple(line.encode() for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n"))


@dataclass(frozen=True)
class _Call:
    """One call expression of a file."""

    first_line: int
    end: tuple[int, int]
    text: str

    def lines(self) -> int:
        return self.end[0] - self.first_line


@functools.lru_cache(maxsize=64)
def _calls_of(file: str, mtime_ns: int, size: int) -> tuple[_Call, ...]:
    """Every call of a file, as it is now: read and parsed once, also when nothing is to be had from it."""
    lines = _lines_of(file, mtime_ns, size)
    try:
        nodes = list(ast.walk(ast.parse(b"\n".join(lines).decode())))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    return tuple(_call(node, lines) for node in nodes if isinstance(node, ast.Call))


def _call(node: ast.Call, lines: Sequence[bytes]) -> _Call:
    last, end = node.end_lineno or node.lineno, node.end_col_offset or 0
    return _Call(node.lineno, (last, end), _shortened(_between(lines, node.lineno, last, node.col_offset, end)))


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
