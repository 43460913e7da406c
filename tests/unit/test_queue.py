"""The segment queue: bounded, nothing vanishes uncounted, failures outlive successes, a commit is left alone."""

import asyncio
import sqlite3
from contextlib import closing
from dataclasses import replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, precondition, rule
from opentelemetry import trace

from handspan import InvokeHandler
from handspan.recording.queue import QUEUE_FULL, SegmentQueue
from handspan.recording.sizes import RECORD_BYTES
from handspan.records import ListenerRegistration, Run, ScheduledJobRegistration, Session, SpanRecord

SESSION = Session("instance", "test")
REGISTRATIONS = {
    1: ListenerRegistration("app", 0, "on_light", "light", "on_light"),
    2: ScheduledJobRegistration("app", 0, "tidy", "tidy"),
}


def queue_of(*, spans=10, size=10 * RECORD_BYTES, segment=4, **options):
    return SegmentQueue(SESSION, REGISTRATIONS, segment_max_spans=segment, max_spans=spans, max_bytes=size, **options)


def record(number, status="success", *, registration=1, text="", was_running=False):
    return SpanRecord(
        b"t" * 16,
        number.to_bytes(8, "big"),
        0,
        1,
        status,
        registration,
        error_type="ValueError" if status == "error" else None,
        error_message=text or None,
        attributes={"text": text} if text else None,
        was_running=was_running,
    )


def drain(queue):
    """Everything that waits, in order, committed."""
    found = []
    while queue.seal():
        while (segment := queue.next_segment()) is not None:
            found.append(segment)
            queue.committed(segment)
    return found


def ids(segments):
    return [int.from_bytes(each.span_id, "big") for segment in segments for each in segment.records]


# --- one thing at a time --------------------------------------------------------------------------


def test_what_goes_in_comes_out_in_order_in_numbered_segments():
    """Segments count up from one, hold what was appended in order, and leave nothing behind."""
    queue = queue_of(segment=4)
    for number in range(10):
        queue.append(record(number))
    segments = drain(queue)
    assert [segment.number for segment in segments] == [1, 2, 3]
    assert ids(segments) == list(range(10))
    assert (len(queue), queue.committed_spans, queue.next_segment()) == (0, 10, None)


def test_an_empty_queue_seals_nothing():
    """No rows, nothing running, no losses: no transaction."""
    queue = queue_of()
    assert (queue.seal(), queue.next_segment()) == (0, None)


def test_the_writer_is_woken_once_for_work_and_once_for_a_full_segment():
    """The first record that waits and the last of a full segment say so; those between do not."""
    queue, calls = queue_of(segment=3), []
    queue.on_work, queue.on_full = lambda: calls.append("work"), lambda: calls.append("full")
    for number in range(4):
        queue.append(record(number))
    assert calls == ["work", "full", "work"]


