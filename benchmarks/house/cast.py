"""Who is registered: 45 handlers and 15 jobs of two services, how often each runs, how long it takes, how it fails."""

import math
import random
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final, Literal

from benchmarks.house.failures import FAILURES, Failure

__all__ = [
    "BEGAN_TO_FAIL",
    "GOT_SLOWER",
    "LATE",
    "QUIET",
    "STOPPED",
    "STORM",
    "WEEK",
    "Actor",
    "cast",
    "due_times",
]

Kind = Literal["handler", "job"]
WEEK: Final = 7 * 86_400

GOT_SLOWER: Final = "climate.on_temperature"
BEGAN_TO_FAIL: Final = "notify.on_message"
STOPPED: Final = "energy.read_meter"
LATE: Final = ("weather.fetch_forecast", "reports.hourly")
QUIET: Final = "garage.on_door"  # nothing since its session began
STORM: Final = frozenset({"lights.on_motion", "lights.on_switch", "media.on_state", "covers.on_sun", "hub.on_event"})
"""Fail together while the gateway is down."""

HANDLERS: Final = """
energy.on_power sensor.power.*
lights.on_motion binary_sensor.motion.*
climate.on_temperature sensor.temperature.*
presence.on_position device_tracker.*
hub.on_event hub.event
lights.on_switch switch.*
media.on_state media_player.*
climate.on_humidity sensor.humidity.*
energy.on_solar sensor.solar.*
lights#1.on_motion binary_sensor.motion.*
security.on_contact binary_sensor.door.*
presence.on_arrival person.*
covers.on_sun sun.sun
notify.on_message notify.*
history.on_change *
vacuum.on_state vacuum.*
climate.on_window binary_sensor.window.*
security.on_camera camera.*
garden.on_soil sensor.soil.*
media.on_volume media_player.volume
lights.on_scene scene.*
hub.on_reconnect hub.connection
energy.on_tariff sensor.tariff
kitchen.on_fridge sensor.fridge.*
kitchen.on_oven climate.oven
garden.on_rain sensor.rain
covers.on_wind sensor.wind
security.on_lock lock.*
presence.on_departure person.*
notify.on_receipt notify.receipt
vacuum.on_bin sensor.bin
media.on_cast cast.*
history.on_purge history.purge
kitchen.on_timer timer.*
weather.on_alert weather.alert
climate.on_boiler climate.boiler
security.on_alarm alarm_control_panel.*
garden.on_valve valve.*
energy.on_outage sensor.grid
hub.on_firmware update.*
notify.on_doorbell doorbell.*
security.on_siren siren.*
""".strip().splitlines()
"""Of the service ``house``, the busiest first."""

GARAGE_HANDLERS: Final = (
    "garage.on_car sensor.car.*",
    "garage.on_charger sensor.charger.*",
    "garage.on_door cover.door",
)
RARE: Final = 8  # the last of the house's: a few a day each, whatever the size

JOBS: Final = (
    # name, trigger, its value (seconds or cron), share of all runs or None
    ("energy.sample_power", "interval", 0.060),
    ("presence.poll_router", "interval", 0.020),
    ("history.flush", "interval", 0.010),
    ("hub.ping", "interval", 0.005),
    ("weather.fetch_forecast", "interval", 300.0),
    ("energy.read_meter", "interval", 300.0),
    ("climate.regulate", "interval", 60.0),
    ("notify.retry_unsent", "interval", 900.0),
    ("covers.follow_sun", "interval", 600.0),
    ("reports.hourly", "cron", "0 * * * *"),
    ("energy.roll_up", "cron", "5 * * * *"),
    ("history.vacuum", "cron", "30 2 * * *"),
    ("backup.nightly", "cron", "0 3 * * *"),
    ("garden.water", "cron", "15 6 * * *"),
    ("garage.check_tyres", "cron", "0 7 * * *"),
)

TIDY: Final = (1, 2, 5, 10, 15, 20, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400)  # seconds

_EVENING: Final = (2, 1, 1, 1, 1, 3, 9, 14, 10, 6, 5, 6, 7, 6, 5, 6, 9, 14, 20, 22, 20, 15, 9, 5)
_DAY: Final = (1, 1, 1, 1, 1, 2, 5, 9, 12, 14, 15, 16, 16, 15, 14, 13, 11, 8, 5, 3, 2, 1, 1, 1)
_FLAT: Final = (8, 8, 7, 7, 7, 8, 9, 11, 11, 10, 10, 10, 10, 10, 10, 10, 11, 12, 12, 12, 11, 10, 9, 8)
_RHYTHMS: Final = tuple(tuple(v * 24 / sum(each) for v in each) for each in (_FLAT, _EVENING, _DAY))

POOL: Final = 1 << 14
_SIGMAS: Final = (0.35, 0.6, 0.9, 1.2)


