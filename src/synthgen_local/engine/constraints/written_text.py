"""The state of a text that is being written: its words and sentences, and what still fits.

Knows text and bytes; knows no tokens or logits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from .text_rules import ends_sentence, joins, sentences, starts_word, without_stops

_OPENERS = " \"'([{“«„/"  # characters after which a word may begin without a space


@dataclass
class WrittenText:
    """A text, and the bytes of a character that is not complete.

    `sentences` counts those that are followed by a space; `after_stop` is true where the text ends
    as a sentence does.
    """

    text: str = ""
    incomplete: bytes = b""
    words: int = 0
    sentences: int = 0
    after_stop: bool = False

    @classmethod
    def of(cls, data: bytes, values: Iterable[str]) -> WrittenText:
        """Return the state of some bytes; stops within `values` end no sentence."""
        text = data.decode(errors="ignore")
        incomplete = data[len(text.encode()) :]
        bare = without_stops(text, values)
        after_stop = ends_sentence(bare)
        begins_word = bool(incomplete and (not text or text[-1].isspace()))
        return cls(
            text=text,
            incomplete=incomplete,
            words=len(text.split()) + begins_word,
            sentences=sentences(bare) - after_stop,
            after_stop=after_stop,
        )

    @property
    def in_word(self) -> bool:
        """True if a letter would continue a word."""
        return bool(self.text) and joins(self.text[-1])

    @property
    def may_begin_word(self) -> bool:
        """True if a word may begin without a space before it."""
        return not self.text or self.text[-1].isspace() or self.text[-1] in _OPENERS


@dataclass
class Budget:
    """The length that remains after everything due is reserved; None means no limit."""

    characters: int
    words: int | None
    tokens: int


def is_final(text: str, end: int) -> bool:
    """Return whether nothing that may follow a text can join the word that ended at `end`.

    Example: `is_final("a blue car", 6) and not is_final("a blue", 6)`
    """
    after = text[end:]
    return len(after) > 1 or (bool(after) and after not in ".,")


def partial_value(value: str, text: str) -> int:
    """Return how many characters of a value the text ends with, as a word of its own; 0 for none.

    Example: `partial_value("blue", "a bl") == 2`
    """
    at = text.find(value[0], max(0, len(text) - len(value) + 1))
    while at >= 0:
        if value.startswith(text[at:]) and (
            not joins(value[0]) or starts_word(text[:at], value[0])
        ):
            return len(text) - at
        at = text.find(value[0], at + 1)
    return 0
