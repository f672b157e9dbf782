"""The draws of `csrc/sample.c`: those of `sampling.draw`, several times as fast.

A forward pass and its draws may be one call (`csrc/decode_and_sample.c`), so that no thread waits
for the interpreter's lock between them. Knows arrays and the library's two functions; does not
know what makes a pass.
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


class _Draws(ctypes.Structure):
    """`draws` in `csrc/sample.h`."""

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
    """What the library reads about some rows, and where it writes what it draws."""

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
        self.draws = _Draws(*sizes, inputs.temperature, *read, *written)

    def found(self, logits: Sequence[Logits]) -> list[Sample]:
        """What was drawn, by numpy where the library left it; `logits` are each row's."""
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
    """The draws after one pass, each from one of its outputs."""

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
        """Make the pass and draw; return the status that `decode` returns.

        `decode` and `find` are the addresses of `llama_decode` and `llama_get_logits`. If the
        status is not 0, nothing was drawn.

        Example: `draws.make(decode, find, context, batch) == 0`
        """
        draws, outputs = ctypes.byref(self.draws), self._outputs.ctypes.data
        status: int = self._function(decode, find, context, ctypes.byref(batch), outputs, draws)
        return status

    @property
    def seconds(self) -> float:
        """What the draws took."""
        return float(self.draws.seconds)


class CompiledSampler:
    """Draws by a library that `kernels.compile_kernels` made.

    What that leaves to numpy, temperature 0 among it, `sampling.draw` does. Raises DecodingError if
    the library cannot be loaded.

    Example: `CompiledSampler(library).rows([logits], inputs, threads=1)[0].token`
    """

    def __init__(self, library: str) -> None:
        try:
            loaded = ctypes.CDLL(library)
            self._draw, self._pass = (
                loaded.synthgen_local_sample,
                loaded.synthgen_local_decode_and_sample,
            )
        except (OSError, AttributeError) as error:
            message = f"{library} cannot be loaded: {error}"
            raise DecodingError(message, hint="Delete it.") from error
        if loaded.synthgen_local_sampling_batch_size() != ctypes.sizeof(_Draws):
            raise DecodingError(f"{library} has another struct of samples.", hint="Delete it.")
        self._draw.argtypes, self._draw.restype = [_POINTER] * 2, None
        self._pass.argtypes, self._pass.restype = [_POINTER] * 6, ctypes.c_int

    def rows(
        self, logits: Sequence[Logits], inputs: SamplingInputs, *, threads: int
    ) -> list[Sample]:
        """Sample a token for each row, as `sampling.sample_rows`.

        Example: `compiled.rows([logits], inputs, threads=1)[0].token`
        """
        if inputs.temperature == 0:
            return sample_rows(logits, inputs)
        kept = [np.ascontiguousarray(row, dtype=np.float32) for row in logits]
        at = np.array([row.ctypes.data for row in kept], dtype=np.uintp)
        buffers = _Buffers(inputs, len(kept), len(kept[0]), threads)
        self._draw(ctypes.byref(buffers.draws), at.ctypes.data)
        return buffers.found(kept)

    def prepare_pass(
        self, inputs: SamplingInputs, outputs: Sequence[int], vocabulary: int, *, threads: int
    ) -> PassSamples:
        """Prepare to draw for each row from one of a pass's outputs; the temperature is above 0.

        Example: `compiled.prepare_pass(inputs, [0], vocabulary=49152, threads=1)`
        """
        return PassSamples(self._pass, inputs, outputs, vocabulary, threads)
