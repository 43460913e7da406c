"""Values to JSON and back: nothing a handler can attach is lost, breaks the file, or reads back as something else."""

import enum
import json
import math
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from handspan.serialize import attributes_from_json, attributes_json, clean_text, safe_json_serialize

TAGS = ("$bytes", "$float", "$int")

any_text = st.text(st.characters(exclude_categories=()))
"""Lone surrogates and NULs included."""

scalars = (
    st.none() | st.booleans() | st.integers() | st.integers(-(2**80), 2**80) | st.floats() | any_text | st.binary()
)
keys = any_text | st.sampled_from(TAGS) | st.sampled_from([f"${tag}" for tag in TAGS])
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=8
)
attributes = st.dictionaries(keys, values, max_size=5)


def cleaned(value):
    """What a value is expected to be after the way there and back: texts cleaned, all else as it was."""
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, list | tuple):
        return [cleaned(item) for item in value]
    if isinstance(value, dict):
        return {clean_text(key): cleaned(item) for key, item in value.items()}
    return value


def depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(depth, inner), default=0)


def same(left, right):
    """Equal, types included; NaN equals NaN and -0.0 does not equal 0.0."""
    if type(left) is not type(right):
        return False
    if isinstance(left, float):
        return math.isnan(right) if math.isnan(left) else left == right and repr(left) == repr(right)
    if isinstance(left, list):
        return len(left) == len(right) and all(map(same, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    return left == right


# --- attributes ------------------------------------------------------------------------------------


@given(attributes.filter(lambda found: depth(found) <= 8))
@example({"$bytes": "not base64"})
@example({"a": {"$$int": "7"}})
def test_every_opentelemetry_value_survives_the_way_there_and_back(value):
    """bytes, NaN, infinities, huge integers, nesting, and keys that look like our own tags come back as they were."""
    assert same(attributes_from_json(attributes_json(value)), cleaned(value))


@given(attributes)
def test_the_text_is_json_and_utf8_whatever_it_holds(value):
    """Any JSON parser reads it, SQLite stores it and SQLite's own functions read it."""
    text = attributes_json(value)
    assert "\0" not in text
    assert text.encode("utf-8").decode("utf-8") == text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    conn = sqlite3.connect(":memory:")
    try:
        assert conn.execute("SELECT json_valid(?)", [text]).fetchone() == (1,)
    finally:
        conn.close()


@given(attributes)
def test_equal_attributes_give_equal_text(value):
    """The order in which a handler set them does not matter."""
    assert attributes_json(dict(reversed(value.items()))) == attributes_json(value)


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("inner", ["plain", "nan", "12", "YQ==", 7, None], ids=repr)
def test_a_users_own_key_that_looks_like_a_tag_is_the_users(tag, inner):
    """An attribute named ``$bytes`` is an attribute, at the top and inside a mapping."""
    assert attributes_from_json(attributes_json({tag: inner})) == {tag: inner}
    assert attributes_from_json(attributes_json({"a": {tag: inner}})) == {"a": {tag: inner}}
    assert attributes_from_json(attributes_json({"a": [{"$" + tag: inner}]})) == {"a": [{"$" + tag: inner}]}


@pytest.mark.parametrize(
    "number",
    [
        pytest.param(2**63 - 1, id="last-of-64-bits"),
        pytest.param(2**63, id="first-past-64-bits"),
        pytest.param(-(2**63) - 1, id="below-64-bits"),
        pytest.param(10**5000, id="past-pythons-limit-for-decimal-text"),
    ],
)
def test_integers_of_any_size_survive(number):
    """Python refuses to write more than 4,300 decimal digits; a handler may count further."""
    assert attributes_from_json(attributes_json({"n": number})) == {"n": number}


class Colour(str, enum.Enum):  # noqa: UP042 - the kind of enumeration that older applications have
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Celsius(float):
    """As numpy.float64 is: a float that prints as it likes."""

    def __str__(self):
        return f"{float(self)} °C"


@pytest.mark.parametrize(
    ("given_value", "kept"),
    [
        pytest.param(Colour.RED, "red", id="text-enum"),
        pytest.param(Level.HIGH, 3, id="int-enum"),
        pytest.param(Celsius(21.5), 21.5, id="float-subclass"),
        pytest.param(Celsius("inf"), math.inf, id="infinite-float-subclass"),
    ],
)
def test_a_subclass_is_kept_as_what_it_is(given_value, kept):
    """OpenTelemetry sends a ``numpy.float64`` as a number and a ``(str, Enum)`` as its value: so does the store."""
    found = attributes_from_json(attributes_json({"a": given_value}))["a"]
    assert (found, type(found)) == (kept, type(kept))


def test_what_is_no_opentelemetry_value_becomes_text():
    """An object is kept as its text; one without text, as its type's name."""

    class Mute:
        def __str__(self):
            raise RuntimeError("no words")

    found = attributes_from_json(attributes_json({"path": Path("/a"), "mute": Mute()}))
    assert found == {"path": "/a", "mute": "<Mute without text>"}


def test_a_cycle_ends():
    """A mapping that contains itself is cut off, not followed for ever."""
    loop: dict[str, object] = {}
    loop["again"] = loop
    assert attributes_json(loop).startswith('{"again":{"again":')


# --- texts --------------------------------------------------------------------------------------------


@given(any_text)
def test_clean_text_is_what_sqlite_can_hold_and_show(text):
    """UTF-8, without NUL; and cleaning what is clean changes nothing."""
    found = clean_text(text)
    assert "\0" not in found
    assert found.encode("utf-8").decode("utf-8") == found
    assert clean_text(found) == found


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_ordinary_text_is_left_alone(text):
    """Only lone surrogates and NULs are escaped."""
    assert clean_text(text) == text


# --- registration-time arguments --------------------------------------------------------------------


PLACEHOLDER = '"<NON_SERIALIZABLE>"'


class Raising:
    def __str__(self):
        raise RuntimeError("no words")


def nested(levels):
    value: list[object] = []
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        pytest.param([1, "a", None], '[1, "a", null]', id="plain"),
        pytest.param({"b": 1, "a": 2}, '{"a": 2, "b": 1}', id="keys-sorted"),
        pytest.param([Path("/x")], '["/x"]', id="by-str"),
        pytest.param(["Küche"], '["Küche"]', id="readable-unicode"),
        pytest.param([Raising()], PLACEHOLDER, id="raising-str"),
        pytest.param({1: "a", "1": "b"}, PLACEHOLDER, id="unsortable-keys"),
        pytest.param({(1, 2): "a"}, PLACEHOLDER, id="tuple-keys"),
        pytest.param(nested(10_000), PLACEHOLDER, id="bottomless"),
    ],
)
def test_arguments_become_json_or_the_placeholder(value, text):
    """JSON where there is one, else one fixed placeholder: never an error."""
    assert safe_json_serialize(value) == text


