"""A line of prose that holds given values word for word and keeps to a length.

Tokens that begin a value not yet written gain a bonus, at word boundaries; it grows the
longer the value is due. What a token has gained, it is committed by: the rest of the value
then follows at once. Room for what is due is kept free, so that nothing is forced before the
length bound is near; there, the values follow as a list. A text ends where a sentence does.

Knows tokens and characters. Where the values come from is somebody else's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ...errors import DecodingError
from ..backends.protocol import Logits
from ..bitmask import Mask, write, write_tokens
from .text_rules import (
    STOPS,
    ends_sentence,
    fits_a_line,
    hides_stops,
    joins,
    places,
    sentences,
    starts_word,
    without_stops,
)
from .vocabulary import VocabularyTable

_SEPARATOR = 4  # characters kept free for each value beside its own
_LIST = 24  # characters of room at which the values that are due follow as a list
_STRETCH = 16  # characters of room in which no new word is begun
_EARLY = 0.6  # of the longest length: by then every value is due
_SPACING = 30  # characters from one value to the next where the length does not say
_BONUS, _BONUS_FOR_EACH_DUE, _MOST_BONUS = 2.0, 3.0, 15.0  # natural logarithms
_BONUS_FOR_ORDER = 3.0  # of each value that was given before it
_END_BONUS = 6.0
_STOP_BONUS = 3.0
_NAME_COST = 3.0  # of a name or number that no value has: the text is about its values
_PHRASE = 2  # tokens after which a token that has followed them before costs more
_REPEAT_COST = 4.0
_LIKELY, _UNLIKELY = 4.0, 8.0  # what is far less likely than the likeliest is made rare
_OPENERS = " \"'([{“«„/"  # what stands before a word without a space
_AT_EASE = 64  # characters of room at which a value that has just been written may be undone


@dataclass(frozen=True)
class Range:
    """From `minimum` to `maximum`, both included; None is no limit."""

    minimum: int = 0
    maximum: int | None = None


@dataclass(frozen=True)
class Length:
    """How long a text is, in characters, words and sentences at once.

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
        """Return whether a text is neither too short nor too long; stops in values end nothing."""
        return (
            _within(len(text), self.characters)
            and _within(len(text.split()), self.words)
            and _within(sentences(text, values), self.sentences)
        )


@dataclass(frozen=True)
class MentionedValue:
    """A value and the tokens that write it, after a space of their own and without one."""

    value: str
    spaced: tuple[int, ...]
    bare: tuple[int, ...]

    @classmethod
    def of(cls, value: str, pieces: VocabularyTable) -> MentionedValue:
        """The value in the model's own tokens."""
        return cls(value, pieces.tokens(f" {value}"), pieces.tokens(value))

    @cached_property
    def most_tokens(self) -> int:
        """What it may take, with a comma."""
        return max(len(self.spaced), len(self.bare)) + 2

    @cached_property
    def room(self) -> int:
        """Characters that it may take, with what stands before it."""
        return len(self.value) + _SEPARATOR

    @cached_property
    def words(self) -> int:
        """Words that it adds, and one more if it leaves a space for the next."""
        return len(self.value.split()) + self.value[-1:].isspace()

    @cached_property
    def is_plain(self) -> bool:
        """Whether its characters are those of a line anywhere: no other space than the usual."""
        return all(map(fits_a_line, self.value))


def most_tokens(values: Sequence[MentionedValue], length: Length) -> int:
    """Return the most tokens that a text may take.

    Example: `most_tokens([], Length(Range(0, 100))) == 116`
    """
    return length.longest + sum(entry.most_tokens for entry in values) + 16


@dataclass
class _Tail:
    """Where the writing stands."""

    text: str = ""
    unfinished: bytes = b""  # of a character
    words: int = 0
    ended: int = 0  # sentences, with the space after them
    after_stop: bool = False

    @property
    def in_word(self) -> bool:
        """Whether a letter would go on with a word."""
        return bool(self.text) and joins(self.text[-1])

    @property
    def spaced(self) -> bool:
        """Whether a word may begin without a space before it."""
        return not self.text or self.text[-1].isspace() or self.text[-1] in _OPENERS


@dataclass
class _Room:
    """What is left when everything due has been put aside."""

    characters: int
    words: int | None
    tokens: int


