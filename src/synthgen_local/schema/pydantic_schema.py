"""A pydantic model as JSON Schema, with what the standard keywords cannot say.

pydantic's own JSON Schema drops the bounds of dates, the digits of decimals, the keys of
dicts and the version of a UUID. This one keeps them, in keywords that `tighten.py` reads:
`formatMinimum` and its like, `maxDigits`, `decimalPlaces`, `timezone`, `version`.
"""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, JsonSchemaWarningKind
from pydantic_core import core_schema

_BOUNDS = {
    "ge": "formatMinimum",
    "gt": "formatExclusiveMinimum",
    "le": "formatMaximum",
    "lt": "formatExclusiveMaximum",
}


def model_json_schema(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema of what the model accepts, by alias, computed fields left out.

    Raises pydantic's PydanticInvalidForJsonSchema for a type that JSON cannot say.
    """
    return model.model_json_schema(
        by_alias=True, mode="validation", schema_generator=_ExactJsonSchema
    )


class _ExactJsonSchema(GenerateJsonSchema):
    ignored_warning_kinds: set[JsonSchemaWarningKind] = {  # noqa: RUF012 pydantic's own form
        "skipped-choice",
        "non-serializable-default",
    }

    def decimal_schema(self, schema: core_schema.DecimalSchema) -> JsonSchemaValue:
        return {
            "type": "string",
            "format": "decimal",
            **_bounds(schema),
            **_renamed(schema, max_digits="maxDigits", decimal_places="decimalPlaces"),
            **_renamed(schema, multiple_of="multipleOf"),
        }

    def date_schema(self, schema: core_schema.DateSchema) -> JsonSchemaValue:
        return {**super().date_schema(schema), **_bounds(schema), **_now(schema)}

    def time_schema(self, schema: core_schema.TimeSchema) -> JsonSchemaValue:
        return {**super().time_schema(schema), **_bounds(schema), "timezone": _timezone(schema)}

    def datetime_schema(self, schema: core_schema.DatetimeSchema) -> JsonSchemaValue:
        base = super().datetime_schema(schema)
        return {**base, **_bounds(schema), **_now(schema), "timezone": _timezone(schema)}

    def uuid_schema(self, schema: core_schema.UuidSchema) -> JsonSchemaValue:
        return {"type": "string", "format": "uuid", **_renamed(schema, version="version")}

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        base = super().dict_schema(schema)
        base.pop("patternProperties", None)
        base["propertyNames"] = self.generate_inner(schema.get("keys_schema", {"type": "str"}))
        values = schema.get("values_schema")
        base["additionalProperties"] = self.generate_inner(values) if values else True
        return base


def _bounds(schema: Any) -> dict[str, str]:
    return {name: _text(schema[key]) for key, name in _BOUNDS.items() if key in schema}


def _renamed(schema: Any, **names: str) -> dict[str, Any]:
    values = {name: schema[key] for key, name in names.items() if schema.get(key) is not None}
    return {k: str(v) if isinstance(v, Decimal) else v for k, v in values.items()}


def _now(schema: Any) -> dict[str, Any]:
    """PastDate and its like depend on the clock; named here so that they are refused by name."""
    return {"relativeToNow": schema["now_op"]} if "now_op" in schema else {}


def _timezone(schema: Any) -> str:
    constraint = schema.get("tz_constraint", "naive")
    return constraint if isinstance(constraint, str) else "aware"


def _text(bound: date | datetime | time | Decimal | int) -> str:
    return str(bound) if isinstance(bound, Decimal | int) else bound.isoformat()
