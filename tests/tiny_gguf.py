"""A language model of two layers and random weights, small enough to be broken 2,000 times."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

UINT32, INT32, FLOAT32, STRING, ARRAY, UINT64 = 4, 5, 6, 8, 9, 10
F32 = 0
WIDTH, INNER, HEADS, LAYERS, ALIGNMENT = 32, 64, 4, 2, 32


def _byte_tokens() -> list[str]:
    """One character for each byte, as GPT-2's vocabulary writes them."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in shown]
    names = {byte: chr(byte) for byte in shown} | {b: chr(256 + i) for i, b in enumerate(others)}
    return [names[byte] for byte in range(256)]


TOKENS = [*_byte_tokens(), "<|end|>"]


def metadata() -> dict[str, tuple[int, Any]]:
    """The keys of the file: the type of each value, and the value."""
    return {
        "general.architecture": (STRING, "llama"),
        "general.alignment": (UINT32, ALIGNMENT),
        "llama.block_count": (UINT32, LAYERS),
        "llama.context_length": (UINT32, 512),
        "llama.embedding_length": (UINT32, WIDTH),
        "llama.feed_forward_length": (UINT32, INNER),
        "llama.attention.head_count": (UINT32, HEADS),
        "llama.attention.head_count_kv": (UINT32, HEADS // 2),
        "llama.rope.dimension_count": (UINT32, WIDTH // HEADS),
        "llama.rope.freq_base": (FLOAT32, 10000.0),
        "llama.attention.layer_norm_rms_epsilon": (FLOAT32, 1e-5),
        "tokenizer.ggml.model": (STRING, "gpt2"),
        "tokenizer.ggml.pre": (STRING, "gpt-2"),
        "tokenizer.ggml.tokens": (ARRAY, (STRING, TOKENS)),
        "tokenizer.ggml.token_type": (ARRAY, (INT32, [1] * 256 + [3])),
        "tokenizer.ggml.merges": (ARRAY, (STRING, ["a b", "t h"])),
        "tokenizer.ggml.eos_token_id": (UINT32, 256),
        "tokenizer.chat_template": (STRING, "{{ messages[0].content }}"),
    }


def tensors() -> dict[str, tuple[tuple[int, ...], int]]:
    """The shape of each tensor, the quickest dimension first, and its type."""
    pairs = WIDTH // 2
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (WIDTH, len(TOKENS))}
    for layer in range(LAYERS):
        for name, shape in {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (WIDTH, pairs),
            "attn_v": (WIDTH, pairs),
            "attn_output": (WIDTH, WIDTH),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (WIDTH, INNER),
            "ffn_up": (WIDTH, INNER),
            "ffn_down": (INNER, WIDTH),
        }.items():
            shapes[f"blk.{layer}.{name}.weight"] = shape
    shapes["output_norm.weight"] = (WIDTH,)
    return {name: (shape, F32) for name, shape in shapes.items()}


@dataclass
class Tiny:
    """A GGUF file in parts; `fields` says where each number of its header stands."""

    keys: dict[str, tuple[int, Any]] = field(default_factory=metadata)
    shapes: dict[str, tuple[tuple[int, ...], int]] = field(default_factory=tensors)
    version: int = 3
    fields: list[tuple[int, int]] = field(default_factory=list)  # offset, bytes
    weight: float | None = None

    def header(self) -> bytes:
        """What stands before the weights."""
        self.fields = []
        made = bytearray(b"GGUF")
        self._put(made, "I", self.version)
        self._put(made, "Q", len(self.shapes))
        self._put(made, "Q", len(self.keys))
        for key, (kind, value) in self.keys.items():
            self._string(made, key)
            self._put(made, "I", kind)
            self._value(made, kind, value)
        following = 0
        for name, (shape, kind) in self.shapes.items():
            self._string(made, name)
            self._put(made, "I", len(shape))
            for length in shape:
                self._put(made, "Q", length)
            self._put(made, "I", kind)
            self._put(made, "Q", following)
            following += _padded(4 * int(np.prod(shape)))
        return bytes(made) + bytes(-len(made) % ALIGNMENT)

    def weights(self) -> bytes:
        """Random weights, or all of one value."""
        random = np.random.default_rng(0)
        made = bytearray()
        for shape, _ in self.shapes.values():
            values = random.normal(0, 0.5, int(np.prod(shape))).astype(np.float32)
            if self.weight is not None:
                values[:] = self.weight
            data = values.tobytes()
            made += data + bytes(_padded(len(data)) - len(data))
        return bytes(made)

    def write(self, path: Path) -> Path:
        """Write the file."""
        path.write_bytes(self.header() + self.weights())
        return path

    def _put(self, made: bytearray, code: str, value: Any) -> None:
        data = struct.pack(f"<{code}", value)
        self.fields.append((len(made), len(data)))
        made += data

    def _string(self, made: bytearray, text: str) -> None:
        data = text.encode()
        self._put(made, "Q", len(data))
        made += data

    def _value(self, made: bytearray, kind: int, value: Any) -> None:
        if kind == STRING:
            self._string(made, value)
        elif kind == ARRAY:
            item_kind, items = value
            self._put(made, "I", item_kind)
            self._put(made, "Q", len(items))
            for item in items:
                self._value(made, item_kind, item)
        else:
            self._put(made, {UINT32: "I", INT32: "i", FLOAT32: "f", UINT64: "Q"}[kind], value)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT
