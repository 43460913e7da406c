"""Registrations: natural keys kept unique, sources captured, handles made, rows sent at once.

A number stands for a registration in every record of its session; the same natural key keeps its number
when it is registered again, so that an application that comes and goes does not grow. One whose handle
was cancelled, and is held by nobody any more, gives its number up: jobs that run once, each under a name of
its own, must not grow either.
"""

import inspect
import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Protocol
from weakref import finalize

from whenever import Instant

from handspan.clock import to_epoch, to_ns
from handspan.commands import ErrorHook, Handle, Job, Listener
from handspan.errors import DuplicateRegistrationError, RegistrationError
from handspan.forking import join
from handspan.records import DueBetween, ListenerRegistration, Registration, ScheduledJobRegistration
from handspan.redaction import Redactor
from handspan.serialize import safe_json_serialize
from handspan.source import callable_source, location_of_caller

__all__ = ["Recording", "RegistrationSink", "Registry"]

PACKAGE = __name__.partition(".")[0]

KEPT_NUMBERS: Final = 1_000  # of keys nobody has a handle of: what comes back soon keeps its number

Key = tuple[Any, ...]
Hooks = ErrorHook | tuple[ErrorHook, ...] | None


class RegistrationSink(Protocol):
    """Where registrations go: the writer. Every method returns at once."""

    def register(self, number: int, registration: Registration, due_between: DueBetween | None = None) -> None: ...
    def retire(self, number: int, registration: Registration) -> None: ...
    def release(self, number: int) -> None: ...
    def set_next_run(self, number: int, registration: Registration, next_run: float | None) -> None: ...


class Recording(Protocol):
    """What records the runs of registrations, by their numbers."""

    registrations: dict[int, Registration]

    def sink(self) -> RegistrationSink:
        """Asked for each time: a forked child has another writer."""
        ...

    def forget(self, numbers: list[int]) -> None:
        """No handle has them any more: their registrations go once their last record is stored."""
        ...


