"""What each token of a vocabulary adds to a line of text: characters, words, sentence ends.

Knows tokens and what `line.py` says of text, not models.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray

from .text_rules import ENDS, STOPS, fits_a_line, joins

_DECIMALS = re.compile(r"[.,]\d")


class VocabularyTable:
    """Tables over a vocabulary, each of shape (vocabulary,).

    `line`: may follow a whole character. `whole`: and ends with one. `characters`, and
    `words` when a space stands before. `opens`: begins with a character that is no space,
    `closes`: ends with a space, `joins`: may go on with the word or number before it.
    `stops`: has a stop in it, or may; `stop`: is one stop and nothing else; `named`: begins as
    a name or a number does. `ends` and
    `ends_after_stop`: sentences that are over with the space that the token brings, after a
    letter and after a stop. `over` lists the tokens by which a model says that the line is
    over, `end_tokens` those of them that write nothing.

    Example: `VocabularyTable(model.tokenizer).characters[token]`
    """

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self.tokenizer = tokenizer
        size = tokenizer.vocab_size
        self.line, self.whole, self.opens, self.closes = np.zeros((4, size), dtype=bool)
        self.joins, self.stops, self.stop, self.named = np.zeros((4, size), dtype=bool)
        self.characters, self.words = np.zeros((2, size), dtype=np.int32)
        self.ends, self.ends_after_stop = np.zeros((2, size), dtype=np.int32)
        self.end_tokens: list[int] = list(tokenizer.eos_tokens)
        over = list(self.end_tokens)
        self._bytes: list[bytes] = []
        self._continuing: list[int] = []  # tokens that begin inside a character
        for token in range(size):
            piece = b"" if tokenizer.is_special_token(token) else tokenizer.decode_bytes([token])
            self._bytes.append(piece)
            if piece[:1] in (b"\n", b"\r"):
                over.append(token)
            elif piece and 0x80 <= piece[0] < 0xC0:
                self._continuing.append(token)
                self.characters[token] = _characters(piece)
            elif piece:
                self._add(token, piece)
        self.over = np.array(over)
        self.speech = np.array([bool(piece) for piece in self._bytes])
        self.speech[self.end_tokens] = True
        continuation = {bytes([byte]) for byte in range(0x80, 0xC0)}
        if not continuation <= set(self._bytes):  # a character that is begun could not be ended
            self.line &= self.whole
        self._after = lru_cache(maxsize=4096)(self._mask_after)

    def piece(self, token: int) -> bytes:
        """The bytes of a token; none for an end token or another special one."""
        return self._bytes[token]

    def tokens(self, text: str) -> tuple[int, ...]:
        """The tokens that the model would write a text with."""
        return tuple(self.tokenizer.tokenize_bytes(text.encode()))

    def after(self, unfinished: bytes) -> NDArray[np.bool_]:
        """Which tokens may follow the first bytes of a character."""
        return self._after(unfinished)

    def _add(self, token: int, piece: bytes) -> None:
        text, rest = _decode(piece)
        if text is None or not all(map(fits_a_line, text)):
            return
        self.line[token] = True
        self.whole[token] = not rest
        self.characters[token] = _characters(piece)
        self.words[token] = (
            len(text.split(" "))
            - text.split(" ").count("")
            + (bool(rest) and (not text or text.endswith(" ")))
        )
        self.opens[token] = text[:1] != " "
        self.closes[token] = not rest and text.endswith(" ")
        self.joins[token] = not text or joins(text[0]) or _DECIMALS.match(text) is not None
        self.stops[token] = any(stop in text for stop in STOPS) or bool(rest)
        self.stop[token] = text in tuple(STOPS)
        word = text.lstrip(" ")
        self.named[token] = (word[:1].isupper() or word[:1].isdigit()) and word != "I"
        self.ends[token] = _ends_before_space("x" + text)
        self.ends_after_stop[token] = _ends_before_space("x." + text)

    def _mask_after(self, unfinished: bytes) -> NDArray[np.bool_]:
        mask = np.zeros(len(self._bytes), dtype=bool)
        for token in self._continuing:
            text, _ = _decode(unfinished + self._bytes[token])
            mask[token] = text is not None and all(map(fits_a_line, text))
        return mask


def _decode(piece: bytes) -> tuple[str | None, bytes]:
    """The whole characters of some bytes, None if they cannot be UTF-8, and what is left over."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text, rest = decoder.decode(piece), decoder.getstate()[0]
    except UnicodeDecodeError:
        return None, b""
    surrogate = rest[:1] == b"\xed" and rest[1:2] >= b"\xa0"  # Python waits for the third byte
    return (None, b"") if surrogate else (text, rest)


def _characters(piece: bytes) -> int:
    """Characters that begin in these bytes."""
    return sum(not 0x80 <= byte < 0xC0 for byte in piece)


def _ends_before_space(text: str) -> int:
    return sum(match.end() < len(text) for match in ENDS.finditer(text))
