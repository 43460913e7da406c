"""What an attacker found once, and must not find again."""

import asyncio
import os
import sqlite3
import sys
import threading

import pytest

import handspan
from handspan import InvokeHandler
from handspan.executor.threads import DaemonThreadPool

APP = "a.B"


async def on_event(event): ...


async def test_a_deleted_database_is_begun_anew(make, rows, db, caplog):
    """SQLite would write into the unlinked file for ever, and everybody would say that all is well."""
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        assert await telemetry.aflush()  # a turn later: the pruning of the start is over, too
        for suffix in ("", "-wal", "-shm"):
            os.unlink(db + suffix)
        for _ in range(3):
            await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        assert len(rows("SELECT * FROM v_handler_invocations")) == 3
    assert "is gone or another file: beginning anew." in caplog.text


async def test_what_ends_after_close_is_told_its_true_outcome(make, rows):
    """The row says interrupted, because nobody waited; the caller learns what the handler returned."""
    go, started = asyncio.Event(), asyncio.Event()

    async def slow(event):
        started.set()
        await go.wait()
        return "value"

    telemetry = make(shutdown_timeout=0.05)
    async with telemetry:
        listener = telemetry.register_listener(slow, topic="t", app_key=APP)
        task = asyncio.create_task(telemetry.execute(InvokeHandler(listener)))
        await started.wait()
    go.set()
    result = await task
    assert (result.status, result.value, result.error_type) == ("success", "value", None)
    assert rows("SELECT error_type FROM handler_invocations") == [{"error_type": "ProcessInterrupted"}]


@pytest.mark.parametrize("kind", ["generator", "async-generator"])
async def test_a_generator_function_is_refused(make, kind):
    """Calling one runs nothing: every run of it would be a success that never happened."""

    def generator(event):
        yield

    async def async_generator(event):
        yield

    handler = generator if kind == "generator" else async_generator
    async with make() as telemetry:
        with pytest.raises(handspan.HandspanError, match="generator function"):
            telemetry.register_listener(handler, topic="t", app_key=APP)


