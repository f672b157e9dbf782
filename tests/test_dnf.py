"""Schemas as alternatives: jsonschema says which values are valid, here by one of the parts."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import validator_for

from synthgen_local import SchemaError
from synthgen_local.schema.json_schema.conjunct import (
    Conjunct,
    ItemRules,
    PropertyRules,
    intersect,
)
from synthgen_local.schema.json_schema.dnf import DnfConverter
from synthgen_local.schema.json_schema.keywords import JSON_TYPES, TYPES_OF_KEYWORD
from synthgen_local.schema.json_schema.references import References

NAMES = ["a", "b", "k"]
LIMITS = {
    "string": ("minLength", "maxLength"),
    "array": ("minItems", "maxItems"),
    "object": ("minProperties", "maxProperties"),
    "integer": ("minimum", "maximum"),
    "number": ("exclusiveMinimum", "exclusiveMaximum"),
}

scalars = st.sampled_from([None, True, False, 0, 1, 2, -1, 1.0, 0.5, "", "a", "ab", "b"])
VALUES = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
    ),
    max_leaves=5,
)


def is_valid(schema: Any, value: Any, root: Any = None) -> bool:
    """What jsonschema says."""
    kind = validator_for(schema, Draft202012Validator)
    return bool(kind(schema if root is None else root).evolve(schema=schema).is_valid(value))


def kind_of(value: Any) -> str:
    """What a JSON value is; 1.0 is an integer."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int() | float():
            return "integer" if value == math.floor(value) else "fraction"
        case str():
            return "string"
        case list():
            return "array"
    return "object"


def belongs(value: Any, part: Conjunct, root: Any = None) -> bool:
    """Whether a value is one of a part's, by a judge that knows nothing of how it came about."""
    if kind_of(value) not in part.types:
        return False
    if part.values is not None and not is_valid({"enum": list(part.values)}, value):
        return False
    if isinstance(value, dict) and not (
        value.keys() >= {*part.required} and value.keys().isdisjoint(part.forbidden)
    ):
        return False
    return all(is_valid(schema, value, root) for schema in demands(part))


def demands(part: Conjunct) -> Iterator[dict[str, Any]]:
    """The rest of a part as schemas without combinators."""
    for keyword, limit in part.keywords.items():
        match keyword:
            case "notPattern":
                yield from ({"type": "string", "not": {"pattern": text}} for text in limit)
            case "notAmong":
                yield from ({"not": {"enum": list(texts)}} for texts in limit)
            case "pattern" | "multipleOf" | "propertyNames":
                yield from ({keyword: each} for each in limit)
            case _:
                yield {keyword: limit}
    for rule in part.fields:
        yield {
            "properties": dict(rule.properties),
            "patternProperties": dict(rule.patterns),
            "additionalProperties": rule.others,
        }
    for items in part.items:
        yield {"prefixItems": list(items.prefix), "items": items.others}
    yield from ({"contains": schema} for schema in part.contains)


def parts_of(schema: Any, root: Any = None) -> list[Conjunct]:
    return DnfConverter(References(schema if root is None else root)).convert(schema)


def limits(low: str, high: str) -> st.SearchStrategy[dict[str, Any]]:
    """A limit at one end or at both."""
    bound = st.integers(0, 2)
    return st.fixed_dictionaries({low: bound}, optional={high: bound}) | bound.map(
        lambda most: {high: most}
    )


kinds = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
names = st.sampled_from(NAMES)
plain = st.one_of(
    kinds.map(lambda kind: {"type": kind}),
    st.lists(kinds, min_size=1, max_size=3, unique=True).map(lambda listed: {"type": listed}),
    scalars.map(lambda value: {"const": value}),
    st.lists(VALUES, max_size=3).map(lambda values: {"enum": values}),
    st.sampled_from(sorted(LIMITS.values())).flatmap(lambda ends: limits(*ends)),
    st.lists(names, min_size=1, max_size=2, unique=True).map(lambda some: {"required": some}),
    st.sampled_from(["a", "^a", "b$", "^$"]).map(lambda pattern: {"pattern": pattern}),
    st.sampled_from([{"multipleOf": 2}, {"multipleOf": 0.5}, {"uniqueItems": True}]),
    st.sampled_from([{"title": "t"}, {"propertyNames": {"enum": ["a", "k"]}}, {"minContains": 1}]),
    st.just({"$ref": "#/$defs/d"}),
)


