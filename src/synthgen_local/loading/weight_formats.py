"""The formats in which a model's weights can be held, and the one that this CPU likely prefers.

Knows formats and kernels; knows no measurements and no records.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..kernels.build import PLAIN, Kernels
from ..models.gguf import Header

AS_SHIPPED = "as-shipped"

INT8 = "int8"
"""8-bit integers with one scale for 192 of them; only `csrc/matmul.c` reads them."""

_FLOAT_TYPES = {0, 1, 32}  # llama.cpp's numbers of F32, F16 and BF16


@dataclass(frozen=True)
class WeightFormat:
    """A format: llama.cpp's number of it, and the maximum number of bits of a weight.

    For Q4_0 these are the bits of the Q6_K that llama.cpp gives the output layer. A format without
    a number exists in memory only.
    """

    file_type: int | None
    bits: float

    def size(self, parameters: int) -> int:
        """Return the maximum size in bytes of `parameters` weights.

        Example: `FORMATS["f16"].size(1000) == 2000`
        """
        return int(parameters * self.bits / 8)


FORMATS = {
    INT8: WeightFormat(None, 8.2),
    "bf16": WeightFormat(32, 16),
    "f16": WeightFormat(1, 16),
    "q8_0": WeightFormat(7, 8.5),
    "q4_0": WeightFormat(2, 6.6),
}


def kernel_formats(kernels: Kernels) -> list[str]:
    """Return the formats into which the kernels repack weights, the likely fastest first.

    Example: `kernel_formats(PLAIN) == []`
    """
    from ..engine.backends.llamacpp import repack_formats

    return repack_formats(kernels)


def likely_format(kernels: Kernels = PLAIN) -> str:
    """Return the format, of 8 bits or more, that this CPU is likely to multiply fastest.

    It is the kernels' own, if they have one. Without them llama.cpp multiplies 8 bits in AMX tiles;
    where there are none, 16 bits are faster, because unpacking weights costs more than it saves.

    Example: `likely_format() in FORMATS`
    """
    from ..engine.backends.llamacpp import system_info

    if formats := kernel_formats(kernels):
        return formats[0]
    features = system_info()
    if kernels.repack and "AMX_INT8" in features:
        return "q8_0"
    return "bf16" if "AVX512" in features else "f16"


def is_quantised(header: Header) -> bool:
    """Return whether the weights of a file are quantised, so that another format may be faster.

    Example: `is_quantised(read_header(Path("model.gguf")))`
    """
    kind = header.metadata.get("general.file_type")
    return isinstance(kind, int) and kind not in _FLOAT_TYPES
