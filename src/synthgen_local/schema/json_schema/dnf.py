"""The disjunctive normal form (DNF) of a JSON Schema: conjuncts, of which a value needs one.

References, allOf, anyOf, oneOf, not, if, dependencies and enumerations are expanded. Schemas of
items and properties are not entered; where several apply they are kept side by side. A keyword
that conjuncts cannot express is left out and named in `unenforced`, for the check of a finished
row.

Knows JSON Schema (drafts 4 to 2020-12), not the intermediate representation or grammars.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

from ...errors import SchemaError
from .conjunct import (
    Conjunct,
    Conjuncts,
    Schema,
    distinct,
    intersect_all,
    read_conjunct,
    too_many_alternatives,
)
from .equality import equal_json
from .keywords import JSON_TYPES
from .negation import MAX_ALTERNATIVES, Negation
from .references import References

_MAX_DEPENDENCIES = 4
_MAX_WORK = 50_000  # conjuncts made on the way: real schemas take up to some thousands
_MAX_EXACT_OPTIONS = 4  # of a oneOf, from each of which the others are subtracted


class DnfConverter:
    """Converts schemas of one document to conjuncts.

    Example: `DnfConverter(References({})).convert({"type": ["null", "integer"]})`
    """

    def __init__(self, references: References) -> None:
        self._references = references
        self._negation = Negation(references, self.convert)
        self._work = 0

    def convert(self, schema: Schema, path: str = "$", followed: tuple[str, ...] = ()) -> Conjuncts:
        """Return the conjuncts of a schema; none if it allows no value.

        Raises SchemaError, naming `path`, for a reference without a target, and if the schema
        expands to too many alternatives.
        """
        if schema is True or schema == {}:
            return [Conjunct()]
        if schema is False:
            return []
        assert isinstance(schema, Mapping)
        schema = self._references.known_keywords(schema)
        overridden = "$ref" in schema and self._references.ref_overrides_siblings
        conjuncts: Conjuncts = [Conjunct() if overridden else read_conjunct(schema)]
        for keyword, others in self._combinators(schema, path, followed):
            self._work += len(conjuncts) + len(others)
            if self._work > _MAX_WORK:
                raise too_many_alternatives(path)
            if len(conjuncts) * len(others) <= MAX_ALTERNATIVES or len(conjuncts) == 1:
                conjuncts = intersect_all(conjuncts, others)
            else:
                conjuncts = _leave_to_check(conjuncts, keyword)
        return [conjunct for conjunct in conjuncts if conjunct.types]

    def _combinators(
        self, schema: Mapping[str, Any], path: str, followed: tuple[str, ...]
    ) -> Iterable[tuple[str, Conjuncts]]:
        """Yield each combinator with its conjuncts: all of them apply."""
        if "$ref" in schema:
            yield "$ref", self._follow(schema["$ref"], path, followed)
            if self._references.ref_overrides_siblings:
                return
        for reference in ("$dynamicRef", "$recursiveRef"):
            if reference in schema:
                yield reference, self._follow(schema[reference], path, followed)
        for inner in schema.get("allOf", ()):
            yield "allOf", self.convert(inner, path, followed)
        if "anyOf" in schema:
            options = (self.convert(inner, path, followed) for inner in schema["anyOf"])
            yield "anyOf", distinct(one for option in options for one in option)
        if "oneOf" in schema:
            yield "oneOf", self._one_of(schema["oneOf"], path, followed)
        if "not" in schema:
            yield "not", self._negate(schema["not"], path, followed, "not")
        if "if" in schema:
            yield "if", self._conditional(schema, path, followed)
        yield from self._dependencies(schema, path, followed)

    def _follow(self, reference: str, path: str, followed: tuple[str, ...]) -> Conjuncts:
        if reference in followed:
            raise SchemaError(
                f"{path} refers to itself by '{reference}'.", hint="Remove the circular reference."
            )
        target = self._references.resolve(reference, path)
        conjuncts = self.convert(target, path, (*followed, reference))
        return [replace(one, references=(*one.references, reference)) for one in conjuncts]

    def _one_of(self, schemas: Sequence[Schema], path: str, followed: tuple[str, ...]) -> Conjuncts:
        """Exactly one: exact where the options exclude each other, or can be made to."""
        options = [self.convert(schema, path, followed) for schema in schemas]
        every = [one for option in options for one in option]
        if all(_are_disjoint(a, b) for x, y in combinations(options, 2) for a in x for b in y):
            return every
        if len(options) <= _MAX_EXACT_OPTIONS:
            exact = self._subtract_others(schemas, options, path, followed)
            if exact is not None:
                return exact
        tagged = _require_tag(options)
        return _leave_to_check(distinct(every), "oneOf") if tagged is None else tagged

    def _subtract_others(
        self,
        schemas: Sequence[Schema],
        options: list[Conjuncts],
        path: str,
        followed: tuple[str, ...],
    ) -> Conjuncts | None:
        """Each option without the values of the others; None if that cannot be expressed."""
        negated = [self._negation.negate(schema, path, followed) for schema in schemas]
        found: Conjuncts = []
        for index, conjuncts in enumerate(options):
            left = conjuncts
            for other in (*negated[:index], *negated[index + 1 :]):
                if other is None or len(left) * len(other) > MAX_ALTERNATIVES:
                    return None
                left = intersect_all(left, other)
            found += left
        return found if len(found) <= 2 * MAX_ALTERNATIVES else None

    def _conditional(
        self, schema: Mapping[str, Any], path: str, followed: tuple[str, ...]
    ) -> Conjuncts:
        then, otherwise = schema.get("then", True), schema.get("else", True)
        condition = self.convert(schema["if"], path, followed)
        met = intersect_all(condition, self.convert(then, path, followed))
        negated = self._negate(schema["if"], path, followed, "if")
        return distinct([*met, *intersect_all(negated, self.convert(otherwise, path, followed))])

    def _dependencies(
        self, schema: Mapping[str, Any], path: str, followed: tuple[str, ...]
    ) -> Iterable[tuple[str, Conjuncts]]:
        """For each property with dependencies: it is absent, or they hold."""
        found = [
            (keyword, name, needed)
            for keyword in ("dependencies", "dependentRequired", "dependentSchemas")
            for name, needed in schema.get(keyword, {}).items()
        ]
        is_object = frozenset({"object"})
        for index, (keyword, name, needed) in enumerate(found):
            if index >= _MAX_DEPENDENCIES:
                yield keyword, [Conjunct(unenforced=(keyword,))]
                continue
            implied = {"required": needed} if isinstance(needed, list | tuple) else needed
            absent = [Conjunct(JSON_TYPES - is_object), Conjunct(is_object, forbidden=(name,))]
            present = [Conjunct(is_object, required=(name,))]
            implied_conjuncts = self.convert(implied, path, followed)
            yield keyword, [*absent, *intersect_all(present, implied_conjuncts)]

    def _negate(
        self, schema: Schema, path: str, followed: tuple[str, ...], keyword: str
    ) -> Conjuncts:
        """The negation; where it cannot be expressed, everything, and `keyword` is unenforced."""
        conjuncts = self._negation.negate(schema, path, followed)
        return [Conjunct(unenforced=(keyword,))] if conjuncts is None else conjuncts


def _leave_to_check(conjuncts: Conjuncts, keyword: str) -> Conjuncts:
    return [replace(one, unenforced=(*one.unenforced, keyword)) for one in conjuncts]


def _are_disjoint(a: Conjunct, b: Conjunct) -> bool:
    """Whether no value is of both; False where that cannot be determined."""
    types = a.types & b.types
    if not types:
        return True
    if a.values is not None and b.values is not None:
        return _exclude_each_other(a.values, b.values)
    if types != {"object"}:
        return False
    return any(
        _exclude_each_other(_tag_values(a, name), _tag_values(b, name))
        for name in a.required
        if name in b.required
    ) or bool(set(a.required) & set(b.forbidden) or set(b.required) & set(a.forbidden))


def _require_tag(options: Sequence[Conjuncts]) -> Conjuncts | None:
    """Options that differ by the values of a property, which is then required.

    Without it a value may be of one option alone, but is mostly of several.
    """
    if not all(len(option) == 1 for option in options):
        return None
    conjuncts = [option[0] for option in options]
    for name in dict.fromkeys(name for rule in conjuncts[0].fields for name in rule.properties):
        tags = [_tag_values(one, name) for one in conjuncts]
        if all(_exclude_each_other(a, b) for a, b in combinations(tags, 2)):
            tagged = [replace(one, required=(*one.required, name)) for one in conjuncts]
            return _leave_to_check(tagged, "oneOf")
    return None


def _tag_values(conjunct: Conjunct, name: str) -> Sequence[Any] | None:
    """The values that a property is limited to, None if it is not."""
    for rule in conjunct.fields:
        schema = rule.properties.get(name)
        if isinstance(schema, Mapping) and ("const" in schema or "enum" in schema):
            values: Sequence[Any] = [schema["const"]] if "const" in schema else schema["enum"]
            return values
    return None


def _exclude_each_other(a: Sequence[Any] | None, b: Sequence[Any] | None) -> bool:
    return a is not None and b is not None and not any(equal_json(x, y) for x in a for y in b)
