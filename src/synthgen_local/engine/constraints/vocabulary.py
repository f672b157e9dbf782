"""Tables over a vocabulary: the bytes of each token, and what it adds to a line of text.

Knows tokens and the rules of `text_rules.py`; knows no models.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable
from functools import cached_property, lru_cache

import numpy as np
from llguidance import LLTokenizer
from numpy.typing import NDArray

from .text_rules import ENDS, STOPS, fits_a_line, joins

_DECIMALS = re.compile(r"[.,]\d")


class VocabularyTable:
    """The bytes of all tokens of a vocabulary; arrays are of shape (vocabulary,).

    `first_byte` is 0 for special tokens. `end_tokens` are the model's end tokens. `text_or_end` are
    the tokens that write text, and the end tokens.

    Example:
        >>> from synthgen_local.engine.backends.random_model import RandomModel
        >>> VocabularyTable(RandomModel().tokenizer).token_bytes(65)
        b'A'
    """

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self.tokenizer = tokenizer
        self.size: int = tokenizer.vocab_size
        self._bytes = [
            b"" if tokenizer.is_special_token(token) else tokenizer.decode_bytes([token])
            for token in range(self.size)
        ]
        self.end_tokens: list[int] = list(tokenizer.eos_tokens)
        self.first_byte = np.array([data[0] if data else 0 for data in self._bytes], np.uint8)
        self.text_or_end = np.array([bool(data) for data in self._bytes])
        self.text_or_end[self.end_tokens] = True

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of a token; none for an end token or another special one."""
        return self._bytes[token]

    def tokens(self, text: str) -> tuple[int, ...]:
        """Return the tokens into which the tokenizer splits a text."""
        return tuple(self.tokenizer.tokenize_bytes(text.encode()))

    def matching(self, pattern: bytes) -> NDArray[np.int64]:
        """Return the tokens in whose bytes a regular expression is found, in ascending order."""
        found = re.compile(pattern, re.S)
        return np.array([t for t, data in enumerate(self._bytes) if found.search(data)], dtype=int)

    @cached_property
    def text(self) -> TextTable:
        """The text that each token adds to a line; computed at first use."""
        return TextTable(self._bytes, self.end_tokens)


class TextTable:
    """The text that each token adds to a line: arrays of shape (vocabulary,).

    Of tokens that may follow a complete character:

    - `in_line`: the token may stand in a line; `complete`: and ends with a complete character;
    - `characters`; `words`, if a space stands before the token;
    - `starts_solid`: it begins with a character other than a space; `ends_in_space`;
    - `continues_word`: it may continue the word or number before it;
    - `has_stop`: it contains a stop or may contain one; `is_stop`: it is a single stop;
    - `starts_name`: it begins as a name or a number does;
    - `sentences` and `sentences_after_stop`: how many sentences its spaces close, where the text
      before it ends in a letter or in a stop.

    `line_ends` are the tokens by which a model ends a line: end tokens and line breaks.
    """

    def __init__(self, token_bytes: list[bytes], end_tokens: Iterable[int]) -> None:
        size = len(token_bytes)
        self._bytes = token_bytes
        self.in_line, self.complete, self.starts_solid, self.ends_in_space = _flags(4, size)
        self.continues_word, self.has_stop, self.is_stop, self.starts_name = _flags(4, size)
        self.characters, self.words = np.zeros((2, size), dtype=np.int32)
        self.sentences, self.sentences_after_stop = np.zeros((2, size), dtype=np.int32)
        line_ends = list(end_tokens)
        self._continuations: list[int] = []  # tokens that begin within a character
        for token, data in enumerate(token_bytes):
            if data[:1] in (b"\n", b"\r"):
                line_ends.append(token)
            elif data and 0x80 <= data[0] < 0xC0:
                self._continuations.append(token)
                self.characters[token] = _count_characters(data)
            elif data:
                self._add(token, data)
        self.line_ends = np.array(line_ends)
        # Without tokens for all continuation bytes, an incomplete character could not be completed.
        if not {bytes([byte]) for byte in range(0x80, 0xC0)} <= set(token_bytes):
            self.in_line &= self.complete
        self._completing = lru_cache(maxsize=4096)(self._mask_completing)

    def completing(self, incomplete: bytes) -> NDArray[np.bool_]:
        """Return the tokens that may follow the first bytes of a character."""
        return self._completing(incomplete)

    def _add(self, token: int, data: bytes) -> None:
        text, rest = _decode(data)
        if text is None or not all(map(fits_a_line, text)):
            return
        self.in_line[token] = True
        self.complete[token] = not rest
        self.characters[token] = _count_characters(data)
        begins_word = bool(rest) and (not text or text.endswith(" "))
        self.words[token] = len(list(filter(None, text.split(" ")))) + begins_word
        self.starts_solid[token] = text[:1] != " "
        self.ends_in_space[token] = not rest and text.endswith(" ")
        self.continues_word[token] = not text or joins(text[0]) or _DECIMALS.match(text) is not None
        self.has_stop[token] = any(stop in text for stop in STOPS) or bool(rest)
        self.is_stop[token] = text in tuple(STOPS)
        word = text.lstrip(" ")
        self.starts_name[token] = (word[:1].isupper() or word[:1].isdigit()) and word != "I"
        self.sentences[token] = _sentences_closed("x" + text)
        self.sentences_after_stop[token] = _sentences_closed("x." + text)

    def _mask_completing(self, incomplete: bytes) -> NDArray[np.bool_]:
        mask = np.zeros(len(self._bytes), dtype=bool)
        for token in self._continuations:
            text, _ = _decode(incomplete + self._bytes[token])
            mask[token] = text is not None and all(map(fits_a_line, text))
        return mask


def _flags(arrays: int, size: int) -> NDArray[np.bool_]:
    return np.zeros((arrays, size), dtype=bool)


def _decode(data: bytes) -> tuple[str | None, bytes]:
    """Return the complete characters and the bytes left over; None if they cannot be UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        text, rest = decoder.decode(data), decoder.getstate()[0]
    except UnicodeDecodeError:
        return None, b""
    surrogate = rest[:1] == b"\xed" and rest[1:2] >= b"\xa0"  # Python waits for the third byte
    return (None, b"") if surrogate else (text, rest)


def _count_characters(data: bytes) -> int:
    """Return how many characters begin in some bytes."""
    return sum(not 0x80 <= byte < 0xC0 for byte in data)


def _sentences_closed(text: str) -> int:
    """Return how many sentences are closed by a space within a text."""
    return sum(match.end() < len(text) for match in ENDS.finditer(text))
