"""Dependency injection: what a handler's parameters get, decided once, at registration.

For each parameter of a handler or provider, the first line that fits:

=============================================  ====================================================
``Annotated[T, Depends(p)]``, ``= Depends(p)``  what ``p`` returns (awaited if ``p`` is ``async``)
annotated ``Event``, or named ``event``          the event
has a default                                    its default
no annotation (or ``Any``, ``object``)           the event
anything else                                    :class:`DependencyError`, at each event
=============================================  ====================================================

A provider takes parameters by the same rules, so providers can depend on providers; within one
invocation each is called once and its result shared. They run one after another, in the order the
parameters are written. What a provider raises becomes a :class:`DependencyError` from it.

**Where it runs.** :func:`adapt` returns a plain function for a plain handler whose providers are all
plain: the executor calls it in one of its threads, providers included. For an ``async`` handler it
returns a coroutine function, and plain providers run on the event loop: they should be quick. A plain
handler with an ``async`` provider gets a coroutine function too: the providers run on the loop, then the
handler in a thread of the loop's default pool (:func:`asyncio.to_thread`), its context copied as always.
"""

import asyncio
import inspect
import types
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Any, Final, get_args, get_origin

from handspan.commands import is_async_callable
from handspan.errors import DependencyError, RegistrationError
from handspan.runtime.events import Event

__all__ = ["Dependency", "Depends", "adapt"]

Call = Callable[..., Any]


@dataclass(frozen=True)
class Dependency:
    """What :func:`Depends` returns."""

    provider: Call


def Depends(provider: Callable[..., object]) -> Any:  # noqa: N802 - it stands where a type or a value does
    """``parameter: Annotated[T, Depends(provider)]``, or ``parameter: T = Depends(provider)``."""
    return Dependency(provider)


# --- the plan -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Value:
    """A default that has to be written out, because a positional-only parameter after it is supplied."""

    value: object


@dataclass(frozen=True)
class _Missing:
    """A parameter nothing supplies."""

    message: str


_EVENT: Final = object()
_Source = Any  # _EVENT, a _Value, a _Missing or the _Node of a provider


@dataclass(frozen=True, eq=False)
class _Node:
    """A handler or provider, and where each of its parameters comes from."""

    call: Call
    name: str
    is_async: bool
    positional: tuple[tuple[str, _Source], ...]
    keyword: tuple[tuple[str, _Source], ...]

    def sources(self) -> tuple[tuple[str, _Source], ...]:
        return self.positional + self.keyword

    def providers(self) -> Iterator["_Node"]:
        """At any depth."""
        for _, source in self.sources():
            if isinstance(source, _Node):
                yield source
                yield from source.providers()

    def missing(self) -> str | None:
        for node in (self, *self.providers()):
            for _, source in node.sources():
                if isinstance(source, _Missing):
                    return source.message
        return None


def adapt(handler: Call) -> Call | None:
    """What to call with the event instead of ``handler``; ``None``: the handler itself will do.

    Raises :class:`RegistrationError` for what can never work: providers that depend on each other in a
    circle, and providers with ``yield``.
    """
    plan = _plan(handler, [], {})
    missing = plan.missing()
    if missing is not None:
        return _refusal(missing)
    if [source for _, source in plan.positional] == [_EVENT] and not plan.keyword:
        return None
    if plan.is_async:
        return _async_adapter(plan)
    return _threaded_adapter(plan) if any(node.is_async for node in plan.providers()) else _sync_adapter(plan)


def _plan(call: Call, path: list[Call], known: dict[Any, _Node]) -> _Node:
    if call in path:
        circle = " -> ".join(_name(each) for each in [*path[path.index(call) :], call])
        raise RegistrationError(f"These providers depend on each other in a circle: {circle}.")
    if path and (inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)):
        raise RegistrationError(
            f"The provider {_name(call)} has a yield.", hint="Providers return a value; nothing runs after the handler."
        )
    positional: list[tuple[str, _Source]] = []
    keyword: list[tuple[str, _Source]] = []
    for place, parameter in enumerate(_signature(call).parameters.values()):
        if parameter.kind is parameter.VAR_KEYWORD or parameter.name in _bound(call):
            continue
        if parameter.kind is parameter.VAR_POSITIONAL:
            if place == 0:  # an undecorated wrapper: (*args, **kwargs)
                positional.append((parameter.name, _EVENT))
            continue
        source = _source(call, parameter, [*path, call], known)
        if source is None:
            continue
        by_position = parameter.kind is not parameter.KEYWORD_ONLY and place == len(positional)
        (positional if by_position else keyword).append((parameter.name, source))
    # A class is called, not its instances' __call__, which may well be async.
    is_async = not inspect.isclass(call) and is_async_callable(call)
    return _Node(call, _name(call), is_async, tuple(positional), tuple(keyword))


def _source(call: Call, parameter: inspect.Parameter, path: list[Call], known: dict[Any, _Node]) -> _Source:
    """Where a parameter's value comes from; ``None``: it keeps its default."""
    annotation = _evaluated(call, parameter)
    dependency = _dependency(parameter.default, annotation)
    if dependency is not None:
        key = _key(dependency.provider)
        if key not in known:
            known[key] = _plan(dependency.provider, path, known)
        return known[key]
    if _is_event(annotation) or parameter.name == "event":
        return _EVENT
    if parameter.default is not parameter.empty:
        return _Value(parameter.default) if parameter.kind is parameter.POSITIONAL_ONLY else None
    if annotation in (parameter.empty, Any, object):
        return _EVENT
    return _Missing(
        f"Parameter {parameter.name!r} of {_name(call)} could not be supplied: nothing provides "
        f"{_spelled(annotation)}. Annotate it with Event, or give it a default or Depends(provider)."
    )


