"""Validation of values against a JSON Schema.

jsonschema, with patterns in the dialect in which they were written, on an engine with a bounded
number of steps, and with multiples of floats as pydantic computes them. Fetches nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

from ..regex.search import expression
from ..regex.translation import Regex
from .keywords import REGEX_DIALECT, TOLERANCE
from .references import References

_EXACT = Context(prec=60)


def judge(root: Mapping[str, Any], **options: Any) -> Any:
    """Return jsonschema's validator of a document, with the rules of this module.

    An empty registry keeps it from opening references, which may be network addresses.

    Example: `judge({"type": "integer"}).is_valid(1)`
    """
    from jsonschema.validators import extend, validator_for
    from referencing import Registry

    base = validator_for(root)
    rules = {
        "pattern": _pattern,
        "patternProperties": _pattern_properties,
        "additionalProperties": _additional_properties,
        "unevaluatedProperties": _Unevaluated(References(root)).rule,
        "multipleOf": _multiple_of(base.VALIDATORS["multipleOf"]),
    }
    own = extend(base, {name: rule for name, rule in rules.items() if name in base.VALIDATORS})
    return own(_of_one_draft(root), registry=Registry(), **options)


def _of_one_draft(root: Mapping[str, Any]) -> dict[str, Any]:
    """Remove the names of drafts, for which jsonschema would return to its own rules."""
    own = {key: value for key, value in root.items() if key != "$schema"}
    for keyword in ("$defs", "definitions"):
        if isinstance(own.get(keyword), Mapping):
            own[keyword] = {
                name: {k: v for k, v in inner.items() if k != "$schema"}
                if isinstance(inner, Mapping)
                else inner
                for name, inner in own[keyword].items()
            }
    return own


def pattern_of(schema: Mapping[str, Any]) -> Regex:
    """Return the pattern of a schema that has one, in its dialect.

    Example: `pattern_of({"pattern": "^a"}) == Regex("^a", "ecma")`
    """
    return Regex(schema["pattern"], schema.get(REGEX_DIALECT, "ecma"))


def finds(regex: Regex, text: str) -> bool:
    """Return whether a pattern is found in a text; False if the pattern is not valid.

    Raises SearchError for a text in which the search takes too long.

    Example: `finds(Regex("^a"), "ab")`
    """
    try:
        search = expression(regex)
    except ValueError:
        return False
    return search(text)


def _error(message: str) -> Any:
    from jsonschema.exceptions import ValidationError

    return ValidationError(message)


def _pattern(validator: Any, _: str, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
    if validator.is_type(value, "string") and not finds(pattern_of(schema), value):
        yield _error("the pattern is not found")


def _pattern_properties(
    validator: Any, patterns: Mapping[str, Any], value: Any, _: Mapping[str, Any]
) -> Iterator[Any]:
    if not validator.is_type(value, "object"):
        return
    for pattern, inner in patterns.items():
        for name, item in value.items():
            if finds(Regex(pattern), name):
                yield from validator.descend(item, inner, path=name, schema_path=pattern)


def _additional_properties(
    validator: Any, inner: Any, value: Any, schema: Mapping[str, Any]
) -> Iterator[Any]:
    if not validator.is_type(value, "object"):
        return
    patterns = schema.get("patternProperties", {})
    for name in value:
        if name in schema.get("properties", {}):
            continue
        if not any(finds(Regex(pattern), name) for pattern in patterns):
            if inner is False:
                yield _error("a property is not allowed")
            else:
                yield from validator.descend(value[name], inner, path=name)


def _multiple_of(strict: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    """Return jsonschema's rule, or with TOLERANCE pydantic's: 0.3 is a multiple of 0.1.

    Multiples of a decimal in quotes, whose step is text too, are exact.
    """

    def rule(validator: Any, step: Any, value: Any, schema: Mapping[str, Any]) -> Iterator[Any]:
        if isinstance(step, str):
            if isinstance(value, str) and not _is_multiple(value, step):
                yield _error("not a multiple")
        elif schema.get(TOLERANCE) and validator.is_type(value, "number"):
            rest, allowed = abs(math.fmod(value, step)), abs(value) / 1e9
            if rest > allowed and abs(rest - abs(step)) > allowed:
                yield _error("not a multiple")
        else:
            yield from strict(validator, step, value, schema) or ()

    return rule


def _is_multiple(value: str, step: str) -> bool:
    try:
        return _EXACT.remainder(Decimal(value), Decimal(step)) == 0
    except (ArithmeticError, ValueError):
        return False


@dataclass(frozen=True)
class _Unevaluated:
    """The rule of `unevaluatedProperties`; jsonschema's own looks for patterns by itself."""

    references: References

    def rule(
        self, validator: Any, inner: Any, value: Any, schema: Mapping[str, Any]
    ) -> Iterator[Any]:
        if not validator.is_type(value, "object"):
            return
        own = {key: item for key, item in schema.items() if key != "unevaluatedProperties"}
        evaluated = self._names(validator, own, value, ())
        for name in value:
            if name not in evaluated and not validator.evolve(schema=inner).is_valid(value[name]):
                yield _error("a property is not evaluated and not allowed")

    def _names(
        self, validator: Any, schema: Any, value: Mapping[str, Any], followed: tuple[str, ...]
    ) -> set[str]:
        """Return the properties that a schema evaluates, if the value is valid by it."""
        if not isinstance(schema, Mapping):
            return set()
        if {"additionalProperties", "unevaluatedProperties"} & schema.keys():
            return set(value)
        names = set(value.keys() & schema.get("properties", {}).keys())
        patterns = schema.get("patternProperties", {})
        names |= {name for name in value if any(finds(Regex(p), name) for p in patterns)}
        for inner, path in self._applied(validator, schema, value, followed):
            if validator.evolve(schema=inner).is_valid(value):
                names |= self._names(validator, inner, value, path)
        return names

    def _applied(
        self,
        validator: Any,
        schema: Mapping[str, Any],
        value: Mapping[str, Any],
        followed: tuple[str, ...],
    ) -> Iterator[tuple[Any, tuple[str, ...]]]:
        """Yield the schemas that apply in place, with the references that were followed."""
        for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
            if keyword in schema and schema[keyword] not in followed:
                yield self.references.resolve(schema[keyword]), (*followed, schema[keyword])
        for keyword in ("allOf", "anyOf", "oneOf"):
            yield from ((inner, followed) for inner in schema.get(keyword, ()))
        if "if" in schema:
            holds = validator.evolve(schema=schema["if"]).is_valid(value)
            yield schema["if"], followed
            yield schema.get("then" if holds else "else", True), followed
        for name, inner in schema.get("dependentSchemas", {}).items():
            if name in value:
                yield inner, followed
