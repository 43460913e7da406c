"""What an integration asks of a ``Telemetry``, and the little that all of them need."""

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from whenever import Instant

from handspan.clock import instant_from_ns
from handspan.commands import Command, Job, Listener
from handspan.outcome import ExecutionResult

__all__ = ["Host", "ours", "to_instant"]

_log = logging.getLogger("handspan.integrations")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Host(Protocol):
    """Registers what somebody else's dispatcher calls, and runs it for that dispatcher."""

    @property
    def execute(self) -> Callable[[Command], Awaitable[ExecutionResult]]: ...
    @property
    def execute_sync(self) -> Callable[[Command], ExecutionResult]: ...
    @property
    def register_listener(self) -> Callable[..., Listener]: ...
    @property
    def register_job(self) -> Callable[..., Job]: ...
    @property
    def set_next_run(self) -> Callable[[Job, Instant | None], None]: ...
    @property
    def skipped(self) -> Callable[..., None]:
        """``skipped(handle, reason, count=1, *, at=None)``: it did not run."""
        ...


def to_instant(moment: datetime) -> Instant:
    """Exact: a ``timestamp()`` is a float."""
    return instant_from_ns((moment - _EPOCH) // _MICROSECOND * 1000)


def ours(where: str) -> None:
    """Say in the log that we failed, inside an ``except``: whoever is instrumented is not told otherwise."""
    try:
        _log.exception("handspan failed in %s; the application is not affected.", where)
    except Exception:  # noqa: BLE001, S110 - logging itself is broken: there is nobody left to tell
        pass
