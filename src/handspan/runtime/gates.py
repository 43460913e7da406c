"""Gates: which of the matching events a listener really gets.

An item is offered; it is released at once, later, or never: then ``swallowed`` is called for it. Gates know nothing of
events or handlers, and live on the event loop's thread.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from handspan.errors import RegistrationError
from handspan.runtime.host import Timer, Timers

__all__ = ["Debounce", "Gate", "Open", "Throttle", "make_gate"]

T = TypeVar("T")
T_contra = TypeVar("T_contra", contravariant=True)


class Gate(Protocol[T_contra]):
    @property
    def waiting(self) -> bool:
        """An item is held back and will be released unless another replaces it."""
        ...

    def offer(self, item: T_contra) -> None: ...

    def cancel(self) -> None:
        """Drop what is held back."""
        ...


class Open(Generic[T]):
    """No gate: everything passes."""

    waiting = False

    def __init__(self, release: Callable[[T], object]) -> None:
        self._release = release

    def offer(self, item: T) -> None:
        self._release(item)

    def cancel(self) -> None:
        pass


class Debounce(Generic[T]):
    """Trailing edge: the last item of a burst, once it has been quiet for ``seconds``."""

    def __init__(
        self, seconds: float, timers: Timers, release: Callable[[T], object], swallowed: Callable[[], object]
    ) -> None:
        self._seconds = seconds
        self._timers = timers
        self._release = release
        self._swallowed = swallowed
        self._timer: Timer | None = None
        self._turn = 0

    @property
    def waiting(self) -> bool:
        return self._timer is not None

    def offer(self, item: T) -> None:
        if self._timer is not None:
            self._swallowed()
        self.cancel()
        self._timer = self._timers.call_later(self._seconds, partial(self._fire, self._turn, item))

    def cancel(self) -> None:
        self._turn += 1  # a timer that is already due and slips past cancel() finds its turn over
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self, turn: int, item: T) -> None:
        if turn == self._turn:
            self._turn += 1
            self._timer = None
            self._release(item)


class Throttle(Generic[T]):
    """Leading edge: the first item passes at once, then none for ``seconds``."""

    waiting = False

    def __init__(
        self, seconds: float, timers: Timers, release: Callable[[T], object], swallowed: Callable[[], object]
    ) -> None:
        self._seconds = seconds
        self._timers = timers
        self._release = release
        self._swallowed = swallowed
        self._open_from = -math.inf

    def offer(self, item: T) -> None:
        now = self._timers.monotonic()
        if now >= self._open_from:
            self._open_from = now + self._seconds
            self._release(item)
        else:
            self._swallowed()

    def cancel(self) -> None:
        pass


def make_gate(
    debounce: float | None,
    throttle: float | None,
    timers: Timers,
    release: Callable[[T], object],
    swallowed: Callable[[], object],
) -> Gate[T]:
    for option, seconds in (("debounce", debounce), ("throttle", throttle)):
        if seconds is not None and not _is_duration(seconds):
            raise RegistrationError(f"{option}={seconds!r} makes no sense.", hint="Give seconds, more than 0.")
    if debounce is not None and throttle is not None:
        raise RegistrationError(
            "A listener has either debounce or throttle.",
            hint="The first gives the last event of a burst, the second the first: register two listeners for both.",
        )
    if debounce is not None:
        return Debounce(debounce, timers, release, swallowed)
    if throttle is not None:
        return Throttle(throttle, timers, release, swallowed)
    return Open(release)


def _is_duration(seconds: Any) -> bool:
    return isinstance(seconds, int | float) and math.isfinite(seconds) and seconds > 0
