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
from collections.abc import Callable
from types import FrameType
from typing import Protocol

__all__ = ["Lifecycle"]


class Forking(Protocol):
    """What is told of a fork: recording and store."""

    def before_fork(self) -> bool: ...
    def after_fork_in_parent(self) -> None: ...
    def after_fork_in_child(self, *, clean: bool) -> None: ...


class Lifecycle:
    """Ties one open ``Telemetry`` to its process, until :meth:`end`. ``close_at_once`` waits for nobody."""

    def __init__(self, close_at_once: Callable[[], bool], forking: Forking, *, handle_sigterm: bool) -> None:
        self._close_at_once = close_at_once
        self._forking: Forking | None = forking
        self._told: Forking | None = None
        self._clean = True
        atexit.register(self._at_exit)
        weak_self = weakref.ref(self)

        def hook(name: str) -> Callable[[], None]:  # one given to os.register_at_fork can never be taken back
            def call() -> None:
                alive = weak_self()
                if alive is not None:
                    getattr(alive, name)()

            return call

        os.register_at_fork(
            before=hook("_before_fork"), after_in_parent=hook("_in_parent"), after_in_child=hook("_in_child")
        )
        if handle_sigterm:
            self._install()

    def end(self) -> None:
        """From any thread. The signal's handler stays: taking it off needs the main thread, and it is harmless."""
        atexit.unregister(self._at_exit)
        _living.discard(self)
        self._forking = None

    def _install(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        if os.getpid() == 1:  # the kernel ignores a default action for a container's first process: it would live on
            return
        if signal.getsignal(signal.SIGTERM) in (signal.SIG_DFL, _on_sigterm):
            signal.signal(signal.SIGTERM, _on_sigterm)
            _living.add(self)

    def close_at_once(self) -> None:
        self._close_at_once()

    def _at_exit(self) -> None:
        self._close_at_once()

    def _before_fork(self) -> None:
        self._told = self._forking  # closing may come in between: who was asked is who is told
        self._clean = self._told is None or self._told.before_fork()

    def _in_parent(self) -> None:
        if self._told is not None and self._clean:
            self._told.after_fork_in_parent()

    def _in_child(self) -> None:
        if self._told is not None:
            self._told.after_fork_in_child(clean=self._clean)


_living: set[Lifecycle] = set()
"""One handler for the process, over every open ``Telemetry``: the second must not find the first in its way."""


def _on_sigterm(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends it at once

    def close_and_die() -> None:
        try:
            for each in list(_living):
                each.close_at_once()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    if not _living:
        os.kill(os.getpid(), signal.SIGTERM)
        return
    try:
        threading.Thread(target=close_and_die, name="handspan-sigterm", daemon=True).start()
    except RuntimeError:  # CPython 3.12, on its way out: our atexit hook has the rest
        os.kill(os.getpid(), signal.SIGTERM)
