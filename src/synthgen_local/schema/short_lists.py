"""A short list of fields, such as 'name, age int', as a pydantic model."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, create_model

from ..errors import SchemaError
from .refusals import SCHEMA_HINT

FIELD_TYPES: dict[str, type[Any]] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "decimal": Decimal,
    "date": date,
    "datetime": datetime,
    "time": time,
    "uuid": UUID,
}
"""The type names of a short list of fields."""


def model_of_fields(text: str) -> type[BaseModel]:
    """Read `name, age int, city: a town in Peru`: name, type (str if left out), description.

    Fields are separated by commas, or by lines where a description holds commas.
    Raises SchemaError for what is no field.

    Example: `model_of_fields("name, age int")(name="Ada", age=36)`
    """
    separator = "\n" if "\n" in text.strip() else ","
    fields: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in text.split(separator))):
        head, _, description = part.partition(":")
        match head.split():
            case [name]:
                kind = "str"
            case [name, kind]:
                pass
            case _:
                raise SchemaError(f"'{part}' is not a field.", hint=SCHEMA_HINT)
        if not name.isidentifier() or name.startswith("_"):
            raise SchemaError(f"'{name}' is not a field name.", hint=SCHEMA_HINT)
        if kind not in FIELD_TYPES:
            raise SchemaError(
                f"Field '{name}' has an unknown type '{kind}'.",
                hint=f"Types: {', '.join(FIELD_TYPES)}.",
            )
        if name in fields:
            raise SchemaError(
                f"Field '{name}' is there twice.", hint="Give each field its own name."
            )
        fields[name] = (FIELD_TYPES[kind], Field(description=description.strip() or None))
    if not fields:
        raise SchemaError("The schema has no fields.", hint=SCHEMA_HINT)
    return create_model("Row", __config__=ConfigDict(protected_namespaces=()), **fields)