def larger(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Schemas of schemas."""
    some = st.lists(inner, min_size=1, max_size=3)
    of_names = st.dictionaries(names, inner, min_size=1, max_size=2)
    needed = st.dictionaries(names, st.lists(names, max_size=2, unique=True), min_size=1)
    tags = st.lists(st.sampled_from(["x", "y", 1]), min_size=2, max_size=3)
    tagged = st.tuples(tags, inner).map(lambda t: [
        {"properties": {"k": {"const": tag}, "a": t[1]}, "required": ["k"][: index % 2]}
        for index, tag in enumerate(t[0])
    ])  # fmt: skip
    return st.one_of(
        st.tuples(inner, inner).map(lambda pair: joined(*pair)),
        st.sampled_from(["allOf", "anyOf", "oneOf"]).flatmap(
            lambda keyword: some.map(lambda schemas: {keyword: schemas})
        ),
        tagged.map(lambda options: {"oneOf": options}),
        inner.map(lambda schema: {"not": schema}),
        st.fixed_dictionaries({"if": inner}, optional={"then": inner, "else": inner}),
        st.fixed_dictionaries(
            {"properties": of_names},
            optional={
                "additionalProperties": inner,
                "patternProperties": st.just({"^b": {"type": "null"}}),
            },
        ),
        st.fixed_dictionaries({"items": inner}, optional={"prefixItems": some}),
        inner.map(lambda schema: {"contains": schema}),
        needed.map(lambda names: {"dependentRequired": names}),
        of_names.map(lambda schemas: {"dependentSchemas": schemas}),
        kinds.flatmap(lambda kind: inner.map(lambda schema: joined({"type": kind}, schema))),
    )


def joined(a: Any, b: Any) -> Any:
    """Both in one schema as far as they have different keywords."""
    return {**a, **b} if isinstance(a, dict) and isinstance(b, dict) else a


SCHEMAS = st.recursive(st.booleans() | plain, larger, max_leaves=8)


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, plain, st.lists(VALUES, min_size=5, max_size=15))
def test_a_value_is_valid_if_it_is_of_a_part(schema: Any, other: Any, values: list[Any]) -> None:
    """The parts are the schema; where a part says that something is unsaid, they are more."""
    named = {"type": "string"} if "$ref" in other else other
    root = {"allOf": [schema], "$defs": {"d": named}}
    parts = parts_of(root)
    exact = not any(part.unenforced for part in parts)
    event("exact" if exact else "unsaid")

    for value in [*values, *mentioned(root)]:
        valid, found = is_valid(root, value), any(belongs(value, part, root) for part in parts)
        if exact:
            assert valid == found, value
        else:
            assert valid <= (found or lacks_a_tag(value, parts)), value


def lacks_a_tag(value: Any, parts: list[Conjunct]) -> bool:
    """Whether a property may be missing by which the options of a oneOf are told apart."""
    tagged = [part for part in parts if "oneOf" in part.unenforced]
    return isinstance(value, dict) and any(not value.keys() >= {*p.required} for p in tagged)


def mentioned(schema: Any) -> Iterator[Any]:
    """The values that a schema names."""
    if isinstance(schema, list):
        for item in schema:
            yield from mentioned(item)
    elif isinstance(schema, dict):
        yield from schema.get("enum", ()) if isinstance(schema.get("enum"), list) else ()
        yield from [schema["const"]] if "const" in schema else []
        for item in schema.values():
            yield from mentioned(item)


DRAFT_4 = {"$schema": "http://json-schema.org/draft-04/schema#"}
DRAFT_7 = {"$schema": "http://json-schema.org/draft-07/schema#"}
TAGGED = [{"properties": {"k": {"const": tag}}, "required": ["k"]} for tag in ("x", "y", 1)]
EXACT: list[Any] = [
    {"anyOf": [{"const": 1}, {"const": True}]},
    {"anyOf": [{"items": {"const": 1}}, {"items": {"const": True}}]},
    {"allOf": [{"enum": [[1], {"a": 0}]}, {"enum": [[True], {"a": False}]}]},
    {"oneOf": [{"enum": [[1]]}, {"enum": [[True]]}]},
    {"enum": ["a", 1, None], "const": 1},
    {"enum": ["a"], "const": "b"},
    {"enum": []},
    {"type": "integer", "enum": [1, "a", 0.5]},
    {"oneOf": TAGGED},
    {"oneOf": [*TAGGED, {"not": {"required": ["k"]}}]},
    {"oneOf": [{"type": "integer"}, {"minimum": 1}]},
    {"oneOf": [{"required": ["a"]}, {"required": ["b"]}, {"required": ["k"]}]},
    {"oneOf": [True, {"type": ["string", "array"]}]},
    {"not": {"const": "a"}},
    {"not": {"enum": [None, True, "a"]}},
    {"not": {"enum": [True, False]}},
    {"not": {"type": "number"}},
    {"not": {"minimum": 1, "maxLength": 0, "maxItems": 0, "maxProperties": 0}},
    {"not": {"minLength": 0}},
    {"not": {"properties": {"a": {"type": "string"}}, "required": ["b"]}},
    {"not": {"anyOf": [{"required": ["a"]}, {"type": "string", "pattern": "^a"}]}},
    {"not": {"not": {"required": ["a"]}}},
    {"not": {"title": "t", "x-unknown": 1}},
    {"if": {"type": "object"}, "then": {"required": ["a"]}, "else": {"minLength": 1}},
    {"if": {"properties": {"a": {"const": "a"}}, "required": ["a"]}, "then": {"required": ["b"]}},
    {"then": {"type": "null"}, "else": {"type": "string"}},
    {"dependentRequired": {"a": ["b"], "b": ["k"]}, "dependentSchemas": {"k": False}},
    {"minContains": 0, "contains": {"type": "null"}, "type": "string"},
    {"$ref": "#/$defs/a", "minimum": 1, "$defs": {"a": {"type": "integer"}}},
    {**DRAFT_7, "$ref": "#/definitions/a", "minimum": 1, "definitions": {"a": {"type": "integer"}}},
    {**DRAFT_7, "definitions": {"a": {"type": "integer"}},
     "not": {"$ref": "#/definitions/a", "type": "string"}},
    {**DRAFT_7, "dependencies": {"a": ["b"], "b": {"minProperties": 3}}},
    {**DRAFT_7, "items": [{"type": "null"}], "additionalItems": {"type": "string"}},
    {**DRAFT_4, "minimum": 0, "exclusiveMinimum": True, "maximum": 1, "exclusiveMaximum": False},
    {**DRAFT_4, "not": {"minimum": 0, "exclusiveMinimum": True}},
    {"properties": {"a": True}, "unevaluatedProperties": False},
    {**DRAFT_7, "prefixItems": [{"type": "null"}], "minContains": 2,
     "dependentRequired": {"a": ["b"]}},
    {**DRAFT_4, "const": 1, "if": {"type": "null"}, "then": False, "contains": {"type": "null"}},
    {**DRAFT_4, "not": {"const": 1, "type": "string"}},
    {"$dynamicRef": "#a", "$defs": {"a": {"$dynamicAnchor": "a", "type": ["array", "null"]}}},
]  # fmt: skip
UNSAID: list[tuple[str, Any]] = [
    ("not", {"not": {"multipleOf": 2}}),
    ("not", {"not": {"contains": {"type": "null"}}}),
    ("not", {"not": {"const": 1}}),
    ("not", {"not": {"oneOf": [{"type": "null"}, {"type": "string"}]}}),
    ("if", {"if": {"items": {"type": "null"}}, "then": {"maxItems": 1}, "else": {"minItems": 2}}),
    ("oneOf", {"oneOf": [{"uniqueItems": True}, {"minItems": 2}]}),
    (
        "unevaluatedProperties",
        {"allOf": [{"properties": {"a": True}}], "unevaluatedProperties": False},
    ),
    ("maxContains", {"contains": {"type": "null"}, "maxContains": 1}),
    ("minContains", {"contains": {"type": "null"}, "minContains": 0}),
    ("dependentRequired", {"dependentRequired": {str(n): ["a"] for n in range(5)}}),
    ("allOf", {"allOf": [{"anyOf": [{"required": [f"{k}{n}"]} for n in range(9)]} for k in "abk"]}),
]


@pytest.mark.parametrize("schema", EXACT, ids=str)
def test_what_is_worked_out_exactly(schema: Any) -> None:
    """Combinators that parts can say leave nothing to the check."""
    parts = parts_of(schema)

    assert [part.unenforced for part in parts if part.unenforced] == []
    for value in (*SMALL, *mentioned(schema)):
        assert is_valid(schema, value) == any(belongs(value, p, schema) for p in parts), value


@pytest.mark.parametrize(("keyword", "schema"), UNSAID, ids=str)
def test_what_is_left_to_the_check(keyword: str, schema: Any) -> None:
    """What parts cannot say is named in them, and they allow every valid value."""
    parts = parts_of(schema)

    assert any(keyword in part.unenforced for part in parts)
    for value in (*SMALL, *mentioned(schema)):
        assert is_valid(schema, value) <= any(belongs(value, p, schema) for p in parts), value


SMALL: list[Any] = [
    None, True, False, 0, 1, 2, 0.5, "", "a", "b", "ab", [], [1], [True], [None], [None, None],
    [0, 0], ["a", None], [None, "a"], {}, {"a": "a"}, {"b": 0}, {"a": "a", "b": 1},
    {"k": "x"}, {"k": 1}, {"b": None}, {"a": "a", "b": 0.5, "k": 1},
    {"k": True}, {"a": 0}, {"a": False}, {"a": 1, "k": "x"}, {"a": "a", "b": 1, "k": "y"},
]  # fmt: skip


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(SCHEMAS, SCHEMAS, st.lists(VALUES, min_size=5, max_size=15))
def test_what_two_parts_have_in_common(one: Any, other: Any, values: list[Any]) -> None:
    """`intersect` is the intersection, and None is the empty one."""
    root = {"allOf": [one, other], "$defs": {"d": {"type": "string"}}}
    references = References(root)

    for a in DnfConverter(references).convert(one):
        for b in DnfConverter(references).convert(other):
            met = intersect(a, b)
            for value in (*values, *SMALL):
                both = belongs(value, a, root) and belongs(value, b, root)
                assert both == (met is not None and belongs(value, met, root)), value


def test_tagged_options_require_their_tag() -> None:
    """Options that differ by a property that may be missing are told apart by requiring it."""
    options = [
        {"properties": {"k": {"const": tag}, "a": True}, "additionalProperties": False}
        for tag in ("x", "y")
    ]
    parts = parts_of({"type": "object", "oneOf": options})

    assert [part.required for part in parts] == [("k",), ("k",)]
    assert {part.unenforced for part in parts} == {("oneOf",)}


@pytest.mark.parametrize(
    "schema",
    [
        {"not": {"anyOf": [{"properties": {f"p{n}": {"const": n}, f"q{n}": {"type": "null"}},
                            "required": [f"p{n}"]} for n in range(30)]}},
        {"allOf": [{"anyOf": [{"required": [f"{k}{n}"]} for n in range(20)]} for k in range(20)]},
        {"dependentRequired": {f"p{n}": [f"q{n}"] for n in range(30)}},
        {"oneOf": [{"required": [f"p{n}"], "properties": {f"p{n}": {"minimum": 1}}}
                   for n in range(30)]},
        {"allOf": [{"if": {"required": [f"p{n}"]}, "then": {"required": [f"q{n}"]}}
                   for n in range(30)]},
    ],
    ids=["not", "allOf", "dependentRequired", "oneOf", "if"],
)  # fmt: skip
def test_the_number_of_parts_is_bounded(schema: Any) -> None:
    """What would make more parts than 64 is left to the check."""
    parts = parts_of(schema)

    assert len(parts) <= 64
    assert all(part.unenforced for part in parts)


def test_references_are_followed_and_named() -> None:
    """A part knows which references led to it, for the sake of those that recur."""
    root = {
        "$ref": "#/$defs/a",
        "$defs": {
            "a": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/b"}]},
            "b": {"type": "array", "items": {"$ref": "#/$defs/a"}},
        },
    }
    led = {tuple(sorted(part.types)): set(part.references) for part in parts_of(root)}

    assert led == {("null",): {"#/$defs/a"}, ("array",): {"#/$defs/a", "#/$defs/b"}}


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ({"$ref": "#/$defs/none"}, r"^\$\.x: keyword '\$ref': .* '#/\$defs/none' does not exist"),
        ({"not": {"$ref": "#/none"}}, r"^\$\.x: keyword '\$ref': .* '#/none' does not exist"),
        ({"$ref": "#"}, r"^\$\.x refers to itself by '#'"),
        ({"anyOf": [{"type": "null"}, {"allOf": [{"$ref": "#"}]}]}, r"^\$\.x refers to itself"),
        ({"not": {"not": {"$ref": "#"}}}, r"^\$\.x refers to itself"),
    ],
)  # fmt: skip
def test_references_that_lead_to_no_schema(schema: Any, message: str) -> None:
    """A reference to nothing, and one that is only itself, are refused by the path."""
    with pytest.raises(SchemaError, match=message) as caught:
        DnfConverter(References(schema)).convert(schema, "$.x")

    assert caught.value.hint


def test_what_is_meant_without_a_type() -> None:
    """Keywords tell which kinds somebody means who names no type."""
    meant = {
        "minimum": {"integer", "fraction"},
        "maxLength": {"string"},
        "pattern": {"string"},
        "uniqueItems": {"array"},
        "maxProperties": {"object"},
    }
    for keyword, kinds_meant in meant.items():
        assert parts_of({keyword: 1})[0].implied_types == kinds_meant == TYPES_OF_KEYWORD[keyword]

    assert Conjunct(fields=(PropertyRules({}, {}, True),)).implied_types == {"object"}
    assert Conjunct(items=(ItemRules((), True),), keywords={"minLength": 1}).implied_types == {
        "array",
        "string",
    }
    assert Conjunct().implied_types == frozenset()
    assert Conjunct().types == JSON_TYPES
