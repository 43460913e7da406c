"""Whether a file that SQLite cannot make sense of was one of ours, before something happened to it.

Only its own bytes and those of its log count, and a beginning that is nobody's where our sessions' locks lie. A
text file or somebody else's data has none of these marks, and is never touched.

Reading it is the one place that opens the file without SQLite. Closing a descriptor drops SQLite's locks on the file
in the whole process, so the descriptor is kept, one a file, as long as the process lives.
"""

import os
import stat
from pathlib import Path
from typing import Final

from handspan.store.connection import APPLICATION_ID
from handspan.store.liveness import is_alive, noted

__all__ = ["looks_like_ours"]

HEAD_BYTES: Final = 1024 * 1024  # the schema lies in the first pages of a file of ours
LOG_BYTES: Final = 16 * 1024 * 1024  # as large as a log of ours is left
HEADER_BYTES: Final = 100
LOG_HEADER_BYTES: Final = 32
FRAME_HEADER_BYTES: Final = 24
_OUR_ID: Final = APPLICATION_ID.to_bytes(4, "big")
_ID_AT: Final = slice(68, 72)
_SQLITE: Final = b"SQLite format 3\0"
_OUR_TABLES: Final = (b"CREATE TABLE handler_invocations (", b"CREATE TABLE registration_holders (")
_LOG_MAGIC: Final = (b"\x37\x7f\x06\x82", b"\x37\x7f\x06\x83")

_kept: dict[tuple[int, int], int] = {}


def looks_like_ours(path: str) -> bool:
    """Never raises; what cannot be read is not ours."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            return False
        key = found.st_dev, found.st_ino
        if key not in _kept:
            _kept[key] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        head = os.pread(_kept[key], HEAD_BYTES, 0)
        return _bytes_are_ours(head) or _log_is_ours(Path(f"{path}-wal")) or _nobodys_beside_ours(head, path)
    except OSError:
        return False


def _bytes_are_ours(head: bytes) -> bool:
    if b"\0" not in head:
        return False  # a text, be it a dump of our schema
    return head[_ID_AT] == _OUR_ID or all(table in head for table in _OUR_TABLES)


def _log_is_ours(log: Path) -> bool:
    """A log that holds the first page holds the application's id. It may be opened: SQLite has no locks on it."""
    if not log.is_file():
        return False
    with log.open("rb") as file:
        header = file.read(LOG_HEADER_BYTES)
        page_size = int.from_bytes(header[8:12], "big")
        if header[:4] not in _LOG_MAGIC or not 512 <= page_size <= 65_536:
            return False
        while file.tell() < LOG_BYTES:
            frame = file.read(FRAME_HEADER_BYTES + page_size)
            if len(frame) < FRAME_HEADER_BYTES + HEADER_BYTES:
                return False
            if int.from_bytes(frame[:4], "big") == 1:
                return frame[FRAME_HEADER_BYTES:][_ID_AT] == _OUR_ID
    return False


def _nobodys_beside_ours(head: bytes, path: str) -> bool:
    """A blank beginning where sessions of ours lock; or SQLite's with nobody's id where one of ours died (its log,
    which had the id, is gone)."""
    if head[:HEADER_BYTES] == bytes(HEADER_BYTES):
        return bool(noted(path))
    unsigned = head.startswith(_SQLITE) and head[_ID_AT] == bytes(4)
    return unsigned and any(not is_alive(path, instance_id) for instance_id in noted(path))
