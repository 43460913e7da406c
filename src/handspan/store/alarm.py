"""What wakes the writer.

In C all through: an Event that a signal handler's exception interrupts stays locked for ever.
"""

import time
from queue import Empty, SimpleQueue

__all__ = ["Alarm"]


class Alarm:
    """Rung from any thread, waited for by one. Times are ``time.monotonic()``'s."""

    def __init__(self) -> None:
        self._rings: SimpleQueue[bool] = SimpleQueue()

    def ring(self, *, urgent: bool) -> None:
        self._rings.put(urgent)

    def wait(self, until: float, gather: float) -> None:
        """Until then at the latest. A ring that is not urgent gives others ``gather`` seconds to join it."""
        if self._next(until) is False:
            until = time.monotonic() + gather
            while self._next(until) is False:
                pass
        while not self._rings.empty():
            self._rings.get()

    def _next(self, until: float) -> bool | None:
        """True: be quick. False: something waits. None: nothing came until then."""
        try:
            return self._rings.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            return None
