"""The journal: its format, its pages, and that replay is exactly-once whatever happened before."""

import errno
import os
import struct
import tempfile
import threading
import zlib
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from msgspec.structs import replace

from handspan.recording import journal as journal_module
from handspan.recording.convert import run_record
from handspan.recording.frames import HEADER, end_frame, read_page, read_records, seal_frame, start_frame
from handspan.recording.journal import JOURNAL_FULL, Journal, Page
from handspan.recording.logs import RunLogs
from handspan.recording.queue import SegmentQueue
from handspan.recording.replay import JournalFiles
from handspan.records import ListenerRegistration, Run, ScheduledJobRegistration, Session, SpanRecord
from handspan.store.commit import commit_segment
from handspan.store.liveness import SessionLock, is_alive, sidecar_dir
from handspan.store.opening import open_for_writing
from handspan.store.parents import Parents
from handspan.store.sessions import SessionLife

LISTENER = ListenerRegistration("a.B", 0, "on_event", "t", "on_event")
JOB = ScheduledJobRegistration("a.B", 0, "tick", "tick")
REGISTRATIONS = {1: LISTENER, 2: JOB}
SESSION = Session("i-1", "test", resource={"service.name": "test", "numbers": [1, 2]})
OTHER = Session("i-2", "test")


def a_run(number, registration=1, **values):
    run = Run(None, registration, REGISTRATIONS[registration], 10**18 + number * 1000, 0)
    run.trace_id = run.span_id = number
    run.flags = 3
    for name, value in values.items():
        setattr(run, name, value)
    return run


@pytest.fixture
def page(tmp_path):
    return Page(tmp_path / "i-1.00000001.journal", SESSION)


def journal_in(directory, *, session=SESSION, max_bytes=2**20):
    directory.mkdir(exist_ok=True)
    return Journal(directory, session, REGISTRATIONS, max_bytes=max_bytes, claim=lambda: None)


def queue_on(journal, **options):
    options = {"segment_max_spans": 4, "max_spans": 1_000, "max_bytes": 2**20, **options}
    return SegmentQueue(SESSION, REGISTRATIONS, journal=journal, **options)


def execute(queue, number, registration=1):
    run = a_run(number, registration)
    queue.begin(run)
    run.recorded = True
    queue.append(run_record(run), run)
    return run


def spans(segments):
    return [int.from_bytes(record.span_id, "big") for segment in segments for record in segment.records]


def what_is_left(directory, after=0, instance_id="i-1"):
    return list(JournalFiles(directory).orphan(instance_id).segments(after))


# --- the format -----------------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))  # those become escapes
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
RECORDS = st.builds(
    SpanRecord,
    trace_id=st.binary(min_size=16, max_size=16),
    span_id=st.binary(min_size=8, max_size=8),
    start_ns=st.integers(0, 2**62),
    duration_ns=st.integers(-(2**62), 2**62),
    status=st.sampled_from(["success", "error", "cancelled"]),
    registration=st.just(1),
    parent_span_id=st.none() | st.binary(min_size=8, max_size=8),
    error_message=st.none() | TEXT,
    error_traceback=st.none() | TEXT,
    attributes=st.none() | st.dictionaries(TEXT, VALUES, max_size=3),
    was_running=st.booleans(),
)


@given(st.lists(RECORDS, max_size=5))
@settings(max_examples=100, deadline=None)
def test_what_is_written_is_what_is_read(records):
    """Lossless, whatever OpenTelemetry lets an attribute be; in order."""
    with tempfile.TemporaryDirectory() as directory:
        page = Page(Path(directory) / "p", SESSION)
        for record in records:
            page.append(end_frame(record))
        page.append(seal_frame(7, []))
        content = read_page(page.path)
        ((number, extent, losses),) = content.sealed
        page.close()
        assert (number, losses, content.damaged, content.session) == (7, [], 0, SESSION)
        assert read_records(extent).ended == records


