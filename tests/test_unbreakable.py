"""What the certificate calls `grammar` cannot be broken, however much the model wants to.

Each case is a schema and the bytes whose logits are raised so that its keyword would be broken
if the grammar let it: quotes against a minLength, nines against a maximum, and so on.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from synthgen_local.engine.backends.protocol import ContextSize, Logits
from synthgen_local.engine.backends.random_model import RandomContext, RandomModel
from synthgen_local.engine.constraints.grammar import Grammar
from synthgen_local.engine.parallel_plan import ParallelPlan
from synthgen_local.engine.requests import Accepted, GenerationRequest
from synthgen_local.engine.workers import decode_shards
from synthgen_local.schema import RowSchema, compile_schema

_WISH = 30.0  # natural logarithms: far above the random logits


class StubbornContext(RandomContext):
    """Random logits, and a strong wish for some bytes."""

    wish: np.ndarray[Any, Any]

    def _logits(self, history: Any) -> Logits:
        return super()._logits(history) + self.wish


class StubbornModel(RandomModel):
    """A model that wants to write certain bytes and nothing else."""

    def __init__(self, wanted: bytes) -> None:
        super().__init__(salt=len(wanted))
        self._wish = np.zeros(self.tokenizer.vocab_size, dtype=np.float32)
        self._wish[list(wanted)] = _WISH

    def open_context(self, size: ContextSize) -> StubbornContext:
        """A context with the wish."""
        context = StubbornContext(size, self.tokenizer.vocab_size, 0)
        context.wish = self._wish
        return context


def record(**properties: Any) -> dict[str, Any]:
    """An object whose properties must all be there."""
    return {"type": "object", "properties": properties, "required": list(properties)}


CASES: dict[str, list[tuple[dict[str, Any], bytes]]] = {
    "type": [
        ({"type": "integer"}, b'."e'), ({"type": "string"}, b"0[{"), ({"type": "null"}, b"0"),
        ({"type": "boolean"}, b"01"), ({"type": ["array", "object"]}, b'"0'),
    ],
    "minimum": [({"type": "integer", "minimum": 17}, b"-01"), ({"minimum": 0.5}, b"0.-")],
    "exclusiveMinimum": [({"exclusiveMinimum": 3, "type": "integer"}, b"3-")],
    "maximum": [({"type": "integer", "maximum": 120}, b"9"), ({"maximum": 2.5}, b"96")],
    "exclusiveMaximum": [({"exclusiveMaximum": 4, "type": "number"}, b"4")],
    "multipleOf": [({"type": "integer", "multipleOf": 7}, b"1"), ({"multipleOf": 0.25}, b"3.")],
    "minLength": [({"type": "string", "minLength": 5}, b'"')],
    "maxLength": [({"type": "string", "maxLength": 5}, b"abc\xc3\xa4")],
    "pattern": [({"type": "string", "pattern": "^[a-c]+$"}, b"xyz"), ({"pattern": "^(?!a)"}, b"a")],
    "format": [
        ({"type": "string", "format": name}, b"x9-:.")
        for name in ("date", "date-time", "time", "uuid", "email", "ipv4", "ipv6", "uri")
    ],
    "minItems": [({"type": "array", "items": {"type": "null"}, "minItems": 3}, b"]")],
    "maxItems": [({"type": "array", "items": {"type": "null"}, "maxItems": 3}, b",")],
    "contains": [({"type": "array", "items": {"enum": [1, 2]}, "contains": {"const": 1}}, b"2]")],
    "required": [(record(a={"type": "null"}, b={"type": "null"}), b"}")],
    "minProperties": [
        ({"properties": {k: {"type": "null"} for k in "abcd"}, "minProperties": 3}, b"}"),
    ],
    "maxProperties": [
        ({"properties": {k: {"type": "null"} for k in "abcd"}, "maxProperties": 2}, b","),
    ],
    "const": [({"const": "abc"}, b'z"')],
    "enum": [({"enum": ["red", "green", 7]}, b'z"8')],
    "not": [
        ({"type": "string", "not": {"enum": ["a", "b"]}}, b'ab"'),
        ({"type": "string", "not": {"pattern": "^x"}}, b"x"),
    ],
    "additionalProperties": [
        ({"properties": {"a": {"type": "null"}}, "additionalProperties": False}, b',"z'),
    ],
    "oneOf": [({"oneOf": [{"type": "integer", "minimum": 5}, {"type": "integer"}]}, b"9")],
    "if": [
        (
            {
                **record(a={"type": "boolean"}, b={"type": "integer"}),
                "if": {"properties": {"a": {"const": True}}},
                "then": {"properties": {"b": {"maximum": 0}}},
            },
            b"t9",
        ),
    ],
    "dependentRequired": [
        ({"properties": {k: {"type": "null"} for k in "ab"}, "dependentRequired": {"a": ["b"]}},
         b"a}"),
    ],
    "patternProperties": [
        ({"type": "object", "patternProperties": {"^x": {"type": "integer"}},
          "additionalProperties": {"type": "null"}}, b"xn"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("keyword", CASES)
def test_no_wish_breaks_what_the_grammar_enforces(keyword: str) -> None:
    """Logits that ask for a broken row give valid rows all the same, at the first attempt."""
    for schema, wanted in CASES[keyword]:
        grammar = compile_schema(RowSchema.of(schema))
        model = StubbornModel(wanted)
        job = GenerationRequest.from_grammar(
            Grammar(model.tokenizer, grammar.serialised), (63,), grammar.longest
        )
        check = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
        rows = decode_shards(
            model,
            job,
            [range(6)],
            ParallelPlan(1, 6, 1),
            lambda row: Accepted(row.text),
            attempts=1,
        )

        assert grammar.certificate.guarantee == "construction"
        for row in rows:
            check.validate(json.loads(str(row.value)))


def test_every_keyword_of_the_grammar_is_tried() -> None:
    """Whatever keyword a certificate of this file gives to the grammar has a case."""
    given = {
        constraint.keyword
        for cases in CASES.values()
        for schema, _ in cases
        for constraint in compile_schema(RowSchema.of(schema)).certificate.constraints
        if constraint.enforced_by == "grammar"
    }

    assert given <= CASES.keys()
