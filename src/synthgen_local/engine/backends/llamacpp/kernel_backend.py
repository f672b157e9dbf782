"""The compiled kernels as a ggml backend: loaded into llama.cpp, and enabled while a model opens.

Knows the library's functions and its format numbers; knows no contexts.
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import llama_cpp

from ....errors import DecodingError, ModelError
from ....kernels.build import Kernels
from .library import error_log

# The operators that the backend may take over: csrc/operators.h. The numbers after them are
# formats, with which it takes all operators.
NOTHING, ATTENTION, EVERYTHING = range(3)
FORMAT_NUMBERS = {"int8": 3, "bf16": 4}

_CPU_DEVICE = 0  # GGML_BACKEND_DEVICE_TYPE_CPU

_loaded: dict[str, Any] = {}  # backends by their library's path
_loading = threading.Lock()


@contextmanager
def enabled(kernels: Kernels, operators: int) -> Iterator[None]:
    """Let llama.cpp use the backend for models and contexts that this thread opens meanwhile.

    Raises ModelError for a weight format that the processor does not support.

    Example: `with enabled(kernels, ATTENTION): llama_cpp.llama_init_from_model(model, params)`
    """
    if kernels.compiled is None:
        yield
        return
    enable = load_backend(kernels.compiled).synthgen_local_enable_device
    try:
        if not enable(operators):
            raise ModelError(
                f"Our kernels do not support {kernels.weights} weights on this processor.",
                hint="Open the weights as shipped.",
            )
        yield
    finally:
        enable(NOTHING)


def repack_formats(kernels: Kernels) -> list[str]:
    """Return the formats into which the kernels repack weights here, the likely fastest first.

    Example: `repack_formats(PLAIN) == []`
    """
    if kernels.compiled is None:
        return []
    backend = load_backend(kernels.compiled)
    found = [
        name
        for name, number in FORMAT_NUMBERS.items()
        if backend.synthgen_local_enable_device(number)
    ]
    backend.synthgen_local_enable_device(NOTHING)
    preferred = backend.synthgen_local_preferred_format()
    return sorted(found, key=lambda name: FORMAT_NUMBERS[name] != preferred)


def load_backend(library: str) -> Any:
    """Return the backend of a library, loaded into llama.cpp once.

    Raises DecodingError if it cannot be loaded, or its structs differ from llama.cpp's.

    Example: `load_backend("kernels-0123.so")`
    """
    load = llama_cpp.llama_cpp._lib.ggml_backend_load
    load.argtypes, load.restype = [ctypes.c_char_p], ctypes.c_void_p
    with _loading:
        if library not in _loaded:
            backend = _declare(library)
            check_abi(backend)
            error_log.clear()
            if not load(os.fsencode(library)):
                raise DecodingError(
                    f"llama.cpp does not load {library}: {error_log.reason()}",
                    hint="Delete that file.",
                )
            _loaded[library] = backend
        return _loaded[library]


def _declare(library: str) -> Any:
    """The library with the types of its functions."""
    try:
        backend = ctypes.CDLL(library)
        backend.synthgen_local_enable_device.restype = ctypes.c_bool
        backend.synthgen_local_take_logits.restype = ctypes.POINTER(ctypes.c_float)
        backend.synthgen_local_take_error.restype = ctypes.c_char_p
        backend.synthgen_local_check_abi.restype = ctypes.c_char_p
        backend.synthgen_local_check_abi.argtypes = [ctypes.c_void_p]
    except (OSError, AttributeError) as error:
        raise DecodingError(
            f"{library} cannot be loaded: {error}", hint="Delete that file."
        ) from error
    return backend


def check_abi(backend: Any) -> None:
    """Raise DecodingError if ggml's private structs differ from the kernels' copy of them.

    Example: `check_abi(load_backend("kernels-0123.so"))`
    """
    device_by_type = llama_cpp.llama_cpp._lib.ggml_backend_dev_by_type
    device_by_type.argtypes, device_by_type.restype = [ctypes.c_int], ctypes.c_void_p
    if differing := backend.synthgen_local_check_abi(device_by_type(_CPU_DEVICE)):
        raise DecodingError(
            f"The installed llama.cpp has another layout of {differing.decode()} than the compiled "
            "kernels.",
            hint="Install a version of llama-cpp-python that this package was tested with.",
        )
