"""The bus: who hears an event, in which order, and when.

``publish`` decides at once, on the event loop's thread, who gets the event (topic, then predicates, then
the gate) and starts one task per handler, in order of priority. A task builds a command and awaits the
host; what a run means (span, outcome, record, error hooks) is the host's. Everything outstanding is in
one set, so that :meth:`Bus.drain` knows when an event and all it caused are done.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Final, Self, TypedDict

from whenever import Instant

from handspan.clock import instant_from_ns
from handspan.commands import InvokeHandler, Listener, is_async_callable
from handspan.errors import DuplicateRegistrationError, HandspanError, RegistrationError
from handspan.runtime.events import Event, publisher
from handspan.runtime.gates import Gate, make_gate
from handspan.runtime.host import ErrorHooks, Host, LoopTimers, Timers
from handspan.runtime.injection import adapt
from handspan.runtime.topics import TopicIndex, compile_topic

__all__ = ["Bus", "ListenOptions", "Predicate", "Subscription"]

log = logging.getLogger(__name__)

Predicate = Callable[[Event], object]
"""True: the handler gets the event. Plain and quick: it runs inside ``publish``."""

CANCEL_GRACE: Final = 1.0
"""Seconds ``close()`` waits for cancelled handlers to end before it leaves them behind and says so."""


class ListenOptions(TypedDict, total=False):
    """What ``on`` takes besides topic and handler; each is optional."""

    name: str | None
    """Default: the handler's method name. Two listeners of one app for one topic need two names."""
    where: Predicate | Iterable[Predicate] | None
    """All of them must hold. One that raises counts as not holding, and is logged once."""
    debounce: float | None
    """Seconds: only the last event of a burst, once it has been quiet that long."""
    throttle: float | None
    """Seconds: the first event passes, then none for that long."""
    once: bool
    """The first event that gets this far is the only one; afterwards the name is free again."""
    priority: int
    """Higher starts first; equal ones in the order they were registered."""
    timeout: float | None
    """Seconds a run may take."""
    on_error: ErrorHooks
    """Called with a report of each failed run."""
    stacklevel: int
    """1: the registration is where ``on`` was called; 2: where the caller of that was called."""


class Subscription:
    """A listener on the bus. ``cancel()`` ends it."""

    def __init__(
        self,
        listener: Listener,
        handler: Callable[..., object],
        predicates: tuple[Predicate, ...],
        gate: Gate[Event],
        on_cancel: Callable[["Subscription"], None],
    ) -> None:
        self.listener = listener
        self.handler = handler
        self.topic = listener.registration.topic
        self.priority = listener.registration.priority
        self.once = listener.registration.once
        self.predicates = predicates
        self.gate = gate
        self.spent = False
        """It was ``once``, and that was it."""
        self.complained = False
        self._on_cancel = on_cancel

    @property
    def cancelled(self) -> bool:
        return self.listener.cancelled

    @property
    def open(self) -> bool:
        """It takes events."""
        return not self.spent and not self.listener.cancelled

    def cancel(self) -> None:
        """No more events, not even one a debounce holds back; its name is free. A run in progress goes on.

        From any thread, any number of times.
        """
        self._on_cancel(self)

    def __repr__(self) -> str:
        return f"<Subscription {self.listener.app_key}.{self.listener.name} on {self.topic!r}>"


