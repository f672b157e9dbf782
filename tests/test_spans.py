"""Fields: their leaves with paths, what is refused, and where values stand in a text."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from synthgen_local import PromptError
from synthgen_local.engine.constraints.text_rules import places
from synthgen_local.generators.spans import Leaf, Span, json_fields, leaves, shown, spans

WORDS = st.lists(st.sampled_from(["a", "b", "a b", "b a", "a b a", "5"]), min_size=1, max_size=5)


class Actor(BaseModel):
    """Fields as a model of pydantic."""

    name: str = Field(alias="actor name")
    born: date


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("blue", [("$", "blue")]),
        (["blue", "yellow"], [("$[0]", "blue"), ("$[1]", "yellow")]),
        ({"actor": "Tom Hanks"}, [("$.actor", "Tom Hanks")]),
        ({"Film": ["A", "B"]}, [("$.Film[0]", "A"), ("$.Film[1]", "B")]),
        ([{"a": "x"}, {"a": "y"}], [("$[0].a", "x"), ("$[1].a", "y")]),
        ({"first name": "Ada"}, [("$['first name']", "Ada")]),
        ({"a": [{"b": {"c": [["x"]]}}]}, [("$.a[0].b.c[0][0]", "x")]),
        ({"b": "x", "a": "x"}, [("$.b", "x"), ("$.a", "x")]),
        ([5, -2.5, 3.0, 1e-05], [("$[0]", "5"), ("$[1]", "-2.5"), ("$[2]", "3.0"),
                                ("$[3]", "0.00001")]),
        ([True, False], [("$[0]", "true"), ("$[1]", "false")]),
        ([None, "", 0, "x", [], {}], [("$[2]", "0"), ("$[3]", "x")]),
    ],
)  # fmt: skip
def test_leaves(fields: Any, expected: list[tuple[str, str]]) -> None:
    """Every value has its path, in order; null and empty text are nothing to mention."""
    assert [(leaf.path, leaf.text) for leaf in leaves(fields)] == expected


@pytest.mark.parametrize("depth", [1, 10, 100])
def test_leaves_are_found_however_deep(depth: int) -> None:
    """Nesting has no bound of its own."""
    fields: Any = "x"
    for _ in range(depth):
        fields = {"a": [fields]}

    assert leaves(fields) == [Leaf("$" + ".a[0]" * depth, "x")]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"born": date(1956, 7, 9)}, {"born": "1956-07-09"}),
        (("a", Decimal("1.50")), ["a", "1.50"]),
        (
            Actor.model_validate({"actor name": "Tom Hanks", "born": "1956-07-09"}),
            {"actor name": "Tom Hanks", "born": "1956-07-09"},
        ),
        ({1: None}, {"1": None}),
    ],
)
def test_json_fields(fields: Any, expected: Any) -> None:
    """Dates, tuples, decimals and instances become what JSON has for them."""
    assert json_fields(fields) == expected


@pytest.mark.parametrize("fields", [object(), [b"\xff"], {"a": {"b": len}}])
def test_what_json_cannot_say_is_refused(fields: Any) -> None:
    """Objects without a JSON form are an error of one line with a hint."""
    with pytest.raises(PromptError, match="not JSON") as caught:
        json_fields(fields)

    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_a_circle_is_refused() -> None:
    """Fields that contain themselves are an error, not a hang."""
    circle: list[Any] = []
    circle.append(circle)

    with pytest.raises(PromptError, match="not JSON"):
        json_fields(circle)


@pytest.mark.parametrize("fields", [[], {}, None, "", [None, ""], {"a": {"b": []}}])
def test_fields_without_a_value_are_refused(fields: Any) -> None:
    """There must be something to write about."""
    with pytest.raises(PromptError, match="hold no value"):
        leaves(fields)


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_has_not_are_refused(number: float) -> None:
    """NaN and infinity are refused, by their path."""
    with pytest.raises(PromptError, match=r"\$\.a\[1\]"):
        leaves(json_fields({"a": [1.0, number]}))


@pytest.mark.parametrize(
    "character", ["\n", "\t", "\r", "\0", "\x7f", "\x85", "\u2028", "\u2029", "\ud800"]
)
def test_what_no_line_holds_is_refused(character: str) -> None:
    """The error names path and character, and never the value: it may be a patient's."""
    with pytest.raises(PromptError, match=r"\$\.patient\[1\]") as caught:
        leaves({"patient": ["fine", f"Jane{character}Roe"]})

    assert f"U+{ord(character):04X}" in str(caught.value)
    assert not any(part in f"{caught.value}{caught.value.hint}" for part in ("Jane", "Roe"))


