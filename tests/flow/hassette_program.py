"""A whole Hassette under handspan, for test_integration_hassette.py: run by the interpreter Hassette needs.

    python hassette_program.py DIRECTORY [plain|instrumented|broken]

Starts a double of Home Assistant's WebSocket in a thread, then Hassette's own command line (``hassette run``) in
this process. The app below says when it has seen everything; then the program sends itself SIGTERM, as a service
manager would. Afterwards DIRECTORY holds Hassette's database and ours.
"""

import asyncio
import contextlib
import json
import os
import sys
import threading
from pathlib import Path

from aiohttp import WSMsgType, web

APP = """
import asyncio
import os
import signal
import time

from hassette import App, AppConfig, D, states


class Config(AppConfig):
    pass


class House(App[Config]):
    async def on_initialize(self):
        self.seen, self.finishing = set(), False
        on = self.bus.on_state_change
        await on("light.good", handler=self.on_good, name="good")
        await self.bus.on(topic="house.echo", handler=self.on_echo, name="echo")
        await on("light.plain", handler=self.on_plain, name="plain", debounce=0.01)
        await on("light.bad", handler=self.on_bad, name="bad")
        await on("light.gone", handler=self.on_gone, name="gone")
        await on("light.slow", handler=self.on_slow, name="slow", timeout=0.05)
        await on("light.own", handler=self.on_own, name="own")
        await on("light.stuck", handler=self.on_stuck, name="stuck")
        await self.scheduler.run_in(self.once, 1, name="once", kwargs={"room": "bath"})
        await self.scheduler.run_in(self.broken, 1, name="broken")
        await self.scheduler.run_every(self.often, seconds=1, name="often")
        await self.scheduler.run_in(self.never, 1, name="never", where=lambda: self.saw("never") or False)

    def saw(self, what):
        self.seen.add(what)
        if len(self.seen) == 11 and not self.finishing:
            self.finishing = True
            self.task_bucket.spawn(self.finish(), name="finish")

    async def finish(self):
        await asyncio.sleep(0.3)  # the last ones end, too
        os.kill(os.getpid(), signal.SIGTERM)

    async def on_good(self, new: D.StateNew[states.LightState]):
        await self.bus.emit("house.echo", {"n": 1})
        self.saw("good")

    async def on_echo(self):
        self.saw("echo")

    def on_plain(self):
        self.saw("plain")

    async def on_bad(self):
        self.saw("bad")
        raise ValueError("bad bulb")

    async def on_gone(self, new: D.StateNew[states.LightState]):
        raise AssertionError("never called: there is no new state")

    async def on_slow(self):
        self.saw("slow")
        await asyncio.Event().wait()

    async def on_own(self):
        self.saw("own")
        raise TimeoutError("their own")

    async def on_stuck(self):
        self.saw("stuck")
        await asyncio.Event().wait()

    async def once(self, room):
        self.saw("once")

    def broken(self):
        self.saw("broken")
        raise KeyError("job")

    async def never(self):
        raise AssertionError("its predicate said no")

    async def often(self):
        self.saw("often")
"""

CONFIG = """
[hassette]
base_url = "http://127.0.0.1:{port}"
token = "a-token"
data_dir = "{directory}/data"

[hassette.web_api]
run = false

[hassette.apps]
directory = "{directory}/apps"

[hassette.apps.house]
filename = "house.py"
class_name = "House"

[hassette.apps.house.config]
instance_name = "house"
"""

LIGHTS = ("good", "plain", "bad", "gone", "slow", "own", "stuck")


def state(name: str, value: str) -> dict[str, object]:
    return {
        "entity_id": f"light.{name}",
        "state": value,
        "attributes": {},
        "last_changed": "2026-01-01T00:00:00+00:00",
        "last_updated": "2026-01-01T00:00:00+00:00",
        "last_reported": "2026-01-01T00:00:00+00:00",
        "context": {"id": f"c-{name}", "parent_id": None, "user_id": None},
    }


def state_changed(name: str, subscription: int) -> dict[str, object]:
    new = None if name == "gone" else state(name, "on")
    data = {"entity_id": f"light.{name}", "old_state": state(name, "off"), "new_state": new}
    event = {
        "event_type": "state_changed",
        "data": data,
        "origin": "LOCAL",
        "time_fired": "2026-01-01T00:00:00+00:00",
        "context": {"id": f"e-{name}", "parent_id": None, "user_id": None},
    }
    return {"id": subscription, "type": "event", "event": event}


class HomeAssistant:
    """Its WebSocket API, as much of it as Hassette needs; when told that apps run, each light changes once."""

    def __init__(self) -> None:
        self.port = 0
        self._ready = threading.Event()

    def start(self) -> None:
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        assert self._ready.wait(30)

    def apps_run(self) -> None:
        """Called from Hassette's thread."""
        self._loop.call_soon_threadsafe(self._apps_run.set)

    async def _serve(self) -> None:
        self._loop, self._apps_run = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_get("/api/websocket", self._connection)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port = runner.addresses[0][1]
        self._ready.set()
        await asyncio.Event().wait()

    async def _connection(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_json({"type": "auth_required", "ha_version": "2026.1"})
        changing: asyncio.Task[None] | None = None
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                break
            asked = json.loads(message.data)
            if asked["type"] == "auth":
                await socket.send_json({"type": "auth_ok", "ha_version": "2026.1"})
                continue
            result: object = None
            if asked["type"] == "get_config":
                result = {"state": "RUNNING", "time_zone": "UTC"}
            elif asked["type"] == "get_states":
                result = [state(name, "off") for name in LIGHTS]
            elif asked["type"] == "get_services":
                result = {}
            elif asked["type"] == "subscribe_events":
                changing = asyncio.create_task(self._change(socket, asked["id"]))
            await socket.send_json({"id": asked["id"], "type": "result", "success": True, "result": result})
        if changing is not None:
            changing.cancel()
        return socket

    async def _change(self, socket: web.WebSocketResponse, subscription: int) -> None:
        await self._apps_run.wait()
        for name in LIGHTS:
            with contextlib.suppress(ConnectionError):
                await socket.send_json(state_changed(name, subscription))


class Broken:
    """A Telemetry of which nothing works."""

    def __getattr__(self, name: str) -> object:
        raise OSError(name)


def main(directory: Path, mode: str) -> None:
    os.environ.update({"HASSETTE__DEV_MODE": "false", "XDG_CONFIG_HOME": str(directory)})
    home = HomeAssistant()
    home.start()
    (directory / "apps").mkdir()
    (directory / "apps" / "house.py").write_text(APP)
    (directory / "hassette.toml").write_text(CONFIG.format(port=home.port, directory=directory))

    from hassette import App
    from hassette.__main__ import entrypoint

    after_initialize = App.after_initialize

    async def announced(app: object) -> None:
        await after_initialize(app)
        home.apps_run()

    App.after_initialize = announced

    from handspan import Telemetry
    from handspan.integrations import hassette

    sys.argv = ["hassette", "--config-dir", str(directory), "run"]
    with Telemetry(directory / "handspan.db", service_name="house") as telemetry:
        if mode != "plain":
            uninstrument = hassette.instrument(telemetry if mode == "instrumented" else Broken())
        try:
            entrypoint()
        finally:
            if mode != "plain":
                print("skipped:", uninstrument.skipped)
                uninstrument()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
