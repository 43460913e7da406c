"""The bus on a real Telemetry: routing, order, gates, cascades, apps, the end. Time is stepped, never slept."""

import asyncio
import heapq
import itertools
import logging
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whenever import Instant

from handspan.clock import SystemClock
from handspan.errors import DuplicateRegistrationError, HandspanError, RegistrationError
from handspan.runtime import App, Bus, Depends, Event, Host
from handspan.runtime.gates import Debounce, Throttle
from handspan.telemetry import Telemetry


class FakeTimer:
    def __init__(self, due: float, callback: Callable[[], object]) -> None:
        self.due, self.callback, self.cancelled = due, callback, False

    def cancel(self) -> None:
        self.cancelled = True


class FakeTimers:
    """A clock that stands still until it is told; ``deaf``: timers that do not hear ``cancel()``."""

    wall_ns = staticmethod(SystemClock.wall_ns)

    def __init__(self, *, deaf: bool = False) -> None:
        self.now = 0.0
        self._deaf = deaf
        self._count = itertools.count()
        self._heap: list[tuple[float, int, FakeTimer]] = []

    def monotonic(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> FakeTimer:
        timer = FakeTimer(self.now + delay, callback)
        heapq.heappush(self._heap, (timer.due, next(self._count), timer))
        return timer

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self._heap and self._heap[0][0] <= until:
            self.now, _, timer = heapq.heappop(self._heap)
            if self._deaf or not timer.cancelled:
                timer.callback()
        self.now = until


class House:
    """A Telemetry, a bus whose time is stepped, and a look into the file."""

    def __init__(self, telemetry: Telemetry, path: Path) -> None:
        self.telemetry, self.path = telemetry, path
        self.timers = FakeTimers()
        host: Host = telemetry  # the protocol and the real thing agree
        self.bus = Bus(host, timers=self.timers)
        self.on = partial(self.bus.on, app_key="house.Test")

    async def rows(self, query: str) -> list[dict[str, Any]]:
        assert await self.telemetry.aflush()
        with closing(sqlite3.connect(self.path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    async def runs(self) -> list[dict[str, Any]]:
        return await self.rows(
            "SELECT i.*, l.name FROM handler_invocations i JOIN listeners l ON l.id = i.listener_id ORDER BY i.id"
        )


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    path = tmp_path / "house.db"
    async with Telemetry(path, set_global_providers=False, handle_sigterm=False) as telemetry:
        yield House(telemetry, path)


@pytest.fixture(autouse=True)
async def nothing_reaches_the_loop() -> AsyncIterator[None]:
    """No exception of any test ends in the event loop's exception handler."""
    reached: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reached.append(context))
    yield
    assert reached == []


# --- routing ------------------------------------------------------------------------------------------------


async def test_an_event_reaches_who_listens(house: House) -> None:
    """By name and by glob, with topic, data and moment; nobody else hears it."""
    heard: list[tuple[str, Event]] = []
    house.on("light.kitchen", lambda event: heard.append(("exact", event)), name="exact")
    house.on("light.*", lambda event: heard.append(("glob", event)), name="glob")
    house.on("cover.*", lambda event: heard.append(("other", event)), name="other")
    at = Instant.from_utc(2026, 11, 21, 7)
    house.bus.publish("light.kitchen", {"on": True}, at=at)
    house.bus.publish("nobody.listens")
    await house.bus.drain()
    assert sorted(who for who, _ in heard) == ["exact", "glob"]
    assert {(event.topic, event.data["on"], event.published_at) for _, event in heard} == {("light.kitchen", True, at)}


async def test_publish_returns_before_anything_runs(house: House) -> None:
    """Publishing costs its caller no handler's time."""
    heard: list[Event] = []

    async def on_light(event: Event) -> None:
        heard.append(event)

    house.on("light", on_light)
    house.bus.publish("light")
    assert heard == []
    await house.bus.drain()
    assert len(heard) == 1


async def test_handlers_start_by_priority_then_in_order_of_registration(house: House) -> None:
    """Higher first; equal ones first come, first started."""
    started: list[str] = []

    async def handler(name: str, event: Event) -> None:
        started.append(name)

    for name, priority in [("second", 0), ("third", 0), ("last", -5), ("first", 10)]:
        house.on("light", partial(handler, name), name=name, priority=priority)
    house.bus.publish("light")
    await house.bus.drain()
    assert started == ["first", "second", "third", "last"]


async def test_priority_is_about_starting_only(house: House) -> None:
    """A handler that takes long keeps nobody waiting, whatever its priority."""
    released = asyncio.Event()

    async def waits() -> None:
        await released.wait()

    async def releases() -> None:
        released.set()

    house.on("light", waits, priority=10)
    house.on("light", releases)
    house.bus.publish("light")
    await house.bus.drain()
    assert [run["status"] for run in await house.runs()] == ["success", "success"]


async def test_where_all_predicates_must_hold(house: House) -> None:
    """One or several; their names are kept with the registration."""

    def is_on(event: Event) -> bool:
        return bool(event.data["on"])

    def is_bright(event: Event) -> bool:
        return bool(event.data["level"] > 100)

    heard: list[Any] = []
    house.on("light", lambda event: heard.append(event.data), name="both", where=[is_on, is_bright])
    house.on("light", lambda event: None, name="one", where=is_on)
    for on, level in [(True, 200), (True, 50), (False, 200)]:
        house.bus.publish("light", {"on": on, "level": level})
    await house.bus.drain()
    assert heard == [{"on": True, "level": 200}]
    assert [run["name"] for run in await house.runs()].count("one") == 2
    found = {row["name"]: row["predicate_description"] for row in await house.rows("SELECT * FROM listeners")}
    assert found == {"both": "is_on and is_bright", "one": "is_on"}


async def test_a_predicate_that_raises_is_no_match(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Said once; the event's other handlers are none the worse."""
    heard: list[Event] = []
    house.on("light", heard.append, name="broken", where=lambda event: event.data["no such key"])
    house.on("light", heard.append, name="well", priority=-1)
    for _ in range(3):
        house.bus.publish("light", {})
    await house.bus.drain()
    assert len(heard) == 3
    assert [run["name"] for run in await house.runs()] == ["well"] * 3
    assert caplog.text.count("that counts as no match") == 1


# --- registering --------------------------------------------------------------------------------------------


async def test_a_registration_is_stored_with_its_options_and_source(house: House) -> None:
    """What the dashboard shows of a listener, with the line that registered it."""
    app = App(house.telemetry, "house.Test", bus=house.bus)
    app.bus.on("light.*", lambda event: None, name="lamp", throttle=2.5, once=True, priority=7)
    (row,) = await house.rows("SELECT * FROM listeners")
    assert (row["topic"], row["name"], row["throttle"], row["once"], row["priority"]) == ("light.*", "lamp", 2.5, 1, 7)
    assert "test_bus.py:" in row["source_location"]
    assert row["registration_source"].startswith('app.bus.on("light.*"')


async def test_one_name_and_topic_is_one_listener(house: House) -> None:
    """The second is refused with the cure; a cancelled one makes room."""

    def on_light() -> None: ...

    subscription = house.on("light", on_light)
    with pytest.raises(DuplicateRegistrationError, match=r"'on_light'.*already exists.*Provide a distinct name"):
        house.on("light", on_light)
    house.on("light", on_light, name="again")
    house.on("cover", on_light)
    subscription.cancel()
    subscription.cancel()
    house.on("light", on_light)


async def later(event: Event) -> bool:
    return True


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"debounce": 1, "throttle": 1}, id="debounce and throttle"),
        pytest.param({"debounce": 0}, id="no time"),
        pytest.param({"throttle": -1}, id="negative"),
        pytest.param({"debounce": float("nan")}, id="not a number"),
        pytest.param({"where": later}, id="async predicate"),
        pytest.param({"where": ["no function"]}, id="no predicate"),
        pytest.param({"topic": "light.kit**"}, id="bad glob"),
        pytest.param({"timeout": -1}, id="bad timeout"),
    ],
)
async def test_what_makes_no_sense_is_refused_and_leaves_nothing(house: House, options: dict[str, Any]) -> None:
    """The name is still free afterwards."""
    arguments: dict[str, Any] = {"topic": "light", "handler": lambda event: None, **options}
    with pytest.raises(RegistrationError):
        house.on(**arguments, name="lamp")
    house.on("light", lambda event: None, name="lamp")
    assert len(house.bus._index.entries()) == 1


