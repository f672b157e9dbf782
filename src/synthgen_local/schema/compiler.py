"""The compiler's one entry: a row schema in, a checked grammar and its certificate out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from collections.abc import Mapping as AnyMapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from llguidance import LLMatcher

from ..errors import SchemaError
from .certificate import Certificate
from .grammar import longest_text, refusal, write_grammar
from .repeats import read_without_repeats
from .shapes import Bounds, Shape
from .source import RowSchema
from .tighten import tighten


@dataclass(frozen=True)
class RowGrammar:
    """What a row may be: the Lark text, llguidance's serialised form, and a bound in bytes."""

    schema: RowSchema
    shape: Shape
    lark: str
    serialised: str
    longest: int
    certificate: Certificate

    def tidy(self, text: str) -> str:
        """Return a row in JSON without what its lists repeat, where it is valid without that.

        Raises ValueError if the row is not valid.

        Example: `compile_schema(RowSchema.of("name")).tidy('{"name":"Ada"}')`
        """

        def checked(row: str) -> str:
            self.schema.parse(row)
            return row

        return read_without_repeats(text, self.shape, checked)


_TIGHTER: Sequence[AnyMapping[str, Any]] = (
    {},
    {"max_length": 100},
    {"max_length": 50, "max_items": 6},
    {"max_length": 25, "max_items": 4, "depth": 2},
    {"max_length": 25, "max_items": 2, "depth": 1, "levels": 1},
    {"max_length": 12, "max_items": 1, "depth": 0, "levels": 0},
    {"max_length": 50, "max_items": 4, "depth": 1, "levels": 1, "over": True},
    {"max_length": 12, "max_items": 1, "depth": 0, "levels": 0, "over": True},
)
"""Limits for rows that would not fit, from the first on."""


def compile_schema(schema: RowSchema, bounds: Bounds | None = None) -> RowGrammar:
    """Derive the grammar of a schema's rows.

    Raises SchemaError if the schema asks for what cannot be honoured or has no valid row.

    Example: `compile_schema(RowSchema.of("name, age int")).lark`
    """
    with _shallow(schema):
        shape, certificate = tighten(schema.json_schema, bounds or Bounds())
        return _compiled(schema, shape, certificate, longest_text(shape))


def compile_within(
    schema: RowSchema, room: int, lengths: AnyMapping[str, int] | None = None
) -> RowGrammar:
    """Derive a grammar whose longest row takes at most `room` tokens, if any bounds allow it.

    What the schema leaves open is limited as `Bounds` says, and more and more tightly where that
    is too long; `lengths` are limits of strings by path. The certificate shows them all.

    Example: `compile_within(RowSchema.of("name, age int"), room=4096).longest <= 4096`
    """
    with _shallow(schema):
        for changes in _TIGHTER:
            bounds = replace(Bounds(), **changes)
            shorter = {path: min(bounds.max_length, n) for path, n in (lengths or {}).items()}
            shape, certificate = tighten(schema.json_schema, replace(bounds, lengths=shorter))
            longest = longest_text(shape)
            if longest <= room:
                break
        return _compiled(schema, shape, certificate, longest)


@contextmanager
def _shallow(schema: RowSchema) -> Iterator[None]:
    """Schemas and shapes are trees that are gone down by recursion, which has an end."""
    try:
        yield
    except RecursionError:
        raise SchemaError(
            f"The schema of {schema.name} is too large or too deep.", hint="Simplify it."
        ) from None


def _compiled(
    schema: RowSchema, shape: Shape, certificate: Certificate, longest: int
) -> RowGrammar:
    lark = write_grammar(shape)
    if reason := refusal(lark):
        raise SchemaError(
            f"The schema of {schema.name} cannot be compiled: {reason}", hint="Simplify it."
        )
    serialised = LLMatcher.grammar_from_lark(lark)
    return RowGrammar(schema, shape, lark, serialised, longest, certificate)