def _dependency(default: object, annotation: Any) -> Dependency | None:
    if get_origin(annotation) is Annotated:
        for extra in get_args(annotation)[1:]:
            if isinstance(extra, Dependency):
                return extra
    return default if isinstance(default, Dependency) else None


def _is_event(annotation: Any) -> bool:
    """``Event``, ``Event | None``, ``Annotated[Event, ...]``; as text too, when it could not be evaluated."""
    if isinstance(annotation, str):
        return annotation.split("|")[0].strip().rpartition(".")[2] == "Event"
    if get_origin(annotation) is Annotated:
        return _is_event(get_args(annotation)[0])
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return any(_is_event(member) for member in get_args(annotation))
    return isinstance(annotation, type) and issubclass(annotation, Event)


# --- reading a callable -----------------------------------------------------------------------------------


def _signature(call: Call) -> inspect.Signature:
    try:
        return inspect.signature(call)
    except (ValueError, TypeError):  # some callables written in C have none: one argument, then
        event = inspect.Parameter("event", inspect.Parameter.POSITIONAL_ONLY)
        return inspect.Signature([event])


def _evaluated(call: Call, parameter: inspect.Parameter) -> Any:
    """The annotation as an object; as the text it is, if a name in it exists only for type checkers."""
    if not isinstance(parameter.annotation, str):
        return parameter.annotation
    alone = types.SimpleNamespace(__annotations__={parameter.name: parameter.annotation})
    try:
        return typing.get_type_hints(alone, _globals(call), include_extras=True)[parameter.name]
    except Exception:  # noqa: BLE001 - evaluating somebody's annotation may raise anything
        return parameter.annotation


def _globals(call: Call) -> dict[str, Any]:
    call = _function(call)
    if inspect.isclass(call):
        call = call.__init__
    elif not hasattr(call, "__globals__") and not inspect.ismethod(call):
        call = type(call).__call__
    found: dict[str, Any] = getattr(inspect.unwrap(call), "__globals__", {})
    return found


def _function(call: Call) -> Call:
    while isinstance(call, partial):
        call = call.func
    return call


def _bound(call: Call) -> frozenset[str]:
    """Keywords a ``functools.partial`` has already given."""
    found: frozenset[str] = frozenset()
    while isinstance(call, partial):
        found |= call.keywords.keys()
        call = call.func
    return found


def _key(provider: Call) -> Any:
    """Equal for one provider wherever it is named; bound methods are new objects each time."""
    try:
        hash(provider)
    except TypeError:
        return id(provider)
    return provider


def _name(call: Call) -> str:
    call = _function(call)
    return getattr(call, "__qualname__", type(call).__qualname__).rpartition("<locals>.")[2]


def _spelled(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


# --- the adapters -----------------------------------------------------------------------------------------

_Results = dict[_Node, Any]  # one invocation's


def _refusal(message: str) -> Call:
    async def invoke(_event: object) -> None:  # async, so that no thread is taken for it
        raise DependencyError(message)

    return invoke


def _sync_adapter(plan: _Node) -> Call:
    def invoke(event: object) -> Any:
        positional, keyword = _supply(plan, event, {})
        return plan.call(*positional, **keyword)

    return invoke


def _async_adapter(plan: _Node) -> Call:
    async def invoke(event: object) -> Any:
        positional, keyword = await _supply_async(plan, event, {})
        return await plan.call(*positional, **keyword)

    return invoke


def _threaded_adapter(plan: _Node) -> Call:
    async def invoke(event: object) -> Any:
        positional, keyword = await _supply_async(plan, event, {})
        value = await asyncio.to_thread(plan.call, *positional, **keyword)
        return await value if inspect.isawaitable(value) else value

    return invoke


def _supply(node: _Node, event: object, results: _Results) -> tuple[list[Any], dict[str, Any]]:
    for name, source in node.sources():
        if isinstance(source, _Node) and source not in results:
            positional, keyword = _supply(source, event, results)
            try:
                value = source.call(*positional, **keyword)
            except DependencyError:
                raise
            except Exception as error:
                raise _failure(node, name, source, error) from error
            if inspect.iscoroutine(value):
                value.close()
                raise DependencyError(_unawaited(node, name, source))
            results[source] = value
    return _arguments(node, event, results)


async def _supply_async(node: _Node, event: object, results: _Results) -> tuple[list[Any], dict[str, Any]]:
    for name, source in node.sources():
        if isinstance(source, _Node) and source not in results:
            positional, keyword = await _supply_async(source, event, results)
            try:
                value = source.call(*positional, **keyword)
                results[source] = await value if inspect.isawaitable(value) else value
            except DependencyError:
                raise
            except Exception as error:
                raise _failure(node, name, source, error) from error
    return _arguments(node, event, results)


def _arguments(node: _Node, event: object, results: _Results) -> tuple[list[Any], dict[str, Any]]:
    positional = [_argument(source, event, results) for _, source in node.positional]
    return positional, {name: _argument(source, event, results) for name, source in node.keyword}


def _argument(source: _Source, event: object, results: _Results) -> Any:
    if source is _EVENT:
        return event
    if isinstance(source, _Value):
        return source.value
    return results[source]


def _failure(node: _Node, parameter: str, provider: _Node, error: Exception) -> DependencyError:
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - somebody else's __str__
        said = ""
    cause = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return DependencyError(
        f"Parameter {parameter!r} of {node.name} could not be supplied: {provider.name} raised {cause}"
    )


def _unawaited(node: _Node, parameter: str, provider: _Node) -> str:
    return (
        f"Parameter {parameter!r} of {node.name} could not be supplied: {provider.name} returned a coroutine. "
        "Make the provider itself async."
    )
