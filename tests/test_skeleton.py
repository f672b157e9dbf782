"""Outlines: one value that shows the keys and kinds of a node."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from synthgen_local.prompting.skeleton import outline
from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.ir import (
    AnyOf,
    Array,
    Choice,
    Dictionary,
    Integer,
    Node,
    Number,
    Object,
    RegexString,
    String,
    Substring,
)

NAME = String(0, 9)
ONE = Decimal(1)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (NAME, "..."),
        (Substring(("a",), NAME), "..."),
        (RegexString(("[a-z]",), 1), "..."),
        (Integer(5, 9), 0),
        (Number(ONE, ONE, 2), 0.0),
        (Number(ONE, ONE, 2, quoted=True), "0.0"),
        (Choice(("red", "blue")), "red|blue"),
        (Choice((1, None)), "1|None"),
        (Choice((7,)), 7),
        (Array(NAME, 0, 9), ["..."]),
        (Array(None, 0, 2, [NAME, Integer(0, 9)]), ["...", 0]),
        (Array(NAME, 0, 9, [Integer(0, 9)]), [0, "..."]),
        (Array(None, 0, 0), []),
        (Object([("b", NAME), ("a", Object([("c", NAME)]))]), {"b": "...", "a": {"c": "..."}}),
        (Dictionary(NAME, Integer(0, 9), 0, 3), {"...": 0}),
        (AnyOf([NAME, Choice((None,))]), "..."),
    ],
)
def test_outline(node: Node, expected: Any) -> None:
    """Strings are dots, numbers zero, alternatives stand side by side or the first for all."""
    assert outline(node) == expected


def test_the_outline_of_a_schema_has_its_keys_in_order() -> None:
    """A schema's outline names every field once, in the order of the fields."""
    node = compile_schema(RowSchema.of("name, age int, born date")).ir

    assert list(outline(node).items()) == [("name", "..."), ("age", 0), ("born", "...")]
