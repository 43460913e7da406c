"""What is logged while a command runs is kept with its run; the application's logging goes on as it was."""

import asyncio
import contextvars
import json
import logging
import logging.config
import threading
from contextlib import contextmanager

import pytest
from opentelemetry import trace

from handspan import ExecuteJob, InvokeHandler
from handspan.store.queries.logs import run_logs

log = logging.getLogger("house.kitchen")


@pytest.fixture(autouse=True)
def _loggers():
    """As a program sets them; and whatever a test did to the root logger is undone."""
    root = logging.getLogger()
    before, level = root.handlers[:], log.level
    log.setLevel(logging.DEBUG)
    yield
    log.setLevel(level)
    root.handlers[:] = before


@contextmanager
def unconfigured():
    """A program that never configured logging. Not a fixture: pytest puts its handlers on when the test begins."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers.clear()
    root.setLevel(logging.WARNING)
    try:
        yield root
    finally:
        root.handlers[:] = before
        root.setLevel(level)


@pytest.fixture
def lines(rows):
    """Messages in their order, with the columns asked for."""

    def query(columns="message"):
        found = rows(f"SELECT {columns} FROM v_log_records ORDER BY id")
        return [row["message"] if columns == "message" else tuple(row.values()) for row in found]

    return query


async def run(telemetry, call, event=None):
    handle = telemetry.register_listener(call, topic="t", app_key="a.B")
    return await telemetry.execute(InvokeHandler(handle, event=event))


# --- what is kept -------------------------------------------------------------------------------------------


async def test_a_line_is_kept_with_its_run(make, lines):
    """Time, level, logger, formatted message, place, the run's ids, its session."""

    async def on(event):
        log.warning("it is %s", event)

    async with make() as telemetry:
        result = await run(telemetry, on, "cold")
    (line,) = lines("level, logger, message, trace_id, span_id, run_span_id, session_id, attributes")
    assert line[:-1] == (
        "warning", "house.kitchen", "it is cold", result.trace_id, result.span_id, result.span_id, 1,
    )  # fmt: skip
    place = json.loads(line[-1])
    assert (place["code.file.path"], place["code.function.name"]) == (__file__, "on")
    assert place["code.line.number"] == on.__code__.co_firstlineno + 1


async def test_a_line_in_a_child_span_is_joined_to_it(make, rows):
    """By the child's span id; the command's own lines have none."""

    async def on(event):
        log.info("before")
        with trace.get_tracer("t", tracer_provider=telemetry.tracer_provider).start_as_current_span("GET"):
            log.info("inside")

    async with make() as telemetry:
        await run(telemetry, on)
    joined = rows(
        "SELECT r.message, s.name FROM log_records AS r LEFT JOIN spans AS s "
        "ON s.trace_id = r.trace_id AND s.span_id = r.span_id ORDER BY r.id"
    )
    assert [tuple(row.values()) for row in joined] == [("before", None), ("inside", "GET")]


async def test_an_exception_that_is_logged_is_kept_with_its_traceback(make, lines):
    """Type, message, stack; the run itself succeeds."""

    async def on(event):
        try:
            raise KeyError("lamp")
        except KeyError:
            log.exception("not found")

    async with make() as telemetry:
        assert (await run(telemetry, on)).ok
    ((message, attributes),) = lines("message, attributes")
    found = json.loads(attributes)
    assert (message, found["exception.type"], found["exception.message"]) == ("not found", "KeyError", "'lamp'")
    assert found["exception.stacktrace"].startswith("Traceback (most recent call last):\n")
    assert found["exception.stacktrace"].endswith("KeyError: 'lamp'")


def plain(event):
    log.info("in a pool thread")


async def test_threads_and_tasks_of_a_run_are_part_of_it(make, lines):
    """A plain handler in our pool, ``to_thread``, a task, a thread given the context; a bare thread has none."""

    async def on(event):
        await asyncio.to_thread(log.info, "to_thread")
        await asyncio.gather(asyncio.create_task(say("task")))
        context = contextvars.copy_context()
        for call in (lambda: context.run(log.info, "given the context"), lambda: log.info("nobody's")):
            thread = threading.Thread(target=call)
            thread.start()
            thread.join()

    async def say(word):
        log.info(word)

    async with make() as telemetry:
        await run(telemetry, on)
        await run(telemetry, plain)
    assert lines() == ["to_thread", "task", "given the context", "in a pool thread"]


def test_execute_sync_and_jobs(make, lines):
    """On whoever's thread it is."""
    with make() as telemetry:
        job = telemetry.register_job(lambda: log.info("tidied"), job_name="tidy", app_key="a.B")
        telemetry.execute_sync(ExecuteJob(job))
    assert lines() == ["tidied"]


