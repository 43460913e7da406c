"""Files and directories that go, come back or turn into something else; clocks, crowds and hostile applications."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from board.disks import episode, goes_on
from board.field import Field
from board.referee import judge
from board.row import Result, row


def _kept(db: Path, to: Path) -> Path:
    """Second names of the file and its WAL: what goes on in them while nobody can see them can be read later."""
    to.mkdir()
    for path in (db, Path(f"{db}-wal")):
        if path.exists():
            os.link(path, to / path.name)
    return to / db.name


@row("the file deleted", tries=1, full=15, switches=("any-file-is-ours", "lose-some"))
def deleted(field: Field, result: Result, tries: int) -> None:
    """Noticed; a new one is begun; what was committed to the old one went with it, and nothing else."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, commit_interval=0.05)
        worker.load()
        old = _kept(db, db.parent / "old")
        for path in field.random.choice(([db], [Path(f"{db}{end}") for end in ("", "-wal", "-shm")])):
            path.unlink(missing_ok=True)
        recovered, gone_before = worker.recovered(), worker.settled()
        goes_on(worker, 1000)
        expected = worker.close()
        expected.gone_before = gone_before
        field.next_start(db)
        verdict = judge(db, [expected], gone=[old])
        result.add(verdict, recovered)
    result.note = f"{result.verdict.excused} went with the old file"


@row("the file replaced", tries=1, full=15, switches=("any-file-is-ours", "lose-some"))
def replaced(field: Field, result: Result, tries: int) -> None:
    """A backup of an hour ago takes its place."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        first = field.opened(db, commit_interval=0.05)
        first.load()
        expected = [first.close()]
        backup = db.with_name("backup.db")
        with closing(sqlite3.connect(db)) as source, closing(sqlite3.connect(backup)) as target:
            source.backup(target)
        worker = field.opened(db, commit_interval=0.05)
        worker.load()
        old = _kept(db, db.parent / "old")
        for end in ("-wal", "-shm"):
            Path(f"{db}{end}").unlink(missing_ok=True)
        backup.replace(db)
        recovered, gone_before = worker.recovered(), worker.settled()
        goes_on(worker, 1000)
        expected.append(worker.close())
        expected[-1].gone_before = gone_before
        field.next_start(db)
        result.add(judge(db, expected, gone=[old]), recovered)
    result.note = f"{result.verdict.excused} went with the old file"


@row("the directory gone and back", tries=1, full=15, switches=("writer-dies", "line-per-try", "lose-some"))
def directory_gone(field: Field, result: Result, tries: int) -> None:
    """As when a disk is pulled and put in again."""
    for _ in range(tries):
        folder = field.folder()
        home = folder / "home"
        home.mkdir()
        db = home / "house.db"
        worker = field.opened(db, commit_interval=0.05)
        worker.load()
        home.rename(folder / "away")
        worker.until(failing=True)
        goes_on(worker, 2000)
        (folder / "away").rename(home)
        recovered = worker.recovered()
        goes_on(worker, 1000)
        expected = [worker.close()]
        field.next_start(db)
        verdict = judge(db, expected)
        episode(verdict, worker)
        result.add(verdict, recovered)


@row("the directory deleted and made anew", tries=1, full=15, switches=("no-session-lock", "lose-some"))
def directory_deleted(field: Field, result: Result, tries: int) -> None:
    """Everything beside the file goes, too; and a second process that starts then must not take us for dead."""
    for _ in range(tries):
        folder = field.folder()
        home = folder / "home"
        home.mkdir()
        db = home / "house.db"
        worker = field.opened(db, commit_interval=0.05)
        worker.load()
        old = _kept(db, folder / "old")
        shutil.rmtree(home)
        worker.until(failing=True)
        home.mkdir()
        recovered, gone_before = worker.recovered(), worker.settled()
        field.next_start(db)
        goes_on(worker, 1000)
        expected = worker.close()
        expected.gone_before = gone_before
        verdict = judge(db, [expected], gone=[old])
        episode(verdict, worker)
        result.add(verdict, recovered)
    result.note = f"{result.verdict.excused} went with the old file"


@row("corrupt database at the start", tries=1, full=10, switches=("lose-some",))
def corrupt(field: Field, result: Result, tries: int) -> None:
    """The file is damaged while nobody runs: the next start records, whatever has become of the old rows."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        dead = field.opened(db, commit_interval=0.05)
        dead.load(2000)
        dead.kill()
        Path(f"{db}-wal").unlink(missing_ok=True)
        data = bytearray(db.read_bytes() or b"SQLite format 3\0")
        data[100:] = field.random.randbytes(max(8000, len(data) - 100))  # the header stays
        db.write_bytes(bytes(data))
        worker = field.opened(db, commit_interval=0.05, open_timeout=2.0)
        recovered = worker.recovered()
        worker.load()
        expected = [worker.close()]
        field.next_start(db)
        verdict = judge(db, expected)
        result.add(verdict, recovered)
    result.note = "the damaged file's rows are not counted"


@row("wall clock jumps", tries=1, full=15, switches=("wall-durations", "lose-some"))
def clock_jumps(field: Field, result: Result, tries: int) -> None:
    """Hours, days and years, back and forth, under load; then it is killed."""
    for number in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, commit_interval=0.05)
        for _ in range(6):
            goes_on(worker, 200)
            days = field.random.choice((-3650, -1, -1 / 24, 1 / 24, 1, 365))
            worker.ask("jump", seconds=days * 86400)
        goes_on(worker, 200)
        if number % 2 and field.full:
            worker.ask("flush", timeout=20)
        expected = [worker.close()]
        seconds = field.next_start(db)
        result.add(judge(db, expected), seconds)


@row("thousands of registrations", tries=1, full=2, switches=("lose-some", "raise-into-the-host"), seconds=90)
def registrations(field: Field, result: Result, tries: int) -> None:
    """10,000 in the full version: each is registered and run once, under load."""
    count = 10_000 if field.full else 2_000
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, load={"rate": 500})
        worker.ask("register", count=count)
        expected = [worker.close()]
        seconds = field.next_start(db)
        verdict = judge(db, expected)
        with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True)) as conn:
            (stored,) = conn.execute(
                "SELECT count(*) FROM listeners WHERE name LIKE 'n%' AND topic LIKE 't_%'"
            ).fetchone()
        if stored < count:
            verdict.problem(f"{stored} of {count} registrations are in the file")
        result.add(verdict, seconds)
    result.note = f"{count}"


@row("hostile exceptions and hooks", tries=1, full=10, switches=("failures-forgotten", "raise-into-the-host"))
def hostile(field: Field, result: Result, tries: int) -> None:
    """No text to be had, a megabyte, lone surrogates, NUL, NaN, recursion, groups; hooks that raise."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, load={"rate": 500, "hostile": True})
        worker.load(1500)
        expected = [worker.close()]
        seconds = field.next_start(db)
        result.add(judge(db, expected), seconds)


@row("a handler that blocks the loop", tries=1, full=5, switches=("no-session-lock",))
def blocked(field: Field, result: Result, tries: int) -> None:
    """The writer goes on, and another process that starts meanwhile does not take it for dead."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, commit_interval=0.05)
        worker.load()
        worker.tell("block", seconds=1.5)
        field.next_start(db, heartbeat_interval=0.1)
        worker.wait_for("block")
        expected = [worker.close()]
        seconds = field.next_start(db)
        result.add(judge(db, [*expected]), seconds)
