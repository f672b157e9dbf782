"""Validators of a pydantic type as a keyword of its JSON Schema, for the check of a row.

Knows which of pydantic's own validators are expressed by other keywords and need no check.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic.json_schema import JsonSchemaValue

from ..json_schema.keywords import VALIDATORS

NUMBER_BOUNDS = {
    "ge": "minimum",
    "gt": "exclusiveMinimum",
    "le": "maximum",
    "lt": "exclusiveMaximum",
    "multiple_of": "multipleOf",
}
"""pydantic's names of bounds, with those of JSON Schema."""
_BOUNDS_AFTER_VALIDATORS = {
    *NUMBER_BOUNDS, "min_length", "max_length", "max_digits", "decimal_places",
}  # fmt: skip


def add_validators(schema: JsonSchemaValue, *names: str) -> JsonSchemaValue:
    """Return a JSON Schema whose values are also checked by validators of these names.

    Example: `add_validators({}, "luhn") == {"x-synthgen-validators": ["luhn"]}`
    """
    return {**schema, VALIDATORS: [*schema.get(VALIDATORS, ()), *names]} if names else schema


def add_function(schema: JsonSchemaValue, core_schema: Any) -> JsonSchemaValue:
    """Return a JSON Schema with the function of a validator, unless a keyword expresses it.

    Most of pydantic's own validators are part of a type, or a bound that its JSON Schema has.

    Example: `add_function(super().function_after_schema(schema), schema)`
    """
    function = core_schema["function"]["function"]
    bounds = getattr(function, "keywords", {})
    function = getattr(function, "func", function)  # of a functools.partial
    module = str(getattr(function, "__module__", None) or "")
    name = getattr(function, "__name__", type(function).__name__)
    if module.partition(".")[0] not in ("pydantic", "pydantic_core", "builtins", ""):
        return add_validators(schema, name)
    if name == "val_func":  # pydantic's function for annotated_types' Predicate and Not
        return add_validators(schema, "Predicate")
    if name == "decode_str":  # a Base64Str must decode to text
        return add_validators(schema, name)
    later = _BOUNDS_AFTER_VALIDATORS.intersection(bounds)
    return add_validators(schema, *sorted(later.difference(_expressed_bounds(schema))))


def _expressed_bounds(schema: JsonSchemaValue) -> Collection[str]:
    """The bounds after a validator that the JSON Schema of its type expresses."""
    match schema:
        case {"type": "integer" | "number"}:
            return NUMBER_BOUNDS
        case {"type": "array"} | {"type": "string"} if "format" not in schema:
            return ("min_length", "max_length")
    return ()