def test_what_is_missing_is_null() -> None:
    """NaN, NaT and NA of a table are no values; numbers of numpy are."""
    row = {"a": math.nan, "b": pd.NaT, "c": pd.NA, "d": np.int64(5), "e": np.datetime64("NaT")}

    assert json_fields(row) == {"a": None, "b": None, "c": None, "d": 5, "e": None}


def test_errors_show_the_first_key_only() -> None:
    """Keys below it may be names of people; numbers of items say where to look."""
    assert shown("$.scores.Ada[0]") == "$.scores.*[0]"
    assert shown("$[1]['first name']['it\\'s']") == "$[1].*.*"
    assert shown("$['a b'][\"Ada's\"]") == "$['a b'].*"
    with pytest.raises(PromptError, match=r"\$\.scores\.\*\[0\]") as caught:
        leaves({"scores": {"Ada Secret": ["a\n"]}})
    assert "Secret" not in str(caught.value)


@pytest.mark.parametrize("space", "\xa0\u1680\u2000\u2009\u202f\u205f\u3000")
def test_any_space_may_stand_in_a_value(space: str) -> None:
    """Values have the spaces that people write between a number and its unit."""
    assert leaves({"way": f"10{space}km"}) == [Leaf("$.way", f"10{space}km")]


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        (["blue"], "The blue sky.", [(0, 4, 8)]),
        (["sky", "blue"], "The blue sky.", [(0, 9, 12), (1, 4, 8)]),
        (["a", "a"], "a or a.", [(0, 0, 1), (1, 5, 6)]),
        (["a", "a", "a"], "a or a.", [(0, 0, 1), (1, 5, 6), (2, 0, 1)]),
        (["Fox", "Mr. Fox"], "Mr. Fox is a Fox.", [(0, 4, 7), (0, 13, 16), (1, 0, 7)]),
        (["Fox", "Mr. Fox"], "He is Mr. Fox.", [(0, 10, 13), (1, 6, 13)]),
        (["5", "5.2"], "5.2 and 5.", [(0, 8, 9), (1, 0, 3)]),
        (["art", "sky"], "An artist's sky.", [(1, 12, 15)]),
        (["京"], "😀 東京.", [(0, 3, 4)]),
        (["Big"], "Big is big. Big, Bigger, Big!", [(0, 0, 3), (0, 12, 15), (0, 25, 28)]),
        (["a", "a"], "a, a or a.", [(0, 0, 1), (0, 8, 9), (1, 3, 4)]),
        (
            ["Fox", "Mr. Fox"],
            "Mr. Fox and Mr. Fox.",
            [(0, 4, 7), (0, 16, 19), (1, 0, 7), (1, 12, 19)],
        ),
        (["b a", "a b"], "a b a", [(0, 2, 5), (1, 0, 3)]),
        ([], "Nothing.", []),
    ],
)
def test_spans(values: list[str], text: str, expected: list[tuple[int, int, int]]) -> None:
    """Every mention of a value is there, one within a longer value's too."""
    found = [Leaf(f"$[{index}]", value) for index, value in enumerate(values)]

    assert spans(found, text) == [
        Span(f"$[{index}]", values[index], start, end) for index, start, end in expected
    ]


@given(WORDS, WORDS)
def test_every_mention_has_a_span(values: list[str], written: list[str]) -> None:
    """Spans are all mentions of the values, in the fields' order."""
    text = " and ".join(written)
    found = [Leaf(f"$[{index}]", value) for index, value in enumerate(values)]
    placed = spans(found, text)

    order = [found.index(Leaf(span.path, span.value)) for span in placed]
    assert order == sorted(order)
    assert {span.path for span in placed} == {f.path for f in found if places(f.text, text)}
    assert {(span.start, span.end) for span in placed} == {
        place for value in values for place in places(value, text)
    }
