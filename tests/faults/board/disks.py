"""Disks that fill up, fail, slow down or turn read-only, and locks that others hold."""

import contextlib
import errno
import functools
import mmap
import os
import resource
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from board.field import Field, Worker
from board.referee import Verdict, judge
from board.row import LeftOut, Result, row

WORDS = ("write", "sync", "open", "slow_write", "slow_sync", "hits")
WAITS, GOES_ON = "|ERROR|Recording waits", "|WARNING|Recording goes on after"
MOST_LINES = 5  # the store's two, the journal's two, and one that says that the file is another

LOSES_ON_FAILURE = ("give-up-on-failure", "writer-dies", "line-per-try", "lose-some")


class Disk:
    """The shim's control words."""

    def __init__(self, field: Field, folder: Path) -> None:
        self._path = field.path / f"{folder.name}.control"
        self._path.write_bytes(b"\0" * 4096)
        with self._path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 4096)
        self.environment = {
            "LD_PRELOAD": shim(), "BOARD_SHIM_CONTROL": str(self._path), "BOARD_SHIM_PATH": str(folder),
        }  # fmt: skip

    def set(self, **words: int) -> None:
        for name, value in words.items():
            struct.pack_into("<i", self._map, 4 * WORDS.index(name), value)

    @property
    def hits(self) -> int:
        return int(struct.unpack_from("<i", self._map, 4 * WORDS.index("hits"))[0])


@functools.cache
def shim() -> str:
    """The compiled library."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if sys.platform != "linux" or compiler is None:
        raise LeftOut("needs Linux and a C compiler")
    folder = tempfile.mkdtemp(prefix="handspan-shim-")
    built = os.path.join(folder, "shim.so")
    source = str(Path(__file__).with_name("shim.c"))
    done = subprocess.run(
        [compiler, "-O1", "-shared", "-fPIC", "-o", built, source, "-ldl"], check=False, capture_output=True, text=True
    )
    if done.returncode:
        raise LeftOut(f"the compiler refuses the shim: {done.stderr.splitlines()[-1] if done.stderr else '?'}")
    _built.append(folder)
    return built


_built: list[str] = []


def forget_shim() -> None:
    for folder in _built:
        shutil.rmtree(folder, ignore_errors=True)
    _built.clear()
    shim.cache_clear()


def episode(verdict: Verdict, worker: Worker, *, episodes: int = 1) -> None:
    """One line at its start, one at its end with the counts, none per row."""
    lines = worker.episode()
    waits, goes_on = (sum(word in line for line in lines) for word in (WAITS, GOES_ON))
    if (waits, goes_on) != (episodes, episodes) or len(lines) > MOST_LINES * episodes:
        verdict.problem(
            f"{waits} lines say that recording waits, {goes_on} that it goes on, of {len(lines)}: {lines[:6]}"
        )
    for line in lines:
        if GOES_ON in line and not ("waited" in line and "lost" in line):
            verdict.problem(f"no counts: {line}")


def goes_on(worker: Worker, runs: int) -> None:
    """The application runs so much more, fault or not."""
    worker.until(used=worker.ask("health")["used"] + runs)


def _through(field: Field, result: Result, db: Path, worker: Worker, ends: "contextlib.AbstractContextManager[object]",
             *, episodes: int = 1, stay: float = 0.0) -> None:  # fmt: skip
    """The fault is on inside ``ends``: it is noticed, the application goes on, and it is off again behind it."""
    worker.load()
    with ends:
        if episodes:
            worker.until(failing=True)
        goes_on(worker, 2000)
        field.pause(stay)
    recovered = worker.recovered()
    goes_on(worker, 1000)
    expected = [worker.close()]
    field.next_start(db)
    verdict = judge(db, expected)
    episode(verdict, worker, episodes=episodes)
    result.add(verdict, recovered)


@contextlib.contextmanager
def _shimmed(disk: Disk, **words: int) -> Iterator[None]:
    before = disk.hits
    disk.set(**words)
    yield
    disk.set(**dict.fromkeys(words, 0))
    if disk.hits == before:
        raise RuntimeError("the shim met no call: nothing is shown")


def _with_shim(field: Field, result: Result, tries: int, *, episodes: int = 1, stay: float = 0.2, **words: int) -> None:
    for _ in range(tries):
        folder = field.folder()
        disk, db = Disk(field, folder), folder / "house.db"
        worker = field.opened(db, environment=disk.environment, commit_interval=0.05)
        _through(field, result, db, worker, _shimmed(disk, **words), episodes=episodes,
                 stay=stay * (5 if field.full else 1))  # fmt: skip
    result.note = "LD_PRELOAD"


@row("disk full, then space again", tries=1, full=10, switches=LOSES_ON_FAILURE)
def disk_full(field: Field, result: Result, tries: int) -> None:
    """A small tmpfs as root; else RLIMIT_FSIZE on the application."""
    root = os.geteuid() == 0
    for _ in range(tries):
        folder = field.folder()
        if root:
            try:
                field.mount(folder, "6m")
            except (OSError, subprocess.CalledProcessError):
                root = False
        worker = field.opened(folder / "house.db", commit_interval=0.05)
        if root:
            result.note = "a tmpfs of 6 MB"
            fault = _ballast(folder / "ballast")
        else:
            result.note = "RLIMIT_FSIZE, not root"
            fault = _limited(worker)
        _through(field, result, folder / "house.db", worker, fault, stay=0.2)


@contextlib.contextmanager
def _ballast(path: Path) -> Iterator[None]:
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    yield
    path.unlink()


@contextlib.contextmanager
def _limited(worker: Worker) -> Iterator[None]:
    """No file may grow past its size of now; the account is of full size already."""
    if not hasattr(resource, "prlimit"):
        raise LeftOut("needs root, or Linux's prlimit")
    size = 64 * 1024  # what is smaller than the WAL already is
    hard = resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE)[1]
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (size, hard))
    yield
    resource.prlimit(worker.process.pid, resource.RLIMIT_FSIZE, (hard, hard))


@row("ENOSPC on write", tries=1, full=10, switches=LOSES_ON_FAILURE)
def no_space(field: Field, result: Result, tries: int) -> None:
    """No write fits, and no file can be made."""
    _with_shim(field, result, tries, write=errno.ENOSPC, open=errno.ENOSPC)


@row("EIO on write", tries=1, full=10, switches=LOSES_ON_FAILURE)
def io_error_on_write(field: Field, result: Result, tries: int) -> None:
    """The disk refuses every write."""
    _with_shim(field, result, tries, write=errno.EIO)


@row("EIO on fsync", tries=1, full=10, switches=("commit-twice", "lose-some"))
def io_error_on_fsync(field: Field, result: Result, tries: int) -> None:
    """SQLite syncs at a checkpoint only (synchronous=NORMAL), perhaps after a COMMIT that has succeeded."""
    for _ in range(tries):
        folder = field.folder()
        disk, db = Disk(field, folder), folder / "house.db"
        worker = field.opened(db, environment=disk.environment, commit_interval=0.05)
        worker.load()
        disk.set(sync=errno.EIO)
        while disk.hits == 0:  # it takes a WAL of 1,000 pages
            goes_on(worker, 2000)
        goes_on(worker, 1000)
        disk.set(sync=0)
        recovered = worker.recovered()
        expected = [worker.close()]
        field.next_start(db)
        verdict = judge(db, expected)
        # Each try may get through a COMMIT and fail in its checkpoint: episodes begin and end with it, in pairs.
        lines = worker.episode()
        waits, ends = (sum(word in line for line in lines) for word in (WAITS, GOES_ON))
        if waits != ends:
            verdict.problem(f"{waits} episodes began and {ends} ended: {lines[:6]}")
        result.add(verdict, recovered)
    result.note = "LD_PRELOAD"


@row("read-only remount", tries=1, full=10, switches=LOSES_ON_FAILURE)
def read_only(field: Field, result: Result, tries: int) -> None:
    """EROFS on every write and open, as the kernel answers after an emergency remount."""
    _with_shim(field, result, tries, write=errno.EROFS, open=errno.EROFS, sync=errno.EROFS)


@row("read-only at the start", tries=1, full=5, switches=("writer-dies", "lose-some"))
def read_only_at_start(field: Field, result: Result, tries: int) -> None:
    """A real tmpfs, mounted read-only while the application starts, and writable later."""
    if os.geteuid() != 0:
        raise LeftOut("needs root to mount a tmpfs")
    for _ in range(tries):
        folder = field.folder()
        try:
            field.mount(folder, "64m")
            field.remount(folder, "ro")
        except (OSError, subprocess.CalledProcessError):
            raise LeftOut("this root may not mount") from None
        worker = field.opened(folder / "house.db", open_timeout=0.5, commit_interval=0.05)

        @contextlib.contextmanager
        def writable_again(folder: Path = folder) -> Iterator[None]:
            yield
            field.remount(folder, "rw")

        _through(field, result, folder / "house.db", worker, writable_again())
    result.note = "a tmpfs"


@row("slow write and fsync", tries=1, full=5, switches=("lose-some",))
def slow_disk(field: Field, result: Result, tries: int) -> None:
    """Every write takes 2 ms, every sync 200: no failure, only time. The application runs on."""
    _with_shim(field, result, tries, episodes=0, stay=0.3, slow_write=2_000, slow_sync=200_000)


@contextlib.contextmanager
def _locked(db: Path) -> Iterator[None]:
    with closing(sqlite3.connect(db, isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@row("another process holds the write lock", tries=1, full=2, switches=LOSES_ON_FAILURE)
def locked(field: Field, result: Result, tries: int) -> None:
    """BEGIN IMMEDIATE, for a moment in the small version, for a minute in the full one."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, commit_interval=0.05)
        _through(field, result, db, worker, _locked(db), stay=60.0 if field.full else 0.5)
    result.note = "60 s" if field.full else "a second"


