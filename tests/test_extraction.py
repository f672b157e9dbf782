"""Reading a passage: what is preferred, by logits made by hand, and what never changes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from llguidance import LLMatcher
from masks import allowed_by

from synthgen_local.engine.backends.protocol import Logits
from synthgen_local.engine.backends.random_model import RandomModel
from synthgen_local.engine.constraints.extraction import (
    ExtractionConstraint,
    _continues_list,
    _items,
    _partial_string,
    _siblings,
    _string_after,
)
from synthgen_local.engine.constraints.grammar import Grammar
from synthgen_local.engine.constraints.json_cursor import JsonCursor
from synthgen_local.schema.grammar.lark import write_grammar
from synthgen_local.schema.grounding import ground
from synthgen_local.schema.ir import Array, Node, Object, String

TOKENIZER = RandomModel().tokenizer
STREAM = np.random.default_rng(0)
NAME = String(1, 20)
FILMS = Object([("Actor", NAME), ("Film", Array(NAME, 0, 4))])


def several(least: int, most: int = 4) -> Array:
    return Array(NAME, least, most)


def start(node: Node, passage: str, written: str = "") -> ExtractionConstraint:
    """A row of a node's that has been written so far."""
    grounded = ground(node, passage)
    assert grounded is not None
    lark = LLMatcher.grammar_from_lark(write_grammar(grounded))
    reading = ExtractionConstraint(Grammar(TOKENIZER, lark).start(), passage)
    taken = len(reading.text())
    while taken < len(written.encode()):
        allowed_by(reading, TOKENIZER.vocab_size)
        taken += 1 + len(reading.accept_token(written.encode()[taken], STREAM))
    assert reading.text().startswith(written)
    return reading


def logits(likes: Mapping[str, float]) -> Logits:
    """How much a model likes characters; ends are likelier than the rest."""
    made = np.full(TOKENIZER.vocab_size, -3, dtype=np.float32)
    for character, like in {'"': 0.0, "]": 0.0, **likes}.items():
        made[ord(character)] = like
    return made


def likeliest(reading: ExtractionConstraint, made: Logits) -> int:
    allowed = allowed_by(reading, len(made))
    return int(np.where(allowed, reading.process_logits(made), -np.inf).argmax())


def read(node: Node, passage: str, likes: Mapping[str, float], written: str = "") -> Any:
    """What is written by who takes the likeliest token."""
    reading = start(node, passage, written)
    while not reading.is_terminated:
        reading.accept_token(likeliest(reading, logits(likes)), STREAM)
    return json.loads(reading.text())


def following(node: Node, passage: str, written: str, likes: Mapping[str, float]) -> str:
    return chr(likeliest(start(node, passage, written), logits(likes)))


@pytest.mark.parametrize(
    ("node", "passage", "written", "likes", "expected"),
    [
        (several(2), "A saw B", '["A","', {"A": 5, "B": 0}, "B"),
        (several(2), "A saw B", '["A","', {"A": 20, "B": 0}, "A"),
        (several(3), "A, B, C", '["A","B","', {"A": 9, "B": 9, "C": 0}, "C"),
        (several(2), "Ann Obi and Ann Roe", '["Ann Obi","Ann ', {"O": 5, "R": 0}, "R"),
        (several(2), "B, A, C", '["A","', {"B": 9, "C": 0}, "C"),
        (FILMS, "A played B", '{"Actor":"A","Film":["', {"A": 9, "B": 0}, "B"),
        (several(2), "Ann only", '["Ann","', {"A": 0, "o": -2}, "o"),
    ],
)
def test_nothing_is_taken_twice(
    node: Node, passage: str, written: str, likes: dict[str, float], expected: str
) -> None:
    """What a list or its record has is left for what stands further on, if that is not absurd."""
    assert following(node, passage, written, likes) == expected


@pytest.mark.parametrize(
    ("likes", "expected"),
    [
        ({}, "A"),
        ({"B": 0.0}, "A"),
        ({"B": 1.0}, "A"),
        ({"C": 1.0, "B": 0.5}, "A"),
        ({"B": 3.0}, "B"),
        ({"B": 3.0, "C": 2.5}, "B"),
        ({"B": 2.5, "C": 3.0}, "B"),
    ],
)
def test_names_come_in_the_order_of_the_passage(likes: dict[str, float], expected: str) -> None:
    """Of names that are about as likely the first is taken; one that is far likelier wins."""
    assert following(several(1), "they met A, B or C", '["', likes) == expected


@pytest.mark.parametrize(
    ("passage", "written", "likes", "expected"),
    [
        ("they saw A eat grass with B", '["A","', {"g": 2.0}, "B"),
        ("they saw A eat grass with B", '["A","', {"g": 15.0}, "g"),
        ("we saw grass eat B", '["grass","', {"e": 15.0}, "e"),
        ("they saw A. Grass with B grew", '["A","', {"G": 2.0}, "B"),
        ("they saw A and B on grass", '["A","B"', {",": 5.0}, "]"),
        ("they saw A and B on grass", '["A","B"', {",": 15.0}, ","),
        ("they saw A and B and C", '["A","B"', {",": 1.0}, ","),
        ("we saw a and b on grass", '["a","b"', {",": 1.0}, ","),
    ],
)
def test_names_lead_on_to_names(
    passage: str, written: str, likes: dict[str, float], expected: str
) -> None:
    """After names comes a name, or the end of the list, unless another thing is far likelier."""
    assert following(several(1), passage, written, likes) == expected


