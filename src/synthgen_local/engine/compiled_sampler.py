"""Sampling by `csrc/sample.c`: equivalent to `sampling.sample`, and several times as fast.

A forward pass and its sampling may be one call (`csrc/decode_and_sample.c`), so that no thread
waits for the interpreter's lock between them. Knows arrays and the library's functions; does not
know what evaluates a pass.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import DecodingError
from .backends.protocol import Logits
from .sampling import Sample, SamplingInputs, sample_row, sample_rows

_POINTER, _INTEGER = ctypes.c_void_p, ctypes.c_int32


class _SamplingBatch(ctypes.Structure):
    """`sampling_batch` in `csrc/sample.h`."""

    _fields_ = (
        *((name, _INTEGER) for name in ("rows", "words", "vocabulary", "threads")),
        ("temperature", ctypes.c_float),
        *(
            (name, _POINTER)
            for name in ("masks", "uniforms", "with_mass", "tokens", "log_allowed_mass")
        ),
        ("seconds", ctypes.c_double),
    )


class _Buffers:
    """Arrays that the library reads and writes for some rows; they outlive the call."""

    def __init__(self, inputs: SamplingInputs, rows: int, vocabulary: int, threads: int) -> None:
        inputs.check(rows)
        self._inputs = inputs
        self._masks = np.ascontiguousarray(inputs.masks)
        self._uniforms = np.array(inputs.uniforms, dtype=np.float64)
        self._weighed = np.array(inputs.with_mass, dtype=np.uint8)
        self._tokens = np.empty(rows, np.int32)
        self._log_allowed = np.empty(rows, np.float64)
        sizes = rows, self._masks.shape[1], vocabulary, threads
        read = self._masks.ctypes.data, self._uniforms.ctypes.data, self._weighed.ctypes.data
        written = self._tokens.ctypes.data, self._log_allowed.ctypes.data
        self.batch = _SamplingBatch(*sizes, inputs.temperature, *read, *written)

    def found(self, logits: Sequence[Logits]) -> list[Sample]:
        """The samples; numpy samples from `logits` the rows that the library left out."""
        inputs = self._inputs
        tokens, log_allowed_mass = self._tokens.tolist(), self._log_allowed.tolist()
        found = [
            Sample(token, log if with_mass else None)
            for token, log, with_mass in zip(
                tokens, log_allowed_mass, inputs.with_mass, strict=True
            )
        ]
        for row in map(int, np.flatnonzero(self._tokens < 0)):
            found[row] = sample_row(logits[row], inputs, row)
        return found


class PassSamples(_Buffers):
    """The samples of one forward pass, each from one of its outputs."""

    def __init__(
        self,
        function: Any,
        inputs: SamplingInputs,
        outputs: Sequence[int],
        vocabulary: int,
        threads: int,
    ) -> None:
        super().__init__(inputs, len(outputs), vocabulary, threads)
        self._function = function
        self._outputs = np.array(outputs, dtype=np.int32)

    def make(self, decode: int, find: int, context: Any, batch: ctypes.Structure) -> int:
        """Evaluate the pass and sample; return the status that `decode` returns.

        `decode` and `find` are the addresses of `llama_decode` and `llama_get_logits`. If the
        status is not 0, nothing was sampled.

        Example: `samples.make(decode, find, context, batch) == 0`
        """
        samples, outputs = ctypes.byref(self.batch), self._outputs.ctypes.data
        status: int = self._function(decode, find, context, ctypes.byref(batch), outputs, samples)
        return status

    @property
    def seconds(self) -> float:
        """The time of sampling."""
        return float(self.batch.seconds)


class CompiledSampler:
    """Samples with a library that `kernels.compile_kernels` compiled.

    Temperature 0 and other special cases are left to `sampling.sample`. Raises DecodingError if the
    library cannot be loaded.

    Example: `CompiledSampler(library).rows([logits], inputs, threads=1)[0].token`
    """

    def __init__(self, library: str) -> None:
        try:
            loaded = ctypes.CDLL(library)
            self._sample, self._decode_and_sample = (
                loaded.synthgen_local_sample,
                loaded.synthgen_local_decode_and_sample,
            )
        except (OSError, AttributeError) as error:
            message = f"{library} cannot be loaded: {error}"
            raise DecodingError(message, hint="Delete that file.") from error
        if loaded.synthgen_local_sampling_batch_size() != ctypes.sizeof(_SamplingBatch):
            raise DecodingError(
                f"{library} has another struct of samples.", hint="Delete that file."
            )
        self._sample.argtypes, self._sample.restype = [_POINTER] * 2, None
        self._decode_and_sample.argtypes = [_POINTER] * 6
        self._decode_and_sample.restype = ctypes.c_int

    def rows(
        self, logits: Sequence[Logits], inputs: SamplingInputs, *, threads: int
    ) -> list[Sample]:
        """Sample a token for each row, as `sampling.sample_rows`.

        Example: `compiled.rows([logits], inputs, threads=1)[0].token`
        """
        if inputs.temperature == 0:
            return sample_rows(logits, inputs)
        arrays = [np.ascontiguousarray(row, dtype=np.float32) for row in logits]
        at = np.array([row.ctypes.data for row in arrays], dtype=np.uintp)
        buffers = _Buffers(inputs, len(arrays), len(arrays[0]), threads)
        self._sample(ctypes.byref(buffers.batch), at.ctypes.data)
        return buffers.found(arrays)

    def prepare_pass(
        self, inputs: SamplingInputs, outputs: Sequence[int], vocabulary: int, *, threads: int
    ) -> PassSamples:
        """Prepare to sample each row from one of a pass's outputs; the temperature is above 0.

        Example: `compiled.prepare_pass(inputs, [0], vocabulary=49152, threads=1)`
        """
        return PassSamples(self._decode_and_sample, inputs, outputs, vocabulary, threads)