@pytest.mark.parametrize("sealed", [False, True], ids=["open", "sealed"])
def test_when_full_successes_go_before_failures(sealed):
    """A full queue of both kinds keeps every failure, and the ledger counts what went, by kind."""
    queue = queue_of(spans=6, segment=100)
    for number in range(6):
        queue.append(record(number, "error" if number % 2 else "success", registration=1 + number // 4))
    if sealed:
        queue.seal()
    queue.append(record(6, "error"))
    segments = drain(queue)
    assert ids(segments) == [1, 3, 5, 6]
    losses = {(loss.kind, loss.reason): loss.count for segment in segments for loss in segment.losses}
    assert losses | {(loss.kind, loss.reason): loss.count for loss in queue.ledger.entries()} == {
        ("handler", QUEUE_FULL): 2,
        ("job", QUEUE_FULL): 1,
    }


def test_the_oldest_successes_go_first():
    """Of several sealed segments the oldest gives up its successes; younger ones stay."""
    queue = queue_of(spans=6, segment=3)
    for number in range(6):
        queue.append(record(number))
    queue.append(record(6))
    assert ids(drain(queue)) == [3, 4, 5, 6]


def test_full_of_failures_turns_the_newcomer_away():
    """When there is no success to give up, what is kept stays and the newcomer is counted."""
    queue = queue_of(spans=3, segment=100)
    for number in range(3):
        queue.append(record(number, "error"))
    queue.append(record(3, "error"))
    assert ids(drain(queue)) == [0, 1, 2]
    assert queue.ledger.total == {QUEUE_FULL: 1}


def test_a_success_that_was_running_is_not_given_up():
    """Its row in ``running`` would stay for ever: the end of it has to arrive."""
    queue = queue_of(spans=2, segment=100)
    queue.append(record(0, was_running=True))
    queue.append(record(1))
    queue.append(record(2))
    assert ids(drain(queue)) == [0, 2]


def test_the_end_of_what_was_running_is_never_turned_away():
    """However full the queue is: without it the row in ``running`` would stay."""
    queue = queue_of(spans=2, segment=100)
    for number in range(2):
        queue.append(record(number, "error"))
    queue.append(record(2, "error", was_running=True))
    assert ids(drain(queue)) == [0, 1, 2]


def test_one_big_failure_does_not_get_in_by_pushing_out_one_small_success():
    """The bound in bytes holds after the newcomer is in, not only before."""
    queue = queue_of(spans=1000, size=4 * RECORD_BYTES, segment=1000)
    for number in range(200):
        queue.append(record(number, "success"))
        queue.append(record(number, "error", text="x" * 3 * RECORD_BYTES))
    kept = sum(3 * RECORD_BYTES for segment in drain(queue) for each in segment.records if each.status == "error")
    assert kept <= 4 * RECORD_BYTES


def test_a_segment_under_commit_is_left_alone():
    """While the writer has it, nothing is taken from it, however full the queue is."""
    queue = queue_of(spans=4, segment=4)
    for number in range(4):
        queue.append(record(number))
    committing = queue.next_segment()
    before = list(committing.records)
    queue.append(record(4, "error"))
    assert committing.records == before
    queue.committed(committing)
    assert queue.ledger.total == {QUEUE_FULL: 1}


def test_what_runs_is_noted_once_and_its_end_says_so():
    """A command in flight goes into the first segment sealed while it runs, and into no later one."""
    run = Run(None, 1, REGISTRATIONS[1], 0, 0)
    run.trace_id, run.span_id = 1, 2
    queue = queue_of()
    queue.begin(run)
    queue.seal()
    queue.append(record(1))
    first, second = drain(queue)
    assert ([each.status for each in first.running], second.running) == (["running"], [])
    assert run.in_running


def test_a_run_that_has_no_ids_yet_is_noted_later():
    """A span that is just being started cannot be told from another: the next seal takes it."""
    run = Run(None, 1, REGISTRATIONS[1], 0, 0)
    queue = queue_of()
    queue.begin(run)
    assert queue.seal() == 0
    run.span_id = 7
    assert queue.seal() == 1


def test_a_loss_without_a_record_reaches_the_store_with_the_next_segment():
    """What never became a record is in the ledger of the next transaction, exactly once."""
    queue = queue_of()
    queue.lose("span", "failed", 3)
    first = drain(queue)
    assert [(loss.kind, loss.reason, loss.count) for loss in first[0].losses] == [("span", "failed", 3)]
    assert drain(queue) == []


def test_abandoning_a_part_leaves_the_segment_to_be_committed():
    """The writer gives up a record of a segment by abandoning a copy of it; the segment is still its to commit."""
    queue = queue_of()
    for number in range(2):
        queue.append(record(number))
    queue.seal()
    segment = queue.next_segment()
    queue.abandoned(replace(segment, records=segment.records[:1], losses=[]), "rejected")
    queue.committed(segment)
    assert (len(queue), queue.committed_spans, queue.ledger.total) == (0, 1, {"rejected": 1})


def test_abandoning_all_that_is_in_a_segment_leaves_it_to_be_committed_too():
    """A copy that equals the segment is still a part: its losses and its mark are to be written."""
    queue = queue_of()
    queue.append(record(1))
    queue.seal()
    segment = queue.next_segment()
    queue.abandoned(replace(segment, losses=[]), "rejected")
    queue.committed(segment)
    assert (len(queue), queue.committed_spans, queue.ledger.total) == (0, 0, {"rejected": 1})


def test_abandoning_a_segment_keeps_the_losses_it_carried():
    """They were in it to be written, and still have to be."""
    queue = queue_of()
    queue.append(record(1))
    queue.lose("job", "after_shutdown", 2)
    queue.seal()
    queue.abandoned(queue.next_segment(), "shutdown")
    (segment,) = drain(queue)
    found = {(loss.kind, loss.reason): loss.count for loss in segment.losses}
    assert found == {("handler", "shutdown"): 1, ("job", "after_shutdown"): 2}


# --- what never passes: one record the store cannot take ----------------------------------------------


async def poison(telemetry, *, others, running):
    """A batch of runs, one of which the file refuses; and perhaps one in flight meanwhile."""
    with closing(sqlite3.connect(telemetry.settings.db)) as conn:
        conn.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON handler_invocations WHEN NEW.attributes LIKE '%poison%' "
            "BEGIN SELECT RAISE(ABORT, 'refused'); END"
        )
    gate, entered = asyncio.Event(), asyncio.Event()

    async def on_event(event):
        if event == "poison":
            trace.get_current_span().set_attribute("poison", True)
        elif event == "wait":
            entered.set()
            await gate.wait()

    listener = telemetry.register_listener(on_event, topic="t", app_key="app")
    await telemetry.aflush()
    task = None
    if running:
        task = asyncio.create_task(telemetry.execute(InvokeHandler(listener, "wait")))
        await entered.wait()
    for event in ["poison", *["fine"] * others]:
        await telemetry.execute(InvokeHandler(listener, event))
    flushed = await telemetry.aflush(5.0)
    gate.set()
    if task is not None:
        await task
    await telemetry.aflush(5.0)
    return flushed


@pytest.mark.parametrize("running", [False, True], ids=["nothing-in-flight", "one-in-flight"])
@pytest.mark.parametrize("others", [0, 1, 2, 7])
async def test_one_unstorable_record_costs_itself_and_nothing_else(make, rows, caplog, others, running):
    """It is found by halving, counted as rejected and only so, and the rest is stored without an episode."""
    async with make(commit_interval=60) as telemetry:
        flushed = await poison(telemetry, others=others, running=running)
        health = telemetry.health()
    stored = others + running
    assert flushed
    assert (health.committed, dict(health.lost)) == (stored, {"rejected": 1})
    assert rows("SELECT count(*) AS n FROM handler_invocations") == [{"n": stored}]
    assert rows("SELECT reason, count FROM losses") == [{"reason": "rejected", "count": 1}]
    assert "Recording waits" not in caplog.text


async def test_the_memory_of_rejected_records_is_given_back(make):
    """A queue that rejects records does not fill up with what is no longer in it."""
    async with make(commit_interval=60) as telemetry:
        await poison(telemetry, others=0, running=False)
        assert telemetry._pipeline.processor.queue._bytes == 0


# --- all at once, by hypothesis ---------------------------------------------------------------------


class QueueMachine(RuleBasedStateMachine):
    """Application and writer in any order; after each step the promises hold."""

    MAX_SPANS, MAX_BYTES, SEGMENT = 8, 8 * RECORD_BYTES, 3

    numbers = Bundle("numbers")
    runs = Bundle("runs")

    def __init__(self):
        super().__init__()
        self.queue = queue_of(
            spans=self.MAX_SPANS,
            size=self.MAX_BYTES,
            segment=self.SEGMENT,
        )
        self.appended = self.committed = self.others_lost = 0
        self.errors_in: set[bytes] = set()
        self.errors_out: set[bytes] = set()
        self.committing = None
        self.committing_was: list[SpanRecord] = []
        self.stored_losses = 0
        self.noted: list[bytes] = []
        self.ended: list[bytes] = []
        self.number = 0

    @initialize()
    def begin(self):
        assert len(self.queue) == 0

    @rule(status=st.sampled_from(["success", "error", "cancelled", "ok", "unset"]), size=st.integers(0, 5000))
    def append(self, status, size):
        self.number += 1
        before = self.waiting()
        dull_before = [each for each in before if self.is_dull(each) and not self.is_committing(each)]
        lost_before = sum(self.queue.ledger.total.values())
        made = record(self.number, status, text="x" * size)
        self.queue.append(made)
        self.appended += 1
        gone = [each for each in before if not any(each is kept for kept in self.waiting())]
        lost = sum(self.queue.ledger.total.values()) - lost_before
        assert all(self.is_dull(each) for each in gone), "only successes are given up"
        assert not gone or lost == len(gone) + (not any(made is each for each in self.waiting()))
        if not any(made is each for each in self.waiting()) and not self.is_dull(made):
            assert not [each for each in dull_before if any(each is kept for kept in self.waiting())], (
                "a failure was turned away while a success stayed"
            )

    @rule(target=runs)
    def start_run(self):
        self.number += 1
        run = Run(None, 1, REGISTRATIONS[1], 0, 0)
        run.trace_id = run.span_id = self.number
        self.queue.begin(run)
        return run

    @rule(run=consumes(runs))
    def end_run(self, run):
        run.recorded = True
        self.queue.append(replace_record(run), run)
        self.appended += 1

    @rule()
    def lose(self):
        self.queue.lose("span", "failed")
        self.others_lost += 1

    @rule()
    def seal(self):
        self.queue.seal()

    @rule()
    def take_next(self):
        self.committing = self.queue.next_segment()
        self.committing_was = list(self.committing.records) if self.committing else []

    @precondition(lambda self: self.committing is not None)
    @rule()
    def commit(self):
        self.committed += len(self.committing.records)
        self.note(self.committing)
        self.queue.committed(self.committing)
        self.committing = None

    @precondition(lambda self: self.committing is not None)
    @rule()
    def abandon(self):
        self.queue.abandoned(self.committing, "shutdown")
        self.committing = None

    @rule()
    def commit_everything(self):
        for segment in drain(self.queue):
            self.committed += len(segment.records)
            self.note(segment)
        self.committing = None

    def note(self, segment):
        self.stored_losses += sum(loss.count for loss in segment.losses)
        self.noted += [each.span_id for each in segment.running]
        self.ended += [each.span_id for each in segment.records if each.was_running]

    def waiting(self):
        queue = self.queue
        return [each for waiting in queue._sealed for each in waiting.segment.records] + list(queue._open)

    @staticmethod
    def is_dull(each):
        return each.status in ("success", "ok", "unset") and not each.was_running

    def is_committing(self, each):
        return self.committing is not None and any(each is one for one in self.committing.records)

    @invariant()
    def bounded(self):
        """Of what no commit noted as running: the end of one that was has to arrive, whatever it costs."""
        optional = [each for each in self.waiting() if not each.was_running]
        assert len(optional) <= self.MAX_SPANS
        if len(optional) == len(self.queue):
            assert self.queue._bytes <= self.MAX_BYTES

    @invariant()
    def counted(self):
        assert len(self.queue) == len(self.waiting())
        lost = sum(self.queue.ledger.total.values()) - self.others_lost
        assert self.committed + lost + len(self.queue) == self.appended
        assert self.queue.committed_spans == self.committed

    @invariant()
    def a_commit_is_left_alone(self):
        if self.committing is not None:
            assert self.committing.records == self.committing_was

    @invariant()
    def running_is_noted_once(self):
        assert len(self.noted) == len(set(self.noted))

    def teardown(self):
        self.commit_everything()
        assert len(self.queue) == 0
        assert self.queue._bytes == 0
        assert self.stored_losses == sum(self.queue.ledger.total.values()), "every loss reached a segment, once"


def replace_record(run):
    return record(run.span_id, was_running=run.in_running)


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
