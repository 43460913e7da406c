"""What a run keeps of its lines: the first and the newest, however many there are and whoever writes them."""

import threading

from hypothesis import given
from hypothesis import strategies as st

from handspan.recording.logs import RunLogs
from handspan.recording.sizes import RECORD_BYTES, size_of
from handspan.records import SpanRecord


def line(number):
    return (float(number), 20, "l", str(number), None, None)


@given(most=st.integers(2, 9), count=st.integers(0, 40))
def test_the_first_half_and_the_newest(most, count):
    """In order, with one line of ours where some are missing; what is kept and what is missing is what came."""
    logs = RunLogs(most)
    for number in range(count):
        logs.add(line(number))
    found = logs.lines()
    numbers = [int(each[3]) for each in found if each[2] == "l"]
    said = [each[3] for each in found if each[2] == "handspan"]
    assert len(numbers) == min(most, count)
    if count <= most:
        assert (numbers, said) == (list(range(count)), [])
        return
    head = most - most // 2
    assert numbers == [*range(head), *range(count - most // 2, count)]
    assert found[head][3] == said[0] == (
        f"{count - most} lines were left out here: log_max_records keeps the first and the last."
    )  # fmt: skip
    assert [each[0] for each in found] == sorted(each[0] for each in found)
    assert logs.lines() == found


def test_threads_at_once_lose_no_count():
    """Nothing is locked, and still each line is kept or counted."""
    logs, together = RunLogs(100), threading.Barrier(4)

    def write():
        together.wait()
        for number in range(5_000):
            logs.add(line(number))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    found = logs.lines()
    assert len(found) == 101
    assert found[50][3].startswith("19900 lines were left out")


def test_the_queues_bound_counts_lines():
    """A run of long lines is as large as they are."""
    small = SpanRecord(b"", b"", 0, 0, "success", 1)
    large = SpanRecord(b"", b"", 0, 0, "success", 1, logs=[(0.0, 20, "l", "x" * 1000, None, None)] * 10)
    assert size_of(small) == RECORD_BYTES
    assert size_of(large) > RECORD_BYTES + 10_000