@row("memory's bound, reached", tries=1, full=5, switches=("no-ledger", "unbounded", "line-per-try"))
def bound(field: Field, result: Result, tries: int) -> None:
    """The lock is held until the queue's bound has been passed thrice: it sheds, and the ledger tells how many."""
    for _ in range(tries):
        verdict = _past_the_bound(field, result, journal=False)
        if not verdict.ledger:
            verdict.problem("nothing was shed: nothing is shown")
    result.note = f"{result.verdict.ledger} shed, all in the ledger"


@row("memory's bound, with the journal", tries=1, full=5, switches=("lose-some", "unbounded"))
def bound_with_journal(field: Field, result: Result, tries: int) -> None:
    """The same, and nothing is shed: what memory does not hold is read back from the journal."""
    for _ in range(tries):
        verdict = _past_the_bound(field, result)
        if verdict.ledger:
            verdict.problem(f"{verdict.ledger} runs were shed although the journal has them")


def _past_the_bound(field: Field, result: Result, **settings: object) -> Verdict:
    db = field.folder() / "house.db"
    worker = field.opened(db, commit_interval=0.05, segment_max_spans=200, queue_max_spans=1000, **settings)
    worker.load()
    with _locked(db):
        worker.until(failing=True)
        goes_on(worker, 7000)  # two entries a run: more than 3,000 of them
    recovered = worker.recovered()
    expected = [worker.close()]
    field.next_start(db)
    verdict = judge(db, expected)
    episode(verdict, worker)
    result.add(verdict, recovered)
    return result.verdict