def test_what_the_format_cannot_hold_is_kept_as_text(page):
    """Lone surrogates, integers past 64 bits and objects: such an attribute does not cost the run."""
    record = replace(
        run_record(a_run(1)), attributes={"big": 2**80, "cut": "\ud800", "bytes": b"\0"}, error_message="\udfff"
    )
    page.append(end_frame(record))
    (read,) = read_records(read_page(page.path).tail).ended
    assert read.attributes == {"big": 2**80, "cut": "\\ud800", "bytes": b"\0"}
    assert read.error_message == "\\udfff"


LINES = [(10.5, 20, "house", "one", None, {"code.line.number": 1}), (11.0, 40, "house", "two", b"child--8", None)]


@pytest.mark.parametrize("attributes", [None, {"odd": "\ud800"}], ids=["plain", "as-json"])
def test_log_lines_travel_with_their_run(page, attributes):
    """In both kinds of an end; an entry without lines is as short as it was."""
    run = a_run(1)
    short = len(end_frame(run_record(run)))
    run.logs = RunLogs(10)
    for line in LINES:
        run.logs.add(line)
    page.append(end_frame(run_record(run, attributes)))
    page.append(end_frame(run_record(a_run(2))))
    page.append(seal_frame(1, []))
    (_, extent, _) = read_page(page.path).sealed[0]
    first, second = read_records(extent).ended
    assert [tuple(line) for line in first.logs] == LINES
    assert second.logs is None
    assert len(end_frame(run_record(a_run(2)))) == short


@pytest.mark.parametrize("kind", [4, 5], ids=["end", "end-as-json"])
def test_an_earlier_versions_end_has_no_lines(page, kind):
    """The field came last: a journal written before is read as it was."""
    record = run_record(a_run(1), None, None)
    fields = [*msgspec.structs.astuple(record)][:-1]
    payload = msgspec.msgpack.encode(fields)
    page.append(struct.pack("<IIB", len(payload), zlib.crc32(payload, kind), kind) + payload)
    page.append(seal_frame(1, []))
    content = read_page(page.path)
    assert content.damaged == 0
    assert read_records(content.sealed[0][1]).ended == [record]


def test_a_session_nobody_can_pack_is_kept_without_its_resource(tmp_path):
    """What an application put into its resource must not cost the journal."""
    page = Page(tmp_path / "p", Session("i-1", "te\udc80st", resource={"big": 2**80}))
    found = read_page(page.path).session
    assert (found.instance_id, found.service_name, found.resource) == ("i-1", "te\\udc80st", None)


@pytest.mark.parametrize(
    "run",
    [
        a_run(1),
        a_run(2, parent_span_id=5),
        a_run(3, link_trace_id=7, link_span_id=8, queue_ns=12),
        a_run(4, 2, scheduled_ns=10**18),
    ],
    ids=["plain", "child", "linked", "due"],
)
def test_a_start_says_all_that_is_known_of_it(page, run):
    """What a row of ``running`` needs, and nothing of the outcome."""
    page.append(start_frame(run))
    ((span_id, record),) = read_records(read_page(page.path).tail).started.items()
    expected = replace(run_record(run), status="running", extra=None)
    assert (span_id, record) == (expected.span_id, expected)


@given(st.integers(0, 2_000), st.binary(max_size=40))
@settings(max_examples=200, deadline=None)
def test_a_page_cut_anywhere_gives_its_whole_frames(cut, garbage):
    """A torn tail is cut at the last whole frame; garbage after it is one damaged entry and no more."""
    assume(not (4 <= cut < len(HEADER) and garbage))  # which may say that it is a newer version
    with tempfile.TemporaryDirectory() as directory:
        page = Page(Path(directory) / "p", OTHER)
        ends = []
        for number in range(1, 20):
            page.append(end_frame(run_record(a_run(number))))
            ends.append(page.size)
        page.close()
        data = page.path.read_bytes()[:cut] + garbage
        page.path.write_bytes(data)
        content = read_page(page.path)
        found = [] if content.tail is None else read_records(content.tail).ended
        whole = [end for end in ends if end <= min(cut, ends[-1])]
        assert [int.from_bytes(each.span_id, "big") for each in found][: len(whole)] == list(range(1, len(whole) + 1))
        assert len(found) == len(whole) or cut + len(garbage) >= ends[len(whole)]
        assert content.damaged <= 1
        clean = cut in (0, len(HEADER), *ends) and not garbage
        assert not (clean and content.damaged) or cut == 0


