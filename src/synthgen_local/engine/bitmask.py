"""Bitmasks: sets of tokens with one bit each, in llguidance's layout.

Token t is bit t % 32 of word t // 32; a mask has ceil(vocabulary / 32) words. For 262,144 tokens
that is 32 KiB; their logits are 1 MiB. Knows bits; knows no grammars.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Mask: TypeAlias = NDArray[np.int32]
"""Shape (ceil(vocabulary / 32),)."""

assert sys.byteorder == "little", "masks are read as bytes"


def masks(rows: int, vocabulary: int) -> NDArray[np.int32]:
    """Return empty masks for a number of sequences, shape (rows, words).

    Example: `masks(2, 64).shape == (2, 2)`
    """
    return np.zeros((rows, -(-vocabulary // 32)), dtype=np.int32)


def flags(mask: Mask, vocabulary: int) -> NDArray[np.bool_]:
    """Return whether each token is in a mask, shape (vocabulary,).

    Example: `flags(np.array([5], dtype=np.int32), 3).tolist() == [True, False, True]`
    """
    bits = np.unpackbits(mask.view(np.uint8), bitorder="little", count=vocabulary)
    return bits.view(np.bool_)


def size(mask: Mask) -> int:
    """Return the number of tokens in a mask.

    Example: `size(np.array([5], dtype=np.int32)) == 2`
    """
    return int(np.bitwise_count(mask.view(np.uint32)).sum())


def allow_most(masks: NDArray[np.int32]) -> list[bool]:
    """Return whether each mask allows more than half of all tokens.

    Example: `allow_most(np.array([[5], [-1]], dtype=np.int32)) == [False, True]`
    """
    sizes = np.bitwise_count(masks.view(np.uint32)).sum(axis=1, dtype=np.int64)
    most: list[bool] = (sizes > 16 * masks.shape[1]).tolist()
    return most


def write(mask: Mask, flags: NDArray[np.bool_]) -> None:
    """Set a mask to the tokens whose flag is set.

    Example: `write(mask, logits > 0)`
    """
    packed = np.packbits(flags, bitorder="little")
    mask.view(np.uint8)[: len(packed)] = packed
    mask.view(np.uint8)[len(packed) :] = 0


def has(mask: Mask, tokens: Sequence[int] | NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether each of the given tokens is in a mask.

    Example: `has(np.array([5], dtype=np.int32), [0, 1]).tolist() == [True, False]`
    """
    tokens = np.asarray(tokens, dtype=np.int64)
    found: NDArray[np.bool_] = (mask[tokens >> 5] >> (tokens & 31)) & 1 != 0
    return found


def write_tokens(mask: Mask, tokens: Sequence[int] | NDArray[np.int64]) -> None:
    """Set a mask to the given tokens.

    Example: `write_tokens(mask, [0, 2])`
    """
    mask[:] = 0
    tokens = np.asarray(tokens, dtype=np.int64)
    np.bitwise_or.at(mask, tokens >> 5, _bits(tokens))


def remove(mask: Mask, tokens: Sequence[int] | NDArray[np.int64]) -> None:
    """Remove tokens from a mask.

    Example: `remove(mask, [0, 2])`
    """
    tokens = np.asarray(tokens, dtype=np.int64)
    np.bitwise_and.at(mask, tokens >> 5, ~_bits(tokens))


def _bits(tokens: NDArray[np.int64]) -> NDArray[np.int32]:
    return (np.int64(1) << (tokens & 31)).astype(np.uint32).view(np.int32)
