"""A small, complete host for event handlers and scheduled jobs, recorded by handspan.

Read in this order: ``host`` (what it needs), ``events``, ``topics``, ``gates``, ``injection``, ``bus``,
``cron``, ``scheduler``, ``app``. It never imports :class:`handspan.Telemetry`, which is one possible host.
"""

from handspan.runtime.app import App, AppBus
from handspan.runtime.bus import Bus, ListenOptions, Subscription
from handspan.runtime.events import Event
from handspan.runtime.host import Host, LoopTimers, Timers
from handspan.runtime.injection import Depends
from handspan.runtime.scheduler import AppScheduler, JobOptions, ScheduledJob, Scheduler

__all__ = [
    "App",
    "AppBus",
    "AppScheduler",
    "Bus",
    "Depends",
    "Event",
    "Host",
    "JobOptions",
    "ListenOptions",
    "LoopTimers",
    "ScheduledJob",
    "Scheduler",
    "Subscription",
    "Timers",
]
