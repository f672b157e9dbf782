"""Free text token by token: its end, its stops, and whole characters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from masks import allowed_by

from synthgen_local.engine.backends.random_model import RandomModel
from synthgen_local.engine.constraints.free_text import FreeTextConstraint
from synthgen_local.engine.constraints.vocabulary import VocabularyTable

TOKENIZER = RandomModel().tokenizer
PIECES = VocabularyTable(TOKENIZER)
END = PIECES.end_tokens[0]
STREAM = np.random.default_rng(0)


def write(tokens: Sequence[int], most: int = 99, stop: Sequence[str] = ()) -> FreeTextConstraint:
    """Free text that takes tokens until it is over."""
    free = FreeTextConstraint(PIECES, most, stop)
    for token in tokens:
        if free.is_terminated:
            break
        assert free.accept_token(token, STREAM) == ()
    return free


@pytest.mark.parametrize(
    ("written", "most", "stop", "text", "finished"),
    [
        (b"hello", 99, [], "hello", False),
        (b"hello", 5, [], "hello", True),
        (b"hello", 3, [], "hel", True),
        (b"a STOP b", 99, ["STOP"], "a ", True),
        (b"a STO", 99, ["STOP"], "a ", False),
        (b"one, two. three", 99, [".", ","], "one", True),
        ("a 京 b".encode(), 99, ["京"], "a ", True),
        ("é京😀".encode(), 99, [], "é京😀", False),
        ("é京😀".encode(), 4, [], "é", True),
        ("é京😀".encode()[:-1], 99, [], "é京", False),
    ],
)
def test_free_text(written: bytes, most: int, stop: list[str], text: str, finished: bool) -> None:
    """It ends at the first stop or after the most tokens, without the stop or half a character."""
    free = write(list(written), most, stop)

    assert (free.text(), free.is_terminated) == (text, finished)


def test_the_longer_of_two_stops_that_end_at_once() -> None:
    """The text is cut where the first of the stops begins."""
    assert write(list(b"a: END"), stop=["END", ": END"]).text() == "a"


def test_the_end_token_ends_and_writes_nothing() -> None:
    """An end token is the end, even of nothing."""
    assert (write([END]).is_terminated, write([END]).text()) == (True, "")
    assert write([*b"ab", END, *b"cd"]).text() == "ab"


def test_what_is_allowed() -> None:
    """All bytes may be written and the end said; no other special token may."""
    allowed = allowed_by(FreeTextConstraint(PIECES, 9), TOKENIZER.vocab_size)
    special = {t for t in range(TOKENIZER.vocab_size) if TOKENIZER.is_special_token(t)}

    assert allowed[:0xF5].all()  # UTF-8 has no byte beyond
    assert allowed[PIECES.end_tokens].all()
    assert special > set(PIECES.end_tokens)
    assert not allowed[list(special - set(PIECES.end_tokens))].any()


def test_the_logits_are_the_models_own() -> None:
    """Nothing is steered."""
    assert FreeTextConstraint(PIECES, 9).process_logits is None
