"""Random streams and the draw of one token from masked logits.

Knows arrays and nothing else. The target is the model's own distribution at the
given temperature, restricted to what the mask allows: no top-k, no top-p.
"""

from __future__ import annotations

import ctypes
import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import DecodingError
from .model import Logits

_BLOCK = 256  # tokens
_LEAST = 1e-25  # what allowed tokens weigh together, where the likeliest token weighs 1


@dataclass(frozen=True)
class Draw:
    """A token, and the log of the probability mass that the mask left to the model."""

    token: int
    log_allowed: float


class DrawFunction(Protocol):
    """`draw`, or what does the same."""

    def __call__(
        self, logits: Logits, allowed: NDArray[np.uint8], *, temperature: float, uniform: float
    ) -> Draw:
        """Draw a token."""
        ...


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


def allowed_tokens(bitmask: NDArray[np.int32], vocabulary: int) -> NDArray[np.uint8]:
    """Return 1 for each token whose bit is set and 0 for the others, shape (vocabulary,).

    `bitmask` is llguidance's: bit i of word i // 32, shape (ceil(vocabulary / 32),).
    """
    return np.unpackbits(bitmask.view(np.uint8), bitorder="little", count=vocabulary)


def draw(
    logits: Logits,
    allowed: NDArray[np.uint8],
    *,
    temperature: float,
    uniform: float,
) -> Draw:
    """Draw an allowed token by inverting the distribution function at `uniform` in [0, 1).

    `logits` and `allowed` have shape (vocabulary,); at least one token is allowed.
    Temperature 0 takes the likeliest token. `log_allowed` is the log of the mass of the
    allowed tokens in the unmasked distribution at the same temperature (at 1 for 0). Raises
    DecodingError for logits that are not numbers.

    Example: `draw(logits, allowed, temperature=1.0, uniform=0.5).token`
    """
    scaled = logits if temperature in (0, 1) else logits / np.float32(temperature)
    peak = float(scaled.max())  # NaN if one of them is
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
        summit = float(scaled[allowed != 0].max(initial=-np.inf))
        if not math.isfinite(summit):
            raise DecodingError(
                "The model takes all that may follow for impossible.",
                hint="Its weights are damaged: fetch it again.",
            )
        weights = np.exp(np.minimum(reached - np.float32(summit), 0))
        if tokens is None:
            weights *= allowed
        blocks = _block_sums(weights)
        log_allowed = summit - peak + math.log(float(blocks[-1]) / total)
    if temperature == 0:
        return Draw(_likeliest(scaled, allowed), log_allowed)
    index = _invert(weights, blocks, uniform)
    return Draw(index if tokens is None else int(tokens[index]), log_allowed)


def compiled_draw(library: str) -> DrawFunction:
    """Return `draw` as the library's `c/draw.c` computes it: three times as fast.

    What that leaves to numpy, temperature 0 among it, `draw` does. Raises DecodingError if the
    library cannot be loaded.

    Example: `compiled_draw(compile_kernels(folder))(logits, allowed, temperature=1.0, uniform=0.5)`
    """
    try:
        function = ctypes.CDLL(library).synthgen_draw
    except (OSError, AttributeError) as error:
        raise DecodingError(f"{library} cannot be loaded: {error}", hint="Delete it.") from error
    pointer, number = ctypes.c_void_p, ctypes.c_double
    function.argtypes = [pointer, pointer, ctypes.c_int, ctypes.c_float, number, pointer]

    def drawn(
        logits: Logits, allowed: NDArray[np.uint8], *, temperature: float, uniform: float
    ) -> Draw:
        if temperature > 0:
            one, other = np.ascontiguousarray(logits), np.ascontiguousarray(allowed)
            log_allowed = ctypes.c_double()
            arrays = one.ctypes.data, other.ctypes.data, len(one)
            token = function(*arrays, temperature, uniform, ctypes.addressof(log_allowed))
            if token >= 0:
                return Draw(token, log_allowed.value)
        return draw(logits, allowed, temperature=temperature, uniform=uniform)

    return drawn


def _few(allowed: NDArray[np.uint8]) -> NDArray[np.int64] | None:
    """The allowed tokens, if they are so few that it is cheaper to pick them out."""
    flags = allowed.view(np.bool_)
    return np.flatnonzero(flags) if np.count_nonzero(flags) * 64 <= len(flags) else None


def _likeliest(logits: Logits, allowed: NDArray[np.uint8]) -> int:
    return int(np.where(allowed != 0, logits, -np.inf).argmax())


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
