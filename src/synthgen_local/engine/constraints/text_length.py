"""The length of a text and the values that it must mention: what `mentions.py` is asked to keep.

Knows text and the tokens of a value; knows no sampling.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

from .text_rules import fits_a_line, sentences
from .vocabulary import VocabularyTable

_SEPARATOR = 4  # characters reserved for each value in addition to its own


@dataclass(frozen=True)
class Range:
    """From `minimum` to `maximum`, both included; None means no limit."""

    minimum: int = 0
    maximum: int | None = None

    def holds(self, count: int) -> bool:
        """Return whether a count is in the range."""
        return self.minimum <= count and (self.maximum is None or count <= self.maximum)


@dataclass(frozen=True)
class Length:
    """The length of a text in characters, words and sentences; all three hold at once.

    Example: `Length(characters=Range(200, 1000))`
    """

    characters: Range
    words: Range = field(default=Range())
    sentences: Range = field(default=Range())

    @property
    def longest(self) -> int:
        """The most characters: every text is bounded."""
        assert self.characters.maximum is not None
        return self.characters.maximum

    def holds(self, text: str, values: Sequence[str] = ()) -> bool:
        """Return whether a text has the length; stops within `values` end no sentence."""
        return (
            self.characters.holds(len(text))
            and self.words.holds(len(text.split()))
            and self.sentences.holds(sentences(text, values))
        )


@dataclass(frozen=True)
class MentionedValue:
    """A value and its tokens, with a space before it and without one."""

    value: str
    spaced: tuple[int, ...]
    bare: tuple[int, ...]

    @classmethod
    def of(cls, value: str, vocabulary: VocabularyTable) -> MentionedValue:
        """Return a value with the tokens of a vocabulary."""
        return cls(value, vocabulary.tokens(f" {value}"), vocabulary.tokens(value))

    @cached_property
    def most_tokens(self) -> int:
        """The most tokens that it takes, with a comma."""
        return max(len(self.spaced), len(self.bare)) + 2

    @cached_property
    def reserved(self) -> int:
        """Characters that it takes, with a separator before it."""
        return len(self.value) + _SEPARATOR

    @cached_property
    def words(self) -> int:
        """Words that it adds, and one more if it ends in a space."""
        return len(self.value.split()) + self.value[-1:].isspace()

    @cached_property
    def is_plain(self) -> bool:
        """True if all its characters may stand in a line outside of values."""
        return all(map(fits_a_line, self.value))


def most_tokens(values: Sequence[MentionedValue], length: Length) -> int:
    """Return the most tokens that a text may take.

    Example: `most_tokens([], Length(Range(0, 100))) == 116`
    """
    return length.longest + sum(value.most_tokens for value in values) + 16
