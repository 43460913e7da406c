"""``handspan tail`` beside a process that really records, in a process of its own."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import seeded
from children import Child
from handspan.clock import instant_from_ns
from handspan.store.queries.runs import RunFilter
from handspan.store.queries.tail import Follower
from handspan.store.service import DatabaseService
from seeded import NOW, raw

WRITER = """
async def bad(event): raise ValueError(f"no {event}")

async def main():
    async with make(handle_sigterm=False, commit_interval=0.05) as telemetry:
        good, failing = register(telemetry, name="good"), register(telemetry, bad, name="bad")
        say("ready")
        for line in sys.stdin:
            word, _, number = line.strip().partition(" ")
            for n in range(int(number or 1)):
                await telemetry.execute(InvokeHandler(good if word == "good" else failing, event=n))
            await telemetry.aflush()
            say("done")

import logging
logging.getLogger("handspan").setLevel(logging.CRITICAL)
asyncio.run(main())
"""


class Writer:
    """Records when it is told to, and says when that is in the file."""

    def __init__(self, db: str) -> None:
        from children import PRELUDE

        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + WRITER, db], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._wait("ready")

    def record(self, name: str, number: int = 1) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{name} {number}\n")
        self.process.stdin.flush()
        self._wait("done")

    def _wait(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline().strip() == word

    def end(self) -> None:
        self.process.communicate()


class Tail:
    """The command, with its lines."""

    def __init__(self, db: str, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "handspan.cli", "tail", "--db", db, "--json", *args],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip

    def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, self.process.stderr.read() if self.process.stderr else ""
        found: dict[str, Any] = json.loads(line)
        return found

    def complaint(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def end(self) -> tuple[list[dict[str, Any]], str]:
        out, err = self.process.communicate(timeout=60)
        return [json.loads(line) for line in out.splitlines()], err


@pytest.fixture
def writer(db: str) -> Iterator[Writer]:
    made = Writer(db)
    yield made
    made.process.kill()
    made.process.communicate()


@pytest.fixture
def tail(db: str) -> Iterator[Callable[..., Tail]]:
    made: list[Tail] = []

    def start(*args: str, path: str = db) -> Tail:
        made.append(Tail(path, *args))
        return made[-1]

    yield start
    for each in made:
        each.process.kill()
        each.process.communicate()


def names(found: list[dict[str, Any]]) -> list[str]:
    return [run["name"] for run in found]


def test_it_follows_another_process(writer: Writer, tail: Callable[..., Tail]) -> None:
    """The last ones first, then each run once as it is stored."""
    writer.record("good", 3)
    following = tail("-n", "2", "--count", "7")
    first = [following.next(), following.next()]
    writer.record("bad")
    writer.record("good", 4)
    found, err = following.end()
    assert (following.process.returncode, err) == (0, "")
    assert names([*first, *found]) == ["good", "good", "bad", "good", "good", "good", "good"]
    assert len({run["span_id"] for run in [*first, *found]}) == 7
    assert found[0]["error_message"] == "no 0"


def test_it_filters(writer: Writer, tail: Callable[..., Tail]) -> None:
    """What does not match is passed over, and does not count."""
    writer.record("bad")
    following = tail("--status", "error", "--handler", "a.B.b*", "--count", "3")
    following.next()
    writer.record("good", 600)  # more than one look reads
    writer.record("bad", 2)
    found, _ = following.end()
    assert names(found) == ["bad", "bad"]


def test_it_waits_for_a_file(db: str, tail: Callable[..., Tail]) -> None:
    """It says so once, and then shows all that comes."""
    following = tail("--count", "2")
    assert "waiting" in following.complaint()
    recorder = Writer(db)
    recorder.record("good", 2)
    found, err = following.end()
    recorder.end()
    assert names(found) == ["good", "good"]
    assert err == ""


def test_it_goes_on_with_the_file_that_takes_its_place(db: str, writer: Writer, tail: Callable[..., Tail]) -> None:
    """As after damage: what is new there is shown, once."""
    writer.record("good", 5)
    following = tail("-n", "1", "--count", "3")
    following.next()
    writer.end()
    for path in Path(db).parent.glob("test.db*"):
        if path.is_file():
            path.rename(f"{path}.aside")
    recorder = Writer(db)
    recorder.record("bad", 2)
    found, _ = following.end()
    recorder.end()
    assert names(found) == ["bad", "bad"]


def test_ctrl_c_ends_it(writer: Writer, tail: Callable[..., Tail]) -> None:
    """With the exit code shells know, and without a word."""
    writer.record("good")
    following = tail("-n", "1")
    following.next()
    following.process.send_signal(signal.SIGINT)
    found, err = following.end()
    assert (following.process.returncode, found, err) == (130, [], "")


def test_it_ends_after_a_time(db: str, writer: Writer, tail: Callable[..., Tail]) -> None:
    """For scripts; also while it waits for a file that never comes."""
    writer.record("good")
    assert names(tail("--for", "50ms").end()[0]) == ["good"]
    following = tail("--for", "50ms", path=f"{db}.none")
    found, err = following.end()
    assert (following.process.returncode, found) == (0, [])
    assert err.count("waiting") == 1


def test_a_journal_read_back_late_is_not_missed(
    db: str, child: Callable[[str], Child], writer: Writer, tail: Callable[..., Tail]
) -> None:
    """Rows of a process that died come with later ids and earlier starts than what was shown already."""
    dying = child("""
        telemetry = make(handle_sigterm=False, commit_interval=60)
        listener = register(telemetry, name="late")
        async def main():
            await telemetry.execute(InvokeHandler(listener, event=1))
        asyncio.run(main())
        say("ended")
        os.kill(os.getpid(), signal.SIGKILL)
    """)
    dying.wait_for("ended")
    dying.end()
    writer.record("good")
    following = tail("-n", "1", "--count", "2")
    assert following.next()["name"] == "good"
    recovered = subprocess.run(
        [sys.executable, "-m", "handspan.cli", "db", "recover", "--db", db], capture_output=True, text=True, check=True
    )
    assert "recovered" in recovered.stdout
    found, _ = following.end()
    assert names(found) == ["late"]


# --- the cursor, where a process would be too slow to be exact ---------------------------------------------------


def at(epoch: float) -> Any:
    return instant_from_ns(round(epoch * 1e6) * 1000)


def put(path: str, *starts: float, table: str = "handler_invocations", column: str = "listener_id") -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as conn:
        for start in starts:
            conn.execute(
                f"INSERT INTO {table} ({column}, session_id, execution_start_ts, duration_ms, status, trace_id, "
                "span_id) VALUES (1, 4, ?, 1, 'success', randomblob(16), randomblob(8))", (start,),
            )  # fmt: skip


async def starts(follower: Follower) -> list[float]:
    return [run.started_at.timestamp() for run in await follower.more()]


async def test_ids_that_are_given_again(tmp_path: Path) -> None:
    """After the newest rows were deleted, new ones get their ids: they are shown, and nothing twice."""
    path = seeded.build(tmp_path / "house.db")
    async with DatabaseService(path) as db:
        follower = Follower(db, RunFilter(), at(NOW))
        assert len(await follower.begin(5)) == 5
        put(path, NOW + 1, NOW + 2)
        assert await starts(follower) == [NOW + 1, NOW + 2]
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute("DELETE FROM handler_invocations WHERE id > 250")
        assert await starts(follower) == []
        put(path, NOW + 3)
        assert await starts(follower) == [NOW + 3]
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute("DELETE FROM handler_invocations WHERE id > 250")
        put(path, NOW + 4, NOW + 5)
        assert await starts(follower) == [NOW + 4, NOW + 5]
        assert await starts(follower) == []


async def test_what_was_pruned_behind_it(tmp_path: Path) -> None:
    """Old rows go, the cursor stays where it is."""
    path = seeded.build(tmp_path / "house.db")
    async with DatabaseService(path) as db:
        follower = Follower(db, RunFilter(), at(NOW))
        await follower.begin(0)
        with closing(sqlite3.connect(path, isolation_level=None)) as conn:
            conn.execute("DELETE FROM handler_invocations WHERE id < 290")
        put(path, NOW + 1)
        put(path, NOW - 9999, table="job_executions", column="job_id")
        assert await starts(follower) == [NOW - 9999, NOW + 1]


@pytest.mark.parametrize("count", [0, 1, 7, 1000])
async def test_the_last_lines(tmp_path: Path, count: int) -> None:
    """So many, in the order they ended; none of a filter nobody passes."""
    path = seeded.build(tmp_path / "house.db")
    async with DatabaseService(path) as db:
        found = await Follower(db, RunFilter(), at(NOW)).begin(count)
        nobody = await Follower(db, RunFilter(app="nobody"), at(NOW)).begin(count)
    wanted = raw(path, "SELECT kind, id FROM v_executions "
                       "ORDER BY execution_start_ts + duration_ms / 1000 DESC, kind DESC, id DESC LIMIT ?",
                 count)  # fmt: skip
    assert {(run.kind, run.id) for run in found} == set(wanted)
    assert [run.ended_at for run in found] == sorted(run.ended_at for run in found)
    assert nobody == []
