"""The header of a GGUF file, read without trust: llama.cpp sees a file only after this.

Follows the specification of GGUF, versions 2 and 3 (docs/gguf.md of ggml). Every count, length and
offset is compared with the file's size before it is used, and nothing larger than the header is
ever read. llama.cpp aborts the process on some of what is refused here. Whether it understands the
rest is tried in a process of its own, see `loading/probe.py`. The package `gguf` is not used: it
loops over counts that it has not compared with the file, recurses into arrays of arrays, and keeps
every token as an array of its own, which takes seconds. Knows files, not llama.cpp.
"""

from __future__ import annotations

import errno
import hashlib
import math
import mmap
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from ..errors import ModelError
from ..system.memory import memory_hint

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MOST_HEADER = 1 << 28  # bytes; a vocabulary of a quarter of a million takes 16 MB
_MOST_KEYS = 1 << 14
_MOST_TENSORS = 1 << 16
_MOST_TOKENS = 1 << 22
_MOST_NAME = 63  # bytes of a tensor's name: GGML_MAX_NAME without its end
_MOST_KEY = 1 << 16
_MOST_DIMENSIONS = 4  # GGML_MAX_DIMS
_MOST_LAYERS = 512  # LLAMA_MAX_LAYERS
_ALIGNMENTS = [1 << power for power in range(5, 17)]  # ggml asserts 32
_MOST_INTEGER = (1 << 31) - 1  # llama.cpp counts with signed integers of 32 bits
_MOST_ELEMENTS = 1 << 60
_MOST_TEMPLATE = 1 << 20  # bytes; templates with tools have some ten thousand

# The types of values: the format of struct, by number.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 5, 6, 7, 8, 9
_TOKENS = "tokenizer.ggml.tokens"
_DAMAGED = "The file may be cut short or made for another version; fetch it again."
_NO_WRITER = (
    "Fetching it again does not help: use a model that writes text, such as one of "
    "`synthgen-local models list`."
)
_PARTS = ("adapter", "imatrix", "mmproj", "vocab")  # values of general.type
_NOT_WRITING = (
    "bert", "modern-bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3",
    "neo-bert", "eurobert", "gemma-embedding", "clip", "t5", "t5encoder", "wavtokenizer-dec",
)  # fmt: skip
"""Architectures whose models do not go on with a text: they embed, encode or speak."""

# The types of tensors: values and bytes of a block, by number (ggml.h and ggml-common.h).
BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    9: (32, 36), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18),
    21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8),
    28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
    40: (64, 36), 41: (128, 18), 42: (64, 18),
}  # fmt: skip


@dataclass(frozen=True)
class Array:
    """A list in the header: the number of its items' type, and how many there are."""

    kind: int
    count: int


@dataclass(frozen=True)
class Header:
    """What stands before the weights. `size` is in bytes, `sha256` is the header's alone.

    `parameters` counts the weights of all tensors; `metadata` holds numbers, flags, strings as
    bytes, and lists without their items.
    """

    metadata: Mapping[str, Any]
    tensors: int
    parameters: int
    size: int
    sha256: str


