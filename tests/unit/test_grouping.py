"""When two failures are the same: messages without what varies, the application's frame, the fingerprint."""

import asyncio
import concurrent.futures.process
import json
import re._parser
import sys
import sysconfig
import traceback
import tracemalloc
import types

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handspan.store import grouping
from handspan.store.grouping import LONGEST, LOOKED_AT, application_frame, fingerprint, normalise


@pytest.mark.parametrize(
    ("message", "normalised"),
    [
        pytest.param("no answer after 299 tries", "no answer after <n> tries", id="number"),
        pytest.param("took 1,234.5 ms, not -3", "took <n> ms, not <n>", id="sign, separators and fraction"),
        pytest.param("1.5e-05 is too small", "<n> is too small", id="exponent"),
        pytest.param("192.168.1.5:8080 refused", "<n> refused", id="address and port"),
        pytest.param("light.kitchen_2 unavailable", "light.kitchen_<n> unavailable", id="numbered name"),
        pytest.param("user 3f2504e0-4f89-11d3-9a0c-0305e82c3301 gone", "user <id> gone", id="uuid"),
        pytest.param("<Foo object at 0x7f12ab34cd>", "<Foo object at <id>>", id="memory address"),
        pytest.param("commit a1b2c3d4 missing", "commit <id> missing", id="hash"),
        pytest.param("token x7Gh2kQ9 expired", "token <id> expired", id="letters and digits by turns"),
        pytest.param("at 2024-05-01T12:33:12.123Z late", "at <time> late", id="timestamp"),
        pytest.param("at 2024-05-01T12:33+02:00 late", "at <time> late", id="timestamp with an offset"),
        pytest.param("since 2024-05-01", "since <time>", id="date"),
        pytest.param("""can't find 'foo' or "bar" or `baz`""", "can't find <...> or <...> or <...>", id="quoted"),
        pytest.param("'don't', she said", "<...>, she said", id="quoted, with an apostrophe in it"),
        pytest.param("'temperature'", "<...>", id="a KeyError"),
        pytest.param("[1, 2, 3] is too long", "[<n>] is too long", id="list"),
        pytest.param("GET https://x.org/u/42?key=a&b=1 failed", "GET https://x.org/u/<n>?<...> failed", id="url"),
        pytest.param("/tmp/tmpab12cd34/x.txt: gone", "/tmp/<...>: gone", id="temporary path"),
        pytest.param("peter.o@example.org bounced", "<...> bounced", id="mail"),
        pytest.param("a  b\n\tc", "a b c", id="white space"),
        pytest.param("Connection refused", "Connection refused", id="nothing varies"),
        pytest.param("", "", id="empty"),
    ],
)  # fmt: skip
def test_what_varies_is_a_placeholder(message, normalised):
    """Numbers, ids, times, quoted values and temporary paths; words stay."""
    assert normalise(message) == normalised


@given(st.integers(0, 10**12), st.uuids(), st.text("abc xyz", max_size=30), st.integers(0, 2**64))
def test_the_same_failure_with_other_values_is_the_same(number, identity, quoted, address):
    """Whatever the values, one group."""
    message = f"entity {identity} at {hex(address)}: got '{quoted}' after {number} tries"
    assert normalise(message) == "entity <id> at <id>: got <...> after <n> tries"


@given(st.text(max_size=700))
def test_any_text_is_bounded(text):
    """Never longer than promised, never a line break, and what lies beyond the first 500 characters says nothing."""
    found = normalise(text)
    assert len(found) <= LONGEST
    assert "\n" not in found
    assert normalise(text[:LOOKED_AT].ljust(LOOKED_AT, "x") + text) == normalise(
        text[:LOOKED_AT].ljust(LOOKED_AT, "x") + "y" + text
    )


def test_an_id_cut_in_half_is_not_seen():
    """Where the message is cut, a word may be half an id: it does not make a group of each."""
    found = {normalise("'" + "w " * 240 + f"x{number}abcdef") for number in range(100, 130)}
    assert len(found) == 1


NASTY = [
    "'a ",
    "a@",
    "0x",
    "1:",
    "a1",
    "\"'`",
    "?a=",
    "/tmp/",
    " ",
    "f",
    "9",
    "a.",
    "'",
    "/",
    "-",
    "<n>, ",
    "1-",
    "a@a.",
]


