"""Valid by construction: rows from random logits validate, whatever the schema.

Each example is a model of fields drawn by hypothesis, a random model with another salt, and
a few rows; `attempts=1`, so a row that a check would have to draw anew is a failure.
"""

from __future__ import annotations

import json
import os
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from ipaddress import IPv4Address, IPv6Network
from typing import Annotated, Any, Generic, Literal, NotRequired, Optional, TypeVar, Union
from uuid import UUID

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import (
    UUID4,
    AwareDatetime,
    BaseModel,
    EmailStr,
    Field,
    HttpUrl,
    Json,
    PastDate,
    SecretStr,
    create_model,
)
from random_rows import decode
from typing_extensions import TypedDict

from synthgen_local import SchemaError
from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.grammar.tsv import Lines

Value = TypeVar("Value")


class Colour(str, Enum):
    """An enum whose values need escapes."""

    RED = "red"
    QUOTED = 'a "quoted" \\ one'
    LINES = "two\nlines"


class Level(IntEnum):
    """An enum of numbers."""

    LOW = -1
    HIGH = 10


class Address(BaseModel):
    """A nested model with an alias and a default."""

    street: str = Field(max_length=8, alias="the street")
    number: int = Field(ge=1, le=999)
    note: Optional[str] = None


class Tree(BaseModel):
    """A recursive model."""

    leaf: bool
    branches: list["Tree"] = Field(default=[], max_length=2)


class Box(BaseModel, Generic[Value]):
    """A generic model."""

    value: Value


class Movie(TypedDict):
    """A mapping with a key that may be left out."""

    title: Annotated[str, Field(max_length=9)]
    year: NotRequired[int]


def bounded(kind: Any, low: Any, high: Any) -> st.SearchStrategy[Any]:
    """A type between two bounds, each of them inclusive, exclusive or absent."""

    def annotate(ends: tuple[Any, Any], lower: str, upper: str) -> Any:
        least, most = sorted(ends)
        limits = {lower: least, upper: most}
        limits = {name: limit for name, limit in limits.items() if not name.startswith("no")}
        if least == most:
            limits = {"ge": least} if "no" in lower else {"le": most}
        return Annotated[kind, Field(**limits)]

    ends = st.tuples(st.one_of(low, high), st.one_of(low, high))
    return st.builds(
        annotate, ends, st.sampled_from(["ge", "gt", "no_low"]), st.sampled_from(["le", "no_high"])
    )


LENGTHS = st.tuples(st.integers(0, 4), st.integers(0, 6)).map(
    lambda pair: {"min_length": pair[0], "max_length": sum(pair)}
)
PATTERNS = [
    r"^[A-Z]\d{2}(\.\d)?$",
    "^(yes|no)$",
    r"^\w+@\w+$",
    "a.c",
    r"^\d{3}-\d{4}$",
    '^["\\\\]+$',
]
DAYS = st.dates(date(1000, 1, 1), date(3000, 1, 1))
MOMENTS = st.datetimes(datetime(1000, 1, 1), datetime(3000, 1, 1))

scalars = st.one_of(
    st.sampled_from([int, float, bool, str, Decimal, date, datetime, time, UUID]),
    st.sampled_from([UUID4, AwareDatetime, Colour, Level, Address, Tree, Movie]),
    st.sampled_from([bytes, timedelta, EmailStr, HttpUrl, IPv4Address, IPv6Network, SecretStr]),
    st.sampled_from([Json[list[int]], Json[Address], PastDate, dict, list, Any]),
    st.sampled_from([Literal["a", 1, None, True], Literal["é\U0001f600"]]),
    bounded(int, st.integers(-(10**25), 10**25), st.integers(-99, 99)),
    bounded(float, st.floats(-1e12, 1e12, allow_subnormal=False), st.integers(-9, 9).map(float)),
    bounded(date, DAYS, DAYS),
    bounded(datetime, MOMENTS, MOMENTS),
    bounded(time, st.times(), st.times()),
    st.integers(1, 20_000).map(lambda step: Annotated[int, Field(multiple_of=step)]),
    st.sampled_from([0.5, 0.25, 0.1, 0.01, 5.0]).map(
        lambda step: Annotated[float, Field(multiple_of=step, ge=-100, le=100)]
    ),
    st.tuples(st.integers(1, 6), st.integers(0, 6)).map(
        lambda digits: Annotated[Decimal, Field(max_digits=sum(digits), decimal_places=digits[1])]
    ),
    st.integers(1, 9).map(lambda digits: Annotated[Decimal, Field(max_digits=digits)]),
    LENGTHS.map(lambda lengths: Annotated[str, Field(**lengths)]),
    st.sampled_from(PATTERNS).map(lambda pattern: Annotated[str, Field(pattern=pattern)]),
)


