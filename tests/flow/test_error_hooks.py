"""Error hooks from wherever a command fails: bounded, waited for, never in the way."""

import asyncio
import threading

import pytest

from handspan import InvokeHandler

APP = "a.B"


def fails(event):
    raise ValueError("x")


async def fails_async(event):
    raise ValueError("x")


def hook_threads():
    return [thread for thread in threading.enumerate() if thread.name == "handspan-on-error"]


def test_a_storm_on_a_plain_thread_starts_one_thread_and_the_rate_holds(make):
    """A thousand failures without a loop: not a thousand threads, and no more reports than anywhere else."""
    told, most = [], 0
    with make(on_error=told.append, hooks_per_minute=3) as telemetry:
        listener = telemetry.register_listener(fails, topic="t", app_key=APP)
        for _ in range(1_000):
            telemetry.execute_sync(InvokeHandler(listener))
            most = max(most, len(hook_threads()))
    assert most == 1
    assert len(told) == 3
    assert telemetry.error_hooks.suppressed == 997


def test_close_waits_for_the_hooks_of_a_plain_thread(make):
    """``close()`` ends when what was to be told has been told."""
    go, told = threading.Event(), []

    async def hook(report):
        await asyncio.to_thread(go.wait, 10)
        told.append(report)

    telemetry = make(on_error=hook).open()
    listener = telemetry.register_listener(fails, topic="t", app_key=APP)
    telemetry.execute_sync(InvokeHandler(listener))
    closing = threading.Thread(target=telemetry.close)
    closing.start()
    closing.join(0.5)
    assert closing.is_alive()
    go.set()
    closing.join(20)
    assert len(told) == 1


def test_close_waits_no_longer_than_its_deadline_for_a_hook_that_hangs(make):
    """The hook is cancelled then, and its thread's loop ends."""
    cancelled = threading.Event()

    async def hangs(report):
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    telemetry = make(on_error=hangs, hook_timeout=60).open()
    listener = telemetry.register_listener(fails, topic="t", app_key=APP)
    telemetry.execute_sync(InvokeHandler(listener))
    telemetry.close(timeout=0.2)
    assert cancelled.wait(10)
    for thread in hook_threads():
        thread.join(10)
    assert hook_threads() == []


def test_hooks_of_several_loops_at_once_are_all_told_and_waited_for(make):
    """Loops in threads of their own, and threads without one, fail at the same time."""
    told, mutex = [], threading.Lock()

    async def hook(report):
        await asyncio.sleep(0)
        with mutex:
            told.append(report.handle.number)

    with make(on_error=hook, hooks_per_minute=1_000) as telemetry:
        listeners = [telemetry.register_listener(fails_async, topic=f"t{n}", app_key=APP) for n in range(4)]
        plain = [telemetry.register_listener(fails, topic=f"p{n}", app_key=APP) for n in range(4)]

        def with_a_loop(listener):
            async def main():
                for _ in range(20):
                    await telemetry.execute(InvokeHandler(listener))
                    await asyncio.sleep(0.001)
                await telemetry.error_hooks.finish(10)

            asyncio.run(main())

        def without(listener):
            for _ in range(20):
                telemetry.execute_sync(InvokeHandler(listener))

        threads = [threading.Thread(target=with_a_loop, args=(each,)) for each in listeners]
        threads += [threading.Thread(target=without, args=(each,)) for each in plain]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert len(told) + telemetry.error_hooks.suppressed == 160
    assert set(told) == {each.number for each in (*listeners, *plain)}


def test_hooks_of_a_loop_that_was_closed_under_them_count_for_nothing(make):
    """A loop closed with hooks under way ends none of them; the bound must not fill up with the dead."""
    told = []

    async def hook(report):
        told.append(report)
        await asyncio.Event().wait()

    with make(on_error=hook, hooks_per_minute=1_000, hook_timeout=60, shutdown_timeout=0.2) as telemetry:
        listener = telemetry.register_listener(fails_async, topic="t", app_key=APP)
        left = []

        async def main():
            await telemetry.execute(InvokeHandler(listener))
            await asyncio.sleep(0)
            left.extend(asyncio.all_tasks() - {asyncio.current_task()})

        for _ in range(120):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(main())
            loop.close()
        assert len(told) == 120
    for task in left:
        task._log_destroy_pending = False  # they are what this is about


async def test_stuck_hooks_take_no_thread_from_handlers(make):
    """Plain functions that hang in a hook occupy the hooks' threads; plain handlers go on."""
    release = threading.Event()
    async with make(on_error=lambda report: release.wait(20), hook_timeout=0.05, sync_workers=2) as telemetry:
        bad = [telemetry.register_listener(fails_async, topic=f"t{n}", app_key=APP) for n in range(8)]
        for each in bad:
            await telemetry.execute(InvokeHandler(each))
        good = telemetry.register_listener(lambda event: "ran", topic="t", app_key=APP)
        try:
            async with asyncio.timeout(10):
                assert (await telemetry.execute(InvokeHandler(good))).value == "ran"
        finally:
            release.set()


@pytest.mark.parametrize("error", [SystemExit(1), KeyboardInterrupt(), asyncio.CancelledError(), RecursionError()])
@pytest.mark.parametrize("kind", ["async", "plain"])
async def test_whatever_a_hook_raises_stays_with_it_and_the_next_is_told(make, error, kind):
    """Also what would end a task or the process."""
    told = asyncio.Event()

    async def raises_async(report):
        raise error

    def raises(report):
        raise error

    async def last(report):
        told.set()

    async with make(on_error=(raises_async if kind == "async" else raises, last)) as telemetry:
        listener = telemetry.register_listener(fails_async, topic="t", app_key=APP)
        await telemetry.execute(InvokeHandler(listener))
        async with asyncio.timeout(10):
            await told.wait()
    assert telemetry.error_hooks.failed == 1


def test_a_hook_that_fails_commands_on_a_plain_thread_does_not_recurse(make):
    """A plain hook runs in a thread without a loop; what fails there is the hook's own."""
    told = []

    def hook(report):
        told.append(report)
        telemetry.execute_sync(InvokeHandler(inner))

    with make(on_error=hook) as telemetry:
        listener = telemetry.register_listener(fails, topic="t", app_key=APP)
        inner = telemetry.register_listener(fails, topic="inner", app_key=APP)
        telemetry.execute_sync(InvokeHandler(listener))
    assert len(told) == 1
