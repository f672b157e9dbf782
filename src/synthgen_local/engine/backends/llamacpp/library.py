"""The llama.cpp library: its build, its functions' addresses and its error messages.

Knows no models.
"""

from __future__ import annotations

import ctypes
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import llama_cpp
from numpy.typing import NDArray

_ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR


class ErrorLog:
    """Keeps llama.cpp's messages off the terminal, and remembers the first error since `clear`.

    Example: `error_log.reason()`
    """

    def __init__(self) -> None:
        self._error = ""
        self._callback: Callable[..., None] = llama_cpp.llama_log_callback(self._receive)
        llama_cpp.llama_log_set(self._callback, ctypes.c_void_p(0))

    def _receive(self, level: int, text: bytes, _user_data: Any) -> None:
        if level == _ERROR_LEVEL and not self._error:
            self._error = text.decode(errors="replace").strip()

    def clear(self) -> None:
        """Forget the error, before a call that may fail."""
        self._error = ""

    def reason(self) -> str:
        """Return the error message of a call that failed."""
        return self._error or "no reason given"


error_log = ErrorLog()


def gpu_offload() -> bool:
    """Return whether this build of llama.cpp can run layers on a GPU.

    Example: `gpu_offload()`
    """
    return bool(llama_cpp.llama_supports_gpu_offload())


def system_info() -> dict[str, str]:
    """Return the build's features as llama.cpp prints them, such as {"AVX512": "1"}.

    Example: `system_info()`
    """
    text = llama_cpp.llama_print_system_info().decode()
    return dict(re.findall(r"(\w+) = (\w+)", text))


def build() -> str:
    """Return the version of llama.cpp and its CPU features, which decide how it rounds.

    Example: `build()`
    """
    features = (name for name, value in system_info().items() if value != "0")
    return f"{llama_cpp.__version__} {' '.join(features)}"


@cache
def address(function: str) -> int:
    """Return the address of one of llama.cpp's functions.

    Example: `address("llama_decode")`
    """
    found = ctypes.cast(getattr(llama_cpp.llama_cpp._lib, function), ctypes.c_void_p).value
    assert found is not None
    return found


def pointer(array: NDArray[Any], kind: Any) -> Any:
    """Return a ctypes pointer to an array's items, which must outlive it.

    Example: `pointer(np.zeros(3, np.int32), ctypes.c_int32)`
    """
    return array.ctypes.data_as(ctypes.POINTER(kind))
