"""The recorded day: its events, and which time of day the house had when.

Home Assistant was recorded for the 409 seconds in which a household lived a day. Here that day is stretched to 24
hours again, phase by phase, so that "every five minutes" and "daily at 06:30" mean what they say.
"""

import bisect
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from importlib.resources import files
from typing import Any, Final

__all__ = [
    "MIDNIGHT",
    "RECORDED_SECONDS",
    "Recorded",
    "clock_text",
    "initial_states",
    "of_day",
    "phase_at",
    "recorded_at",
    "recorded_events",
]

RECORDED_SECONDS: Final = 409.5
MIDNIGHT: Final = 86_400.0
_BEGAN: Final = datetime.fromisoformat("2026-11-21T02:19:57+00:00")

# Recorded second, time of day, what the household was at.
_PHASES: Final = (
    (0, "00:00", "night"),
    (26, "06:30", "waking up"),
    (46, "07:15", "breakfast"),
    (66, "08:00", "leaving"),
    (86, "09:00", "nobody home"),
    (104, "10:30", "meter backlog"),
    (108, "10:45", "calls that fail"),
    (122, "11:30", "hub lost"),
    (148, "13:00", "hub back"),
    (158, "13:45", "break-in alarm"),
    (172, "14:30", "after school"),
    (186, "15:30", "tidying up"),
    (204, "17:00", "coming home"),
    (238, "18:30", "a storm of calls"),
    (246, "18:45", "a feedback loop"),
    (254, "19:00", "devices reload"),
    (264, "19:15", "too warm"),
    (284, "19:45", "dusk"),
    (300, "20:15", "sunset"),
    (338, "21:30", "party"),
    (346, "22:00", "evening"),
    (366, "22:45", "good night"),
)


def _seconds(text: str) -> float:
    hours, minutes = text.split(":")
    return int(hours) * 3600.0 + int(minutes) * 60.0


_RECORDED: Final = [float(second) for second, _, _ in _PHASES] + [RECORDED_SECONDS]
_OF_DAY: Final = [_seconds(text) for _, text, _ in _PHASES] + [MIDNIGHT]


@dataclass(frozen=True)
class Recorded:
    """One event as Home Assistant sent it, and when, in seconds of the recording."""

    second: float
    topic: str
    data: dict[str, Any]


def recorded_events() -> Iterator[Recorded]:
    """In the order of their receipt; the few whose time steps back (by 0.3 ms at most) count as simultaneous."""
    latest = 0.0
    for line in gzip.decompress(_data("ha-day.jsonl.gz")).splitlines():
        event = json.loads(line)
        latest = max(latest, (datetime.fromisoformat(event["time_fired"]) - _BEGAN).total_seconds())
        yield Recorded(latest, _topic(event["event_type"], event["data"]), event["data"])


def initial_states() -> dict[str, dict[str, Any]]:
    """Every entity at the moment the day begins."""
    return {state["entity_id"]: state for state in json.loads(gzip.decompress(_data("initial_states.json.gz")))}


def of_day(recorded: float) -> float:
    """The house's seconds since midnight. Before the recording began, and after, at the average pace."""
    return _interpolated(recorded, _RECORDED, _OF_DAY)


def recorded_at(of_day: float) -> float:
    """The other way round."""
    return _interpolated(of_day, _OF_DAY, _RECORDED)


def phase_at(of_day: float) -> str:
    return _PHASES[max(0, bisect.bisect_right(_OF_DAY, of_day, hi=len(_PHASES)) - 1)][2]


def clock_text(of_day: float) -> str:
    minutes = int(of_day) // 60
    return f"{minutes // 60:02d}:{minutes % 60:02d}"


def _topic(event_type: str, data: dict[str, Any]) -> str:
    """``state_changed.light.kitchen``, ``call_service.light.turn_on``, else the type alone."""
    if event_type == "state_changed":
        return f"state_changed.{data['entity_id']}"
    if event_type == "call_service":
        return f"call_service.{data['domain']}.{data['service']}"
    return event_type


def _data(name: str) -> bytes:
    return files("handspan.demo").joinpath("data", name).read_bytes()


def _interpolated(value: float, known: list[float], wanted: list[float]) -> float:
    if not known[0] <= value <= known[-1]:
        edge = 0 if value < known[0] else -1
        return wanted[edge] + (value - known[edge]) * wanted[-1] / known[-1]
    i = min(bisect.bisect_right(known, value), len(known) - 1)
    share = (value - known[i - 1]) / (known[i] - known[i - 1])
    return wanted[i - 1] + share * (wanted[i] - wanted[i - 1])
