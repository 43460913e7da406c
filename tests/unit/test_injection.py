"""Dependency injection: what each parameter gets, where things run, and what is refused."""

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any
from unittest.mock import AsyncMock, Mock

import pytest
from whenever import Instant

from handspan.errors import DependencyError, RegistrationError
from handspan.runtime import Depends, Event
from handspan.runtime.injection import adapt

if TYPE_CHECKING:
    from decimal import Decimal

EVENT = Event("light.kitchen", {"on": True}, Instant.now())


def call(handler: Callable[..., Any]) -> Any:
    """As the executor does, but without a thread."""
    outcome = (adapt(handler) or handler)(EVENT)
    return asyncio.run(outcome) if inspect.iscoroutine(outcome) else outcome


def topic_of(event: Event) -> str:
    return event.topic


async def answer() -> int:
    return 42


Answer = Annotated[int, Depends(answer)]
Topic = Annotated[str, Depends(topic_of)]


class Methods:
    def takes_event(self, event: Event) -> Any:
        return event

    async def takes_topic(self, topic: Topic) -> str:
        return topic

    def __call__(self, topic: Topic) -> str:
        return topic


# --- what a parameter gets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "handler",
    [
        pytest.param(lambda event: event, id="named event"),
        pytest.param(lambda e: e, id="untyped"),
        pytest.param(lambda e, /: e, id="positional only"),
        pytest.param(lambda *, e: e, id="keyword only"),
        pytest.param(lambda *args: args[0], id="star args"),
        pytest.param(lambda *args, **kwargs: args[0], id="undecorated wrapper"),
        pytest.param(lambda e, other=None: e, id="beside a default"),
        pytest.param(lambda other=None, event=None: event, id="named event with a default"),
        pytest.param(functools.partial(lambda a, e: e, 1), id="partial"),
        pytest.param(functools.partial(lambda e, a: e, a=1), id="partial with a keyword"),
        pytest.param(Methods().takes_event, id="bound method"),
    ],
)
def test_the_event_is_given(handler: Callable[..., Any]) -> None:
    """A handler gets the event whichever way it spells the parameter for it."""
    assert call(handler) is EVENT


def test_an_annotated_event_is_given() -> None:
    """The annotation decides, whatever the name, also inside a union."""

    def annotated(thing: Event) -> Any:
        return thing

    def optional(thing: Event | None = None) -> Any:
        return thing

    def anything(thing: Any) -> Any:
        return thing

    def quoted(thing: "Event") -> Any:
        return thing

    assert [call(each) for each in (annotated, optional, anything, quoted)] == [EVENT] * 4


def test_no_parameters_at_all() -> None:
    """A handler that wants nothing gets nothing."""
    assert call(lambda: "called") == "called"


def test_the_handler_itself_is_called_when_it_only_takes_the_event() -> None:
    """The plain case costs no adapter."""
    assert adapt(topic_of) is None
    assert adapt(Methods().takes_event) is None
    assert adapt(AsyncMock()) is None
    assert adapt(Mock()) is None
    assert adapt([].append) is None


@pytest.mark.parametrize("handler", [Methods().takes_topic, Methods()], ids=["method", "callable object"])
def test_methods_and_objects_have_dependencies_too(handler: Callable[..., Any]) -> None:
    """What is callable is read by its signature."""
    assert call(handler) == "light.kitchen"


def test_depends_as_a_default_and_as_an_annotation() -> None:
    """Both spellings, sync and async providers, beside the event and untouched defaults."""

    async def handler(event: Event, topic: Topic, number: int = Depends(answer), rest: str = "kept") -> Any:
        return event, topic, number, rest

    assert call(handler) == (EVENT, "light.kitchen", 42, "kept")


def test_a_quoted_annotation_is_evaluated() -> None:
    """As every annotation is under ``from __future__ import annotations``."""

    async def handler(topic: "Topic", number: "Answer") -> Any:
        return topic, number

    assert call(handler) == ("light.kitchen", 42)


def test_a_name_that_exists_only_for_type_checkers_does_no_harm() -> None:
    """Where nothing else is known, the text of an annotation has to do."""

    def handler(event: "Event", price: "Decimal | None" = None) -> Any:
        return event, price

    assert call(handler) == (EVENT, None)


def test_what_a_partial_has_given_stays() -> None:
    """A value bound by functools.partial is nearer than a provider."""

    def handler(topic: Topic) -> str:
        return topic

    assert call(functools.partial(handler, topic="mine")) == "mine"


def test_a_class_is_a_provider() -> None:
    """Its instances having an async __call__ does not make the class a coroutine function."""

    class Client:
        def __init__(self, topic: Topic) -> None:
            self.topic = topic

        async def __call__(self) -> None: ...

    def handler(client: Annotated[Client, Depends(Client)]) -> str:
        return client.topic

    assert call(handler) == "light.kitchen"
    assert not inspect.iscoroutinefunction(adapt(handler))


