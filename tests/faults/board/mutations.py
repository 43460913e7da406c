"""Switches that break a promise inside the worker, so that the scoreboard is seen to notice.

Each is a fault an engineer could make. They reach into handspan's insides, on purpose: one that no longer fits
raises, and the row that should be red with it says so.
"""

import itertools
import logging
import os
import time
from collections.abc import Callable
from typing import Any

import handspan.lifecycle
import handspan.pipeline
import handspan.recording.ledger
import handspan.recording.queue
import handspan.store.episodes
import handspan.store.liveness
import handspan.store.sessions
import handspan.store.writer
from board.clock import JumpingClock
from handspan.executor import CommandExecutor
from handspan.recording.logs import RunLogs
from handspan.recording.queue import SegmentQueue
from handspan.store.rollups import Rollups
from handspan.store.writer import Writer

MUTATIONS: dict[str, Callable[[], None]] = {}


def apply(name: str | None) -> None:
    if name is not None:
        MUTATIONS[name]()


def mutation(function: Callable[[], None]) -> Callable[[], None]:
    MUTATIONS[function.__name__.replace("_", "-")] = function
    return function


def replaced(owner: Any, name: str, make: Callable[[Any], Any]) -> None:
    setattr(owner, name, make(getattr(owner, name)))


@mutation
def journal_off() -> None:
    """Settled by the runner, as a setting: nothing to do in here."""


@mutation
def lose_some() -> None:
    """Every hundredth record never reaches the queue: what any row must notice."""
    count = itertools.count(1)

    def make(real: Any) -> Any:
        def append(self: Any, record: Any, *more: Any) -> None:
            if next(count) % 100:
                real(self, record, *more)

        return append

    replaced(SegmentQueue, "append", make)


@mutation
def give_up_on_failure() -> None:
    """What the stock batch processor does: a batch that could not be exported is gone."""

    def make(real: Any) -> Any:
        def write(self: Any, segment: Any, *more: Any) -> None:
            try:
                real(self, segment, *more)
            except Exception:
                segment.records.clear()
                raise

        return write

    replaced(Writer, "_write_segment", make)


@mutation
def commit_twice() -> None:
    """A commit whose segment is not taken off the queue."""
    twice = itertools.count()

    def make(real: Any) -> Any:
        def committed(self: Any, segment: Any) -> None:
            if next(twice) % 2 or len(segment.records) == 0:
                real(self, segment)

        return committed

    replaced(SegmentQueue, "committed", make)


@mutation
def no_ledger() -> None:
    """What is dropped is not counted."""
    replaced(handspan.recording.ledger.Ledger, "add", lambda _: lambda self, *_: None)


@mutation
def unbounded() -> None:
    """The queue takes whatever comes."""

    def make(real: Any) -> Any:
        def init(self: Any, *args: Any, **options: Any) -> None:
            real(self, *args, **options)
            bound, self._max_spans, self._max_bytes = self._max_spans, 10**9, 10**12
            self.__class__.capacity = property(lambda _: bound)

        return init

    replaced(SegmentQueue, "__init__", make)


@mutation
def writer_dies() -> None:
    """The first failure ends the thread that writes, as one CancelledError ended the stock processor's."""

    def make(real: Any) -> Any:
        def failed(self: Any, error: BaseException, *further: Any) -> None:
            real(self, error, *further)
            self._closing.wait()

        return failed

    replaced(Writer, "_failed", make)


@mutation
def line_per_try() -> None:
    """Every try of an episode is logged."""

    def make(real: Any) -> Any:
        def failed(self: Any, error: BaseException, *further: Any) -> None:
            real(self, error, *further)
            logging.getLogger("handspan.store").error("Recording waits, the application goes on: %s", error)

        return failed

    replaced(handspan.store.episodes.Episode, "failed", make)


@mutation
def no_session_lock() -> None:
    """The lock's file is there, and nobody holds it: this process looks dead."""

    def make(_: Any) -> Any:
        def acquire(self: Any) -> None:
            os.close(self._created())

        return acquire

    replaced(handspan.store.liveness.SessionLock, "acquire", make)


@mutation
def no_burial() -> None:
    """The dead are not found by the next start."""
    replaced(handspan.store.sessions.SessionLife, "bury_the_dead", lambda _: lambda self, *_: 0)


@mutation
def no_sigterm() -> None:
    """The signal's default action, at once."""
    replaced(handspan.lifecycle.Lifecycle, "_install", lambda _: lambda self: None)


@mutation
def no_atexit() -> None:
    """The interpreter ends, and nobody commits."""
    replaced(handspan.lifecycle, "_at_exit_once", lambda _: lambda: None)


@mutation
def fork_unnoticed() -> None:
    """The child goes on with its parent's session, queue and connection."""
    replaced(handspan.pipeline.Pipeline, "after_fork_in_child", lambda _: lambda self, **_: None)


@mutation
def any_file_is_ours() -> None:
    """Nobody looks whether the file is still the one that was opened."""
    replaced(handspan.store.writer, "identity_of", lambda _: lambda path: (1, 1))


@mutation
def raise_into_the_host() -> None:
    """One run in a hundred gets an exception of ours."""
    count = itertools.count(1)

    def make(real: Any) -> Any:
        def finish(self: Any, *args: Any) -> Any:
            if next(count) % 100 == 0:
                raise RuntimeError("handspan's own failure")
            return real(self, *args)

        return finish

    replaced(CommandExecutor, "_finish", make)


@mutation
def wall_durations() -> None:
    """How long a run took is taken from the clock on the wall."""
    JumpingClock.monotonic_ns = staticmethod(lambda: time.time_ns() + JumpingClock.offset_ns)


@mutation
def failures_forgotten() -> None:
    """Runs that raised are not recorded."""

    def make(real: Any) -> Any:
        def append(self: Any, record: Any, *more: Any) -> None:
            if record.error_type is None:
                real(self, record, *more)

        return append

    replaced(SegmentQueue, "append", make)


@mutation
def untold() -> None:
    """Every third commit's figures come to nothing: its rows are there, and rollups know nothing of them."""
    count = itertools.count(1)

    def make(real: Any) -> Any:
        def write(self: Any) -> None:
            if next(count) % 3:
                real(self)
            else:
                self._added.clear()

        return write

    replaced(Rollups, "write", make)


@mutation
def silent() -> None:
    """One line of a run in ten is not kept."""
    count = itertools.count(1)

    def make(real: Any) -> Any:
        def add(self: Any, line: Any) -> None:
            if next(count) % 10:
                real(self, line)

        return add

    replaced(RunLogs, "add", make)
