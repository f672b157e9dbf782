"""Values of CSV, of tables and of labelled text as JSON values that a schema's properties take.

A cell is text first: where the schema allows that text, it stays as it is. Only then is it read
as JSON, as a number or as a boolean. Knows JSON Schema, not files.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from pydantic_core import to_jsonable_python

from ..errors import PromptError, SchemaError
from ..schema import RowSchema
from ..schema.grammar.json_text import write_value
from ..schema.json_schema.conjunct import Conjunct
from ..schema.json_schema.dnf import DnfConverter
from ..schema.json_schema.keywords import JSON_TYPES
from ..schema.json_schema.references import References
from ..schema.json_schema.validation import judge
from .columns import WHOLE, columns_of, kind_of
from .text_files import Cell, json_value

LEFT_OUT = object()
"""Stands for the value of a property that a record does not have."""

_INTEGER = re.compile(r"[+-]?\d+")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_TRUE, _FALSE = {"true", "t", "yes", "y", "on", "1"}, {"false", "f", "no", "n", "off", "0"}
_NUMBERS = {"integer", "fraction"}


class Cells:
    """Reads cells by the properties of a schema.

    Example: `Cells(RowSchema.of("age int")).record({"age": "36"}) == {"age": 36}`
    """

    def __init__(self, schema: RowSchema) -> None:
        self._root = schema.json_schema
        self._references = References(self._root)
        self._known: dict[str, _Property] = {}

    def rows(self, columns: Sequence[str], head: Sequence[Sequence[Cell]]) -> _Rows:
        """Return what reads the rows of a file, of which `head` are the first.

        Example: `Cells(schema).rows(["age"], [["36"]]).record(["36"]) == {"age": 36}`
        """
        whole = list(columns) == [WHOLE] and columns_of(self._root).whole
        properties = [self._whole if whole else self._property(name) for name in columns]
        turned = zip(*head, strict=True) if head else [()] * len(columns)
        json_text = [
            known.mixed and _is_json_text(cells)
            for known, cells in zip(properties, turned, strict=True)
        ]
        return _Rows(columns, properties, json_text, whole)

    def record(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Return a record of texts, each read by its property.

        Example: `Cells(RowSchema.of("age int")).record({"age": "36"}) == {"age": 36}`
        """
        values = {name: self._property(name).value(text) for name, text in texts.items()}
        return {name: value for name, value in values.items() if value is not LEFT_OUT}

    def json_values(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Return a record with JSON values for what Python has other types for, such as dates.

        A null is left out where the schema refuses it.

        Example: `Cells(schema).json_values({"born": date(2020, 1, 2)}) == {"born": "2020-01-02"}`
        """
        values = {name: self._property(name).json_of(value) for name, value in record.items()}
        return {name: value for name, value in values.items() if value is not LEFT_OUT}

    def _property(self, name: str) -> _Property:
        if name not in self._known:
            schema = self._properties.get(name, {})
            self._known[name] = self._of(schema, optional=name not in self._required)
        return self._known[name]

    @cached_property
    def _whole(self) -> _Property:
        return self._of(self._root, optional=False)

    def _of(self, schema: Any, *, optional: bool) -> _Property:
        try:
            parts = DnfConverter(self._references).convert(schema)
        except SchemaError:
            return _Property(JSON_TYPES, self._judge.evolve(schema=schema), optional=optional)
        kinds = frozenset[str]().union(*map(_kinds, parts))
        listed = any(part.values is not None for part in parts)
        check = self._judge.evolve(schema=schema)
        return _Property(kinds, check, optional=optional, listed=listed)

    @cached_property
    def _object(self) -> Mapping[str, Any]:
        """The schema of the record, behind the references that lead to it."""
        schema: Any = self._root
        for _ in range(10):
            if not isinstance(schema, Mapping) or "$ref" not in schema or "properties" in schema:
                break
            schema = self._references.resolve(schema["$ref"])
        return schema if isinstance(schema, Mapping) else {}

    @property
    def _properties(self) -> Mapping[str, Any]:
        return self._object.get("properties", {})  # type: ignore[no-any-return]

    @property
    def _required(self) -> Sequence[str]:
        return self._object.get("required", ())  # type: ignore[no-any-return]

    @cached_property
    def _judge(self) -> Any:
        from jsonschema.validators import validator_for

        return judge(self._root, format_checker=validator_for(self._root).FORMAT_CHECKER)


@dataclass(frozen=True)
class _Property:
    """What a property takes: `kinds` of values that `check` allows, perhaps only `listed` ones."""

    kinds: frozenset[str]
    check: Any
    optional: bool
    listed: bool = False

    @property
    def mixed(self) -> bool:
        """Whether a column of strings and other values is JSON text in our own CSV."""
        return "string" in self.kinds and len(self.kinds - {"null"}) > 1

    def value(self, cell: Cell, *, json_text: bool = False) -> Any:
        """Return the first reading of a cell that the schema allows, or the likeliest one."""
        if not cell:
            return self._empty(quoted=cell is not None)
        if json_text or self.kinds == JSON_TYPES:
            return _json(cell, cell)
        if self.kinds <= {"string", "null"} and not self.listed:
            return cell
        readings = list(self._readings(cell))
        return next(filter(self._allows, readings), readings[0])

    def json_of(self, value: Any) -> Any:
        """Return a value as JSON; one that JSON has no word for stays as it is."""
        if value is None and "null" not in self.kinds:
            return LEFT_OUT
        if isinstance(value, str | int | float | None):
            return value
        try:
            readings = [to_jsonable_python(value)]
        except (ValueError, RecursionError):
            return value
        if isinstance(value, datetime):
            readings.append(value.date().isoformat())
        return next(filter(self._allows, readings), readings[0])

    def _empty(self, *, quoted: bool) -> Any:
        if quoted and "string" in self.kinds:
            return ""
        if "null" in self.kinds:
            return None
        if self.optional:
            return LEFT_OUT
        return "" if "string" in self.kinds else None

    def _readings(self, cell: str) -> Iterator[Any]:
        if "string" in self.kinds:
            yield cell
        value = _json(cell, LEFT_OUT)
        if value is not LEFT_OUT:
            yield value
        text = cell.strip()
        if self.kinds & _NUMBERS and _INTEGER.fullmatch(text) and len(text) < 1000:
            yield int(text)
        elif self.kinds & _NUMBERS and _NUMBER.fullmatch(text):
            yield float(text)
        if "boolean" in self.kinds and text.lower() in _TRUE | _FALSE:
            yield text.lower() in _TRUE
        yield cell

    def _allows(self, value: Any) -> bool:
        try:
            return bool(self.check.is_valid(value))
        except (ValueError, RecursionError):
            return False


@dataclass(frozen=True)
class _Rows:
    """The columns of a file, and how its rows become records."""

    columns: Sequence[str]
    properties: Sequence[_Property]
    json_text: Sequence[bool]
    whole: bool

    def record(self, cells: Sequence[Cell]) -> Any:
        """Return a row as a record, or as the value that it is if rows are no objects."""
        found = [
            known.value(cell, json_text=json_text)
            for known, json_text, cell in zip(self.properties, self.json_text, cells, strict=True)
        ]
        if self.whole:
            return found[0]
        pairs = zip(self.columns, found, strict=True)
        return {name: value for name, value in pairs if name and value is not LEFT_OUT}


def _kinds(part: Conjunct) -> frozenset[str]:
    """The kinds of a part's values; where no type is named, those that its keywords speak of."""
    if part.values is not None:
        return frozenset(map(kind_of, part.values))
    return (part.implied_types or JSON_TYPES) if part.types == JSON_TYPES else part.types


def _json(text: str, otherwise: Any) -> Any:
    try:
        return json_value(text, "cell")
    except PromptError:
        return otherwise


def _is_json_text(cells: Sequence[Cell]) -> bool:
    """Whether a column is JSON text, as `write_table` writes what has no one type."""
    texts = list(filter(None, cells))
    if not any(text[0] in '"[{' for text in texts):
        return False
    try:
        return all(write_value(json.loads(text)) == text for text in texts)
    except (ValueError, RecursionError):
        return False
