"""A JSON Schema as alternatives without combinators.

References, allOf, anyOf, oneOf, not, if, dependencies and enumerations are worked out until
there is a list of parts: a value is valid if it is valid by one of them. Schemas of items and
properties are not entered; where several apply they are kept side by side. What cannot be said
exactly is left wider and named in `unsaid`, for the check of the finished row.

Knows JSON Schema (drafts 4 to 2020-12), not shapes or grammars.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any, TypeAlias

from ...errors import SchemaError
from .keywords import (
    CONTENT_SCHEMA,
    DECIMAL_PLACES,
    MAX_DIGITS,
    NULL_RATE,
    REGEX_DIALECT,
    RELATIVE_TO_NOW,
    SCHEMES,
    TIMEDELTA,
    TIMEZONE,
    TOLERANCE,
    UUID_VERSION,
    VALIDATORS,
    null_rates_in,
)
from .references import References
from .validation import pattern_of

Schema: TypeAlias = bool | Mapping[str, Any]

KINDS = frozenset({"null", "boolean", "integer", "fraction", "string", "array", "object"})
"""What a JSON value is; a number is an integer or a fraction."""

_MOST = 64  # alternatives; what would make more is left to the check
_MOST_DEPENDENCIES = 4
_MOST_PARTS = 4000  # of one schema: each is compared with all others
_MOST_WORK = 50_000  # parts made on the way: real schemas take up to some thousands
_TYPES = {kind: frozenset({kind}) for kind in KINDS} | {
    "number": frozenset({"integer", "fraction"})
}
_NUMBERS = _TYPES["number"]
_GREATEST = {
    "minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties", "formatMinimum",
    "formatExclusiveMinimum", DECIMAL_PLACES,
}  # fmt: skip
_LEAST = {
    "maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties", "formatMaximum",
    "formatExclusiveMaximum", MAX_DIGITS,
}  # fmt: skip
_COUNTS = {
    "minLength", "minItems", "minProperties", "maxLength", "maxItems", "maxProperties",
}  # fmt: skip
_LISTED = {"multipleOf", "pattern", "format", "propertyNames"}
_ONE = {TIMEZONE, TIMEDELTA, UUID_VERSION, RELATIVE_TO_NOW, SCHEMES, CONTENT_SCHEMA, TOLERANCE}
_CHECKED = {
    "unevaluatedProperties": "object", "unevaluatedItems": "array", "minContains": "array",
    "maxContains": "array",
}  # fmt: skip
_EVALUATING = frozenset({
    "$dynamicRef", "$recursiveRef", "$ref", "allOf", "anyOf", "dependencies", "dependentSchemas",
    "if", "not", "oneOf",
})  # fmt: skip
KEYWORDS = {
    **dict.fromkeys(("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"), _NUMBERS),
    "multipleOf": _NUMBERS,
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), frozenset({"string"})),
    **dict.fromkeys(("minItems", "maxItems", "uniqueItems"), frozenset({"array"})),
    **dict.fromkeys(("minProperties", "maxProperties", "required"), frozenset({"object"})),
}  # fmt: skip
"""The kinds that a keyword speaks of."""


@dataclass(frozen=True)
class Fields:
    """What one schema says of an object's properties."""

    properties: Mapping[str, Schema]
    patterns: Mapping[str, Schema]
    others: Schema


@dataclass(frozen=True)
class Items:
    """What one schema says of a list's items."""

    first: Sequence[Schema]
    others: Schema


