"""Lengths: every spelling that is understood, and limits that cannot be kept."""

from __future__ import annotations

from typing import Any

import pytest

from synthgen_local import PromptError, SynthgenError
from synthgen_local.engine.backends.random_model import RandomModel
from synthgen_local.engine.constraints.text_length import Length, MentionedValue, Range
from synthgen_local.engine.constraints.vocabulary import VocabularyTable
from synthgen_local.errors import UsageError
from synthgen_local.prompting.length_limits import (
    Preferences,
    Wish,
    check_room,
    limits,
    read_preferences,
)

PIECES = VocabularyTable(RandomModel().tokenizer)


def entries(*values: str) -> list[MentionedValue]:
    return [MentionedValue.of(value, PIECES) for value in values]


def check(length: Length, *values: str) -> None:
    check_room(length, [(f"$[{i}]", entry) for i, entry in enumerate(entries(*values))])


@pytest.mark.parametrize(
    "key",
    ["minimum_length", "minimal length", "min_length", "minLength", "MIN LENGTH", "min-len",
     "Minimum number of characters", "min chars", "minCharacters", "at least characters",
     "minimum text size"],
)  # fmt: skip
def test_least_characters(key: str) -> None:
    """Every spelling of a least length is one."""
    assert read_preferences({key: 200}) == Preferences(
        [Wish("characters", minimum=200)], rest={}, unread=[]
    )


@pytest.mark.parametrize(
    "key",
    ["maximum_length", "max_length", "maxLength", "maximal length", "max len", "at most chars",
     "maximum character count"],
)  # fmt: skip
def test_most_characters(key: str) -> None:
    """Every spelling of a greatest length is one."""
    assert read_preferences({key: 200}).wishes == [Wish("characters", maximum=200)]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("min_words", 60, Wish("words", 60)),
        ("maximum words", 60, Wish("words", None, 60)),
        ("minWords", 60, Wish("words", 60)),
        ("words", 60, Wish("words", 54, 66)),
        ("word count", 5, Wish("words", 5, 5)),
        ("sentences", 3, Wish("sentences", 3, 3)),
        ("number of sentences", 30, Wish("sentences", 30, 30)),
        ("max sentences", 3, Wish("sentences", None, 3)),
        ("min_sentences", 3, Wish("sentences", 3)),
        ("length", 200, Wish("characters", 180, 220)),
        ("length", "60 words", Wish("words", 54, 66)),
        ("max length", "60 words", Wish("words", None, 60)),
        ("Length", " 2 Sentences ", Wish("sentences", 2, 2)),
        ("length in words", "60", Wish("words", 54, 66)),
        ("min_length", "200", Wish("characters", 200)),
        ("min_length", 200.0, Wish("characters", 200)),
        ("min_length", "200 chars", Wish("characters", 200)),
        ("min_length", 0, Wish("characters", 0)),
        ("max", "60 words", Wish("words", None, 60)),
    ],
)
def test_spellings(key: str, value: Any, expected: Wish) -> None:
    """Unit and bound come from key and value together; a bare length may be missed by a tenth."""
    assert read_preferences({key: value}) == Preferences([expected], rest={}, unread=[])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("length", "short"),
        ("min_length", "a lot"),
        ("min_length", 2.5),
        ("min_length", True),
        ("min_length", None),
        ("min words", "60 sentences"),
        ("min max length", 5),
        ("length", "60 pages"),
        ("longest word", 5),
        ("how long", 200),
        ("tokens length", 5),
    ],
)
def test_what_looks_like_a_length_and_is_none(key: str, value: Any) -> None:
    """What cannot be read goes into the prompt, and is reported as unread."""
    assert read_preferences({key: value}) == Preferences([], rest={key: value}, unread=[key])


@pytest.mark.parametrize(
    ("key", "value"), [("style", "gossip"), ("min", 5), ("max", "5"), ("language", "en"), ("", 5)]
)
def test_other_preferences_are_left_alone(key: str, value: Any) -> None:
    """Whatever names no length goes into the prompt as it is."""
    assert read_preferences({key: value}) == Preferences([], rest={key: value}, unread=[])


@pytest.mark.parametrize("preferences", [None, {}])
def test_no_preferences(preferences: dict[str, Any] | None) -> None:
    """No preferences are no wishes."""
    assert read_preferences(preferences) == Preferences([], rest={}, unread=[])


