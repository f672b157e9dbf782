"""The compiler's one entry: a row schema in, a checked grammar and its certificate out."""

from __future__ import annotations

from dataclasses import dataclass

from llguidance import LLMatcher, LLTokenizer

from ..errors import SchemaError
from .certificate import Certificate
from .grammar import longest_text, write_grammar
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
    serialised = LLMatcher.grammar_from_lark(lark)
    refused, messages = LLMatcher.validate_grammar_with_warnings(serialised, LLTokenizer("byte"))
    if refused:
        raise SchemaError(
            f"The schema of {schema.name} cannot be compiled: {_first_line(messages)}",
            hint="A pattern may be impossible within its length, or use look-around.",
        )
    return RowGrammar(schema, shape, lark, serialised, longest_text(shape), certificate)


def _first_line(messages: list[str]) -> str:
    return " ".join(messages[0].splitlines()[:1]) if messages else "no reason given"
