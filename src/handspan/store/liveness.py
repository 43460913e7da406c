"""Who lives: one ``flock`` file per session, beside the database.

The kernel frees a lock when its process dies, however it dies: a free lock means crashed. Pids are
reused and heartbeats stop for suspended machines, so neither decides; the heartbeat only dates the end.

A forked child inherits the descriptor, and with it would keep a dead parent's lock: it closes its copy.
"""

import fcntl
import os
import threading
from pathlib import Path

__all__ = ["SessionLock", "abandoned_journals", "is_alive", "noted", "sidecar_dir"]


def sidecar_dir(path: str) -> Path:
    """Where what belongs to sessions and not to the database lies: beside the file, whatever name leads to it."""
    return Path(f"{os.path.realpath(path)}.handspan")


def _lock_path(path: str, instance_id: str) -> Path:
    return sidecar_dir(path) / f"{instance_id}.lock"


class SessionLock:
    """Held from a session's first write to its end."""

    def __init__(self, path: str, instance_id: str) -> None:
        self._path = _lock_path(path, instance_id)
        self._fd: int | None = None
        self._mutex = threading.RLock()  # a signal's handler may run a command in the middle of it

    def acquire(self) -> None:
        """Twice is once, and again when somebody removed the file. Raises OSError where the directory cannot be
        written or has no locks, and where another process holds it."""
        with self._mutex:
            if self._fd is not None:
                if _same_file(self._path, self._fd):
                    return
                self.forget()
            fd = self._created()
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _same_file(self._path, fd):  # its holder ended in between, and took the name with it
                    raise BlockingIOError(self._path)
            except OSError:
                os.close(fd)
                raise
            self._fd = fd

    def _created(self) -> int:
        """The directory goes with its last lock, perhaps between our making it and our using it: try again."""
        for _ in range(100):
            try:
                self._path.parent.mkdir(exist_ok=True)
                return os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)  # others may ask, no more
            except (FileNotFoundError, FileExistsError):
                if not self._path.parent.parent.is_dir():
                    raise
        raise FileNotFoundError(self._path)

    def release(self) -> None:
        """Remove the file, then free the lock: nobody finds a free lock of a session that ended well."""
        if self._fd is not None:
            self._path.unlink(missing_ok=True)
            self.forget()
            try:
                self._path.parent.rmdir()
            except OSError:
                pass  # other sessions' locks are in it

    def forget(self) -> None:
        """Close without freeing: what a forked child does with its parent's."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _same_file(path: Path, fd: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(fd))
    except OSError:
        return False


def noted(path: str) -> set[str]:
    """Instances with a lock file, held or not: one may have died before its session was in the database."""
    return {found.stem for found in sidecar_dir(path).glob("*.lock")}


def abandoned_journals(path: str) -> list[Path]:
    """Journals of processes that are gone, which nobody has read back yet."""
    found = sorted(sidecar_dir(path).glob("*.journal"))
    return [each for each in found if not is_alive(path, each.name.partition(".")[0])]


def is_alive(path: str, instance_id: str) -> bool:
    """Whether the process of this session still holds its lock. What may not be asked counts as alive."""
    try:
        fd = os.open(_lock_path(path, instance_id), os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return True  # another user's: burying the living would be worse than a late crash
    except OSError:
        return False  # ended, or the database was copied here without its locks
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two who ask at once do not mislead each other
    except OSError:
        return True
    finally:
        os.close(fd)
    return False
