"""The compiler's one entry: a row schema in, a checked grammar and its certificate out."""

from __future__ import annotations

from dataclasses import dataclass

from llguidance import LLMatcher

from ..errors import SchemaError
from .certificate import Certificate
from .grammar import longest_text, refusal, write_grammar
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


def compile_schema(schema: RowSchema, bounds: Bounds | None = None) -> RowGrammar:
    """Derive the grammar of a schema's rows.

    Raises SchemaError if the schema asks for what cannot be honoured or has no valid row.

    Example: `compile_schema(RowSchema.of("name, age int")).lark`
    """
    shape, certificate = tighten(schema.json_schema, bounds or Bounds())
    lark = write_grammar(shape)
    if reason := refusal(lark):
        raise SchemaError(
            f"The schema of {schema.name} cannot be compiled: {reason}", hint="Simplify it."
        )
    serialised = LLMatcher.grammar_from_lark(lark)
    return RowGrammar(schema, shape, lark, serialised, longest_text(shape), certificate)