@dataclass(frozen=True)
class Part:
    """One alternative: values of `kinds` that keep to all the rest.

    `keywords` are merged: those of `_LISTED` are tuples. `values`, if given, are the only
    ones. `required` and `forbidden` are names of properties. `references` have been followed on
    the way here. `unsaid` are keywords that the check must enforce.
    """

    kinds: frozenset[str] = KINDS
    keywords: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[Fields, ...] = ()
    items: tuple[Items, ...] = ()
    contains: tuple[Schema, ...] = ()
    required: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()
    values: tuple[Any, ...] | None = None
    references: tuple[str, ...] = ()
    unsaid: tuple[str, ...] = ()

    @property
    def meant(self) -> frozenset[str]:
        """The kinds that the keywords speak of: what somebody means who names no type."""
        kinds = [KEYWORDS[key] for key in self.keywords if key in KEYWORDS]
        kinds += [frozenset({"object"})] if self.fields or self.required else []
        kinds += [frozenset({"array"})] if self.items or self.contains else []
        return frozenset().union(*kinds)


Parts: TypeAlias = list[Part]


class Alternatives:
    """Works schemas of one document out into parts.

    Example: `Alternatives(References({})).of({"type": ["null", "integer"]})`
    """

    def __init__(self, references: References) -> None:
        self._references = references
        self._work = 0

    def of(self, schema: Schema, path: str = "$", followed: tuple[str, ...] = ()) -> Parts:
        """Return the parts of a schema; none if it allows no value.

        Raises SchemaError, naming `path`, for a reference that leads nowhere, and if parts
        multiply beyond all use.
        """
        if schema is True or schema == {}:
            return [Part()]
        if schema is False:
            return []
        assert isinstance(schema, Mapping)
        schema = self._heard(schema)
        parts: Parts = [self._own(schema)]
        for factor in self._factors(schema, path, followed):
            self._work += len(parts) + len(factor[1])
            if self._work > _MOST_WORK:
                raise too_much(path)
            parts = _meet_all(parts, factor)
        return [part for part in parts if part.kinds]

    def _heard(self, schema: Mapping[str, Any]) -> Mapping[str, Any]:
        """What the document's draft knows of a schema."""
        unheard = self._references.unheard
        if unheard.isdisjoint(schema):
            return schema
        return {key: value for key, value in schema.items() if key not in unheard}

    def _factors(
        self, schema: Mapping[str, Any], path: str, followed: tuple[str, ...]
    ) -> Iterable[tuple[str, Parts]]:
        """Each combinator with its parts: all of them apply."""
        if "$ref" in schema:
            yield "$ref", self._follow(schema["$ref"], path, followed)
            if self._references.lonely:
                return
        for reference in ("$dynamicRef", "$recursiveRef"):
            if reference in schema:
                yield reference, self._follow(schema[reference], path, followed)
        for inner in schema.get("allOf", ()):
            yield "allOf", self.of(inner, path, followed)
        if "anyOf" in schema:
            yield "anyOf", _distinct(p for s in schema["anyOf"] for p in self.of(s, path, followed))
        if "oneOf" in schema:
            yield "oneOf", self._one_of(schema, path, followed)
        if "not" in schema:
            yield "not", self._negated(schema["not"], path, followed, "not")
        if "if" in schema:
            yield "if", self._conditional(schema, path, followed)
        yield from self._dependencies(schema, path, followed)

    def _follow(self, reference: str, path: str, followed: tuple[str, ...]) -> Parts:
        if reference in followed:
            raise SchemaError(
                f"{path} refers to itself by '{reference}'.", hint="Remove the circle."
            )
        found = self._references.resolve(reference, path)
        parts = self.of(found, path, (*followed, reference))
        return [replace(part, references=(*part.references, reference)) for part in parts]

    def _own(self, schema: Mapping[str, Any]) -> Part:
        """What the schema says without its combinators."""
        if "$ref" in schema and self._references.lonely:
            return Part()
        kinds = _kinds(schema["type"]) if "type" in schema else KINDS
        keywords = {k: _count(k, v) for k, v in _numbers(schema).items() if k in _SCALARS}
        keywords |= {k: (v,) for k, v in _numbers(schema).items() if k in _LISTED}
        if VALIDATORS in schema:
            keywords[VALIDATORS] = tuple(schema[VALIDATORS])
        if rates := null_rates_in(schema):
            keywords[NULL_RATE] = rates[0]
        if "contains" in schema:
            least, most = int(schema.get("minContains", 1)), schema.get("maxContains", math.inf)
            keywords["minItems"] = max(keywords.get("minItems", 0), least)
            kinds -= {"array"} if least > most else frozenset()
        values = tuple(schema["enum"]) if "enum" in schema else None
        if "const" in schema:
            const = schema["const"]
            allowed = values is None or any(_same(const, value) for value in values)
            values = (const,) if allowed else ()
        required = schema.get("required", ())
        return Part(
            kinds=kinds,
            keywords=keywords,
            fields=_fields(schema),
            items=_items(schema),
            contains=(schema["contains"],)
            if "contains" in schema and schema.get("minContains", 1)
            else (),
            required=tuple(required) if isinstance(required, list | tuple) else (),
            values=values,
            unsaid=tuple(
                key
                for key, kind in _CHECKED.items()
                if key in schema and kind in kinds and not (kind == "object" and _alone(schema))
            ),
        )

    def _one_of(self, schema: Mapping[str, Any], path: str, followed: tuple[str, ...]) -> Parts:
        """Exactly one: exact where the options exclude each other, or can be made to."""
        options = [self.of(option, path, followed) for option in schema["oneOf"]]
        if all(_disjoint(a, b) for x, y in combinations(options, 2) for a in x for b in y):
            return [part for option in options for part in option]
        if len(options) <= 4:
            exact = self._excluding(schema["oneOf"], options, path, followed)
            if exact is not None:
                return exact
        tagged = _tagged(options)
        if tagged is not None:
            return tagged
        unsaid = ("oneOf",)
        return [
            replace(p, unsaid=p.unsaid + unsaid) for p in _distinct(p for o in options for p in o)
        ]

    def _excluding(
        self, schemas: Sequence[Schema], options: list[Parts], path: str, followed: tuple[str, ...]
    ) -> Parts | None:
        """Each option without what the others allow; None if that cannot be said."""
        negated = [self._negate(schema, path, followed) for schema in schemas]
        found: Parts = []
        for index, parts in enumerate(options):
            left = parts
            for other in (*negated[:index], *negated[index + 1 :]):
                if other is None or len(left) * len(other) > _MOST:
                    return None
                left = _meets(left, other)
            found += left
        return found if len(found) <= 2 * _MOST else None

    def _conditional(
        self, schema: Mapping[str, Any], path: str, followed: tuple[str, ...]
    ) -> Parts:
        condition = self.of(schema["if"], path, followed)
        yes = _meets(condition, self.of(schema.get("then", True), path, followed))
        no = self._negated(schema["if"], path, followed, "if")
        return _distinct([*yes, *_meets(no, self.of(schema.get("else", True), path, followed))])

    def _dependencies(
        self, schema: Mapping[str, Any], path: str, followed: tuple[str, ...]
    ) -> Iterable[tuple[str, Parts]]:
        """A property that brings others with it is forbidden, or comes with them."""
        found = [
            (keyword, name, needed)
            for keyword in ("dependencies", "dependentRequired", "dependentSchemas")
            for name, needed in schema.get(keyword, {}).items()
        ]
        for index, (keyword, name, needed) in enumerate(found):
            if index >= _MOST_DEPENDENCIES:
                yield keyword, [Part(unsaid=(keyword,))]
                continue
            brought = {"required": needed} if isinstance(needed, list | tuple) else needed
            without = [Part(KINDS - {"object"}), Part(frozenset({"object"}), forbidden=(name,))]
            present = Part(frozenset({"object"}), required=(name,))
            yield keyword, [*without, *_meets([present], self.of(brought, path, followed))]

    # What a schema does not allow

    def _negated(self, schema: Schema, path: str, followed: tuple[str, ...], keyword: str) -> Parts:
        """The negation, or everything with a note where that cannot be said."""
        parts = self._negate(schema, path, followed)
        return [Part(unsaid=(keyword,))] if parts is None else parts

    def _negate(self, schema: Schema, path: str, followed: tuple[str, ...]) -> Parts | None:
        if schema is True or schema == {}:
            return []
        if schema is False:
            return [Part()]
        assert isinstance(schema, Mapping)
        if "$ref" in schema and self._references.lonely:
            schema = {"$ref": schema["$ref"]}
        schema = self._heard(schema)
        negated: Parts = []
        for keyword, value in _numbers(schema).items():
            parts = self._without(keyword, value, path, followed)
            if parts is None or len(negated) + len(parts) > _MOST:
                return None
            negated += parts
        return negated

    def _without(
        self, keyword: str, value: Any, path: str, followed: tuple[str, ...]
    ) -> Parts | None:
        """What breaks one keyword; None if no part says it."""
        if keyword in _OPPOSITES or keyword in ("type", "pattern"):
            return _beyond(keyword, value)
        match keyword:
            case "required" if isinstance(value, list | tuple):
                return [Part(frozenset({"object"}), forbidden=(name,)) for name in value]
            case "properties":
                return [
                    Part(
                        frozenset({"object"}),
                        fields=(Fields({name: {"not": inner}}, {}, True),),
                        required=(name,),
                    )
                    for name, inner in value.items()
                    if inner is not True and inner != {}
                ]
            case "const" | "enum":
                return _other_values([value] if keyword == "const" else value)
            case "allOf":
                return _joined(self._negate(inner, path, followed) for inner in value)
            case "anyOf":
                met: Parts = [Part()]
                for inner in value:
                    parts = self._negate(inner, path, followed)
                    if parts is None or len(met) * len(parts) > _MOST:
                        return None
                    met = _meets(met, parts)
                return met
            case "not":
                return self.of(value, path, followed)
            case "$ref" if value not in followed:
                found = self._references.resolve(value, path)
                return self._negate(found, path, (*followed, value))
        return [] if keyword in ANNOTATIONS or keyword not in ASSERTIONS else None


