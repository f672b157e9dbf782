"""Options of tabular generation: number of rows, null rates, limits from examples.

Knows schemas and examples; knows no model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

from ..errors import UsageError
from ..prompting.examples import Example, example_texts, json_record, longest_strings
from ..schema import (
    Bounds,
    RowGrammar,
    RowSchema,
    compile_schema,
    compile_within,
)
from ..schema.grammar.tsv import Lines

_LEAST_LENGTH = 32  # characters that a string may have, however short the examples' are


_ROOM = 4  # times the longest example


def check_null_rate(rate: float) -> None:
    """Raise UsageError for a value that is not a rate.

    Example: `check_null_rate(0.5)`
    """
    if not 0 <= rate <= 1:
        raise UsageError(f"A null rate of {rate} is no rate.", hint="It is from 0 to 1.")


@dataclass(frozen=True)
class TabularRequest:
    """The arguments of `generate`."""

    subject: str
    rows: int
    extra: str
    seed: int


def row_count(rows: int, names: Mapping[str, Any]) -> int:
    """Return the number of rows under any of its names. Raises UsageError for other options."""
    for name in names:
        if name not in ("n", "num_rows"):
            raise UsageError(f"There is no option '{name}'.", hint="Say how many rows with rows=.")
    wanted = [value for value in (rows, *names.values()) if value != 1] or [1]
    if not isinstance(wanted[0], Integral) or any(value != wanted[0] for value in wanted):
        raise UsageError(
            "How many rows are wanted is not clear.", hint="Give one whole number: rows=10."
        )
    return int(wanted[0])


def schema_source(schema: Any) -> str:
    """Return a schema's name on the command line: `module:Class`, or a list of fields."""
    if isinstance(schema, str):
        return schema
    if isinstance(schema, RowSchema):
        return schema.name
    if isinstance(schema, dict):
        return str(schema.get("title", ""))
    module = getattr(schema, "__module__", "")
    return f"{module}:{getattr(schema, '__qualname__', type(schema).__name__)}"


def fit_schema(
    schema: RowSchema, examples: Sequence[Example], bounds: Bounds | None, context_length: int
) -> tuple[RowGrammar, list[str]]:
    """Return the grammar and the examples' texts.

    Where neither the schema nor the user limits a string, the examples do: rows like them
    have strings of at most four times the greatest length seen, or of `_LEAST_LENGTH`. These
    limits shrink until the longest possible row takes no more than half of the context.
    """
    texts: list[str] = []
    if examples or bounds is not None:
        grammar = compile_schema(schema, bounds)
        texts = example_texts(examples, grammar)
        if bounds is not None:
            return grammar, texts
    seen = longest_strings(texts)
    lengths = {path: max(_LEAST_LENGTH, _ROOM * length) for path, length in seen.items()}
    return compile_within(schema, context_length // 2, lengths), texts


def compact_line(lines: Lines, text: str) -> str | None:
    """Return an example in the compact layout; None if it cannot be written there."""
    record = json_record(text)
    return None if record is None else lines.write(record)
