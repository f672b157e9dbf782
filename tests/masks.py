"""Masks as tests speak of them: a flag for each token."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from synthgen_local.engine.bitmask import Mask, flags, masks, write
from synthgen_local.engine.constraints.protocol import BatchBitmask, Constraint


def mask_of(allowed: ArrayLike) -> Mask:
    """The tokens whose flag is set."""
    chosen = np.asarray(allowed).astype(bool)
    mask: Mask = masks(1, len(chosen))[0]
    write(mask, chosen)
    return mask


def allowed_by(constraint: Constraint, vocabulary: int) -> NDArray[np.bool_]:
    """What may come next, shape (vocabulary,)."""
    return flags(BatchBitmask(1, vocabulary).fill([constraint])[0], vocabulary)