async def test_runs_at_once_keep_their_lines_apart(make, rows):
    """The context says whose a line is, not the time."""
    both = asyncio.Barrier(2)

    async def on(event):
        for _ in range(3):
            async with both:
                log.info(event)

    async with make() as telemetry:
        handle = telemetry.register_listener(on, topic="t", app_key="a.B")
        await asyncio.gather(*(telemetry.execute(InvokeHandler(handle, event=word)) for word in ("left", "right")))
    found = rows("SELECT group_concat(DISTINCT message) AS m, count(*) AS n FROM log_records GROUP BY run_span_id")
    assert sorted((row["m"], row["n"]) for row in found) == [("left", 3), ("right", 3)]


async def test_two_telemetries_keep_their_own(make, rows, tmp_path):
    """Each has a handler on the root logger; a run belongs to one of them."""
    other = str(tmp_path / "other.db")

    async def on(event):
        log.info(event)

    async with make() as first, make(db=other) as second:
        await run(first, on, "first")
        await run(second, on, "second")
    assert [row["message"] for row in rows("SELECT message FROM log_records")] == ["first"]
    assert [row["message"] for row in rows("SELECT message FROM log_records", path=other)] == ["second"]


async def test_what_is_not_kept(make, lines):
    """Below the level, outside of runs, after the run, by ourselves, by a logger that does not propagate."""
    late = asyncio.Event()
    quiet = logging.getLogger("quiet")
    quiet.propagate = False
    tasks = []

    async def afterwards():
        await late.wait()
        log.info("after the run")

    async def on(event):
        log.debug("below the level")
        logging.getLogger("handspan.store").error("our own")
        quiet.error("not propagated")
        tasks.append(asyncio.create_task(afterwards()))
        raise ValueError("the executor logs this")

    async with make() as telemetry:
        await run(telemetry, on)
        log.info("outside")
        late.set()
        await asyncio.gather(*tasks)
        await run(telemetry, plain)
    assert lines() == ["in a pool thread"]


@pytest.mark.parametrize(
    ("level", "kept"),
    [
        pytest.param("off", [], id="off"),
        pytest.param("Warning", ["warning"], id="any-case"),
        pytest.param("DEBUG", ["debug", "info", "warning"], id="debug"),
    ],
)
async def test_the_level_is_a_setting(make, lines, level, kept):
    """``log_level`` says from where on; no logger's own level is touched."""

    async def on(event):
        for word in ("debug", "info", "warning"):
            getattr(log, word)(word)

    before = logging.getLogger().level
    async with make(log_level=level) as telemetry:
        await run(telemetry, on)
        assert logging.getLogger().level == before
    assert lines() == kept


async def test_secrets_are_not_stored(make, db, lines):
    """In messages, in what failed to be formatted, in exceptions; not one byte of the file has it."""

    async def on(event):
        log.info("login with password=hunter2secret")
        log.info("token=hunter2secret %d", "no number")
        try:
            raise ValueError("api_key=hunter2secret")
        except ValueError:
            log.exception("failed")

    async with make() as telemetry:
        await run(telemetry, on)
    assert lines()[0] == "login with password=[redacted]"
    with open(db, "rb") as file:
        assert b"hunter2secret" not in file.read()


# --- lives and deaths -----------------------------------------------------------------------------------------


async def test_an_interrupted_run_keeps_its_lines(make, lines, rows):
    """``close()`` records what still runs, with what it said."""
    began = asyncio.Event()

    async def on(event):
        log.info("so far")
        began.set()
        await asyncio.Event().wait()

    telemetry = make()
    async with telemetry:
        task = asyncio.create_task(run(telemetry, on))
        await began.wait()
        await telemetry.aclose(timeout=0.1)
    assert lines() == ["so far"]
    assert [row["error_type"] for row in rows("SELECT error_type FROM handler_invocations")] == ["ProcessInterrupted"]
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_run_that_ends_while_the_process_dies_has_its_lines(make, lines, monkeypatch):
    """SIGTERM closes on a thread while the loop goes on: what is still recorded is recorded whole."""

    async def on(event):
        log.info("nearly there")

    async with make() as telemetry:
        writer, handle = telemetry._pipeline.writer, telemetry.register_listener(on, topic="t", app_key="a.B")
        loop, close = asyncio.get_running_loop(), writer.close

        def meanwhile(timeout):
            asyncio.run_coroutine_threadsafe(telemetry.execute(InvokeHandler(handle, event=None)), loop).result(10)
            return close(timeout)

        monkeypatch.setattr(writer, "close", meanwhile)
        await asyncio.to_thread(telemetry.close_at_once)
    async with make():
        assert lines() == ["nearly there"]
    assert not [each for each in logging.getLogger().handlers if type(each).__module__.startswith("handspan")]


