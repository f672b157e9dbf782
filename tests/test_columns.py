"""The type of each column, from the schema alone."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any, Literal, NotRequired, Optional, Union
from uuid import UUID

import pytest
from pydantic import AwareDatetime, BaseModel, Field, Json
from typing_extensions import TypedDict

from synthgen_local.data.columns import Column, Columns, Decimals, Listed, Struct, columns_of
from synthgen_local.data.columns import Field as TableField
from synthgen_local.schema import RowSchema


class Kind(Enum):
    """Words."""

    A = "a"
    B = "b"


class Inner(BaseModel):
    """A nested model."""

    x: Optional[int]


class Cat(BaseModel):
    """One option of a union."""

    kind: Literal["cat"]
    lives: int


class Dog(BaseModel):
    """Another one."""

    kind: Literal["dog"]
    name: str


class Tree(BaseModel):
    """A recursive model."""

    leaf: bool
    branches: list["Tree"]


class Movie(TypedDict):
    """A mapping with a key that may be left out."""

    title: str
    year: NotRequired[int]


def column(kind: Any) -> Column:
    """The column of a field of this type."""
    model = type("Row", (BaseModel,), {"__annotations__": {"field": kind}})
    return columns_of(RowSchema.of(model).json_schema).fields[0].column


TYPES: list[tuple[Any, Any]] = [
    (int, "integer"),
    (Annotated[int, Field(ge=-(2**63), lt=2**63)], "integer"),
    (Annotated[int, Field(le=2**63)], "json"),
    (float, "number"),
    (Union[int, float], "number"),
    (bool, "boolean"),
    (str, "text"),
    (UUID, "text"),
    (date, "date"),
    (datetime, "datetime"),
    (AwareDatetime, "instant"),
    (time, "time"),
    (timedelta, "duration"),
    (Decimal, Decimals(38, 18)),
    (Annotated[Decimal, Field(max_digits=7, decimal_places=2)], Decimals(7, 2)),
    (Annotated[Decimal, Field(max_digits=7)], Decimals(14, 7)),
    (Annotated[Decimal, Field(max_digits=30)], "text"),
    (Annotated[Decimal, Field(decimal_places=3)], Decimals(38, 3)),
    (Annotated[Decimal, Field(ge=0, le=10**25)], Decimals(38, 12)),
    (Annotated[Decimal, Field(ge=0, le=10**35)], "text"),
    (Kind, "text"),
    (Literal[1, 2], "integer"),
    (Literal[1, "a"], "json"),
    (Json[list[int]], "text"),
    (Union[date, datetime, str], "text"),
    (Union[int, str], "json"),
    (Any, "json"),
    (dict[str, int], "json"),
    (list[date], Listed(Column("date"))),
    (list[Optional[int]], Listed(Column("integer", nullable=True))),
    (tuple[int, int], Listed(Column("integer"))),
    (tuple[int, str], "json"),
    (Union[list[int], list[str]], Listed(Column("json"))),
    (Inner, Struct((TableField("x", Column("integer", nullable=True)),))),
    (Union[Inner, Movie], "json"),
    (
        Union[Cat, Dog],
        Struct(
            (
                TableField("kind", Column("text")),
                TableField("lives", Column("integer"), optional=True),
                TableField("name", Column("text"), optional=True),
            )
        ),
    ),
    (
        Movie,
        Struct(
            (
                TableField("title", Column("text")),
                TableField("year", Column("integer"), optional=True),
            )
        ),
    ),
]


@pytest.mark.parametrize(("kind", "expected"), TYPES, ids=[str(kind) for kind, _ in TYPES])
def test_types(kind: Any, expected: Any) -> None:
    """Each type has its column; one that may be null has the same."""
    assert column(kind).type == expected
    assert column(Optional[kind]) == Column(expected, nullable=True)


def test_what_is_json_text_is_named() -> None:
    """What has no one type is JSON text where it stands, and its path says so."""
    columns = columns_of(RowSchema.of(Tree).json_schema)

    assert columns.names == ["leaf", "branches"]
    assert columns.json_paths() == ["$.branches[*]"]
    assert columns_of({"properties": {"a b": {}}}).json_paths() == ["$['a b']"]


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "array", "items": {"type": "integer"}}, Listed(Column("integer"))),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, "json"),
        ({"properties": {"a": {"type": "null"}}, "patternProperties": {"b": {}}}, "json"),
        ({"type": "object", "maxProperties": 0}, "json"),
        ({"type": ["object", "array"]}, "json"),
        ({"enum": ["a", "b"]}, "text"),
    ],
)
def test_rows_that_are_no_objects(schema: dict[str, Any], expected: Any) -> None:
    """They stand whole in one column, as do objects whose keys the schema does not name."""
    assert columns_of(schema) == Columns((TableField("value", Column(expected)),), whole=True)


PERSON = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
BORN: dict[str, Any] = {"properties": {"born": {"format": "date", "type": "string"}}}


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"allOf": [PERSON, BORN]}, {"name": "text", "born": "date"}),
        ({"$ref": "#/$defs/p", "$defs": {"p": PERSON}}, {"name": "text"}),
        ({**PERSON, "dependentRequired": {"name": ["age"]}}, {"name": "text", "age": "json"}),
        (
            {"anyOf": [PERSON, {"type": "object", "not": {"required": ["name"]}, **BORN}]},
            {"name": "text", "born": "date"},
        ),
        ({"properties": {"a": {"enum": ["x", None], "type": "string"}}}, {"a": "text"}),
        ({"properties": {"a": {"type": "number", "maximum": 1e300}}}, {"a": "number"}),
        ({"properties": {"a": {"const": 2**70}}}, {"a": "json"}),
        ({"properties": {"a": {"const": [1]}}}, {"a": "json"}),
        ({"properties": {"a": {"format": "date-time", "type": "string"}}}, {"a": "instant"}),
        ({"properties": {"a": {"format": "duration", "type": "string"}}}, {"a": "text"}),
        ({"properties": {"a": {"format": "time", "type": "string"}}}, {"a": "text"}),
        ({"properties": {"a": False, "b": {"type": "integer"}}}, {"b": "integer"}),
    ],
)
def test_json_schemas(schema: dict[str, Any], expected: dict[str, Any]) -> None:
    """References are followed, what applies together is one, texts of JSON Schema are kept."""
    columns = columns_of(schema)

    assert {field.name: field.column.type for field in columns.fields} == expected


def test_a_schema_that_doubles_at_each_level() -> None:
    """A schema that unfolds into millions of fields is no table: the rest is JSON text."""
    levels = {
        str(n): {"properties": {k: {"$ref": f"#/$defs/{n + 1}"} for k in "abcdefghij"}}
        for n in range(9)
    }
    schema = {"$ref": "#/$defs/0", "$defs": {**levels, "9": {"type": "integer"}}}

    assert columns_of(schema).names == list("abcdefghij")
