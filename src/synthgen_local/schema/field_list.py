"""A short list of fields, such as 'name, age int', as a pydantic model.

Knows the syntax of the list; the model is a schema like any other.
"""

from __future__ import annotations

import ast
import copyreg
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time
from decimal import Decimal
from itertools import chain
from types import GenericAlias, NoneType, UnionType
from typing import Any, ClassVar, Literal, Union, get_args, get_origin
from uuid import UUID
from weakref import WeakValueDictionary

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model

from ..errors import SchemaError
from .errors import SCHEMA_HINT

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


_OTHER_NAMES = {
    "string": str,
    "integer": int,
    "number": float,
    "boolean": bool,
    "list": list[str],
    "array": list[str],
}
"""Other names of types, which are accepted after a colon."""

_TYPE = re.compile(r"[\w.\[\], |'\"-]+\??")
_COMMA = re.compile(r",(?![^\[\]]*\])")  # none between the brackets of a type
_ENDS = (",", ":", "(", " - ", " \N{EN DASH} ", "")
"""Separators of a type and a description of its field."""

_CONSTANTS = {"none": None, "null": None, "true": True, "false": False}

_GOES_ON = frozenset({
    "a", "an", "and", "as", "at", "between", "by", "each", "for", "from", "if", "in", "of", "on",
    "or", "per", "such", "than", "that", "the", "to", "when", "where", "which", "with", "without",
})  # fmt: skip
"""Words that are not names of fields: text that begins with one continues a description."""


class _Pickled(type(BaseModel)):  # type: ignore[misc] # a metaclass is chosen at run time
    """The type of classes that pickle restores from the list of their fields."""


class ListedRow(BaseModel, metaclass=_Pickled):
    """A row of a short list of fields."""

    model_config = ConfigDict(protected_namespaces=())
    _source: ClassVar[str] = ""


def _pickled(kind: type[ListedRow]) -> tuple[Any, ...] | str:
    """A class by its list of fields; a string is the name of one that this module has."""
    return (model_of_fields, (kind._source,)) if kind._source else kind.__qualname__


copyreg.pickle(_Pickled, _pickled)

_MADE: WeakValueDictionary[str, type[ListedRow]] = WeakValueDictionary()
"""Classes in use: the rows of one list are of one class, so equal rows are equal."""


def model_of_fields(text: str) -> type[BaseModel]:
    """Parse `name, age int, city: a town in Peru`: name, type (str if left out), description.

    `age: int` has a type, too: a description that is the name of a type is one. A type is one of
    `FIELD_TYPES`, `list[int]`, `int | None`, `Literal["a", "b"]` or the like; a default may follow
    it (`age: int = 3`). Fields are separated by commas, or by lines where a description holds
    commas; three words after a comma continue a description.
    Raises SchemaError for text that is not a list of fields.

    Example: `model_of_fields("name, age: int")(name="Ada", age=36)`
    """
    if (made := _MADE.get(text)) is not None:
        return made
    fields: dict[str, Any] = {}
    for part in _parts(text):
        left, equals, default = part.partition("=")
        name, kind, description = _field(left if _is_typed(left) else part)
        if name in fields:
            raise SchemaError(
                f"Field '{name}' is defined twice.", hint="Give each field its own name."
            )
        said = Field(description=description or None)
        if equals and _is_typed(left):
            said = Field(default=_default(name, kind, default), description=description or None)
        fields[name] = (kind, said)
    if not fields:
        raise SchemaError("The schema has no fields.", hint=SCHEMA_HINT)
    row: type[ListedRow] = create_model("Row", __base__=ListedRow, **fields)
    row._source = text
    _MADE[text] = row
    return row


def is_type_name(text: str) -> bool:
    """Return whether a description is the name of a type.

    Example: `is_type_name("list[int]") and not is_type_name("a town")`
    """
    return _type_named(text, _OTHER_NAMES) is not None


