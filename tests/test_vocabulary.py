"""The tables over a vocabulary: each entry is what the token's own text says."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen_local import LocalModel
from synthgen_local.engine.backends.random_model import RandomModel
from synthgen_local.engine.constraints.text_rules import STOPS, ends_sentence, fits_a_line, joins
from synthgen_local.engine.constraints.vocabulary import VocabularyTable

BYTES = VocabularyTable(RandomModel().tokenizer)
TEXT = BYTES.text
CHARACTERS = st.characters(codec="utf-8")
MISFITS = "\x85\x80\xa0\u2003\u2028\u2029\u202f\u3000"


@cache
def beginnings() -> frozenset[bytes]:
    """All first bytes of characters that fit a line, short of the whole character."""
    blocks = (range(first, first + 64) for first in range(0x80, 0x110000, 64))  # of one last byte
    found = (next(filter(fits, block), None) for block in blocks)
    codes = [chr(code).encode() for code in found if code is not None]
    return frozenset(code[:size] for code in codes for size in range(1, len(code)))


def fits(code: int) -> bool:
    return not 0xD800 <= code < 0xE000 and fits_a_line(chr(code))


def split(data: bytes) -> tuple[str | None, bytes]:
    """The text of some bytes and the beginning of a character after it; None if it is no line."""
    for size in range(min(4, len(data) + 1)):
        head, tail = data[: len(data) - size], data[len(data) - size :]
        try:
            text = head.decode()
        except UnicodeDecodeError:
            continue
        if (not tail or tail in beginnings()) and all(map(fits_a_line, text)):
            return text, tail
    return None, b""


def ends(text: str) -> int:
    """Sentences that a space of the text closes."""
    return sum(c == " " and ends_sentence(text[:i]) for i, c in enumerate(text))


def assert_agrees(vocabulary: VocabularyTable, token: int) -> None:
    """Compare every table's entry with what the token's bytes say."""
    table = vocabulary.text
    text, rest = split(vocabulary.token_bytes(token))
    line = text is not None and vocabulary.token_bytes(token) != b""

    assert table.in_line[token] == line
    if not line or text is None:
        return
    assert table.complete[token] == (rest == b"")
    assert table.characters[token] == len(text) + bool(rest)
    assert table.words[token] == len((text + "x" * bool(rest)).split())
    assert table.starts_solid[token] == (not text.startswith(" "))
    assert table.ends_in_space[token] == (text.endswith(" ") and not rest)
    decimal = text[:1] in (".", ",") and text[1:2].isdecimal()
    assert table.continues_word[token] == (text == "" or joins(text[0]) or decimal)
    assert table.has_stop[token] == (bool(rest) or any(stop in text for stop in STOPS))
    assert table.is_stop[token] == (len(text) == 1 and text in STOPS)
    assert table.sentences[token] == ends(f"x{text}")
    assert table.sentences_after_stop[token] == ends(f"x.{text}")


def test_bytes() -> None:
    """Of a vocabulary of bytes, every token's entries are what the byte says."""
    for token in range(len(TEXT.in_line)):
        assert_agrees(BYTES, token)


@pytest.mark.model
def test_tokens_of_the_default_model(model: LocalModel) -> None:
    """Of a vocabulary of words, a sample of tokens have the entries that their text says."""
    for token in range(0, model.engine.tokenizer.vocab_size, 7):
        assert_agrees(model.vocabulary, token)


@pytest.mark.model
def test_the_line_of_the_default_model_has_its_words(model: LocalModel) -> None:
    """Most tokens may stand in a line; end tokens and line breaks say that it is over."""
    vocabulary = model.vocabulary

    assert vocabulary.text.in_line.mean() > 0.9
    assert not vocabulary.text.in_line[vocabulary.text.line_ends].any()
    assert {vocabulary.token_bytes(token)[:1] for token in vocabulary.text.line_ends} == {
        b"",
        b"\n",
        b"\r",
    }
    assert {vocabulary.token_bytes(token) for token in vocabulary.end_tokens} == {b""}


@pytest.mark.parametrize("size", [1, 2, 3])
def test_a_character_is_finished_as_a_line_allows(size: int) -> None:
    """After some bytes of a character come those, and only those, that lead to one that fits."""
    found = sorted(unfinished for unfinished in beginnings() if len(unfinished) == size)
    for unfinished in found[:: 1 if size < 3 else 50]:
        assert TEXT.completing(unfinished).nonzero()[0].tolist() == [
            byte for byte in range(256) if split(unfinished + bytes([byte]))[0] is not None
        ]


@pytest.mark.parametrize("character", [*MISFITS, "\udabc"])
def test_no_surrogate_control_or_space_is_finished(character: str) -> None:
    """Somewhere on the way through the bytes of such a character a mask says no."""
    data = character.encode(errors="surrogatepass")
    masks = [
        TEXT.in_line,
        *(TEXT.completing(data[:size]) for size in range(1, len(data))),
    ]

    assert not all(mask[byte] for mask, byte in zip(masks, data, strict=True))


@pytest.mark.model
@pytest.mark.parametrize("unfinished", ["\x85", "\u2028", "\ud7ff", "😀"])
def test_characters_of_the_default_model_are_finished(model: LocalModel, unfinished: str) -> None:
    """What may follow part of a character makes a line with it, and nothing else may follow."""
    vocabulary, data = model.vocabulary, unfinished.encode()
    for size in range(1, len(data)):
        expected = [
            token
            for token in range(model.engine.tokenizer.vocab_size)
            if vocabulary.token_bytes(token)
            and split(data[:size] + vocabulary.token_bytes(token))[0] is not None
        ]
        assert vocabulary.text.completing(data[:size]).nonzero()[0].tolist() == expected


@given(CHARACTERS)
def test_every_character_of_a_line_can_be_written(character: str) -> None:
    """Whatever fits a line is written byte by byte, each byte allowed."""
    data = character.encode()
    masks = [
        TEXT.in_line,
        *(TEXT.completing(data[:size]) for size in range(1, len(data))),
    ]
    allowed = all(mask[byte] for mask, byte in zip(masks, data, strict=True))

    assert allowed == fits_a_line(character)