@pytest.mark.parametrize(
    ("passage", "written", "character", "expected"),
    [
        ("Ann Obi, Bob", '["Ann Obi', ",", '"'),
        ("Ann Obi. Bob", '["Ann Obi', ".", '"'),
        ("Ann Obi-Roe", '["Ann Obi', "-", "-"),
        ("Ann Obi. Bob", '["Ann Obi.', " ", '"'),
    ],
)
def test_strings_end_at_commas_and_sentences(
    passage: str, written: str, character: str, expected: str
) -> None:
    """A string that could go on past a comma or a stop ends there if it is about as likely."""
    assert following(several(1), passage, written, {character: 1.0}) == expected


def test_a_whole_list() -> None:
    """Names come once each, in order, from a model that has no idea, and what has none ends it."""
    passage, written = "the cast: Ann played B, C and D on grass", '{"Actor":"Ann","Film":["'

    assert read(FILMS, passage, {"]": -2, ",": 1}, written)["Film"] == ["B", "C", "D"]


def test_what_must_be_taken_twice_is() -> None:
    """Preferences give way to the grammar: where there is one word it is taken again."""
    assert read(several(3, 3), "Ann", {}) == ["Ann", "Ann", "Ann"]


@pytest.mark.parametrize("seed", range(6))
def test_what_is_allowed_never_changes(seed: int) -> None:
    """At every step the mask is the grammar's, no logit is ruled out, and none is written to."""
    passage, stream = 'Ann met "Zoë\\" in 東京. Bob saw it, too.', np.random.default_rng(seed)
    grounded = ground(Array(FILMS, 1, 3), passage)
    assert grounded is not None
    grammar = Grammar(TOKENIZER, LLMatcher.grammar_from_lark(write_grammar(grounded)))
    reading, plain = ExtractionConstraint(grammar.start(), passage), grammar.start()
    while not plain.is_terminated:
        made = stream.standard_normal(TOKENIZER.vocab_size, dtype=np.float32)
        before = made.copy()
        allowed = allowed_by(plain, len(made))
        assert (allowed_by(reading, len(made)) == allowed).all()
        steered = reading.process_logits(made)
        assert np.isfinite(steered).all()
        assert (made == before).all()
        token = int(stream.choice(np.flatnonzero(allowed)))
        assert reading.accept_token(token, stream) == plain.accept_token(token, stream)

    assert reading.is_terminated
    assert reading.text() == plain.text()


def test_outside_of_lists_the_logits_are_the_models() -> None:
    """Before a string of a record is begun nothing is preferred."""
    reading, made = start(FILMS, "Ann in Bob", '{"Actor":"'), logits({})
    allowed_by(reading, TOKENIZER.vocab_size)

    assert (reading.process_logits(made) == made).all()


def test_characters_of_several_tokens_count() -> None:
    """An item is what it is, whatever tokens it was written with."""
    reading = start(several(2), "Zoë saw Zoé", '["Zoë","')

    assert reading._cursor.containers[-1].strings == ["Zoë"]


@pytest.mark.parametrize("passage", ["é", "é and è saw Bob", "京 東 Bob"])
def test_strings_of_one_wide_character(passage: str) -> None:
    """A string that may end after its first character is read like any other."""
    first, second = passage[0].encode().decode("latin-1")[:2]  # its first bytes
    [item] = read(several(1, 1), passage, {first: 20, second: 20, '"': 10})

    assert item == passage[0]


@pytest.mark.parametrize(
    ("written", "in_list", "begun", "items", "siblings"),
    [
        ("", False, "", [], []),
        ("[", True, "", [], []),
        ('["a","b', True, "b", ["a"], []),
        ('["a","b"', True, "", ["a", "b"], []),
        (r'["\"a\\","', True, "", [r"\"a\\"], []),
        ('["[{","]', True, "]", ["[{"], []),
        ('[{"k":"v","l":["x"', True, "", ["x"], ["k", "v", "l"]),
        ('[{"k":"v","l":["x"]', False, "", [], []),
        ('[{"k":"v"},{"k":"', False, "", [], []),
        ('[{"k":["a"]}]', False, "", [], []),
    ],
)
def test_where_in_json_the_writing_stands(
    written: str, in_list: bool, begun: str, items: list[str], siblings: list[str]
) -> None:
    """Lists, the strings in them and the string that is begun, escapes as they are written."""
    cursor = JsonCursor()
    for byte in written.encode():
        cursor.read(bytes([byte]))

    assert (cursor.in_array, _partial_string(cursor), _items(cursor)) == (in_list, begun, items)
    assert not in_list or _siblings(cursor) == siblings


@pytest.mark.parametrize(
    ("written", "piece", "after", "goes_on"),
    [
        ('["a', "b", "ab", None),
        ('["a', 'b"', "ab", None),
        ('["a', 'b",', "ab", True),
        ('["a', '"]', "a", False),
        ('["a"', ',"', None, True),
        ('["a"', ',"b', "b", True),
        ('["a"', "]", None, False),
        ("[", '"a', "a", None),
        (r'["a', r"\"", r"a\"", None),
        ('{"a":1', ",", None, None),
    ],
)
def test_what_a_piece_would_do(
    written: str, piece: str, after: str | None, goes_on: bool | None
) -> None:
    """The string that it would leave the writing in, and whether the list would go on."""
    cursor = JsonCursor()
    cursor.read(written.encode())

    assert _string_after(cursor, piece) == after
    assert _continues_list(cursor, piece) is goes_on