def test_a_flipped_byte_costs_one_entry(page):
    """The frames behind a damaged one are found by its length, and the damage is counted."""
    places = []
    for number in range(1, 6):
        places.append(page.size)
        page.append(end_frame(run_record(a_run(number))))
    data = bytearray(page.path.read_bytes())
    data[places[2] + 20] ^= 0xFF
    page.path.write_bytes(data)
    content = read_page(page.path)
    assert [each.start_ns // 1000 % 100 for each in read_records(content.tail).ended] == [1, 2, 4, 5]
    assert content.damaged == 1


@pytest.mark.parametrize("data", [b"", b"\0" * 4096, b"HSP", b"something else entirely"], ids=repr)
def test_a_file_that_is_no_page_is_no_trouble(tmp_path, data):
    """An empty or zeroed file is what a power cut leaves; anything else is damage, counted."""
    path = tmp_path / "i-1.00000001.journal"
    path.write_bytes(data)
    content = read_page(path)
    assert (content.session, content.sealed, content.tail) == (None, [], None)
    assert content.damaged == (1 if data.strip(b"\0") else 0)


def test_a_page_of_another_version_is_kept_and_the_others_are_taken_over(tmp_path):
    """A newer handspan wrote it, perhaps: its own start will know what it means."""
    queue = queue_on(journal_in(tmp_path))
    execute(queue, 1)
    (tmp_path / "i-1.00000009.journal").write_bytes(b"HSPJ\x02\0\0\0something")
    files = JournalFiles(tmp_path)
    orphan = files.orphan("i-1")
    assert spans(orphan.segments(0)) == [1]
    assert orphan.damaged == 1
    files.forget("i-1")
    assert [path.name for path in tmp_path.iterdir()] == ["i-1.00000009.journal.unread"]


# --- pages and trouble ------------------------------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch):
    """A disk that fills up when told: ``disk.full = True``."""

    class Disk:
        full = False
        room = 0

    real = os.write

    def write(fd, data):
        if not Disk.full:
            return real(fd, data)
        if Disk.room:
            room, Disk.room = Disk.room, 0
            return real(fd, data[:room])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal_module, "write", write)
    Disk.full, Disk.room = False, 0
    return Disk


def test_a_write_that_only_half_fits_leaves_no_torn_frame(tmp_path, disk):
    """A full disk takes part of a frame: the page ends at the last whole one, and the span stays in memory."""
    queue = queue_on(journal_in(tmp_path))
    execute(queue, 1)
    disk.full, disk.room = True, 10
    execute(queue, 2)
    assert queue.journal_trouble == "No space left on device"
    (page,) = tmp_path.iterdir()
    assert read_page(page).damaged == 0
    assert len(queue) == 2


def test_a_full_disk_suspends_the_journal_and_space_resumes_it(tmp_path, disk):
    """Meanwhile spans wait in memory; once the writer has a page again, what waits goes into the journal, too."""
    queue = queue_on(journal_in(tmp_path))
    execute(queue, 1)
    disk.full = True
    for number in range(2, 12):
        execute(queue, number)
    queue.keep_journal(stuck=True)
    assert queue.journal_trouble is not None
    assert spans(what_is_left(tmp_path)) == [1]
    disk.full = False
    queue.keep_journal(stuck=True)
    execute(queue, 12)
    assert queue.journal_trouble is None
    assert sorted(set(spans(what_is_left(tmp_path)))) == list(range(1, 13))


