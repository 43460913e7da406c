"""Processes that end, in every way and at any instant."""

import signal
from pathlib import Path

from board.account import read_account, used_slots
from board.field import Field, Worker
from board.referee import Expected, judge
from board.row import Result, row

CHAIN = 25  # kills on one file before the referee reads it: each start finds what the one before left


def _chains(tries: int) -> list[int]:
    return [min(CHAIN, tries - begun) for begun in range(0, tries, CHAIN)]


@row(
    "kill -9 under load", tries=3, full=200,
    switches=("journal-off", "no-burial", "commit-twice", "lose-some", "untold", "silent"),
)  # fmt: skip
def kill_under_load(field: Field, result: Result, tries: int) -> None:
    """At a random instant, several thousand runs a second going on; the next start replays, and is killed, too."""
    for links in _chains(tries):
        db = field.folder() / "house.db"
        expected = []
        for _ in range(links):
            worker = field.opened(db, commit_interval=field.random.choice((0.05, 0.5, 60)))
            worker.load(field.random.randrange(300, 3000))
            field.pause(field.random.uniform(0, 0.05))
            expected.append(worker.kill())
        seconds = field.next_start(db)
        result.add(judge(db, expected), seconds)
        result.tries += links - 1


@row("kill -9 at rest", tries=1, full=20, switches=("journal-off",))
def kill_at_rest(field: Field, result: Result, tries: int) -> None:
    """Nothing goes on any more but two runs that hang; no commit came since."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, commit_interval=60)
        worker.load()
        worker.ask("rest")
        expected = [worker.kill()]
        seconds = field.next_start(db)
        result.add(judge(db, expected), seconds)


@row("kill -9 during start and replay", tries=1, full=60, switches=("journal-off", "no-burial"))
def kill_during_start(field: Field, result: Result, tries: int) -> None:
    """The next start is killed while it opens the file and takes over what the dead left."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, commit_interval=60)
        worker.load(3000)
        expected = [worker.kill()]
        for _ in range(3):
            heir = field.worker(db, load={}, whole=True)
            heir.wait_for("opening")
            field.pause(field.random.uniform(0, 0.15))
            heir.kill()
        seconds = field.next_start(db)
        result.add(judge(db, expected), seconds)


@row("kill -9 during close", tries=2, full=40, switches=("journal-off", "commit-twice"))
def kill_during_close(field: Field, result: Result, tries: int) -> None:
    """While close() waits, commits and ends the session."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, commit_interval=60, shutdown_timeout=0.5)
        worker.load()
        worker.tell("close", leave=2)  # it waits 0.4 s for them, then it commits
        worker.wait_for("closing")
        field.pause(field.random.uniform(0, 0.6))
        worker.process.kill()
        worker.end()
        # What hangs is recorded as interrupted by the close, or by the next start; the session ends either way.
        seconds = field.next_start(db)
        result.add(judge(db, [Expected(worker.account, None)]), seconds)


@row("kill -9 of three processes on one file", tries=1, full=30, switches=("journal-off", "no-session-lock"))
def kill_several(field: Field, result: Result, tries: int) -> None:
    """They start one after the other, none takes another for dead, and all die."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        workers: list[Worker] = []
        for _ in range(3):
            workers.append(field.opened(db, load={"rate": 800}))
            workers[-1].load(200)
            workers[-1].ask("flush", timeout=20)  # so that what it has in flight is seen by the one that starts next
        for worker in field.random.sample(workers, 3):
            field.pause(field.random.uniform(0, 0.2))
            worker.process.kill()
        for worker in workers:
            worker.end()
        seconds = field.next_start(db)
        result.add(judge(db, [Expected(worker.account, "crash") for worker in workers]), seconds)