@dataclass
class Actor:
    """One registration."""

    kind: Kind
    id: int
    service: str
    app_key: str
    instance_index: int
    name: str
    topic: str | None = None
    trigger: str | None = None
    value: float | str | None = None
    per_week: float = 0.0
    rhythm: tuple[float, ...] = _RHYTHMS[0]
    median_ns: float = 1e6
    pool: list[float] = field(default_factory=list)
    """Durations over the median: twice the same, so that any slice of it is whole."""
    error_rate: float = 0.0
    cancel_rate: float = 0.0
    failures: list[Failure] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        return f"{self.app_key}.{self.name}"

    @property
    def interval(self) -> float | None:
        return self.value if isinstance(self.value, float) else None


def cast(runs: int, chance: random.Random) -> list[Actor]:
    """All 60. ``runs``: how many a week they shall make together."""
    pools = [_durations(sigma, chance) for sigma in _SIGMAS]
    jobs = _jobs(runs)
    handlers = _handlers(runs - sum(job.per_week for job in jobs))
    for number, actor in enumerate([*handlers, *jobs]):
        scale = 40.0 if actor.kind == "job" else 1.0
        actor.median_ns = scale * math.exp(chance.uniform(math.log(0.25e6), math.log(60e6)))
        actor.pool = pools[number % len(pools)]
        actor.cancel_rate = (0.0, 0.0, 0.002, 0.0005)[number % 4]
        actor.error_rate = (0.004, 0.02, 0.01, 0.06, 0.002)[(number * 7) % 5]
        first = number % len(FAILURES)
        actor.failures = [FAILURES[first], FAILURES[(first * 7 + 3) % len(FAILURES)]]
    _calibrate([*handlers, *jobs], 0.0185)
    return [*handlers, *jobs]


def _handlers(runs: float) -> list[Actor]:
    found: list[Actor] = []
    for number, line in enumerate([*HANDLERS, *GARAGE_HANDLERS], 1):
        name, topic = line.split()
        app, _, method = name.partition(".")
        app, _, instance = app.partition("#")
        service = "garage" if app == "garage" else "house"
        found.append(Actor("handler", number, service, app, int(instance or 0), method, topic=topic))
    rare, busy = found[len(HANDLERS) - RARE : len(HANDLERS)], found[: len(HANDLERS) - RARE] + found[len(HANDLERS) :]
    for number, actor in enumerate(rare):
        actor.per_week = 7.0 * (40, 24, 16, 12, 8, 5, 3, 2)[number]
    left = max(0.0, runs - sum(actor.per_week for actor in rare))
    weights = [(rank + 1) ** -0.95 for rank in range(len(busy))]
    for number, (actor, weight) in enumerate(zip(busy, weights, strict=True)):
        actor.per_week = left * weight / sum(weights)
        actor.rhythm = _RHYTHMS[number % len(_RHYTHMS)]
    return found


def _jobs(runs: int) -> list[Actor]:
    found: list[Actor] = []
    for number, (name, trigger, value) in enumerate(JOBS, 1):
        app, _, method = name.partition(".")
        if trigger == "interval" and isinstance(value, float):
            seconds = value if value >= 1 else _tidy(WEEK / (value * runs))
            per_week, of = WEEK / seconds, float(seconds)
            if value >= 1 and per_week > runs / 200:  # a small file is not to be all jobs
                of = _tidy(WEEK * 200 / runs)
                per_week = WEEK / of
            actor = Actor("job", number, "house", app, 0, method, trigger=trigger, value=of, per_week=per_week)
        else:
            per_week = 168.0 if str(value).endswith("* * * *") else 7.0
            service = "garage" if app == "garage" else "house"
            actor = Actor("job", number, service, app, 0, method, trigger=trigger, value=str(value), per_week=per_week)
        found.append(actor)
    return found


def _tidy(seconds: float) -> float:
    return float(min(TIDY, key=lambda each: abs(math.log(each / seconds))))


def _durations(sigma: float, chance: random.Random) -> list[float]:
    """Lognormal, with a tail of one in two hundred that takes ten to a hundred times as long."""
    found = [chance.lognormvariate(0, sigma) for _ in range(POOL)]
    for index in range(0, POOL, 200):
        found[index] *= chance.uniform(10, 100)
    chance.shuffle(found)
    return found + found


def _calibrate(actors: list[Actor], share: float) -> None:
    """So many of all runs fail on an ordinary day; troubles come on top."""
    runs = sum(actor.per_week for actor in actors)
    factor = share * runs / sum(actor.per_week * actor.error_rate for actor in actors)
    for actor in actors:
        actor.error_rate = min(0.3, actor.error_rate * factor)


def due_times(actor: Actor, since: float, until: float) -> list[float]:
    """When a job is due between the two: from the clock's own multiples, as schedulers do."""
    if actor.interval is not None:
        first = math.ceil(since / actor.interval)
        return [n * actor.interval for n in range(first, math.ceil(until / actor.interval))]
    minute, hour = str(actor.value).split()[:2]
    step, offset = (3600, int(minute) * 60) if hour == "*" else (86_400, int(hour) * 3600 + int(minute) * 60)
    first = math.ceil((since - offset) / step)
    found = [n * step + offset for n in range(first, math.ceil((until - offset) / step))]
    if any(later <= earlier for earlier, later in pairwise(found)):
        raise RuntimeError(f"{actor.full_name}: its times are not in order")
    return [float(each) for each in found]
