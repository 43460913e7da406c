"""What is logged while a command runs: a handler on the root logger, which keeps lines on the run.

A line costs the application some microseconds and no I/O: it waits on its run, and goes the run's way when that ends
(record, journal, queue, transaction). What a run may keep is bounded (see :class:`RunLogs`). Nothing raises.

How it stands on the root logger without being in anybody's way: :mod:`handspan.recording.root_logger`.
"""

import logging
import math
import time
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import Any, Final

from handspan import attributes as names
from handspan.outcome import OutcomeLimits, described, error_type_of, message_of, shortened
from handspan.recording import root_logger
from handspan.records import LogLine, Run
from handspan.serialize import clean_text
from handspan.spans import child_span_id, run_of

__all__ = ["RunLogHandler", "RunLogs"]

OFTEN: Final = 4  # times log_max_chars: a traceback of some thirty frames
MAX_NAME: Final = 300  # characters of a logger, a file, a function
MAX_LEVEL: Final = 10_000
LAST_MOMENT: Final = 253_402_300_799.0  # of the year 9999
OWN: Final = "handspan"


class RunLogs:
    """One run's lines: the first half of what it may have, and the newest of the rest.

    Without a lock, as threads of the run may log at once and a fork may come at any moment: drawing a number and
    setting an item are each one step under the GIL.
    """

    __slots__ = ("_draw", "_head", "_kept", "_tail")

    def __init__(self, most: int) -> None:
        self._head, self._tail = most - most // 2, most // 2
        self._draw: Callable[[], int] = count().__next__
        self._kept: dict[int, tuple[int, LogLine]] = {}

    def add(self, line: LogLine) -> None:
        number = self._draw()
        place = number if number < self._head else self._head + (number - self._head) % self._tail
        self._kept[place] = number, line

    def lines(self) -> list[LogLine]:
        """In their order; where some are missing a line says how many."""
        kept = sorted(self._kept.copy().values(), key=_number)
        missing = kept[-1][0] + 1 - len(kept) if kept else 0
        found = [line for _, line in kept]
        if missing > 0:
            after = found[self._head] if len(found) > self._head else found[-1]
            said = f"{missing} lines were left out here: log_max_records keeps the first and the last."
            found.insert(self._head, (after[0], logging.INFO, OWN, said, None, None))
        return found


def _number(kept: tuple[int, LogLine]) -> int:
    return kept[0]


class RunLogHandler(logging.Handler):
    """Keeps what is logged under the runs of one ``Telemetry``, whose recorder is ``owner``."""

    def __init__(self, owner: object, level: int, limits: OutcomeLimits, most: int) -> None:
        super().__init__(level)
        self._owner, self._most, self._redactor = owner, most, limits.redactor
        self._limits = OutcomeLimits(
            limits.max_message_chars, min(limits.max_traceback_chars, OFTEN * limits.max_message_chars), limits.redactor
        )
        self._place = lru_cache(maxsize=1024)(self._place_of)

    def createLock(self) -> None:  # noqa: N802 - logging's name
        """None: there is nothing to guard (see RunLogs), a message that is slow to format keeps no other thread
        waiting, and no fork finds it taken."""
        self.lock = None

    def install(self) -> None:
        root_logger.add(self)

    def remove(self) -> None:
        root_logger.remove(self)
        self.close()

    # --- one line ---------------------------------------------------------------------------------------

    def handle(self, record: logging.LogRecord) -> bool:
        """Instead of ``emit`` under the lock. Filters added to this handler are heard."""
        try:
            run = run_of(None)
            if run is not None and run.owner is self._owner and not run.recorded:
                self._keep(run, record)
        except Exception:  # noqa: BLE001, S110 - whatever the record holds; and to log it would come back here
            pass
        return True

    def _keep(self, run: Run, record: logging.LogRecord) -> None:
        logger = _name(record.name)
        if logger == OWN or logger.startswith(f"{OWN}."):
            return  # the executor logs every failure, and the run has it already
        if self.filters and not self.filter(record):
            return
        line = (
            _moment(record.created),
            _level(record.levelno),
            logger,
            clean_text(shortened(_message(record), self._limits)),
            child_span_id(run),
            self._attributes(record),
        )
        if run.logs is None:
            run.logs = RunLogs(self._most)
        run.logs.add(line)

    def _attributes(self, record: logging.LogRecord) -> dict[str, Any] | None:
        place = self._place(_name(record.pathname), record.lineno, _name(record.funcName))
        given = record.exc_info
        error: Any = given[1] if type(given) is tuple and len(given) > 1 else None
        if not issubclass(type(error), BaseException):
            return place
        kind, message, stack = described(error, self._limits)
        return {
            **place,
            names.EXCEPTION_TYPE: clean_text(kind[:MAX_NAME]),
            names.EXCEPTION_MESSAGE: clean_text(message),
            names.EXCEPTION_STACKTRACE: clean_text(stack),
        }

    def _place_of(self, path: str, line: int, function: str) -> dict[str, Any]:
        """Shared by all lines of one place: never changed."""
        text = self._redactor.text
        return {
            names.CODE_FILE_PATH: text(path),
            names.CODE_LINE_NUMBER: line if type(line) is int and 0 <= line < 2**31 else 0,
            names.CODE_FUNCTION_NAME: text(function),
        }


def _message(record: logging.LogRecord) -> str:
    """Formatted; else as it was given, and why. A Ctrl-C, or a signal's handler that ends the process, may come in
    here: those go on, as they do through any other handler."""
    try:
        return str.__str__(record.getMessage())
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - someone else's __str__
        given = str.__str__(record.msg) if issubclass(type(record.msg), str) else f"<{error_type_of(type(record.msg))}>"
        return f"{given} <not formatted: {error_type_of(type(error))}: {message_of(error)}>"


def _name(value: Any) -> str:
    return clean_text(str.__str__(value)[:MAX_NAME]) if issubclass(type(value), str) else ""


def _level(value: Any) -> int:
    return max(0, min(int.__int__(value), MAX_LEVEL)) if issubclass(type(value), int) else 0


def _moment(value: object) -> float:
    """Whole microseconds, as everywhere. Records can be made of anything, also of another machine's."""
    if type(value) is float and math.isfinite(value) and 0 <= value <= LAST_MOMENT:
        return round(value, 6)
    return round(time.time(), 6)
