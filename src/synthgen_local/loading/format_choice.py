"""The choice of a weight format and of a batch from measurements. Knows numbers, no files."""

from __future__ import annotations

from collections.abc import Sequence

from ..engine.parallel_plan import BatchSettings
from .measurement import DEFAULT_BATCH, Measurement, Speed
from .weight_formats import AS_SHIPPED

MAX_KL = 0.01
"""The maximum KL divergence from the file as shipped: nats per token, mean over the held-out text.

A row of 50 sampled tokens is then half a nat from one of the shipped file, so by Pinsker's
inequality a reader guesses right at most 3 times in 4 which of the two it was sampled from.
Rounding alone stays below, and formats that visibly spoil rows (Q4_1 requantised to Q4_0) are far
above.
"""

MIN_GAIN = 1.1
"""The minimum speed-up over the file as shipped that is worth a second file on the disk."""

SPEED_TOLERANCE = 0.05
"""Formats whose speeds differ by less count as equally fast."""

BATCH_TOLERANCE = 0.02
"""The same for batches of one format, which are measured one right after the other."""


def choose_format(measured: Sequence[Measurement]) -> Measurement | None:
    """Return the fastest format within `MAX_KL` and `MIN_GAIN`; None is the file as shipped.

    Among equally fast formats it is the one nearest to the file as shipped.

    Example: `choose_format([Measurement("f16", 2, 0.001, 2.0, [])]).format == "f16"`
    """
    fit = [found for found in measured if _reason_against(found) is None]
    top = max((found.gain for found in fit), default=0)
    near = [found for found in fit if found.gain >= top * (1 - SPEED_TOLERANCE)]
    return min(near, key=lambda found: (found.kl, found.size), default=None)


def choose_batch(speeds: Sequence[Speed]) -> BatchSettings:
    """Return the smallest batch among the equally fast ones, the default without speeds.

    The smallest leaves the fewest slots idle at the end of a job, and its first row comes soonest.

    Example: `choose_batch([Speed(DEFAULT_BATCH, 1000.0)]) == DEFAULT_BATCH`
    """
    best = max((speed.tokens for speed in speeds), default=0)
    near = [speed.batch for speed in speeds if speed.tokens >= best * (1 - BATCH_TOLERANCE)]
    return min(near, key=lambda batch: batch.rows, default=DEFAULT_BATCH)


def explain_choice(found: Measurement, chosen: Measurement | None) -> str:
    """Return in a few words why a format was chosen, or why not.

    Example: `explain_choice(Measurement("f16", 2, 0.001, 1.02, []), None)`
    """
    if found == chosen or (chosen is None and found.format == AS_SHIPPED):
        return "kept"
    if reason := _reason_against(found):
        return reason
    assert chosen is not None
    if found.gain >= chosen.gain * (1 - SPEED_TOLERANCE):
        return f"no faster than {chosen.format}, and further from as shipped"
    return f"slower than {chosen.format}"


def _reason_against(found: Measurement) -> str | None:
    if found.format == AS_SHIPPED:
        return "slower"
    if not found.kl <= MAX_KL:  # NaN is refused as well
        return f"changes the model: KL above {MAX_KL}"
    if found.gain < MIN_GAIN:
        return f"less than {MIN_GAIN} times as fast as shipped"
    return None
