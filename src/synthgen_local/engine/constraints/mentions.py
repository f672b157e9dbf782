"""Text that mentions given values word for word and keeps to a length.

Method. A token that begins a value not yet mentioned (*due*) gets a bonus at word boundaries; the
bonus grows the longer the value is due. A token sampled because of its bonus commits the text to
the value: its remaining tokens follow as fast-forward tokens. Characters, words and tokens for all
values that are due are reserved, so that nothing is forced before the length limit is near; there,
the values follow as a list. A text ends where a sentence ends.

Knows tokens and characters; does not know where the values come from.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...errors import DecodingError
from ..backends.protocol import Logits
from ..bitmask import Mask, write, write_tokens
from ..logprobs import log_sum_exp
from .text_length import Length, MentionedValue, most_tokens
from .text_rules import STOPS, ends_sentence, hides_stops, joins, places, sentences
from .vocabulary import VocabularyTable
from .written_text import Budget, WrittenText, is_final, partial_value

# Characters of the budget below which ...
_LIST_WITHIN = 24  # values that are due follow as a list
_FINISH_WITHIN = 16  # no new word begins
_REWRITE_WITHIN = 64  # a mention must not be changed by the letters after it
_EARLY = 0.6  # of the longest length: by then every value is late
_SPACING = 30  # characters from one value to the next where the length does not say
# Bonuses and penalties on logits, in nats.
_BONUS, _BONUS_FOR_EACH_DUE, _MOST_BONUS = 2.0, 3.0, 15.0
_BONUS_FOR_ORDER = 3.0  # less for each value before it
_END_BONUS = 6.0
_STOP_BONUS = 3.0
_NAME_COST = 3.0  # of names and numbers that no value has
_PHRASE = 2  # tokens: a token that followed the same two before costs _REPEAT_COST
_REPEAT_COST = 4.0
_LIKELY, _UNLIKELY = 4.0, 8.0  # a token _LIKELY below the likeliest costs _UNLIKELY more


class MentionConstraint:
    """A text with mentions; the module's docstring describes the method. A `Constraint`.

    Bonuses are multiplied by `temperature`, so that it does not change their effect.

    Example:
        `MentionConstraint(table, [MentionedValue.of("blue", table)], Length(Range(0, 200)))`
    """

    matcher = None
    needs_full_logits = True  # of end tokens, and of the likeliest token
    validate_token = None

    def __init__(
        self,
        vocabulary: VocabularyTable,
        values: Sequence[MentionedValue],
        length: Length,
        *,
        temperature: float = 1.0,
    ) -> None:
        self._vocabulary, self._table = vocabulary, vocabulary.text
        self._values = values
        self._values_with_stops = [
            e.value for e in values if any(stop in e.value for stop in STOPS)
        ]
        self._values_hiding_stops = [entry.value for entry in values if hides_stops(entry.value)]
        self._pending = list(values)  # without a mention that later text cannot change
        self._length = length
        self._temperature = temperature or 1.0
        self._greedy = temperature == 0
        self._most_tokens = most_tokens(values, length)
        self._comma = vocabulary.tokens(",")[0]
        self._bytes = b""
        self._history: list[int] = []
        self._followers: dict[tuple[int, ...], set[int]] = {}
        self._tokens = 0
        self._continuations: list[tuple[int, ...]] = []  # rests of a value that has partial
        self._candidates: dict[int, list[tuple[int, ...]]] = {}
        self._bonuses: dict[int, float] = {}
        self._only_in_values: set[int] = set()  # candidates that may not stand outside of values
        self._last_end = 0  # characters up to the last place where the text may end
        self._listed = False  # the rest of the values is written as a list; the text then ends
        self._model_ends = False  # the model prefers to end the text
        self.is_terminated = False
        self._update()

    def text(self) -> str:
        """Return the text so far; of a complete text, up to its end."""
        return self._written.text

    def close(self) -> None:
        """Release nothing."""

    def fill_bitmask(self, mask: Mask) -> None:
        """Allow the tokens after which all values and the length can still be kept."""
        table, budget = self._table, self._budget
        if self._continuations:
            write_tokens(mask, [rest[0] for rest in self._continuations])
        elif self._written.incomplete:
            completing = table.completing(self._written.incomplete)
            write(mask, completing & (table.characters <= budget.characters))
        else:
            write(mask, self._allowed())

    def _allowed(self) -> NDArray[np.bool_]:
        """Return the allowed tokens where neither a value nor a character is incomplete."""
        table, mask = self._table, self._fitting_tokens()
        mask[list(self._only_in_values)] = True
        if self._due and self._is_short(_LIST_WITHIN):
            self._listed = True
            mask &= table.continues_word & (self._written.in_word and not self._revocable)
            mask[list(self._candidates)] = True
            if self._written.in_word:
                mask[self._comma] = True
        elif not self._due and (self._listed or self._is_short(_FINISH_WITHIN)):
            self._finish_word(mask)
        if self._may_end(self._written.text):
            mask[self._vocabulary.end_tokens] = True
        if not mask.any():
            raise DecodingError(
                "A text cannot continue within its length.", hint="Allow a longer text."
            )
        return mask

    def process_logits(self, logits: Logits) -> Logits:
        """Add bonuses and penalties; line breaks count as the end token."""
        table = self._table
        unlikely = logits < logits.max() - np.float32(_LIKELY)
        processed: Logits = logits - np.float32(_UNLIKELY) * unlikely
        for token in self._followers.get(tuple(self._history[-_PHRASE:]), ()):
            processed[token] -= np.float32(_REPEAT_COST)
        line_end_mass = float(log_sum_exp(logits[table.line_ends]))
        if ends_sentence(self._written.text) and line_end_mass > float(
            log_sum_exp(logits)
        ) - np.log(2):
            self._model_ends = True
        processed[self._vocabulary.end_tokens] = -np.inf
        processed[self._vocabulary.end_tokens[0]] = (
            line_end_mass + self._end_bonus() * self._temperature
        )
        if self._values and not self._written.after_stop and self._written.text:
            cost = _NAME_COST if self._due else 2 * _NAME_COST
            processed -= np.float32(cost * self._temperature) * table.starts_name
        if self._candidates and not self._continuations:
            for token, bonus in self._bonuses.items():
                processed[token] = logits[token] + np.float32(bonus * self._temperature)
        if not self._due and self._is_short(_FINISH_WITHIN):
            processed[table.is_stop] += np.float32(_STOP_BONUS * self._temperature)
        return processed

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:
        """Accept a token; a value that its bonus has partial follows as fast-forward tokens."""
        if token in self._vocabulary.end_tokens:
            self.is_terminated = True
            return ()
        forced: list[int] = []
        if self._continuations:
            rests = [rest[1:] for rest in self._continuations if rest[0] == token]
        elif token in self._candidates and self._commits(token, stream):
            rests = [rest[1:] for rest in self._candidates[token]]
        else:
            rests = []
        while rests and all(rests) and len({rest[0] for rest in rests}) == 1:
            forced.append(rests[0][0])
            rests = [rest[1:] for rest in rests]
        self._continuations = rests if all(rests) else []
        self._bytes += b"".join(map(self._vocabulary.token_bytes, (token, *forced)))
        self._tokens += 1 + len(forced)
        for written in (token, *forced):
            phrase = tuple(self._history[-_PHRASE:])
            self._followers.setdefault(phrase, set()).add(written)
            self._history.append(written)
        self._update()
        return forced

    def _commits(self, token: int, stream: np.random.Generator) -> bool:
        """Return whether a candidate token was sampled because of its bonus."""
        if self._is_short(_LIST_WITHIN) or self._greedy or token in self._only_in_values:
            return True
        return bool(stream.random() < -np.expm1(-self._bonuses[token]))

    def _update(self) -> None:
        """Update the state after accepted tokens."""
        self._written = written = WrittenText.of(self._bytes, self._values_hiding_stops)
        text = written.text
        self._find_due(text)
        self._budget = self._remaining_budget()
        if self._may_end(text):
            if self._listed or self._is_short(_FINISH_WITHIN) or self._sentences_left() == 0:
                self.is_terminated = True
                return
            self._last_end = len(text)
        elif self._last_end and not self._due and self._is_short(_FINISH_WITHIN):
            self._written.text = text[: self._last_end]
            self.is_terminated = True
            return
        self._candidates, self._bonuses, self._only_in_values = {}, {}, set()
        if not self._continuations and not written.incomplete:
            self._find_candidates()

    def _find_due(self, text: str) -> None:
        """Find the values without a mention, and those whose mention later text may change."""
        due: list[MentionedValue] = []
        revocable: list[MentionedValue] = []
        for entry in self._pending:
            held = places(entry.value, text)
            if not held:
                due.append(entry)
            elif joins(entry.value[-1]) and not any(is_final(text, end) for _, end in held):
                revocable.append(entry)
        self._due, self._revocable = due, revocable
        pending = {*due, *revocable}
        self._pending = [entry for entry in self._pending if entry in pending]

    def _remaining_budget(self) -> Budget:
        """Return what may be written when all values that are due are reserved."""
        written, length = self._written, self._length
        words = length.words.maximum
        characters = length.longest - len(written.text) - bool(written.incomplete) - 1
        return Budget(
            characters=characters - sum(entry.reserved for entry in self._due),
            words=None
            if words is None
            else words - written.words - sum(e.words for e in self._due),
            tokens=self._most_tokens - self._tokens - 2 - sum(e.most_tokens for e in self._due),
        )

    def _is_short(self, characters: int) -> bool:
        """Return whether less than `characters`, or no word, is left of the budget."""
        budget = self._budget
        few_words = budget.words is not None and budget.words < 1
        return budget.characters < characters or few_words or budget.tokens < characters // 2

    def _sentences_left(self) -> int | None:
        """Return how many more sentences may end, None for any number."""
        most = self._length.sentences.maximum
        return None if most is None else most - self._written.sentences - self._written.after_stop

    def _may_end(self, text: str) -> bool:
        """Return whether the text may end as `text`."""
        if self._due or self._written.incomplete or not ends_sentence(text):
            return False
        length = self._length
        return (
            len(text) >= length.characters.minimum
            and len(text.split()) >= length.words.minimum
            and sentences(text, self._values_hiding_stops) >= length.sentences.minimum
        )

    def _fitting_tokens(self) -> NDArray[np.bool_]:
        """Return the tokens that leave enough for the values due and for the least length."""
        table, written, budget, length = self._table, self._written, self._budget, self._length
        mask: NDArray[np.bool_] = table.in_line.copy()
        if budget.tokens <= self._missing_characters() + 8:
            mask &= table.complete
        if budget.characters < 128 or budget.tokens < 1:
            mask &= table.characters <= (budget.characters if budget.tokens > 0 else 0)
        if self._revocable and not self._may_rewrite():
            mask &= ~table.continues_word
        words = table.words
        if written.words and not written.text[-1:].isspace():
            words = words - table.starts_solid.astype(np.int32)
        if budget.words is not None:
            mask &= words + table.ends_in_space <= budget.words
        ends = table.sentences_after_stop if written.after_stop else table.sentences
        if length.sentences.maximum is not None:
            last = length.sentences.maximum - 1 - written.sentences
            mask &= ends <= last
            if last <= 0 and not self._may_end(f"{written.text}."):
                mask &= ~table.has_stop
        if length.words.minimum or length.sentences.minimum > 1:
            mask &= self._keeping_minimum(words, ends)
        return mask

    def _may_rewrite(self) -> bool:
        """Return whether mentions that the next letters may change could be written again."""
        budget, limits = self._budget, self._length.sentences
        ends = limits.minimum - self._written.sentences
        counted = limits.minimum > 0 or limits.maximum is not None
        if counted and any(stop in entry.value for entry in self._revocable for stop in STOPS):
            return False  # stops of a mention that is changed would end sentences
        characters = budget.characters - sum(entry.reserved for entry in self._revocable)
        tokens = budget.tokens - sum(entry.most_tokens for entry in self._revocable)
        words = sum(entry.words for entry in self._revocable)
        return (
            min(characters, tokens) - self._missing_characters() > _REWRITE_WITHIN
            and (budget.words is None or budget.words - words > max(2, ends))
        )  # fmt: skip

    def _missing_characters(self) -> int:
        """Return the least number of characters that must still be written."""
        written, length = self._written, self._length
        words = max(0, length.words.minimum - written.words)
        ends = max(0, length.sentences.minimum - written.sentences)
        return max(length.characters.minimum - len(written.text), 2 * (words + ends))

    def _keeping_minimum(
        self, words: NDArray[np.int32], ends: NDArray[np.int32]
    ) -> NDArray[np.bool_]:
        """Return the tokens after which missing words and sentences fit, at two characters each.

        A space or a stop that the token ends in counts as one of the two.
        """
        table, written, length = self._table, self._written, self._length
        aside = sum(entry.words for entry in self._due)
        words_missing = length.words.minimum - written.words - aside - words
        ends_missing = length.sentences.minimum - 1 - written.sentences - ends
        needed = 2 * np.maximum(words_missing, 0) - ((words_missing > 0) & table.ends_in_space)
        stops = table.is_stop.copy()
        stops[[self._vocabulary.tokens(stop)[0] for stop in self._inner_stops()]] = False
        needed += 2 * np.maximum(ends_missing, 0) - ((ends_missing > 0) & stops)
        left = np.minimum(self._budget.characters - table.characters, self._budget.tokens - 1)
        kept: NDArray[np.bool_] = left >= needed
        if self._budget.words is not None:  # a sentence has a word at least
            kept &= self._budget.words - words >= np.maximum(ends_missing, 0) + table.ends_in_space
        return kept

    def _inner_stops(self) -> set[str]:
        """Return the stops that may belong to a value here, and then end no sentence."""
        return {
            character
            for value in self._values_with_stops
            for index, character in enumerate(value)
            if character in STOPS and self._written.text.endswith(value[:index])
        }

    def _finish_word(self, mask: NDArray[np.bool_]) -> None:
        """Restrict a mask to the end of the word and a stop, if the budget needs it."""
        table, budget = self._table, min(self._budget.characters, self._budget.tokens)
        if budget > 0 and not self._may_end(f"{self._written.text}."):
            return
        mask &= table.continues_word & (budget > 0 and not self._revocable and not self._listed)
        mask |= table.is_stop

    def _find_candidates(self) -> None:
        """Find the tokens that begin or continue a value that is due, with their bonuses.

        The bonus falls with the rank of a value, so that values tend to come in their order.
        """
        written, bonus = self._written, self._due_bonus()
        keeps = (
            bool(self._revocable) and not self._may_rewrite()
        )  # the last mention must not change
        for rank, entry in enumerate(self._due):
            partial = partial_value(entry.value, written.text)
            rests = [self._vocabulary.tokens(entry.value[partial:])] if partial else []
            if written.may_begin_word or not joins(entry.value[0]):
                rests.append(entry.bare)
            if not written.may_begin_word and (not partial or self._is_short(_LIST_WITHIN)):
                rests.append(entry.spaced)
            for rest in rests:
                if keeps and self._table.continues_word[rest[0]]:
                    continue
                self._candidates.setdefault(rest[0], []).append(rest)
                if not entry.is_plain and not self._table.in_line[rest[0]]:
                    self._only_in_values.add(rest[0])
                self._bonuses.setdefault(rest[0], max(0.0, bonus - _BONUS_FOR_ORDER * rank))

    def _due_bonus(self) -> float:
        """Return the bonus of values, which grows with the number of those that are late."""
        if not self._due:
            return 0.0
        count, length = len(self._values), self._length
        target = max(
            length.characters.minimum, sum(len(entry.value) + _SPACING for entry in self._values)
        )
        expected = count * len(self._written.text) / min(target, _EARLY * length.longest)
        late = max(0.0, expected - (count - len(self._due))) + self._model_ends
        return min(_MOST_BONUS, _BONUS + _BONUS_FOR_EACH_DUE * late)

    def _end_bonus(self) -> float:
        """Return the bonus of the end token, which grows with the length."""
        target = max(self._length.characters.minimum, 160)
        return _END_BONUS * max(0.0, len(self._written.text) / target - 1)