def test_what_is_in_the_journal_leaves_memory_and_comes_back(tmp_path):
    """Past the bound of memory nothing is dropped: the writer reads it back in its turn."""
    queue = queue_on(journal_in(tmp_path), max_spans=10)
    for number in range(1, 101):
        execute(queue, number)
        assert len(queue) <= 10
    assert queue.spilled >= 90 - 4
    found = []
    while queue.seal():
        found.append(queue.next_segment())
        queue.committed(found[-1])
    assert spans(found) == list(range(1, 101))
    assert not queue.ledger.total


def test_a_page_somebody_removed_is_a_counted_loss(tmp_path):
    """What had left memory cannot be read back: the ledger says how many, the writer goes on."""
    queue = queue_on(journal_in(tmp_path), max_spans=8)
    for number in range(1, 41):
        execute(queue, number)
    spilled = queue.spilled
    for path in tmp_path.iterdir():
        path.unlink()
    found = []
    while queue.seal():
        found.append(queue.next_segment())
        queue.committed(found[-1])
    assert queue.ledger.total == {"journal_unreadable": spilled}
    assert len(spans(found)) == 40 - spilled


def test_the_bound_of_the_journal_is_kept_and_then_memory_sheds(tmp_path):
    """Past ``journal_max_mb`` and the bound of memory, successes are dropped, and the reason says which bound."""
    queue = queue_on(journal_in(tmp_path, max_bytes=40_000), max_spans=20)
    for number in range(1, 2_001):
        execute(queue, number)
        queue.keep_journal(stuck=True)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 40_000 + 10_000
    assert set(queue.ledger.total) == {JOURNAL_FULL}
    kept = 0
    while queue.seal():
        segment = queue.next_segment()
        kept += len(segment.records)
        queue.committed(segment)
    assert kept + queue.ledger.total[JOURNAL_FULL] == 2_000


def test_pages_go_once_their_segments_are_committed(tmp_path):
    """A page is removed when nothing of it waits any more; the one in use stays."""
    queue = queue_on(journal_in(tmp_path, max_bytes=2**18))
    for number in range(1, 1_000):
        execute(queue, number)
    assert queue.journal_pages_done() == []
    while queue.seal():
        queue.committed(queue.next_segment())
    queue.remove_journal_pages(queue.journal_pages_done())
    assert len(list(tmp_path.iterdir())) == 1
    assert queue.leave(keep=True) == (False, 0, 0)
    assert not list(tmp_path.iterdir())


def test_writing_that_stalls_again_and_again_suspends_the_journal(tmp_path, monkeypatch):
    """One slow write is a busy machine; a disk that stalls is left alone until a new page is quick."""
    moments = iter(range(100_000))
    slow = False
    monkeypatch.setattr(journal_module, "perf_counter", lambda: next(moments) * (1.0 if slow else 1e-6))
    queue = queue_on(journal_in(tmp_path), segment_max_spans=1_000)
    execute(queue, 1)
    assert queue.journal_trouble is None
    slow = True
    execute(queue, 2)
    assert queue.journal_trouble is None
    for number in range(3, 7):
        execute(queue, number)
    assert queue.journal_trouble == "writing to the disk stalls"
    queue.keep_journal(stuck=False)
    assert queue.journal_trouble is not None, "a new page was slow as well"
    slow = False
    queue.keep_journal(stuck=False)
    assert queue.journal_trouble is None


def test_two_threads_never_make_the_same_page(tmp_path):
    """The writer prepares a page while the loop turns one: their names differ."""
    journal = journal_in(tmp_path, max_bytes=2**30)
    queue = queue_on(journal)
    stop = threading.Event()

    def prepare():
        while not stop.is_set():
            journal.prepare()

    thread = threading.Thread(target=prepare)
    thread.start()
    for number in range(1, 300):
        execute(queue, number)
        with queue._mutex:
            queue._seal_open()
            journal.turn_page()
    stop.set()
    thread.join()
    assert queue.journal_trouble is None
    assert sorted(spans(what_is_left(tmp_path))) == list(range(1, 300))