@pytest.mark.parametrize("repeat", NASTY)
def test_megabytes_cost_what_their_beginning_costs(repeat):
    """No step and no byte for what lies behind the first 500 characters."""

    def steps(text):
        counted = 0

        def count(frame, _event, _arg):
            nonlocal counted
            counted += frame.f_code.co_filename == grouping.__file__  # a collection of garbage calls others' code
            return count

        sys.settrace(count)
        try:
            normalise(text)
        finally:
            sys.settrace(None)
        return counted

    short, long = repeat * 2 * LOOKED_AT, repeat * (4_000_000 // len(repeat))
    normalise(short)
    assert steps(long) == steps(short)
    tracemalloc.start()
    try:
        normalise(long)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["_QUOTED", "_VARIABLE", "_LIST", "_MAY_VARY"])
def test_no_expression_can_go_back(name):
    """Every quantifier is possessive or bounded: nothing that was matched is matched again in another way."""
    expression = getattr(grouping, name)
    unbounded = []

    def look(parsed):
        for operator, argument in parsed:
            if str(operator) in ("MAX_REPEAT", "MIN_REPEAT") and argument[1] > 64:
                unbounded.append(str(argument))
            for part in argument if isinstance(argument, tuple | list) else [argument]:
                if isinstance(part, re._parser.SubPattern):
                    look(part)
                elif isinstance(part, list):
                    for each in part:
                        if isinstance(each, re._parser.SubPattern):
                            look(each)

    look(re._parser.parse(expression.pattern, expression.flags & ~32))
    assert unbounded == []


def test_a_long_stack_is_read_once():
    """Twice the traceback, at most twice the steps."""

    def steps(text):
        counted = 0

        def count(_frame, _event, _arg):
            nonlocal counted
            counted += 1
            return count

        sys.settrace(count)
        try:
            application_frame(text)
        finally:
            sys.settrace(None)
        return counted

    frame = '  File "/usr/lib/python3.11/x.py", line 3, in f\n    g()\n'
    for part in (
        frame,
        "Traceback (most recent call last):\n" + frame,
        "  +-+---------------- 1 ----------------\n" + frame,
    ):
        assert steps(part * 4_000) <= 2.1 * steps(part * 2_000)


# --- frames -----------------------------------------------------------------------------------------------

HEAD = "Traceback (most recent call last):\n"
APP = '  File "/srv/house/apps/lights.py", line 12, in on_motion\n    await lamp.turn_on()\n'
OTHER = '  File "/srv/house/apps/lamps.py", line 4, in turn_on\n    raise ValueError\n'
SITE = '  File "/srv/venv/lib/python3.12/site-packages/aiohttp/client.py", line 9, in _request\n    raise\n'
DIST = '  File "/usr/lib/python3/dist-packages/yaml.py", line 9, in load\n    raise\n'
STDLIB = f'  File "{sysconfig.get_path("stdlib")}/asyncio/tasks.py", line 9, in wait_for\n    raise\n'
OF_OTHERS = '  File "/opt/pyenv/versions/3.13.1/lib/python3.13/json/decoder.py", line 9, in decode\n    raise\n'
FROZEN = '  File "<frozen importlib._bootstrap>", line 9, in _find_and_load\n'
OURS = f'  File "{grouping.__file__}", line 9, in of\n    raise\n'


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        pytest.param(HEAD + APP + OTHER, "house/apps/lamps.py in turn_on", id="the innermost"),
        pytest.param(HEAD + APP + SITE, "house/apps/lights.py in on_motion", id="not site-packages"),
        pytest.param(HEAD + APP + DIST, "house/apps/lights.py in on_motion", id="not dist-packages"),
        pytest.param(HEAD + APP + STDLIB, "house/apps/lights.py in on_motion", id="not the standard library"),
        pytest.param(HEAD + APP + OF_OTHERS, "house/apps/lights.py in on_motion", id="nor that of another Python"),
        pytest.param(HEAD + APP + FROZEN, "house/apps/lights.py in on_motion", id="not what is frozen"),
        pytest.param(HEAD + APP + OURS, "house/apps/lights.py in on_motion", id="not handspan"),
        pytest.param(HEAD + STDLIB + SITE, "site-packages/aiohttp/client.py in _request", id="libraries only"),
        pytest.param(APP, "house/apps/lights.py in on_motion", id="no head"),
        pytest.param(HEAD, None, id="no frame"),
        pytest.param("", None, id="nothing"),
        pytest.param(
            HEAD + APP + "ValueError: x\n\nDuring handling of the above exception, another exception occurred:\n\n"
            + HEAD + OTHER, "house/apps/lamps.py in turn_on", id="chained: the last section"),
        pytest.param(
            HEAD + APP + "ValueError: x\n\nThe above exception was the direct cause of the following exception:\n\n"
            + HEAD + SITE, "site-packages/aiohttp/client.py in _request", id="chained: only the last section"),
        pytest.param(
            HEAD + '  File "/srv/v/3f2504e0-4f89-11d3-9a0c-0305e82c3301/app.py", line 1, in f\n',
            "v/<id>/app.py in f", id="a folder of each deployment"),
    ],
)  # fmt: skip
def test_the_applications_innermost_frame(text, frame):
    """Without its line number: an edit above it makes no new group."""
    assert application_frame(text) == frame
    assert application_frame(text.replace("line 12", "line 13").replace("line 4", "line 5")) == frame


