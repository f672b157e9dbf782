"""Rows are judged by the rules that made them: dialects, multiples, bounded searches."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, EmailStr, Field, create_model
from random_rows import decode

from synthgen_local import SchemaError
from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.json_schema.validation import judge
from synthgen_local.schema.regex.search import SearchError, expression
from synthgen_local.schema.regex.translation import Regex

ECMA = [
    r"^[\p{L}\p{N}]{5}$", r"^\p{L}+$", r"^(?<year>\d{4})$", r"^a{,4}$", r"^[^]$", r"^[a&&b]$",
    r"^\D\W\S\s$", r"^\ud83d\ude00\u{e9}$", r"^\p{Script=Greek}+$", r"\/x$", r"\Aab\Z",
]  # fmt: skip
RUST = [
    r"^\p{Lu}[\p{L}' -]*$", r"^(?P<year>\d{4})$", r"^\w+\W$", r"^[^\d]{3}$", r"(?x)^ a b$",
    r"^[a-z&&[^b]]$", r"^[[:alpha:]]+$", r"^\D\s\S.$",
]  # fmt: skip
PYTHON = [
    (r"^[A-Z]{,4}-\d+$", 0), (r"^ a b  # comment", re.VERBOSE), (r"^ab$", re.IGNORECASE),
    (r"^\w\W$", re.ASCII), (r"^[^\W_]+$", 0), (r"^[]a]+$", 0), (r"^ab\Z", 0), (r"^a.b$", re.DOTALL),
]  # fmt: skip


def record(**schema: Any) -> dict[str, Any]:
    """An object with one string."""
    return {"type": "object", "properties": {"a": {"type": "string", **schema}}, "required": ["a"]}


def model(pattern: Any) -> type[BaseModel]:
    """A model with one string of a pattern."""
    made: type[BaseModel] = create_model("Row", a=(str, Field(pattern=pattern)))
    return made


def assert_agreed(schema: Any) -> list[str]:
    """Rows are made at the first try, and the manifest's JSON Schema allows them."""
    known = RowSchema.of(schema)
    rows = decode(compile_schema(known), salt=1, rows=6)
    check = RowSchema.of(json.loads(json.dumps(known.json_schema)))
    for row in rows:
        check.parse(row)
    return rows


@pytest.mark.parametrize("pattern", ECMA)
def test_patterns_of_json_schema_are_ecma(pattern: str) -> None:
    """What ECMA-262 allows makes rows that the check takes."""
    assert_agreed(record(pattern=pattern))


@pytest.mark.parametrize("pattern", RUST)
def test_patterns_of_pydantic_are_rust(pattern: str) -> None:
    """What pydantic's own engine allows makes rows that the manifest's schema takes."""
    assert_agreed(model(pattern))


@pytest.mark.parametrize(("pattern", "flags"), PYTHON)
def test_compiled_patterns_are_python(pattern: str, flags: int) -> None:
    """A compiled pattern has Python's syntax and its flags."""
    assert_agreed(model(re.compile(pattern, flags)))


def test_an_engine_that_is_asked_for_names_the_dialect() -> None:
    """`regex_engine="python-re"` makes a plain pattern one of Python's."""
    config = ConfigDict(regex_engine="python-re")

    assert_agreed(create_model("Row", a=(str, Field(pattern="^[ab]{,3}$")), __config__=config))


@pytest.mark.parametrize("keyword", ["patternProperties", "propertyNames"])
@pytest.mark.parametrize("pattern", [r"^\p{L}{3}$", r"^(?<k>[a-c])$"])
def test_patterns_of_keys(keyword: str, pattern: str) -> None:
    """Keys have the dialect of JSON Schema too."""
    schema: dict[str, Any] = {"type": "object", "minProperties": 1}
    if keyword == "patternProperties":
        schema |= {keyword: {pattern: {"type": "integer"}}, "unevaluatedProperties": False}
    else:
        schema |= {keyword: {"pattern": pattern}, "additionalProperties": {"type": "integer"}}

    assert_agreed(schema)


