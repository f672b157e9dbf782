"""A GGUF file's vocabulary and metadata, read through llama.cpp.

Knows tokens and keys; knows no contexts.
"""

from __future__ import annotations

import ctypes
import warnings
from typing import Any

import llama_cpp
from llguidance import LLTokenizer
from llguidance.llamacpp import lltokenizer_from_vocab

from ..protocol import MASK_SLICES

_CONTROL = llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
_BUFFER = 128  # bytes of a metadata value


def token_text(vocab: Any, token: int) -> str:
    """Return the text of a token, empty for a negative number.

    Example: `token_text(vocab, llama_cpp.llama_vocab_bos(vocab))`
    """
    if token < 0:
        return ""
    text = llama_cpp.llama_vocab_get_text(vocab, token)
    return text.decode(errors="replace") if text else ""


def is_control(vocab: Any, token: int) -> bool:
    """Return whether a token is not text, such as the end of a turn.

    Example: `is_control(vocab, 0)`
    """
    attributes = llama_cpp.llama_vocab_get_attr(vocab, token)
    return bool(attributes & _CONTROL) or llama_cpp.llama_vocab_is_eog(vocab, token)


def make_tokenizer(vocab: Any) -> LLTokenizer:
    """Return llguidance's tokenizer of a vocabulary.

    Example: `make_tokenizer(llama_cpp.llama_model_get_vocab(model))`
    """
    with warnings.catch_warnings():  # llguidance calls a deprecated function for each token
        warnings.simplefilter("ignore", DeprecationWarning)
        return lltokenizer_from_vocab(vocab, eos_token=_end_tokens(vocab), slices=MASK_SLICES)


def _end_tokens(vocab: Any) -> list[int]:
    """All tokens that end a generation; the vocabulary's own end token comes first."""
    eos = int(llama_cpp.llama_vocab_eos(vocab))
    count = llama_cpp.llama_vocab_n_tokens(vocab)
    others = [t for t in range(count) if t != eos and llama_cpp.llama_vocab_is_eog(vocab, t)]
    return [eos, *others] if eos >= 0 else others


def read_metadata(model: Any, key: str) -> str | None:
    """Return a value of the file's header as text, None if the key is missing.

    Example: `read_metadata(model, "general.architecture")`
    """
    buffer = ctypes.create_string_buffer(_BUFFER)
    size = llama_cpp.llama_model_meta_val_str(model, key.encode(), buffer, len(buffer))
    return buffer.value.decode(errors="replace") if size >= 0 else None


def read_description(model: Any) -> str:
    """Return architecture, size and quantisation in llama.cpp's words.

    Example: `read_description(model)`
    """
    buffer = ctypes.create_string_buffer(_BUFFER)
    llama_cpp.llama_model_desc(model, buffer, len(buffer))
    return buffer.value.decode(errors="replace")


def uses_kernel_attention(model: Any) -> bool:
    """Return whether `csrc/attention.c` supports the model's attention.

    llama.cpp's own attention is slow with a bfloat16 KV cache.

    Example: `uses_kernel_attention(model)`
    """
    architecture = read_metadata(model, "general.architecture")
    length = read_metadata(model, f"{architecture}.attention.key_length")
    heads = max(1, llama_cpp.llama_model_n_head(model))
    size = int(length or llama_cpp.llama_model_n_embd(model) // heads)
    capped = read_metadata(model, f"{architecture}.attn_logit_softcapping") is not None
    return size % 64 == 0 and not capped
