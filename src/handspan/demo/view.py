"""The picture of the day so far: lines as wide as the terminal, as many as it is high. No terminal is touched here.

It knows what the house has already: the executor's results, counted, and the telemetry's health.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.cells import cell_len
from rich.text import Text

from handspan.cli.figures import amount, count, one_line, size, took
from handspan.cli.output import FAILED, PALE, STYLE_OF
from handspan.cli.table import Table, figure, name, text, word
from handspan.demo.apps import APPS
from handspan.demo.clock import HouseClock
from handspan.demo.counting import SLOTS, CountingHost, Tally
from handspan.demo.day import RECORDED_SECONDS, clock_text, phase_at, recorded_at
from handspan.instruments import Health

__all__ = ["Rate", "Scene", "picture"]

CANCELLED: Final = STYLE_OF["cancelled"]
QUANTITY: Final = "bright_blue"
BLOCKS: Final = "▁▂▃▄▅▆▇█"
LEAST_ROLL: Final = 12  # columns; narrower says nothing
FIXED_LINES: Final = 18
"""All but the rows of the two lists that take what is left."""
SPARK_SECONDS: Final = 24
APP_KEYS: Final = [f"{app.__module__.rpartition('.')[2]}.{app.__name__}" for app in APPS]


class Rate:
    """Runs a second, for each of the last seconds."""

    def __init__(self) -> None:
        self._totals: dict[int, int] = {}

    def note(self, elapsed: float, total: int) -> None:
        self._totals[int(elapsed)] = total

    def seconds(self) -> list[int]:
        """The last one is not over yet."""
        last = max(self._totals, default=0)
        total, found = 0, []
        for second in range(last + 1):
            before, total = total, self._totals.get(second, total)
            found.append(total - before)
        return found[-SPARK_SECONDS:]


@dataclass
class Scene:
    """What there is to see."""

    db: str
    clock: HouseClock
    host: CountingHost
    health: Callable[[], Health]
    notices: Sequence[str] = ()
    """What handspan complained of; hopefully nothing."""
    rate: Rate = field(default_factory=Rate)

    @property
    def share(self) -> float:
        """Of the recording that is over."""
        return min(1.0, recorded_at(self.clock.monotonic()) / RECORDED_SECONDS)


def picture(scene: Scene, width: int, height: int) -> list[Text]:
    scene.rate.note(scene.clock.elapsed, scene.host.total)
    rows = max(2, height - FIXED_LINES)
    slowest = min(rows // 2, 8)
    lines = [
        _head(scene, width),
        _bar(scene.share, width),
        Text(),
        _totals(scene),
        Text(),
        *_apps(scene, width),
        Text(),
        *_padded(_slowest(scene.host, slowest, width), slowest + 1),
        Text(),
        *_padded(_errors(scene, rows - slowest, width), rows - slowest + 1),
        Text(one_line(scene.notices[-1]) if scene.notices else "", style=FAILED),
        _recording(scene),
    ]
    for line in lines:
        line.truncate(width, overflow="ellipsis")
        line.no_wrap = True
    return lines[:height]


def _head(scene: Scene, width: int) -> Text:
    now = scene.clock.monotonic()
    left = Text.assemble(("handspan demo", "bold"), "   ", (clock_text(now), "bold"), "  ", phase_at(now))
    speed = "as fast as it goes" if scene.clock.speed is None else f"{scene.clock.speed:g} \N{MULTIPLICATION SIGN}"
    right = Text(f"{speed}   Ctrl-C ends", style=PALE)
    return _apart(left, right, width)


def _bar(share: float, width: int) -> Text:
    percent = f" {share * 100:3.0f} %"
    cells = width - len(percent)
    done = round(share * cells)
    return Text.assemble(("━" * done, QUANTITY), ("─" * (cells - done), PALE), percent)


def _totals(scene: Scene) -> Text:
    host = scene.host
    failed, cancelled = host.count_of("error"), host.count_of("cancelled")
    seconds = scene.rate.seconds()
    complete = seconds[:-1] or seconds
    return Text.assemble(
        (amount(host.total, "run"), "bold"),
        "   ",
        (f"{count(failed)} failed", FAILED if failed else PALE),
        "   ",
        (f"{count(cancelled)} cancelled", CANCELLED if cancelled else PALE),
        "   ",
        f"{count(complete[-1] if complete else 0)} runs/s ",
        (_spark(complete), QUANTITY),
    )


def _apps(scene: Scene, width: int) -> list[Text]:
    host = scene.host
    table = Table(name("app"), figure("runs"), figure("failed"), figure("cancelled"), figure("mean"), figure("slowest"))
    for key in APP_KEYS:
        tally = host.apps.get(key, Tally())
        table.add(
            _short(key),
            _or_pale(tally.runs),
            _or_pale(tally.errors, FAILED),
            _or_pale(tally.cancelled, CANCELLED),
            took(tally.mean_ms),
            took(tally.max_ms),
        )
    lines = table.lines(width)
    used = max(cell_len(line.plain) for line in lines) + 3
    columns = width - used
    if columns >= LEAST_ROLL:
        rolls = [_hours(columns), *(_roll(host.roll.get(key), columns) for key in APP_KEYS)]
        for line, roll in zip(lines, rolls, strict=True):
            line.pad_right(used - cell_len(line.plain))
            line.append_text(roll)
    return lines


def _hours(columns: int) -> Text:
    """The roll's axis."""
    cells = [" "] * columns
    free = 0
    for hour in range(0, 24, 2):
        at = int(recorded_at(hour * 3600.0) / RECORDED_SECONDS * columns)
        label = f"{hour:02d}"
        if free <= at <= columns - len(label):
            cells[at : at + len(label)] = label
            free = at + len(label) + 2
    return Text("".join(cells), style=PALE)