# --- where an event came from -------------------------------------------------------------------------------


async def test_a_cascade_is_linked_and_drained(house: House) -> None:
    """Each run links to the span that published its event; drain() waits for the last of them."""
    reached = []

    async def step(event: Event) -> None:
        reached.append(event.data)
        if event.data < 3:
            await asyncio.sleep(0)
            house.bus.publish("step", event.data + 1)

    house.on("step", step)
    house.bus.publish("step", 0)
    await house.bus.drain()
    assert reached == [0, 1, 2, 3]
    runs = await house.runs()
    assert runs[0]["link_span_id"] is None
    assert [run["link_span_id"] for run in runs[1:]] == [run["span_id"] for run in runs[:-1]]
    assert len({run["trace_id"] for run in runs}) == 4


async def test_queue_time_counts_from_the_moment_of_publication(house: House) -> None:
    """From publish(), or from the moment it was given."""
    house.on("light", lambda: None, name="lamp")
    house.bus.publish("light")
    house.bus.publish("light", at=Instant.now().subtract(hours=1))
    await house.bus.drain()
    now, earlier = sorted(run["queue_ms"] for run in await house.runs())
    assert 0 <= now < 60_000
    assert 3_600_000 <= earlier < 3_660_000


async def test_a_plain_handler_publishes_from_its_thread(house: House) -> None:
    """It may register, publish and cancel there; what it causes is linked and drained."""
    heard: list[tuple[str, bool]] = []

    def second(event: Event) -> None:
        heard.append((event.topic, threading.current_thread() is threading.main_thread()))

    def first(event: Event) -> None:
        subscription = house.on("second", second)
        house.bus.publish("second")
        house.on("second", second, name="gone", debounce=5).cancel()
        heard.append((subscription.topic, threading.current_thread() is threading.main_thread()))

    house.on("first", first)
    house.bus.publish("first")
    await house.bus.drain()
    assert heard == [("second", False), ("second", False)]
    first_run, second_run = sorted(await house.runs(), key=lambda run: run["name"])
    assert second_run["link_span_id"] == first_run["span_id"]