def read_header(path: Path) -> Header:
    """Read and check what stands before the weights of a GGUF file.

    Raises ModelError, with what is wrong, for a file that is not whole, not GGUF, or not a language
    model with a vocabulary.

    Example: `read_header(Path("model.gguf")).metadata["llama.block_count"] == 30`
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ModelError(
                    f"{path} is not a GGUF file.", hint="-m takes weights in GGUF format."
                )
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return _header(data)
    except OSError as error:
        hint = memory_hint() if error.errno == errno.ENOMEM else "Check the path."
        raise ModelError(f"{path} cannot be read: {error.strerror}.", hint=hint) from error
    except _RefusedError as refused:
        raise ModelError(f"{path} cannot be loaded: {refused}.", hint=refused.hint) from None


class _RefusedError(Exception):
    """What is wrong, in words that quote at most a name, and what to do about it."""

    def __init__(self, reason: str, hint: str) -> None:
        super().__init__(reason)
        self.hint = hint


def _refuse(reason: str, hint: str = _DAMAGED) -> NoReturn:
    raise _RefusedError(reason, hint)


class _Reader:
    """A place in the file that only moves on, and never past the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        self._end = min(len(data), _MOST_HEADER)
        self.size = len(data)
        self.at = len(_MAGIC)

    def skip(self, size: int) -> int:
        """Pass over so many bytes; return where they began."""
        start, self.at = self.at, self.at + size
        if self.at > self._end:
            _refuse("it ends within its header" if self._end == self.size else "absurd header")
        return start

    def number(self, code: str) -> Any:
        """The next number, whose type is struct's."""
        return struct.unpack_from(f"<{code}", self._data, self.skip(struct.calcsize(code)))[0]

    def string(self, most: int, what: str) -> bytes:
        """The next string of at most so many bytes."""
        length = self.number("Q")
        if length > most:
            _refuse(f"{what} of {length} bytes")
        start = self.skip(length)
        return self._data[start : start + length]

    def strings(self, count: int) -> Iterator[bytes]:
        """The next so many strings, in a quick loop: vocabularies are long."""
        unpack, data, at, last = struct.Struct("<Q").unpack_from, self._data, self.at, self._end - 8
        for _ in range(count):
            if at > last:
                break
            start, at = at + 8, at + 8 + unpack(data, at)[0]
            yield data[start:at]
        self.at = at
        self.skip(0)

    def sha256(self) -> str:
        return hashlib.sha256(self._data[: self.at]).hexdigest()


def _header(data: mmap.mmap) -> Header:
    reader = _Reader(data)
    if (version := reader.number("I")) not in _VERSIONS:
        newer = isinstance(version, int) and max(_VERSIONS) < version < 100
        _refuse(
            f"it is of version {version} of GGUF, and {_VERSIONS} can be read",
            "Use another file of this model, or update synthgen-local." if newer else _DAMAGED,
        )
    tensors, keys = reader.number("Q"), reader.number("Q")
    if not 0 < tensors <= _MOST_TENSORS:
        _refuse(f"it has {tensors} tensors")
    if keys > _MOST_KEYS:
        _refuse(f"it has {keys} keys")
    metadata = _metadata(reader, keys)
    _check_metadata(metadata)
    parameters = _tensors(reader, tensors, int(metadata.get("general.alignment", 32)))
    return Header(metadata, tensors, parameters, reader.at, reader.sha256())


def _metadata(reader: _Reader, count: int) -> dict[str, Any]:
    metadata: dict[str, Any] = {}
    for _ in range(count):
        key = _text(reader.string(_MOST_KEY, "a key"))
        if not key or key in metadata:
            _refuse(f"the key {_quoted(key)} is empty or there twice")
        metadata[key] = _value(reader, reader.number("I"), key)
    return metadata


def _value(reader: _Reader, kind: int, key: str) -> Any:
    if kind == _STRING:
        return reader.string(_MOST_TEMPLATE, f"a value of {_quoted(key)}")
    if kind == _ARRAY:
        return _array(reader, key)
    if kind not in _SCALARS:
        _refuse(f"{_quoted(key)} has the unknown type {kind}")
    if kind != _BOOL:
        return reader.number(_SCALARS[kind])
    if (flag := reader.number("B")) > 1:
        _refuse(f"{_quoted(key)} is a flag of {flag}")
    return bool(flag)


def _array(reader: _Reader, key: str) -> Array:
    array = Array(reader.number("I"), reader.number("Q"))
    if array.count > _MOST_HEADER:
        _refuse(f"{_quoted(key)} has {array.count} items")
    if array.kind == _STRING:
        distinct = len(set(reader.strings(array.count)))
        if key == _TOKENS and distinct != array.count:
            _refuse("a token is twice in its vocabulary")
    elif array.kind in _SCALARS:
        reader.skip(array.count * struct.calcsize(_SCALARS[array.kind]))
    else:
        _refuse(f"{_quoted(key)} is a list of the unknown or nested type {array.kind}")
    return array


