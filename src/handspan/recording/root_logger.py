"""Handlers of ours on the root logger, in nobody's way.

To a program that has no handler there one makes a difference: Python no longer prints warnings by its handler of last
resort, and ``basicConfig`` does nothing, so that the program falls silent (open-telemetry/opentelemetry-python#2594 and
#4427). While any of ours is there, a stand-in calls the handler of last resort as logging would, and ``basicConfig``
does not see ours. What takes every handler off the root logger (``dictConfig``) takes ours off, too.
"""

import functools
import logging
from typing import Any, Final

__all__ = ["add", "remove"]

_ours: set[logging.Handler] = set()
_basic_config: Final = logging.basicConfig


class _StandIn(logging.Handler):
    """For the handler of last resort. Its own lock, which logging makes anew in a forked child, guards this module."""

    def handle(self, record: logging.LogRecord) -> bool:
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and not _heard_by_others(record.name):
            last.handle(record)
        return True


_stand_in: Final = _StandIn()


def add(handler: logging.Handler) -> None:
    """Put it on the root logger, until :func:`remove`."""
    _stand_in.acquire()
    try:
        _ours.update((handler, _stand_in))
        for each in (handler, _stand_in):
            logging.getLogger().addHandler(each)
        if logging.basicConfig is _basic_config:  # else somebody else has an opinion of it
            logging.basicConfig = _without_ours
    finally:
        _stand_in.release()


def remove(handler: logging.Handler) -> None:
    """Take it off; with the last of ours goes everything else."""
    _stand_in.acquire()
    try:
        _ours.discard(handler)
        logging.getLogger().removeHandler(handler)
        if _ours == {_stand_in}:
            _ours.clear()
            logging.getLogger().removeHandler(_stand_in)
            if logging.basicConfig is _without_ours:
                logging.basicConfig = _basic_config
    finally:
        _stand_in.release()


@functools.wraps(_basic_config)
def _without_ours(**options: Any) -> None:
    root = logging.getLogger()
    aside = [each for each in root.handlers if each in _ours]
    for each in aside:
        root.removeHandler(each)
    try:
        _basic_config(**options)
    finally:
        for each in aside:
            root.addHandler(each)


def _heard_by_others(name: str) -> bool:
    """Whether a handler that is not ours gets what this logger says. It reached the root, so all on the way do."""
    root = logging.getLogger()
    logger: Any = root.manager.loggerDict.get(name, root)
    while logger is not None:
        if any(each not in _ours for each in getattr(logger, "handlers", ())):
            return True
        logger = logger.parent
    return False
