"""Thirty ways to fail: types, messages whose numbers vary, stacks; and the groups they come to."""

import hashlib
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Final

__all__ = ["DEPENDENCY", "FAILURES", "INTERRUPTED", "TIMEOUT", "Failure", "Group", "Groups"]


@dataclass(frozen=True)
class Failure:
    """One stack, and a message with room for a number."""

    number: int
    error_type: str
    message: str
    file: str
    function: str
    has_traceback: bool = True

    @property
    def frame(self) -> str | None:
        return f"{self.file}:{self.function}" if self.has_traceback else None

    @property
    def normalised(self) -> str:
        return self.message.replace("{n}", "<n>")

    def text(self, chance: random.Random) -> str:
        return self.message.replace("{n}", str(chance.randint(1, 9_999)), 1).replace("{n}", "17")

    def traceback(self) -> str:
        line = 20 + self.number * 11
        return (
            'Traceback (most recent call last):\n  File "/srv/house/apps/base.py", line 88, in call\n'
            "    return await handler(event)\n"
            f'  File "/srv/house/{self.file}", line {line}, in {self.function}\n'
            f"    await self._{self.function}(event, retries={self.number})\n"
            '  File "/usr/lib/python3/site-packages/aiohttp/client.py", line 619, in _request\n'
            "    raise error\n"
        )


_WAYS: Final = """
ConnectionError|gateway 10.0.0.{n} refused the connection|apps/hub.py|send
LampError|lamp {n} does not answer|apps/lights.py|turn_on
KeyError|'brightness_{n}'|apps/lights.py|read_state
ValueError|could not convert string to float: 'unavailable' at sensor {n}|apps/climate.py|to_float
TypeError|unsupported operand type(s) for -: 'NoneType' and 'float'|apps/energy.py|difference
ClientError|500 from /api/services/light/turn_on after {n} ms|apps/hub.py|call_service
OSError|[Errno 113] No route to host 192.168.1.{n}|apps/media.py|wake
JSONDecodeError|Expecting value: line 1 column {n}|apps/weather.py|parse
AttributeError|'NoneType' object has no attribute 'attributes'|apps/presence.py|zone_of
IndexError|list index out of range: {n}|apps/history.py|last
RateLimitError|429, try again in {n} s|apps/notify.py|push
PermissionError|[Errno 13] Permission denied: '/var/lib/house/{n}.json'|apps/backup.py|write
ZeroDivisionError|float division by zero|apps/energy.py|cost
StateError|cover {n} is already moving|apps/covers.py|move
AuthError|token {n} expired|apps/notify.py|login
UnicodeDecodeError|'utf-8' codec can't decode byte 0xff in position {n}|apps/media.py|title
RuntimeError|valve {n} reported no flow|apps/garden.py|open_valve
ConnectionResetError|[Errno 104] reset by peer after {n} bytes|apps/security.py|stream
LookupError|no recipe for program {n}|apps/kitchen.py|program
AssertionError|expected 3 phases, found {n}|apps/energy.py|phases
VacuumError|stuck at ({n}, {n})|apps/vacuum.py|go_home
OverflowError|counter {n} went backwards|apps/energy.py|delta
EOFError|stream ended after {n} frames|apps/security.py|frames
NotImplementedError|scene {n} has no transition|apps/lights.py|transition
MemoryError|history of {n} rows does not fit|apps/history.py|load
FileNotFoundError|[Errno 2] No such file: '/srv/sounds/{n}.mp3'|apps/media.py|play
BrokenPipeError|[Errno 32] Broken pipe on socket {n}|apps/hub.py|write
""".strip().splitlines()

DEPENDENCY: Final = Failure(
    27, "DependencyError", "no entity light.room_{n} for parameter 'light'", "apps/base.py", "resolve",
    has_traceback=False,
)  # fmt: skip
TIMEOUT: Final = Failure(28, "TimeoutError", "took longer than 10 s", "apps/base.py", "call", has_traceback=False)
INTERRUPTED: Final = Failure(
    29, "ProcessInterrupted", "The process ended while this ran.", "", "", has_traceback=False
)  # fmt: skip

FAILURES: Final = (*(Failure(number, *line.split("|")) for number, line in enumerate(_WAYS)), DEPENDENCY, TIMEOUT)


@dataclass
class Group:
    """Failures of one registration that are one and the same."""

    id: int
    kind: str
    registration_id: int
    failure: Failure
    first: float
    last: float = 0.0
    count: int = 0
    sample: tuple[str, bytes, bytes] = ("", b"", b"")
    hours: Counter[int] = field(default_factory=Counter)

    @property
    def fingerprint(self) -> bytes:
        parts = (self.failure.error_type, self.failure.frame or "", self.failure.normalised)
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).digest()


class Groups:
    """Found or made as rows come up."""

    def __init__(self) -> None:
        self.by_key: dict[tuple[str, int, int], Group] = {}

    def seen(
        self, kind: str, registration_id: int, failure: Failure, at: float, message: str, trace: bytes, span: bytes
    ) -> int:
        key = (kind, registration_id, failure.number)
        group = self.by_key.get(key)
        if group is None:
            group = self.by_key[key] = Group(len(self.by_key) + 1, kind, registration_id, failure, at)
        group.count += 1
        group.hours[int(at) // 3600 * 3600] += 1
        group.first = min(group.first, at)
        if at >= group.last:
            group.last, group.sample = at, (message, trace, span)
        return group.id
