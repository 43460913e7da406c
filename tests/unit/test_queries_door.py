"""``handspan.queries``: every question behind one import, and nothing loaded before it is asked."""

import ast
import dataclasses
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import typing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from whenever import Instant

import seeded
from handspan import DatabaseService, queries
from handspan.clock import instant_from_ns, to_ns
from handspan.store import queries as rooms
from handspan.store import verdict

# Steps of answers, which answer nobody by themselves.
STEPS = {"kin_of", "known_names", "list_runs", "newest_session_start", "oldest_row", "runs_by_id", "type_known"}

HOMES = [importlib.import_module(f"{rooms.__name__}.{each.name}") for each in pkgutil.iter_modules(rooms.__path__)]


def asks(thing: object) -> bool:
    return inspect.isfunction(thing) and next(iter(inspect.signature(thing).parameters), "") == "db"


def public() -> list[object]:
    return [getattr(home, name) for home in [*HOMES, verdict] for name in home.__all__]


QUESTIONS = sorted({each.__name__ for each in public() if asks(each)} - STEPS)


def test_the_questions_are_there() -> None:
    """The list the next tests go through is not empty by mistake, and no step is listed that is none."""
    assert len(QUESTIONS) > 40
    assert {each.__name__ for each in public() if asks(each)} >= STEPS


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_is_offered(name: str) -> None:
    """What takes a database and is public in store/queries or store/verdict can be had here, and is in the map."""
    assert name in queries.__all__
    assert f"``{name}``" in queries.__doc__


def shapes_of(hint: object) -> set[type]:
    """Dataclasses in a type, and in the types of their fields."""
    found: set[type] = set()
    waiting = [hint]
    while waiting:
        each = waiting.pop()
        waiting += typing.get_args(each)
        if inspect.isclass(each) and dataclasses.is_dataclass(each) and each not in found:
            found.add(each)
            waiting += typing.get_type_hints(each).values()
    return found


@pytest.mark.parametrize("name", QUESTIONS)
def test_what_a_question_takes_and_gives_is_offered(name: str) -> None:
    """Nobody has to look for the class of an answer, or of a part of one, in another module."""
    function = getattr(queries, name)
    hints = typing.get_type_hints(function, vars(sys.modules[function.__module__]))
    missing = {shape.__name__ for hint in hints.values() for shape in shapes_of(hint)} - set(queries.__all__)
    assert missing == set()


def test_every_name_can_be_had() -> None:
    """Sorted, shown by dir(), each with its own home; and the map names nothing that is not there."""
    assert dir(queries) == sorted(queries.__all__)
    assert len(set(queries.__all__)) == len(queries.__all__)
    for name in queries.__all__:
        assert getattr(queries, name) is not None
    assert set(re.findall(r"``([a-z_]+)``", queries.__doc__)) - {"db", "at"} <= set(queries.__all__)
    with pytest.raises(AttributeError, match="no attribute 'list_handlerz'"):
        queries.list_handlerz  # noqa: B018 - a typing error is an AttributeError, not an ImportError


def test_type_checkers_see_what_python_does() -> None:
    """The imports for type checkers, the homes and ``__all__`` name the same things."""
    tree = ast.parse(Path(queries.__file__).read_text(encoding="utf-8"))
    seen = {
        alias.name: node.module.removeprefix("handspan.store.")
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        for alias in node.names
    }
    homes = {name: home for home, names in queries._HOMES.items() for name in names.split()}
    assert seen == homes
    assert set(homes) == set(queries.__all__)


def test_the_door_alone_loads_nothing() -> None:
    """``from handspan import queries`` at the top of a module costs next to nothing."""
    program = "from handspan import queries\nimport sys\nprint(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sqlite3", "msgspec", "whenever", "asyncio", "handspan.store.service"} & set(loaded)


async def test_a_day_of_handlers_is_one_line(tmp_path: Path) -> None:
    """The example of the docstring; a window with two ends has one before it to compare with."""
    path = seeded.build(tmp_path / "house.db")
    end = instant_from_ns(round(seeded.NOW * 1e6) * 1000)
    async with DatabaseService(path) as db:
        handlers = await queries.list_handlers(db, queries.last("24h", end))
        same = await queries.list_handlers(db, queries.Window(queries.last("24h", end).since), now=end)
    assert sum(each.activity.runs for each in handlers) == 74
    assert handlers == same
    assert any(each.before and each.before.runs for each in handlers)


# --- windows ------------------------------------------------------------------------------------------------

AT = instant_from_ns(1_780_000_000 * 10**9)


@given(number=st.integers(0, 5000), unit=st.sampled_from(["s", "m", "h", "d"]), blank=st.sampled_from(["", " "]))
def test_a_length_is_as_long_as_it_says(number: int, unit: str, blank: str) -> None:
    """From so long ago to now, in whole seconds."""
    window = queries.last(f"{number}{blank}{unit}", AT)
    seconds = number * {"s": 1, "m": 60, "h": 3600, "d": 86_400}[unit]
    assert window.until == AT
    assert to_ns(AT) - to_ns(window.since) == seconds * 10**9


def test_the_last_hour_ends_now() -> None:
    """By this machine's clock, where no other end is given."""
    before = Instant.now()
    window = queries.last("1h")
    assert to_ns(before) // 1000 * 1000 <= to_ns(window.until) <= to_ns(Instant.now())


@pytest.mark.parametrize(
    "said",
    ["2026-05-01T06:00:00Z", "2026-05-01T08:00+02:00", datetime(2026, 5, 1, 6, tzinfo=UTC)],
    ids=["UTC", "another zone", "a datetime"],
)
def test_a_moment_is_the_same_however_it_is_said(said: str | datetime) -> None:
    """Texts with a zone, datetimes and instants."""
    moment = Instant.from_utc(2026, 5, 1, 6)
    assert queries.between(said).since == queries.between(moment).since == moment
    assert queries.between(None, said) == queries.Window(None, moment)


def test_a_time_without_a_zone_is_this_machines() -> None:
    """As on the command line."""
    local = datetime(2026, 5, 1, 6).astimezone()
    assert queries.between("2026-05-01T06:00") == queries.between(local) == queries.between(datetime(2026, 5, 1, 6))


@pytest.mark.parametrize(
    ("window", "says"),
    [
        pytest.param(lambda: queries.last("a day"), "no length of time: 90s, 15m", id="no length"),
        pytest.param(lambda: queries.last("06:00"), "no length of time", id="a time of day is no length"),
        pytest.param(lambda: queries.last("9999w"), "further back than 1970", id="before 1970"),
        pytest.param(lambda: queries.between("yesterday"), "no time: 15m", id="no time"),
        pytest.param(lambda: queries.between("2026-05-02", "2026-05-01"), "is not after", id="backwards"),
        pytest.param(lambda: queries.between(AT, AT), "is not after", id="nothing between"),
        pytest.param(lambda: queries.between("0001-01-01T00:00+14:00"), "no time", id="a year that is none"),
    ],
)
def test_what_is_no_window_says_what_is(window: typing.Callable[[], object], says: str) -> None:
    """A ValueError that helps."""
    with pytest.raises(ValueError, match=says):
        window()
