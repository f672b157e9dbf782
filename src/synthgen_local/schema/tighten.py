"""A JSON Schema made strict, closed and bounded: a tree of shapes and a certificate.

Every keyword is honoured by the shape, left to the check of the finished row and marked so
in the certificate, or refused by name and path. What the schema leaves open gets a limit.
References are unfolded, a recursive one to a bounded depth. Knows no grammar syntax.

Keywords: JSON Schema 2020-12 validation vocabulary, and those of `pydantic_schema.py`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping as AnyMapping
from decimal import Context, Decimal
from typing import Any

from ..errors import SchemaError
from .certificate import Certificate, Constraint, Enforcer, join_path
from .grammar import refusal, write_grammar
from .moments import FORMAT_BOUNDS, moment_range, write_moment
from .ranges import DATE, TIME, grid, lexical_range
from .shapes import (
    Array,
    Bounds,
    Choice,
    Formatted,
    Integer,
    Mapping,
    Number,
    Record,
    Shape,
    Text,
    Union,
)

Schema = dict[str, Any]

_ANNOTATIONS = {
    "$anchor", "$comment", "$defs", "$id", "$schema", "default", "definitions", "deprecated",
    "description", "discriminator", "examples", "readOnly", "title", "writeOnly",
}  # fmt: skip
_KEYWORDS = {
    "integer": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "string": {
        "minLength", "maxLength", "pattern", "format", "formatMinimum", "formatMaximum",
        "formatExclusiveMinimum", "formatExclusiveMaximum", "timezone", "version", "maxDigits",
        "decimalPlaces", "multipleOf",
    },
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"},
    "object": {
        "properties", "required", "additionalProperties", "propertyNames", "minProperties",
        "maxProperties",
    },
    "boolean": set(),
    "null": set(),
}  # fmt: skip
_KNOWN = set().union(
    _ANNOTATIONS, {"type", "enum", "const", "anyOf", "oneOf", "allOf", "$ref"}, *_KEYWORDS.values()
)
_FLOAT_DIGITS = 15  # every decimal of so many digits survives the way through a float
_FEWEST_STEPS = 100  # a narrow range of floats gets more places until it has so many values
_WIDEST_STEP = 50_000
_EXACT = Context(prec=60)
_UUID = "[0-9a-f]{{8}}-[0-9a-f]{{4}}-{version}[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}"


def tighten(schema: AnyMapping[str, Any], bounds: Bounds) -> tuple[Shape, Certificate]:
    """Return the shape of a schema's rows and who enforces each constraint.

    Raises SchemaError, naming keyword and path, for what cannot be honoured or satisfied.

    Example: `tighten({"type": "integer", "minimum": 0}, Bounds())[0]`
    """
    work = _Tightening(schema, bounds)
    shape = work.shape(dict(schema), "$")
    if shape is None:
        raise SchemaError(
            "The schema has no finite row: it contains itself.", hint="Make a field optional."
        )
    return shape, Certificate(tuple(work.constraints))


class _Tightening:
    """One walk over one schema. None stands for what only an endless row could satisfy."""

    def __init__(self, root: AnyMapping[str, Any], bounds: Bounds) -> None:
        self._root = root
        self._bounds = bounds
        self._open_refs: Counter[str] = Counter()
        self.constraints: list[Constraint] = []

    def shape(self, schema: Any, path: str) -> Shape | None:
        if schema is True or schema == {}:
            raise SchemaError(f"{path} allows any value.", hint="Give it a type.")
        if schema is False:
            raise SchemaError(f"{path} allows no value.", hint="Remove the field.")
        self._refuse_unknown(schema, path)
        if "$ref" in schema:
            return self._reference(schema, path)
        if "allOf" in schema:
            return self._all_of(schema, path)
        if "const" in schema or "enum" in schema:
            return self._choice(schema, path)
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema:
                return self._union(schema, keyword, path)
        kinds = schema.get("type") or _implied_type(schema, path)
        if isinstance(kinds, list):
            options = [{**schema, "type": kind} for kind in kinds]
            return self._union({"anyOf": options}, "anyOf", path)
        self._note(path, "type", kinds)
        return self._of_type(kinds, schema, path)

    def _of_type(self, kind: str, schema: Schema, path: str) -> Shape | None:
        match kind:
            case "integer":
                return self._integer(schema, path)
            case "number":
                return self._number(schema, path)
            case "string":
                return self._string(schema, path)
            case "boolean":
                return Choice((True, False))
            case "null":
                return Choice((None,))
            case "array":
                return self._array(schema, path)
            case "object":
                return self._object(schema, path)
        raise SchemaError(f"{path} has an unknown type '{kind}'.", hint="Use a JSON Schema type.")

    # References and combinations

    def _reference(self, schema: Schema, path: str) -> Shape | None:
        ref = schema["$ref"]
        others = {k: v for k, v in schema.items() if k != "$ref" and k not in _ANNOTATIONS}
        if others:
            raise _refusal(next(iter(others)), path, "beside a $ref")
        if self._open_refs[ref] > self._bounds.depth:
            return None
        if self._open_refs[ref] == 1:
            self._note(path, "depth", self._bounds.depth, "bound")
        self._open_refs[ref] += 1
        try:
            return self.shape(self._resolve(ref, path), path)
        finally:
            self._open_refs[ref] -= 1

    def _resolve(self, ref: str, path: str) -> Any:
        found: Any = self._root
        if not ref.startswith("#"):
            raise _refusal("$ref", path, f"to '{ref}' outside the schema")
        for part in filter(None, ref[1:].split("/")):
            key = part.replace("~1", "/").replace("~0", "~")
            if not isinstance(found, dict) or key not in found:
                raise SchemaError(
                    f"{path} refers to '{ref}', which is not there.", hint="Check $defs."
                )
            found = found[key]
        return found

    def _all_of(self, schema: Schema, path: str) -> Shape | None:
        rest = {k: v for k, v in schema.items() if k != "allOf"}
        parts = schema["allOf"]
        if len(parts) == 1 and not (rest.keys() - _ANNOTATIONS):
            return self.shape({**rest, **parts[0]}, path)
        raise _refusal("allOf", path, "of several parts")

    def _choice(self, schema: Schema, path: str) -> Shape:
        keyword = "const" if "const" in schema else "enum"
        values = [schema["const"]] if keyword == "const" else schema["enum"]
        others = schema.keys() - _ANNOTATIONS - {keyword}
        if others:
            from jsonschema.validators import Draft202012Validator

            check = Draft202012Validator(
                {k: schema[k] for k in others} | {"$defs": self._root.get("$defs", {})}
            )
            values = [value for value in values if check.is_valid(value)]
        if not values:
            raise _unsatisfiable(keyword, path, "no value is allowed")
        self._note(path, keyword, values)
        return Choice(tuple(values))

    def _union(self, schema: Schema, keyword: str, path: str) -> Shape | None:
        others = schema.keys() - _ANNOTATIONS - {keyword}
        if others:
            raise _refusal(keyword, path, f"beside '{min(others)}'")
        if keyword == "oneOf" and "discriminator" not in schema:
            self._note(path, "oneOf", len(schema[keyword]), "check")
        options = [self.shape(option, path) for option in schema[keyword]]
        possible = tuple(dict.fromkeys(option for option in options if option is not None))
        if not options:
            raise _unsatisfiable(keyword, path, "it has no options")
        return None if not possible else possible[0] if len(possible) == 1 else Union(possible)

    # Numbers

    def _integer(self, schema: Schema, path: str) -> Shape:
        limit = Decimal(10**self._bounds.integer_digits - 1)
        low, high = self._limits(schema, path, limit, _integer_above, _integer_below)
        first, last = math.ceil(low), math.floor(high)
        step = schema.get("multipleOf", 1)
        if step != int(step):
            raise _refusal("multipleOf", path, f"{step} of an integer")
        if -(-first // int(step)) * int(step) > last:
            raise _unsatisfiable("minimum", path, f"no integer from {low} to {high}")
        self._note_given(schema, path, "multipleOf")
        self._refuse_wide_steps(Decimal(step), path)
        return Integer(first, last, int(step))

    def _number(self, schema: Schema, path: str) -> Shape:
        bounds = self._bounds
        limit = Decimal(10**bounds.whole_digits) - Decimal(1).scaleb(-bounds.places)
        low, high = self._limits(schema, path, limit, _float_above, _float_below)
        whole = max(len(str(int(abs(bound)))) for bound in (low, high))
        most = max(1, _FLOAT_DIGITS - whole)
        places = min(bounds.places, most)
        step = Decimal(str(schema["multipleOf"])) if "multipleOf" in schema else None
        self._note_given(schema, path, "multipleOf")
        if step is not None:
            return self._multiples(low, high, step, path)
        while places < most and _steps(low, high, places) < _FEWEST_STEPS:
            places += 1
        self._note(path, "decimalPlaces", places, "bound")
        if _steps(low, high, places) <= 0:
            raise _unsatisfiable("minimum", path, f"no number from {low} to {high}")
        return Number(low, high, places)

    def _decimal(self, schema: Schema, path: str) -> Shape:
        digits, places = schema.get("maxDigits"), schema.get("decimalPlaces")
        if places is None:
            places = (
                self._bounds.places if digits is None else min(self._bounds.places, digits // 2)
            )
            self._note(path, "decimalPlaces", places, "bound")
        whole = self._bounds.whole_digits if digits is None else digits - places
        limit = Decimal(10**whole) - Decimal(1).scaleb(-places)
        renamed = {
            _DECIMAL_BOUNDS[k]: Decimal(v) for k, v in schema.items() if k in _DECIMAL_BOUNDS
        }
        low, high = self._limits(renamed, path, limit, _EXACT.next_plus, _EXACT.next_minus)
        if digits is not None:
            low, high = max(low, -limit), min(high, limit)
        self._note_given(schema, path, "maxDigits", "decimalPlaces", "multipleOf")
        if "multipleOf" in schema:
            return self._multiples(low, high, Decimal(schema["multipleOf"]), path, quoted=True)
        if _steps(low, high, places) <= 0:
            raise _unsatisfiable(
                "minimum", path, f"no decimal of {places} places from {low} to {high}"
            )
        return Number(low, high, places, quoted=True)

    def _multiples(
        self, low: Decimal, high: Decimal, step: Decimal, path: str, *, quoted: bool = False
    ) -> Shape:
        if (low / step).to_integral_value("ROUND_CEILING") * step > high:
            raise _unsatisfiable("multipleOf", path, f"no multiple of {step} from {low} to {high}")
        exponent = step.normalize().as_tuple()
        places = max(0, -int(exponent.exponent))
        if exponent.digits == (1,) and places >= 1:
            return Number(low, high, places, quoted=quoted)
        self._refuse_wide_steps(step.scaleb(places), path)
        return Number(low, high, places, step, quoted)

    def _refuse_wide_steps(self, step: Decimal, path: str) -> None:
        """The automaton that knows multiples has as many states as the step has units."""
        if step > _WIDEST_STEP:
            raise _refusal("multipleOf", path, f"of {step} units, more than {_WIDEST_STEP},")

    def _limits(
        self, schema: AnyMapping[str, Any], path: str, limit: Decimal, above: Any, below: Any
    ) -> tuple[Decimal, Decimal]:
        """The least and the greatest value; `above` and `below` step off an exclusive bound."""
        lows = [_exact(schema["minimum"])] if "minimum" in schema else []
        highs = [_exact(schema["maximum"])] if "maximum" in schema else []
        if "exclusiveMinimum" in schema:
            lows.append(above(_exact(schema["exclusiveMinimum"])))
        if "exclusiveMaximum" in schema:
            highs.append(below(_exact(schema["exclusiveMaximum"])))
        self._note_given(schema, path, "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
        low = max(lows, default=-limit)
        high = min(highs, default=limit)
        if low > limit and not highs:
            high = low + limit
        if high < -limit and not lows:
            low = high - limit
        if not lows:
            self._note(path, "minimum", _plain(low), "bound")
        if not highs:
            self._note(path, "maximum", _plain(high), "bound")
        if low > high:
            raise _unsatisfiable("minimum", path, f"{low} is above the maximum {high}")
        return low, high

    # Strings

    def _string(self, schema: Schema, path: str) -> Shape:
        kind = schema.get("format")
        if kind is None:
            return self._text(schema, path)
        if "pattern" in schema:
            raise _refusal("pattern", path, f"beside the format '{kind}'")
        self._note(path, "format", kind)
        shape = self._formatted(kind, schema, path)
        if isinstance(shape, Formatted):
            length = shape.length
            if not schema.get("minLength", 0) <= length <= schema.get("maxLength", length):
                raise _unsatisfiable("maxLength", path, f"a {kind} has {length} characters")
        return shape

    def _formatted(self, kind: str, schema: Schema, path: str) -> Shape:
        match kind:
            case "decimal":
                return self._decimal(schema, path)
            case "date" | "date-time" | "time":
                return self._moment(kind, schema, path)
            case "uuid" | "uuid1" | "uuid3" | "uuid4" | "uuid5" | "uuid6" | "uuid7" | "uuid8":
                version = kind.removeprefix("uuid") or schema.get("version") or 4
                return Formatted((_UUID.format(version=version),), 36)
        raise _refusal("format", path, f"'{kind}'")

    def _text(self, schema: Schema, path: str) -> Shape:
        shortest = schema.get("minLength", 0)
        longest = schema.get("maxLength")
        self._note_given(schema, path, "minLength", "maxLength", "pattern")
        if longest is None:
            usual = self._bounds.lengths.get(path, self._bounds.max_length)
            longest = max(usual, 2 * shortest)
            self._note(path, "maxLength", longest, "bound")
        if shortest > longest:
            raise _unsatisfiable("minLength", path, f"{shortest} is above maxLength {longest}")
        if "pattern" not in schema:
            return Text(shortest, longest)
        shape = Text(shortest, longest, (schema["pattern"],))
        if reason := refusal(write_grammar(shape)):
            raise SchemaError(
                f"{path}: 'pattern' cannot be honoured within {longest} characters: {reason}",
                hint="Write it without look-around, or change maxLength.",
            )
        return shape

    def _moment(self, kind: str, schema: Schema, path: str) -> Shape:
        low, high = moment_range(kind, schema, self._bounds)
        self._note_given(schema, path, *FORMAT_BOUNDS)
        first, last = (write_moment(kind, moment, schema) for moment in (low, high))
        if not {"formatMinimum", "formatExclusiveMinimum"} & schema.keys():
            self._note(path, "formatMinimum", first, "bound")
        if not {"formatMaximum", "formatExclusiveMaximum"} & schema.keys():
            self._note(path, "formatMaximum", last, "bound")
        if low > high:
            raise _unsatisfiable("formatMinimum", path, f"{first} is after {last}")
        layout = {"date": DATE, "time": TIME, "date-time": f"(?:{DATE})T{TIME}"}[kind]
        zone = "Z" if last.endswith("Z") else ""
        return Formatted((f"(?:{layout}){zone}", lexical_range(first, last)), len(last))

    # Containers

    def _array(self, schema: Schema, path: str) -> Shape | None:
        prefix = schema.get("prefixItems", [])
        fewest = schema.get("minItems", 0)
        closed = schema.get("items", True) is False or ("items" not in schema and bool(prefix))
        most = schema.get("maxItems")
        if most is None:
            most = len(prefix) if closed else max(self._bounds.max_items, fewest, len(prefix))
            if not closed:
                self._note(path, "maxItems", most, "bound")
        if closed:
            most = min(most, len(prefix))
        self._note_given(schema, path, "minItems", "maxItems")
        if schema.get("uniqueItems"):
            self._note(path, "uniqueItems", True, "check")
        if fewest > most:
            raise _unsatisfiable("minItems", path, f"{fewest} is above the {most} items allowed")
        heads = [self.shape(item, f"{path}[{i}]") for i, item in enumerate(prefix[:most])]
        known = heads[: heads.index(None)] if None in heads else heads
        items = None
        if most > len(prefix) and known == heads:
            items = self.shape(schema.get("items", True), f"{path}[*]")
        reach = most if items is not None else min(most, len(known))
        if fewest > reach:
            return None
        return Array(items, fewest, reach, tuple(shape for shape in known if shape is not None))

    def _object(self, schema: Schema, path: str) -> Shape | None:
        if "properties" not in schema:
            return self._mapping(schema, path)
        if "propertyNames" in schema:
            raise _refusal("propertyNames", path, "beside properties")
        required = set(schema.get("required", []))
        missing = required - schema["properties"].keys()
        if missing:
            raise _refusal("required", path, f"of '{min(missing)}', which has no schema")
        if schema.get("additionalProperties", True) is not False:
            self._note(path, "additionalProperties", False, "bound")
        fields: list[tuple[str, Shape]] = []
        for name, field in schema["properties"].items():
            shape = self.shape(field, join_path(path, name))
            if shape is not None:
                fields.append((name, shape))
            elif name in required:
                return None
        self._note_given(schema, path, "minProperties", "maxProperties")
        if (
            not schema.get("minProperties", 0)
            <= len(fields)
            <= schema.get("maxProperties", len(fields))
        ):
            raise _refusal("maxProperties", path, f"while all {len(fields)} properties are written")
        self._note(path, "required", [name for name, _ in fields])
        return Record(tuple(fields))

    def _mapping(self, schema: Schema, path: str) -> Shape | None:
        values = schema.get("additionalProperties", True)
        fewest, most = schema.get("minProperties", 0), schema.get("maxProperties")
        if values is False or most == 0:
            return Record(())
        keys = self.shape(schema.get("propertyNames", {"type": "string"}), f"{path}.*~")
        value = self.shape(values, f"{path}.*")
        if most is None:
            most = max(self._bounds.max_items, fewest)
            self._note(path, "maxProperties", most, "bound")
        self._note_given(schema, path, "maxProperties")
        if fewest > most:
            raise _unsatisfiable("minProperties", path, f"{fewest} is above maxProperties {most}")
        if fewest > 1:
            self._note(path, "minProperties", fewest, "check")  # keys may repeat
        if keys is None or value is None:
            return Record(()) if fewest == 0 else None
        return Mapping(keys, value, fewest, most)

    # The certificate

    def _note(self, path: str, keyword: str, value: Any, enforcer: Enforcer = "grammar") -> None:
        self.constraints.append(Constraint(path, keyword, value, enforcer))

    def _note_given(self, schema: AnyMapping[str, Any], path: str, *keywords: str) -> None:
        for keyword in keywords:
            if keyword in schema:
                value = schema[keyword]
                self._note(path, keyword, _plain(value) if isinstance(value, Decimal) else value)

    def _refuse_unknown(self, schema: Schema, path: str) -> None:
        for keyword in schema:
            if keyword not in _KNOWN and not keyword.startswith("x-"):
                raise _refusal(keyword, path)


_DECIMAL_BOUNDS = {name: name[6].lower() + name[7:] for name in FORMAT_BOUNDS}  # less "format"


def _implied_type(schema: Schema, path: str) -> str:
    for kind, keywords in _KEYWORDS.items():
        if kind != "integer" and schema.keys() & keywords:
            return kind
    raise SchemaError(f"{path} allows any value.", hint="Give it a type.")


def _exact(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else Decimal(str(value))


def _plain(value: Decimal) -> int | float:
    return int(value) if value == int(value) else float(value)


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


def _refusal(keyword: str, path: str, detail: str = "") -> SchemaError:
    what = f"keyword '{keyword}' {detail}".rstrip()
    return SchemaError(
        f"{path}: {what} cannot be honoured.", hint="Remove it, or say it in another way."
    )


def _unsatisfiable(keyword: str, path: str, why: str) -> SchemaError:
    return SchemaError(f"{path}: '{keyword}' leaves no value: {why}.", hint="Loosen the bounds.")
