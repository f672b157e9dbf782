"""Log-probabilities of logits: log-sum-exp and KL divergence. Knows arrays, nothing else."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .backends.protocol import Logits

_Doubles: TypeAlias = NDArray[np.float64]


def log_sum_exp(values: NDArray[Any], axis: int | None = None) -> Any:
    """Return the logarithm of the sum of exponentials, in the values' type.

    With an `axis`, that dimension is kept with length 1.

    Example: `log_sum_exp(np.zeros(8)) == np.log(8)`
    """
    keepdims = axis is not None
    peak = values.max(axis=axis, keepdims=keepdims)
    return peak + np.log(np.exp(values - peak).sum(axis=axis, keepdims=keepdims))


def kl_divergence(logits: Logits, other: Logits) -> _Doubles:
    """Return the KL divergence, in nats, of each row of `other` from the same row of `logits`.

    Example: `kl_divergence(logits, logits).max() == 0`
    """
    p, q = _log_softmax(logits), _log_softmax(other)
    divergence: _Doubles = (np.exp(p) * (p - q)).sum(axis=-1)
    return divergence


def _log_softmax(logits: Logits) -> _Doubles:
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(axis=-1, keepdims=True)
    log_probabilities: _Doubles = shifted - log_sum_exp(shifted, axis=-1)
    return log_probabilities
