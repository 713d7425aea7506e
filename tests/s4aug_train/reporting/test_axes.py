"""Ticks are round and inside, what is written beside them is their value, labels never overlap."""

import math
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from s4aug_train.reporting.axes import limits, spread, tick_texts, ticks

ENDS = st.floats(-1e6, 1e6, allow_subnormal=False)


@given(ENDS, ENDS, st.integers(3, 8))
def test_ticks_are_round_inside_and_not_too_many(one, other, count):
    low, high = sorted((one, other))
    assume(high - low > 1e-6 * max(abs(low), abs(high), 1e-3))
    values = ticks(low, high, count)
    slack = 1e-6 * (high - low)
    assert len(values) <= count
    assert all(low - slack <= value <= high + slack for value in values)
    for a, b in pairwise(values):
        lead = (b - a) / 10 ** math.floor(math.log10(b - a) + 1e-9)
        assert min(abs(lead - step) for step in (1, 2, 2.5, 5)) < 1e-6 * max(1, abs(b) / (b - a))


@given(st.integers(-3, 5), st.integers(0, 3), st.integers(-20, 20), st.booleans())
def test_what_is_written_beside_a_tick_is_its_value(power, which, first, percent):
    step = (1, 2, 2.5, 5)[which] * 10.0**power
    values = [(first + index) * step for index in range(5)]
    for value, text in zip(values, tick_texts(values, percent=percent), strict=True):
        factor = {"k": 1e3, "M": 1e6}.get(text[-1], 1.0)
        written = float(text.rstrip("kM")) * factor / (100 if percent else 1)
        assert written == pytest.approx(value, abs=1e-9 * step, rel=1e-9)


@given(st.lists(st.floats(0, 200), min_size=1, max_size=12))
def test_labels_are_apart_within_limits_and_in_order(places):
    moved = spread(places, 13, 0, 200)
    assert moved is not None
    ordered = sorted(moved)
    assert all(b - a >= 13 - 1e-6 for a, b in pairwise(ordered))
    assert ordered[0] >= -1e-6
    assert ordered[-1] <= 200 + 1e-6
    for i, one in enumerate(places):
        assert all(moved[i] <= moved[j] for j, other in enumerate(places) if one < other)


def test_labels_that_are_apart_stay_and_too_many_are_none():
    assert spread([50.0, 10.0], 13, 0, 100) == [50.0, 10.0]
    assert spread([1.0] * 9, 13, 0, 100) is None


def test_an_axis_begins_at_zero_where_it_should():
    assert limits([1, 2]) == (0, pytest.approx(2.1))
    assert limits([-1, 1]) == (pytest.approx(-1.1), pytest.approx(1.1))
    low, high = limits([0, 0])
    assert low < high