def test_what_is_half_in_the_journal_at_the_end_stays_there(tmp_path, disk):
    """The disk filled up in the middle of a segment, the database took nothing: its first half is not thrown away."""
    queue = queue_on(journal_in(tmp_path), segment_max_spans=100)
    for number in range(1, 9):
        execute(queue, number)
    disk.full = True
    for number in range(9, 13):
        execute(queue, number)
    left, kept, lost = queue.leave(keep=True)
    assert (left, kept, lost) == (True, 0, 12)
    assert spans(what_is_left(tmp_path)) == list(range(1, 9))


def test_what_is_written_back_keeps_no_descriptor(tmp_path, disk):
    """A database that was away for hours leaves hundreds of segments: the host needs its descriptors."""
    queue = queue_on(journal_in(tmp_path), segment_max_spans=2)
    disk.full = True
    for number in range(1, 201):
        execute(queue, number)
    disk.full = False
    before = len(os.listdir("/proc/self/fd"))
    queue.keep_journal(stuck=True)
    queue.keep_journal(stuck=True)
    assert len(os.listdir("/proc/self/fd")) <= before + 2
    assert sorted(set(spans(what_is_left(tmp_path)))) == list(range(1, 201))


def test_the_segment_whose_commit_failed_is_written_back_too(tmp_path, disk):
    """The writer had it in hand when the database went away."""
    queue = queue_on(journal_in(tmp_path), segment_max_spans=2)
    disk.full = True
    for number in range(1, 7):
        execute(queue, number)
    assert queue.next_segment() is not None
    disk.full = False
    queue.keep_journal(stuck=True)
    assert sorted(spans(what_is_left(tmp_path))) == list(range(1, 7))


def test_an_interrupt_while_sealing_does_not_end_recording(tmp_path, monkeypatch):
    """A signal's handler that raises in the middle of it: the next seal has everything, once."""
    queue = queue_on(journal_in(tmp_path), segment_max_spans=100)
    execute(queue, 1)

    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(queue, "_idempotent", interrupted)
    with pytest.raises(KeyboardInterrupt):
        queue.seal()
    monkeypatch.setattr(queue, "_idempotent", bool)
    execute(queue, 2)
    queue.seal()
    assert spans([queue.next_segment()]) == [1, 2]


def test_a_journal_set_aside_is_not_found_again(tmp_path):
    """What was set aside as making no sense is not found again, and stays for a person to look at."""
    queue = queue_on(journal_in(tmp_path))
    execute(queue, 1)
    files = JournalFiles(tmp_path)
    files.set_aside("i-1")
    assert files.instances() == set()
    assert [path.name for path in tmp_path.iterdir()] == ["i-1.00000001.journal.unread"]


# --- exactly once, whatever happened ----------------------------------------------------------------------


