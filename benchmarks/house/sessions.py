"""The year's processes: restarts every week, two deploys, two crashes, and a second service beside the first."""

from dataclasses import dataclass
from typing import Final

__all__ = ["BEGAN", "CRASH", "DEPLOY", "SLOWER", "STOPPED_SINCE", "STORM_BEGAN", "STORM_SECONDS", "Run", "sessions"]

DAY: Final = 86_400.0
HOUR: Final = 3_600.0

# Seconds before the end of the file.
DEPLOY: Final = 20 * HOUR  # version 2026.6.0
SLOWER: Final = DEPLOY  # a handler got slower with it
BEGAN: Final = 6.5 * HOUR  # one began to fail
STOPPED_SINCE: Final = 31 * HOUR  # one job does not run any more
CRASH: Final = 3 * HOUR  # the newer of two
OLDER_CRASH: Final = 2 * DAY + 7 * HOUR
STORM_BEGAN: Final = 3 * DAY + 5 * HOUR
STORM_SECONDS: Final = 18 * 60.0


@dataclass(frozen=True)
class Run:
    """One run of a process."""

    id: int
    service: str
    started_at: float
    stopped_at: float | None
    reason: str | None
    version: str

    def until(self, end: float) -> float:
        return end if self.stopped_at is None else self.stopped_at


def sessions(end: float) -> list[Run]:
    """In the order of their starts."""
    found: list[tuple[str, float, float | None, str | None, str]] = []
    edge = end - 365 * DAY
    for week in range(51):
        stop = edge + 7 * DAY
        found.append(("house", edge + 20, stop, "clean_shutdown", f"2025.{6 + week // 4}.{week % 4}"))
        edge = stop
    last = end - 5 * DAY - 3 * HOUR
    found += [
        ("house", edge + 20, last, "clean_shutdown", "2026.5.0"),
        ("house", last + 40, end - OLDER_CRASH, "crash", "2026.5.1"),
        ("house", end - OLDER_CRASH + 14 * 60 + 7, end - DEPLOY, "clean_shutdown", "2026.5.1"),
        ("house", end - DEPLOY + 25, end - CRASH, "crash", "2026.6.0"),
        ("house", end - CRASH + 3 * 60 + 2, None, None, "2026.6.0"),
        ("garage", end - 200 * DAY, end - 4 * DAY, "unknown", "1.4"),
        ("garage", end - 4 * DAY + HOUR, None, None, "1.5"),
    ]
    found.sort(key=lambda each: each[1])
    return [Run(number, *each) for number, each in enumerate(found, 1)]
