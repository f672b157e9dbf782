"""Random streams and the draw of one token from masked logits.

Knows arrays and nothing else. The target is the model's own distribution at the
given temperature, restricted to what the mask allows: no top-k, no top-p.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .model import Logits


@dataclass(frozen=True)
class Draw:
    """A token, and the log of the probability mass that the mask left to the model."""

    token: int
    log_allowed: float


def row_stream(seed: int, row: int, attempt: int = 0) -> np.random.Generator:
    """Return the random stream of one row, independent of every other row's.

    Streams are spawned from the run's seed by numpy's `SeedSequence`
    (O'Neill's seed_seq construction), so row 7 draws the same numbers in any batch.

    Example: `row_stream(0, 7).random() == row_stream(0, 7).random()`
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(row, attempt)))


def allowed_tokens(bitmask: NDArray[np.int32], vocabulary: int) -> NDArray[np.intp]:
    """Return the ids whose bit is set, ascending. `bitmask` has shape (ceil(vocabulary / 32),)."""
    bits = np.unpackbits(bitmask.view(np.uint8), bitorder="little", count=vocabulary)
    return np.flatnonzero(bits)


def draw(
    logits: Logits,
    allowed: NDArray[np.intp],
    *,
    temperature: float,
    uniform: float,
) -> Draw:
    """Draw one of the `allowed` ids by inverting the distribution function at `uniform` in [0, 1).

    `logits` has shape (vocabulary,). Temperature 0 takes the likeliest token.
    `log_allowed` is the log of the mass of the allowed tokens in the unmasked
    distribution at the same temperature (at temperature 1 when it is 0).

    Example: `draw(logits, np.array([3]), temperature=1, uniform=0.5).token == 3`
    """
    scaled = logits if temperature in (0, 1) else logits / np.float32(temperature)
    peak = float(scaled.max())
    total = float(np.exp(scaled - peak).sum(dtype=np.float64))
    weights = np.exp(scaled[allowed] - peak, dtype=np.float32).astype(np.float64)
    cumulative = np.cumsum(weights)
    mass = float(cumulative[-1])
    if mass == 0.0:  # every allowed token is below float32's reach: compare among themselves
        within = scaled[allowed].astype(np.float64)
        shift = float(within.max())
        cumulative = np.cumsum(np.exp(within - shift))
        log_allowed = shift - peak + float(np.log(cumulative[-1] / total))
    else:
        log_allowed = min(0.0, float(np.log(mass / total)))
    if temperature == 0:
        index = int(scaled[allowed].argmax())
    else:
        index = int(np.searchsorted(cumulative, uniform * cumulative[-1], side="right"))
    return Draw(int(allowed[min(index, len(allowed) - 1)]), log_allowed)
