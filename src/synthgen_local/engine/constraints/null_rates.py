"""How often a value is null, drawn at a given rate whatever the model thinks of it.

A grammar says where null may stand, and a language model has habits there rather than rates.
At each such place the mass of null is weighed against the mass of all other values; among these
the model chooses as ever. Knows tokens, JSON and lines of values with tabs between them, not
schemas.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray

from ..backends.protocol import Logits
from ..bitmask import Mask, flags, has, remove, size
from .grammar import Grammar, GrammarConstraint

_NO_TOKENS = np.empty(0, dtype=np.int64)


class Place(Protocol):
    """Where a value stands in a row."""

    @property
    def null_rate(self) -> float | None:
        """How often it is null, from 0 to 1; None where that is not to be steered."""
        ...

    def of_key(self, key: str) -> Place | None:
        """Where the value of a key of it stands."""
        ...

    def of_item(self, index: int) -> Place | None:
        """Where an item of it stands."""
        ...


class NullRates:
    """A grammar whose rows have null as often as `root` and the places within it say.

    Rows are JSON, or lines of the values of `columns`, keys of the root. At temperature 0 nothing
    is drawn, and the model's likeliest token stays the likeliest.

    Example: `NullRates(grammar, root, temperature=1.0).start()`
    """

    def __init__(
        self, grammar: Grammar, root: Place, temperature: float, columns: Sequence[str] = ()
    ) -> None:
        self._grammar = grammar
        self._root = root
        self._columns = columns
        self._temperature = temperature
        self._pieces = _Pieces(grammar.tokenizer)

    @property
    def forced_prefix(self) -> tuple[int, ...]:
        """The tokens that every row begins with."""
        return self._grammar.forced_prefix

    def start(self) -> NullRatesConstraint | GrammarConstraint:
        """A row that has its head."""
        row = self._grammar.start()
        if self._temperature == 0:
            return row
        scan = _LineScan(self._root, self._columns) if self._columns else _Scan(self._root)
        return NullRatesConstraint(row, scan, self._temperature, self._pieces)


class NullRatesConstraint:
    """A row with rates. A `Constraint`."""

    validate_token = None

    def __init__(
        self,
        row: GrammarConstraint,
        scan: _Scan | _LineScan,
        temperature: float,
        pieces: _Pieces,
    ) -> None:
        self._row = row
        self._temperature = temperature
        self._pieces = pieces
        self._scan = scan
        self._scan.read(row.text().encode())
        self._mask: Mask = np.empty(0, dtype=np.int32)
        self.matcher = row.matcher
        self.needs_full_logits = row.needs_full_logits
        self.text = row.text
        self.close = row.close

    @property
    def is_terminated(self) -> bool:
        """Whether the grammar admits nothing more."""
        return self._row.is_terminated

    def fill_bitmask(self, mask: Mask) -> None:
        """The grammar's mask, without tokens that write past a place where null may stand.

        So that each such place is a draw of its own.
        """
        self._row.fill_bitmask(mask)
        self._mask = mask
        long = self._scan.long(self._pieces)
        if not len(long):
            return
        long = long[has(mask, long)]
        skipping = [int(token) for token in long if self._skips(int(token))]
        if skipping and size(mask) > len(skipping):
            remove(mask, skipping)

    def process_logits(self, logits: Logits) -> Logits:
        """Give null its share of the mass."""
        rate = self._scan.null_rate
        if rate is None:
            return logits
        first, allowed = self._pieces.first, flags(self._mask, len(logits))
        null = allowed & (first == ord("n"))
        other = allowed & ~null & (first != ord("]"))
        if not null.any() or not other.any():
            return logits
        steered = logits.copy()
        if rate in (0, 1):
            steered[null if rate == 0 else other] = -np.inf
            return steered
        odds = np.log(rate / (1 - rate)) + self._mass(logits[other]) - self._mass(logits[null])
        steered[null] += np.float32(odds * self._temperature)
        return steered

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:
        """Accept a token and what the grammar forces after it."""
        forced = self._row.accept_token(token, stream)
        for taken in (token, *forced):
            self._scan.read(self._row.piece(taken))
        return forced

    def _skips(self, token: int) -> bool:
        """Whether a token writes up to such a place and on."""
        scan = self._scan.copy()
        for byte in self._row.piece(token)[:-1]:
            scan.read(bytes([byte]))
            if scan.null_rate is not None:
                return True
        return False

    def _mass(self, logits: Logits) -> float:
        """The log of what the tokens weigh together."""
        scaled = logits.astype(np.float64) / self._temperature
        peak = float(scaled.max())
        return peak + float(np.log(np.exp(scaled - peak).sum()))


class _Pieces:
    """Which tokens may write past the beginning of a value."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        pieces = [
            b"" if tokenizer.is_special_token(token) else tokenizer.decode_bytes([token])
            for token in range(tokenizer.vocab_size)
        ]
        self.first = np.array([piece[0] if piece else 0 for piece in pieces], dtype=np.uint8)
        self.outside = _matching(pieces, rb"[:,\[].")
        self.inside = _matching(pieces, rb'".*[:,\[].')
        self.beyond_tab = _matching(pieces, rb"\t.")


