"""One forward pass and its logits, of all tokens or of those in bitmasks.

Knows llama.cpp's context and the kernels' output head; knows no sequences.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import llama_cpp
import numpy as np

from ....errors import DecodingError
from ...bitmask import Mask
from ..protocol import Logits
from .library import error_log, pointer

DecodeFunction: TypeAlias = Callable[[Any, llama_cpp.llama_batch], int]
"""`llama_decode`, or a function that calls it and samples from its logits."""


class LogitsReader:
    """Evaluates batches in one context. `head` is the kernels' backend if it computes the logits.

    Example: `LogitsReader(None, 49152).forward(context, batch, [None], llama_cpp.llama_decode)`
    """

    def __init__(self, head: Any, vocabulary: int) -> None:
        self._head = head
        self._vocabulary = vocabulary

    def forward(
        self,
        context: Any,
        batch: llama_cpp.llama_batch,
        masks: Sequence[Mask | None],
        decode: DecodeFunction,
    ) -> Logits:
        """Return the logits of a batch's outputs, valid until the next call.

        An output with a mask needs only the logits of its tokens; the others may be anything.
        Raises DecodingError if llama.cpp fails.
        """
        error_log.clear()
        outputs = len(masks)
        if self._head is None or not outputs:
            status, computed = decode(context, batch), None
        else:
            addresses = [0 if mask is None else mask.ctypes.data for mask in masks]
            pointers = np.array(addresses, dtype=np.uintp)
            self._head.synthgen_local_set_logits_mask(outputs, pointer(pointers, ctypes.c_void_p))
            try:
                status = decode(context, batch)
            finally:
                computed = self._head.synthgen_local_take_logits()
        if status != 0:
            raise DecodingError(
                f"llama.cpp stopped with status {status}: {error_log.reason()}",
                hint="Use a smaller batch size, or download the model again.",
            )
        if outputs == 0:
            return np.empty((0, self._vocabulary), dtype=np.float32)
        found = computed or llama_cpp.llama_get_logits(context)
        return np.ctypeslib.as_array(found, shape=(outputs, self._vocabulary))
