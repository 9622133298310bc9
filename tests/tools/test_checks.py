"""Checks of scalar arguments: what they take, what they refuse, and how the refusal reads."""

from __future__ import annotations

import math
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from baco_gpu.checks import check_choice, check_integer, check_number, shown
from baco_gpu.errors import BacoError, InputError


def refusal(check, *arguments, **bounds):
    with pytest.raises(InputError) as caught:
        check("depth", *arguments, **bounds)
    message = str(caught.value)
    assert message.startswith("depth must be ")
    assert "\n" not in message
    assert len(message) < 250
    return message


@pytest.mark.parametrize("value", [3, np.int8(3), np.uint64(3)])
def test_integers_of_any_kind_become_int(value):
    result = check_integer("depth", value, minimum=3, maximum=3)
    assert result == 3
    assert type(result) is int


@pytest.mark.parametrize("value", [3.0, np.float64(3), True, np.True_, "3", None, [3], np.array([1, 2]), Fraction(3)])
def test_what_is_no_integer_is_refused(value):
    assert "an integer at least 1, got " in refusal(check_integer, value, minimum=1)


def test_integers_out_of_range_are_refused():
    assert refusal(check_integer, 0, minimum=1) == "depth must be an integer at least 1, got 0"
    assert refusal(check_integer, 8, minimum=1, maximum=7) == "depth must be an integer from 1 to 7, got 8"
    refusal(check_integer, 10**400, minimum=1, maximum=7)


@pytest.mark.parametrize("value", [0.5, np.float32(0.5), Fraction(1, 2)])
def test_numbers_of_any_kind_become_float(value):
    result = check_number("depth", value, above=0, maximum=1)
    assert result == 0.5
    assert type(result) is float
    assert check_number("depth", 1, minimum=1) == 1.0


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, -math.inf, np.float32("nan"), True, np.False_, "0.5", None, 1j, Decimal(1), [0.5]]
)
def test_what_is_no_finite_number_is_refused(value):
    assert "a finite number above 0, got " in refusal(check_number, value, above=0)


def test_numbers_beyond_every_float_are_refused():
    for value in (10**400, -(10**400), Fraction(10**400, 3), 10**5000):
        refusal(check_number, value)


def test_bounds_of_numbers():
    assert refusal(check_number, 0, above=0) == "depth must be a finite number above 0, got 0"
    assert refusal(check_number, -1, minimum=0) == "depth must be a finite number of at least 0, got -1"
    between = "depth must be a finite number above 0 and at most 1, got 1.5"
    assert refusal(check_number, 1.5, above=0, maximum=1) == between
    assert check_number("depth", 1, above=0, maximum=1) == 1.0


def test_choices():
    check_choice("depth", "sum", ("sum", "drop"))
    check_choice("depth", np.str_("drop"), ("sum", "drop"))
    assert refusal(check_choice, "mean", ("sum", "drop")) == "depth must be one of 'sum', 'drop', got 'mean'"


@pytest.mark.parametrize("value", [None, 1, ["sum"], {"sum"}, np.array(["sum", "sum"]), np.ones((40, 40)), b"sum"])
def test_choices_refuse_what_cannot_be_compared(value):
    assert refusal(check_choice, value, ("sum", "drop")).startswith("depth must be one of 'sum', 'drop', got ")


@given(st.text() | st.lists(st.text()) | st.integers())
def test_values_are_shown_on_one_short_line(value):
    text = shown(value)
    assert len(text) <= 80
    assert len(text.splitlines()) == 1


def test_errors_can_be_caught_as_one_family():
    with pytest.raises(BacoError):
        check_integer("depth", -1, minimum=0)
    with pytest.raises(ValueError, match="depth"):
        check_integer("depth", -1, minimum=0)