def containers(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Types that hold others."""
    return st.one_of(
        inner.map(lambda kind: Optional[kind]),
        st.tuples(inner, inner).map(lambda kinds: Union[kinds]),
        st.tuples(inner, LENGTHS).map(lambda pair: Annotated[list[pair[0]], Field(**pair[1])]),
        st.lists(inner, min_size=1, max_size=3).map(lambda kinds: tuple[tuple(kinds)]),
        inner.map(lambda kind: tuple[kind, ...]),
        inner.map(lambda kind: dict[str, kind]),
        inner.map(lambda kind: dict[int, kind]),
        inner.map(lambda kind: dict[Colour, kind]),
        inner.map(lambda kind: Box[kind]),
    )


types = st.recursive(scalars, containers, max_leaves=4)


MODELS = int(os.environ.get("SYNTHGEN_MODELS", "400"))


@settings(max_examples=MODELS, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(types, min_size=1, max_size=4), st.integers(0, 2**32 - 1))
def test_rows_of_any_model_validate(kinds: list[Any], salt: int) -> None:
    """Every row of every supported type is an instance of its model at the first attempt."""
    model = create_model("Model", **{f"field_{i}": (kind, ...) for i, kind in enumerate(kinds)})
    try:
        grammar = compile_schema(RowSchema.of(model))
    except SchemaError as error:  # such as a float between 1e-51 and 1e-45: six decimals have none
        assume("leaves no value" not in str(error))
        raise
    assume(grammar.longest < 100_000)  # a row of a million characters takes minutes

    lines = Lines.of(grammar.ir) if salt % 2 else None
    for text in decode(grammar, salt, rows=3, lines=lines):
        assert isinstance(model.model_validate_json(text), BaseModel)


NODE = {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}
NUMBER = {"type": "number", "multipleOf": 0.25, "minimum": 0, "maximum": 2}
JSON_SCHEMAS: list[dict[str, Any]] = [
    {"properties": {"a": {"type": ["integer", "null"]}, "b": {"const": {"c": []}}}},
    {"properties": {"n": {"exclusiveMinimum": 0, "exclusiveMaximum": 1e-7, "type": "number"}}},
    {"type": "array", "prefixItems": [{"type": "boolean"}, {"enum": ["x"]}], "items": False},
    {"prefixItems": [{"type": "null"}], "items": {"type": "integer"}, "minItems": 3},
    {"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 2},
    {"properties": {"w": {"type": "string", "format": "date-time"}, "t": {"format": "time"}}},
    {"$ref": "#/$defs/node", "$defs": {"node": {"properties": {"next": NODE}}}},
    {"type": "integer", "minimum": 3.5, "maximum": 1e3},
    {"type": "string", "pattern": "^[a-z]{2,5}$", "minLength": 3},
    {"properties": {'odd "key"/\\': NUMBER}},
]


@pytest.mark.parametrize("schema", JSON_SCHEMAS, ids=[str(i) for i in range(len(JSON_SCHEMAS))])
@settings(max_examples=10, deadline=None)
@given(salt=st.integers(0, 2**32 - 1))
def test_rows_of_json_schemas_validate(schema: dict[str, Any], salt: int) -> None:
    """Every row of a JSON Schema validates by jsonschema, formats included."""
    grammar = compile_schema(RowSchema.of(schema))
    validator = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)

    for text in decode(grammar, salt, rows=3):
        validator.validate(json.loads(text))


def test_strings_hold_no_control_characters() -> None:
    """A free string has no control characters, with and without a pattern."""
    grammar = compile_schema(RowSchema.of({"properties": {
        "free": {"type": "string"}, "patterned": {"type": "string", "pattern": r"^[\s\S]{5,9}$"},
    }, "required": ["free", "patterned"]}))  # fmt: skip

    for text in decode(grammar, salt=0, rows=40):
        row = json.loads(text)
        assert all(character.isprintable() or ord(character) > 0x9F for character in row["free"])
        assert not any(ord(character) < 0x20 for character in row["patterned"])
