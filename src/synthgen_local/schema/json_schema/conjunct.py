"""A conjunct of a JSON Schema's disjunctive normal form: how it is read, and intersected.

Knows keywords without combinators; schemas of items and properties are not entered.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from ...errors import SchemaError
from .equality import equal_json
from .keywords import (
    CHECKED,
    JSON_TYPES,
    LOWER_BOUNDS,
    NOT_AMONG,
    NOT_PATTERN,
    NULL_RATE,
    REGEX_DIALECT,
    REPEATABLE,
    SCALARS,
    TYPES_OF_KEYWORD,
    UPPER_BOUNDS,
    VALIDATORS,
    null_rates_in,
    read_count,
    types_named,
)
from .validation import pattern_of

Schema: TypeAlias = bool | Mapping[str, Any]

_MAX_CONJUNCTS = 4000  # of one schema: each is compared with all others
_IN_PLACE_APPLICATORS = frozenset({
    "$dynamicRef", "$recursiveRef", "$ref", "allOf", "anyOf", "dependencies", "dependentSchemas",
    "if", "not", "oneOf",
})  # fmt: skip
_CONCATENATED = REPEATABLE | {NOT_AMONG, NOT_PATTERN, VALIDATORS}


@dataclass(frozen=True)
class PropertyRules:
    """The keywords of one schema that apply schemas to the properties of an object."""

    properties: Mapping[str, Schema]
    patterns: Mapping[str, Schema]
    others: Schema


@dataclass(frozen=True)
class ItemRules:
    """The keywords of one schema that apply schemas to the items of an array."""

    prefix: Sequence[Schema]
    others: Schema


@dataclass(frozen=True)
class Conjunct:
    """Keywords without combinators that all hold; values are of one of `types`.

    `keywords` are merged: those of REPEATABLE are tuples. `values`, if given, are the only
    ones allowed. `required` and `forbidden` are names of properties. `references` are those that
    were followed on the way here. `unenforced` are keywords that the check of a row must enforce.

    Example: `Conjunct(frozenset({"integer"}), {"minimum": 0})`
    """

    types: frozenset[str] = JSON_TYPES
    keywords: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[PropertyRules, ...] = ()
    items: tuple[ItemRules, ...] = ()
    contains: tuple[Schema, ...] = ()
    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    values: tuple[Any, ...] | None = None
    references: tuple[str, ...] = ()
    unenforced: tuple[str, ...] = ()

    @property
    def implied_types(self) -> frozenset[str]:
        """The types to which the keywords apply: what an author means who states no `type`."""
        types = [TYPES_OF_KEYWORD[key] for key in self.keywords if key in TYPES_OF_KEYWORD]
        types += [frozenset({"object"})] if self.fields or self.required else []
        types += [frozenset({"array"})] if self.items or self.contains else []
        return frozenset().union(*types)


Conjuncts: TypeAlias = list[Conjunct]
"""A disjunction: a value is valid if it is valid by one of the conjuncts."""


class TooManyAlternativesError(SchemaError):
    """A schema expands to too many alternatives."""


def too_many_alternatives(path: str) -> TooManyAlternativesError:
    """Return the error for a schema that expands to too many alternatives.

    Example: `raise too_many_alternatives("$.address")`
    """
    return TooManyAlternativesError(
        f"{path}: the schema expands to too many alternatives.",
        hint="Reduce its anyOf, oneOf, allOf, if and not.",
    )


def read_conjunct(schema: Mapping[str, Any]) -> Conjunct:
    """Return the keywords of a schema without its combinators.

    Example: `read_conjunct({"type": "null"}).types == {"null"}`
    """
    types = types_named(schema["type"]) if "type" in schema else JSON_TYPES
    keywords = _read_keywords(schema)
    contains: tuple[Schema, ...] = ()
    if "contains" in schema:
        least, most = int(schema.get("minContains", 1)), schema.get("maxContains", math.inf)
        keywords["minItems"] = max(keywords.get("minItems", 0), least)
        types -= {"array"} if least > most else frozenset()
        contains = (schema["contains"],) if schema.get("minContains", 1) else ()
    required = schema.get("required", ())
    return Conjunct(
        types=types,
        keywords=keywords,
        fields=_read_properties(schema),
        items=_read_items(schema),
        contains=contains,
        required=tuple(required) if isinstance(required, list | tuple) else (),
        values=_read_values(schema),
        unenforced=tuple(
            key
            for key, kind in CHECKED.items()
            if key in schema
            and kind in types
            and not (kind == "object" and _is_only_evaluator(schema))
        ),
    )


def normalize_keywords(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a schema with the exclusive bounds of draft 4, which were booleans, as numbers.

    A pattern of another dialect than ECMA-262's becomes a Regex.

    Example: `normalize_keywords({"minimum": 1, "exclusiveMinimum": True})["exclusiveMinimum"] == 1`
    """
    if REGEX_DIALECT in schema and isinstance(schema.get("pattern"), str):
        schema = {**schema, "pattern": pattern_of(schema)}
    exclusive = ("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")
    if not any(isinstance(schema.get(key), bool) for key, _ in exclusive):
        return schema
    bounds = {key: schema[b] for key, b in exclusive if schema.get(key) is True and b in schema}
    others = {
        key: value
        for key, value in schema.items()
        if not (key.startswith("exclusive") and isinstance(value, bool))
    }
    return others | bounds