def _roll(slots: list[list[int]] | None, columns: int) -> Text:
    """A column is a part of the day: how high, how many runs; red, one of them failed."""
    sums = [[0, 0] for _ in range(columns)]
    for i, (runs, errors) in enumerate(slots or ()):
        column = sums[i * columns // SLOTS]
        column[0] += runs
        column[1] += errors
    most = max(runs for runs, _ in sums)
    line = Text()
    for runs, errors in sums:
        line.append(_block(runs, most), style=FAILED if errors else QUANTITY)
    return line


def _slowest(host: CountingHost, rows: int, width: int) -> list[Text]:
    table = Table(name("slowest"), figure("runs"), figure("95 % within"), figure("longest"))
    found = [(key, tally) for key, tally in host.handles.items() if tally.finished]
    found.sort(key=lambda each: each[1].p95_ms or 0.0, reverse=True)
    for (app_key, method), tally in found[:rows]:
        table.add(f"{_short(app_key)}.{method}", count(tally.runs), took(tally.p95_ms), took(tally.max_ms))
    return table.lines(width)


def _errors(scene: Scene, rows: int, width: int) -> list[Text]:
    table = Table(word("failed"), figure("times"), name("in"), text("why"))
    for failure, times in list(reversed(scene.host.failures.items()))[:rows]:
        why = Text.assemble(
            (one_line(failure.error_type), FAILED), ": " if failure.message else "", one_line(failure.message)
        )
        table.add(clock_text(scene.host.failed_at[failure]), count(times), _short(failure.name), why)
    return table.lines(width)


def _recording(scene: Scene) -> Text:
    health = scene.health()
    lost = sum(health.lost.values())
    if health.failing_since is not None:
        return Text(one_line(f"not recording: {health.last_error}"), style=FAILED)
    return Text.assemble(
        (f"{amount(health.committed, 'span')} in the file   {count(health.queue_size)} waiting   ", PALE),
        (f"{count(lost)} lost", FAILED if lost else PALE),
        (f"   {size(_on_disk(scene.db))}   {scene.db}", PALE),
    )


def _on_disk(db: str) -> int:
    """Of the database and its log, which the writer empties now and then."""
    return sum(os.path.getsize(path) for path in (db, f"{db}-wal") if os.path.exists(path))


def _apart(left: Text, right: Text, width: int) -> Text:
    space = width - cell_len(left.plain) - cell_len(right.plain)
    return Text.assemble(left, " " * space, right) if space >= 2 else left


def _padded(lines: list[Text], to: int) -> list[Text]:
    """Nothing below moves when a list grows."""
    return lines + [Text() for _ in range(to - len(lines))]


def _short(key: str) -> str:
    """Without the module, which says the same in small letters."""
    return key.partition(".")[2]


def _or_pale(number: int, style: str = "") -> Text:
    return Text(count(number), style=style if number else PALE)


def _spark(values: Sequence[int]) -> str:
    most = max(values, default=0)
    return "".join(_block(value, most) for value in values)


def _block(value: int, most: int) -> str:
    """Between linear and a root: a burst stands out, and does not flatten the rest."""
    return BLOCKS[min(7, int((value / most) ** 0.75 * 8))] if value else " "
