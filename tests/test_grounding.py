"""Nodes whose strings are parts of a passage: whatever the draws, nothing else is written."""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher

from synthgen_local.engine.backends.random_model import RandomModel
from synthgen_local.engine.constraints.grammar import Grammar
from synthgen_local.engine.parallel_plan import ParallelPlan
from synthgen_local.engine.requests import Accepted, GenerationRequest
from synthgen_local.engine.workers import decode_shards
from synthgen_local.schema.grammar.json_text import write_value
from synthgen_local.schema.grammar.lark import write_grammar
from synthgen_local.schema.grammar.size import longest_text
from synthgen_local.schema.grounding import ground
from synthgen_local.schema.ir import (
    AnyOf,
    Array,
    Choice,
    Dictionary,
    Integer,
    Node,
    Object,
    RegexString,
    String,
    Substring,
)

ANY = String(0, 40)
YEAR = String(0, 40, (r"^\d{4}$",))
NULL = Choice((None,))
WORDS = st.sampled_from([
    "Tom", "Hanks", "naïve", "café", "東京", "😀", '"', "\\", "\n", "\t", "'", "5.2", "a/b", "-",
    " ", "  ", ".", ", ", "Straße", "{x}", "\\n", "\\u0041", "1999",
])  # fmt: skip
PASSAGES = st.lists(WORDS, max_size=12).map("".join) | st.text("aé京😀\"\\/\n .'", max_size=20)


def drawn(node: Node, rows: int = 8) -> list[Any]:
    """Values of a node, drawn by random logits."""
    model, longest = RandomModel(), longest_text(node)
    grammar = Grammar(model.tokenizer, LLMatcher.grammar_from_lark(write_grammar(node)))
    rows = list(
        decode_shards(
            model,
            GenerationRequest.from_grammar(grammar, (1,), longest),
            [range(rows)],
            ParallelPlan(1, rows, 1),
            lambda decoded: Accepted(decoded.text),
            attempts=1,
        )
    )
    assert max(len(row.text.encode()) for row in rows) <= longest
    return [json.loads(row.text) for row in rows]


def grounded(node: Node, passage: str) -> Node:
    found = ground(node, passage)
    assert found is not None
    return found


def accepts(node: Node, value: Any) -> bool:
    """Whether a value is one of a node's."""
    matcher = LLMatcher(RandomModel().tokenizer, LLMatcher.grammar_from_lark(write_grammar(node)))
    tokens = list(write_value(value).encode())
    return bool(
        matcher.try_consume_tokens(tokens) == len(tokens)
        and (matcher.is_accepting() or matcher.is_stopped())
    )


def is_part(text: str, passage: str) -> bool:
    """Whether a text stands in a passage and cuts no word; a number's unit is a word."""
    word = r"[^\W東京]"
    left = r"(?<![^\W\d東京])" if re.match(r"[^\W\d東京]", text) else ""
    right = rf"(?!{word})" if re.search(r"[^\W\d東京]\Z", text) else ""
    return re.search(left + re.escape(text) + right, passage) is not None


@settings(deadline=None, max_examples=60)
@given(PASSAGES)
def test_every_string_is_a_part_of_the_passage(passage: str) -> None:
    """No string cuts a word, ends in white space or has marks alone; none if none is there."""
    found = ground(ANY, passage)

    assert (found is None) == (re.search(r"[^\W_]", passage) is None)
    for text in drawn(found) if found is not None else []:
        assert is_part(text, passage)
        assert text == text.strip()
        assert any(map(str.isalnum, text))


