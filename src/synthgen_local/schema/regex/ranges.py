r"""Regular expressions for ranges: whole numbers, decimal fractions, and texts of digits.

Knows numbers and regex syntax only. No number has leading zeros or an exponent, and no
number is "-0". Fractions may end in zeros or be left out: models write prices as 12.50 and
500, and a grammar that insisted on one text for each value would push them elsewhere.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from functools import lru_cache

DATE = (
    r"[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])"
    r"|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[0-9]|2[0-8]))"
    r"|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29"
)
"""Every date of the Gregorian calendar in years 0000 to 9999, and no other text."""

TIME = r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
"""Every second of a day, without leap seconds."""


def lexical_range(low: str, high: str) -> str:
    """Texts of one layout between two of its texts: digits vary, other characters stand.

    Example: `lexical_range("08:30", "17:00")` matches "09:59" and also "09:99":
    intersect it with what the layout means.
    """
    if low == high:
        return re.escape(low)
    at = next(i for i, (a, b) in enumerate(zip(low, high, strict=True)) if a != b)
    first, last = int(low[at]), int(high[at])
    tail = _any(low[at + 1 :])
    options = []
    if (lowest := _at_least(low[at + 1 :])) != tail:
        options.append(f"{first}{lowest}")
        first += 1
    if (highest := _at_most(high[at + 1 :])) != tail:
        options.append(f"{last}{highest}")
        last -= 1
    if first <= last:
        options.append(_digits(first, last) + tail)
    return re.escape(low[:at]) + _either(options)


@lru_cache(maxsize=1024)
def integer_range(low: int, high: int) -> str:
    """All whole numbers from `low` to `high`, both included; `low <= high`.

    Example: `integer_range(-3, 120)` matches "-3", "0" and "119".
    """
    options = []
    if low < 0:
        options.append("-" + _natural(max(1, -high), -low))
    if high >= 0:
        options.append(_natural(max(0, low), high))
    return _either(options)


@lru_cache(maxsize=1024)
def decimal_range(low: Decimal, high: Decimal, places: int) -> str:
    """All multiples of 10**-places from `low` to `high`, with up to `places` (>= 1) decimals.

    Raises ValueError if there is none.

    Example: `decimal_range(Decimal(0), Decimal("1.5"), 2)` matches "0", "0.25" and "1.50".
    """
    first, last = grid(low, high, places)
    if first > last:
        raise ValueError("empty range")
    options = []
    if first < 0:
        options.append("-" + _fixed_point(max(1, -last), -first, places))
    if last >= 0:
        options.append(_fixed_point(max(0, first), last, places))
    return _either(options)


def grid(low: Decimal, high: Decimal, places: int) -> tuple[int, int]:
    """The first and the last k with low <= k / 10**places <= high."""
    first = low.scaleb(places).to_integral_value(ROUND_CEILING)
    last = high.scaleb(places).to_integral_value(ROUND_FLOOR)
    return int(first), int(last)


def _natural(low: int, high: int) -> str:
    """0 <= low <= high, grouped by number of digits."""
    options = []
    for length in range(len(str(low)), len(str(high)) + 1):
        shortest = 0 if length == 1 else 10 ** (length - 1)
        bounds = max(low, shortest), min(high, 10**length - 1)
        options.append(lexical_range(*(str(bound) for bound in bounds)))
    return _either(options)


def _fixed_point(first: int, last: int, places: int) -> str:
    """0 <= first <= last on the grid: whole parts that allow any fraction stay together."""
    (whole_low, low), (whole_high, high) = (divmod(k, 10**places) for k in (first, last))
    zeros, nines = "0" * places, "9" * places
    lowest, highest = f"{low:0{places}d}", f"{high:0{places}d}"
    if whole_low == whole_high:
        return _with_fraction(str(whole_low), lowest, highest)
    options = []
    if lowest != zeros:
        options.append(_with_fraction(str(whole_low), lowest, nines))
        whole_low += 1
    if highest != nines:
        options.append(_with_fraction(str(whole_high), zeros, highest))
        whole_high -= 1
    if whole_low <= whole_high:
        options.append(_with_fraction(_natural(whole_low, whole_high), zeros, nines))
    return _either(options)


def _with_fraction(whole: str, low: str, high: str) -> str:
    """A whole part and a fraction, which may be left out where it may be 0."""
    fraction = f"\\.{_fraction(low, high)}"
    return f"{whole}(?:{fraction})?" if not low.strip("0") else whole + fraction


def _fraction(low: str, high: str) -> str:
    """Digits that, padded with zeros to the length of `low`, lie between `low` and `high`."""
    length = len(low)
    if not low.strip("0") and not high.strip("9"):
        return f"[0-9]{{1,{length}}}"
    by_tail: dict[str, list[int]] = {}
    for digit in range(int(low[0]), int(high[0]) + 1):
        tail_low = low[1:] if digit == int(low[0]) else "0" * (length - 1)
        tail_high = high[1:] if digit == int(high[0]) else "9" * (length - 1)
        tail = f"(?:{_fraction(tail_low, tail_high)})" if length > 1 else ""
        may_stop = not tail_low.strip("0")
        by_tail.setdefault(f"{tail}?" if tail and may_stop else tail, []).append(digit)
    return _either(["[" + "".join(map(str, d)) + "]" + tail for tail, d in by_tail.items()])


def _at_least(text: str) -> str:
    if not set(text) & set("123456789"):
        return _any(text)
    head, tail = text[0], text[1:]
    if not head.isdigit():
        return re.escape(head) + _at_least(tail)
    options = [head + _at_least(tail)]
    if head < "9":
        options.append(_digits(int(head) + 1, 9) + _any(tail))
    return _either(options)


def _at_most(text: str) -> str:
    if not set(text) & set("012345678"):
        return _any(text)
    head, tail = text[0], text[1:]
    if not head.isdigit():
        return re.escape(head) + _at_most(tail)
    options = [head + _at_most(tail)]
    if head > "0":
        options.append(_digits(0, int(head) - 1) + _any(tail))
    return _either(options)


def _any(text: str) -> str:
    return re.sub(r"(?:\[0-9\]){2,}", _repeated, "".join(map(_any_character, text)))


def _any_character(character: str) -> str:
    return "[0-9]" if character.isdigit() else re.escape(character)


def _repeated(run: re.Match[str]) -> str:
    return f"[0-9]{{{len(run[0]) // len('[0-9]')}}}"


def _digits(first: int, last: int) -> str:
    return str(first) if first == last else f"[{first}-{last}]"


def _either(options: list[str]) -> str:
    return options[0] if len(options) == 1 else f"(?:{'|'.join(options)})"
