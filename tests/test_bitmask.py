"""Masks: what is written into bits is read out of them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from masks import mask_of

from synthgen_local.engine.bitmask import flags, has, masks, remove, size, write, write_tokens

Tokens = st.sets(st.integers(0, 99), max_size=40)


@given(Tokens, Tokens)
def test_a_mask_is_a_set_of_tokens(chosen: set[int], others: set[int]) -> None:
    """Written by flags or by token, asked, counted and reduced as Python's sets are."""
    some, mask, same = sorted(others), masks(1, 100)[0], masks(1, 100)[0]
    same[:] = -1  # what was there does not matter
    write_tokens(mask, sorted(chosen))
    write(same, np.isin(np.arange(100), sorted(chosen)))
    assert (mask == same).all()
    assert set(np.flatnonzero(flags(mask, 100)).tolist()) == chosen
    assert has(mask, some).tolist() == [token in chosen for token in some]
    assert size(mask) == len(chosen)
    remove(mask, some)
    assert set(np.flatnonzero(flags(mask, 100)).tolist()) == chosen - others


def test_bits_are_llguidances() -> None:
    """Bit i of word i // 32 is token i, the last bit of a word among them."""
    mask = mask_of(np.isin(np.arange(70), [31, 35, 69]))
    assert mask.view(np.uint32).tolist() == [1 << 31, 1 << 3, 1 << 5]
