"""A llama.cpp context: one unified KV cache of a prefix and the sequences that continue it.

The prefix is sequence 0; slot `s` is sequence `s + 1`, forked by tagging the prefix's cells
without a copy. A token that several slots take together is one cell with several tags.

Attention is computed in one of three ways. llama.cpp's flash attention reads the KV cells row by
row and skips those of other rows. Without it, one matrix product takes all rows and all cells.
`csrc/attention.c` replaces flash attention where it is enabled: a matrix product over shared
cells, and each row's own cells apart. `csrc/matmul.c` repacks and multiplies the weights.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

import llama_cpp
import numpy as np

from ....errors import DecodingError
from ....system.memory import memory_hint
from ...bitmask import Mask
from ...compiled_sampler import CompiledSampler
from ...sampling import Sample, SamplingInputs, sample_rows
from ..protocol import ContextSize, Logits, Step, closed, decode_then_sample
from .batch import TokenBatch
from .library import address, error_log
from .logits import DecodeFunction, LogitsReader

MAX_SLOTS = llama_cpp.llama_max_parallel_sequences() - 1
"""The maximum number of sequences next to the prefix."""

F16, BF16 = 1, 30  # GGML_TYPE_F16, GGML_TYPE_BF16
_FLASH = llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED
_NO_FLASH = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED


@dataclass(frozen=True)
class ContextOptions:
    """Options of a context that do not depend on its size.

    `batch_tokens` is the maximum number of tokens in a forward pass, `cache_type` ggml's number
    of the type of keys and values, `head` the kernels' backend if it computes the logits.
    """

    flash: bool
    batch_tokens: int
    cache_type: int = F16
    sampler: CompiledSampler | None = None
    sampling_threads: int = 1
    head: Any = None


class LlamaContext:
    """One KV cache: sequence 0 is the prefix, sequence `slot + 1` a row.

    `sampling_seconds` is the time of sampling, also where it is a part of a pass.
    """

    def __init__(
        self, model: Any, vocabulary: int, size: ContextSize, options: ContextOptions
    ) -> None:
        if not 0 < size.slots <= MAX_SLOTS:
            raise DecodingError(
                f"A context has 1 to {MAX_SLOTS} slots, not {size.slots}.",
                hint="Use a smaller batch size.",
            )
        self.size = size
        self.sampling_seconds = 0.0
        self._sampler = options.sampler
        self._sampling_threads = options.sampling_threads
        self._vocabulary = vocabulary
        self._batch_tokens = options.batch_tokens
        self._reader = LogitsReader(options.head, vocabulary)
        self._lengths = [0] * (size.slots + 1)
        self._context = _init_context(model, size, options)
        self._memory = llama_cpp.llama_get_memory(self._context)

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Evaluate the prefix as sequence 0. Raises DecodingError if it is empty."""
        if not tokens:
            raise DecodingError("The prompt is empty.", hint="Write one.")
        llama_cpp.llama_memory_clear(self._memory, True)
        self._lengths[0] = 0
        logits: Logits = self._evaluate([([0], tokens)], [None], llama_cpp.llama_decode)[0]
        return logits

    def save_prefix(self) -> bytes:
        """The state of sequence 0, about 20 kB a token for a small model."""
        size = llama_cpp.llama_state_seq_get_size(self._context, 0)
        state = (ctypes.c_uint8 * size)()
        llama_cpp.llama_state_seq_get_data(self._context, state, size, 0)
        return bytes(state)

    def load_prefix(self, state: bytes, length: int) -> None:
        """Fill sequence 0 from a saved state, which is far cheaper than evaluation."""
        llama_cpp.llama_memory_clear(self._memory, True)
        data = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        if llama_cpp.llama_state_seq_set_data(self._context, data, len(state), 0) != len(state):
            raise DecodingError("llama.cpp cannot copy a prefix.", hint="Update llama-cpp-python.")
        self._lengths[0] = length

    def fork(self, slot: int) -> None:
        """Tag the prefix's cells with the slot's sequence."""
        sequence = slot + 1
        llama_cpp.llama_memory_seq_cp(self._memory, 0, sequence, -1, -1)
        self._lengths[sequence] = self._lengths[0]

    def release(self, slot: int) -> None:
        """Free the cells that the slot does not share, and untag the prefix's."""
        llama_cpp.llama_memory_seq_rm(self._memory, slot + 1, -1, -1)

    def decode(self, steps: Sequence[Step]) -> Logits:
        """One forward pass, or more if the steps exceed a batch."""
        return self._advance(steps, llama_cpp.llama_decode)

    def sample(self, logits: Sequence[Logits], inputs: SamplingInputs) -> list[Sample]:
        """Sample with the compiled kernels if there are any, else with numpy."""
        start = time.perf_counter()
        if self._sampler is None:
            samples = sample_rows(logits, inputs)
        else:
            samples = self._sampler.rows(logits, inputs, threads=self._sampling_threads)
        self.sampling_seconds += time.perf_counter() - start
        return samples

    def decode_and_sample(
        self, steps: Sequence[Step], outputs: Sequence[int], inputs: SamplingInputs
    ) -> tuple[list[Logits], list[Sample]]:
        """Decode and sample in one call, if the kernels are there and one pass is enough."""
        fits = sum(len(step.tokens) for step in steps) <= self._batch_tokens
        if self._sampler is None or inputs.temperature == 0 or not fits:
            return decode_then_sample(self, steps, outputs, inputs)
        threads = self._sampling_threads
        samples = self._sampler.prepare_pass(inputs, outputs, self._vocabulary, threads=threads)
        every = self._advance(
            steps, partial(samples.make, address("llama_decode"), address("llama_get_logits"))
        )
        self.sampling_seconds += samples.seconds
        logits = [every[output] for output in outputs]
        return logits, samples.found(logits)

    def close(self) -> None:
        """Free the context."""
        if self._context is not None:
            llama_cpp.llama_free(self._context)
            self._context = None

    def _advance(self, steps: Sequence[Step], decode: DecodeFunction) -> Logits:
        work = [([slot + 1 for slot in step.slots], step.tokens) for step in steps]
        return self._evaluate(work, [step.mask for step in steps], decode)

    def _evaluate(
        self,
        work: Sequence[tuple[Sequence[int], Sequence[int]]],
        masks: Sequence[Mask | None],
        decode: DecodeFunction,
    ) -> Logits:
        """The logits after each pair of sequences and tokens, as far as the masks need them."""
        if self._context is None:
            raise closed()
        starts = []
        for sequences, tokens in work:
            starts.append(start := self._lengths[sequences[0]])
            for sequence in sequences:
                self._lengths[sequence] = start + len(tokens)
        tokens_of_work = TokenBatch.from_work(work, starts)
        left = iter(masks)
        first, *others = (
            (batch, list(islice(left, outputs)))
            for batch, outputs in tokens_of_work.split(self._batch_tokens)
        )
        if not others:
            return self._reader.forward(self._context, *first, decode)
        parts = [
            self._reader.forward(self._context, *batch, decode).copy() for batch in (first, *others)
        ]
        return np.concatenate(parts)


def _init_context(model: Any, size: ContextSize, options: ContextOptions) -> Any:
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = size.cells
    params.n_batch = params.n_ubatch = options.batch_tokens
    params.n_seq_max = size.slots + 1
    params.n_outputs_max = size.slots + 1  # llama.cpp requires one for each sequence
    params.kv_unified = True
    params.type_k = params.type_v = options.cache_type
    params.flash_attn_type = _FLASH if options.flash else _NO_FLASH
    params.n_threads = params.n_threads_batch = size.threads
    params.no_perf = True
    error_log.clear()
    context = llama_cpp.llama_init_from_model(model, params)
    if context is None:
        raise DecodingError(
            f"llama.cpp cannot allocate a context of {size.cells} tokens: {error_log.reason()}",
            hint=f"Use a smaller batch size. {memory_hint()}",
        )
    return context
