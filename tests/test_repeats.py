"""Lists without what a model repeats."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

from synthgen_local import Extractor, FewShotPrompt, LocalModel, TabularGenerator
from synthgen_local.engine.decoder import Decoded, Ticket
from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.repeats import once, without_repeats
from synthgen_local.schema.shapes import Array, Choice, Integer, Mapping, Record, Shape, Text, Union

TEXT = Text(0, 9)
TEXTS = Array(TEXT, 0, 8)
FILMS = Array(Record([("name", TEXT), ("year", Integer(0, 9))]), 0, 8)


class Actor(BaseModel):
    """A list that may be empty, and one that has two at least."""

    films: list[str]
    roles: list[str] = Field(min_length=2)


@pytest.mark.parametrize(
    ("shape", "value", "expected"),
    [
        (TEXTS, ["Big"] * 8, ["Big"]),
        (TEXTS, ["a", "b", "a", "A", "b"], ["a", "b", "A"]),
        (Array(TEXT, 3, 8), ["a"] * 8, ["a"] * 3),
        (Array(TEXT, 2, 8, [TEXT]), ["a", "a", "a"], ["a", "a"]),
        (FILMS, [{"name": "a", "year": 1}] * 3 + [{"name": "a", "year": 2}],
         [{"name": "a", "year": 1}, {"name": "a", "year": 2}]),
        (Record([("a", Record([("b", TEXTS)]))]), {"a": {"b": ["x", "x"]}}, {"a": {"b": ["x"]}}),
        (Mapping(TEXT, TEXTS, 0, 8), {"k": ["x", "x"]}, {"k": ["x"]}),
        (Union([Choice((None,)), TEXTS]), ["x", "x"], ["x"]),
        (Array(TEXTS, 0, 8), [["x", "x"], ["x"]], [["x"], ["x"]]),
        (Array(Integer(0, 9), 0, 8), [1, 1, 1], [1, 1, 1]),
        (Array(Choice(("yes", "no")), 0, 8), ["yes", "yes"], ["yes", "yes"]),
        (Array(Union([TEXT, Choice((None,))]), 0, 8), ["a", None, "a", None], ["a", None, None]),
    ],
)  # fmt: skip
def test_repeats(shape: Shape, value: Any, expected: Any) -> None:
    """Free strings and records stand once in a list; its least length and other kinds stay."""
    assert without_repeats(value, shape, once) == expected


def test_rows_have_no_repeats(random_model: LocalModel) -> None:
    """Rows repeat an item only where the schema or an example does."""
    row = '{"films":["Big","Big"],"roles":["x","x","x"]}'
    plain = TabularGenerator(Actor, random_model)
    record = {"films": ["Big", "Big"], "roles": ["a", "b"]}
    like = TabularGenerator(Actor, random_model, prompt=FewShotPrompt(examples=[record]))
    exact = TabularGenerator(Actor, random_model, sampling="exact")

    assert plain._without_repeats(row) == '{"films":["Big"],"roles":["x","x"]}'
    assert [g._without_repeats(row) for g in (like, exact)] == [row, row]
    assert compile_schema(RowSchema.of(Actor)).schema.accept(plain._without_repeats(row))


@pytest.mark.parametrize(
    ("passage", "films"),
    [("He is in Big.", ["Big"]), ("Big, Big!", ["Big", "Big"]), ("Bigger, BIG", ["Big"])],
)
def test_nothing_is_extracted_more_often_than_it_is_said(
    random_model: LocalModel, passage: str, films: list[str]
) -> None:
    """An item stands as often as the passage says it, a record once; a least number is kept."""
    extractor = Extractor(Actor, random_model, grounded=False)
    text = '[{"films":["Big","Big","Big"],"roles":["x","x"]},'
    text += '{"films":["Big","Big","Big"],"roles":["x","x"]}]'
    found = extractor._check(Decoded(Ticket(0), text, 1, 1, None), passage)

    assert getattr(found, "value", None) == [Actor(films=films, roles=["x", "x"])]