def application(source, name="apps/inside.py"):
    """A module of an application, as if it lay in that file."""
    module = types.ModuleType("inside")
    exec(compile(source, f"/srv/{name}", "exec"), module.__dict__)
    return module


def text_of(call):
    """The traceback of what a call raises, above its message line where that can be told."""
    try:
        call()
    except BaseException as error:
        return "".join(traceback.format_exception(error))
    raise AssertionError


GROUPS = application("""
import asyncio

async def first():
    raise ValueError("first")

async def second():
    await asyncio.sleep(0)
    raise KeyError("second")

async def third():
    try:
        raise ValueError("inner")
    except ValueError as error:
        raise KeyError("outer") from error

async def waits(*calls):
    async with asyncio.TaskGroup() as group:
        for call in calls:
            group.create_task(call())

async def nested():
    await waits(lambda: waits(first))

async def after():
    try:
        await waits(first)
    except* ValueError:
        pass
    last()

def last():
    raise RuntimeError("last")

def made():
    raise ExceptionGroup("never raised", [ValueError(1), ValueError(2)])

async def translated():
    try:
        await waits(first)
    except BaseExceptionGroup:
        last()
""")


@pytest.mark.parametrize(
    ("call", "frame"),
    [
        pytest.param(lambda: GROUPS.waits(GROUPS.first, GROUPS.second), "first", id="the first that failed"),
        pytest.param(lambda: GROUPS.waits(GROUPS.third), "third", id="chained inside a group"),
        pytest.param(GROUPS.nested, "first", id="a group in a group"),
        pytest.param(GROUPS.translated, "last", id="an exception that came of a group"),
        pytest.param(GROUPS.after, "last", id="an exception after a group was handled"),
    ],
)
def test_exception_groups(call, frame):
    """Of a group, the first exception in it; of what came of one, that."""
    assert application_frame(text_of(lambda: asyncio.run(call()))) == f"srv/apps/inside.py in {frame}"


def test_an_exception_group_of_exceptions_that_were_never_raised():
    """They have no stack: the group's own counts."""
    assert application_frame(text_of(GROUPS.made)) == "srv/apps/inside.py in made"


def test_an_exception_of_another_process():
    """Its text is a message of the chain's first section; the last section is this process's."""
    remote = concurrent.futures.process._RemoteTraceback("\n" + HEAD + OTHER)

    def raises():
        raise ValueError from remote

    assert application_frame(text_of(raises)).endswith("unit/test_grouping.py in raises")


@given(st.text(max_size=400))
def test_any_text_has_a_frame_or_none(text):
    """Nothing raises, and what is found is bounded."""
    for each in (text, HEAD + text, f'  File "{text}", line 1, in {text}'):
        found = application_frame(each)
        assert found is None or len(found) <= LONGEST


# --- fingerprints -------------------------------------------------------------------------------------------


def test_a_fingerprint_is_of_all_three():
    """Whatever moves from one part into the next is another failure."""
    triples = [("a", "b", "c"), ("ab", "", "c"), ("a", "", "bc"), ("a", None, "bc"), ("a", "bc", ""), ("", "a", "bc"),
               ("a", "-", "c"), ("1:a", "b", "c")]  # fmt: skip
    assert len({fingerprint(*triple) for triple in triples}) == len(triples)
    assert {len(fingerprint(*triple)) for triple in triples} == {16}


def test_a_fingerprint_lasts():
    """It is stored for a year: another version of handspan must come to the same."""
    found = [fingerprint("ValueError", "apps/a.py in f", "x").hex(), fingerprint("E", None, "\udc80").hex()]
    assert json.dumps(found) == '["9f81e28edf53661ce2a8c28854efa48e", "3ae0eb313953338f0a4447a277c3489a"]'
