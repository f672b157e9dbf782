"""What the compiler honours, bounds, checks or refuses."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field, FilePath, ImportString, NewPath
from random_rows import decode

from synthgen_local import SchemaError
from synthgen_local.schema import Bounds, RowSchema, compile_schema
from synthgen_local.schema.ir import AnyOf, Choice, Integer, Object, String
from synthgen_local.schema.lowering.lower import lower

REFUSED: dict[str, dict[str, Any]] = {
    "$ref": {"$ref": "https://example.org/schema"},
    "multipleOf": {"type": "integer", "multipleOf": 999_983},
    "format": {"type": "string", "format": "file-path"},
    "pattern": {"type": "string", "pattern": "(a"},
}

UNSATISFIABLE: dict[str, dict[str, Any]] = {
    "minimum": {"type": "integer", "minimum": 5, "maximum": 4},
    "minLength": {"type": "string", "minLength": 5, "maxLength": 4},
    "minItems": {"type": "array", "items": {"type": "null"}, "minItems": 5, "maxItems": 4},
    "multipleOf": {"type": "number", "minimum": 0.1, "maximum": 0.2, "multipleOf": 0.5},
    "enum": {"enum": ["a"], "minLength": 2},
    "enum ": {"enum": []},
    "enum  ": {"enum": [1], "const": 2},
    "minItems ": {
        "type": "array",
        "items": {"type": "integer", "minimum": 1, "maximum": 3},
        "uniqueItems": True,
        "minItems": 4,
    },
    "minItems  ": {"type": "array", "contains": True, "minContains": 3, "maxItems": 2},
    "minContains": {"type": "array", "contains": True, "minContains": 3, "maxContains": 2},
    "required ": {
        "type": "object",
        "properties": {"a": True},
        "required": ["b"],
        "unevaluatedProperties": False,
    },
    "type": {"type": "number", "not": {"type": "integer"}, "minimum": 1, "maximum": 1},
    "allOf": {"allOf": [{"type": "integer"}, {"type": "string"}]},
    "oneOf": {"oneOf": [True, True]},
    "not": {"type": "string", "not": {"type": ["string", "null"]}},
    "required": {
        "type": "object",
        "properties": {"a": False},
        "required": ["a"],
        "not": {"required": ["b"]},
    },
    "contains": {"type": "array", "items": {"type": "string"}, "contains": {"type": "integer"}},
    "maxLength": {"type": "string", "format": "date", "maxLength": 9},
    "pattern": {"type": "string", "pattern": "^a{20}$", "maxLength": 6},
    "minProperties": {
        "type": "object",
        "additionalProperties": {"type": "null"},
        "minProperties": 3,
        "maxProperties": 2,
    },
    "formatMinimum": {
        "type": "string",
        "format": "date",
        "formatMinimum": "2020-01-02",
        "formatMaximum": "2020-01-01",
    },
}


@pytest.mark.parametrize("keyword", REFUSED)
def test_refuses_by_name_and_path(keyword: str) -> None:
    """What cannot be honoured is refused, and the error names keyword and path."""
    with pytest.raises(SchemaError) as caught:
        lower({"type": "object", "properties": {"x": REFUSED[keyword]}}, Bounds())

    assert f"'{keyword}'" in str(caught.value)
    assert str(caught.value).startswith("$.x")
    assert caught.value.hint


@pytest.mark.parametrize("keyword", UNSATISFIABLE)
def test_refuses_what_nothing_satisfies(keyword: str) -> None:
    """A schema without a valid row is refused at once, naming keyword and path."""
    schema = {
        "type": "object",
        "properties": {"x": UNSATISFIABLE[keyword]},
        "required": ["x"],
    }

    with pytest.raises(SchemaError, match=rf"^\$\.x: '{keyword.strip()}'"):
        lower(schema, Bounds())


def test_an_optional_property_without_a_value_is_never_written() -> None:
    """What need not be there and cannot be is left out, and the certificate says so."""
    schema = {"properties": {"x": {"enum": []}, "y": {"type": "null"}}}
    node, certificate = lower(schema, Bounds())

    assert [name for name, _ in node.fields] == ["y"]  # type: ignore[union-attr]
    assert ("$.x", "properties") in {(c.path, c.keyword) for c in certificate.bounds}


@pytest.mark.parametrize(
    "kind",
    [FilePath, NewPath, ImportString, type[int], Literal[b"x"], Callable[[int], int]],
    ids=str,
)
def test_refuses_types_that_no_row_can_have(kind: Any) -> None:
    """A type that says nothing about data is refused, never written as free text."""

    class Model(BaseModel):
        field: kind

    with pytest.raises(SchemaError, match="field"):
        compile_schema(RowSchema.of(Model))


def test_bounds_everything_and_says_so() -> None:
    """Each string, number and list without a limit gets one, and the certificate names it."""

    class Model(BaseModel):
        text: str
        whole: int
        part: float
        many: list[bool]

    certificate = compile_schema(RowSchema.of(Model)).certificate
    bounds = {(c.path, c.keyword): c.value for c in certificate.bounds}

    assert bounds[("$.text", "maxLength")] == 200
    assert bounds[("$.whole", "maximum")] == 999_999_999_999_999
    assert bounds[("$.part", "minimum")] == -999_999_999.999999
    assert bounds[("$.many", "maxItems")] == 8
    assert certificate.guarantee == "construction"


def test_limits_of_the_schema_win_over_bounds() -> None:
    """A field's own limit is kept, above or below the default one."""
    schema = {
        "properties": {
            "text": {"type": "string", "maxLength": 500},
            "huge": {"type": "integer", "minimum": 10**20},
        }
    }
    node, _ = lower(schema, Bounds())

    assert isinstance(node, Object)
    assert node.fields[0][1] == String(0, 500)
    assert node.fields[1][1] == Integer(10**20, 10**20 + 10**15 - 1)