@pytest.mark.parametrize("pattern", ["^(?>a)$", r"^\p{Foo}$", "^a++$"])
def test_what_a_dialect_lacks_is_refused_by_path(pattern: str) -> None:
    """Nothing is decoded for a pattern that could not be judged."""
    with pytest.raises(SchemaError, match=r"^\$\.a: keyword 'pattern'"):
        compile_schema(RowSchema.of(record(pattern=pattern)))


def test_a_catastrophic_pattern_ends() -> None:
    """A search that would go back for ever raises an error, also inside of `not`."""
    regex = Regex(r"^(a|a)*\1$")

    with pytest.raises(SearchError, match="too long"):
        expression(regex)("a" * 40 + "b")
    with pytest.raises(ValueError, match="too long"):
        RowSchema.of({"not": {"pattern": regex.text}}).parse(json.dumps("a" * 40 + "b"))
    assert not expression(Regex("^(a+)+$"))("a" * 40 + "b")


@pytest.mark.parametrize("step", [0.01, 0.1, 0.05, 1e-6])
def test_multiples_of_floats_are_judged_as_pydantic_counts_them(step: float) -> None:
    """0.07 is a multiple of 0.01 to pydantic, and so it is to the check of its rows."""
    row = create_model("Row", a=(float, Field(multiple_of=step, ge=0, le=100)))
    check = RowSchema.of(RowSchema.of(row).json_schema)

    for count in range(1, 300):
        check.parse(json.dumps({"a": round(count * step, 6)}))
    with pytest.raises(ValueError, match="a: multipleOf is not satisfied"):
        check.parse(json.dumps({"a": step / 2}))


def test_steps_of_decimals_are_judged() -> None:
    """A step of decimals is text, in the manifest too, and exact."""
    row = create_model("Row", a=(Decimal, Field(multiple_of=Decimal("0.05"), ge=0, le=9)))

    assert_agreed(row)
    with pytest.raises(ValueError, match="multipleOf"):
        RowSchema.of(RowSchema.of(row).json_schema).parse('{"a":"0.07"}')


@pytest.mark.parametrize("domain", ["clinic.example", "clinic.test", "clinic.local", "clinic.org"])
def test_a_format_with_a_pattern(domain: str) -> None:
    """RFC 2606 keeps some domains for examples; a pattern may ask for them."""
    schema = record(format="email", pattern=f"@{re.escape(domain)}$")

    assert all(domain in row for row in assert_agreed(schema))


def test_an_email_of_pydantic_with_a_pattern() -> None:
    """The pattern of an EmailStr guides the grammar."""
    kind = Annotated[EmailStr, Field(pattern=r"@clinic\.example$")]

    assert all(
        "@clinic.example" in row for row in assert_agreed(create_model("Row", a=(kind, ...)))
    )


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"\ud800": {}}}, {"enum": ["\ud800"]}, {"const": "\ud800"},
        {"pattern": "\ud800"}, {"description": "\ud800"}, {"required": ["\ud800"]},
        {"patternProperties": {"\udfff": {}}},
    ],
)  # fmt: skip
def test_half_of_a_surrogate_pair_is_refused(schema: dict[str, Any]) -> None:
    """No file can hold it: one line names where it stands."""
    with pytest.raises(SchemaError, match="half of a surrogate pair") as caught:
        RowSchema.of({"type": "object", **schema})

    str(caught.value).encode()


def test_half_of_a_surrogate_pair_in_a_type_is_refused() -> None:
    """A type may name such a text too."""
    with pytest.raises(SchemaError, match="half of a surrogate pair"):
        RowSchema.of(create_model("Row", a=(str, Field(description="\ud800"))))


def test_a_reference_to_the_whole_keeps_the_rules() -> None:
    """jsonschema would go on with its own rules where a document names its draft."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {"a": {"pattern": r"^\p{L}$"}, "b": {"$ref": "#"}},
    }

    assert judge(schema).is_valid({"b": {"a": "é"}})
    assert not judge(schema).is_valid({"b": {"a": "1"}})