def _parts(text: str) -> list[str]:
    """Split the list into the texts of its fields."""
    if "\n" in text.strip():
        return [line.strip(" \t\r,") for line in text.split("\n") if line.strip(" \t\r,")]
    parts: list[str] = []
    for part in filter(None, (part.strip() for part in _COMMA.split(text))):
        words = part.split()
        least = 1 if words[0].lower() in _GOES_ON else 2
        goes_on = len(words) > least and not _is_typed(part.partition("=")[0])
        if goes_on and ":" not in part and parts and ":" in parts[-1]:
            parts[-1] += f", {part}"
        else:
            parts.append(part)
    return parts


def _field(part: str) -> tuple[str, Any, str]:
    """Parse the name, the type and the description of a field."""
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
    for end in _ENDS:  # `age: int, a whole number`; `age: int: how old`; `age: int`
        said, _, rest = description.partition(end) if end else (description, "", "")
        if (found := _type_named(said, _OTHER_NAMES)) is not None:
            return name, found, rest.strip().removesuffix(")" if end == "(" else "")
    return name, str, description


def _is_typed(left: str) -> bool:
    """Return whether the text before an equals sign is a name and a type, without description."""
    match = re.fullmatch(r"\s*(\w+)\s*(:|\s)(.*)", left)
    names = _OTHER_NAMES if match and match[2] == ":" else None
    return match is not None and _type_named(match[3], names) is not None


def _default(name: str, kind: Any, text: str) -> Any:
    """Parse a default, a Python literal or plain text."""
    value: Any = _CONSTANTS.get(text.strip().lower(), text.strip())
    with suppress(ValueError, SyntaxError):
        value = ast.literal_eval(value)
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError:
        raise SchemaError(
            f"The default of field '{name}' is not valid for its type.",
            hint="Correct it, or leave it out.",
        ) from None


def _type_named(text: str, others: Mapping[str, Any] | None = None) -> Any:
    """Return the type of a name such as `int`, `list[int]` or `int | None`; None if unknown."""
    text = text.strip()
    if _TYPE.fullmatch(text) is None:
        return None
    nullable = text.endswith("?")
    try:
        tree = ast.parse(text.rstrip("? "), mode="eval").body
    except (SyntaxError, ValueError):
        return None
    kind = _kind(tree, {**FIELD_TYPES, **(others or {})})
    if kind in (None, NoneType):
        return None
    return _union([kind, NoneType]) if nullable else kind


def _kind(tree: ast.expr, known: Mapping[str, Any]) -> Any:
    """Return the type of an annotation, NoneType for None; None if it is not known."""
    match tree:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return NoneType if name.lower() == "none" else known.get(name.lower())
        case ast.Constant(value=None):
            return NoneType
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            parts = [_kind(part, known) for part in (left, right)]
            return None if None in parts else _union(parts)
        case ast.Subscript(value=ast.Name(id=name) | ast.Attribute(attr=name), slice=inner):
            return _generic(name.lower(), inner, known)
    return None


def _generic(name: str, inner: ast.expr, known: Mapping[str, Any]) -> Any:
    """Return the type of a name with brackets; None if it is not known."""
    if name == "literal":
        try:
            return Literal[ast.literal_eval(inner)]
        except ValueError:
            return None
    parts = [
        _kind(part, known) for part in (inner.elts if isinstance(inner, ast.Tuple) else [inner])
    ]
    if None in parts:
        return None
    match name, parts:
        case "list" | "set", [item]:
            return GenericAlias({"list": list, "set": set}[name], item)
        case "dict", [key, value]:
            return GenericAlias(dict, (key, value))
        case "optional", [item]:
            return _union([item, NoneType])
        case "union", [_, *_]:
            return _union(parts)
    return None


def _union(parts: Sequence[Any]) -> Any:
    """Return the union of some types, in their order.

    Nested unions are flattened first: `Union[int, str]` and `Union[str, int]` are equal keys of
    the cache of `typing`, so a nested one could come back in another order.
    """
    members = (
        get_args(part) if get_origin(part) in (Union, UnionType) else (part,) for part in parts
    )
    return Union[tuple(chain.from_iterable(members))]