async def test_drain_waits_for_an_event_on_its_way_from_another_thread(house: House) -> None:
    """Published is published, even before the loop has heard of it."""
    heard: list[Event] = []

    async def on_light(event: Event) -> None:
        heard.append(event)

    house.on("light", on_light)
    thread = threading.Thread(target=house.bus.publish, args=("light",))
    thread.start()
    thread.join()
    assert heard == []
    await house.bus.drain()
    assert len(heard) == 1


def test_publishing_where_no_loop_ever_was_is_an_error(tmp_path: Path) -> None:
    """There is nothing it could run on."""
    with (
        Telemetry(tmp_path / "house.db", set_global_providers=False, handle_sigterm=False) as telemetry,
        pytest.raises(HandspanError, match="no event loop"),
    ):
        Bus(telemetry).publish("light")


# --- failures -----------------------------------------------------------------------------------------------


async def test_a_dependency_that_fails_is_recorded_as_such(house: House) -> None:
    """Status error, type DependencyError; the handler is not called."""

    async def database() -> int:
        raise ConnectionError("refused")

    async def on_light(db: Annotated[int, Depends(database)]) -> None:
        raise AssertionError("never called")

    house.on("light", on_light)
    house.bus.publish("light")
    await house.bus.drain()
    (run,) = await house.runs()
    assert (run["status"], run["error_type"]) == ("error", "DependencyError")
    assert run["error_message"].endswith("database raised ConnectionError: refused")


