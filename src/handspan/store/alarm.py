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

    def wait(self, until: float) -> bool | None:
        """True: be quick. False: something waits. None: nothing came until then."""
        try:
            return self._rings.get(timeout=max(0.0, until - time.monotonic()))
        except Empty:
            return None

    def collect(self, until: float) -> None:
        """Let things gather until then, or until somebody is in a hurry; all rings so far are heard."""
        while self.wait(until) is False:
            pass
        while not self._rings.empty():
            self._rings.get()
