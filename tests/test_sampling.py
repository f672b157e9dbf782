"""Draws: the right distribution, from the right tokens, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from masks import mask_of

from synthgen_local.engine.sampling import row_stream, sample

VOCABULARY = 1000


def logits_of(seed: int, spread: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=VOCABULARY).astype(np.float32) * np.float32(
        spread
    )


@given(
    st.integers(0, 99), st.sets(st.integers(0, VOCABULARY - 1), min_size=1), st.floats(0, 0.999999)
)
def test_draws_only_what_is_allowed(seed: int, ids: set[int], uniform: float) -> None:
    """No token outside the mask is drawn, even when the mask leaves almost no mass."""
    allowed = np.zeros(VOCABULARY, dtype=np.uint8)
    allowed[list(ids)] = 1

    for spread in (0.0, 1.0, 100.0, 1e4):
        drawn = sample(logits_of(seed, spread), mask_of(allowed), temperature=1.0, uniform=uniform)
        assert drawn.token in ids
        assert drawn.log_allowed_mass <= 0


def test_frequencies_are_the_softmax() -> None:
    """Evenly spread uniforms give each token its share of the masked softmax."""
    logits = logits_of(0, 2.0)
    allowed = np.zeros(VOCABULARY, dtype=np.uint8)
    allowed[::100] = 1
    mask = mask_of(allowed)
    weights = np.exp(logits[::100].astype(float))
    expected = weights / weights.sum()
    tokens = [
        sample(logits, mask, temperature=1.0, uniform=(i + 0.5) / 5000).token for i in range(5000)
    ]

    counts = np.bincount(tokens, minlength=VOCABULARY)[::100] / 5000
    assert np.abs(counts - expected).max() < 1e-3


def test_temperature_sharpens() -> None:
    """At temperature 0 the likeliest allowed token is drawn; at a high one, many are."""
    logits, allowed = logits_of(0, 2.0), np.ones(VOCABULARY, dtype=np.uint8)
    allowed[int(logits.argmax())] = 0
    mask = mask_of(allowed)
    best = int(np.where(allowed, logits, -np.inf).argmax())

    assert {sample(logits, mask, temperature=0, uniform=u / 9).token for u in range(9)} == {best}
    assert len({sample(logits, mask, temperature=9, uniform=u / 50).token for u in range(50)}) > 40


def test_log_allowed_is_the_mass_of_the_mask() -> None:
    """log_allowed_mass is 0 for a mask that allows all, and log of a half for half of the mass."""
    logits = np.zeros(VOCABULARY, dtype=np.float32)
    every = np.ones(VOCABULARY, dtype=np.uint8)
    half = every.copy()
    half[::2] = 0

    assert sample(
        logits, mask_of(every), temperature=1.0, uniform=0.3
    ).log_allowed_mass == pytest.approx(0)
    assert sample(
        logits, mask_of(half), temperature=1.0, uniform=0.3
    ).log_allowed_mass == pytest.approx(np.log(0.5))


def test_streams_are_independent() -> None:
    """Seed, row and attempt each change the stream, and the same three give the same one."""
    first = {row_stream(*key).random() for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]}

    assert len(first) == 4
    assert row_stream(5, 6, 7).random() == row_stream(5, 6, 7).random()
