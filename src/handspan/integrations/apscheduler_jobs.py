"""An APScheduler job, described: its trigger in words, the names it may go by, where it was added."""

import itertools
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final

from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from apscheduler.triggers.interval import IntervalTrigger
from apscheduler.util import get_callable_name

from handspan.serialize import safe_json_serialize
from handspan.source import callable_source

__all__ = ["JobFacts", "describe", "module_of", "names_for", "registered_at_level"]

_RANDOM_ID: Final = re.compile(r"[0-9a-f]{32}")  # what APScheduler makes up where no id was given
_CRON: Final = ("minute", "hour", "day", "month", "day_of_week")
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # as APScheduler numbers them; cron begins at sunday


@dataclass(frozen=True)
class JobFacts:
    """What its row says of a job. Plain values, so that comparing two is safe whatever the arguments are."""

    func: Callable[..., Any]
    id: str
    name: str
    trigger_type: str
    trigger_value: str
    args: str
    kwargs: str

    @property
    def identity(self) -> tuple[object, ...]:
        """As long as it stays, the job keeps its handspan name."""
        return self.func, self.id, self.name


def describe(job: Any) -> JobFacts:
    kind, value = _trigger(job.trigger)
    return JobFacts(
        func=job.func,
        id=job.id,
        name=job.name,
        trigger_type=kind,
        trigger_value=value,
        args=safe_json_serialize(list(job.args)),
        kwargs=safe_json_serialize(dict(job.kwargs)),
    )


def names_for(facts: JobFacts) -> Iterator[str]:
    """Names to try until one is free. They must be the same after a restart, so a random id is none of them."""
    given = facts.name != get_callable_name(facts.func)
    if given:
        yield facts.name
    if not _RANDOM_ID.fullmatch(facts.id):
        yield facts.id
    name = facts.name if given else callable_source(facts.func).method
    if not given:
        yield name
    for number in itertools.count(2):
        yield f"{name}-{number}"


def module_of(func: Callable[..., Any]) -> str:
    """The default ``app_key``, as for the decorators."""
    target: Any = func
    while hasattr(target, "func") and not hasattr(target, "__qualname__"):  # functools.partial
        target = target.func
    return str(getattr(target, "__module__", None) or type(target).__module__)


def _trigger(trigger: Any) -> tuple[str, str]:
    if isinstance(trigger, IntervalTrigger):
        return "interval", str(trigger.interval.total_seconds())
    if isinstance(trigger, CronTrigger):
        return "cron", _cron(trigger)
    if isinstance(trigger, DateTrigger):
        return "date", trigger.run_date.isoformat()
    return type(trigger).__name__.removesuffix("Trigger").lower(), str(trigger)


def _cron(trigger: Any) -> str:
    """Minute, hour, day, month, weekday, and second if needed; APScheduler's own text where years or weeks are set."""
    fields = {field.name: str(field) for field in trigger.fields}
    if fields["year"] != "*" or fields["week"] != "*":
        return str(trigger)
    fields["day_of_week"] = re.sub(r"(?<![\w/])[0-6](?!\w)", lambda day: _DAYS[int(day[0])], fields["day_of_week"])
    text = " ".join(fields[name] for name in _CRON)
    return text if fields["second"] == "0" else f"{text} {fields['second']}"


def registered_at_level() -> int:
    """The ``stacklevel`` of the frame outside both handspan and APScheduler: who added the job."""
    frame: FrameType | None = sys._getframe(1)  # noqa: SLF001 - inspect.stack() reads sources from disk
    while frame is not None and _package(frame) == "handspan":
        frame = frame.f_back
    level = 1
    while frame is not None and _package(frame) in ("apscheduler", "handspan"):
        frame, level = frame.f_back, level + 1
    return level


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