class Registry:
    """The live registrations of one ``Telemetry``."""

    def __init__(self, owner: object, recording: Recording, redactor: Redactor) -> None:
        self._owner = owner
        self._sink, self._forget, self._redactor = recording.sink, recording.forget, redactor
        self._registrations = recording.registrations
        self._counter = itertools.count(1)
        self._handles: Counter[int] = Counter()
        self._collected: deque[tuple[Key, int]] = deque()  # filled by the garbage collector: no lock may be taken there
        self._live: dict[Key, Handle] = {}
        self._numbers: dict[Key, int] = {}
        self._mutex = threading.RLock()  # the handler of a signal may register while its thread is in here
        join(self)

    def before_fork(self, until: float) -> bool:  # noqa: ARG002 - the protocol's; nothing to wait for
        return True

    def after_fork_in_parent(self) -> None: ...

    def after_fork_in_child(self, *, clean: bool) -> None:  # noqa: ARG002 - the protocol's; no SQLite here
        """A thread that held the mutex is not there to release it. What it was at counts as the parent's."""
        self._mutex = threading.RLock()

    def register_listener(
        self,
        handler: Callable[..., object],
        *,
        topic: str,
        app_key: str,
        instance_index: int = 0,
        name: str | None = None,
        debounce: float | None = None,
        throttle: float | None = None,
        once: bool = False,
        priority: int = 0,
        predicate_description: str | None = None,
        timeout: float | None = None,
        on_error: Hooks = None,
        invoke: Callable[..., object] | None = None,
        stacklevel: int = 1,
    ) -> Listener:
        """See :meth:`handspan.Telemetry.register_listener`."""
        source = _checked(handler, timeout)
        registration = ListenerRegistration(
            app_key=app_key,
            instance_index=instance_index,
            name=name or source.method,
            topic=topic,
            handler_method=source.method,
            debounce=debounce,
            throttle=throttle,
            once=once,
            priority=priority,
            predicate_description=self._redactor.value(predicate_description),
            **_place(source, stacklevel),
        )
        key = ("listener", app_key, instance_index, registration.name, topic)
        what = f"A listener named {registration.name!r} on topic {topic!r}"
        listener: Listener = self._add(key, what, registration, invoke or handler, Listener, timeout, on_error)
        return listener

    def register_job(
        self,
        call: Callable[..., object],
        *,
        job_name: str | None = None,
        app_key: str,
        instance_index: int = 0,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
        trigger_type: str | None = None,
        trigger_value: str | None = None,
        repeat: bool = True,
        due_between: DueBetween | None = None,
        timeout: float | None = None,
        on_error: Hooks = None,
        stacklevel: int = 1,
    ) -> Job:
        """See :meth:`handspan.Telemetry.register_job`."""
        source = _checked(call, timeout)
        arguments = {"args": tuple(args), "kwargs": MappingProxyType(dict(kwargs or {}))}
        registration = ScheduledJobRegistration(
            app_key=app_key,
            instance_index=instance_index,
            job_name=job_name or source.method,
            handler_method=source.method,
            trigger_type=trigger_type,
            trigger_value=self._redactor.value(trigger_value),
            repeat=repeat,
            args_json=safe_json_serialize(list(args), self._redactor),
            kwargs_json=safe_json_serialize(dict(kwargs or {}), self._redactor),
            **_place(source, stacklevel),
        )
        key = ("job", app_key, instance_index, registration.job_name)
        what = f"A job named {registration.job_name!r}"
        job: Job = self._add(key, what, registration, call, Job, timeout, on_error, due_between, **arguments)
        return job

    def set_next_run(self, job: Job, next_run: Instant | None) -> None:
        at = None if next_run is None else to_epoch(to_ns(next_run))
        self._sink().set_next_run(job.number, job.registration, at)

    def _add(
        self,
        key: Key,
        what: str,
        registration: Any,
        call: Callable[..., object],
        handle_type: type[Any],
        timeout: float | None,
        on_error: Hooks,
        due_between: DueBetween | None = None,
        **arguments: Any,
    ) -> Any:
        with self._mutex:
            self._forget_collected()
            # A signal's handler may come in after any call: no key may get another's number, nor two handles.
            number = self._numbers.setdefault(key, self._numbers.get(key) or next(self._counter))
            handle = handle_type(
                registration,
                call,
                number=number,
                owner=self._owner,
                timeout=timeout,
                on_error=_as_tuple(on_error),
                on_end=lambda ended, retired: self._end(key, ended, retired=retired),
                **arguments,
            )
            if self._live.setdefault(key, handle) is not handle:
                raise DuplicateRegistrationError(f"{what} already exists for this app instance.")
            self._handles[number] += 1
            finalize(handle, self._collected.append, (key, number)).atexit = False
            self._registrations[number] = registration
            self._sink().register(
                number, registration, due_between
            )  # under the mutex: who ended it before comes before
        return handle

    def _end(self, key: Key, handle: Handle, *, retired: bool) -> None:
        with self._mutex:
            if self._live.get(key) is handle:
                del self._live[key]
            if retired:
                self._sink().retire(handle.number, handle.registration)
            else:
                self._sink().release(handle.number)

    def _forget_collected(self) -> None:
        """Nobody has a handle: no run can begin, and those that began have ended, for they held it."""
        free = []
        while len(self._collected) > KEPT_NUMBERS:
            key, number = self._collected.popleft()
            self._handles[number] -= 1
            if self._handles[number] <= 0:
                del self._handles[number], self._numbers[key]
                free.append(number)
        if free:
            self._forget(free)


def _checked(call: Callable[..., object], timeout: float | None) -> Any:
    if not callable(call):
        raise RegistrationError(f"{call!r} is not callable.", hint="Give the function itself, not its result.")
    if inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call):
        raise RegistrationError(
            f"{call!r} is a generator function: calling it runs nothing.", hint="Return, not yield."
        )
    if timeout is not None and not timeout > 0:
        raise RegistrationError(f"A timeout of {timeout!r} s makes no sense.", hint="Give seconds above 0, or None.")
    return callable_source(call)


def _place(source: Any, stacklevel: int) -> dict[str, Any]:
    caller = location_of_caller(PACKAGE, stacklevel)
    return {
        "registered_at": Instant.now(),
        "code_function": source.qualified,
        "code_file": source.file,
        "code_line": source.line,
        "source_location": caller.location if caller else None,
        "source_file": caller.file if caller else None,
        "source_line": caller.line if caller else None,
        "source_span": caller.span if caller else None,
    }


def _as_tuple(hooks: Hooks) -> tuple[ErrorHook, ...]:
    if hooks is None:
        return ()
    return hooks if isinstance(hooks, tuple) else (hooks,)