@row("os._exit", tries=1, full=10, switches=("journal-off",))
def os_exit(field: Field, result: Result, tries: int) -> None:
    """No atexit hook, no signal: gone."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, commit_interval=60)
        worker.load(field.random.randrange(300, 3000))
        worker.tell("os_exit")
        worker.end()
        seconds = field.next_start(db)
        result.add(judge(db, [Expected(worker.account, "crash")]), seconds)


@row("SIGTERM under load", tries=2, full=40, switches=("no-sigterm",))
def sigterm(field: Field, result: Result, tries: int) -> None:
    """What ended before the signal is in the file before the process dies of it."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, commit_interval=60)
        worker.load(field.random.randrange(300, 3000))
        mark = used_slots(worker.account)
        worker.signal(signal.SIGTERM)
        code = worker.end()
        verdict = judge(db, [Expected(worker.account, "clean_shutdown", mark=mark)])  # before any next start
        if code != -signal.SIGTERM:
            verdict.problem(f"it ended with {code}, not by the signal")
        result.add(verdict, field.next_start(db))


@row("exit without close", tries=1, full=10, switches=("no-atexit",))
def exit_without_close(field: Field, result: Result, tries: int) -> None:
    """The program falls off its end."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, commit_interval=60)
        worker.load()
        worker.tell("exit")
        code = worker.end()
        verdict = judge(db, [Expected(worker.account)])
        if code:
            verdict.problem(f"it ended with {code}")
        result.add(verdict, field.next_start(db))


@row("fork under load", tries=1, full=15, switches=("fork-unnoticed",))
def fork(field: Field, result: Result, tries: int) -> None:
    """Children in the middle of everything: one closes, one flushes and leaves by os._exit; then all is killed."""
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db)
        expected = []
        for number, ending in enumerate(("close", "os_exit")):
            worker.load(400 * (number + 1))
            code = worker.ask("fork", ending=ending, runs=100)["code"]
            child = Path(f"{worker.account}.child")
            kept = child.with_name(f"{worker.name}.child{number}")
            child.rename(kept)
            Path(f"{child}.troubles").rename(f"{kept}.troubles")
            expected.append(Expected(kept, "clean_shutdown" if ending == "close" else "crash"))
            if code:
                result.verdict.problem(f"a child ended with {code}")
        worker.load(1600)
        expected.append(worker.close())
        seconds = field.next_start(db)
        result.add(judge(db, expected), seconds)


def _journals(db: Path) -> list[Path]:
    return sorted(Path(f"{db}.handspan").glob("*.journal"))


def _damaged(field: Field, result: Result, tries: int, how: str) -> None:
    for _ in range(tries):
        db = field.folder() / "house.db"
        worker = field.opened(db, commit_interval=60)
        worker.load()
        dead = worker.kill()
        found = [path for path in _journals(db) if path.stat().st_size > 0]
        if not found:
            result.verdict.problem("there is no journal to damage")
        else:
            page = max(found, key=lambda path: (path.stat().st_size, path.name))
            share = _damage(field, page, how)
            dead.may_lose = int(len(read_account(dead.account).started) * share * 1.25) + 30 if share else 0
        seconds = field.next_start(db)
        result.add(judge(db, [dead]), seconds)


def _damage(field: Field, page: Path, how: str) -> float:
    """Which share of the records that may cost: what lay behind the place, and nothing before it."""
    data = page.read_bytes()
    at = field.random.randrange(len(data) // 2, len(data))
    if how == "cut":
        page.write_bytes(data[:at])
    elif how == "flip":
        page.write_bytes(data[:at] + bytes([data[at] ^ (1 << field.random.randrange(8))]) + data[at + 1 :])
    else:
        page.write_bytes(data + field.random.randbytes(field.random.randrange(1, 5000)))
        return 0.0
    return 1 - at / len(data)


@row("journal cut off anywhere", tries=1, full=60, switches=("journal-off",))
def journal_cut(field: Field, result: Result, tries: int) -> None:
    """As after a power cut: what is whole is kept, the rest is gone, the start succeeds."""
    _damaged(field, result, tries, "cut")


@row("journal with a bit flipped", tries=1, full=60, switches=("journal-off",))
def journal_flip(field: Field, result: Result, tries: int) -> None:
    """What lies before it is kept."""
    _damaged(field, result, tries, "flip")


@row("journal with garbage behind", tries=1, full=30, switches=("journal-off",))
def journal_garbage(field: Field, result: Result, tries: int) -> None:
    """Costs nothing."""
    _damaged(field, result, tries, "garbage")
