"""Random streams, and the sampling of one token from logits and a bitmask.

The target is the model's own distribution at the given temperature, restricted to the allowed
tokens: no top-k, no top-p. Knows arrays; knows no models or grammars.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DecodingError
from .backends.protocol import Logits
from .bitmask import Mask, flags

_BLOCK = 256  # tokens
# Below this allowed mass, relative to the likeliest token, float32 weights lose their precision.
_MIN_MASS = 1e-25
_FEW = 64  # with less than a 64th of all tokens allowed, it is cheaper to gather their weights


class Sample(NamedTuple):
    """A sampled token, and the log of the allowed mass, None if it was not asked for."""

    token: int
    log_allowed_mass: float | None


class SamplingInputs(NamedTuple):
    """Inputs of sampling for some sequences, without their logits, in the order of the sequences.

    `masks` has a row for each, `uniforms` a number in [0, 1). `with_mass` says for which ones
    the allowed mass is computed; of the others only the logits of allowed tokens are read.
    """

    masks: NDArray[np.int32]
    temperature: float
    uniforms: Sequence[float]
    with_mass: Sequence[bool]

    def check(self, rows: int) -> None:
        """Raise ValueError unless they are the inputs of `rows` sequences.

        Example: `inputs.check(1)`
        """
        if not len(self.masks) == len(self.uniforms) == len(self.with_mass) == rows:
            raise ValueError("Each row needs logits, a mask and a number.")


def accept_by_weight(seed: int, row: int, attempt: int, log_weight: float) -> bool:
    """Return True with probability exp(`log_weight`): rejection sampling of one row.

    Rows sampled token by token under a mask follow the model's distribution divided by the
    allowed mass at each token. Accepted with that mass (von Neumann, 1951), they follow the
    model's own distribution restricted to valid rows. The random number has its own stream.

    Example: `accept_by_weight(0, row=7, attempt=0, log_weight=0.0)`
    """
    coin = np.random.SeedSequence(seed, spawn_key=(row, attempt, 1))
    return float(np.random.default_rng(coin).random()) < float(np.exp(log_weight))


def row_stream(seed: int, row: int, attempt: int = 0) -> np.random.Generator:
    """Return the random stream of one row, independent of every other row's.

    Streams are spawned from the job's seed by numpy's `SeedSequence` (O'Neill's seed_seq
    construction), so row 7 has the same random numbers in any batch.

    Example: `row_stream(0, 7).random() == row_stream(0, 7).random()`
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(row, attempt)))


def sample_rows(logits: Sequence[Logits], inputs: SamplingInputs) -> list[Sample]:
    """Sample a token for each sequence. Raises ValueError if `inputs` are of another number.

    Example: `sample_rows([logits], SamplingInputs(masks, 1.0, [0.5], [True]))[0].token`
    """
    inputs.check(len(logits))
    return [sample_row(of_row, inputs, row) for row, of_row in enumerate(logits)]


def sample_row(logits: Logits, inputs: SamplingInputs, row: int) -> Sample:
    """Sample a token for one of the sequences.

    Example: `sample_row(logits, SamplingInputs(masks, 1.0, [0.5], [True]), 0).token`
    """
    return sample(
        logits,
        inputs.masks[row],
        temperature=inputs.temperature,
        uniform=inputs.uniforms[row],
        with_mass=inputs.with_mass[row],
    )


def sample(
    logits: Logits, mask: Mask, *, temperature: float, uniform: float, with_mass: bool = True
) -> Sample:
    """Sample an allowed token by inverting the distribution function at `uniform` in [0, 1).

    `logits` has shape (vocabulary,). Temperature 0 takes the likeliest token. The allowed mass is
    that of the unmasked distribution at the same temperature (at 1 for 0); without `with_mass`
    it is None, and only the logits of allowed tokens are read.

    Raises DecodingError if no token is allowed, or if logits are not finite.

    Example: `sample(logits, mask, temperature=1.0, uniform=0.5).token`
    """
    allowed = flags(mask, len(logits))
    if not allowed.any():
        raise DecodingError(
            "Decoding cannot continue: no token is allowed.",
            hint="Simplify the pattern, or allow longer values.",
        )
    if not with_mass:
        logits = np.where(allowed, logits, np.float32(-np.inf))
    scaled = logits if temperature in (0, 1) else logits / np.float32(temperature)
    peak = _peak(scaled)
    weights = np.subtract(scaled, np.float32(peak))
    np.exp(weights, out=weights)  # the expensive pass over the vocabulary
    total = float(weights.sum())
    few = _few(allowed)
    weights = _restrict(weights, allowed, few)
    sums = _block_sums(weights)
    mass = float(sums[-1])
    if mass > _MIN_MASS:
        log_mass = min(0.0, math.log(mass / total))
    else:
        weights, top = _rescale(scaled, allowed, few)
        sums = _block_sums(weights)
        log_mass = top - peak + math.log(float(sums[-1]) / total)
    if temperature == 0:
        token = int(np.where(allowed, scaled, -np.inf).argmax())
    else:
        index = _invert(weights, sums, uniform)
        token = index if few is None else int(few[index])
    return Sample(token, log_mass if with_mass else None)


def _peak(scaled: Logits) -> float:
    peak = float(scaled.max())  # NaN if one logit is
    if peak == -math.inf:
        raise _impossible()
    if not math.isfinite(peak):
        raise DecodingError(
            "The model's logits are not finite numbers.",
            hint="The weights are damaged: download them again.",
        )
    return peak


def _restrict(weights: Logits, allowed: NDArray[np.bool_], few: NDArray[np.int64] | None) -> Logits:
    """The weights of allowed tokens: gathered if they are few, else with zeros between them."""
    if few is not None:
        return weights[few]
    weights *= allowed
    return weights


def _rescale(
    scaled: Logits, allowed: NDArray[np.bool_], few: NDArray[np.int64] | None
) -> tuple[Logits, float]:
    """The weights of allowed tokens relative to their own largest logit, and that logit."""
    top = float(scaled[allowed].max(initial=-np.inf))
    if not math.isfinite(top):
        raise _impossible()
    reached = scaled if few is None else scaled[few]
    weights = np.exp(np.minimum(reached - np.float32(top), 0))
    if few is None:
        weights *= allowed
    return weights, top


def _impossible() -> DecodingError:
    return DecodingError(
        "The model gives every allowed token a probability of zero.",
        hint="The weights are damaged: download them again.",
    )


def _few(allowed: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """The allowed tokens, if they are so few that gathering them is cheaper."""
    return np.flatnonzero(allowed) if np.count_nonzero(allowed) * _FEW <= len(allowed) else None


def _block_sums(weights: Logits) -> NDArray[np.float64]:
    """The cumulative sum of the weights at the end of each block.

    A cumulative sum over the whole vocabulary would cost more than the softmax.
    """
    starts = np.arange(0, len(weights), _BLOCK)
    return np.cumsum(np.add.reduceat(weights, starts), dtype=np.float64)


def _invert(weights: Logits, sums: NDArray[np.float64], uniform: float) -> int:
    """The first index at which the cumulative weight exceeds `uniform` of the total."""
    target = uniform * float(sums[-1])
    block = int(np.searchsorted(sums, target, side="right"))
    start = block * _BLOCK
    before = float(sums[block - 1]) if block else 0.0
    within = np.cumsum(weights[start : start + _BLOCK], dtype=np.float64)
    index = int(np.searchsorted(within, target - before, side="right"))
    # The two sums round differently, so the index may be past the last weight that is not 0.
    last = int(np.flatnonzero(weights[start : start + _BLOCK])[-1])
    return start + min(index, last)
