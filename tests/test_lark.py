"""The text of rows and of examples."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher, LLTokenizer
from pydantic import BaseModel

from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.grammar.json_text import arrange, write_value
from synthgen_local.schema.grammar.lark import refusal


class Record(BaseModel):
    """Each kind of leaf that has more than one JSON text."""

    name: str
    amount: float
    price: Decimal
    tags: list[str]
    note: str | None


def accepts(record: Record) -> bool:
    """Whether the grammar takes the record's own text to its end."""
    grammar = compile_schema(RowSchema.of(Record))
    tokenizer = LLTokenizer("byte")
    matcher = LLMatcher(tokenizer, grammar.serialised)
    text = write_value(grammar.schema.dump(record))
    return bool(matcher.consume_tokens(list(text.encode())) and matcher.is_accepting())


@given(
    st.builds(
        Record,
        name=st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=40),
        amount=st.integers(-(10**12), 10**12).map(lambda k: k / 10**4),
        price=st.decimals(-(10**6), 10**6, places=2),
        tags=st.lists(st.sampled_from(["a", 'b"', "c\\", "é", "\U0001f600"]), max_size=8),
        note=st.none() | st.just("n"),
    )
)
def test_the_grammar_takes_what_is_written(record: Record) -> None:
    """An example's text is one that the model may write: the two speak one dialect."""
    assert accepts(record)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1e-05, "0.00001"),
        (1e22, "10000000000000000000000"),
        (500.0, "500.0"),
        (True, "true"),
        (None, "null"),
        ({"a": [1, "é\n"]}, '{"a":[1,"é\\n"]}'),
    ],
)
def test_write_value(value: Any, text: str) -> None:
    """Values are written without spaces, exponents or needless escapes."""
    assert write_value(value) == text


def test_arrange_follows_the_schema() -> None:
    """Keys of nested objects come in the schema's order, unknown ones last."""
    inner = {"properties": {"c": {"type": "null"}, "d": {"type": "null"}}}
    items = {"type": "array", "items": inner}
    schema = {"properties": {"a": {"type": "integer"}, "b": items}}
    shape = compile_schema(RowSchema.of(schema)).ir

    assert write_value(arrange({"z": 0, "b": [{"d": None, "c": None}], "a": 1}, shape)) == (
        '{"a":1,"b":[{"c":null,"d":null}],"z":0}'
    )


def test_refusal_is_one_line() -> None:
    """What llguidance objects to is told in one line, without the grammar."""
    reason = refusal("start: /(?=a)/")

    assert "look-around" in reason
    assert "\n" not in reason