class MentionConstraint:
    """One text on its way; see the module for how. A `Constraint`.

    `temperature` is that of the draw, which the bonuses make up for.

    Example: `MentionConstraint(pieces, [MentionedValue.of("blue", pieces)], Length(Range(0, 200)))`
    """

    matcher = None
    needs_full_logits = True  # at the end tokens, and at how likely the likeliest is
    validate_token = None

    def __init__(
        self,
        pieces: VocabularyTable,
        values: Sequence[MentionedValue],
        length: Length,
        *,
        temperature: float = 1.0,
    ) -> None:
        self._pieces = pieces
        self._values = values
        self._stopped = [e.value for e in values if any(stop in e.value for stop in STOPS)]
        self._stopping = [entry.value for entry in values if hides_stops(entry.value)]
        self._open = list(values)  # those whose last mention may still be undone by what follows
        self._length = length
        self._heat = temperature or 1.0
        self._certain = temperature == 0
        self._most_tokens = most_tokens(values, length)
        self._comma = pieces.tokens(",")[0]
        self._bytes = b""
        self._history: list[int] = []
        self._followers: dict[tuple[int, ...], set[int]] = {}
        self._tokens = 0
        self._entering: list[tuple[int, ...]] = []  # ways to go on with a value that has begun
        self._candidates: dict[int, list[tuple[int, ...]]] = {}
        self._bonuses: dict[int, float] = {}
        self._only_in_values: set[int] = set()  # candidates that no other text may have
        self._whole = 0  # characters up to the last place where the text could have ended
        self._listed = False  # values have followed as a list: nothing but the end comes after
        self._tired = False  # the model would have ended the text
        self.is_terminated = False
        self._look()

    def text(self) -> str:
        """The text so far; when finished, up to where it ends."""
        return self._tail.text

    def close(self) -> None:
        """Nothing to give back."""

    def fill_bitmask(self, mask: Mask) -> None:
        """What keeps the promises whatever is drawn later."""
        pieces, room = self._pieces, self._room
        if self._entering:
            write_tokens(mask, [way[0] for way in self._entering])
        elif self._tail.unfinished:
            going_on = pieces.after(self._tail.unfinished)
            write(mask, going_on & (pieces.characters <= room.characters))
        else:
            write(mask, self._allowed())

    def _allowed(self) -> NDArray[np.bool_]:
        """Which tokens may come next where neither a value nor a character has been begun."""
        pieces, mask = self._pieces, self._fitting()
        mask[list(self._only_in_values)] = True
        if self._due and self._tight(_LIST):
            self._listed = True
            mask &= pieces.joins & (self._tail.in_word and not self._unsure)
            mask[list(self._candidates)] = True
            if self._tail.in_word:
                mask[self._comma] = True
        elif not self._due and (self._listed or self._tight(_STRETCH)):
            self._stretch(mask)
        if self._could_stop(self._tail.text):
            mask[pieces.end_tokens] = True
        if not mask.any():
            raise DecodingError("A text cannot go on within its limits.", hint="Widen its length.")
        return mask

    def process_logits(self, logits: Logits) -> Logits:
        """Add the bonuses; a line break is as good as an end token."""
        pieces = self._pieces
        unlikely = logits < logits.max() - np.float32(_LIKELY)
        steered: Logits = logits - np.float32(_UNLIKELY) * unlikely
        for token in self._followers.get(tuple(self._history[-_PHRASE:]), ()):
            steered[token] -= np.float32(_REPEAT_COST)
        over = _log_mass(logits[pieces.over])
        if ends_sentence(self._tail.text) and over > _log_mass(logits) - np.log(2):
            self._tired = True
        steered[pieces.end_tokens] = -np.inf
        steered[pieces.end_tokens[0]] = over + self._end_bonus() * self._heat
        if self._values and not self._tail.after_stop and self._tail.text:
            cost = _NAME_COST if self._due else 2 * _NAME_COST
            steered -= np.float32(cost * self._heat) * pieces.named
        if self._candidates and not self._entering:
            for token, bonus in self._bonuses.items():
                steered[token] = logits[token] + np.float32(bonus * self._heat)
        if not self._due and self._tight(_STRETCH):
            steered[pieces.stop] += np.float32(_STOP_BONUS * self._heat)
        return steered

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:
        """Write a token; a value that has begun by its bonus is written to its end."""
        if token in self._pieces.end_tokens:
            self.is_terminated = True
            return ()
        forced: list[int] = []
        if self._entering:
            ways = [way[1:] for way in self._entering if way[0] == token]
        elif token in self._candidates and self._commits(token, stream):
            ways = [way[1:] for way in self._candidates[token]]
        else:
            ways = []
        while ways and all(ways) and len({way[0] for way in ways}) == 1:
            forced.append(ways[0][0])
            ways = [way[1:] for way in ways]
        self._entering = ways if all(ways) else []
        self._bytes += b"".join(map(self._pieces.piece, (token, *forced)))
        self._tokens += 1 + len(forced)
        for written in (token, *forced):
            phrase = tuple(self._history[-_PHRASE:])
            self._followers.setdefault(phrase, set()).add(written)
            self._history.append(written)
        self._look()
        return forced

    def _commits(self, token: int, stream: np.random.Generator) -> bool:
        if self._tight(_LIST) or self._certain or token in self._only_in_values:
            return True
        return bool(stream.random() < -np.expm1(-self._bonuses[token]))

    def _look(self) -> None:
        """See what has been written and what is due."""
        self._tail = tail = self._read()
        text = tail.text
        self._look_for_values(text)
        self._room = self._left()
        if self._could_stop(text):
            if self._listed or self._tight(_STRETCH) or self._sentences_left() == 0:
                self.is_terminated = True
                return
            self._whole = len(text)
        elif self._whole and not self._due and self._tight(_STRETCH):
            self._tail.text = text[: self._whole]
            self.is_terminated = True
            return
        self._candidates, self._bonuses, self._only_in_values = {}, {}, set()
        if not self._entering and not tail.unfinished:
            self._offer()

    def _look_for_values(self, text: str) -> None:
        """See which values are due; a mention that nothing can undo is looked for once only."""
        due: list[MentionedValue] = []
        unsure: list[MentionedValue] = []
        for entry in self._open:
            held = places(entry.value, text)
            if not held:
                due.append(entry)
            elif joins(entry.value[-1]) and not any(_sure(text, end) for _, end in held):
                unsure.append(entry)
        self._due, self._unsure = due, unsure
        rest = {*due, *unsure}
        self._open = [entry for entry in self._open if entry in rest]

    def _read(self) -> _Tail:
        text = self._bytes.decode(errors="ignore")
        unfinished = self._bytes[len(text.encode()) :]
        bare = without_stops(text, self._stopping)
        after_stop = ends_sentence(bare)
        return _Tail(
            text=text,
            unfinished=unfinished,
            words=len(text.split()) + bool(unfinished and (not text or text[-1].isspace())),
            ended=sentences(bare) - after_stop,
            after_stop=after_stop,
        )

    def _left(self) -> _Room:
        tail, length = self._tail, self._length
        words = length.words.maximum
        written = len(tail.text) + bool(tail.unfinished)
        return _Room(
            characters=length.longest - written - 1 - sum(entry.room for entry in self._due),
            words=None if words is None else words - tail.words - sum(e.words for e in self._due),
            tokens=self._most_tokens - self._tokens - 2 - sum(e.most_tokens for e in self._due),
        )

    def _tight(self, characters: int) -> bool:
        room = self._room
        few_words = room.words is not None and room.words < 1
        return room.characters < characters or few_words or room.tokens < characters // 2

    def _sentences_left(self) -> int | None:
        """How many more sentences may end."""
        most = self._length.sentences.maximum
        return None if most is None else most - self._tail.ended - self._tail.after_stop

    def _could_stop(self, text: str) -> bool:
        """Whether a text that goes on from here may be over with `text`."""
        if self._due or self._tail.unfinished or not ends_sentence(text):
            return False
        length = self._length
        return (
            len(text) >= length.characters.minimum
            and len(text.split()) >= length.words.minimum
            and sentences(text, self._stopping) >= length.sentences.minimum
        )

    def _fitting(self) -> NDArray[np.bool_]:
        """Tokens that leave room for what is due and for what a minimum still asks for."""
        pieces, tail, room, length = self._pieces, self._tail, self._room, self._length
        mask: NDArray[np.bool_] = pieces.line.copy()
        if room.tokens <= self._missing() + 8:
            mask &= pieces.whole
        if room.characters < 128 or room.tokens < 1:
            mask &= pieces.characters <= (room.characters if room.tokens > 0 else 0)
        if self._unsure and not self._at_ease():
            mask &= ~pieces.joins
        words = pieces.words
        if tail.words and not tail.text[-1:].isspace():
            words = words - pieces.opens.astype(np.int32)
        if room.words is not None:
            mask &= words + pieces.closes <= room.words
        ends = pieces.ends_after_stop if tail.after_stop else pieces.ends
        if length.sentences.maximum is not None:
            last = length.sentences.maximum - 1 - tail.ended
            mask &= ends <= last
            if last <= 0 and not self._could_stop(f"{tail.text}."):
                mask &= ~pieces.stops
        if length.words.minimum or length.sentences.minimum > 1:
            mask &= self._keeping(words, ends)
        return mask

    def _at_ease(self) -> bool:
        """Whether there is room to write once more what the next letters may undo."""
        room, limits = self._room, self._length.sentences
        ends = limits.minimum - self._tail.ended
        counted = limits.minimum > 0 or limits.maximum is not None
        if counted and any(stop in entry.value for entry in self._unsure for stop in STOPS):
            return False  # the stops of a value that is undone would end sentences
        characters = room.characters - sum(entry.room for entry in self._unsure)
        tokens = room.tokens - sum(entry.most_tokens for entry in self._unsure)
        words = sum(entry.words for entry in self._unsure)
        return (
            min(characters, tokens) - self._missing() > _AT_EASE
            and (room.words is None or room.words - words > max(2, ends))
        )  # fmt: skip

    def _missing(self) -> int:
        """Characters that must still be written."""
        tail, length = self._tail, self._length
        words = max(0, length.words.minimum - tail.words)
        ends = max(0, length.sentences.minimum - tail.ended)
        return max(length.characters.minimum - len(tail.text), 2 * (words + ends))

    def _keeping(self, words: NDArray[np.int32], ends: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Tokens after which the missing words and sentences still fit, at two characters each.

        Half of a word (its space) or of an end (its stop) that is there already counts.
        """
        pieces, tail, length = self._pieces, self._tail, self._length
        aside = sum(entry.words for entry in self._due)
        words_missing = length.words.minimum - tail.words - aside - words
        ends_missing = length.sentences.minimum - 1 - tail.ended - ends
        needed = 2 * np.maximum(words_missing, 0) - ((words_missing > 0) & pieces.closes)
        stops = pieces.stop.copy()
        stops[[pieces.tokens(stop)[0] for stop in self._inner_stops()]] = False
        needed += 2 * np.maximum(ends_missing, 0) - ((ends_missing > 0) & stops)
        left = np.minimum(self._room.characters - pieces.characters, self._room.tokens - 1)
        kept: NDArray[np.bool_] = left >= needed
        if self._room.words is not None:  # a sentence has a word at least
            kept &= self._room.words - words >= np.maximum(ends_missing, 0) + pieces.closes
        return kept

    def _inner_stops(self) -> set[str]:
        """Stops that may be part of a value here, and so end no sentence."""
        return {
            character
            for value in self._stopped
            for index, character in enumerate(value)
            if character in STOPS and self._tail.text.endswith(value[:index])
        }

    def _stretch(self, mask: NDArray[np.bool_]) -> None:
        """Near the end: finish the word, then stop."""
        pieces, room = self._pieces, min(self._room.characters, self._room.tokens)
        if room > 0 and not self._could_stop(f"{self._tail.text}."):
            return
        mask &= pieces.joins & (room > 0 and not self._unsure and not self._listed)
        mask |= pieces.stop

    def _offer(self) -> None:
        """Find the tokens by which a value that is due may begin or go on here, and what follows.

        Values are told in the order in which they were given, if the model has no better idea.
        """
        tail, bonus = self._tail, self._due_bonus()
        keep = bool(self._unsure) and not self._at_ease()  # what was just written, as it is
        for rank, entry in enumerate(self._due):
            begun = _begun(entry.value, tail.text)
            ways = [self._pieces.tokens(entry.value[begun:])] if begun else []
            if tail.spaced or not joins(entry.value[0]):
                ways.append(entry.bare)
            if not tail.spaced and (not begun or self._tight(_LIST)):
                ways.append(entry.spaced)
            for way in ways:
                if keep and self._pieces.joins[way[0]]:
                    continue
                self._candidates.setdefault(way[0], []).append(way)
                if not entry.is_plain and not self._pieces.line[way[0]]:
                    self._only_in_values.add(way[0])
                self._bonuses.setdefault(way[0], max(0.0, bonus - _BONUS_FOR_ORDER * rank))

    def _due_bonus(self) -> float:
        """Grows with the values that an even spread would have written by now, and are not."""
        if not self._due:
            return 0.0
        count, length = len(self._values), self._length
        target = max(
            length.characters.minimum, sum(len(entry.value) + _SPACING for entry in self._values)
        )
        expected = count * len(self._tail.text) / min(target, _EARLY * length.longest)
        late = max(0.0, expected - (count - len(self._due))) + self._tired
        return min(_MOST_BONUS, _BONUS + _BONUS_FOR_EACH_DUE * late)

    def _end_bonus(self) -> float:
        target = max(self._length.characters.minimum, 160)
        return _END_BONUS * max(0.0, len(self._tail.text) / target - 1)


def _log_mass(logits: Logits) -> float:
    peak = logits.max()
    return float(peak + np.log(np.exp(logits - peak).sum()))


def _within(count: int, limits: Range) -> bool:
    return limits.minimum <= count and (limits.maximum is None or count <= limits.maximum)


def _sure(text: str, end: int) -> bool:
    """Whether nothing that may follow a text can join the word that ended at `end`."""
    after = text[end:]
    return len(after) > 1 or (bool(after) and after not in ".,")


def _begun(value: str, text: str) -> int:
    """How many characters of a value the text ends with, as a word of its own: 0 for none."""
    at = text.find(value[0], max(0, len(text) - len(value) + 1))
    while at >= 0:
        if value.startswith(text[at:]) and (
            not joins(value[0]) or starts_word(text[:at], value[0])
        ):
            return len(text) - at
        at = text.find(value[0], at + 1)
    return 0
