"""A signal's handler may raise between any two instructions of ours: what has begun is recorded, and nothing stays."""

import dis
import itertools
import os
import sys
from contextlib import contextmanager
from functools import cache

import pytest

import handspan
from handspan import InvokeHandler
from handspan.spans import run_of

OURS = os.path.dirname(handspan.__file__)


@contextmanager
def interrupted_at(moment):
    """KeyboardInterrupt at that moment, counted over the frames of ours that run meanwhile. The interpreter runs
    signals' handlers where a function begins and after a call has returned, and nowhere else in straight code."""
    left, place = moment, []

    def trace(frame, event, _):
        nonlocal left
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in moments(frame.f_code):
            left -= 1
            if left < 0:
                place.append(f"{os.path.relpath(frame.f_code.co_filename, OURS)}:{frame.f_lineno}")
                raise KeyboardInterrupt
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