class Life(RuleBasedStateMachine):
    """An application, its writer, a disk that fills up, and a death at any moment; then the next start.

    The database is a real one. With ``always_room`` nothing may be missing; when the disk was full, what was
    only in memory may be, but nothing comes twice, and nothing that returned stands as interrupted.
    """

    always_room = True

    @initialize()
    def open(self):
        self.directory = tempfile.TemporaryDirectory()
        self.path = f"{self.directory.name}/home.db"
        self.conn = open_for_writing(self.path, busy_timeout=1)
        self.conn.execute("PRAGMA synchronous = OFF")
        self.parents = Parents(self.conn)
        self.lock = SessionLock(self.path, SESSION.instance_id)
        self.lock.acquire()
        self.journal = Journal(
            sidecar_dir(self.path), SESSION, REGISTRATIONS, max_bytes=8 * 1_500, claim=self.lock.acquire
        )
        self.queue = SegmentQueue(
            SESSION, REGISTRATIONS, segment_max_spans=3, max_spans=1_000, max_bytes=2**20, journal=self.journal
        )
        self.journal._max_bytes = 2**30  # small pages, and no bound
        self.number = 0
        self.started: dict[int, Run] = {}
        self.returned: dict[int, str] = {}
        self.full = False
        self.real_append = Page.append
        self.dead = False

        def append(page, frame):
            if self.full:
                raise OSError(errno.ENOSPC, "full")
            self.real_append(page, frame)

        Page.append = append

    @rule(registration=st.sampled_from([1, 2]))
    def begin(self, registration):
        self.number += 1
        run = a_run(self.number, registration)
        self.queue.begin(run)
        self.started[self.number] = run

    @precondition(lambda self: len(self.returned) < len(self.started))
    @rule(which=st.integers(0, 100), failed=st.booleans())
    def end(self, which, failed):
        in_flight = [run for number, run in self.started.items() if number not in self.returned]
        run = in_flight[which % len(in_flight)]
        run.recorded = True
        if failed:
            run.status, run.error_type, run.error_message = "error", "ValueError", "x"
        self.queue.append(run_record(run), run)
        self.returned[run.span_id] = run.status

    @rule()
    def seal(self):
        self.queue.seal()

    @rule()
    def commit_one(self):
        self.queue.seal()
        segment = self.queue.next_segment()
        if segment is not None:
            commit_segment(self.conn, self.parents, segment, 2e9)
            self.queue.committed(segment)

    @rule()
    def commit_without_hearing_of_it(self):
        """The process dies between COMMIT and the queue's being told."""
        segment = self.queue.next_segment()
        if segment is not None:
            commit_segment(self.conn, self.parents, segment, 2e9)
            self.die()

    @rule(stuck=st.booleans())
    def upkeep(self, stuck):
        self.queue.keep_journal(stuck=stuck)

    @rule()
    def release(self):
        self.queue.remove_journal_pages(self.queue.journal_pages_done())

    @rule()
    def memory_is_short(self):
        with self.queue._mutex:
            self.queue._spill()

    @precondition(lambda self: not self.always_room)
    @rule(full=st.booleans())
    def fill_up(self, full):
        self.full = full

    @rule()
    def die(self):
        self.dead = True
        self.lock.forget()
        assert not is_alive(self.path, SESSION.instance_id)
        assert self.bury() in (0, 1)
        self.check()
        assert self.bury() == 0, "the second finds nothing to do"
        self.check()
        self.close()
        self.open()

    def bury(self):
        life = SessionLife(self.conn, Parents(self.conn), self.path, OTHER)
        return life.bury_the_dead(JournalFiles(sidecar_dir(self.path)), 4e9)

    def check(self):
        rows = self.conn.execute(
            "SELECT span_id, status, error_type FROM handler_invocations"
            " UNION ALL SELECT span_id, status, error_type FROM job_executions"
        ).fetchall()
        counts = Counter(int.from_bytes(span_id, "big") for span_id, _, _ in rows)
        assert set(counts.values()) <= {1}, "nothing twice"
        found = {int.from_bytes(span_id, "big"): (status, error) for span_id, status, error in rows}
        assert self.conn.execute("SELECT count(*) FROM running").fetchone() == (0,)
        if self.always_room:
            expected = {number: self.returned.get(number, "error") for number in self.started}
            assert {number: status for number, (status, _) in found.items()} == expected
            interrupted = {number for number, (_, error) in found.items() if error == "ProcessInterrupted"}
            assert interrupted == set(self.started) - set(self.returned)
            assert self.conn.execute("SELECT count(*) FROM losses").fetchone() == (0,)
        reasons = self.conn.execute("SELECT stop_reason FROM sessions").fetchall()
        assert set(reasons) <= {("crash",)}
        assert not sidecar_dir(self.path).exists()

    def close(self):
        Page.append = self.real_append
        self.queue.leave_journal()
        self.conn.close()
        self.directory.cleanup()

    @invariant()
    def in_memory_or_in_the_file_or_in_the_journal(self):
        if self.number:
            assert len(self.queue.active) == len(self.started) - len(self.returned)

    def teardown(self):
        if hasattr(self, "queue"):
            self.die()
            self.close()


class LifeOnAFullDisk(Life):
    always_room = False


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=25, stateful_step_count=30, deadline=None)
TestLifeOnAFullDisk = LifeOnAFullDisk.TestCase
TestLifeOnAFullDisk.settings = TestLife.settings
