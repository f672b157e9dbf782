"""The keywords of JSON Schema by what they do, and those that this program adds.

pydantic's own JSON Schema loses the digits of decimals, the time zone of datetimes, the version
of a UUID and the like. Keywords with a prefix carry them from pydantic's types to the lowering.
The prefix keeps them apart from keywords that users add for purposes of their own.

`formatMinimum` and its like have none: they are Ajv's, and are read in any schema.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PREFIX = "x-synthgen-"

CONTENT_SCHEMA = f"{PREFIX}contentSchema"
"""The schema of the JSON value that a string contains."""
DECIMAL_PLACES = f"{PREFIX}decimalPlaces"
"""The greatest number of digits after the decimal point."""
MAX_DIGITS = f"{PREFIX}maxDigits"
"""The greatest number of digits of a decimal."""
NULL_RATE = f"{PREFIX}nullRate"
"""The probability with which a nullable value is null."""
NUMBER_KEYS = f"{PREFIX}numberKeys"
"""Present if the numbers of an `enum` may be keys of an object."""
REGEX_DIALECT = f"{PREFIX}regexDialect"
"""The dialect of a `pattern`, "python" or "rust"; without it, ECMA-262's."""
RELATIVE_TO_NOW = f"{PREFIX}relativeToNow"
"""`past` or `future`, for a date on one side of the present."""
SCHEMES = f"{PREFIX}schemes"
"""The schemes that a URL may have."""
TIMEDELTA = f"{PREFIX}timedelta"
"""Present if a duration is read as a timedelta, which has no months or years."""
TIMEZONE = f"{PREFIX}timezone"
"""`naive` if a datetime or time has no time zone, `aware` if it has one."""
TOLERANCE = f"{PREFIX}tolerance"
"""Present if `multipleOf` tolerates rounding errors: 0.3 is then a multiple of 0.1."""
UUID_VERSION = f"{PREFIX}version"
"""The version of a UUID."""
VALIDATORS = f"{PREFIX}validators"
"""The names of functions that check a value after it is parsed."""

PRIVATE = frozenset({
    CONTENT_SCHEMA, DECIMAL_PLACES, MAX_DIGITS, NULL_RATE, NUMBER_KEYS, REGEX_DIALECT,
    RELATIVE_TO_NOW, SCHEMES, TIMEDELTA, TIMEZONE, TOLERANCE, UUID_VERSION, VALIDATORS,
})  # fmt: skip
"""All keywords that this program adds."""

SHORT_NULL_RATE = "nullRate"
"""The documented spelling of NULL_RATE for users' schemas."""


JSON_TYPES = frozenset({"null", "boolean", "integer", "fraction", "string", "array", "object"})
"""The types of JSON values; a number is an integer or a fraction."""

_TYPES = {kind: frozenset({kind}) for kind in JSON_TYPES} | {
    "number": frozenset({"integer", "fraction"})
}
_NUMBERS = _TYPES["number"]

LOWER_BOUNDS = frozenset({
    "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "formatMinimum",
    "formatExclusiveMinimum", DECIMAL_PLACES,
})  # fmt: skip
"""Keywords of which the greatest value holds where several apply."""
UPPER_BOUNDS = frozenset({
    "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "formatMaximum",
    "formatExclusiveMaximum", MAX_DIGITS,
})  # fmt: skip
"""Keywords of which the least value holds where several apply."""
COUNTS = frozenset({
    "minLength", "minItems", "minProperties", "maxLength", "maxItems", "maxProperties",
})  # fmt: skip
REPEATABLE = frozenset({"multipleOf", "pattern", "format", "propertyNames"})
"""Keywords whose values hold beside one another: a conjunct has them as tuples."""
SCALARS = LOWER_BOUNDS | UPPER_BOUNDS | {
    "uniqueItems", TIMEZONE, TIMEDELTA, UUID_VERSION, RELATIVE_TO_NOW, SCHEMES, CONTENT_SCHEMA,
    TOLERANCE,
}  # fmt: skip
"""Keywords of which a conjunct has one value."""
CHECKED: Mapping[str, str] = {
    "unevaluatedProperties": "object", "unevaluatedItems": "array", "minContains": "array",
    "maxContains": "array",
}  # fmt: skip
"""Keywords that only the check of a row enforces, with the type to which they apply."""
NOT_AMONG, NOT_PATTERN = "notAmong", "notPattern"
"""Keywords of conjuncts alone: strings, and a pattern, that are excluded."""

TYPES_OF_KEYWORD: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"), _NUMBERS),
    "multipleOf": _NUMBERS,
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), frozenset({"string"})),
    **dict.fromkeys(("minItems", "maxItems", "uniqueItems"), frozenset({"array"})),
    **dict.fromkeys(("minProperties", "maxProperties", "required"), frozenset({"object"})),
}
"""The types to which a keyword applies."""

ANNOTATIONS = frozenset({
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$id", "$recursiveAnchor", "$schema",
    "$vocabulary", "contentEncoding", "contentMediaType", "contentSchema", "default",
    "definitions", "deprecated", "description", "discriminator", "examples", "id", "readOnly",
    "title", "writeOnly",
})  # fmt: skip
"""Keywords that restrict no value."""
ASSERTIONS = SCALARS | REPEATABLE | CHECKED.keys() | frozenset({
    "$dynamicRef", "$recursiveRef", "$ref", "additionalItems", "additionalProperties", "allOf",
    "anyOf", "const", "contains", "dependencies", "dependentRequired", "dependentSchemas", "else",
    "enum", "if", "items", "not", "oneOf", "patternProperties", "prefixItems", "properties",
    "required", "then", "type",
})  # fmt: skip
"""Keywords that restrict values."""


def types_named(names: str | Sequence[str]) -> frozenset[str]:
    """Return the JSON types that the value of `type` names.

    Example: `types_named("number") == {"integer", "fraction"}`
    """
    listed = [names] if isinstance(names, str) else names
    return frozenset(kind for name in listed for kind in _TYPES.get(name, ()))


def read_count(keyword: str, value: Any) -> Any:
    """Return the value of a keyword; a count may be written as 2.0.

    Example: `read_count("minLength", 2.0) == 2`
    """
    return int(value) if keyword in COUNTS and isinstance(value, float) else value


def null_rates_in(schema: Mapping[str, Any]) -> list[Any]:
    """Return the null rate that a schema states, in either spelling; an empty list without one.

    Example: `null_rates_in({"nullRate": 0.1}) == [0.1]`
    """
    return [schema[key] for key in (NULL_RATE, SHORT_NULL_RATE) if key in schema][:1]
