"""The assembler: settings in, parts connected, one object to hold."""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any, Self

from handspan._version import __version__
from handspan.clock import Clock, SystemClock
from handspan.commands import ErrorHook
from handspan.executor import CommandExecutor
from handspan.executor.hooks import ErrorHooks
from handspan.executor.threads import DaemonThreadPool, off_loop, on_a_loop
from handspan.instruments import Health, RunInstruments, health_instruments
from handspan.integrations.decorators import Decorators
from handspan.lifecycle import Lifecycle
from handspan.outcome import OutcomeLimits
from handspan.pipeline import Pipeline, new_session
from handspan.providers.tracing import find_provider, meter_of, open_tracing, resource_of, sdk_disabled, untraced
from handspan.recording.processor import NotRecording
from handspan.records import Recorder
from handspan.redaction import redactor_for
from handspan.registry import Registry
from handspan.settings import Settings, misspelt
from handspan.store.service import DatabaseService

__all__ = ["Telemetry"]

_log = logging.getLogger("handspan")

WAITING = 0.8  # of a closing's time for what still runs; the rest is for the last commit


class Telemetry:
    """Records what is executed through it into one file.

    ``async with Telemetry("home.db") as telemetry`` opens and closes it; ``with``, or ``open()`` and
    ``close()``, do the same for programs without a loop. Opening raises
    :class:`handspan.errors.NotADatabaseError` or :class:`handspan.errors.ForeignDatabaseError` when the path
    can never be right; every other trouble with the database costs telemetry, not service.
    """

    def __init__(
        self,
        settings: Settings | str | os.PathLike[str] | None = None,
        *,
        tracer_provider: Any = None,
        meter_provider: Any = None,
        on_error: ErrorHook | tuple[ErrorHook, ...] | None = None,
        clock: Clock | None = None,
        **overrides: Any,
    ) -> None:
        if not isinstance(settings, Settings):
            settings = Settings.load(**overrides if settings is None else {"db": settings, **overrides})
        self.settings, self._clock = settings, clock or SystemClock()
        self.recording = not sdk_disabled()
        """False while ``OTEL_SDK_DISABLED`` is true: everything runs, nothing is kept."""
        meter = meter_of(meter_provider, __version__)
        self._health = health_instruments(meter_provider, meter)
        self.tracer_provider = provider = find_provider(
            tracer_provider, lambda: resource_of(settings), set_global=settings.set_global_providers
        )
        attributes = dict(getattr(getattr(provider, "resource", None), "attributes", {}))
        self._pipeline = Pipeline(
            settings,
            lambda: new_session(settings, attributes, self._clock.wall_ns()),
            self._clock,
            self._health.committed,
        )
        if self.recording:
            recorder: Recorder = self._pipeline.processor
            self._tracing = open_tracing(provider, recorder, __version__, child=settings.propagation == "child")
        else:
            recorder, self._tracing = NotRecording(), untraced(provider)
        self._pool = DaemonThreadPool(settings.sync_workers)
        self.error_hooks = ErrorHooks(on_error, timeout=settings.hook_timeout, per_minute=settings.hooks_per_minute)
        redactor = redactor_for(settings.redact_keys)
        limits = OutcomeLimits(settings.max_message_chars, settings.max_traceback_chars, redactor)
        executor = CommandExecutor(
            self._tracing.tracer, recorder, RunInstruments(meter), self.error_hooks, self._pool, self._clock, limits
        )
        registry = Registry(recorder, self._pipeline, redactor)
        self.register_listener, self.register_job = registry.register_listener, registry.register_job
        self.set_next_run = registry.set_next_run
        self.skipped: Callable[..., None] = self._pipeline.skips.add if self.recording else _not_counted
        self.execute, self.execute_sync = executor.execute, executor.execute_sync
        decorators = Decorators(self)
        self.handler, self.job = decorators.handler, decorators.job
        self.database = DatabaseService(settings.db, writer=self._pipeline.writer)
        self._lifecycle: Lifecycle | None = None
        self._state, self._closed_well = "new", True

    # --- opening --------------------------------------------------------------------------------------------

    def open(self) -> Self:
        """Open the file, waiting up to ``open_timeout`` for it."""
        if self._start():
            try:
                self._pipeline.writer.tried.result(self.settings.open_timeout)
            except FutureTimeoutError:
                self._say_it_waits()
            except BaseException:  # the path is wrong for good, or Ctrl-C: nobody gets this Telemetry
                self.close()
                raise
        return self

    async def __aenter__(self) -> Self:
        if self._start():
            opened = asyncio.wrap_future(self._pipeline.writer.tried)
            opened.add_done_callback(lambda done: done.cancelled() or done.exception())  # asked for, whoever waits
            try:
                await asyncio.wait_for(asyncio.shield(opened), self.settings.open_timeout)
            except TimeoutError:
                self._say_it_waits()
            except BaseException:  # likewise; or cancelled
                await self.aclose()
                raise
        return self

    def _start(self) -> bool:
        if self._state != "new":
            raise RuntimeError("A Telemetry is opened once; make another one.")
        self._state = "open"
        for sentence in misspelt():
            _log.warning("%s", sentence)
        if self.recording:
            self._lifecycle = Lifecycle(self.close_at_once, self._pipeline, handle_sigterm=self.settings.handle_sigterm)
            self._health.watch(self)
            self._pipeline.start()
        else:
            _log.warning("OTEL_SDK_DISABLED is set: handlers and jobs run, nothing is recorded.")
        return self.recording

    def _say_it_waits(self) -> None:
        if self._pipeline.writer.episode.last_error is None:  # else the writer has said why
            db, seconds = self.settings.db, self.settings.open_timeout
            _log.warning("%s is not ready after %g s; recording goes on meanwhile.", db, seconds)

    # --- closing ---------------------------------------------------------------------------------------------

    def flush(self, timeout: float = 30.0) -> bool:
        """Wait until everything that has finished is committed. False if that was not so by the deadline."""
        return self._pipeline.flush(timeout)

    async def aflush(self, timeout: float = 30.0) -> bool:
        """:meth:`flush` without blocking the loop."""
        return bool(await off_loop(lambda: self.flush(timeout)))

    def close(self, timeout: float | None = None) -> bool:
        """Wait for running commands, record those that still run as ``ProcessInterrupted``, commit, end the
        session. True if nothing had to be given up. Twice is once. On a loop's own thread use :meth:`aclose`:
        what runs on that loop cannot finish while this waits, so this does not wait for it."""
        timeout = self.settings.shutdown_timeout if timeout is None else timeout
        started = time.monotonic()
        if self._state == "open" and not on_a_loop():
            self._pipeline.processor.wait_idle(timeout * WAITING)
            self.error_hooks.wait(timeout * WAITING - (time.monotonic() - started))
        return self._close(max(timeout + started - time.monotonic(), timeout * (1 - WAITING)))

    async def aclose(self, timeout: float | None = None) -> bool:
        """:meth:`close` while the loop goes on; error hooks may finish, too."""
        timeout = self.settings.shutdown_timeout if timeout is None else timeout
        started = time.monotonic()
        if self._state == "open":
            await off_loop(lambda: self._pipeline.processor.wait_idle(timeout * WAITING))
            await self.error_hooks.finish(max(0.0, timeout * WAITING - (time.monotonic() - started)))
        await self.database.close()  # before the writer: whoever closes last moves the WAL into the file
        return bool(
            await off_loop(lambda: self._close(max(timeout + started - time.monotonic(), timeout * (1 - WAITING))))
        )

    def close_at_once(self) -> bool:
        """What SIGTERM and the interpreter's exit do: nothing that still runs is waited for."""
        return self._close(self.settings.shutdown_timeout, dying=True)

    def _close(self, timeout: float, *, dying: bool = False) -> bool:
        with self._pipeline.closing:
            if self._state == "open" and self.recording:
                self._closed_well = self._pipeline.close(timeout, dying=dying)
                if self._lifecycle is not None:
                    self._lifecycle.end()
            if self._state != "closed":
                self._tracing.detach()
                self._pool.close()
                self.error_hooks.close()
                self._state = "closed"
            return self._closed_well

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(self, *_: object) -> None:
        self.close()

    def health(self) -> Health:
        """Our own health, now: queue, commits, losses, the store."""
        return self._pipeline.health()


def _not_counted(*_: object, **__: object) -> None: ...