async def test_what_the_executor_raises_again_does_not_reach_the_loop(house: House) -> None:
    """A cancelled handler and a BaseException end their task, and nothing else."""

    class Strange(BaseException):
        pass

    async def cancelled() -> None:
        raise asyncio.CancelledError

    async def strange() -> None:
        raise Strange

    house.on("light", cancelled)
    house.on("light", strange)
    house.bus.publish("light")
    await house.bus.drain()
    assert [run["status"] for run in await house.runs()] == ["cancelled", "error"]


async def test_error_hooks_from_the_nearest_to_the_widest(tmp_path: Path) -> None:
    """The registration's, then the app's, then the global one."""
    told: list[str] = []
    all_told = asyncio.Event()

    class Kitchen(App):
        async def on_error(self, report: Any) -> None:
            told.append(f"app {report.error}")

    async def everywhere(report: Any) -> None:
        told.append(f"global {report.error}")
        all_told.set()

    def fails() -> None:
        raise ValueError("burnt")

    path = tmp_path / "house.db"
    async with (
        Telemetry(path, set_global_providers=False, handle_sigterm=False, on_error=everywhere) as telemetry,
        Kitchen(telemetry) as app,
    ):
        app.bus.on("toast", fails, on_error=lambda report: told.append(f"registration {report.error}"))
        app.bus.publish("toast")
        await all_told.wait()
    assert told == ["registration burnt", "app burnt", "global burnt"]


# --- debounce, throttle, once -------------------------------------------------------------------------------


async def test_debounce_runs_once_with_the_last_event(house: House) -> None:
    """When it has been quiet for that long, counted from the last event."""
    heard: list[int] = []
    house.on("motion", lambda event: heard.append(event.data), name="lamp", debounce=2)
    for number in range(3):
        house.bus.publish("motion", number)
        house.timers.advance(1)
    assert heard == []
    house.timers.advance(1)
    await house.bus.drain()
    house.timers.advance(10)
    await house.bus.drain()
    assert heard == [2]


async def test_drain_waits_for_an_event_held_back(house: House) -> None:
    """It was published, so it counts."""
    house.on("motion", lambda event: None, name="lamp", debounce=2)
    house.bus.publish("motion")
    drained = asyncio.create_task(house.bus.drain())
    await asyncio.sleep(0)
    assert not drained.done()
    house.timers.advance(2)
    await drained
    assert len(await house.runs()) == 1


async def test_cancelling_drops_the_event_held_back(house: House) -> None:
    """Its timer never fires, and nobody waits for it."""
    subscription = house.on("motion", lambda event: None, name="lamp", debounce=2)
    house.bus.publish("motion")
    subscription.cancel()
    await house.bus.drain()
    house.timers.advance(5)
    await house.bus.drain()
    assert await house.runs() == []


async def test_throttle_lets_the_first_through(house: House) -> None:
    """Then none until the interval has passed; what did not match does not count."""
    heard: list[int] = []
    house.on("power", lambda event: heard.append(event.data), name="p", throttle=2, where=lambda event: event.data >= 0)
    for number in (-1, 0, 1, 2, 3, 4):
        house.bus.publish("power", number)
        await house.bus.drain()
        house.timers.advance(1)
    assert heard == [0, 2, 4]


async def test_once_is_once_when_two_events_come_together(house: House) -> None:
    """Exactly one run; afterwards the name is free and the row retired."""

    async def on_doorbell() -> None:
        await asyncio.sleep(0)

    subscription = house.on("doorbell", on_doorbell, once=True)
    house.bus.publish("doorbell", 1)
    house.bus.publish("doorbell", 2)
    await house.bus.drain()
    house.bus.publish("doorbell", 3)
    await house.bus.drain()
    assert len(await house.runs()) == 1
    assert subscription.cancelled
    (row,) = await house.rows("SELECT * FROM listeners")
    assert row["retired_at"] is not None
    house.on("doorbell", on_doorbell, once=True)


async def test_once_is_not_used_up_by_events_that_do_not_match(house: House) -> None:
    """Only an event that gets through counts."""
    house.on("doorbell", lambda event: None, name="d", once=True, where=lambda event: event.data == "long")
    for data in ("short", "long", "long"):
        house.bus.publish("doorbell", data)
    await house.bus.drain()
    assert len(await house.runs()) == 1