def _read_keywords(schema: Mapping[str, Any]) -> dict[str, Any]:
    normal = normalize_keywords(schema)
    keywords = {key: read_count(key, value) for key, value in normal.items() if key in SCALARS}
    keywords |= {key: (value,) for key, value in normal.items() if key in REPEATABLE}
    if VALIDATORS in schema:
        keywords[VALIDATORS] = tuple(schema[VALIDATORS])
    if rates := null_rates_in(schema):
        keywords[NULL_RATE] = rates[0]
    return keywords


def _read_values(schema: Mapping[str, Any]) -> tuple[Any, ...] | None:
    values = tuple(schema["enum"]) if "enum" in schema else None
    if "const" not in schema:
        return values
    const = schema["const"]
    allowed = values is None or any(equal_json(const, value) for value in values)
    return (const,) if allowed else ()


def _is_only_evaluator(schema: Mapping[str, Any]) -> bool:
    """Whether no other schema evaluates properties: `unevaluated` then means `additional`."""
    return _IN_PLACE_APPLICATORS.isdisjoint(schema)


def _read_properties(schema: Mapping[str, Any]) -> tuple[PropertyRules, ...]:
    if "unevaluatedProperties" in schema and _is_only_evaluator(schema):
        schema = {"additionalProperties": schema["unevaluatedProperties"], **schema}
    if not {"properties", "patternProperties", "additionalProperties"} & schema.keys():
        return ()
    return (
        PropertyRules(
            schema.get("properties", {}),
            schema.get("patternProperties", {}),
            schema.get("additionalProperties", True),
        ),
    )


def _read_items(schema: Mapping[str, Any]) -> tuple[ItemRules, ...]:
    if not {"items", "prefixItems", "additionalItems"} & schema.keys():
        return ()
    prefix, others = schema.get("prefixItems", ()), schema.get("items", True)
    if isinstance(others, list | tuple):  # before draft 2020-12
        prefix, others = others, schema.get("additionalItems", True)
    return (ItemRules(tuple(prefix), others),)


def intersect(a: Conjunct, b: Conjunct) -> Conjunct | None:
    """Return the values that are of both conjuncts, None if there are none.

    Example: `intersect(Conjunct(keywords={"minimum": 1}), Conjunct(keywords={"minimum": 2}))`
    """
    types = a.types & b.types
    values = a.values if b.values is None else b.values
    if a.values is not None and b.values is not None:
        values = tuple(
            value for value in a.values if any(equal_json(value, other) for other in b.values)
        )
    required = tuple(dict.fromkeys((*a.required, *b.required)))
    forbidden = tuple(dict.fromkeys((*a.forbidden, *b.forbidden)))
    if set(required) & set(forbidden):
        types -= {"object"}
    if not types or values == ():
        return None
    return Conjunct(
        types=types,
        keywords=_merge_keywords(a.keywords, b.keywords),
        fields=a.fields + b.fields,
        items=a.items + b.items,
        contains=a.contains + b.contains,
        required=required,
        forbidden=forbidden,
        values=values,
        references=tuple(dict.fromkeys((*a.references, *b.references))),
        unenforced=tuple(dict.fromkeys((*a.unenforced, *b.unenforced))),
    )


def intersect_all(a: Conjuncts, b: Conjuncts) -> Conjuncts:
    """Return the intersection of two disjunctions: of each conjunct of one with each of the other.

    Example: `intersect_all([Conjunct()], [])  == []`
    """
    found = (intersect(x, y) for x in a for y in b)
    return distinct(conjunct for conjunct in found if conjunct is not None)


def distinct(conjuncts: Iterable[Conjunct]) -> Conjuncts:
    """Return conjuncts in their order, each once.

    Raises TooManyAlternativesError if they are too many to be compared with one another.

    Example: `distinct([Conjunct(), Conjunct()]) == [Conjunct()]`
    """
    found: Conjuncts = []
    for one in conjuncts:
        if not any(one == other and _identity_key(one) == _identity_key(other) for other in found):
            found.append(one)
        if len(found) > _MAX_CONJUNCTS:
            raise too_many_alternatives("$")
    return found


def _identity_key(conjunct: Conjunct) -> str:
    """Text that differs for 1 and true, which are equal in Python."""
    return repr(replace(conjunct, types=JSON_TYPES))


def _merge_keywords(a: Mapping[str, Any], b: Mapping[str, Any]) -> Mapping[str, Any]:
    if not a or not b:
        return a or b
    merged = {**a, **b}
    for key in a.keys() & b.keys():
        if key in _CONCATENATED:
            merged[key] = a[key] + tuple(value for value in b[key] if value not in a[key])
        elif key in LOWER_BOUNDS:
            merged[key] = max(a[key], b[key])
        elif key in UPPER_BOUNDS:
            merged[key] = min(a[key], b[key])
        elif key == "uniqueItems":
            merged[key] = a[key] or b[key]
    return merged
