"""The application's process. ``python -m board.worker CONFIG``: commands come in on stdin, a JSON line each, and
are answered on stdout.
"""

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import sys
import time
from typing import Any

import handspan
from board.account import Book
from board.clock import JumpingClock
from board.load import APP, House
from board.mutations import apply
from handspan import InvokeHandler


def say(what: str, **more: Any) -> None:
    line = json.dumps({"said": what, **more}) + "\n"
    os.write(1, line.encode())


class Commands:
    """Lines of stdin, on the loop: a thread that waits for them would be in the way of the interpreter's end."""

    def __init__(self) -> None:
        self._buffer = b""
        self.queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        asyncio.get_running_loop().add_reader(0, self._readable)

    def _readable(self) -> None:
        data = os.read(0, 65536)
        if not data:
            os._exit(3)  # whoever started us is gone
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        for line in lines:
            self.queue.put_nowait(json.loads(line))


class Worker:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.book = Book(config["account"])

    async def run(self) -> str:
        commands = Commands()
        began = time.monotonic()
        self.telemetry = handspan.Telemetry(
            self.config["db"], service_name="board", service_version=self.config["name"], clock=JumpingClock(),
            db_retention_days=36_500, db_max_size_mb=100_000, hourly_rollup_days=36_500, daily_rollup_days=36_500,
            **self.config["settings"],
        )  # fmt: skip
        say("opening")
        await self.telemetry.__aenter__()
        say("opened", seconds=time.monotonic() - began)
        self.house = House(self.telemetry, self.book, self.config["seed"], self.config["load"])
        if self.config["load"]:
            self.house.start()
        while True:
            command = await commands.queue.get()
            do = command.pop("do")
            if do == "exit":  # without a close
                return "exit"
            if await getattr(self, f"do_{do}")(**command):
                return "closed"

    async def do_health(self) -> None:
        health = self.telemetry.health()
        say(
            "health", committed=health.committed, failing=health.failing_since is not None, queue=health.queue_size,
            used=self.book.used, error=health.last_error, lost=sum(health.lost.values()),
        )  # fmt: skip

    async def do_flush(self, timeout: float) -> None:
        began = time.monotonic()
        done = await self.telemetry.aflush(timeout)
        say("flush", done=done, seconds=time.monotonic() - began)

    async def do_rest(self) -> None:
        await self.house.stop(leave=2)
        say("rest")

    async def do_close(self, leave: int) -> bool:
        await self.house.stop(leave=leave)
        say("closing")
        done = await self.telemetry.aclose()
        self.book.open = False
        say("closed", done=done)
        return True

    async def do_os_exit(self) -> None:
        os._exit(0)

    async def do_jump(self, seconds: float) -> None:
        JumpingClock.offset_ns += int(seconds * 1e9)
        say("jump")

    async def do_block(self, seconds: float) -> None:
        """A handler of the application's that holds the loop."""

        def block(box: list[int]) -> None:
            time.sleep(seconds)

        async def blocking(box: list[int]) -> None:
            self.house._began(box)
            block(box)

        await self.house.handle(self.telemetry.register_listener(blocking, topic="block", app_key=APP))
        say("block")

    async def do_register(self, count: int) -> None:
        async def quiet(box: list[int]) -> None:
            self.house._began(box)

        for number in range(count):
            listener = self.telemetry.register_listener(quiet, topic=f"t{number}", app_key=APP, name=f"n{number}")
            box: list[int] = []
            await self.house.call(InvokeHandler(listener, box), box)
        say("register")

    async def do_fork(self, ending: str, runs: int) -> None:
        """A child in the middle of everything, with an account of its own; it leaves as told."""
        path = f"{self.config['account']}.child"
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                self.book = self.house.book = Book(path)
                self.house.tasks = set()
                asyncio.run(self._child(runs))
                if ending == "close":
                    self.telemetry.close()
                else:
                    self.telemetry.flush()
                code = 0
            except BaseException as error:
                self.book.trouble(error)
            finally:
                os._exit(code)
        code = 1
        for _ in range(2000):
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                code = os.waitstatus_to_exitcode(status)
                break
            await asyncio.sleep(0.01)
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            self.book.trouble("a forked child hung")
        say("fork", code=code)

    async def _child(self, runs: int) -> None:
        for _ in range(runs):
            await self.house.handle(self.house.instant)
            await self.house.handle(self.house.family)


def main() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nothing of ours is left running
    config = json.loads(sys.argv[1])
    logging.basicConfig(filename=config["log"], format="%(name)s|%(levelname)s|%(message)s", level=logging.INFO)
    logging.getLogger("handspan.executor").setLevel(logging.CRITICAL)  # the application's failures are not the matter
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    try:
        apply(config["break"])
    except Exception as error:
        say("misfit", why=f"{config['break']}: {error!r}")
        raise
    worker = Worker(config)
    try:
        asyncio.run(_guarded(worker))
    finally:
        say("ended")


async def _guarded(worker: Worker) -> None:
    how = await worker.run()
    if how == "exit":  # the loop goes, Telemetry stays open: its atexit hook has the rest
        await worker.house.stop()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main()