def test_bounds_can_be_raised() -> None:
    """The limits that are added are a default."""
    grammar = compile_schema(RowSchema.of("note"), Bounds(max_length=400))

    assert [c.value for c in grammar.certificate.bounds if c.keyword == "maxLength"] == [400]


def test_exclusive_bounds_of_numbers() -> None:
    """gt and lt exclude their value, for integers and for floats."""

    class Model(BaseModel):
        whole: Annotated[int, Field(gt=2, lt=4)]
        part: Annotated[float, Field(gt=0, lt=1)]

    lark = compile_schema(RowSchema.of(Model)).lark

    assert "/3/" in lark
    assert "/0\\." in lark


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "number", "not": {"type": "integer"}},
        {"type": "number", "not": {"type": "integer"}, "minimum": 1, "maximum": 2},
        {"oneOf": [{"type": "integer"}, {"type": "number", "maximum": 5}]},
    ],
    ids=str,
)
def test_fractions_are_never_whole(schema: dict[str, Any]) -> None:
    """What may be a number but no integer has a fraction other than zero."""
    grammar = compile_schema(RowSchema.of(schema))

    assert grammar.certificate.guarantee == "construction"
    assert len(decode(grammar, salt=1, rows=32)) == 32


@pytest.mark.parametrize(
    ("schema", "enforcer"),
    [
        ({"type": "number", "multipleOf": 0.01}, "check"),
        ({"type": "integer", "multipleOf": 0.1}, "check"),
        ({"type": "number", "multipleOf": 0.25}, "grammar"),
        (Annotated[float, Field(multiple_of=0.01)], "grammar"),
        (Annotated[float, Field(multiple_of=0.01, le=10**9)], "check"),
        (Annotated[Decimal, Field(multiple_of=Decimal("0.01"))], "grammar"),
    ],
    ids=str,
)
def test_multiples_are_certain_where_floats_are(schema: Any, enforcer: str) -> None:
    """jsonschema divides floats and pydantic forgives small errors: the rest is checked."""
    certificate = compile_schema(RowSchema.of(schema)).certificate

    assert [c.enforced_by for c in certificate.constraints if c.keyword == "multipleOf"] == [
        enforcer
    ]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 2.0, "maxLength": 3.0},
        {"type": "array", "items": {"type": "null"}, "minItems": 2.0},
        {"const": {"a": [1e300, -1e22, 2.5]}},
    ],
    ids=str,
)
def test_numbers_in_other_guises(schema: dict[str, Any]) -> None:
    """Counts may be written as floats, and floats may be large."""
    assert decode(compile_schema(RowSchema.of(schema)), salt=1, rows=4)


def test_recursion_is_unfolded_to_a_depth() -> None:
    """A model that contains itself ends after the levels that the bounds allow."""

    class Node(BaseModel):
        children: list["Node"] = []

    shallow = compile_schema(RowSchema.of(Node), Bounds(depth=1)).longest
    deep = compile_schema(RowSchema.of(Node), Bounds(depth=2)).longest

    assert shallow < deep


def test_recursion_without_an_end_is_refused() -> None:
    """A model that cannot stop containing itself has no finite row."""

    class Endless(BaseModel):
        inner: "Endless"

    with pytest.raises(SchemaError, match="contains itself"):
        compile_schema(RowSchema.of(Endless))


def test_what_is_checked_is_marked() -> None:
    """uniqueItems and an open oneOf are left to the check, and the certificate says so."""
    schema = {
        "properties": {
            "set": {"type": "array", "items": {"type": "integer"}, "uniqueItems": True},
            "one": {"oneOf": [{"items": {"type": "null"}}, {"contains": {"type": "null"}}]},
        }
    }
    _, certificate = lower(schema, Bounds())

    assert certificate.guarantee == "checked"
    assert {c.keyword for c in certificate.constraints if c.enforced_by == "check"} == {
        "uniqueItems",
        "oneOf",
    }


def test_a_discriminated_union_is_exact() -> None:
    """Options told apart by a constant need no check."""

    class Cat(BaseModel):
        kind: Literal["cat"]

    class Dog(BaseModel):
        kind: Literal["dog"]

    class Owner(BaseModel):
        pet: Annotated[Cat | Dog, Field(discriminator="kind")]

    assert compile_schema(RowSchema.of(Owner)).certificate.guarantee == "construction"


def test_enum_values_of_the_wrong_type_are_left_out() -> None:
    """An enum beside a type allows only what both allow."""
    node, _ = lower({"enum": [1, "a", None], "type": ["integer", "null"]}, Bounds())

    assert node == AnyOf((Choice((1,)), Choice((None,))))