def test_preferences_are_sorted() -> None:
    """Lengths and the rest come apart, each in its order."""
    preferences = {"min_length": 9, "style": "gossip", "how long": "very", "max words": 5}

    assert read_preferences(preferences) == Preferences(
        [Wish("characters", 9), Wish("words", None, 5)],
        rest={"style": "gossip", "how long": "very"},
        unread=["how long"],
    )


@pytest.mark.parametrize(("key", "value"), [("min_length", -1), ("words", "-5"), ("max chars", -9)])
def test_negative_lengths_are_refused(key: str, value: Any) -> None:
    """A length below 0 is an error that names its key."""
    with pytest.raises(UsageError, match=key) as caught:
        read_preferences({key: value})

    assert caught.value.hint


@pytest.mark.parametrize(
    ("preferences", "expected"),
    [
        ({}, Length(Range(0, 300))),
        ({"min_length": 500}, Length(Range(500, 850))),
        ({"max_length": 50}, Length(Range(0, 50))),
        ({"length": 200}, Length(Range(180, 220))),
        ({"min_length": 5, "minimum length": 9, "max chars": 50, "maxLength": 40},
         Length(Range(9, 40))),
        ({"min words": 100}, Length(Range(0, 900), words=Range(100))),
        ({"max words": 10}, Length(Range(0, 300), words=Range(0, 10))),
        ({"sentences": 4}, Length(Range(0, 600), sentences=Range(4, 4))),
    ],
)  # fmt: skip
def test_limits(preferences: dict[str, Any], expected: Length) -> None:
    """The strictest wish of each unit holds; characters always have a bound."""
    assert limits(read_preferences(preferences).wishes, []) == expected


def test_values_make_the_bound_wider() -> None:
    """Without a greatest length there is room for three times the values."""
    values = entries("x" * 500, "y" * 500)

    assert limits([], values).longest > 3000
    check_room(limits([], values), [("$", entry) for entry in values])


@pytest.mark.parametrize(
    "preferences",
    [
        {"min_length": 10, "max_length": 9},
        {"min_words": 10, "max words": 9},
        {"min_sentences": 2, "max sentences": 1},
        {"max_length": 0},
        {"sentences": 0},
        {"min sentences": 6, "max words": 5},
        {"length": 100, "max_length": 50},
    ],
)
def test_contradictions_are_refused(preferences: dict[str, Any]) -> None:
    """No text is longer than it may be, and none is empty."""
    with pytest.raises(UsageError) as caught:
        limits(read_preferences(preferences).wishes, [])

    assert caught.value.hint


def test_a_value_that_is_too_long_is_named_by_its_path() -> None:
    """The error says which value and how long it is, and does not quote it."""
    with pytest.raises(PromptError, match=r"\$\[1\] has 40 characters.* 30") as caught:
        check(Length(Range(0, 30)), "short", "x" * 40)

    assert caught.value.hint
    assert "xx" not in str(caught.value)


@pytest.mark.parametrize(
    ("length", "values"),
    [
        (Length(Range(0, 20)), ["a" * 10, "b" * 10]),
        (Length(Range(0, 20), words=Range(10)), ["abc"]),
        (Length(Range(0, 99), words=Range(0, 3)), ["one two", "three"]),
        (Length(Range(0, 20), sentences=Range(8)), ["abc"]),
        (Length(Range(0, 99), words=Range(0, 3), sentences=Range(3)), ["a"]),
        (Length(Range(0, 99), sentences=Range(1)), ["..."]),
        (Length(Range(0, 99), sentences=Range(0, 3)), ["?!"]),
    ],
)
def test_what_no_text_holds_is_refused(length: Length, values: list[str]) -> None:
    """Values, words and sentences must fit together."""
    with pytest.raises(SynthgenError) as caught:
        check(length, *values)

    assert caught.value.hint


@pytest.mark.parametrize(
    ("length", "values"),
    [
        (Length(Range(0, 30)), ["a" * 10, "b" * 10]),
        (Length(Range(0, 15)), ["a" * 10, "a" * 10]),
        (Length(Range(30, 30)), ["a" * 10, "b" * 10]),
        (Length(Range(0, 99), words=Range(0, 4)), ["one two", "three"]),
        (Length(Range(0, 99)), ["..."]),
    ],
)
def test_what_a_text_holds_is_taken(length: Length, values: list[str]) -> None:
    """Equal values are held once; stops are values where sentences do not count."""
    check(length, *values)
