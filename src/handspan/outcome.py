"""From an exception to an outcome: status, type, message, traceback. Hostile exceptions included.

Nothing here raises, whatever ``__str__`` or ``__repr__`` of the exception do.

A traceback's text is formatted once per distinct stack: formatting costs 100-300 us, an error storm has
one stack, and its text depends on code and line numbers only once the message line is taken off.

Texts are redacted here, where they are made: nothing later needs to ask, and only failures pay.
"""

import asyncio
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final

import msgspec

from handspan.errors import HandspanError
from handspan.records import CANCELLED, ERROR, SUCCESS, Run, Status
from handspan.redaction import Redactor

__all__ = [
    "ExecutionResult",
    "OutcomeLimits",
    "described",
    "error_type_of",
    "fail",
    "is_expected",
    "message_of",
    "shortened",
]

CACHED_STACKS: Final = 256
_UNREDACTED: Final = Redactor(())
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
        """It succeeded."""
        return self.status == SUCCESS

    @property
    def duration_ms(self) -> float:
        """Monotonic milliseconds, as in the views."""
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
    redactor: Redactor = _UNREDACTED  # ``Telemetry`` gives the settings'


def fail(run: Run, error: BaseException, limits: OutcomeLimits, *, deadline: float | None = None) -> None:
    """Put the outcome of an exception on the run. ``deadline``: it was our own, of so many seconds."""
    if deadline is not None:
        run.status = ERROR
        run.error_type = run.exception_type = "TimeoutError"
        run.error_message = f"The deadline of {deadline:g} s passed."
        run.error_traceback, _ = _traceback_of(error, limits)
        return
    kind = type(error)  # never isinstance: ``__class__`` may lie
    if issubclass(kind, asyncio.CancelledError | GeneratorExit):  # the second: its loop went away under it
        run.status = CANCELLED
        return
    run.status = ERROR
    run.error_type, run.exception_type = _NAME(kind), error_type_of(kind)
    run.error_message = shortened(message_of(error), limits)
    run.error_traceback, tail = _traceback_of(error, limits)
    usual = f"{run.exception_type}: {run.error_message}" if run.error_message else run.exception_type
    run.exception_tail = None if tail in (None, usual) else tail


def described(error: BaseException, limits: OutcomeLimits) -> tuple[str, str, str]:
    """An exception that somebody logged: type, message, and traceback as Python prints it."""
    kind, message = error_type_of(type(error)), shortened(message_of(error), limits)
    stack, tail = _traceback_of(error, limits)
    if tail is None:
        tail = f"{kind}: {message}" if message else kind
    return kind, message, (stack or "") + tail


def is_expected(error: BaseException) -> bool:
    """Logged in one line: it says all there is to say."""
    return issubclass(type(error), HandspanError)


def error_type_of(kind: type) -> str:
    """OpenTelemetry's ``error.type``: the qualified class, named as Python prints it."""
    try:
        module = kind.__module__
    except Exception:  # noqa: BLE001 - a metaclass of somebody's
        module = "builtins"
    qualified = _QUALNAME(kind)
    return f"{module}.{qualified}" if isinstance(module, str) and module not in _UNNAMED else qualified


def message_of(error: BaseException) -> str:
    """``str(error)`` as a plain text, or why it could not be had."""
    try:
        return str.__str__(str(error))  # a subclass of str may lie about its length
    except KeyboardInterrupt:
        raise
    except BaseException as second:  # noqa: BLE001 - someone else's __str__
        return f"<str() of this exception raised {_NAME(type(second))}>"


_UNNAMED: Final = ("builtins", "__main__")
# Descriptors of ``type`` itself: a metaclass cannot make these raise or lie.
_NAME: Final[Callable[[type], str]] = type.__dict__["__name__"].__get__
_QUALNAME: Final[Callable[[type], str]] = type.__dict__["__qualname__"].__get__
_TRACEBACK: Final[Callable[[BaseException], TracebackType | None]] = BaseException.__dict__["__traceback__"].__get__
_SAYS_MORE: Final = (SyntaxError, NameError, AttributeError, ImportError, BaseExceptionGroup)
"""Python prints more for these than type and message: where, what was meant, what is inside."""