@pytest.mark.parametrize(
    ("text", "passage", "expected"),
    [
        (ANY, "a-b", {"a", "b", "a-b", "-b", "a-"}),
        (
            ANY,
            '"a\\b"',
            {
                "a",
                "b",
                "a\\b",
                "a\\",
                "\\b",
                '"a',
                'b"',
                '"a\\',
                '\\b"',
                '"a\\b',
                'a\\b"',
                '"a\\b"',
            },
        ),
        (ANY, "b京a", {"b", "京", "a", "b京", "京a", "b京a"}),
        (ANY, "ab10km 10m2", {"ab10km", "10", "m2", "10m2", "ab10km 10m2", "ab10km 10"}),
        (ANY, "3ab", {"3", "ab", "3ab"}),
        (ANY, "7f3a J20", {"7f3a", "J20", "7f3a J20"}),
        (ANY, "トムは", {"トム", "は", "トムは"}),
        (ANY, "one\ntwo", {"one", "two"}),
        (ANY, "  Zoë ", {"Zoë"}),
        (String(4, 9), "one three", {"three", "one three"}),
        (String(0, 2), "abc de f", {"de", "f"}),
        (YEAR, "From 1999 to 2001, not 12345.", {"1999", "2001"}),
        (String(0, 40, ("[A-Z]",)), "the Old man", {"Old", "Old man", "the Old", "the Old man"}),
        (String(0, 40, ("^T", "s$")), "Tom Hanks", {"Tom Hanks"}),
        (String(0, 40, ("^(one|two)$",)), "one two three", {"one", "two"}),
    ],
)
def test_what_a_string_may_be(text: String, passage: str, expected: set[str]) -> None:
    """Of all that stands in a passage, just the parts with that length and pattern."""
    node, ends = grounded(text, passage), range(len(passage) + 1)
    parts = {passage[start:end] for start in ends for end in ends}

    assert {part for part in parts if accepts(node, part)} == expected


@pytest.mark.parametrize(
    ("text", "passage"),
    [
        (ANY, ""),
        (ANY, " \n "),
        (ANY, '"..."'),
        (String(5, 9), "abc"),
        (String(0, 2), "abc def"),
        (YEAR, "in 99 or 12345"),
        (String(0, 40, ("^X",)), "a X-ray".lower()),
    ],
)
def test_a_string_that_is_not_there_is_impossible(text: String, passage: str) -> None:
    """Alone or required in a record it leaves nothing, an optional one leaves null."""
    assert ground(text, passage) is None
    assert ground(Object([("a", Integer(0, 9)), ("b", text)]), passage) is None
    assert ground(AnyOf([text, NULL]), passage) == AnyOf([NULL])


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (Array(YEAR, 0, 3), [[]]),
        (Array(YEAR, 1, 3), None),
        (Array(None, 1, 2, [ANY, YEAR]), [["Tom"]]),
        (Array(None, 2, 2, [ANY, YEAR]), None),
        (Array(YEAR, 0, 3, [ANY]), [[], ["Tom"]]),
        (Array(YEAR, 2, 3, [ANY]), None),
        (Array(ANY, 0, 2), [[], ["Tom"], ["Tom", "Tom"]]),
        (Array(AnyOf([YEAR, NULL]), 2, 2), [[None, None]]),
        (Array(Object([("year", YEAR)]), 0, 3), [[]]),
    ],
)
def test_arrays_shrink(array: Array, expected: list[Any] | None) -> None:
    """A list keeps what comes before the first item that is not there, if that is enough."""
    found = ground(array, "Tom")

    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert all(value in expected for value in drawn(found, 30))
        assert all(accepts(found, value) for value in expected)


@pytest.mark.parametrize(
    ("mapping", "passage", "expected"),
    [
        (Dictionary(Choice(("a",)), YEAR, 1, 1), "in 1999", {"a": "1999"}),
        (Dictionary(Choice(("a",)), YEAR, 0, 1), "Tom", {}),
        (Dictionary(Choice(("a",)), YEAR, 1, 1), "Tom", None),
    ],
)
def test_values_of_mappings(mapping: Dictionary, passage: str, expected: Any) -> None:
    """The values of free keys are grounded; without any, the object is empty if it may be."""
    found = ground(mapping, passage)

    assert (None if found is None else drawn(found, 1)[0]) == expected


@pytest.mark.parametrize(
    "node",
    [
        Choice(("red", "blue")),
        NULL,
        Integer(0, 9),
        RegexString((r"\d{4}-\d\d-\d\d",), 10),
        Array(Choice(("red",)), 0, 3, []),
        Object([("colour", Choice(("red", "blue"))), ("day", RegexString(("[0-9]",), 1))]),
    ],
)
@pytest.mark.parametrize("passage", ["", "green"])
def test_what_has_a_form_of_its_own_stays(node: Node, passage: str) -> None:
    """Enumerations, numbers and dates are what they are without a passage."""
    assert ground(node, passage) == node