def test_circular_arguments_get_the_placeholder():
    """A list in itself has no JSON."""
    loop: list[object] = []
    loop.append(loop)
    assert safe_json_serialize(loop) == PLACEHOLDER


@given(values)
@example(math.nan)
@example({"a": [-math.inf]})
@example("\ud800")
def test_arguments_are_always_valid_json(value):
    """Also with NaN, lone surrogates and bytes in them: SQLite's JSON functions can read every row."""
    text = safe_json_serialize(value)
    assert text.encode("utf-8").decode("utf-8") == text
    loaded = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    json.dumps(loaded, ensure_ascii=False).encode("utf-8")  # no lone surrogate came back out of an escape


WORDS = "{'kitchen', 'hall', 'cellar', 'attic', 'garden'}"


@pytest.mark.parametrize(
    "expression",
    [
        pytest.param(f"attributes_json({{'rooms': {WORDS}}})", id="attributes-with-a-set"),
        pytest.param(f"safe_json_serialize([{WORDS}])", id="arguments-with-a-set"),
        pytest.param("safe_json_serialize([object()])", id="arguments-with-an-address"),
        pytest.param("safe_json_serialize([lambda: None])", id="arguments-with-a-function"),
    ],
)
def test_the_same_program_gives_the_same_text_at_every_start(expression):
    """Neither hash seeds nor memory addresses show: a registration does not look changed after a restart."""
    program = f"""
import sys
from handspan.serialize import attributes_json, safe_json_serialize
padding = [object() for _ in range(int(sys.argv[1]))]
print({expression})
"""
    found = {
        subprocess.run(
            [sys.executable, "-c", program, str(seed * 1000)],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 2, 3)
    }
    assert len(found) == 1
