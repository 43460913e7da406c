"""From an exception to an outcome: status, type, message, traceback. Hostile exceptions included.

Nothing here raises, whatever ``__str__`` or ``__repr__`` of the exception do.

A traceback's text is formatted once per distinct stack: formatting costs 100-300 us, an error storm has
one stack, and its text depends on code and line numbers only once the message line is taken off.
"""

import asyncio
import traceback
from collections import OrderedDict
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import msgspec

from handspan.errors import DependencyError, HandspanError
from handspan.records import CANCELLED, ERROR, SUCCESS, Run, Status

__all__ = ["ExecutionResult", "OutcomeLimits", "error_type_of", "fail", "message_of"]

CACHED_STACKS: Final = 256
MAX_FRAMES: Final = 64  # of a recursion error's thousand: the first and the last half


class ExecutionResult(msgspec.Struct, frozen=True):
    """What ``execute()`` returns. Monotonic only: it says how long, the row says when."""

    status: Status
    duration_ns: int
    value: Any = None
    """What the callable returned."""
    error: BaseException | None = None
    error_type: str | None = None
    error_message: str | None = None
    trace: int = 0
    span: int = 0

    @property
    def ok(self) -> bool:
        return self.status == SUCCESS

    @property
    def duration_ms(self) -> float:
        return self.duration_ns / 1e6

    @property
    def trace_id(self) -> str:
        """32 hex digits, as in the views."""
        return f"{self.trace:032x}"

    @property
    def span_id(self) -> str:
        """16 hex digits, as in the views."""
        return f"{self.span:016x}"


@dataclass(frozen=True)
class OutcomeLimits:
    max_message_chars: int
    max_traceback_chars: int


def fail(run: Run, error: BaseException, limits: OutcomeLimits, *, deadline: float | None = None) -> None:
    """Put the outcome of an exception on the run. ``deadline``: it was our own, of so many seconds."""
    if deadline is not None:
        run.status = ERROR
        run.error_type = run.exception_type = "TimeoutError"
        run.error_message = f"The deadline of {deadline:g} s passed."
    elif isinstance(error, asyncio.CancelledError | GeneratorExit):  # the second: its loop went away under it
        run.status = CANCELLED
        return
    else:
        run.status = ERROR
        run.error_type = type(error).__name__
        run.exception_type = error_type_of(type(error))
        run.error_message = _cut(message_of(error), limits.max_message_chars)
    try:
        run.error_traceback, tail = _traceback_of(error, run, limits)
        run.exception_tail = tail if deadline is None else None
    except Exception:  # noqa: BLE001 - hostile exceptions break the traceback module in many ways
        run.error_traceback = None


def is_expected(error: BaseException) -> bool:
    """Logged in one line: it says all there is to say."""
    return isinstance(error, DependencyError | HandspanError)


def error_type_of(kind: type[BaseException]) -> str:
    """OpenTelemetry's ``error.type``: the qualified class, builtins without their module."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - someone else's __str__
        return f"<str() of this exception raised {type(second).__name__}>"


_stacks: OrderedDict[tuple[object, ...], str] = OrderedDict()


def _traceback_of(error: BaseException, run: Run, limits: OutcomeLimits) -> tuple[str | None, str | None]:
    """The text above the message line, and that line where it is not simply ``type: message``."""
    simple = error.__cause__ is None and error.__context__ is None and not isinstance(error, BaseExceptionGroup)
    if simple and type(error).__str__ in _PLAIN_STR and not hasattr(error, "__notes__"):
        return _stack_text(error.__traceback__, limits), None
    exception = traceback.TracebackException.from_exception(error, capture_locals=False, limit=MAX_FRAMES)
    text, tail = "".join(exception.format()), "".join(exception.format_exception_only())
    text = text.removesuffix(tail) if text.endswith(tail) else text
    tail = tail.rstrip("\n") if not isinstance(error, BaseExceptionGroup) else ""
    usual = f"{run.error_type}: {run.error_message}"
    return _cut_middle(text, limits.max_traceback_chars), None if tail == usual else _cut(
        tail, limits.max_message_chars
    )


_PLAIN_STR: Final = (BaseException.__str__, OSError.__str__, HandspanError.__str__)


def _stack_text(tb: TracebackType | None, limits: OutcomeLimits) -> str | None:
    if tb is None:
        return None
    key: list[object] = [limits.max_traceback_chars]
    step: TracebackType | None = tb
    while step is not None and len(key) < 4 * MAX_FRAMES:
        key += (step.tb_frame.f_code, step.tb_lasti)
        step = step.tb_next
    found = _stacks.get(tuple(key)) if step is None else None
    if found is None:
        frames = traceback.extract_tb(tb)
        lines = traceback.format_list(frames[: MAX_FRAMES // 2])
        if len(frames) > MAX_FRAMES:
            lines.append(f"  ... {len(frames) - MAX_FRAMES} frames cut by handspan ...\n")
            lines += traceback.format_list(frames[-MAX_FRAMES // 2 :])
        else:
            lines += traceback.format_list(frames[MAX_FRAMES // 2 :])
        found = _cut_middle("Traceback (most recent call last):\n" + "".join(lines), limits.max_traceback_chars)
        if step is None:
            _stacks[tuple(key)] = found
            while len(_stacks) > CACHED_STACKS:
                _stacks.popitem(last=False)
    return found


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]} ... ({len(text) - limit} characters cut by handspan)"


def _cut_middle(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    half = limit // 2
    return f"{text[:half]}\n... {len(text) - limit} characters cut by handspan ...\n{text[-half:]}"