async def test_when_no_thread_can_be_started_the_call_fails_and_later_ones_run(monkeypatch):
    """A call whose caller was told that it failed never runs afterwards; the bound is not used up by failures."""
    pool, ran = DaemonThreadPool(1), []
    start = threading.Thread.start

    def refuse(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(3):
        with pytest.raises(RuntimeError):
            pool.run(lambda: ran.append("never"))
    monkeypatch.setattr(threading.Thread, "start", start)
    assert await pool.run(lambda: "ran") == "ran"
    assert ran == []
    pool.close()


async def test_a_version_no_text_can_hold_stops_nothing(make, rows):
    """An environment variable may hold any bytes; Python hands them over as lone surrogates."""
    async with make(service_version="1.0\udcff") as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
    assert rows("SELECT service_version FROM sessions") == [{"service_version": "1.0\\udcff"}]


async def test_a_flush_that_comes_with_the_close_is_answered(make):
    """Whoever flushes while another thread closes does not wait for nobody."""
    for _ in range(20):
        telemetry = make().open()
        threads = [threading.Thread(target=telemetry.close), threading.Thread(target=telemetry.flush)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()


@pytest.mark.parametrize("limit", range(380, 400))
async def test_a_run_at_the_end_of_the_stack_is_counted(make, rows, limit):
    """Wherever the stack ends, in the handler or in any line of ours, rows and losses are what was started."""
    started = 0

    async def deeper(event):
        nonlocal started
        started += 1
        await telemetry.execute(InvokeHandler(listener))

    async with make() as telemetry:
        listener = telemetry.register_listener(deeper, topic="t", app_key=APP)
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(limit)
        try:
            await telemetry.execute(InvokeHandler(listener))
        except RecursionError:
            pass
        finally:
            sys.setrecursionlimit(before)
        assert telemetry.health().active == 0
    stored = rows("SELECT count(*) AS n FROM handler_invocations")[0]["n"]
    lost = sum(row["count"] for row in rows("SELECT count FROM losses"))
    assert started > 10
    assert started <= stored + lost <= started + 1  # the one that never reached its handler may count, too


async def test_an_error_after_commit_stores_nothing_twice(make, rows, monkeypatch):
    """What a segment's commit is followed by may fail: the segment is in the file, and stays there once."""
    from handspan.store import writer

    real, fails = writer.live_bytes, [True]

    def sometimes(conn):
        if fails and rows("SELECT count(*) AS n FROM handler_invocations")[0]["n"]:
            fails.clear()
            raise sqlite3.OperationalError("disk I/O error")
        return real(conn)

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        assert await telemetry.aflush()
        monkeypatch.setattr(writer, "live_bytes", sometimes)
        for _ in range(8):
            await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
    assert not fails
    assert rows("SELECT count(*) AS n, count(DISTINCT span_id) AS d FROM handler_invocations") == [{"n": 8, "d": 8}]


async def test_a_daemon_that_changes_its_directory_keeps_its_file(make, rows, tmp_path, monkeypatch):
    """A relative path means the directory the application was in when it was given."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    async with make(db="home.db") as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        monkeypatch.chdir(tmp_path / "elsewhere")
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert len(rows("SELECT * FROM handler_invocations", path=str(tmp_path / "home.db"))) == 2


async def test_plain_functions_run_after_close_too(make):
    """Between closing and the end of the process handlers still come."""
    telemetry = make()
    async with telemetry:
        listener = telemetry.register_listener(lambda event: "ran", topic="t", app_key=APP)
        assert (await telemetry.execute(InvokeHandler(listener))).value == "ran"
    async with asyncio.timeout(10):
        assert (await telemetry.execute(InvokeHandler(listener))).value == "ran"


async def test_a_closed_telemetry_is_no_reason_for_a_provider_not_to_flush(make):
    """Our processor cannot be taken off a foreign provider; it answers for itself only."""
    from opentelemetry.sdk.trace import TracerProvider

    provider = TracerProvider()
    unopened = make(tracer_provider=provider)
    assert provider.force_flush()
    async with make(tracer_provider=provider):
        pass
    assert provider.force_flush()
    unopened.close()


async def test_a_processor_of_theirs_that_raises_leaves_nothing_behind(make):
    """The executor hands the run over, and the span that never came by is forgotten."""
    from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

    class Raising(SpanProcessor):
        def on_end(self, span):
            raise RuntimeError("theirs")

    provider = TracerProvider()
    provider.add_span_processor(Raising())
    async with make(tracer_provider=provider) as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        for _ in range(50):
            await telemetry.execute(InvokeHandler(listener))
        assert telemetry._pipeline.processor._open == {}


async def test_a_late_run_does_not_bring_a_cancelled_registration_back(make, rows):
    """Only a registration updates its row; the last run of a retired listener is still its run."""
    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        listener.cancel()
        assert await telemetry.aflush()
        telemetry._pipeline.writer._file().parents.forget()
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        assert rows("SELECT retired_at IS NOT NULL AS retired FROM listeners") == [{"retired": 1}]
        assert len(rows("SELECT * FROM v_handler_invocations")) == 1


async def test_after_a_clean_end_the_file_is_whole_by_itself(make, rows, db, tmp_path):
    """Also when it was read meanwhile: a copy of the one file has everything."""
    import shutil

    async with make() as telemetry:
        listener = telemetry.register_listener(on_event, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
        assert await telemetry.aflush()
        await telemetry.database.fetch_all("SELECT count(*) FROM listeners")
    copy = str(tmp_path / "copy.db")
    shutil.copy(db, copy)
    assert len(rows("SELECT * FROM v_handler_invocations", path=copy)) == 1
    assert not os.path.exists(f"{db}-wal")
