"""Null rates: the probability with which a nullable value is null, whatever the model prefers.

A grammar says where null may stand; a language model has habits there instead of rates. Where a
nullable value begins, the logits are changed so that null gets the given probability; the model
chooses among all other values. Knows tokens, JSON and the compact layout; knows no schemas.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..backends.protocol import Logits
from ..bitmask import Mask, flags, has, remove, size
from ..logprobs import log_sum_exp
from .grammar import Grammar, GrammarConstraint
from .json_cursor import JsonCursor
from .vocabulary import VocabularyTable

_NO_TOKENS = np.empty(0, dtype=np.int64)


class Place(Protocol):
    """The place of a value in a row: the root, a property or an item."""

    @property
    def null_rate(self) -> float | None:
        """The probability of null, from 0 to 1; None leaves it to the model."""
        ...

    def of_key(self, key: str) -> Place | None:
        """Return the place of a property's value."""
        ...

    def of_item(self, index: int) -> Place | None:
        """Return the place of an item."""
        ...


class NullRates:
    """A grammar whose sequences have null at the rates of `root` and the places within it.

    Rows are JSON, or the compact layout with `columns`, keys of the root. At temperature 0 the
    likeliest token stays the likeliest, and rates have no effect.

    Example: `NullRates(grammar, vocabulary, root, temperature=1.0).start()`
    """

    def __init__(
        self,
        grammar: Grammar,
        vocabulary: VocabularyTable,
        root: Place,
        temperature: float,
        columns: Sequence[str] = (),
    ) -> None:
        self._grammar = grammar
        self._root = root
        self._columns = columns
        self._temperature = temperature
        self._skipping = _SkippingTokens(vocabulary)

    @property
    def forced_prefix(self) -> tuple[int, ...]:
        """The tokens that every sequence begins with."""
        return self._grammar.forced_prefix

    def start(self) -> NullRatesConstraint | GrammarConstraint:
        """Return the constraint of a new sequence, which has accepted the forced prefix."""
        row = self._grammar.start()
        if self._temperature == 0:
            return row
        columns = self._columns
        cursor = _CompactCursor(self._root, columns) if columns else _PlaceCursor(self._root)
        return NullRatesConstraint(row, cursor, self._temperature, self._skipping)


class NullRatesConstraint:
    """A sequence with null rates. A `Constraint`."""

    validate_token = None

    def __init__(
        self,
        row: GrammarConstraint,
        cursor: _PlaceCursor | _CompactCursor,
        temperature: float,
        skipping: _SkippingTokens,
    ) -> None:
        self._row = row
        self._temperature = temperature
        self._skipping = skipping
        self._cursor = cursor
        self._cursor.read(row.text().encode())
        self._mask: Mask = np.empty(0, dtype=np.int32)
        self.matcher = row.matcher
        self.needs_full_logits = row.needs_full_logits
        self.text = row.text
        self.close = row.close

    @property
    def is_terminated(self) -> bool:
        """True if the grammar allows no further token."""
        return self._row.is_terminated

    def fill_bitmask(self, mask: Mask) -> None:
        """Remove tokens that write past the beginning of a nullable value.

        Each such value then begins with a sampled token.
        """
        self._row.fill_bitmask(mask)
        self._mask = mask
        candidates = self._cursor.candidates(self._skipping)
        if not len(candidates):
            return
        candidates = candidates[has(mask, candidates)]
        skipping = [int(token) for token in candidates if self._skips_value(int(token))]
        if skipping and size(mask) > len(skipping):
            remove(mask, skipping)

    def process_logits(self, logits: Logits) -> Logits:
        """Give null the probability of its rate, where a nullable value begins."""
        rate = self._cursor.null_rate
        if rate is None:
            return logits
        first, allowed = self._skipping.first_byte, flags(self._mask, len(logits))
        null = allowed & (first == ord("n"))
        other = allowed & ~null & (first != ord("]"))
        if not null.any() or not other.any():
            return logits
        processed = logits.copy()
        if rate in (0, 1):
            processed[null if rate == 0 else other] = -np.inf
            return processed
        log_odds = np.log(rate / (1 - rate)) + self._mass(logits[other]) - self._mass(logits[null])
        processed[null] += np.float32(log_odds * self._temperature)
        return processed

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:
        """Accept a token and the grammar's fast-forward tokens after it."""
        forced = self._row.accept_token(token, stream)
        for accepted in (token, *forced):
            self._cursor.read(self._row.token_bytes(accepted))
        return forced

    def _skips_value(self, token: int) -> bool:
        """Return whether a token writes the beginning of a nullable value and more."""
        cursor = self._cursor.copy()
        for byte in self._row.token_bytes(token)[:-1]:
            cursor.read(bytes([byte]))
            if cursor.null_rate is not None:
                return True
        return False

    def _mass(self, logits: Logits) -> float:
        """Return the logarithm of the tokens' unnormalised probability."""
        return float(log_sum_exp(logits.astype(np.float64) / self._temperature))


class _SkippingTokens:
    """Tokens that may write past the beginning of a value, by where they are written."""

    def __init__(self, vocabulary: VocabularyTable) -> None:
        self.first_byte = vocabulary.first_byte
        self.outside_string = vocabulary.matching(rb"[:,\[].")
        self.in_string = vocabulary.matching(rb'".*[:,\[].')
        self.past_tab = vocabulary.matching(rb"\t.")


class _PlaceCursor:
    """The place of the value that begins at the end of a JSON text."""

    def __init__(self, root: Place) -> None:
        self._root = root
        self._json = JsonCursor()

    @property
    def null_rate(self) -> float | None:
        """The null rate of the value that begins here, None if none begins."""
        if not self._json.at_value:
            return None
        place: Place | None = self._root
        for step in self._json.path():
            if place is None:
                return None
            place = place.of_key(step) if isinstance(step, str) else place.of_item(step)
        return None if place is None else place.null_rate

    def candidates(self, tokens: _SkippingTokens) -> NDArray[np.int64]:
        """Return the tokens that may write past the beginning of a value from here."""
        return tokens.outside_string if self._json.string is None else tokens.in_string

    def copy(self) -> _PlaceCursor:
        """Return a cursor that reads on independently."""
        other = copy(self)
        other._json = self._json.copy()
        return other

    def read(self, text: bytes) -> None:
        """Advance over bytes that were written."""
        self._json.read(text)


class _CompactCursor:
    """The column of the value that begins at the end of a row in the compact layout."""

    def __init__(self, root: Place, columns: Sequence[str]) -> None:
        self._places = [root.of_key(name) for name in columns]
        nullable = [place is not None and place.null_rate is not None for place in self._places]
        self._last = max((column for column, is_one in enumerate(nullable) if is_one), default=-1)
        self._column = 0
        self._at_value = True

    @property
    def null_rate(self) -> float | None:
        """The null rate of the value that begins here, None if none begins."""
        place = self._places[self._column] if self._at_value else None
        return None if place is None else place.null_rate

    def candidates(self, tokens: _SkippingTokens) -> NDArray[np.int64]:
        """Return the tokens that may write past the beginning of a value from here."""
        return tokens.past_tab if self._column < self._last else _NO_TOKENS

    def copy(self) -> _CompactCursor:
        """Return a cursor that reads on independently."""
        return copy(self)

    def read(self, text: bytes) -> None:
        """Advance over bytes that were written."""
        if text:
            self._column += text.count(b"\t")
            self._at_value = text.endswith(b"\t")