def test_a_provider_is_called_once_for_an_invocation() -> None:
    """Shared by all who depend on it, at any depth, and called again for the next event."""
    calls: list[int] = []

    def base() -> int:
        calls.append(1)
        return len(calls)

    def doubled(value: int = Depends(base)) -> int:
        return 2 * value

    def handler(a: int = Depends(base), b: int = Depends(doubled), c: int = Depends(base)) -> tuple[int, int, int]:
        return a, b, c

    invoke = adapt(handler)
    assert invoke is not None
    assert (invoke(EVENT), invoke(EVENT)) == ((1, 2, 1), (2, 4, 2))


def test_a_bound_method_is_one_provider_however_often_it_is_named() -> None:
    """Each access makes a new method object; they are equal."""

    class House:
        calls = 0

        def state(self) -> int:
            self.calls += 1
            return self.calls

    house = House()

    def handler(a: int = Depends(house.state), b: int = Depends(house.state)) -> tuple[int, int]:
        return a, b

    assert call(handler) == (1, 1)


# --- where things run -----------------------------------------------------------------------------------------


def test_a_plain_handler_with_plain_providers_stays_plain() -> None:
    """So that the executor runs it in a thread, providers included."""

    def handler(topic: Topic) -> str:
        return topic

    invoke = adapt(handler)
    assert invoke is not None
    assert not inspect.iscoroutinefunction(invoke)
    assert invoke(EVENT) == "light.kitchen"


async def test_a_plain_handler_with_an_async_provider_runs_in_a_thread() -> None:
    """The provider on the loop, the handler off it."""

    def handler(number: Answer) -> tuple[int, bool]:
        return number, threading.current_thread() is threading.main_thread()

    invoke = adapt(handler)
    assert invoke is not None
    assert await invoke(EVENT) == (42, False)


# --- failures -------------------------------------------------------------------------------------------------


def broken() -> int:
    raise LookupError("no database")


async def broken_later() -> int:
    raise LookupError("no database")


@pytest.mark.parametrize("provider", [broken, broken_later])
def test_a_provider_that_raises(provider: Callable[..., Any]) -> None:
    """A DependencyError that names parameter, handler and provider, from the provider's own error."""

    def on_light(db: int = Depends(provider)) -> None:
        raise AssertionError("never called")

    with pytest.raises(
        DependencyError, match=rf"'db' of .*on_light .*{provider.__name__} raised LookupError"
    ) as caught:
        call(on_light)
    assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.parametrize("handler_type", ["plain", "async"])
def test_a_dependency_error_of_a_provider_is_passed_on(handler_type: str) -> None:
    """It says already what it is."""
    refusal = DependencyError("The house is asleep.")

    def awake() -> int:
        raise refusal

    def plain(value: int = Depends(awake)) -> None: ...
    async def later(value: int = Depends(awake)) -> None: ...

    with pytest.raises(DependencyError) as caught:
        call(plain if handler_type == "plain" else later)
    assert caught.value is refusal


def test_a_failure_deep_down_names_the_place_it_happened() -> None:
    """The middle provider is not blamed for what its own provider did."""

    def middle(db: int = Depends(broken)) -> int:
        return db

    def handler(value: int = Depends(middle)) -> None: ...

    with pytest.raises(DependencyError, match=r"'db' of middle .*broken raised"):
        call(handler)


def test_a_cancelled_provider_is_cancelled() -> None:
    """Cancellation is no failure of a dependency."""

    async def waits() -> int:
        raise asyncio.CancelledError

    async def handler(value: int = Depends(waits)) -> int:
        return value

    with pytest.raises(asyncio.CancelledError):
        call(handler)


def test_a_parameter_nothing_supplies() -> None:
    """Said at each event, so that it is recorded; no provider runs in vain."""
    ran: list[int] = []

    def handler(value: Annotated[None, Depends(lambda: ran.append(1))], count: int) -> None:
        raise AssertionError("never called")

    with pytest.raises(DependencyError, match=r"'count' of handler could not be supplied: nothing provides int"):
        call(handler)
    assert ran == []


def test_an_annotation_that_cannot_be_read_is_named() -> None:
    """The text is what the author will look for."""

    def handler(price: "Decimal") -> None: ...

    with pytest.raises(DependencyError, match="nothing provides Decimal"):
        call(handler)


def test_a_plain_provider_that_returns_a_coroutine() -> None:
    """Awaited where there is a loop to await it on; refused, not leaked, where there is none."""

    def sneaky() -> Any:
        return answer()

    async def on_loop(value: int = Depends(sneaky)) -> int:
        return value

    def in_thread(value: int = Depends(sneaky)) -> None: ...

    assert call(on_loop) == 42
    with pytest.raises(DependencyError, match="Make the provider itself async"):
        call(in_thread)


def test_a_circle_is_refused_at_registration() -> None:
    """With its way round, because it can be long."""

    def handler(value: int = Depends(egg)) -> None: ...

    with pytest.raises(RegistrationError, match="circle: egg -> hen -> egg"):
        adapt(handler)


def egg(hen: "Annotated[int, Depends(hen)]") -> int:
    return hen


def hen(egg: "Annotated[int, Depends(egg)]") -> int:
    return egg


def test_a_provider_with_yield_is_refused_at_registration() -> None:
    """Whoever writes one expects code after the yield to run."""

    def session() -> Any:
        yield 1

    def handler(value: int = Depends(session)) -> None: ...

    with pytest.raises(RegistrationError, match="session has a yield"):
        adapt(handler)
