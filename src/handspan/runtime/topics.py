"""Topics: dotted names, and globs over them.

========  =====================================================================================
``*``     any text inside one segment: ``light.*``, ``light.kitchen_*``; never crosses a dot
``?``     one character inside a segment
``**``    any number of whole segments, none included: ``state_changed.**`` hears ``state_changed`` too
========  =====================================================================================

Everything else stands for itself (there are no character classes and there is no escape). Segments are
the texts between dots and may be empty.
"""

import re
import threading
from typing import Final, Generic, Protocol, TypeVar

from handspan.errors import RegistrationError

__all__ = ["TopicIndex", "compile_topic", "is_pattern"]

CACHED_TOPICS: Final = 4096
"""Distinct topics whose listeners are remembered; a house has hundreds. Past it the memory starts afresh."""

_SEGMENT: Final = {"*": "[^.]*", "?": "[^.]"}


def is_pattern(topic: str) -> bool:
    return "*" in topic or "?" in topic


def compile_topic(pattern: str) -> re.Pattern[str]:
    """The regular expression to ``fullmatch`` a topic with."""
    expression = ""
    leading = True  # nothing but ** so far: what comes next needs no dot of its own
    previous = ""
    for segment in pattern.split("."):
        if segment != "**" and "**" in segment:
            raise RegistrationError(
                f"The topic {pattern!r} has ** inside a segment.",
                hint="** stands for whole segments; inside one, a single * is enough.",
            )
        if segment == "**":
            if previous != "**":
                expression += r"(?:[^.]*\.)*" if leading else r"(?:\.[^.]*)*"
        else:
            expression += "" if leading else r"\."
            expression += "".join(_SEGMENT.get(character) or re.escape(character) for character in segment)
            leading = False
        previous = segment
    return re.compile("(?s:.*)" if leading else expression)


class Prioritised(Protocol):
    """What the index holds. Hashable by identity."""

    @property
    def topic(self) -> str: ...

    @property
    def priority(self) -> int: ...


T = TypeVar("T", bound=Prioritised)


class TopicIndex(Generic[T]):
    """Who listens to a topic, in the order they are to start: higher priority first, then first come.

    Exact topics are in a dictionary; patterns are compiled once and tried one by one; the answer for a
    topic is remembered until somebody comes or goes, so a repeated topic costs one look-up. Changes may
    come from any thread (a handler that is a plain function registers from its worker thread).
    """

    def __init__(self) -> None:
        self._exact: dict[str, list[T]] = {}
        self._patterns: dict[str, tuple[re.Pattern[str], list[T]]] = {}
        self._order: dict[T, int] = {}
        self._arrivals = 0
        self._answers: dict[str, tuple[T, ...]] = {}
        self._lock = threading.Lock()

    def add(self, entry: T) -> None:
        compiled = compile_topic(entry.topic) if is_pattern(entry.topic) else None
        with self._lock:
            self._arrivals += 1
            self._order[entry] = self._arrivals
            if compiled is None:
                self._exact.setdefault(entry.topic, []).append(entry)
            else:
                self._patterns.setdefault(entry.topic, (compiled, []))[1].append(entry)
            self._answers = {}

    def remove(self, entry: T) -> None:
        """Twice is once."""
        with self._lock:
            if self._order.pop(entry, None) is None:
                return
            entries = self._patterns[entry.topic][1] if is_pattern(entry.topic) else self._exact[entry.topic]
            entries.remove(entry)
            if not entries:
                self._patterns.pop(entry.topic, None)
                self._exact.pop(entry.topic, None)
            self._answers = {}

    def match(self, topic: str) -> tuple[T, ...]:
        found = self._answers.get(topic)
        return self._look(topic) if found is None else found

    def entries(self) -> tuple[T, ...]:
        with self._lock:
            return tuple(self._order)

    def _look(self, topic: str) -> tuple[T, ...]:
        with self._lock:
            found = list(self._exact.get(topic, ()))
            for compiled, entries in self._patterns.values():
                if compiled.fullmatch(topic):
                    found.extend(entries)
            found.sort(key=lambda entry: (-entry.priority, self._order[entry]))
            if len(self._answers) >= CACHED_TOPICS:
                self._answers = {}
            answer = self._answers[topic] = tuple(found)
            return answer
