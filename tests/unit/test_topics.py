"""Topics: what a glob matches, and who is found for a topic in which order."""

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handspan.errors import RegistrationError
from handspan.runtime.topics import TopicIndex, compile_topic


def matches(pattern: str, topic: str) -> bool:
    return compile_topic(pattern).fullmatch(topic) is not None


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("light.kitchen", "light.kitchen"),
        ("light.*", "light.kitchen"),
        ("*.kitchen", "light.kitchen"),
        ("light.kit*en", "light.kitchen"),
        ("light.kitchen_?", "light.kitchen_1"),
        ("**", "light.kitchen"),
        ("**", ""),
        ("light.**", "light"),
        ("light.**", "light.kitchen.ceiling"),
        ("**.ceiling", "light.kitchen.ceiling"),
        ("**.ceiling", "ceiling"),
        ("light.**.ceiling", "light.ceiling"),
        ("light.**.ceiling", "light.a.b.ceiling"),
        ("light.**.**", "light"),
        ("sensor.*", "sensor.öl (€)"),
        ("a.*", "a."),
        ("a.*", "a.line\nbreak"),
        ("a[1].*", "a[1].b"),
    ],
    ids=str,
)
def test_matches(pattern: str, topic: str) -> None:
    """A pattern matches by whole segments; everything but its wildcards stands for itself."""
    assert matches(pattern, topic)


@pytest.mark.parametrize(
    ("pattern", "topic"),
    [
        ("light.*", "light"),
        ("light.*", "light.kitchen.ceiling"),
        ("light.?", "light.kitchen"),
        ("light.?", "light.."),
        ("light.**", "lights"),
        ("light.**.ceiling", "light.ceilings"),
        ("**.ceiling", "light.kitchenceiling"),
        ("light.kitchen", "light_kitchen"),
        ("Light.*", "light.kitchen"),
    ],
    ids=str,
)
def test_does_not_match(pattern: str, topic: str) -> None:
    """No wildcard but ** crosses a dot, a dot is no wildcard, and case matters."""
    assert not matches(pattern, topic)


@pytest.mark.parametrize("pattern", ["light.kit**", "a.***", "**b.c"])
def test_double_star_inside_a_segment_is_refused(pattern: str) -> None:
    """** stands for whole segments; elsewhere it would silently mean something else."""
    with pytest.raises(RegistrationError, match="whole segments"):
        compile_topic(pattern)


# --- against a naive reference ---------------------------------------------------------------------------

SEGMENTS = st.text("ab*?", max_size=3).filter(lambda text: "**" not in text) | st.just("**")
PATTERNS = st.lists(SEGMENTS, min_size=1, max_size=5).map(".".join)
TOPICS = st.lists(st.text("ab\n", max_size=3), min_size=1, max_size=5).map(".".join)


def naive(pattern: list[str], topic: list[str]) -> bool:
    if not pattern:
        return not topic
    if pattern[0] == "**":
        return any(naive(pattern[1:], topic[skipped:]) for skipped in range(len(topic) + 1))
    return bool(topic) and naive_segment(pattern[0], topic[0]) and naive(pattern[1:], topic[1:])


def naive_segment(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(naive_segment(pattern[1:], text[skipped:]) for skipped in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and naive_segment(pattern[1:], text[1:])


@given(PATTERNS, TOPICS)
def test_matching_is_what_the_naive_reference_says(pattern: str, topic: str) -> None:
    """The compiled expression and thirty lines of recursion agree on every pattern and topic."""
    assert matches(pattern, topic) == naive(pattern.split("."), topic.split("."))


# --- the index --------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Entry:
    topic: str
    priority: int = 0


def test_higher_priority_first_then_first_come() -> None:
    """Exact topics and patterns share one order."""
    late, early, urgent, dull = Entry("a.b"), Entry("a.*"), Entry("**", 5), Entry("a.b", -1)
    index: TopicIndex[Entry] = TopicIndex()
    for entry in (early, dull, late, urgent):
        index.add(entry)
    assert index.match("a.b") == (urgent, early, late, dull)


def test_the_remembered_answer_ends_with_a_change() -> None:
    """A topic asked for before is asked again after somebody came or went."""
    index: TopicIndex[Entry] = TopicIndex()
    assert index.match("a") == ()
    entry = Entry("*")
    index.add(entry)
    assert index.match("a") == (entry,)
    index.remove(entry)
    index.remove(entry)
    assert index.match("a") == ()
    assert index.entries() == ()


STEPS = st.lists(st.tuples(st.booleans(), PATTERNS | TOPICS, st.integers(-1, 1)), max_size=12)


@given(STEPS, st.lists(TOPICS, min_size=1, max_size=3))
def test_the_index_finds_what_a_plain_list_would(steps: list[tuple[bool, str, int]], topics: list[str]) -> None:
    """After any additions and removals, with look-ups in between, the index and a sorted list agree."""
    index: TopicIndex[Entry] = TopicIndex()
    plain: list[Entry] = []
    for adds, topic, priority in steps:
        if adds or not plain:
            plain.append(Entry(topic, priority))
            index.add(plain[-1])
        else:
            index.remove(plain.pop(len(plain) // 2))
        for asked in topics:
            expected = [entry for entry in plain if naive(entry.topic.split("."), asked.split("."))]
            assert list(index.match(asked)) == sorted(expected, key=lambda entry: -entry.priority)
