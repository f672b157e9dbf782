"""The negation of a JSON Schema, as conjuncts; None where no conjunct can express it.

Knows keywords that have an opposite and De Morgan's laws for combinators.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from .conjunct import (
    Conjunct,
    Conjuncts,
    PropertyRules,
    Schema,
    intersect_all,
    normalize_keywords,
)
from .keywords import (
    ANNOTATIONS,
    ASSERTIONS,
    JSON_TYPES,
    NOT_AMONG,
    NOT_PATTERN,
    TYPES_OF_KEYWORD,
    read_count,
    types_named,
)
from .references import References

MAX_ALTERNATIVES = 64  # a keyword with more is left to the check

Convert: TypeAlias = Callable[[Schema, str, tuple[str, ...]], Conjuncts]

_STRING, _OBJECT = frozenset({"string"}), frozenset({"object"})
_OPPOSITES: Mapping[str, tuple[str, int]] = {
    "minimum": ("exclusiveMaximum", 0),
    "maximum": ("exclusiveMinimum", 0),
    "exclusiveMinimum": ("maximum", 0),
    "exclusiveMaximum": ("minimum", 0),
    "minLength": ("maxLength", -1),
    "maxLength": ("minLength", 1),
    "minItems": ("maxItems", -1),
    "maxItems": ("minItems", 1),
    "minProperties": ("maxProperties", -1),
    "maxProperties": ("minProperties", 1),
}


class Negation:
    """Negates schemas of one document; `convert` returns the conjuncts of a schema.

    Example: `Negation(references, converter.convert).negate({"type": "null"}, "$", ())`
    """

    def __init__(self, references: References, convert: Convert) -> None:
        self._references = references
        self._convert = convert

    def negate(self, schema: Schema, path: str, followed: tuple[str, ...]) -> Conjuncts | None:
        """Return the values that a schema forbids; None if conjuncts cannot express them."""
        if schema is True or schema == {}:
            return []
        if schema is False:
            return [Conjunct()]
        assert isinstance(schema, Mapping)
        if "$ref" in schema and self._references.ref_overrides_siblings:
            schema = {"$ref": schema["$ref"]}
        schema = self._references.known_keywords(schema)
        negated: Conjuncts = []
        for keyword, value in normalize_keywords(schema).items():
            conjuncts = self._negate_keyword(keyword, value, path, followed)
            if conjuncts is None or len(negated) + len(conjuncts) > MAX_ALTERNATIVES:
                return None
            negated += conjuncts
        return negated

    def _negate_keyword(
        self, keyword: str, value: Any, path: str, followed: tuple[str, ...]
    ) -> Conjuncts | None:
        if keyword in _OPPOSITES or keyword in ("type", "pattern"):
            return _opposite(keyword, value)
        match keyword:
            case "required" if isinstance(value, list | tuple):
                return [Conjunct(_OBJECT, forbidden=(name,)) for name in value]
            case "properties":
                return _negate_properties(value)
            case "const" | "enum":
                return _exclude_values([value] if keyword == "const" else value)
            case "allOf":
                return _join(self.negate(inner, path, followed) for inner in value)
            case "anyOf":
                return self._negate_each(value, path, followed)
            case "not":
                return self._convert(value, path, followed)
            case "$ref" if value not in followed:
                target = self._references.resolve(value, path)
                return self.negate(target, path, (*followed, value))
        return [] if keyword in ANNOTATIONS or keyword not in ASSERTIONS else None

    def _negate_each(
        self, schemas: Sequence[Schema], path: str, followed: tuple[str, ...]
    ) -> Conjuncts | None:
        """The values that all schemas forbid."""
        found: Conjuncts = [Conjunct()]
        for inner in schemas:
            conjuncts = self.negate(inner, path, followed)
            if conjuncts is None or len(found) * len(conjuncts) > MAX_ALTERNATIVES:
                return None
            found = intersect_all(found, conjuncts)
        return found


def _opposite(keyword: str, value: Any) -> Conjuncts:
    """The values that a bound, a type or a pattern forbids."""
    if keyword == "type":
        return [Conjunct(JSON_TYPES - types_named(value))]
    if keyword == "pattern":
        return [Conjunct(_STRING, {NOT_PATTERN: (value,)})]
    value = read_count(keyword, value)
    opposite, step = _OPPOSITES[keyword]
    if step < 0 and value + step < 0:
        return []
    return [Conjunct(TYPES_OF_KEYWORD[keyword], {opposite: value + step})]


def _negate_properties(properties: Mapping[str, Schema]) -> Conjuncts:
    """For each property, the objects in which it is not valid."""
    return [
        Conjunct(
            _OBJECT, fields=(PropertyRules({name: {"not": inner}}, {}, True),), required=(name,)
        )
        for name, inner in properties.items()
        if inner is not True and inner != {}
    ]


def _exclude_values(values: Sequence[Any]) -> Conjuncts | None:
    """All but some strings, booleans and null; None if there is another type among them."""
    if not all(isinstance(value, str | bool | None) for value in values):
        return None
    texts = tuple(value for value in values if isinstance(value, str))
    types = JSON_TYPES - {"boolean"} - ({"null"} if None in values else set())
    left = tuple(flag for flag in (True, False) if not any(flag is value for value in values))
    conjuncts = [Conjunct(types, {NOT_AMONG: (texts,)} if texts else {})]
    return [*conjuncts, Conjunct(frozenset({"boolean"}), values=left)] if left else conjuncts


def _join(several: Iterable[Conjuncts | None]) -> Conjuncts | None:
    found: Conjuncts = []
    for conjuncts in several:
        if conjuncts is None:
            return None
        found += conjuncts
    return found