async def test_a_once_handler_may_register_itself_again(house: House) -> None:
    """Its only run has begun, so the name is its successor's."""
    heard: list[int] = []

    async def on_doorbell(event: Event) -> None:
        heard.append(event.data)
        if event.data < 2:
            house.on("doorbell", on_doorbell, once=True)

    house.on("doorbell", on_doorbell, once=True)
    for number in range(5):
        house.bus.publish("doorbell", number)
        await house.bus.drain()
    assert heard == [0, 1, 2]


async def test_cancelling_between_publication_and_start(house: House) -> None:
    """What has not started does not."""
    subscription = house.on("light", lambda event: None, name="lamp")
    house.bus.publish("light")
    subscription.cancel()
    await house.bus.drain()
    assert await house.runs() == []


# --- the end ------------------------------------------------------------------------------------------------


async def test_a_handler_cannot_drain_its_own_bus(house: House) -> None:
    """It would wait for itself: an error, not a deadlock."""

    async def waits() -> None:
        await house.bus.drain()

    house.on("light", waits)
    house.bus.publish("light")
    await house.bus.drain()
    (run,) = await house.runs()
    assert (run["status"], run["error_type"]) == ("error", "HandspanError")


async def test_a_handler_may_close_the_bus(house: House) -> None:
    """It waits for the others, not for itself."""
    order: list[str] = []

    async def closes() -> None:
        await house.bus.close()
        order.append("closed")

    async def takes_a_while() -> None:
        for _ in range(5):
            await asyncio.sleep(0)
        order.append("ran")

    house.on("stop", closes)
    house.on("stop", takes_a_while)
    house.bus.publish("stop")
    await house.bus._drained()
    assert order == ["ran", "closed"]


async def test_close_cancels_what_remains(house: House, caplog: pytest.LogCaptureFixture) -> None:
    """Recorded as cancelled; held-back events are dropped, later ones ignored."""
    caplog.set_level(logging.INFO)
    started = asyncio.Event()

    async def hangs() -> None:
        started.set()
        await asyncio.get_running_loop().create_future()

    house.on("light", hangs)
    house.on("light", lambda: None, name="held", debounce=5)
    house.bus.publish("light")
    await started.wait()
    await house.bus.close(timeout=0)
    house.bus.publish("light")
    await house.bus.drain()
    house.timers.advance(10)
    await house.bus.drain()
    assert [(run["name"], run["status"]) for run in await house.runs()] == [("hangs", "cancelled")]
    assert "2 deliveries outstanding" in caplog.text


async def test_closing_an_idle_bus(house: House) -> None:
    """Nothing to wait for; twice is once."""
    await house.bus.close()
    await house.bus.close()


# --- apps ---------------------------------------------------------------------------------------------------


class Kitchen(App):
    stopped_with: int | None = None

    async def on_start(self) -> None:
        self.bus.on("light.*", self.on_light)
        self.bus.on("motion", self.on_light, debounce=1)

    async def on_light(self, event: Event) -> None: ...

    async def on_stop(self) -> None:
        self.stopped_with = len(self.bus.shared._index.entries())


async def test_an_app_has_an_identity_and_ends_with_its_listeners(house: House) -> None:
    """Its key comes from module and class; stopping one instance leaves the other alone."""
    apps = [Kitchen(house.telemetry, instance_index=index, bus=house.bus) for index in range(2)]
    for app in apps:
        await app.start()
    house.bus.publish("light.kitchen")
    house.bus.publish("motion")
    await apps[0].stop()
    assert apps[0].stopped_with == 2
    house.timers.advance(1)
    await house.bus.drain()
    found = await house.rows("SELECT * FROM listeners ORDER BY id")
    assert {row["app_key"] for row in found} == {"test_bus.Kitchen"}
    assert [row["retired_at"] for row in found] == [None] * 4  # stopping is not retiring: it may start again
    await apps[0].start()
    await apps[0].stop()
    ran = [(row["topic"], row["instance_index"]) for row in await house.rows(RAN)]
    assert ran == [("light.*", 1), ("motion", 1)]
    await apps[0].start()


