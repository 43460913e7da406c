"""Real processes for tests of what becomes of them."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap

PRELUDE = """
import asyncio, os, signal, sys, threading, time
import handspan
from handspan import InvokeHandler

async def on_event(event): ...
async def for_ever(event): await asyncio.Event().wait()

def make(**options):
    return handspan.Telemetry(sys.argv[1], service_name="child", **options)

def register(telemetry, call=on_event, name=None):
    return telemetry.register_listener(call, topic="t", app_key="a.B", name=name)

def say(word):
    print(word, flush=True)
"""


class Child:
    """A Python program on the test's database; ``wait_for`` reads its lines."""

    def __init__(self, program: str, db: str) -> None:
        source = PRELUDE + textwrap.dedent(program)
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", source, db],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def wait_for(self, word: str) -> None:
        for line in self.process.stdout:
            if line.strip() == word:
                return
        raise AssertionError(f"never said {word!r}: {self.process.stderr.read()}")

    def end(self, timeout: float = 30) -> int:
        try:
            _, self.stderr = self.process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as late:
            raise AssertionError(f"still running after {timeout} s: {(late.stderr or b'').decode()}") from None
        return self.process.returncode

    def kill(self) -> None:
        """It and what it forked: a child that outlives it would hold its pipes open."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()
