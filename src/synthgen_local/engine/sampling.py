"""Random streams and the draw of one token from masked logits.

Knows arrays and nothing else. The target is the model's own distribution at the
given temperature, restricted to what the mask allows: no top-k, no top-p.
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
_LEAST = 1e-25  # what allowed tokens weigh together, where the likeliest token weighs 1


class Draw(NamedTuple):
    """A token, and the log of the probability mass that the mask left to the model.

    That is None where it was not asked for.
    """

    token: int
    log_allowed: float | None


class DrawInputs(NamedTuple):
    """What the draws of some rows hang on beside their logits, in the order of the rows.

    `masks` has theirs in its rows, `uniforms` a number in [0, 1) for each. Of a row that is not
    `weighed` only the logits in its mask are read.
    """

    masks: NDArray[np.int32]
    temperature: float
    uniforms: Sequence[float]
    weighed: Sequence[bool]

    def check(self, rows: int) -> None:
        """Raise ValueError unless they are those of so many rows.

        Example: `inputs.check(1)`
        """
        if not len(self.masks) == len(self.uniforms) == len(self.weighed) == rows:
            raise ValueError("Each row needs logits, a mask and a number.")


def accepts(seed: int, row: int, attempt: int, log_weight: float) -> bool:
    """Return whether a row is kept by rejection sampling: with probability exp(`log_weight`).

    Rows drawn token by token under a mask follow the model's distribution divided by the mass
    that the mask left at each token; kept with that mass (von Neumann, 1951), they follow the
    model's own distribution restricted to what the mask allows. The coin is a stream of its own.

    Example: `accepts(0, row=7, attempt=0, log_weight=0.0)`
    """
    coin = np.random.SeedSequence(seed, spawn_key=(row, attempt, 1))
    return float(np.random.default_rng(coin).random()) < float(np.exp(log_weight))


def row_stream(seed: int, row: int, attempt: int = 0) -> np.random.Generator:
    """Return the random stream of one row, independent of every other row's.

    Streams are spawned from the run's seed by numpy's `SeedSequence`
    (O'Neill's seed_seq construction), so row 7 draws the same numbers in any batch.

    Example: `row_stream(0, 7).random() == row_stream(0, 7).random()`
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(row, attempt)))


def draw_rows(logits: Sequence[Logits], inputs: DrawInputs) -> list[Draw]:
    """Draw a token for each row by `draw`. Raises ValueError if a row lacks something.

    Example: `draw_rows([logits], DrawInputs(masks, 1.0, [0.5], [True]))[0].token`
    """
    inputs.check(len(logits))
    return [draw_row(of_row, inputs, row) for row, of_row in enumerate(logits)]


def draw_row(logits: Logits, inputs: DrawInputs, row: int) -> Draw:
    """Draw a token for one of the rows by `draw`.

    Example: `draw_row(logits, DrawInputs(masks, 1.0, [0.5], [True]), 0).token`
    """
    return draw(
        logits,
        inputs.masks[row],
        temperature=inputs.temperature,
        uniform=inputs.uniforms[row],
        weighed=inputs.weighed[row],
    )


def draw(
    logits: Logits, mask: Mask, *, temperature: float, uniform: float, weighed: bool = True
) -> Draw:
    """Draw an allowed token by inverting the distribution function at `uniform` in [0, 1).

    `logits` has shape (vocabulary,); `mask` has at least one token of it.
    Temperature 0 takes the likeliest token. `log_allowed` is the log of the mass of the
    allowed tokens in the unmasked distribution at the same temperature (at 1 for 0); None where
    the draw is not `weighed`, for which no other logits than the mask's are read. Raises
    DecodingError for logits that are not numbers, and for an empty mask.

    Example: `draw(logits, mask, temperature=1.0, uniform=0.5).token`
    """
    allowed = flags(mask, len(logits))
    if not allowed.any():
        raise DecodingError(
            "It cannot go on: no token is allowed.",
            hint="Simplify the pattern, or allow more room.",
        )
    if not weighed:
        seen = np.where(allowed, logits, np.float32(-np.inf))
        return Draw(draw(seen, mask, temperature=temperature, uniform=uniform).token, None)
    scaled = logits if temperature in (0, 1) else logits / np.float32(temperature)
    peak = float(scaled.max())  # NaN if one of them is
    if peak == -math.inf:
        raise _impossible()
    if not math.isfinite(peak):
        raise DecodingError(
            "The model's logits are not finite numbers.",
            hint="Its weights are damaged: fetch it again.",
        )
    weights = np.subtract(scaled, np.float32(peak))
    np.exp(weights, out=weights)  # the one pass over the vocabulary that costs: all else is cheap
    total = float(weights.sum())
    tokens = _few(allowed)
    if tokens is None:
        weights *= allowed
    else:
        weights = weights[tokens]
    blocks = _block_sums(weights)
    mass = float(blocks[-1])
    if mass > _LEAST:
        log_allowed = min(0.0, math.log(mass / total))
    else:  # allowed tokens are at the end of float32's reach: weigh them among themselves
        reached = scaled if tokens is None else scaled[tokens]
        summit = float(scaled[allowed].max(initial=-np.inf))
        if not math.isfinite(summit):
            raise _impossible()
        weights = np.exp(np.minimum(reached - np.float32(summit), 0))
        if tokens is None:
            weights *= allowed
        blocks = _block_sums(weights)
        log_allowed = summit - peak + math.log(float(blocks[-1]) / total)
    if temperature == 0:
        return Draw(int(np.where(allowed, scaled, -np.inf).argmax()), log_allowed)
    index = _invert(weights, blocks, uniform)
    return Draw(index if tokens is None else int(tokens[index]), log_allowed)


def _impossible() -> DecodingError:
    return DecodingError(
        "The model takes all that may follow for impossible.",
        hint="Its weights are damaged: fetch it again.",
    )


def _few(allowed: NDArray[np.bool_]) -> NDArray[np.int64] | None:
    """The allowed tokens, if they are so few that it is cheaper to pick them out."""
    return np.flatnonzero(allowed) if np.count_nonzero(allowed) * 64 <= len(allowed) else None


def _block_sums(weights: Logits) -> NDArray[np.float64]:
    """The sum of the weights up to the end of each block.

    A cumulative sum over the whole vocabulary would cost more than the softmax.
    """
    starts = np.arange(0, len(weights), _BLOCK)
    return np.cumsum(np.add.reduceat(weights, starts), dtype=np.float64)


def _invert(weights: Logits, blocks: NDArray[np.float64], uniform: float) -> int:
    """The first index at which the cumulative weight passes `uniform` of the whole."""
    target = uniform * float(blocks[-1])
    block = int(np.searchsorted(blocks, target, side="right"))
    start = block * _BLOCK
    before = float(blocks[block - 1]) if block else 0.0
    within = np.cumsum(weights[start : start + _BLOCK], dtype=np.float64)
    index = int(np.searchsorted(within, target - before, side="right"))
    last = int(np.flatnonzero(weights[start : start + _BLOCK])[-1])  # the sums round differently
    return start + min(index, last)