RAN = "SELECT l.* FROM handler_invocations i JOIN listeners l ON l.id = i.listener_id ORDER BY i.id"


async def test_an_app_that_fails_to_start_leaves_nothing(house: House) -> None:
    """What it had registered is cancelled, and the reason is its caller's."""

    class Broken(App):
        async def on_start(self) -> None:
            self.bus.on("light", lambda event: None, name="lamp")
            raise ValueError("no such light")

    for _ in range(2):
        with pytest.raises(ValueError, match="no such light"):
            await Broken(house.telemetry, bus=house.bus).start()
    assert house.bus._index.entries() == ()


async def test_an_app_without_a_bus_makes_and_closes_its_own(house: House) -> None:
    """So that the smallest program is one app."""
    heard: list[Any] = []
    async with App(house.telemetry, "tiny") as app:
        app.bus.on("light", lambda event: heard.append(event.data), name="lamp")
        app.bus.publish("light", 1)
        await app.bus.shared.drain()
    app.bus.publish("light", 2)
    assert heard == [1]


# --- gates against a reference ------------------------------------------------------------------------------


GAPS = st.lists(st.integers(0, 5), max_size=30)


def offers(gaps: list[int]) -> Iterator[tuple[int, int, int]]:
    """Gap before it, moment and number of each item."""
    moment = 0
    for number, gap in enumerate(gaps):
        moment += gap
        yield gap, moment, number


@given(GAPS, st.integers(1, 6), st.booleans())
def test_debounce_releases_the_last_of_each_burst(gaps: list[int], seconds: int, deaf: bool) -> None:
    """Once each, that long after its last item, even with timers that ignore their cancellation."""
    timers = FakeTimers(deaf=deaf)
    released: list[tuple[float, int]] = []
    swallowed: list[int] = []
    gate = Debounce[int](seconds, timers, lambda item: released.append((timers.now, item)), lambda: swallowed.append(1))
    for gap, _, number in offers(gaps):
        timers.advance(gap)
        gate.offer(number)
        assert gate.waiting
    timers.advance(100)
    assert not gate.waiting
    quiet_after = [*gaps[1:], 100]
    assert released == [
        (moment + seconds, number)
        for (_, moment, number), quiet in zip(offers(gaps), quiet_after, strict=False)  # no gap: no item
        if quiet >= seconds
    ]
    assert len(released) + len(swallowed) == len(list(offers(gaps)))


@given(GAPS, st.integers(1, 6), st.booleans(), st.data())
def test_a_cancelled_debounce_releases_nothing(gaps: list[int], seconds: int, deaf: bool, data: st.DataObject) -> None:
    """Whatever came before; and what comes after is debounced as ever."""
    timers = FakeTimers(deaf=deaf)
    released: list[int] = []
    gate = Debounce[int](seconds, timers, released.append, lambda: None)
    for gap, _, number in offers(gaps):
        timers.advance(gap)
        gate.offer(number)
        if data.draw(st.booleans(), label="cancel"):
            gate.cancel()
            before = list(released)
            timers.advance(seconds)
            assert released == before
    assert released == sorted(set(released))


@given(GAPS, st.integers(1, 6))
def test_throttle_releases_the_first_then_at_most_one_per_interval(gaps: list[int], seconds: int) -> None:
    """At once; two releases are never nearer than the interval, and none is withheld longer than that."""
    timers = FakeTimers()
    released: list[int] = []
    expected: list[int] = []
    swallowed: list[int] = []
    gate = Throttle[int](seconds, timers, released.append, lambda: swallowed.append(1))
    last = None
    for gap, moment, number in offers(gaps):
        timers.advance(gap)
        gate.offer(number)
        if last is None or moment - last >= seconds:
            last = moment
            expected.append(number)
        assert released == expected
    assert len(released) + len(swallowed) == len(list(offers(gaps)))