def _check_metadata(metadata: Mapping[str, Any]) -> None:
    """Refuse what llama.cpp trusts: types that it asserts, lists that it reads side by side."""
    name = metadata.get("general.architecture")
    if not isinstance(name, bytes):
        _refuse("it names no architecture")
    architecture = _text(name)
    _check_kind(metadata, architecture)
    if metadata.get("split.count", 0) not in (0, 1):
        _refuse("it is a part of several", "Join them: llama-gguf-split --merge")
    if metadata.get("general.alignment", 32) not in _ALIGNMENTS:
        _refuse("its alignment is none that llama.cpp can use")
    for key in ("block_count", "context_length", "embedding_length"):
        _check_size(metadata, f"{architecture}.{key}")
    if metadata[f"{architecture}.block_count"] > _MOST_LAYERS:
        _refuse(f"it has {metadata[f'{architecture}.block_count']} layers")
    for key, value in metadata.items():
        if isinstance(value, float) and not math.isfinite(value):
            _refuse(f"{_quoted(key)} is not a finite number")
    if isinstance(metadata.get(f"{architecture}.attention.head_count"), int):
        _check_size(metadata, f"{architecture}.attention.head_count")
    _check_vocabulary(metadata)


def _check_kind(metadata: Mapping[str, Any], architecture: str) -> None:
    """Refuse what is no model that writes text, however often it is fetched."""
    kind = metadata.get("general.type")
    if isinstance(kind, bytes) and _text(kind) in _PARTS:
        _refuse(f"it is no model, it is of type {_quoted(_text(kind))}", _NO_WRITER)
    if architecture in _NOT_WRITING:
        _refuse(f"models of architecture {_quoted(architecture)} write no text", _NO_WRITER)


def _check_size(metadata: Mapping[str, Any], key: str) -> None:
    value = metadata.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MOST_INTEGER:
        _refuse(f"{_quoted(key)} is missing, 0 or absurd")


def _check_vocabulary(metadata: Mapping[str, Any]) -> None:
    tokens = metadata.get(_TOKENS)
    if not isinstance(tokens, Array) or tokens.kind != _STRING:
        _refuse("it has no vocabulary", _NO_WRITER)
    if not 0 < tokens.count <= _MOST_TOKENS:
        _refuse(f"it has a vocabulary of {tokens.count}")
    for name, kind in (("scores", _FLOAT32), ("token_type", _INT32)):
        beside = metadata.get(f"tokenizer.ggml.{name}")
        if beside is not None and beside != Array(kind, tokens.count):
            _refuse(f"its list of {name} does not go with its vocabulary")
    merges = metadata.get("tokenizer.ggml.merges")
    if merges is not None and not (isinstance(merges, Array) and merges.kind == _STRING):
        _refuse("its merges are not strings")
    if "tokenizer.ggml.precompiled_charsmap" in metadata:
        _refuse("its tokenizer has a precompiled character map, which is not supported", _NO_WRITER)


def _tensors(reader: _Reader, count: int, alignment: int) -> int:
    """Check that the tensors follow each other without a gap and end within the file.

    Returns how many weights they hold.
    """
    names: set[bytes] = set()
    following = parameters = 0
    for _ in range(count):
        name = reader.string(_MOST_NAME, "a tensor's name")
        if name in names:
            _refuse(f"the tensor {_quoted(_text(name))} is there twice")
        names.add(name)
        elements, size = _tensor_size(reader, name)
        parameters += elements
        if reader.number("Q") != following:
            _refuse(f"the tensor {_quoted(_text(name))} does not follow the one before")
        following += -(-size // alignment) * alignment
    start = -(-reader.at // alignment) * alignment
    if start + following - (-size % alignment) > reader.size:
        _refuse(f"it ends {start + following - reader.size} bytes before its last tensor does")
    return parameters


def _tensor_size(reader: _Reader, name: bytes) -> tuple[int, int]:
    """The weights and the bytes of the next tensor, whose name was read."""
    quoted = _quoted(_text(name))
    if not 0 < (dimensions := reader.number("I")) <= _MOST_DIMENSIONS:
        _refuse(f"the tensor {quoted} has {dimensions} dimensions")
    shape: list[int] = [reader.number("Q") for _ in range(dimensions)]
    elements: int = math.prod(shape)
    kind = reader.number("I")
    if kind not in BLOCKS:
        _refuse(f"the tensor {quoted} has the unknown type {kind}")
    block, size = BLOCKS[kind]
    if not 0 < elements <= _MOST_ELEMENTS or shape[0] % block:
        _refuse(f"the tensor {quoted} has an impossible shape")
    return elements, elements // block * size


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _quoted(name: str) -> str:
    """A name out of the file that can be shown: no control characters, and not long."""
    return repr(name if len(name) <= 60 else f"{name[:60]}…")
