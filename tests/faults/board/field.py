"""Where one row is tried: a directory, the workers in it, what is mounted, and the clock it must beat.

Nothing outlives the ``with`` block: workers are killed, mounts undone, also after Ctrl-C.
"""

import contextlib
import json
import os
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from board.referee import Expected

FAULTS = Path(__file__).resolve().parents[1]
SETTINGS = {"busy_timeout": 0.3, "set_global_providers": False}


class Late(Exception):
    """Something did not come before the row's deadline."""


class Misfit(Exception):
    """A switch does not fit handspan's insides any more: what it shows would be worth nothing."""


class Worker:
    """One application process, and the way to talk to it."""

    def __init__(self, field: "Field", name: str, config: dict[str, Any], environment: dict[str, str]) -> None:
        self._field, self.name = field, name
        self.account, self.log = Path(config["account"]), Path(config["log"])
        self._buffer = b""
        self.errors = field.path / f"{name}.stderr"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "board.worker", json.dumps(config)],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, env=environment, cwd=field.path,
            )  # fmt: skip

    def wait_for(self, what: str) -> dict[str, Any]:
        """Its next line of that kind."""
        assert self.process.stdout is not None
        while True:
            while b"\n" in self._buffer:
                line, _, self._buffer = self._buffer.partition(b"\n")
                said: dict[str, Any] = json.loads(line)
                if said["said"] == what:
                    return said
                if said["said"] == "misfit":
                    raise Misfit(said["why"])
            if not select.select([self.process.stdout], [], [], self._field.left())[0]:
                raise Late(f"{self.name} never said {what!r}")
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                text = self.errors.read_text(errors="replace")[-600:]
                raise RuntimeError(f"{self.name} ended before it said {what!r}: {text}")
            self._buffer += data

    def tell(self, do: str, **more: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **more}).encode() + b"\n")
        self.process.stdin.flush()

    def ask(self, do: str, **more: Any) -> dict[str, Any]:
        self.tell(do, **more)
        return self.wait_for(do)

    def until(self, **wanted: Any) -> dict[str, Any]:
        """Ask for its health until it is as wanted; ``committed`` and ``used``: at least."""
        while True:
            health = self.ask("health")
            if all(
                health[key] >= value if key in ("committed", "used") else health[key] == value
                for key, value in wanted.items()
            ):
                return health
            if self._field.left() <= 0:
                raise Late(f"{self.name} never came to {wanted}: {health}")
            time.sleep(0.01)

    def load(self, used: int = 600) -> None:
        """Let it run a while: until its account has so many entries."""
        self.until(used=used)

    def recovered(self) -> float:
        """Seconds until the next commit from now on."""
        began = time.monotonic()
        committed = self.ask("health")["committed"]
        self.until(committed=committed + 1)
        return time.monotonic() - began

    def settled(self) -> int:
        """Everything until now is committed, wherever. How far its account has come."""
        if not self.ask("flush", timeout=self._field.left())["done"]:
            raise Late(f"{self.name} could not flush")
        return int(self.ask("health")["used"])

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def kill(self) -> Expected:
        self.process.kill()
        self.end()
        return Expected(self.account, "crash")

    def end(self) -> int:
        """Wait for its end."""
        try:
            return self.process.wait(self._field.left())
        except subprocess.TimeoutExpired:
            raise Late(f"{self.name} never ended") from None

    def close(self) -> Expected:
        if not self._closed():
            raise RuntimeError(f"{self.name}: close() gave something up")
        return Expected(self.account)

    def _closed(self) -> bool:
        self.tell("close", leave=0)
        done = bool(self.wait_for("closed")["done"])
        code = self.end()
        if code:
            raise RuntimeError(f"{self.name} ended with {code}: {self.errors.read_text(errors='replace')[-600:]}")
        return done

    def episode(self) -> list[str]:
        """Its log lines so far: handspan's, without the application's failures."""
        return [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith("handspan")]

    def dispose(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(30)
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                pipe.close()  # type: ignore[union-attr]


class Field:
    def __init__(
        self, *, seed: int, full: bool, broken: str | None, seconds: float, within: Path | None = None
    ) -> None:
        self.random, self.full, self.broken = random.Random(seed), full, broken
        self.path = Path(tempfile.mkdtemp(prefix="handspan-board-", dir=within))
        self._deadline = time.monotonic() + seconds
        self._workers: list[Worker] = []
        self._mounts: list[Path] = []

    def left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    def pause(self, seconds: float) -> None:
        """A random instant, or how long a fault lasts: never a wait for something that can be asked for."""
        if seconds > self.left():
            raise Late("no time left")
        time.sleep(seconds)

    def folder(self) -> Path:
        path = self.path / f"try{len(list(self.path.glob('try*')))}"
        path.mkdir()
        return path

    def worker(
        self, db: Path, *, load: dict[str, Any] | None = None, environment: dict[str, str] | None = None,
        whole: bool = False, **settings: Any,
    ) -> Worker:  # fmt: skip
        """Start one. ``whole``: never with the switch that breaks it."""
        name = f"w{len(self._workers)}"
        broken = None if whole else self.broken
        if broken == "journal-off":
            settings["journal"] = False
        config = {
            "name": name, "db": str(db), "account": str(self.path / f"{name}.account"),
            "log": str(self.path / f"{name}.log"), "seed": self.random.randrange(2**32), "break": broken,
            "load": {"rate": 2500} if load is None else load, "settings": SETTINGS | settings,
        }  # fmt: skip
        clean = {key: text for key, text in os.environ.items() if not key.startswith(("HANDSPAN_", "OTEL_"))}
        clean |= {"PYTHONPATH": str(FAULTS), "PYTHONDONTWRITEBYTECODE": "1"} | (environment or {})
        worker = Worker(self, name, config, clean)
        self._workers.append(worker)
        return worker

    def opened(self, db: Path, **options: Any) -> Worker:
        worker = self.worker(db, **options)
        worker.wait_for("opened")
        return worker

    def next_start(self, db: Path, **options: Any) -> float:
        """Open the file once more, as the application's next start does, and close it. Seconds until it records."""
        worker = self.worker(db, load={}, whole=self.broken != "no-burial", **options)
        seconds = worker.wait_for("opened")["seconds"]
        seconds += worker.ask("flush", timeout=self.left())["seconds"]
        worker.close()
        return float(seconds)

    def mount(self, path: Path, size: str) -> None:
        path.mkdir(exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", path], check=True, capture_output=True)
        self._mounts.append(path)

    def remount(self, path: Path, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", path], check=True, capture_output=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with _undisturbed():
            for worker in self._workers:
                worker.dispose()
            for mount in self._mounts:
                subprocess.run(["umount", "-l", mount], check=False, capture_output=True)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C twice must not leave a mount behind."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread: no signal comes here
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
