"""A line of text: its characters, words and sentences, and where values stand in it.

A line has no control characters, and no white space but the plain space; within a value other
spaces may stand, such as the one that does not break. Words are what stands between spaces. A
sentence ends where one of `STOPS` stands, perhaps closed by quotes or brackets, before a
space or the end. Knows Unicode, not tokens.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from ...unicode_scripts import JOINING

STOPS = ".!?…。！？"  # noqa: RUF001 the stops of East Asia are wide
_CLOSERS = "\"')]}»”’"  # noqa: RUF001 quotes as people write them
ENDS = re.compile(rf"[{re.escape(STOPS)}]+[{re.escape(_CLOSERS)}]*(?= |$)")
_JOINING = re.compile(JOINING)
_HIDDEN = str.maketrans(dict.fromkeys(STOPS, "x"))


def fits_a_line(character: str) -> bool:
    """Return whether a character may stand in a line of text.

    Example: `fits_a_line("é") and not fits_a_line(chr(10))`
    """
    if character == " ":
        return True
    return not character.isspace() and unicodedata.category(character) not in {"Cc", "Cs"}


def fits_a_value(character: str) -> bool:
    """Return whether a character may stand in a value of a line: any space may, no line break.

    Example: `fits_a_value(chr(0xA0)) and not fits_a_value(chr(0x2028))`
    """
    return fits_a_line(character) or unicodedata.category(character) == "Zs"


def joins(character: str) -> bool:
    """Return whether a character makes one word with its neighbour of the same kind.

    Example: `joins("a") and joins("7") and not joins("-") and not joins("京")`
    """
    return _JOINING.match(character) is not None


def sentences(text: str, values: Iterable[str] = ()) -> int:
    """Return how many sentences of a text are over; stops inside `values` end none.

    Example: `sentences("He met Mr. Fox. Then", ["Mr. Fox"]) == 1`
    """
    bare = without_stops(text, values)
    return len(ENDS.findall(bare)) + (ends_sentence(text) and not ends_sentence(bare))


def without_stops(text: str, values: Iterable[str]) -> str:
    """Return a text with a letter for each stop that is part of one of `values`.

    Example: `without_stops("He met Mr. Fox.", ["Mr. Fox"]) == "He met Mrx Fox."`
    """
    characters = None
    for value in filter(hides_stops, values):
        for start, end in places(value, text):
            characters = characters or list(text)
            characters[start:end] = value.translate(_HIDDEN)
    return "".join(characters or text)


@lru_cache(maxsize=65536)
def hides_stops(value: str) -> bool:
    """Return whether a value has stops, which end no sentence, next to letters or digits.

    Example: `hides_stops("Mr. Fox") and not hides_stops("...")`
    """
    return any(stop in value for stop in STOPS) and any(map(str.isalnum, value))


def ends_sentence(text: str) -> bool:
    """Return whether the text stops where a sentence does.

    Example: `ends_sentence('He said "no."')`
    """
    return text.rstrip(_CLOSERS).endswith(tuple(STOPS))


def starts_word(before: str, character: str) -> bool:
    """Return whether a letter or digit after `before` begins a word or number.

    Example: `starts_word("a (", "b") and not starts_word("3.", "5")`
    """
    return re.search(_left(character) + r"\Z", before) is not None


def places(value: str, text: str) -> list[tuple[int, int]]:
    """Return where a value stands in a text as a word of its own: pairs of start and end.

    "5" stands neither in "15" nor in "5.2", "art" not in "artist".

    Example: `places("blue", "a blue, bluer blue") == [(2, 6), (14, 18)]`
    """
    found, at = [], text.find(value)
    while at >= 0:  # far faster than a search by the pattern, where the value is rare
        match = _pattern(value).match(text, at)
        if match:
            found.append(match.span())
        at = text.find(value, match.end() if match else at + 1)
    return found


@lru_cache(maxsize=65536)
def _pattern(value: str) -> re.Pattern[str]:
    left = _left(value[0]) if joins(value[0]) else ""
    right = ""
    if joins(value[-1]):
        right = rf"(?!{JOINING})" + (r"(?![.,]\d)" if value[-1].isdigit() else "")
    return re.compile(f"{left}{re.escape(value)}{right}")


def _left(character: str) -> str:
    return rf"(?<!{JOINING})" + (r"(?<!\d[.,])" if character.isdigit() else "")
