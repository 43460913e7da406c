"""A signal's handler may raise between any two instructions of ours: what has begun is recorded, and nothing stays."""

import dis
import itertools
import os
import sys
import threading
from contextlib import contextmanager, suppress
from functools import cache

import pytest

import handspan
from handspan import InvokeHandler
from handspan.errors import DuplicateRegistrationError
from handspan.spans import run_of

OURS = os.path.dirname(handspan.__file__)


def ctrl_c():
    raise KeyboardInterrupt


@contextmanager
def interrupted_at(moment, by=ctrl_c):
    """That comes in at that moment, counted over the frames of ours that run meanwhile. The interpreter runs
    signals' handlers where a function begins and after a call has returned, and nowhere else in straight code."""
    left, place = moment, []

    def trace(frame, event, _):
        nonlocal left
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in moments(frame.f_code):
            left -= 1
            if left < 0 and not place:
                place.append(f"{os.path.relpath(frame.f_code.co_filename, OURS)}:{frame.f_lineno}")
                by()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield place
    finally:
        sys.settrace(before)


@cache
def moments(code):
    """Offsets of the instructions that follow a function's beginning or a call."""
    instructions = list(dis.get_instructions(code))
    return {
        after.offset
        for before, after in itertools.pairwise(instructions)
        if before.opname == "RESUME" or before.opname.startswith("CALL")
    }


@pytest.mark.parametrize("error_type", [None, "ValueError"])
def test_an_interrupt_at_any_instruction_leaves_no_run_in_flight(make, rows, caplog, error_type):
    """Every moment of one execution in turn: the interrupt goes on to whoever waits for it, no run stays in flight,
    no context stays entered, and each run that began is a row or a counted
    loss, once."""

    def on_event(event):
        calls.append(event)
        if error_type:
            raise ValueError("x")

    caplog.set_level("CRITICAL", "handspan")
    moment, done, result, calls = 0, False, None, []
    with make(commit_interval=60) as telemetry:
        recorder = telemetry._pipeline.processor
        listener = telemetry.register_listener(on_event, topic="t", app_key="a.B")
        assert telemetry.execute_sync(InvokeHandler(listener)).error_type == error_type
        assert telemetry.flush()
        while not done:
            command, accounted = InvokeHandler(listener), len(recorder.queue) + recorder.missed
            place = []
            calls.clear()
            try:
                with interrupted_at(moment) as place:
                    result = telemetry.execute_sync(command)
            except KeyboardInterrupt:
                pass
            done = not place
            assert telemetry.health().active == 0, place
            assert run_of(None) is None, place
            begun = len(recorder.queue) + recorder.missed - accounted
            assert begun == 1 or (begun == 0 and not calls), place
            moment += 1
    assert result.error_type == error_type
    assert moment > 50


def test_a_signals_handler_may_register_at_any_instruction_of_a_registration(make, rows):
    """It waits for nothing that its own thread holds, no number stands for two listeners, and of two that ask for
    one key one gets it."""
    made, places = [], []

    def register(telemetry, topic):
        with suppress(DuplicateRegistrationError):
            made.append(telemetry.register_listener(lambda event: None, topic=topic, app_key="a.B", name="on"))

    def both(telemetry, moment):
        register(telemetry, f"the handler's {moment}")
        register(telemetry, f"{moment}")

    def at_every_moment(telemetry):
        for moment in itertools.count():
            with interrupted_at(moment, lambda: both(telemetry, moment)) as place:  # noqa: B023 - runs in this turn
                register(telemetry, f"{moment}")
            if not place:
                return
            places.extend(place)

    with make() as telemetry:
        thread = threading.Thread(target=at_every_moment, args=(telemetry,), daemon=True)
        thread.start()
        thread.join(60)
        assert not thread.is_alive(), places[-1]
        assert len(places) > 40
    assert len({listener.number for listener in made}) == len(made)
    topics = [row["topic"] for row in rows("SELECT topic FROM listeners")]
    assert sorted(topics) == sorted(listener.topic for listener in made)
    assert len(made) == 2 * len(places) + 1
