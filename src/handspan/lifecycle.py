"""What can happen to a process while it records: SIGTERM, exit without close, fork.

SIGTERM's handler must not flush: it runs on the main thread, perhaps while that thread holds the very
mutex the writer needs. So it restores the default action, starts a thread that closes and then raises the
signal again, and returns; the application runs on for the moment that takes. It is installed only where
nobody else handles SIGTERM, and on the main thread.

Children of ``multiprocessing`` leave by ``os._exit``, past ``atexit``; what they run before that is
multiprocessing's own finalizers, so a ``Telemetry`` that lives in one is closed there, too.
"""

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import cache
from types import FrameType
from typing import Any

from handspan.forking import Forking, join, leave

__all__ = ["Lifecycle"]


class Lifecycle:
    """Ties one open ``Telemetry`` to its process, until :meth:`end`. ``close_at_once`` waits for nobody."""

    def __init__(self, close_at_once: Callable[[], bool], forking: Forking, *, handle_sigterm: bool) -> None:
        self._close_at_once, self._forking = close_at_once, forking
        self._finalizer: Any = None
        _open.add(self)
        _at_exit_once()
        join(self)
        self._close_with_multiprocessing()
        if handle_sigterm:
            self._install()

    def end(self) -> None:
        """From any thread. The signal's handler stays: taking it off needs the main thread, and it is harmless."""
        _open.discard(self)
        _living.discard(self)
        leave(self)
        if self._finalizer is not None:
            self._finalizer.cancel()

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

    def before_fork(self, until: float) -> bool:
        return self._forking.before_fork(until)

    def after_fork_in_parent(self) -> None:
        self._forking.after_fork_in_parent()

    def after_fork_in_child(self, *, clean: bool) -> None:
        self._forking.after_fork_in_child(clean=clean)
        util = sys.modules.get("multiprocessing.util")
        if util is not None:  # perhaps it was its fork: it forgets the parent's finalizers, then calls this
            util.register_after_fork(self, Lifecycle._close_with_multiprocessing)

    def _close_with_multiprocessing(self) -> None:
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is None or multiprocessing.parent_process() is None:
            return
        from multiprocessing.util import Finalize  # where it is imported already

        self._finalizer = Finalize(None, self.close_at_once, exitpriority=0)


_open: set[Lifecycle] = set()


@cache
def _at_exit_once() -> None:
    """One hook for the process: ``atexit`` keeps a slot for each, also for one that was taken back."""
    atexit.register(_at_exit)


def _at_exit() -> None:
    for each in list(_open):
        each.close_at_once()


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
