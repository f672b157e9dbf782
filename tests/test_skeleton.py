"""Outlines: one value that shows the keys and kinds of a shape."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from synthgen_local.prompting.skeleton import outline
from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.ir import (
    Array,
    Choice,
    Excerpt,
    Formatted,
    Integer,
    Mapping,
    Number,
    Record,
    Shape,
    Text,
    Union,
)

NAME = Text(0, 9)
ONE = Decimal(1)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (NAME, "..."),
        (Excerpt(("a",), NAME), "..."),
        (Formatted(("[a-z]",), 1), "..."),
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
        (Record([("b", NAME), ("a", Record([("c", NAME)]))]), {"b": "...", "a": {"c": "..."}}),
        (Mapping(NAME, Integer(0, 9), 0, 3), {"...": 0}),
        (Union([NAME, Choice((None,))]), "..."),
    ],
)
def test_outline(shape: Shape, expected: Any) -> None:
    """Strings are dots, numbers zero, alternatives stand side by side or the first for all."""
    assert outline(shape) == expected


def test_the_outline_of_a_schema_has_its_keys_in_order() -> None:
    """A schema's outline names every field once, in the order of the fields."""
    shape = compile_schema(RowSchema.of("name, age int, born date")).shape

    assert list(outline(shape).items()) == [("name", "..."), ("age", 0), ("born", "...")]
