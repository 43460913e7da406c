"""A damaged file: told from what never was ours, set aside under a dated name, and a new one begun.

Nothing is deleted, and nothing of anybody else's is touched: a file that we did not open before it was damaged is
ours only if its bytes say so. A first sign of damage is tried again on a fresh connection, a second one on the same
file is believed; a sign that does not come again is left to the quick check. Two processes that meet the same damage
agree by a lock on the sidecar directory, under which the file is looked at once more: a fresh one is never set aside.
A file that is damaged within an hour of the last stays where it is (a dying disk would fill itself with such
files): recording waits as for any other failure.
"""

import fcntl
import glob
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from handspan.errors import CorruptDatabaseError, UnwritableDatabaseError
from handspan.records import Session
from handspan.store.connection import identity_of
from handspan.store.controls import Controls
from handspan.store.incidents import CORRUPT_DATABASE, DATABASE_REPLACED, Incident, Incidents
from handspan.store.liveness import sidecar_dir
from handspan.store.provenance import looks_like_ours
from handspan.store.quick_check import QuickCheck
from handspan.store.remains import Remains, carry_over, read_remains

__all__ = ["Damage", "files_set_aside"]

_log = logging.getLogger("handspan.store")

AGAIN_AFTER: Final = 3600.0  # seconds between two files set aside
LOCK_SECONDS: Final = 2.0  # another process sets it aside right now: renaming three names takes no longer
_MARK: Final = ".corrupt-"
_STAMP: Final = "%Y%m%dT%H%M%SZ"
_STAMP_CHARS: Final = 16
_LOGS: Final = ("-wal", "-shm")

Identity = tuple[int, int]
_NOWHERE: Final[Identity] = (-1, -1)


def files_set_aside(path: str) -> list[str]:
    """The damaged files that lie beside a database, oldest first; without their logs."""
    found = glob.glob(glob.escape(os.path.realpath(path) + _MARK) + "*")
    return sorted(each for each in found if not each.endswith(_LOGS))


class Damage:
    """What one writer does about damage. On the writer's thread, except what the quick check reports."""

    def __init__(
        self,
        path: str,
        session: Session,
        controls: Controls,
        incidents: Incidents,
        now: Callable[[], float],
        wake: Callable[[], None],
    ) -> None:
        self._path, self._session, self._controls, self._incidents = path, session, controls, incidents
        self._now, self._wake = now, wake
        self._last: Identity | None = None  # the file we recorded into
        self._suspect: Identity | None = None  # one that failed once
        self._found: tuple[Identity, str] | None = None  # by the quick check
        self._anew = False  # one was set aside, and the next is another
        self.check = QuickCheck(path, self._found_in_background)

    # --- what the writer tells ------------------------------------------------------------------------

    def opened(self, *, after_a_crash: bool) -> bool:
        """The file is open, the session begun. True: another than before, which knows none of our registrations."""
        before, self._last = self._last, identity_of(self._path)
        another = self._anew or before not in (None, self._last)
        self._anew = False
        if before not in (None, self._last):
            _log.warning("%s is gone or another file: beginning anew.", self._path)
            self._controls.again()
            detail = f"{self._path} was deleted, or another file was put in its place."
            self._incidents.note(Incident(DATABASE_REPLACED, detail, self._now()))
        if after_a_crash:
            self.check.start()
        return another

    def gone(self) -> None:
        """The name no longer leads to the file that is open. Said before it is closed: its inode may be given away."""
        self._last = _NOWHERE

    def went_well(self) -> None:
        """A turn without a failure. Raises what the quick check found meanwhile."""
        found, self._found = self._found, None
        if found is not None and found[0] == self._last:
            self._suspect = self._last
            raise CorruptDatabaseError(f"{self._path} is damaged ({found[1]}).") from sqlite3.DatabaseError(found[1])
        if self._suspect is not None:
            self._suspect = None
            self.check.start()

    def is_ours(self, error: BaseException) -> bool:
        """Whether the file that SQLite cannot make sense of is, or was, ours: no other is ever touched."""
        here = identity_of(self._path)
        return _is_damage(error) and here is not None and (here == self._last or looks_like_ours(self._path))

    def handle(self, error: BaseException, close: Callable[[], None]) -> BaseException | None:
        """None: it is dealt with, begin anew at once. Else what recording waits for."""
        if not self.is_ours(error):
            return error
        here = identity_of(self._path)
        try:
            if here == self._suspect and here is not None:
                return self._set_aside(here, error, close)
        finally:
            close()
        self._suspect = here
        return None

    def _found_in_background(self, identity: Identity, what: str) -> None:
        self._found = identity, what
        self._wake()

    # --- setting aside ----------------------------------------------------------------------------------

    def _set_aside(self, identity: Identity, error: BaseException, close: Callable[[], None]) -> BaseException | None:
        """Renamed first, closed then: SQLite leaves a log alone whose file has moved, else it would write it back."""
        why = str(error if isinstance(error, sqlite3.Error) else error.__cause__ or error)
        try:
            with _alone(self._path):
                if identity_of(self._path) != identity:
                    return None  # another process was quicker
                age = self._age_of_the_last()
                if age is not None and age < AGAIN_AFTER:
                    return CorruptDatabaseError(
                        f"{self._path} is damaged ({why}), {age / 60:.0f} minutes after another one was set aside.",
                        hint="The disk may be failing. Nothing was deleted; in an hour this one is set aside, too.",
                    )
                aside = _renamed(self._path, self._now())
                close()
        except OSError as failure:
            return UnwritableDatabaseError(f"{self._path} is damaged and cannot be set aside: {failure.strerror}.")
        self._suspect = self._last = None
        _log.error(
            "%s is damaged (%s). It was set aside as %s, nothing was deleted; recording goes on in a new file. "
            "`handspan db salvage %s --into NEW.db` saves what can be read.",
            self._path, why, aside, aside,
        )  # fmt: skip
        self._begin_anew(aside, why, read_remains(aside, self._path))
        return None

    def _begin_anew(self, aside: str, why: str, remains: Remains) -> None:
        self._anew = True
        self._controls.again()
        count = remains.count if remains.count or remains.complete else None
        self._incidents.note(Incident(CORRUPT_DATABASE, f"{why}; set aside as {aside}", self._now(), count=count))
        self._controls.note(lambda conn, parents, now: carry_over(conn, parents, self._session, remains, now))

    def _age_of_the_last(self) -> float | None:
        """Seconds since one was set aside, also by an earlier process; a stamp of the future says nothing."""
        ages = [self._now() - stamp for each in files_set_aside(self._path) if (stamp := _stamp_of(each)) is not None]
        return min((age for age in ages if age >= 0), default=None)