_stacks: OrderedDict[tuple[object, ...], str] = OrderedDict()


def _traceback_of(error: BaseException, limits: OutcomeLimits) -> tuple[str | None, str | None]:
    """The text above the message line; and that line, where it may not be simply ``type: message``."""
    try:
        if not _is_simple(error):
            return _full_text(error, limits)
    except KeyboardInterrupt:
        raise
    except BaseException:  # noqa: BLE001, S110 - hostile exceptions break the traceback module in many ways
        pass
    try:
        return _stack_text(_TRACEBACK(error), limits), None
    except Exception:  # noqa: BLE001 - a frame whose file or code is beyond printing
        return None, None


def _is_simple(error: BaseException) -> bool:
    chained = error.__cause__ is not None or (error.__context__ is not None and not error.__suppress_context__)
    return not (chained or issubclass(type(error), _SAYS_MORE) or getattr(error, "__notes__", None))


def _full_text(error: BaseException, limits: OutcomeLimits) -> tuple[str, str]:
    exception = traceback.TracebackException(type(error), error, _TRACEBACK(error), compact=True)
    _shorten(exception)
    text, tail = "".join(exception.format()), "".join(exception.format_exception_only())
    if issubclass(type(error), BaseExceptionGroup) or not text.endswith(tail):
        return _cut_middle(text, limits), ""
    text = _cut_middle(text.removesuffix(tail), limits)
    return text, shortened(tail.rstrip("\n"), limits)


def _shorten(exception: traceback.TracebackException) -> None:
    """Of each stack in the chain, the first and the last frames: the innermost is where the bug is."""
    todo, seen = [exception], set()
    while todo:
        each = todo.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if len(each.stack) > MAX_FRAMES:
            cut = traceback.FrameSummary(
                "", 0, f"... {len(each.stack) - MAX_FRAMES} frames cut by handspan ...", line=""
            )
            each.stack[:] = [*each.stack[: MAX_FRAMES // 2], cut, *each.stack[-MAX_FRAMES // 2 :]]
        todo += [other for other in (each.__cause__, each.__context__, *(each.exceptions or ())) if other is not None]


def _stack_text(tb: TracebackType | None, limits: OutcomeLimits) -> str | None:
    if tb is None:
        return None
    key: list[object] = [limits.max_traceback_chars, limits.redactor]
    step: TracebackType | None = tb
    while step is not None and len(key) < 4 * MAX_FRAMES:
        key += (step.tb_frame.f_code, step.tb_lasti)
        step = step.tb_next
    found = _stacks.get(tuple(key)) if step is None else None
    if found is None:
        found = "Traceback (most recent call last):\n" + "".join(_frame_lines(tb))
        found = _cut_middle(found, limits)
        if step is None:
            _stacks[tuple(key)] = found
            while len(_stacks) > CACHED_STACKS:
                _stacks.popitem(last=False)
    return found


def _frame_lines(tb: TracebackType) -> list[str]:
    """As Python prints them, equal lines folded; of a deep stack of different frames, both ends."""
    frames = traceback.extract_tb(tb)
    lines = traceback.format_list(frames)
    if len(lines) <= MAX_FRAMES:
        return lines
    half = MAX_FRAMES // 2
    return [*lines[:half], f"  ... {len(lines) - MAX_FRAMES} frames cut by handspan ...\n", *lines[-half:]]


def shortened(text: str, limits: OutcomeLimits) -> str:
    """Without secrets, and without what is past ``max_message_chars``: then it says so."""
    limit = limits.max_message_chars
    first = limits.redactor.head(text, limit)
    return first if len(text) <= limit else f"{first} ... ({len(text) - limit} characters cut by handspan)"


def _cut_middle(text: str, limits: OutcomeLimits) -> str:
    limit, redactor = limits.max_traceback_chars, limits.redactor
    if len(text) <= limit:
        return redactor.text(text)
    first, last = redactor.head(text, limit // 2), redactor.tail(text, limit // 2)
    return f"{first}\n... {len(text) - limit} characters cut by handspan ...\n{last}"
