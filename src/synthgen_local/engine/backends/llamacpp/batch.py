"""`llama_batch` structs from the tokens of steps. Knows positions and sequence ids."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from .library import pointer


@dataclass(frozen=True)
class TokenBatch:
    """Arrays of a `llama_batch`: for each token its position and its sequences.

    `sequences` holds the sequence ids of all tokens one after the other, `pointers` the address
    where each token's begin. `outputs` is 1 where logits are computed. The object must outlive
    the batches, which point into it.
    """

    token: NDArray[np.int32]
    position: NDArray[np.int32]
    sequences: NDArray[np.int32]
    pointers: NDArray[np.uintp]
    sizes: NDArray[np.int32]
    outputs: NDArray[np.int8]

    @classmethod
    def from_work(
        cls, work: Sequence[tuple[Sequence[int], Sequence[int]]], starts: Sequence[int]
    ) -> Self:
        """Lay out pairs of sequence ids and tokens, which begin at the positions `starts`.

        Logits are computed after the last token of each pair.

        Example: `TokenBatch.from_work([([1, 2], [5, 6])], [0])`
        """
        token: list[int] = []
        position: list[int] = []
        owners: list[int] = []
        offsets: list[int] = []
        sizes: list[int] = []
        outputs: list[int] = []
        for (sequences, tokens), start in zip(work, starts, strict=True):
            token += tokens
            position += range(start, start + len(tokens))
            offsets += [len(owners)] * len(tokens)
            sizes += [len(sequences)] * len(tokens)
            outputs += [0] * (len(tokens) - 1) + [1]
            owners += sequences
        all_owners = np.array(owners, dtype=np.int32)
        return cls(
            np.array(token, dtype=np.int32),
            np.array(position, dtype=np.int32),
            all_owners,
            all_owners.ctypes.data + np.array(offsets, dtype=np.uintp) * all_owners.itemsize,
            np.array(sizes, dtype=np.int32),
            np.array(outputs, dtype=np.int8),
        )

    def split(self, size: int) -> Iterator[tuple[llama_cpp.llama_batch, int]]:
        """Yield batches of at most `size` tokens, with the number of outputs of each.

        Example: `for batch, outputs in tokens.split(512): ...`
        """
        for start in range(0, len(self.token), size):
            part = slice(start, start + size)
            batch = llama_cpp.llama_batch(
                n_tokens=len(self.token[part]),
                token=pointer(self.token[part], llama_cpp.llama_token),
                embd=None,
                pos=pointer(self.position[part], llama_cpp.llama_pos),
                n_seq_id=pointer(self.sizes[part], ctypes.c_int32),
                seq_id=pointer(self.pointers[part], ctypes.POINTER(llama_cpp.llama_seq_id)),
                logits=pointer(self.outputs[part], ctypes.c_int8),
            )
            yield batch, int(self.outputs[part].sum())
