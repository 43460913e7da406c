"""Told of every fork: one set of hooks for the process, over whoever has something to bring into safety.

What is given to ``os.register_at_fork`` can never be taken back, so a thousand ``Telemetry`` objects must not
each give something. Members are held weakly; one that leaves, or is forgotten, is not asked any more.
"""

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Final, Protocol

__all__ = ["Forking", "join", "leave"]

_log = logging.getLogger("handspan")

FORK_WAIT: Final = 2.0  # seconds a fork may wait for everybody's SQLite together


class Forking(Protocol):
    """Who is told. ``before_fork`` takes its threads out of SQLite and closes its connections, by the monotonic
    moment ``until``; False if it could not. Only who said True is told in the parent, everybody in the child."""

    def before_fork(self, until: float) -> bool: ...
    def after_fork_in_parent(self) -> None: ...
    def after_fork_in_child(self, *, clean: bool) -> None:
        """Not ``clean``: somebody was inside SQLite when the process was copied. It cannot be used here."""
        ...


def join(member: Forking) -> None:
    """From now on, until :func:`leave`, or until it is gone. Twice is once."""
    key = id(member)

    def forget(reference: "weakref.ref[Forking]") -> None:
        if _members.get(key) is reference:
            del _members[key]

    _members[key] = weakref.ref(member, forget)
    _hooks.install()


def leave(member: Forking) -> None:
    _members.pop(id(member), None)


_members: dict[int, "weakref.ref[Forking]"] = {}


class _Hooks:
    def __init__(self) -> None:
        self._installed = self._tainted = False
        self._told = threading.local()  # two threads may fork at once; in the child the forking one goes on

    def install(self) -> None:
        if not self._installed:
            self._installed = True
            os.register_at_fork(before=self._before, after_in_parent=self._in_parent, after_in_child=self._in_child)

    def _before(self) -> None:
        until = time.monotonic() + FORK_WAIT
        members = [reference() for reference in _members.copy().values()]
        # Who was asked is who is told: closing may come in between.
        self._told.asked = [(each, _safely(partial(each.before_fork, until))) for each in members if each is not None]

    def _in_parent(self) -> None:
        for member, clean in self._take():
            if clean:
                _safely(member.after_fork_in_parent)

    def _in_child(self) -> None:
        asked = self._take()
        # One connection that came along is enough: SQLite's table of locks is one for the process, and its children.
        self._tainted = self._tainted or not all(clean for _, clean in asked)
        for member, _ in asked:
            _safely(partial(member.after_fork_in_child, clean=not self._tainted))

    def _take(self) -> list[tuple[Forking, bool]]:
        asked: list[tuple[Forking, bool]] = getattr(self._told, "asked", [])
        self._told.asked = []
        return asked


def _safely(call: Callable[[], bool | None]) -> bool:
    try:
        return call() is not False
    except Exception:  # noqa: BLE001 - nothing of ours reaches who forks
        _log.exception("handspan failed at a fork; the application is not affected.")
        return False


_hooks: Final = _Hooks()