class Bus:
    """One per process, shared by its apps.

    It belongs to the event loop it is first used on. ``on``, ``publish`` and ``cancel`` may be called from
    any thread after that, so handlers that are plain functions can use them.
    """

    def __init__(self, host: Host, *, timers: Timers | None = None) -> None:
        self.host = host
        self._timers: Timers = timers or LoopTimers()
        self._index: TopicIndex[Subscription] = TopicIndex()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._outstanding: set[object] = set()
        """Tasks, gates that hold an event back, and events on their way from another thread."""
        self._idle = asyncio.Event()
        self._closed = False

    # --- registering ------------------------------------------------------------------------------------

    def on(
        self,
        topic: str,
        handler: Callable[..., object],
        *,
        app_key: str,
        instance_index: int = 0,
        name: str | None = None,
        where: Predicate | Iterable[Predicate] | None = None,
        debounce: float | None = None,
        throttle: float | None = None,
        once: bool = False,
        priority: int = 0,
        timeout: float | None = None,
        on_error: ErrorHooks = None,
        stacklevel: int = 1,
    ) -> Subscription:
        """Call ``handler`` for each event of ``topic`` (a name or a glob, see :mod:`handspan.runtime.topics`).

        Options: :class:`ListenOptions`. Parameters of the handler: :mod:`handspan.runtime.injection`.
        ``stacklevel``: 1 is the nearest caller outside handspan, 2 the caller of that, for a helper of yours.
        Raises :class:`RegistrationError`, before anything is registered, if it makes no sense, and
        :class:`DuplicateRegistrationError` if the app already has a listener of this name on this topic.
        """
        self._adopt_loop()
        compile_topic(topic)
        predicates = _predicates(where)
        invoke = adapt(handler)
        gate: Gate[Event] = make_gate(
            debounce,
            throttle,
            self._timers,
            lambda event: self._release(subscription, event),
            lambda: self.host.skipped(listener, "throttle" if debounce is None else "debounce"),
        )
        register = partial(
            self.host.register_listener,
            handler,
            topic=topic,
            app_key=app_key,
            instance_index=instance_index,
            name=name,
            debounce=debounce,
            throttle=throttle,
            once=once,
            priority=priority,
            predicate_description=" and ".join(map(_described, predicates)) or None,
            timeout=timeout,
            on_error=on_error,
            invoke=invoke,
            stacklevel=stacklevel,
        )
        try:
            listener = register()
        except DuplicateRegistrationError:
            if not self._release_name(topic, handler, app_key, instance_index, name):
                raise
            listener = register()
        subscription = Subscription(listener, handler, predicates, gate, self._cancel)
        self._index.add(subscription)
        return subscription

    def _release_name(
        self, topic: str, handler: Callable[..., object], app_key: str, instance_index: int, name: str | None
    ) -> bool:
        """A ``once`` handler that registers itself again: its only run has begun, so it gives its name up now."""
        for other in self._index.entries():
            r = other.listener.registration
            same = other.handler == handler if name is None else r.name == name
            if other.spent and same and (r.topic, r.app_key, r.instance_index) == (topic, app_key, instance_index):
                other.cancel()
                return True
        return False

    def cancel_app(self, app_key: str, instance_index: int) -> None:
        """Every subscription of one app instance."""
        for subscription in self._index.entries():
            registration = subscription.listener.registration
            if (registration.app_key, registration.instance_index) == (app_key, instance_index):
                subscription.listener.release()  # the app stops, which retires nothing
                subscription.cancel()

    def _cancel(self, subscription: Subscription) -> None:
        self._index.remove(subscription)
        subscription.listener.cancel()
        if subscription.gate.waiting and self._loop is not None and not self._loop.is_closed():
            self._on_loop(self._drop_waiting, subscription)

    def _drop_waiting(self, subscription: Subscription) -> None:
        subscription.gate.cancel()
        self._done(subscription.gate)

    # --- publishing -------------------------------------------------------------------------------------

    def publish(self, topic: str, data: Any = None, *, at: Instant | None = None) -> None:
        """Hand an event to everyone who listens to ``topic`` now. Returns before any of them runs.

        ``at``: when it happened, if that was earlier; the time until a handler starts counts from there.
        """
        if self._closed:
            log.debug("The bus is closed; an event of %r was not handed out.", topic)
            return
        event = Event(topic, data, at or instant_from_ns(self._timers.wall_ns()), publisher())
        self._on_loop(self._route, event)

    def _route(self, event: Event) -> None:
        for subscription in self._index.match(event.topic):
            if not subscription.open:
                self._came_late(subscription)
            elif subscription.predicates and not _holds(subscription, event):
                self.host.skipped(subscription.listener, "predicate")
            else:
                subscription.gate.offer(event)
                if subscription.gate.waiting:
                    self._outstanding.add(subscription.gate)

    def _came_late(self, subscription: Subscription) -> None:
        """Its only run has begun. (A cancelled one is nobody's any more.)"""
        if not subscription.cancelled:
            self.host.skipped(subscription.listener, "once")

    def _release(self, subscription: Subscription, event: Event) -> None:
        """The gate let it through."""
        if subscription.open and not self._closed:
            subscription.spent = subscription.once
            task = asyncio.get_running_loop().create_task(self._dispatch(subscription, event))
            self._outstanding.add(task)
            task.add_done_callback(self._task_done)
        elif not self._closed:
            self._came_late(subscription)
        self._done(subscription.gate)

    async def _dispatch(self, subscription: Subscription, event: Event) -> None:
        if not subscription.cancelled:
            command = InvokeHandler(subscription.listener, event, event.published_by, event.published_at)
            try:
                await self.host.execute(command)
            finally:
                if subscription.once:
                    subscription.cancel()

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._done(task)
        if not task.cancelled() and (error := task.exception()) is not None and isinstance(error, Exception):
            log.error("A command raised out of its host.", exc_info=error)

    def _done(self, what: object) -> None:
        self._outstanding.discard(what)
        if len(self._outstanding) <= 1:  # a handler that closes the bus is outstanding itself
            self._idle.set()

    # --- the end ----------------------------------------------------------------------------------------

    async def drain(self) -> None:
        """Wait until everything published, and everything published because of it, has been handled.

        An event that a debounce holds back counts: it is waited for.
        """
        self._adopt_loop()
        if asyncio.current_task() in self._outstanding:
            raise HandspanError("A handler cannot wait until all handlers are done: it would wait for itself.")
        await self._drained()

    async def close(self, timeout: float | None = 5.0) -> None:
        """Drain for at most ``timeout`` seconds (``None``: however long), then cancel what remains.

        What is published afterwards is dropped. Registrations stay: they are their owners' to cancel. A
        handler may call it: everything but that handler is waited for.
        """
        self._adopt_loop()
        try:
            async with asyncio.timeout(timeout):
                await self._drained()
        except TimeoutError:
            log.info("The bus closes with %d deliveries outstanding; they are cancelled.", len(self._outstanding))
        finally:
            self._closed = True
            await self._abandon()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def _drained(self) -> None:
        own = {asyncio.current_task()}
        while self._outstanding - own:
            self._idle.clear()
            await self._idle.wait()

    async def _abandon(self) -> None:
        for subscription in self._index.entries():
            self._drop_waiting(subscription)
        own = asyncio.current_task()
        tasks = [task for task in self._outstanding if isinstance(task, asyncio.Task) and task is not own]
        for task in tasks:
            task.cancel()
        if tasks:
            _, left = await asyncio.wait(tasks, timeout=CANCEL_GRACE)
            if left:
                log.warning("%d handlers ignored their cancellation; the bus closed without them.", len(left))

    # --- the loop ---------------------------------------------------------------------------------------

    def _adopt_loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop of this thread, which becomes the bus's if it has none that lives."""
        try:
            running = asyncio.get_running_loop()
        except RuntimeError:
            return None
        if self._loop is None or self._loop.is_closed():
            self._loop = running
            self._idle = asyncio.Event()  # it binds itself to a loop, too
            self._outstanding.clear()  # of a loop that is gone: it will never end
        return running

    def _on_loop(self, call: Callable[[Any], None], argument: object) -> None:
        """Now, on the bus's thread; as soon as possible, from any other."""
        running = self._adopt_loop()
        if self._loop is None or self._loop.is_closed():
            raise HandspanError("The bus has no event loop.", hint="Use it first where the event loop runs.")
        if running is self._loop:
            call(argument)
        else:
            arriving = object()
            self._outstanding.add(arriving)
            self._loop.call_soon_threadsafe(self._arrived, arriving, call, argument)

    def _arrived(self, arriving: object, call: Callable[[Any], None], argument: object) -> None:
        try:
            call(argument)
        finally:
            self._done(arriving)


def _holds(subscription: Subscription, event: Event) -> bool:
    try:
        return all(predicate(event) for predicate in subscription.predicates)
    except (Exception, asyncio.CancelledError):
        if not subscription.complained:
            subscription.complained = True
            log.warning(
                "A predicate of %r raised; that counts as no match. Further failures of it are not logged.",
                subscription,
                exc_info=True,
            )
        return False


def _predicates(where: Predicate | Iterable[Predicate] | None) -> tuple[Predicate, ...]:
    found = () if where is None else (where,) if callable(where) else tuple(where)
    for predicate in found:
        if not callable(predicate) or is_async_callable(predicate):
            raise RegistrationError(
                f"{_described(predicate)} is no predicate.", hint="Give a plain function of the event, or several."
            )
    return found


def _described(predicate: object) -> str:
    """Its name, or its repr if it has one of its own: never an address, which would differ at each start."""
    name = getattr(predicate, "__name__", None)
    if isinstance(name, str):
        return name
    kind = type(predicate)
    if kind.__repr__ is not object.__repr__:
        try:
            return repr(predicate)
        except Exception:  # somebody else's __repr__
            log.debug("A predicate's repr raised.", exc_info=True)
    return kind.__name__
