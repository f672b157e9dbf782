"""Conversion of a GGUF file to another weight format by llama.cpp."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import llama_cpp

from ....errors import ModelError
from .library import error_log


def quantise(source: Path, target: Path, file_type: int, *, threads: int) -> None:
    """Write the weights of `source` to `target` in another format, by llama.cpp's number of it.

    Raises ModelError if llama.cpp cannot.

    Example: `quantise(Path("model.gguf"), Path("f16.gguf"), 1, threads=2)`
    """
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = file_type
    params.allow_requantize = True
    params.nthread = threads
    error_log.clear()
    status = llama_cpp.llama_model_quantize(
        os.fsencode(source), os.fsencode(target), ctypes.byref(params)
    )
    if status != 0:
        raise ModelError(
            f"{source.name} cannot be written in another format: {error_log.reason()}",
            hint="Use the weights as shipped.",
        )
