"""Figures drawn in characters: nothing looks like something it is not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from handspan.cli import sparklines
from handspan.cli.sparklines import LEVELS, NOT_RECORDED, TO_ASCII, ZERO, bar, columns, level, sparkline

VALUES = st.lists(st.none() | st.floats(0, 1e12) | st.just(math.nan), max_size=60)


def test_eight_heights_from_nothing_to_the_largest():
    """One value for each block: they come out as the ramp itself."""
    assert sparkline([0, 1, 2, 3, 4, 5, 6, 7, 8]) == ZERO + LEVELS


def test_zero_nothing_and_not_recorded_look_different():
    """A quiet hour, an hour with no percentile, and an hour nobody wrote down."""
    assert sparkline([0, None, 5, 5], gaps={2}) == f"{ZERO} {NOT_RECORDED}█"


def test_very_little_is_not_nothing():
    """One run beside a million is still a mark."""
    assert sparkline([1, 0, 1_000_000]) == f"▁{ZERO}█"


def test_a_shared_scale_cuts_what_is_above_it():
    """Two lines with one ``top`` can be compared; an outlier does not leave the line."""
    assert sparkline([2, 4, 400], top=4) == "▄██"


def test_a_log_scale_tells_small_numbers_apart():
    """1, 10, 100, 1000: on a linear scale three of them are the lowest block."""
    assert sparkline([1, 10, 100, 1000], log=True) == "▁▃▆█"
    assert sparkline([1, 10, 100, 1000]) == "▁▁▁█"


def test_all_zeros_and_no_values():
    """No largest value to divide by."""
    assert sparkline([0, 0.0]) == ZERO * 2
    assert sparkline([None]) == " "
    assert sparkline([]) == ""
    assert columns([0, 0], 2) == ["  ", "  "]


def test_columns_are_read_from_the_top():
    """Two rows of eight eighths: 16 fills both, 12 half of the upper."""
    assert columns([16, 12, 4, 0], 2) == ["█▄  ", "██▄ "]


def test_a_bar_is_cut_to_eighths():
    """Half of three cells is one and a half."""
    assert bar(5, 10, 3) == "█▌"
    assert bar(0, 10, 3) == ""
    assert bar(1e-9, 10, 3) == "▏"
    assert bar(99, 10, 3) == "███"


@pytest.mark.parametrize("value", [math.inf, -1.0, -math.inf, math.nan])
def test_odd_numbers_do_no_harm(value):
    """A damaged file may hold anything."""
    assert len(sparkline([value, 1])) == 2
    assert 0 <= level(value, 10) <= 8


@given(VALUES, st.sets(st.integers(0, 59)), st.booleans())
def test_a_line_is_as_long_as_its_values(values, gaps, log):
    """A cell each, also in ASCII, whatever comes."""
    line = sparkline(values, gaps=gaps, log=log)
    assert cell_len(line) == len(values)
    assert line.translate(TO_ASCII).isascii()
    assert all(character == NOT_RECORDED for place, character in enumerate(line) if place in gaps)


@given(st.floats(0, 1e12), st.floats(0, 1e12), st.floats(1e-3, 1e12), st.booleans())
def test_more_is_never_drawn_lower(one, other, top, log):
    """On either scale."""
    low, high = sorted((one, other))
    assert level(low, top, log=log) <= level(high, top, log=log)


@given(st.lists(st.floats(0, 1e9), max_size=40), st.integers(1, 6))
def test_columns_fill_their_box(values, height):
    """As many lines as asked for, each as wide as there are values."""
    lines = columns(values, height)
    assert [len(line) for line in lines] == [len(values)] * height


def test_ascii_keeps_the_order_of_the_ramp():
    """Eight characters, each its own: a reader can tell the heights apart."""
    ramp = LEVELS.translate(TO_ASCII)
    assert ramp.isascii()
    assert len(set(ramp + ZERO + NOT_RECORDED.translate(TO_ASCII))) == len(LEVELS) + 2
    assert sparklines.EIGHTHS.translate(TO_ASCII).isascii()
