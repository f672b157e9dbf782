"""A line of text: where its words, sentences and values begin and end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen_local.engine.constraints.text_rules import (
    STOPS,
    ends_sentence,
    fits_a_line,
    joins,
    places,
    sentences,
    starts_word,
    without_stops,
)

TEXTS = st.text("ab5 .,!\"'-é京", max_size=30)


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("5", "5", [(0, 1)]),
        ("5", "15, 5.2, 1,5, 55, 5a, a5 and 5_", []),
        ("5", "He is 5. Or (5), 5% of $5, 5.", [(6, 7), (13, 14), (17, 18), (24, 25), (27, 28)]),
        ("5.2", "5.2, 15.2, 5.25, 5.2.1 and 5.2.", [(0, 3), (27, 30)]),
        ("art", "artist, start, art_ and party", []),
        ("art", 'Art? No: art\'s "art".', [(9, 12), (16, 19)]),
        ("blue", "a blue, bluer blue", [(2, 6), (14, 18)]),
        ("Ann", "Änn Annä Ann", [(9, 12)]),
        ("京", "東京都の京", [(1, 2), (4, 5)]),
        ("กา", "มากาก", [(2, 4)]),
        ("京a", "東京a 京ab", [(1, 3)]),
        ("-x-", "a-x-b", [(1, 4)]),
        ("$5", "a$5 $55 $5.0 $5.", [(1, 3), (13, 15)]),
        ("C++", "C++, C+++ and ABC++", [(0, 3), (5, 8)]),
        ("Mr. Fox", "Mr. Foxy met Mr. Fox.", [(13, 20)]),
        ("a.b", "a.b axb", [(0, 3)]),
        ("none", "", []),
    ],
)
def test_places(value: str, text: str, expected: list[tuple[int, int]]) -> None:
    """A value stands where no letter or digit makes a longer word or number of it."""
    assert places(value, text) == expected


@given(TEXTS.filter(bool), TEXTS, TEXTS)
def test_places_are_the_value(value: str, before: str, after: str) -> None:
    """Places hold the value, with no joining neighbour; between spaces it is always found."""
    text = f"{before}{value}{after}"

    for start, end in places(value, text):
        assert text[start:end] == value
        assert not (start and joins(text[start - 1]) and joins(value[0]))
        assert not (end < len(text) and joins(value[-1]) and joins(text[end]))
    assert places(value, f"{before} {value} {after}")


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("", [], 0),
        ("No end", [], 0),
        ("One.", [], 1),
        ("One. Two! Three? Four… Five", [], 4),
        ("Wait... What?!", [], 2),
        ("At 3.5 of a.b", [], 0),
        ('He said "no." Then (he left.)', [], 2),
        ("天気。 いい！", [], 2),  # noqa: RUF001 the stops of East Asia are wide
        ("天気。いい", [], 0),
        (". . .", [], 3),
        ("He met Mr. Fox. Then", ["Mr. Fox"], 1),
        ("He met Mr. Fox. Then", [], 2),
        ("Mr. Foxy met him.", ["Mr. Fox"], 2),
        ("It is Yahoo!", ["Yahoo!"], 1),
        ("Yahoo! is it.", ["Yahoo!"], 1),
        ("One. Two.", ["."], 2),
    ],
)
def test_sentences(text: str, values: list[str], expected: int) -> None:
    """A stop before a space or the end is a sentence's, unless it is inside a value."""
    assert sentences(text, values) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Yes.", True),
        ('He said "no!"', True),
        ("(Never…)”’", True),  # noqa: RUF001 quotes as people write them
        ("没有。", True),
        ("", False),
        ("No", False),
        ("No. ", False),
        ("No.,", False),
        (".)a", False),
    ],
)
def test_ends_sentence(text: str, expected: bool) -> None:
    """A text ends with a sentence if its last character is a stop or closes one."""
    assert ends_sentence(text) == expected


@given(TEXTS)
def test_a_text_that_ends_a_sentence_has_one(text: str) -> None:
    """What ends a sentence counts as one; nothing added after a space takes one away."""
    assert sentences(text) >= ends_sentence(text)
    assert sentences(f"{text} a") == sentences(text)


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("He met Mr. Fox.", ["Mr. Fox"], "He met Mrx Fox."),
        ("He met Mr. Foxy.", ["Mr. Fox"], "He met Mr. Foxy."),
        ("St. A. and St. A.", ["St. A"], "Stx A. and Stx A."),
        ("a. b. c.", ["a.", "c."], "ax b. cx"),
        ("a. b.", ["."], "a. b."),
        ("a b", ["a b"], "a b"),
    ],
)
def test_without_stops(text: str, values: list[str], expected: str) -> None:
    """Each stop of a value that has a letter becomes a letter, where the value stands."""
    assert without_stops(text, values) == expected


@given(TEXTS, st.lists(TEXTS, max_size=3))
def test_without_stops_changes_nothing_but_stops(text: str, values: list[str]) -> None:
    """The length and every other character stay."""
    bare = without_stops(text, values)

    assert len(bare) == len(text)
    assert all(new == old or (old in STOPS and new == "x")
               for new, old in zip(bare, text, strict=True))  # fmt: skip


@pytest.mark.parametrize(
    ("before", "character", "expected"),
    [
        ("", "b", True),
        ("a (", "b", True),
        ("a", "b", False),
        ("3.", "b", True),
        ("3.", "5", False),
        ("3,", "5", False),
        ("a.", "5", True),
        ("京", "b", True),
    ],
)
def test_starts_word(before: str, character: str, expected: bool) -> None:
    """A word begins after what does not join it; a number not after a decimal point."""
    assert starts_word(before, character) == expected


@pytest.mark.parametrize(
    ("characters", "expected"),
    [
        ("aé京7.- \u0301\u200d😀", True),
        ("\n\r\t\x00\x1f\x7f\x85\xa0\u2003\u2028\u2029\u3000\ud800", False),
    ],
)
def test_fits_a_line(characters: str, expected: bool) -> None:
    """Control characters, surrogates and every space but the plain one are no part of a line."""
    assert {fits_a_line(character) for character in characters} == {expected}


@pytest.mark.parametrize(("characters", "expected"), [("aZé7_ßя", True), ("-. '京กあ한😀", False)])
def test_joins(characters: str, expected: bool) -> None:
    """Letters and digits join, except in scripts without spaces between words."""
    assert {joins(character) for character in characters} == {expected}
