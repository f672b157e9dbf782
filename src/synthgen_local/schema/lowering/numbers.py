"""Numbers made finite: integers, floats, decimals and durations between two limits.

Knows keywords that have been merged (`multipleOf` is a list), not where they come from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from typing import Any, TypeAlias

from ..certificate import Notes, as_json
from ..errors import refused, unsatisfiable
from ..ir import Bounds, Integer, Number, RegexString
from ..json_schema.keywords import DECIMAL_PLACES, MAX_DIGITS, TOLERANCE
from ..regex.ranges import grid, integer_range
from .datetimes import FORMAT_BOUNDS

_FLOAT_DIGITS = 15  # every decimal of so many digits survives the way through a float
_FEWEST_STEPS = 100  # a narrow range of floats gets more places until it has so many values
_WIDEST_STEP = 50_000
_FORGIVEN = Decimal(10**6)  # up to here pydantic takes 0.3 for a multiple of 0.1
_EXACT = Context(prec=60)

Keywords: TypeAlias = Mapping[str, Any]
_Step: TypeAlias = Callable[[Decimal], Decimal]


@dataclass(frozen=True)
class Numbers:
    """Makes nodes of numbers; each limit that is kept or added is noted.

    Every method raises SchemaError, naming keyword and path, where no number is left.

    Example: `Numbers(Bounds(), Notes()).integer({"minimum": 0}, "$.age")`
    """

    bounds: Bounds
    notes: Notes

    def integer(self, keywords: Keywords, path: str) -> Integer:
        """Whole numbers."""
        limit = Decimal(10**self.bounds.integer_digits - 1)
        low, high = self._limits(keywords, path, limit, _integer_above, _integer_below)
        first, last = math.ceil(low), math.floor(high)
        step = int(_common_multiple([1, *keywords.get("multipleOf", ())]))
        if -(-first // step) * step > last:
            raise unsatisfiable("minimum", path, f"no integer from {low} to {high}")
        self._note_steps(keywords, path, exact=_binary(keywords))
        _refuse_wide_steps(Decimal(step), path)
        return Integer(first, last, step)

    def number(self, keywords: Keywords, path: str) -> Number:
        """Floats, written with so few digits that reading them loses none."""
        bounds = self.bounds
        limit = Decimal(10**bounds.whole_digits) - Decimal(1).scaleb(-bounds.places)
        forgiving = TOLERANCE in keywords  # the check of a float's multiples, up to a size
        if forgiving and not _binary(keywords):
            limit = min(limit, _FORGIVEN)
        low, high = self._limits(keywords, path, limit, _float_above, _float_below)
        whole = max(len(str(int(abs(bound)))) for bound in (low, high))
        most = max(1, _FLOAT_DIGITS - whole)
        places = min(bounds.places, most)
        forgiven = forgiving and low >= -_FORGIVEN and high <= _FORGIVEN
        self._note_steps(keywords, path, exact=forgiven or _binary(keywords))
        if steps := keywords.get("multipleOf"):
            return _multiples(low, high, _common_multiple(steps), path)
        while places < most and _steps(low, high, places) < _FEWEST_STEPS:
            places += 1
        self.notes.add(path, DECIMAL_PLACES, places, "bound")
        if _steps(low, high, places) <= 0:
            raise unsatisfiable("minimum", path, f"no number from {low} to {high}")
        return Number(low, high, places)

    def fraction(self, keywords: Keywords, path: str) -> Number:
        """Floats that are no whole numbers; among multiples that is left to the check."""
        node = self.number(keywords, path)
        if "multipleOf" in keywords:
            if _common_multiple(keywords["multipleOf"]) % 1 == 0:
                raise unsatisfiable("multipleOf", path, "its multiples are whole numbers")
            self.notes.add(path, "type", "fraction", "check")
            return node
        first, last = grid(node.minimum, node.maximum, node.places)
        if first == last and first % 10**node.places == 0:
            raise unsatisfiable("type", path, f"{node.minimum} is a whole number")
        return replace(node, non_integral=True)

    def decimal(self, keywords: Keywords, path: str) -> Number:
        """Decimals in quotes."""
        digits, places = keywords.get(MAX_DIGITS), keywords.get(DECIMAL_PLACES)
        given = _without_format(keywords)
        if places is None:
            most = self.bounds.places
            places = most if digits is None else _places_left(digits, given, most)
            self.notes.add(path, DECIMAL_PLACES, places, "bound")
        elif digits is not None:
            places = min(places, digits)
        whole = self.bounds.whole_digits if digits is None else digits - places
        unit = Decimal(1).scaleb(-places)
        limit = _EXACT.subtract(Decimal(10**whole), unit)

        def above(bound: Decimal) -> Decimal:
            return _integer_above(bound.scaleb(places, _EXACT)).scaleb(-places, _EXACT)

        def below(bound: Decimal) -> Decimal:
            return _integer_below(bound.scaleb(places, _EXACT)).scaleb(-places, _EXACT)

        low, high = self._limits(given, path, limit, above, below)
        if digits is not None:
            low, high = max(low, -limit), min(high, limit)
        self.notes.given(keywords, path, MAX_DIGITS, DECIMAL_PLACES)
        self._note_steps(keywords, path)
        if steps := keywords.get("multipleOf"):
            if whole == 0:
                self.notes.add(path, MAX_DIGITS, digits, "check")
            return _multiples(low, high, _common_multiple([*steps, unit]), path, quoted=True)
        if _steps(low, high, places) <= 0:
            why = f"no decimal of {places} places from {low} to {high}"
            raise unsatisfiable("minimum", path, why)
        node = Number(low, high, places, quoted=True)
        return replace(node, non_integral=True) if whole == 0 else node  # "0" is a whole digit

    def duration(self, keywords: Keywords, path: str) -> RegexString:
        """Whole seconds between bounds, as ISO 8601 writes them."""
        limit = Decimal(10**self.bounds.whole_digits)
        given = _without_format(keywords)
        low, high = self._limits(given, path, limit, _integer_above, _integer_below)
        first, last = math.ceil(low), math.floor(high)
        if first > last:
            raise unsatisfiable("formatMinimum", path, f"no whole second from {low} to {high}")
        signs = [integer_range(max(0, first), last)] if last >= 0 else []
        below = [integer_range(max(1, -last), -first)] if first < 0 else []
        regex = "|".join([*(f"PT{r}S" for r in signs), *(f"-PT{r}S" for r in below)])
        return RegexString((f"(?:{regex})",), max(len(str(first)), len(str(last))) + 4, fixed=False)

    def _note_steps(self, keywords: Keywords, path: str, *, exact: bool = True) -> None:
        for step in keywords.get("multipleOf", ()):
            self.notes.add(path, "multipleOf", step, "grammar" if exact else "check")

    def _limits(
        self, keywords: Keywords, path: str, limit: Decimal, above: _Step, below: _Step
    ) -> tuple[Decimal, Decimal]:
        """The least and the greatest value; `above` and `below` step off an exclusive bound."""
        keywords = _finite(keywords, path)
        lows = [_exact(keywords["minimum"])] if "minimum" in keywords else []
        highs = [_exact(keywords["maximum"])] if "maximum" in keywords else []
        if "exclusiveMinimum" in keywords:
            lows.append(above(_exact(keywords["exclusiveMinimum"])))
        if "exclusiveMaximum" in keywords:
            highs.append(below(_exact(keywords["exclusiveMaximum"])))
        bounds = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
        self.notes.given(keywords, path, *bounds)
        low = max(lows, default=-limit)
        high = min(highs, default=limit)
        if low > limit and not highs:
            high = low + limit
        if high < -limit and not lows:
            low = high - limit
        if not lows:
            self.notes.add(path, "minimum", as_json(low), "bound")
        if not highs:
            self.notes.add(path, "maximum", as_json(high), "bound")
        if low > high:
            raise unsatisfiable("minimum", path, f"{low} is above the maximum {high}")
        return low, high


def _places_left(digits: int, keywords: Keywords, most: int) -> int:
    """Half of the digits are decimals, unless the bounds ask for more before the point."""
    lows = (_exact(keywords[k]) for k in ("minimum", "exclusiveMinimum") if k in keywords)
    highs = (-_exact(keywords[k]) for k in ("maximum", "exclusiveMaximum") if k in keywords)
    least = max((Decimal(0), *(bound for bound in (*lows, *highs) if bound.is_finite())))
    return max(0, min(most, digits // 2, digits - len(str(int(least)))))


def _finite(keywords: Keywords, path: str) -> Keywords:
    """Keywords without bounds at infinity; a bound that nothing keeps is refused."""
    kept = dict(keywords)
    for keyword in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        bound = _exact(keywords.get(keyword, 0))
        if bound.is_nan() or (
            bound.is_infinite() and bound.is_signed() == keyword.endswith("aximum")
        ):
            raise unsatisfiable(keyword, path, f"no number keeps a bound of {bound}")
        if bound.is_infinite():
            del kept[keyword]
    return kept


def _without_format(keywords: Keywords) -> Keywords:
    """Bounds of a string that is a number, under the names that numbers have."""
    renamed = {name: name[6].lower() + name[7:] for name in FORMAT_BOUNDS}
    return {renamed[k]: Decimal(v) for k, v in keywords.items() if k in renamed}


def _multiples(
    low: Decimal, high: Decimal, step: Decimal, path: str, *, quoted: bool = False
) -> Number:
    if (low / step).to_integral_value("ROUND_CEILING") * step > high:
        raise unsatisfiable("multipleOf", path, f"no multiple of {step} from {low} to {high}")
    exponent = step.normalize().as_tuple()
    places = max(0, -int(exponent.exponent))
    if exponent.digits == (1,) and places >= 1:
        return Number(low, high, places, quoted=quoted)
    _refuse_wide_steps(step.scaleb(places), path)
    return Number(low, high, places, step, quoted)


def _refuse_wide_steps(step: Decimal, path: str) -> None:
    """The automaton that knows multiples has as many states as the step has units."""
    if step > _WIDEST_STEP:
        raise refused("multipleOf", path, f"of {step} units, more than {_WIDEST_STEP},")


def _common_multiple(values: Sequence[Any]) -> Decimal:
    steps = list(map(_exact, values))
    places = max(0, *(-int(step.normalize().as_tuple().exponent) for step in steps))
    return Decimal(math.lcm(*(int(step.scaleb(places)) for step in steps))).scaleb(-places)


def _binary(keywords: Keywords) -> bool:
    """Whether floats are exact about multiples: JSON Schema's check divides them.

    By it 0.3 is no multiple of 0.1, nor is every whole number.
    """
    return all(Decimal(float(step)) == _exact(step) for step in keywords.get("multipleOf", ()))


def _exact(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _steps(low: Decimal, high: Decimal, places: int) -> int:
    first, last = grid(low, high, places)
    return last - first + 1


def _integer_above(value: Decimal) -> Decimal:
    return Decimal(math.floor(value) + 1)


def _integer_below(value: Decimal) -> Decimal:
    return Decimal(math.ceil(value) - 1)


def _float_above(value: Decimal) -> Decimal:
    return Decimal(repr(math.nextafter(float(value), math.inf)))


def _float_below(value: Decimal) -> Decimal:
    return Decimal(repr(math.nextafter(float(value), -math.inf)))