def test_a_kill_loses_no_line_of_a_finished_run(child, make, lines):
    """The journal has them with the run's end; the next start stores them. What was in flight takes its own along."""
    process = child(
        """
        import logging
        log = logging.getLogger("house")
        log.setLevel("INFO")
        async def on(event):
            log.info("finished \\ud800 %s", event)
        async def hang(event):
            log.info("in flight")
            say("hanging")
            await asyncio.Event().wait()
        async def main():
            telemetry = make(commit_interval=3600)
            async with telemetry:
                await telemetry.execute(InvokeHandler(register(telemetry, on), event="run"))
                await telemetry.execute(InvokeHandler(register(telemetry, hang)))
        asyncio.run(main())
        """
    )
    process.wait_for("hanging")
    process.kill()
    with make(service_name="child"):
        pass
    assert lines() == ["finished \\ud800 run"]


def test_a_forked_child_keeps_its_own(child, rows):
    """Handler and processor come along; the child's lines are under its own session."""
    process = child(
        """
        import logging
        log = logging.getLogger("house")
        log.setLevel("INFO")
        def on(event):
            log.info(event)
        with make() as telemetry:
            handle = register(telemetry, on)
            telemetry.execute_sync(InvokeHandler(handle, event="parent"))
            pid = os.fork()
            if pid == 0:
                telemetry.execute_sync(InvokeHandler(handle, event="child"))
                telemetry.close()
                os._exit(0)
            assert os.waitpid(pid, 0)[1] == 0
            telemetry.execute_sync(InvokeHandler(handle, event="parent"))
        say("done")
        """
    )
    assert process.end() == 0, process.stderr
    found = rows(
        "SELECT message, count(*) AS n, count(DISTINCT session_id) AS s FROM log_records GROUP BY 1 ORDER BY 1"
    )
    assert [tuple(row.values()) for row in found] == [("child", 1, 1), ("parent", 2, 1)]


# --- the application's own logging ----------------------------------------------------------------------------


def test_closing_leaves_the_root_logger_as_it_was(make):
    """Nested, in any order: handlers, ``basicConfig`` and level."""
    basic_config = logging.basicConfig
    with unconfigured() as root:
        first, second = make().open(), make().open()
        first.close()
        assert len(root.handlers) == 2
        second.close()
        assert (root.handlers, logging.basicConfig, root.level) == ([], basic_config, logging.WARNING)


async def test_a_program_without_handlers_still_sees_warnings(make, capsys):
    """By logging's handler of last resort, once each, while two of ours are there; and no information, as before."""
    with unconfigured():
        async with make(), make() as telemetry:
            log.warning("look here")
            log.info("not printed")
            await run(telemetry, plain)
    assert capsys.readouterr().err == "look here\n"


def test_a_programs_own_handler_is_enough(make, capsys):
    """One anywhere on the way to the root: the handler of last resort stays quiet."""
    heard = logging.NullHandler()
    with unconfigured(), make():
        logging.getLogger("house").addHandler(heard)
        try:
            log.warning("look here")
        finally:
            logging.getLogger("house").removeHandler(heard)
    assert capsys.readouterr().err == ""


async def test_basic_config_after_opening_configures(make, capsys, lines):
    """As if ours were not there, also by force; ours goes on."""
    with unconfigured():
        async with make() as telemetry:
            logging.basicConfig(format="%(levelname)s said %(message)s", level="INFO")
            log.info("once")
            logging.basicConfig(format="FORCED %(message)s", force=True)
            await run(telemetry, plain)
    assert capsys.readouterr().err == "INFO said once\nFORCED in a pool thread\n"
    assert lines() == ["in a pool thread"]


def test_a_configuration_that_takes_ours_off_does_no_harm(make, lines):
    """``dictConfig`` clears the root logger: lines are no longer kept, and closing finds nothing to take off."""
    with unconfigured() as root:
        with make() as telemetry:
            logging.config.dictConfig({"version": 1, "disable_existing_loggers": False, "root": {"handlers": []}})
            handle = telemetry.register_listener(plain, topic="t", app_key="a.B")
            assert telemetry.execute_sync(InvokeHandler(handle)).ok
        assert root.handlers == lines() == []


# --- reading --------------------------------------------------------------------------------------------------


async def test_reading_page_by_page(make):
    """Every line once, in order, of a run or of its trace; the last page says so."""

    async def on(event):
        for number in range(7):
            log.info("line %s", number)

    async with make() as telemetry:
        result = await run(telemetry, on)
        other = await run(telemetry, plain)
        assert await telemetry.aflush()
        seen, after = [], None
        while True:
            page = await run_logs(telemetry.database, result.trace_id, result.span_id, limit=3, after=after)
            seen += page.lines
            after = page.after
            if after is None:
                break
        assert [line.message for line in seen] == [f"line {number}" for number in range(7)]
        assert [line.message for line in (await run_logs(telemetry.database, other.trace_id)).lines] == [
            "in a pool thread"
        ]
        assert (await run_logs(telemetry.database, result.trace_id, "00" * 8)).lines == []
        with pytest.raises(ValueError, match="non-hexadecimal"):
            await run_logs(telemetry.database, "lamp")
    line = seen[0]
    assert (line.level, line.level_name, line.logger, line.span_id) == (20, "info", "house.kitchen", result.span_id)
    assert line.attributes["code.function.name"] == "on"
