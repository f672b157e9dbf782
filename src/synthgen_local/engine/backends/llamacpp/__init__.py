"""The llama.cpp backend, through llama-cpp-python's low-level API.

The only package that imports `llama_cpp`. Knows GGUF files, batches and sequence ids; knows no
grammars or rows.
"""

from .context import MAX_SLOTS, LlamaContext
from .kernel_backend import repack_formats
from .library import build, gpu_offload, system_info
from .model import LlamaModel
from .quantise import quantise

__all__ = [
    "MAX_SLOTS",
    "LlamaContext",
    "LlamaModel",
    "build",
    "gpu_offload",
    "quantise",
    "repack_formats",
    "system_info",
]
