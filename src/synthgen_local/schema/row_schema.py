"""Schemas of rows: a pydantic type, a JSON Schema or a list of fields as a RowSchema.

Knows how to parse a row to an instance of the user's type. It does not know grammars.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import SecretBytes, SecretStr, TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticUserError
from pydantic_core import to_jsonable_python

from ..errors import SchemaError
from .class_import import class_in
from .field_list import is_type_name, model_of_fields
from .json_schema.documents import check_of, read_document, readable, refuse_surrogates
from .pydantic.json_schema import type_json_schema
from .pydantic.outlines_terms import is_term, row_schema
from .pydantic.serialization import row_writer, unused_settings
from .rejections import (
    UnreadableRowError,
    declared_names,
    difference,
    field_in_trace,
    one_line,
)


@dataclass(frozen=True)
class RowSchema:
    """A schema, with functions that convert between a row's JSON and its instance.

    `parse` takes JSON text and raises ValueError with a one-line reason if the row is not
    valid; `read` does the same for a mapping or an instance. `dump` makes JSON values
    (dict, list, str, int, float, bool, None) of an instance. `unused` has the path and the name of
    each setting for output that rows do not follow, such as a serialiser.
    """

    name: str
    json_schema: dict[str, Any]
    parse: Callable[[str], Any]
    read: Callable[[Any], Any]
    dump: Callable[[Any], Any]
    unused: Sequence[tuple[str, str]] = ()
    made_by: tuple[Callable[..., RowSchema], tuple[Any, ...]] | None = field(
        default=None, repr=False, compare=False
    )
    """The function and its arguments that a copy in another process is made by."""

    def __reduce__(self) -> tuple[Callable[..., RowSchema], tuple[Any, ...]]:
        plain = self.name, self.json_schema, self.parse, self.read, self.dump, self.unused
        return self.made_by or (RowSchema, plain)

    def accept(self, text: str) -> Any:
        """Return the instance of a row if the line that is written for it is a valid row, too.

        Raises ValueError as `parse` does, UnreadableRowError if the written row differs from the
        text and either is not valid or is read as another row.

        Example: `RowSchema.of("name").accept('{"name": "Ada"}').name == "Ada"`
        """
        value = self.parse(text)
        written = self._written(value)
        if written != json.loads(text):
            self._check_written(value, written)
        return value

    def _written(self, value: Any) -> Any:
        try:
            return self.dump(value)
        except Exception as error:  # of a serialiser, which may raise anything
            raise UnreadableRowError(
                f"the row cannot be serialised: {type(error).__name__}"
            ) from None

    def _check_written(self, value: Any, written: Any) -> None:
        try:
            again = self.parse(json.dumps(written))
            self._judge(written)
        except ValueError as error:
            raise UnreadableRowError(f"the serialised row is not valid: {error}") from None
        names = declared_names(self.json_schema)
        if again != value and (path := difference(written, self._written(again), names)):
            raise UnreadableRowError(f"{path}: the serialised value is read as another value")

    @cached_property
    def _judge(self) -> Callable[[Any], Any]:
        return check_of(self.json_schema)

    @classmethod
    def of(cls, schema: Any) -> RowSchema:
        """Return the schema of a type, a JSON Schema as a dict, or a list of fields.

        A type is whatever pydantic validates: a model, a dataclass, a TypedDict, a NamedTuple, or
        an annotation such as `list[int]`. Raises SchemaError for any other value.

        Example: `RowSchema.of("name, age int").parse('{"name": "Ada", "age": 36}').age == 36`
        """
        if isinstance(schema, RowSchema):
            return schema
        if is_term(schema):
            held = row_schema(schema)
            return _from_type(schema) if held is None else RowSchema.of(held)
        if isinstance(schema, str):
            return _from_type(model_of_fields(schema))
        if isinstance(schema, dict):
            document, _ = readable(schema, "The schema")
            return _from_document(document, schema.get("title", "Row"))
        return _from_type(schema)


def load_schema(source: str) -> RowSchema:
    """Return the schema that a text names.

    `file.py:Class`, `package.module:Class`, a JSON Schema file, or `'name, age int'`.
    Raises SchemaError if the schema cannot be found or read.

    Example: `load_schema("examples/medical_billing.py:MedicalBilling")`
    """
    if source.endswith(".json") and _may_be_path(source):
        document, notes = readable(read_document(Path(source)), source)
        for note in notes:
            warnings.warn(f"{source}: {note}.", stacklevel=2)
        return _from_document(document, document.get("title", Path(source).stem))
    where, colon, name = source.rpartition(":")
    typed = where.isidentifier() and is_type_name(name)  # `age:int`
    if colon and not typed and re.fullmatch(r"[\w.]+", name) and _may_be_code(where):
        return RowSchema.of(class_in(where, name))
    if (source.endswith(".py") or "/" in source) and _may_be_path(source):
        raise SchemaError(
            f"{source} does not name a class: expected file.py:Class.",
            hint="Add a colon and the name of the class.",
        )
    return RowSchema.of(source)


def _may_be_path(source: str) -> bool:
    """Return whether a text may name a file: a list of fields has a comma, or colon and space."""
    return _is_there(source) or not re.search(r",|:\s|\n", source)


def _is_there(path: str) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 Path.is_file raises for a name that is too long


def _may_be_code(where: str) -> bool:
    """Return whether a text before a colon may name a file or a module."""
    return _is_there(where) or not re.search(r"[\s,]", where)


def _from_type(kind: Any) -> RowSchema:
    name = _name(kind)
    if any(base.__module__.startswith("pydantic.v1") for base in getattr(kind, "__mro__", ())):
        raise SchemaError(
            f"{name} is a pydantic.v1 model, expected pydantic 2.",
            hint="Derive it from pydantic.BaseModel; bump-pydantic converts a file.",
        )
    try:
        adapter = TypeAdapter(kind)
        schema = type_json_schema(adapter)
        refuse_surrogates(schema)
        write, unused = row_writer(adapter), tuple(unused_settings(adapter))
    except PydanticInvalidForJsonSchema as error:
        raise SchemaError(
            f"{_field_of(name, error)} has a type without a JSON Schema: {_first_line(error)}",
            hint="Use a type for which pydantic generates JSON Schema.",
        ) from error
    except ImportError as error:
        raise SchemaError(
            f"{name} needs a package that is not installed: {error}.", hint="Install it."
        ) from error
    except (PydanticUserError, TypeError) as error:
        raise SchemaError(
            _unknown_type(name, error),
            hint="Derive it from pydantic.BaseModel.",
        ) from error

    declared = declared_names(schema)

    def parse(text: str) -> Any:
        with one_line(declared):
            return adapter.validate_json(text)

    def read(value: Any) -> Any:
        with one_line(declared):
            return adapter.validate_python(value)

    hidden = any(_formats(schema, "password"))

    def dump(instance: Any) -> Any:
        if hidden:  # JSON mode would write asterisks
            values = write(instance, by_alias=True, round_trip=True)
            return to_jsonable_python(_reveal(values))
        return write(instance, mode="json", by_alias=True, round_trip=True)

    return RowSchema(name, schema, parse, read, dump, unused, (_from_type, (kind,)))


def _field_of(name: str, error: Exception) -> str:
    field = field_in_trace(error)
    return f"{name}: field '{field}'" if field else name


def _unknown_type(name: str, error: Exception) -> str:
    field = field_in_trace(error)
    what = f"of field '{field}' of {name}" if field else name
    return f"pydantic does not know the type {what}."


def _first_line(error: PydanticUserError) -> str:
    return error.message.partition("\n")[0]


def _formats(schema: Any, name: str) -> Iterator[bool]:
    """Yield True for each schema in a schema that has a format of this name."""
    inner = schema.values() if isinstance(schema, dict) else schema
    if isinstance(schema, dict | list):
        yield isinstance(schema, dict) and schema.get("format") == name
        for part in inner:
            yield from _formats(part, name)


def _reveal(value: Any) -> Any:
    """Replace SecretStr and SecretBytes by their contents: the rows are synthetic."""
    match value:
        case SecretStr() | SecretBytes():
            return _reveal(value.get_secret_value())
        case bytes():
            return value.decode()
        case dict():
            return {key: _reveal(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_reveal(item) for item in value]
    return value


def _from_document(schema: dict[str, Any], name: str) -> RowSchema:
    read = check_of(schema)

    def parse(text: str) -> Any:
        return read(json.loads(text))

    made_by = _from_document, (schema, name)
    return RowSchema(name, schema, parse, read, lambda value: value, made_by=made_by)


def _name(value: Any) -> str:
    return getattr(value, "__name__", type(value).__name__)
