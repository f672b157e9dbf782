"""What may come next: a word on one token is the mask's."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher

from synthgen_local.engine.backends.random_model import RandomModel
from synthgen_local.engine.bitmask import allow_most, flags, size
from synthgen_local.engine.constraints.grammar import Grammar
from synthgen_local.engine.constraints.protocol import BatchBitmask

TOKENIZER = RandomModel().tokenizer
VOCABULARY = TOKENIZER.vocab_size
STRINGS = LLMatcher.grammar_from_lark(r"""
start: "{" TEXT ":" TEXT "}"
TEXT: /"[^"\\\n]{2,9}"/
""")
ENDLESS = LLMatcher.grammar_from_lark(r'start: /[^"\t\n]{4,9}/')  # the end token may follow
NUMBERS = LLMatcher.grammar_from_lark('start: "{" /[0-9]{1,9}/ ("," /[0-9]{1,9}/){1,3} "}"')


@given(st.sampled_from([STRINGS, ENDLESS]), st.integers(0, 2**32 - 1))
def test_a_word_on_a_token_is_the_masks(grammar: str, seed: int) -> None:
    """Wherever a row says that it can tell, it says of each token what its mask says."""
    rng = np.random.default_rng(seed)
    masks, row, told = BatchBitmask(1, VOCABULARY), Grammar(TOKENIZER, grammar).start(), 0
    while not row.is_terminated:
        allowed = flags(masks.fill([row])[0], VOCABULARY)
        if row.validate_token:
            assert [row.validate_token(token) for token in range(VOCABULARY)] == allowed.tolist()
            told += 1
        row.accept_token(int(rng.choice(np.flatnonzero(allowed))), rng)
    assert told >= 2


def test_nothing_is_told_where_little_may_come_next() -> None:
    """After a border of values, and after what was forced, the mask is asked."""
    row, rng = Grammar(TOKENIZER, STRINGS).start(), np.random.default_rng(0)

    told = [row.validate_token is not None]
    for token in b'ab"':
        row.accept_token(token, rng)
        told.append(row.validate_token is not None)

    assert told == [False, True, True, False]
    assert row.text() == '{"ab":"'


def test_a_mask_that_nobody_asks_for_has_every_token() -> None:
    """No constraint, no limit; those beside it get theirs."""
    row = Grammar(TOKENIZER, NUMBERS).start()
    found = BatchBitmask(2, VOCABULARY).fill([None, row])
    every, digits = found

    assert flags(every, VOCABULARY).all()
    assert size(every) == VOCABULARY
    assert np.flatnonzero(flags(digits, VOCABULARY)).tolist() == list(b"0123456789")
    assert allow_most(found) == [True, False]
