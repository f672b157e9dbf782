"""Ranges as regular expressions: checked against every number near their ends."""

from __future__ import annotations

import re
from datetime import date, timedelta
from decimal import Decimal

from hypothesis import given, settings
from hypothesis import strategies as st

from synthgen_local.schema.regex.ranges import (
    DATE,
    TIME,
    decimal_range,
    integer_range,
    lexical_range,
)

NEAR = 25


@given(st.integers(-(10**6), 10**6), st.integers(0, 10**4))
def test_integer_range_is_exact(low: int, width: int) -> None:
    """A whole number matches if and only if it lies in the range."""
    regex = re.compile(integer_range(low, low + width))

    for value in (*range(low - NEAR, low + NEAR), *range(low + width - NEAR, low + width + NEAR)):
        assert bool(regex.fullmatch(str(value))) == (low <= value <= low + width)


@given(st.integers(-(10**5), 10**5), st.integers(0, 10**5), st.integers(1, 4))
def test_decimal_range_is_exact(first: int, width: int, places: int) -> None:
    """A fraction matches if and only if it lies in the range, with or without zeros at its end."""
    low, high = (Decimal(k).scaleb(-places) for k in (first, first + width))
    regex = re.compile(decimal_range(low, high, places))

    for edge in (first, first + width, 0):
        for k in range(edge - NEAR, edge + NEAR):
            value = Decimal(k).scaleb(-places)
            inside = low <= value <= high
            assert bool(regex.fullmatch(f"{value:f}")) == inside
            if value == int(value):
                assert bool(regex.fullmatch(str(int(value)))) == inside


@given(st.integers(-(10**5), 10**5), st.integers(0, 10**5))
def test_numbers_have_no_strange_texts(first: int, width: int) -> None:
    """No leading zeros, no bare points, no negative zero, no exponent."""
    regex = re.compile(decimal_range(Decimal(first) / 100, Decimal(first + width) / 100, 2))

    assert not any(map(regex.fullmatch, ["-0", "-0.0", "-0.00", "01", "00.5", "1.", ".5", "1e2"]))


@given(st.dates(), st.dates(), st.dates())
def test_lexical_range_of_dates_is_exact(one: date, other: date, probe: date) -> None:
    """A date matches if and only if it lies between the two, ends included."""
    low, high = sorted((one, other))
    regex = re.compile(lexical_range(low.isoformat(), high.isoformat()))

    for day in (probe, low, high):
        assert bool(regex.fullmatch(day.isoformat())) == (low <= day <= high)
    if low > date.min:
        assert not regex.fullmatch((low - timedelta(days=1)).isoformat())


def test_date_is_the_calendar() -> None:
    """Of all day numbers 00 to 32 in all months 00 to 13, the calendar's and no others match."""
    regex = re.compile(DATE)

    for year in (1900, 1999, 2000, 2023, 2024, 2100):
        for month in range(14):
            for day in range(33):
                text = f"{year:04}-{month:02}-{day:02}"
                assert bool(regex.fullmatch(text)) == _is_date(text)


@settings(max_examples=300)
@given(st.text("0123456789:", min_size=8, max_size=8))
def test_time_is_the_clock(text: str) -> None:
    """Hours end at 23, minutes and seconds at 59."""
    parts = text.split(":")
    valid = [len(part) for part in parts] == [2, 2, 2] and [
        int(part) <= most for part, most in zip(parts, (23, 59, 59), strict=True)
    ] == [True] * 3

    assert bool(re.fullmatch(TIME, text)) == valid


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True