def test_only_the_options_that_are_there_are_left() -> None:
    """Of alternatives, those go that the passage does not have."""
    union = AnyOf([YEAR, String(0, 9, ("^T",)), Integer(0, 0)])

    assert set(drawn(grounded(union, "Tom"), 30)) == {"Tom", 0}


def test_an_excerpt_has_the_words_of_the_passage() -> None:
    """A free string becomes an excerpt of the passage's words, spaces and marks."""
    assert ground(ANY, "Tom  Hanks!") == Substring(("Tom", "  ", "Hanks", "!"), ANY)


@pytest.mark.parametrize(
    ("pattern", "passage", "expected"),
    [
        ("^a/b$", "a/b c", "a/b"),
        ("^[^/]+$", "ab", "ab"),
        ("cat|dog", "my dog runs", "dog"),
    ],
)
def test_patterns_are_those_of_json_schema(pattern: str, passage: str, expected: str) -> None:
    """Slashes and alternatives mean in a passage what they mean without one."""
    assert all(expected in found for found in drawn(grounded(String(0, 9, (pattern,)), passage)))


@pytest.mark.parametrize("pattern", ["dog$|^cats$", "^cats$|dog", "^c|b$"])
def test_an_anchor_belongs_to_its_alternative(pattern: str) -> None:
    """One alternative of a pattern may have an anchor that another has not."""
    assert set(drawn(grounded(String(0, 9, (pattern,)), "my cats"), 30)) == {"cats"}


@pytest.mark.parametrize("passage", ["cafe\u0301", "हिन्दी", "\u00a0x\u00a0", "\u3000京\u3000"])
def test_a_word_keeps_its_marks_and_no_space(passage: str) -> None:
    """Accents that combine belong to their word, white space of any kind to none."""
    assert set(drawn(grounded(ANY, passage), 50)) == {passage.strip()}


@pytest.mark.parametrize(
    ("passage", "parts", "cut"),
    [
        (
            "田中太郎さんは42歳で、東京に住んでいます。",
            ["田中太郎", "42", "42歳", "東京"],
            ["4", "2歳"],
        ),
        ("王小明今年54歲，住在台北市。", ["王小明", "54", "台北市", "台北"], ["5"]),  # noqa: RUF001
        ("𠮷野家で", ["𠮷野家", "𠮷野"], []),
        ("トム・ハンクスさん", ["トム・ハンクス", "トム"], ["ト", "ハン"]),
        ("김철수는 42세이고 서울에 산다", ["김철수", "42", "서울"], ["4"]),
        (
            unicodedata.normalize("NFD", "김철수는"),
            [unicodedata.normalize("NFD", "김철수")],
            ["\u1100"],
        ),
        ("สมชายอายุ42ปีอยู่กรุงเทพ", ["สมชาย", "42", "กรุงเทพ"], ["กร"]),
        ("ສົມຊາຍອາຍຸ42ປີ", ["ສົມຊາຍ", "42"], ["ສ"]),
        ("សុខាអាយុ42ឆ្នាំ", ["សុខា", "42"], ["ស", "ឆ"]),
        ("မောင်မောင်အသက်42နှစ်", ["မောင်မောင်", "42"], ["မ"]),
        ("He ran 10km at 54yo.", ["10", "10km", "km", "54", "yo"], ["1", "k"]),
    ],
)
def test_scripts_without_spaces(passage: str, parts: list[str], cut: list[str]) -> None:
    """A word ends where Unicode says; a character keeps its signs, and a number its digits."""
    node = grounded(ANY, passage)

    assert [part for part in parts if not accepts(node, part)] == []
    assert [part for part in cut if accepts(node, part)] == []


def test_a_long_passage_without_spaces() -> None:
    """A border after each character does not make the grammar of a page too large."""
    assert accepts(grounded(ANY, "田中太郎さんは東京に住んでいます。" * 100), "太郎さん")
