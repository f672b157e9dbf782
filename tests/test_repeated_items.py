"""Lists without what a model repeats."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field, field_validator

from synthgen_local import Extractor, FewShotPrompt, LocalModel, TabularGenerator
from synthgen_local.engine.requests import Accepted, Attempt, Completion
from synthgen_local.generators.chat import Chat
from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.grammar.text_grammar import TextGrammar
from synthgen_local.schema.ir import AnyOf, Array, Choice, Dictionary, Integer, Node, Object, String
from synthgen_local.schema.repeated_items import once, without_repeats

TEXT = String(0, 9)
TEXTS = Array(TEXT, 0, 8)
FILMS = Array(Object([("name", TEXT), ("year", Integer(0, 9))]), 0, 8)


class Actor(BaseModel):
    """A list that may be empty, and one that has two at least."""

    films: list[str]
    roles: list[str] = Field(min_length=2)


@pytest.mark.parametrize(
    ("node", "value", "expected"),
    [
        (TEXTS, ["Big"] * 8, ["Big"]),
        (TEXTS, ["a", "b", "a", "A", "b"], ["a", "b", "A"]),
        (Array(TEXT, 3, 8), ["a"] * 8, ["a"] * 3),
        (Array(TEXT, 2, 8, [TEXT]), ["a", "a", "a"], ["a", "a"]),
        (FILMS, [{"name": "a", "year": 1}] * 3 + [{"name": "a", "year": 2}],
         [{"name": "a", "year": 1}, {"name": "a", "year": 2}]),
        (Object([("a", Object([("b", TEXTS)]))]), {"a": {"b": ["x", "x"]}}, {"a": {"b": ["x"]}}),
        (Dictionary(TEXT, TEXTS, 0, 8), {"k": ["x", "x"]}, {"k": ["x"]}),
        (AnyOf([Choice((None,)), TEXTS]), ["x", "x"], ["x"]),
        (Array(TEXTS, 0, 8), [["x", "x"], ["x"]], [["x"], ["x"]]),
        (Array(Integer(0, 9), 0, 8), [1, 1, 1], [1, 1, 1]),
        (Array(Choice(("yes", "no")), 0, 8), ["yes", "yes"], ["yes", "yes"]),
        (Array(AnyOf([TEXT, Choice((None,))]), 0, 8), ["a", None, "a", None], ["a", None, None]),
    ],
)  # fmt: skip
def test_repeats(node: Node, value: Any, expected: Any) -> None:
    """Free strings and records stand once in a list; its least length and other kinds stay."""
    assert without_repeats(value, node, once) == expected


def test_rows_have_no_repeats(random_model: LocalModel) -> None:
    """Rows repeat an item only where the schema or an example does."""
    row = '{"films":["Big","Big"],"roles":["x","x","x"]}'
    plain = TabularGenerator(Actor, random_model)
    record = {"films": ["Big", "Big"], "roles": ["a", "b"]}
    like = TabularGenerator(Actor, random_model, prompt=FewShotPrompt(examples=[record]))
    exact = TabularGenerator(Actor, random_model, sampling="exact")

    assert plain._read(row) == Actor(films=["Big"], roles=["x", "x"])
    assert [g._read(row).model_dump_json() for g in (like, exact)] == [row, row]


class Pair(BaseModel):
    """A list of which a validator wants two items."""

    names: list[str]

    @field_validator("names")
    @classmethod
    def _two(cls, names: list[str]) -> list[str]:
        assert len(names) == 2
        return names


def test_a_validator_that_counts(random_model: LocalModel) -> None:
    """Where a row is not valid without its repeats it keeps them, and one that is neither fails."""
    text = '{"names":["a","a"]}'
    extractor = Extractor(Pair, random_model, grounded=False)
    found = extractor._check(Completion(Attempt(0), f"[{text}]", 1, 1, None), "a")

    assert TabularGenerator(Pair, random_model)._read(text) == Pair(names=["a", "a"])
    assert getattr(found, "value", None) == [Pair(names=["a", "a"])]
    with pytest.raises(ValueError, match="names"):
        TabularGenerator(Pair, random_model)._read('{"names":["a","a","a"]}')


def test_answers_have_no_repeats(random_model: LocalModel) -> None:
    """Structured answers and alternatives lose what their lists repeat; other texts stay."""
    rows = compile_schema(RowSchema.of(Actor))
    either = TextGrammar.of_any([TextGrammar.of_literal("none"), TextGrammar.of_rows(rows)])
    text = '{"films":["Big","Big"],"roles":["x","x","x"]}'
    tidy = '{"films":["Big"],"roles":["x","x"]}'

    for grammar in (rows, either, TextGrammar.of_rows(rows)):
        checked = Chat(random_model, grammar=grammar)._check(
            Completion(Attempt(0), text, 1, 1, None)
        )
        assert checked == Accepted(tidy)
    assert either.tidy("none") == "none"
    with pytest.raises(ValueError, match="none of the alternatives"):
        either.tidy("other")


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
    found = extractor._check(Completion(Attempt(0), text, 1, 1, None), passage)

    assert getattr(found, "value", None) == [Actor(films=films, roles=["x", "x"])]
