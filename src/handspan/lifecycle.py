"""What can happen to a process while it records: SIGTERM, exit without close, fork.

SIGTERM's handler must not flush: it runs on the main thread, perhaps while that thread holds the very
mutex the writer needs. So it restores the default action, starts a thread that closes and then raises the
signal again, and returns; the application runs on for the moment that takes. It is installed only where
nobody else handles SIGTERM, and on the main thread.
"""

import atexit
import os
import signal
import threading
import weakref
from types import FrameType
from typing import Any, Protocol

__all__ = ["Lifecycle"]


class Living(Protocol):
    def close_at_once(self) -> bool:
        """Commit what finished, record what runs as interrupted, wait for nobody."""
        ...

    def after_fork_in_child(self) -> None: ...


class Lifecycle:
    """Ties one open ``Telemetry`` to its process, until :meth:`end`."""

    def __init__(self, telemetry: Living, *, handle_sigterm: bool) -> None:
        self._telemetry: Living | None = telemetry
        self._pid = os.getpid()
        self._handler: Any = None
        atexit.register(self._at_exit)
        weak_self = weakref.ref(self)

        def in_child() -> None:  # a hook of os.register_at_fork can never be taken back
            alive = weak_self()
            if alive is not None:
                alive._in_child()

        os.register_at_fork(after_in_child=in_child)
        if handle_sigterm:
            self._install()

    def end(self) -> None:
        atexit.unregister(self._at_exit)
        on_main = threading.current_thread() is threading.main_thread()
        if self._handler is not None and on_main and signal.getsignal(signal.SIGTERM) is self._handler:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        self._telemetry = None

    def _install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            self._handler = self._on_sigterm
            signal.signal(signal.SIGTERM, self._handler)

    def _on_sigterm(self, number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once
        telemetry, pid = self._telemetry, self._pid
        if telemetry is None or pid != os.getpid():
            os.kill(os.getpid(), signal.SIGTERM)
            return

        def close_and_die() -> None:
            try:
                telemetry.close_at_once()
            finally:
                os.kill(pid, signal.SIGTERM)

        threading.Thread(target=close_and_die, name="handspan-sigterm", daemon=True).start()

    def _at_exit(self) -> None:
        telemetry = self._telemetry
        if telemetry is not None:
            telemetry.close_at_once()

    def _in_child(self) -> None:
        telemetry = self._telemetry
        if telemetry is not None:
            self._pid = os.getpid()
            telemetry.after_fork_in_child()