_SCALARS = _GREATEST | _LEAST | _ONE | {"uniqueItems"}
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
ANNOTATIONS = frozenset({
    "$anchor", "$comment", "$defs", "$dynamicAnchor", "$id", "$recursiveAnchor", "$schema",
    "$vocabulary", "contentEncoding", "contentMediaType", "contentSchema", "default",
    "definitions", "deprecated", "description", "discriminator", "examples", "id", "readOnly",
    "title", "writeOnly",
})  # fmt: skip
"""Keywords that allow and forbid nothing."""
ASSERTIONS = _SCALARS | _LISTED | frozenset(_CHECKED) | frozenset({
    "$dynamicRef", "$recursiveRef", "$ref", "additionalItems", "additionalProperties", "allOf",
    "anyOf", "const", "contains", "dependencies", "dependentRequired", "dependentSchemas", "else",
    "enum", "if", "items", "not", "oneOf", "patternProperties", "prefixItems", "properties",
    "required", "then", "type",
})  # fmt: skip
"""Keywords that do."""


def _beyond(keyword: str, value: Any) -> Parts:
    """What breaks a limit, a type or a pattern."""
    if keyword == "type":
        return [Part(KINDS - _kinds(value))]
    if keyword == "pattern":
        return [Part(frozenset({"string"}), {"notPattern": (value,)})]
    value = _count(keyword, value)
    opposite, step = _OPPOSITES[keyword]
    if step < 0 and value + step < 0:
        return []
    return [Part(KEYWORDS[keyword], {opposite: value + step})]


