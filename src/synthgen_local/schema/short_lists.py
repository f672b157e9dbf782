"""A short list of fields, such as 'name, age int', as a pydantic model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from types import GenericAlias
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


_OTHER_NAMES = {"string": str, "integer": int, "number": float, "boolean": bool}
"""JSON Schema's names of types, which a colon may stand before."""

_TYPE = re.compile(r"(list|optional)\[(.*)\]|(.*?)\s*(?:\|\s*none|\?)", re.IGNORECASE)
_COMMA = re.compile(r",(?![^\[\]]*\])")  # none between the brackets of a type


def model_of_fields(text: str) -> type[BaseModel]:
    """Read `name, age int, city: a town in Peru`: name, type (str if left out), description.

    `age: int` has a type, too: a description that is the name of a type is one. A type is one of
    `FIELD_TYPES`, `list[int]` or `int | None`. Fields are separated by commas, or by lines where a
    description holds commas; three words after a comma go on with a description.
    Raises SchemaError for what is no field.

    Example: `model_of_fields("name, age: int")(name="Ada", age=36)`
    """
    fields: dict[str, Any] = {}
    for part in _parts(text):
        name, kind, description = _field(part)
        if name in fields:
            raise SchemaError(
                f"Field '{name}' is there twice.", hint="Give each field its own name."
            )
        fields[name] = (kind, Field(description=description or None))
    if not fields:
        raise SchemaError("The schema has no fields.", hint=SCHEMA_HINT)
    return create_model("Row", __config__=ConfigDict(protected_namespaces=()), **fields)


def is_type_name(text: str) -> bool:
    """Return whether a description is the name of a type.

    Example: `is_type_name("list[int]") and not is_type_name("a town")`
    """
    return _type_named(text, _OTHER_NAMES) is not None


def _parts(text: str) -> list[str]:
    """The fields as they are written."""
    if "\n" in text.strip():
        return [line.strip(" \t\r,") for line in text.split("\n") if line.strip(" \t\r,")]
    parts: list[str] = []
    for part in filter(None, (part.strip() for part in _COMMA.split(text))):
        words = part.split()
        goes_on = len(words) > 2 and _type_named(" ".join(words[1:])) is None
        if goes_on and ":" not in part and parts and ":" in parts[-1]:
            parts[-1] += f", {part}"
        else:
            parts.append(part)
    return parts


def _field(part: str) -> tuple[str, Any, str]:
    """The name, the type and the description of a field."""
    head, colon, description = (piece.strip() for piece in part.partition(":"))
    name, _, kind = head.partition(" ")
    if not colon and " " in kind and _type_named(kind) is None:
        raise SchemaError(f"'{part}' is not a field.", hint=SCHEMA_HINT)
    if not name.isidentifier() or name.startswith("_"):
        raise SchemaError(f"'{name}' is not a field name.", hint=SCHEMA_HINT)
    if kind:
        if (found := _type_named(kind.strip())) is None:
            raise SchemaError(
                f"Field '{name}' has an unknown type '{kind}'.",
                hint=f"Types: {', '.join(FIELD_TYPES)}.",
            )
        return name, found, description
    for end in (",", ":", ""):  # `age: int, a whole number`; `age: int: how old`; `age: int`
        said, _, rest = description.partition(end) if end else (description, "", "")
        if (found := _type_named(said, _OTHER_NAMES)) is not None:
            return name, found, rest.strip()
    return name, str, description


def _type_named(text: str, others: Mapping[str, Any] | None = None) -> Any:
    """The type of a name such as `int`, `list[int]` or `int | None`; None if it names none."""
    known = {**FIELD_TYPES, **(others or {})}
    if (found := known.get(text.strip().lower())) is not None:
        return found
    match = _TYPE.fullmatch(text.strip())
    inner: Any = _type_named(match[2] or match[3], others) if match else None
    if match is None or inner is None:
        return None
    return GenericAlias(list, inner) if (match[1] or "").lower() == "list" else inner | None