def _is_damage(error: BaseException) -> bool:
    return isinstance(error, CorruptDatabaseError) or _code(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def _code(error: BaseException) -> int:
    """SQLite's primary code, of the error or of its cause."""
    code = getattr(error, "sqlite_errorcode", None) or getattr(error.__cause__, "sqlite_errorcode", None) or 0
    return int(code) & 0xFF


def _renamed(path: str, now: float) -> str:
    """The file and its logs under a dated name that nothing else has. The log goes first: were the process to die in
    between, a log left beside the new file would be taken for its own."""
    real = os.path.realpath(path)
    stem = f"{real}{_MARK}{datetime.fromtimestamp(now, tz=UTC):{_STAMP}}"
    aside, number = stem, 1
    while any(os.path.lexists(aside + suffix) for suffix in ("", *_LOGS)):
        number += 1
        aside = f"{stem}.{number}"
    done: list[str] = []
    try:
        for suffix in (*_LOGS, ""):
            if suffix == "" or os.path.lexists(real + suffix):
                os.rename(real + suffix, aside + suffix)
                done.append(suffix)
    except OSError:
        for suffix in done:
            os.rename(aside + suffix, real + suffix)
        raise
    return aside


def _stamp_of(aside: str) -> float | None:
    try:
        stamp = aside.rpartition(_MARK)[2][:_STAMP_CHARS]
        return datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


@contextmanager
def _alone(path: str) -> Iterator[None]:
    """One process at a time: a lock on the sidecar directory itself, which leaves nothing behind.

    A file system without such locks does not keep a damaged file in the way: then the rename is all there is.
    """
    directory = sidecar_dir(path)
    directory.mkdir(exist_ok=True)
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _lock(fd)
        yield
    finally:
        os.close(fd)
        try:
            directory.rmdir()
        except OSError:
            pass  # sessions' locks are in it


def _lock(fd: int) -> None:
    ends = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= ends:
                raise
            time.sleep(0.01)
        except OSError:
            return  # no locks here
        else:
            return