def _kinds(names: str | Sequence[str]) -> frozenset[str]:
    listed = [names] if isinstance(names, str) else names
    return frozenset(kind for name in listed for kind in _TYPES.get(name, ()))


def _numbers(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keywords; the exclusive bounds of draft 4, which were booleans, as numbers.

    A pattern of another dialect than ECMA-262's is given with it.
    """
    if REGEX_DIALECT in schema and isinstance(schema.get("pattern"), str):
        schema = {**schema, "pattern": pattern_of(schema)}
    changed = {}
    for exclusive, bound in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
        if schema.get(exclusive) is True and bound in schema:
            changed[exclusive] = schema[bound]
    if not changed and not any(
        schema.get(k) is False for k in ("exclusiveMinimum", "exclusiveMaximum")
    ):
        return schema
    kept = {
        k: v for k, v in schema.items() if not (k.startswith("exclusive") and isinstance(v, bool))
    }
    return kept | changed


def _count(keyword: str, value: Any) -> Any:
    """The value of a keyword; a count may be written as 2.0."""
    return int(value) if keyword in _COUNTS and isinstance(value, float) else value


def _alone(schema: Mapping[str, Any]) -> bool:
    """Whether no other schema evaluates properties: `unevaluated` then means `additional`."""
    return _EVALUATING.isdisjoint(schema)


def _fields(schema: Mapping[str, Any]) -> tuple[Fields, ...]:
    if "unevaluatedProperties" in schema and _alone(schema):
        schema = {"additionalProperties": schema["unevaluatedProperties"], **schema}
    if not {"properties", "patternProperties", "additionalProperties"} & schema.keys():
        return ()
    return (
        Fields(
            schema.get("properties", {}),
            schema.get("patternProperties", {}),
            schema.get("additionalProperties", True),
        ),
    )


def _items(schema: Mapping[str, Any]) -> tuple[Items, ...]:
    if not {"items", "prefixItems", "additionalItems"} & schema.keys():
        return ()
    first, others = schema.get("prefixItems", ()), schema.get("items", True)
    if isinstance(others, list | tuple):  # before draft 2020-12
        first, others = others, schema.get("additionalItems", True)
    return (Items(tuple(first), others),)


def meet(a: Part, b: Part) -> Part | None:
    """Return the values of both parts, None if there are none.

    Example: `meet(Part(keywords={"minimum": 1}), Part(keywords={"minimum": 2}))`
    """
    kinds = a.kinds & b.kinds
    values = a.values if b.values is None else b.values
    if a.values is not None and b.values is not None:
        values = tuple(
            value for value in a.values if any(_same(value, other) for other in b.values)
        )
    required = tuple(dict.fromkeys((*a.required, *b.required)))
    forbidden = tuple(dict.fromkeys((*a.forbidden, *b.forbidden)))
    if set(required) & set(forbidden):
        kinds -= {"object"}
    if not kinds or values == ():
        return None
    return Part(
        kinds=kinds,
        keywords=_merged(a.keywords, b.keywords),
        fields=a.fields + b.fields,
        items=a.items + b.items,
        contains=a.contains + b.contains,
        required=required,
        forbidden=forbidden,
        values=values,
        references=tuple(dict.fromkeys((*a.references, *b.references))),
        unsaid=tuple(dict.fromkeys((*a.unsaid, *b.unsaid))),
    )


def _merged(a: Mapping[str, Any], b: Mapping[str, Any]) -> Mapping[str, Any]:
    if not a or not b:
        return a or b
    merged = {**a, **b}
    for key in a.keys() & b.keys():
        if key in _LISTED or key in ("notAmong", "notPattern", VALIDATORS):
            merged[key] = a[key] + tuple(value for value in b[key] if value not in a[key])
        elif key in _GREATEST:
            merged[key] = max(a[key], b[key])
        elif key in _LEAST:
            merged[key] = min(a[key], b[key])
        elif key == "uniqueItems":
            merged[key] = a[key] or b[key]
    return merged


def _meets(a: Parts, b: Parts) -> Parts:
    met = (meet(x, y) for x in a for y in b)
    return _distinct(part for part in met if part is not None)


def _meet_all(parts: Parts, factor: tuple[str, Parts]) -> Parts:
    keyword, others = factor
    if len(parts) * len(others) <= _MOST or len(parts) == 1:
        return _meets(parts, others)
    return [replace(part, unsaid=(*part.unsaid, keyword)) for part in parts]


def _distinct(parts: Iterable[Part]) -> Parts:
    found: Parts = []
    for part in parts:
        if not any(part == other and _said(part) == _said(other) for other in found):
            found.append(part)
        if len(found) > _MOST_PARTS:
            raise too_much("$")
    return found


class TooManyAlternativesError(SchemaError):
    """A schema's alternatives would take for ever."""


def too_much(path: str) -> TooManyAlternativesError:
    """What to raise where a schema's alternatives would take for ever."""
    return TooManyAlternativesError(
        f"{path}: its alternatives multiply beyond all use.", hint="Simplify it."
    )


def _said(part: Part) -> str:
    """To tell a part of 1 from one of true, which are equal to Python."""
    return repr(replace(part, kinds=KINDS))


def _joined(several: Iterable[Parts | None]) -> Parts | None:
    found: Parts = []
    for parts in several:
        if parts is None:
            return None
        found += parts
    return found


def _same(a: Any, b: Any) -> bool:
    """Equality of JSON values: true is not 1, at any depth."""
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(_same(a[key], b[key]) for key in a)
    return isinstance(a, bool) == isinstance(b, bool) and bool(a == b)


def _other_values(values: Sequence[Any]) -> Parts | None:
    """All but some texts, flags and null; None if there is another kind of value among them."""
    if not all(isinstance(value, str | bool | None) for value in values):
        return None
    texts = tuple(value for value in values if isinstance(value, str))
    kinds = KINDS - {"boolean"} - ({"null"} if None in values else set())
    left = tuple(flag for flag in (True, False) if not any(flag is value for value in values))
    parts = [Part(kinds, {"notAmong": (texts,)} if texts else {})]
    return [*parts, Part(frozenset({"boolean"}), values=left)] if left else parts


def _disjoint(a: Part, b: Part) -> bool:
    """Whether no value can be of both; False where that is not plain to see."""
    kinds = a.kinds & b.kinds
    if not kinds:
        return True
    if a.values is not None and b.values is not None:
        return not any(_same(x, y) for x in a.values for y in b.values)
    if kinds != {"object"}:
        return False
    return any(
        _differs(_tag(a, name), _tag(b, name)) for name in a.required if name in b.required
    ) or bool(set(a.required) & set(b.forbidden) or set(b.required) & set(a.forbidden))


def _tagged(options: Sequence[Parts]) -> Parts | None:
    """Options with a property by whose values they differ, which then must be there.

    Without it a value may be of one option alone, but is mostly of several.
    """
    if not all(len(parts) == 1 for parts in options):
        return None
    parts = [option[0] for option in options]
    for name in dict.fromkeys(name for rule in parts[0].fields for name in rule.properties):
        tags = [_tag(part, name) for part in parts]
        if all(_differs(a, b) for a, b in combinations(tags, 2)):
            return [
                replace(part, required=(*part.required, name), unsaid=(*part.unsaid, "oneOf"))
                for part in parts
            ]
    return None


def _tag(part: Part, name: str) -> Sequence[Any] | None:
    """The values that a property is limited to."""
    for rule in part.fields:
        schema = rule.properties.get(name)
        if isinstance(schema, Mapping) and ("const" in schema or "enum" in schema):
            found: Sequence[Any] = [schema["const"]] if "const" in schema else schema["enum"]
            return found
    return None


def _differs(a: Sequence[Any] | None, b: Sequence[Any] | None) -> bool:
    return a is not None and b is not None and not any(_same(x, y) for x in a for y in b)