def _matching(pieces: Sequence[bytes], pattern: bytes) -> NDArray[np.int64]:
    found = re.compile(pattern, re.S)
    return np.array([token for token, piece in enumerate(pieces) if found.search(piece)], dtype=int)


@dataclass
class _Open:
    """A list or an object that has not ended: where it stands, and where a key's value will."""

    place: Place | None
    index: int | None  # of a list's item
    inner: Place | None = None


class _Scan:
    """Where in a JSON text the writing stands, byte by byte."""

    def __init__(self, root: Place) -> None:
        self._open: list[_Open] = []
        self._begins: Place | None = root  # the place of a value of which nothing is written
        self._awaits_key = False
        self._string: bytes | None = None
        self._escape = False

    @property
    def null_rate(self) -> float | None:
        """The rate of the value that begins here, None if none begins."""
        return None if self._begins is None else self._begins.null_rate

    def long(self, pieces: _Pieces) -> NDArray[np.int64]:
        """Tokens that may write past the beginning of a value from here."""
        return pieces.outside if self._string is None else pieces.inside

    def copy(self) -> _Scan:
        """A scan that goes its own way from here."""
        other = copy(self)
        other._open = [replace(one) for one in self._open]
        return other

    def read(self, text: bytes) -> None:
        """Go on over what has been written."""
        for byte in text:
            if self._string is None:
                self._outside(chr(byte))
            else:
                self._inside(bytes([byte]))

    def _outside(self, character: str) -> None:
        begins, self._begins = self._begins, None
        match character:
            case '"':
                self._string = b""
            case "{":
                self._open.append(_Open(begins, None))
                self._awaits_key = True
            case "[":
                self._open.append(_Open(begins, -1))
                self._next_item()
            case "," if self._open[-1].index is None:
                self._awaits_key = True
            case ",":
                self._next_item()
            case ":":
                self._begins = self._open[-1].inner
            case "]" | "}":
                self._open.pop()
                self._awaits_key = False

    def _next_item(self) -> None:
        top = self._open[-1]
        assert top.index is not None
        top.index += 1
        self._begins = None if top.place is None else top.place.of_item(top.index)

    def _inside(self, byte: bytes) -> None:
        assert self._string is not None
        if byte != b'"' or self._escape:
            self._escape = byte == b"\\" and not self._escape
            self._string += byte
            return
        if self._awaits_key:
            top = self._open[-1]
            key = json.loads(b'"' + self._string + b'"')
            top.inner = None if top.place is None else top.place.of_key(key)
            self._awaits_key = False
        self._string = None


class _LineScan:
    """Where in a line of values the writing stands."""

    def __init__(self, root: Place, columns: Sequence[str]) -> None:
        self._places = [root.of_key(name) for name in columns]
        steered = [place is not None and place.null_rate is not None for place in self._places]
        self._last = max((column for column, is_one in enumerate(steered) if is_one), default=-1)
        self._column = 0
        self._begins = True

    @property
    def null_rate(self) -> float | None:
        """The rate of the value that begins here, None if none begins."""
        place = self._places[self._column] if self._begins else None
        return None if place is None else place.null_rate

    def long(self, pieces: _Pieces) -> NDArray[np.int64]:
        """Tokens that may write past the beginning of a value from here."""
        return pieces.beyond_tab if self._column < self._last else _NO_TOKENS

    def copy(self) -> _LineScan:
        """A scan that goes its own way from here."""
        return copy(self)

    def read(self, text: bytes) -> None:
        """Go on over what has been written."""
        if text:
            self._column += text.count(b"\t")
            self._begins = text.endswith(b"\t")
