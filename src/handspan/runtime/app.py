"""The app: an identity, its part of the bus and of the scheduler, and its beginning and end."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from whenever import Instant

from handspan.commands import ErrorHook
from handspan.runtime.bus import Bus, ListenOptions, Subscription
from handspan.runtime.host import ErrorHooks, Host, hooks

if TYPE_CHECKING:
    from handspan.runtime.scheduler import AppScheduler, Scheduler

__all__ = ["App", "AppBus"]


class AppBus:
    """A bus as one app instance sees it: what it registers is the app's, and ends with it."""

    def __init__(self, bus: Bus, app_key: str, instance_index: int, on_error: ErrorHooks) -> None:
        self.shared = bus
        """The bus of the whole process."""
        self._app_key = app_key
        self._instance_index = instance_index
        self._on_error = on_error

    def on(self, topic: str, handler: Callable[..., object], **options: Unpack[ListenOptions]) -> Subscription:
        """Call ``handler`` for each event of ``topic``, see :meth:`Bus.on`."""
        options["on_error"] = hooks(options.get("on_error"), self._on_error)
        return self.shared.on(topic, handler, app_key=self._app_key, instance_index=self._instance_index, **options)

    def publish(self, topic: str, data: Any = None, *, at: Instant | None = None) -> None:
        """Hand an event to everyone who listens, in this app or another, see :meth:`Bus.publish`."""
        self.shared.publish(topic, data, at=at)


class App:
    """Subclass it, register in :meth:`on_start`.

    An ``on_error`` method (or argument) is called with the report of every failed run of the app, after the
    registration's own hook and before the global ones.
    """

    def __init__(
        self,
        host: Host,
        app_key: str | None = None,
        instance_index: int = 0,
        *,
        bus: Bus | None = None,
        scheduler: "Scheduler | None" = None,
        on_error: ErrorHook | None = None,
    ) -> None:
        """``bus`` and ``scheduler``: the process's; without them the app makes its own and closes it at the end."""
        self.host = host
        self.app_key = app_key or _derived_key(type(self))
        self.instance_index = instance_index
        self._hook: ErrorHook | None = on_error or getattr(self, "on_error", None)
        self._owns_bus = bus is None
        self.bus = AppBus(Bus(host) if bus is None else bus, self.app_key, instance_index, self._hook)
        self._shared_scheduler = scheduler
        self._own_scheduler: Scheduler | None = None
        self._scheduler: AppScheduler | None = None

    @property
    def scheduler(self) -> "AppScheduler":
        """Made at first use: only apps that schedule need APScheduler."""
        if self._scheduler is None:
            from handspan.runtime.scheduler import AppScheduler, Scheduler

            shared = self._shared_scheduler
            if shared is None:
                shared = self._own_scheduler = Scheduler(self.host)
            self._scheduler = AppScheduler(shared, self.app_key, self.instance_index, self._hook)
        return self._scheduler

    async def on_start(self) -> None:
        """Register listeners and jobs here."""

    async def on_stop(self) -> None:
        """Let go of what the app holds. No run of it begins any more; one that had begun may still be going."""

    async def start(self) -> None:
        """If ``on_start`` raises, what it had registered is cancelled."""
        try:
            await self.on_start()
        except BaseException:
            self._cancel_all()
            await self._close_own()
            raise
        for scheduler in (self._shared_scheduler, self._own_scheduler):
            if scheduler is not None:
                scheduler.start()

    async def stop(self) -> None:
        """Cancel the app's listeners and jobs, then ``on_stop``."""
        self._cancel_all()
        try:
            await self.on_stop()
        finally:
            await self._close_own()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    def _cancel_all(self) -> None:
        self.bus.shared.cancel_app(self.app_key, self.instance_index)
        for scheduler in (self._shared_scheduler, self._own_scheduler):
            if scheduler is not None:
                scheduler.cancel_app(self.app_key, self.instance_index)

    async def _close_own(self) -> None:
        if self._own_scheduler is not None:
            await self._own_scheduler.close()
        if self._owns_bus:
            await self.bus.shared.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.app_key}.{self.instance_index}>"


def _derived_key(app: type[App]) -> str:
    """``kitchen.KitchenLights``, whether ``kitchen.py`` was imported or run."""
    module = app.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
        if spec is not None:
            module = spec.name.removesuffix(".__main__")
        elif file is not None:
            module = Path(file).stem
    return f"{module.rpartition('.')[2]}.{app.__name__}"
