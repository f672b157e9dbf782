"""Permutation tests of the equality of two distributions (Fisher, 1935).

Numbers are compared by the Kolmogorov-Smirnov distance; texts by the total variation between the
shares of their most frequent values, and by the distance of their lengths.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FREQUENT = 30  # values counted separately; all others share one code
Codes = NDArray[np.float64]


def distance(one: Sequence[Any], other: Sequence[Any]) -> float:
    """Return the distance of two samples, from 0 to 1; texts by their frequent values.

    Example: `distance([1, 2], [1, 2]) == 0`
    """
    measure, codes = _encode([*one, *other])[0]
    return measure(codes[: len(one)], codes[len(one) :])


def p_value(
    one: Sequence[Any], other: Sequence[Any], *, rounds: int = 1000, seed: int = 0
) -> float:
    """Return the p-value of the hypothesis that both samples have one distribution.

    The minimum over the tests of a field, times their number (Bonferroni), at most 1.

    Example: `p_value([1, 2, 3], [1, 2, 3]) == 1`
    """
    stream = np.random.default_rng(seed)
    tests = _encode([*one, *other])
    found = []
    for measure, codes in tests:
        seen = measure(codes[: len(one)], codes[len(one) :])
        as_far = 0
        for _ in range(rounds):
            mixed = stream.permutation(codes)
            as_far += measure(mixed[: len(one)], mixed[len(one) :]) >= seen - 1e-12
        found.append((as_far + 1) / (rounds + 1))
    return min(1.0, min(found) * len(tests))


def _encode(values: Sequence[Any]) -> list[tuple[Callable[[Codes, Codes], float], Codes]]:
    """Return the distance measures and the values as numbers."""
    if all(isinstance(value, int | float) for value in values):
        return [(_kolmogorov, np.array(values, dtype=np.float64))]
    texts = [str(value) for value in values]
    frequent = {text: code for code, (text, _) in enumerate(Counter(texts).most_common(_FREQUENT))}
    codes = np.array([frequent.get(text, _FREQUENT) for text in texts], dtype=np.float64)
    return [(_variation, codes), (_kolmogorov, np.array([*map(len, texts)], dtype=np.float64))]


def _kolmogorov(one: Codes, other: Codes) -> float:
    places = np.concatenate([one, other])
    below = [np.searchsorted(np.sort(part), places, side="right") for part in (one, other)]
    return float(np.abs(below[0] / len(one) - below[1] / len(other)).max())


def _variation(one: Codes, other: Codes) -> float:
    shares = [np.bincount(part.astype(int), minlength=_FREQUENT + 1) for part in (one, other)]
    return float(np.abs(shares[0] / len(one) - shares[1] / len(other)).sum() / 2)
