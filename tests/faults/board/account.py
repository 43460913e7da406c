"""What the application itself says it ran, kept outside handspan.

Slots of 16 bytes in a file mapped shared: what is written there is the kernel's, and no death of the process
takes it back. A slot's first word is its operation and is written last, so that a kill in the middle of one
leaves a hole and never a lie. Slots are handed out in order, from any thread.
"""

import itertools
import mmap
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

STATUSES = ("", "success", "error", "cancelled")

HEADER = 4096
SLOT = struct.Struct("<IIQ")  # operation, status, span id
SLOTS = 2_000_000  # 32 MB of a sparse file: ten minutes of the usual load
STARTED, RETURNED, CHILD = 1, 2, 3


class Book:
    """The worker's side. ``trouble`` is what must never happen: handspan's failure in the application's hands."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.ftruncate(self._file, HEADER + SLOTS * SLOT.size)
        self._map = mmap.mmap(self._file, HEADER + SLOTS * SLOT.size)
        self._next = itertools.count()
        self._troubles = os.open(f"{path}.troubles", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.used = 0
        self.open = True
        struct.pack_into("<I", self._map, 0, os.getpid())

    def started(self, span_id: int) -> None:
        self._note(STARTED, 0, span_id)

    def returned(self, span_id: int, status: str) -> None:
        self._note(RETURNED, STATUSES.index(status), span_id)

    def child(self, span_id: int) -> None:
        self._note(CHILD, 0, span_id)

    def trouble(self, what: object) -> None:
        os.write(self._troubles, f"{type(what).__name__}: {what}\n".replace("\0", "").encode(errors="replace"))

    @property
    def full(self) -> bool:
        return self.used > SLOTS - 10_000

    def _note(self, operation: int, status: int, span_id: int) -> None:
        if self.open:
            slot = next(self._next)
            at = HEADER + slot * SLOT.size
            SLOT.pack_into(self._map, at, 0, status, span_id)
            struct.pack_into("<I", self._map, at, operation)
            self.used = slot


@dataclass
class Account:
    """The referee's side: one process, as it saw itself."""

    name: str
    """The worker's, which it gave its session as ``service_version``; a forked child has its parent's."""
    pid: int
    started: dict[int, int] = field(default_factory=dict)
    """Span id to slot: which came first can be asked."""
    returned: dict[int, tuple[int, str]] = field(default_factory=dict)
    """Span id to slot and status."""
    children: dict[int, int] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)


def used_slots(path: Path) -> int:
    """How far the process had come when we looked: everything in these slots happened before."""
    last = 0
    with path.open("rb") as file:
        file.seek(HEADER)
        for slot, (operation, _, _) in enumerate(SLOT.iter_unpack(_written(file.read()))):
            if operation:
                last = slot + 1
    return last


def read_account(path: Path) -> Account:
    with path.open("rb") as file:
        (pid,) = struct.unpack("<I", file.read(HEADER)[:4])
        found = Account(path.name.partition(".")[0], pid)
        for slot, (operation, status, span_id) in enumerate(SLOT.iter_unpack(_written(file.read()))):
            if operation == STARTED:
                found.started[span_id] = slot
            elif operation == RETURNED:
                found.returned[span_id] = slot, STATUSES[status]
            elif operation == CHILD:
                found.children[span_id] = slot
    troubles = Path(f"{path}.troubles")
    found.troubles = troubles.read_text(encoding="utf-8").splitlines() if troubles.exists() else []
    return found


def _written(data: bytes) -> bytes:
    """Without the unused end, in whole slots; a hole inside stays."""
    used = len(data.rstrip(b"\0"))
    return data[: -(-used // SLOT.size) * SLOT.size]
