"""A decorator for anything that calls functions: the function runs as a command, its caller sees no difference.

``execute()`` swallows a handler's exception, as a dispatcher should. A decorated function is called by
somebody else's dispatcher, whose retries and error pages depend on it: here the exception goes on.
"""

import functools
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from handspan.commands import Command, ExecuteJob, InvokeHandler, Job, Listener, is_async_callable
from handspan.outcome import ExecutionResult

__all__ = ["Decorators"]

F = TypeVar("F", bound=Callable[..., Any])


class Host(Protocol):
    """What a decorated function needs of a ``Telemetry``."""

    @property
    def execute(self) -> Callable[[Command], Awaitable[ExecutionResult]]: ...
    @property
    def register_listener(self) -> Callable[..., Listener]: ...
    @property
    def register_job(self) -> Callable[..., Job]: ...


class Decorators:
    """``@telemetry.handler(topic)`` and ``@telemetry.job()``."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def handler(
        self, topic: str, *, app_key: str | None = None, **options: Any
    ) -> Callable[[F], Callable[..., Awaitable[Any]]]:
        """Each call is an invocation. ``app_key``: by default the function's module."""

        def decorate(function: F) -> Callable[..., Awaitable[Any]]:
            listener = self._host.register_listener(
                function, topic=topic, app_key=app_key or function.__module__, invoke=_spread(function), **options
            )

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                return _value_or_raise(await self._host.execute(InvokeHandler(listener, (args, kwargs))))

            return wrapper

        return decorate

    def job(self, *, app_key: str | None = None, **options: Any) -> Callable[[F], Callable[..., Awaitable[Any]]]:
        """Each call is an execution. ``app_key``: by default the function's module."""

        def decorate(function: F) -> Callable[..., Awaitable[Any]]:
            job = self._host.register_job(function, app_key=app_key or function.__module__, **options)

            @functools.wraps(function)
            async def wrapper(*args: Any, **kwargs: Any) -> Any:
                return _value_or_raise(await self._host.execute(ExecuteJob(job, args=args, kwargs=kwargs)))

            return wrapper

        return decorate


def _spread(function: Callable[..., Any]) -> Callable[[Any], Any]:
    """A handler is called with one event; a decorated function with whatever its caller gave."""

    @functools.wraps(function)
    def call(event: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        return function(*event[0], **event[1])

    if not is_async_callable(function):
        return call

    @functools.wraps(function)
    async def call_async(event: tuple[tuple[Any, ...], dict[str, Any]]) -> Any:
        return await function(*event[0], **event[1])

    return call_async


def _value_or_raise(result: ExecutionResult) -> Any:
    if result.error is not None:
        raise result.error
    return result.value
