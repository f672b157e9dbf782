"""Model files that somebody has damaged or made up: each a clean error, or a model."""

from __future__ import annotations

import ctypes
import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import llama_cpp
import pytest
from tiny_gguf import ARRAY, FLOAT32, INT32, LAYERS, STRING, TOKENS, UINT32, UINT64, Tiny

from synthgen_local import (
    DecodingError,
    LocalModel,
    ModelError,
    TabularGenerator,
)
from synthgen_local.engine.backends.llamacpp.model import _load_hint
from synthgen_local.kernels.build import Kernels
from synthgen_local.loading import probe_cache
from synthgen_local.loading.probe import ProbeRequest, probe_kernels
from synthgen_local.models.gguf import BLOCKS, Array, read_header
from synthgen_local.system import subprocess_call

MUTANTS = 2000
REAL_ONES = 30  # of the default model's header, which takes 40 ms to read
NUMBERS = [0, 1, 2, 3, 5, 8, 9, 12, 13, 255, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1]
NUMBERS += [1 << 40, 1 << 62, (1 << 63) + 5, (1 << 64) - 1]

LOAD_EACH = """
import sys
from synthgen_local import SynthgenError
from synthgen_local.loading.probe import ProbeRequest, run_probe
from synthgen_local.system.processes import disable_core_dumps
disable_core_dumps()
for path in sys.stdin.read().splitlines():
    print(path, flush=True)
    try:
        run_probe(ProbeRequest(path))
    except SynthgenError:
        pass
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which nothing was tried yet."""
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def tiny(path: Path, change: dict[str, tuple[int, Any]] | None = None, **parts: Any) -> Path:
    """A small model's file with other keys; a key of type -1 is left out."""
    made = Tiny(**parts)
    made.keys |= change or {}
    made.keys = {key: value for key, value in made.keys.items() if value[0] >= 0}
    return made.write(path)


def test_what_a_header_says(tmp_path: Path) -> None:
    """Numbers are numbers, strings bytes, and lists are counted."""
    header = read_header(tiny(tmp_path / "tiny.gguf"))

    assert header.metadata["llama.block_count"] == LAYERS
    assert header.metadata["general.architecture"] == b"llama"
    assert header.metadata["tokenizer.ggml.tokens"] == Array(STRING, len(TOKENS))
    made = Tiny()
    made.header()
    last, width = made.fields[-1]
    assert (header.tensors, header.size) == (len(made.shapes), last + width)


@pytest.mark.model
def test_the_default_model_passes(weights: Path) -> None:
    """A real file is what it says."""
    header = read_header(weights)

    assert header.metadata["llama.block_count"] == 30
    assert header.metadata["tokenizer.ggml.tokens"].count == 49152


def test_a_small_model_makes_rows(tmp_path: Path, cache: Path) -> None:
    """The file that the other tests damage is a model as it stands."""
    with LocalModel.load(str(tiny(tmp_path / "tiny.gguf"))) as model:
        rows = TabularGenerator("name, age int", model).generate(subject="x", rows=2)

    assert len(rows) == 2


def test_blocks_are_ggmls() -> None:
    """The size of each type is the one that llama.cpp's own library says."""
    library = next((Path(llama_cpp.__file__).parent / "lib").glob("libggml-base.*"))
    ggml = ctypes.CDLL(str(library))
    ggml.ggml_blck_size.restype = ctypes.c_int64
    ggml.ggml_type_size.restype = ctypes.c_size_t
    sizes = {kind: (ggml.ggml_blck_size(kind), ggml.ggml_type_size(kind)) for kind in range(43)}

    assert {kind: size for kind, size in sizes.items() if size[0]} == BLOCKS


WRONG_KEYS: dict[str, tuple[dict[str, tuple[int, Any]], str]] = {
    "no architecture": ({"general.architecture": (-1, 0)}, "names no architecture"),
    "architecture": ({"general.architecture": (UINT32, 1)}, "names no architecture"),
    "part": ({"split.count": (UINT32, 3)}, "a part of several"),
    "alignment 0": ({"general.alignment": (UINT32, 0)}, "alignment"),
    "alignment 48": ({"general.alignment": (UINT32, 48)}, "alignment"),
    "alignment type": ({"general.alignment": (STRING, "32")}, "alignment"),
    "no layers": ({"llama.block_count": (UINT32, 0)}, "'llama.block_count' is missing, 0"),
    "layers": ({"llama.block_count": (UINT32, 1000)}, "1000 layers"),
    "context": ({"llama.context_length": (UINT64, 1 << 40)}, "'llama.context_length' is missing"),
    "heads": ({"llama.attention.head_count": (UINT32, 0)}, "head_count' is missing, 0"),
    "nan": ({"llama.rope.freq_base": (FLOAT32, float("nan"))}, "freq_base' is not a finite"),
    "no vocabulary": ({"tokenizer.ggml.tokens": (-1, 0)}, "no vocabulary"),
    "vocabulary type": ({"tokenizer.ggml.tokens": (ARRAY, (INT32, [1]))}, "no vocabulary"),
    "vocabulary of 0": ({"tokenizer.ggml.tokens": (ARRAY, (STRING, []))}, "a vocabulary of 0"),
    "twice": ({"tokenizer.ggml.tokens": (ARRAY, (STRING, ["a", "a"]))}, "a token is twice"),
    "scores": ({"tokenizer.ggml.scores": (ARRAY, (FLOAT32, [0.0]))}, "list of scores"),
    "types": ({"tokenizer.ggml.token_type": (ARRAY, (FLOAT32, [1.0] * 257))}, "of token_type"),
    "merges": ({"tokenizer.ggml.merges": (ARRAY, (INT32, [1]))}, "merges are not strings"),
    "charsmap": ({"tokenizer.ggml.precompiled_charsmap": (ARRAY, (INT32, []))}, "character map"),
    "template": ({"tokenizer.chat_template": (STRING, "a" * (2 << 20))}, "of 2097152 bytes"),
    "terminal": ({"\x1b[2Jevil": (ARRAY, (77, []))}, r"'\\x1b\[2Jevil' is a list of the unknown"),
}


@pytest.mark.parametrize("name", WRONG_KEYS)
def test_keys_that_make_no_model(name: str, tmp_path: Path) -> None:
    """What llama.cpp would take on trust, or die of, is named in one line with a hint."""
    change, reason = WRONG_KEYS[name]

    with pytest.raises(ModelError, match=reason) as caught:
        read_header(tiny(tmp_path / "tiny.gguf", change))
    assert str(caught.value).isprintable()
    assert caught.value.hint


USELESS: dict[str, dict[str, tuple[int, Any]]] = {
    "adapter": {"general.type": (STRING, "adapter")},
    "projector": {"general.type": (STRING, "mmproj")},
    "embeddings": {"general.architecture": (STRING, "nomic-bert")},
    "images": {"general.architecture": (STRING, "clip")},
    "charsmap": WRONG_KEYS["charsmap"][0],
    "no vocabulary": WRONG_KEYS["no vocabulary"][0],
}


@pytest.mark.parametrize("name", USELESS)
def test_a_model_of_a_kind_that_cannot_work_is_not_to_be_fetched_again(
    name: str, tmp_path: Path
) -> None:
    """The hint names another way out."""
    with pytest.raises(ModelError) as caught:
        read_header(tiny(tmp_path / "tiny.gguf", USELESS[name]))
    assert "models list" in caught.value.hint


@pytest.mark.parametrize(
    ("said", "hint"),
    [
        ("unknown model architecture: 'new'", "does not support such models"),
        ("unable to allocate CPU buffer", "smaller model|Memory is limited"),
        ("tensor data is not within the file bounds", "truncated"),
    ],
)
def test_what_llama_cpp_says_decides_the_hint(said: str, hint: str) -> None:
    """A kind that it does not know, a lack of memory, or damage."""
    assert re.search(hint, _load_hint(said))


def number(at: int, code: str, value: int) -> Callable[[bytearray], None]:
    """What puts a number into a header."""
    return lambda data: struct.pack_into(f"<{code}", data, at, value)


def first(pattern: bytes, offset: int, code: str, value: int) -> Callable[[bytearray], None]:
    """What puts a number behind the first place of some bytes."""
    return lambda data: struct.pack_into(f"<{code}", data, data.index(pattern) + offset, value)


NORM = b"blk.0.attn_norm.weight"  # its dimensions, shape, type and offset follow
AFTER = len(NORM)
WRONG_BYTES: dict[str, tuple[Callable[[bytearray], None], str]] = {
    "magic": (number(0, "I", 0), "not a GGUF file"),
    "version": (number(4, "I", 4), "version 4"),
    "other byte order": (number(4, "I", 3 << 24), "version 50331648"),
    "no tensors": (number(8, "Q", 0), "0 tensors"),
    "tensors": (number(8, "Q", (1 << 64) - 1), "18446744073709551615 tensors"),
    "keys": (number(16, "Q", 1 << 40), "1099511627776 keys"),
    "key": (number(24, "Q", 1 << 62), "a key of 4611686018427387904 bytes"),
    "value": (first(b"general.architecture", 20, "I", 13), "the unknown type 13"),
    "nested": (first(b"tokenizer.ggml.tokens", 25, "I", ARRAY), "nested type 9"),
    "items": (first(b"tokenizer.ggml.tokens", 29, "Q", 1 << 60), "1152921504606846976 items"),
    "many items": (first(b"tokenizer.ggml.tokens", 29, "Q", 1 << 27), "ends within its header"),
    "dimensions": (first(NORM, AFTER, "I", 5), "has 5 dimensions"),
    "shape": (first(NORM, AFTER + 4, "Q", 1 << 63), "an impossible shape"),
    "empty": (first(NORM, AFTER + 4, "Q", 0), "an impossible shape"),
    "wider": (first(NORM, AFTER + 4, "Q", 64), "does not follow the one before"),
    "type": (first(NORM, AFTER + 12, "I", 99), "the unknown type 99"),
    "removed type": (first(NORM, AFTER + 12, "I", 4), "the unknown type 4"),
    "blocks": (first(NORM, AFTER + 12, "I", 12), "an impossible shape"),
    "offset": (first(NORM, AFTER + 16, "Q", 0), "does not follow the one before"),
}


@pytest.mark.parametrize("name", WRONG_BYTES)
def test_headers_that_lie(name: str, tmp_path: Path) -> None:
    """Counts, lengths, types and offsets are compared with the file before they are used."""
    change, reason = WRONG_BYTES[name]
    data = bytearray(tiny(tmp_path / "tiny.gguf").read_bytes())
    change(data)
    (tmp_path / "tiny.gguf").write_bytes(data)

    with pytest.raises(ModelError, match=reason):
        read_header(tmp_path / "tiny.gguf")


def test_a_file_that_is_one_byte_short(tmp_path: Path) -> None:
    """Without the last byte of its last tensor a file is refused; without padding it is not."""
    path = tiny(tmp_path / "tiny.gguf")
    data = path.read_bytes()
    path.write_bytes(data[:-1])

    with pytest.raises(ModelError, match="ends 1 bytes before its last tensor"):
        read_header(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A folder, an empty file and one that holds the magic alone are errors of a line."""
    (tmp_path / "empty").touch()
    (tmp_path / "magic").write_bytes(b"GGUF")

    for name, reason in {
        ".": "cannot be read",
        "empty": "not a GGUF",
        "magic": "ends within",
    }.items():
        with pytest.raises(ModelError, match=reason):
            read_header(tmp_path / name)


def mutate(data: bytearray, fields: list[tuple[int, int]], rng: random.Random) -> None:
    """Damage a header: bits, whole numbers, numbers of each other, bytes more or less."""
    at, size = rng.choice(fields)
    match rng.randrange(5):
        case 0:
            for _ in range(rng.choice([1, 1, 2, 8])):
                data[rng.randrange(4, len(data))] ^= 1 << rng.randrange(8)
        case 1:
            data[at : at + size] = rng.choice(NUMBERS).to_bytes(8, "little")[:size]
        case 2:
            other, length = rng.choice(fields)
            least = min(size, length)
            swapped = data[other : other + least], data[at : at + least]
            data[at : at + least], data[other : other + least] = swapped
        case 3:
            data[at:at] = rng.randbytes(rng.choice([1, 4, 8, 32]))
        case 4:
            del data[at : at + rng.choice([1, 4, 8, 32])]


def survivors(paths: list[Path]) -> list[Path]:
    """The mutants whose headers are taken; for the others there is a clean error."""
    passed = []
    for path in paths:
        try:
            read_header(path)
            passed.append(path)
        except ModelError:
            path.unlink()
    return passed


def loaded_elsewhere(paths: list[Path]) -> list[Path]:
    """Load files in other processes; return those on which one died or failed without a reason."""
    fatal = []
    while paths:
        done = subprocess.run(
            [sys.executable, "-c", LOAD_EACH],
            input="\n".join(map(str, paths)),
            env=os.environ | {"GGML_NO_BACKTRACE": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        seen = len(done.stdout.splitlines())
        if done.returncode != 0:
            fatal.append(paths[seen - 1])
        paths = paths[seen:]
    return fatal


@pytest.mark.model
def test_two_thousand_damaged_files(tmp_path: Path, weights: Path, cache: Path) -> None:
    """Each damaged file is a clean error or a model; this process never dies.

    Most are refused for their header. Those that pass are loaded for real, and on which llama.cpp
    ends its process, there LocalModel has an error.
    """
    rng = random.Random(0)
    small = Tiny()
    header, behind = small.header(), small.weights()
    paths = []
    for index in range(MUTANTS - REAL_ONES):
        data = bytearray(header)
        if index % 6:
            mutate(data, small.fields, rng)
            data += behind
        else:
            data = (data + behind)[: rng.randrange(len(data) * rng.choice([1, 20]))]
        path = tmp_path / f"{index}.gguf"
        path.write_bytes(data)
        paths.append(path)
    passed = survivors([*paths, *damaged_copies(weights, tmp_path, rng)])
    fatal = loaded_elsewhere(passed)

    assert 100 < len(passed) < MUTANTS / 2
    assert len(fatal) < 20, "the check of headers lets too much through"
    for path in fatal:
        with pytest.raises(ModelError, match="cannot be loaded"):
            LocalModel.load(str(path))


def damaged_copies(weights: Path, folder: Path, rng: random.Random) -> list[Path]:
    """The default model's header, damaged in its first 1,000 bytes, before as much of nothing."""
    size = weights.stat().st_size
    with weights.open("rb") as file:
        header = file.read(read_header(weights).size)
    paths = []
    for index in range(REAL_ONES):
        data = bytearray(header)
        mutate(data, [(at, 4) for at in range(4, 1000)], rng)
        paths.append(folder / f"real{index}.gguf")
        with paths[-1].open("wb") as file:
            file.write(data)
            file.truncate(size)
    return paths


FATAL = {
    "experts": (
        {"llama.expert_count": (UINT32, 100_000), "llama.expert_used_count": (UINT32, 2)},
        "llama.cpp ends with SIGABRT on it",
    ),
    "tokenizer": (
        {"tokenizer.ggml.model": (STRING, "llama"), "tokenizer.ggml.pre": (STRING, "default")},
        "cannot be loaded: llama.cpp ends",
    ),
    "word pieces": ({"tokenizer.ggml.model": (STRING, "bert")}, "fails without a reason"),
    "key value heads": ({"llama.attention.head_count_kv": (UINT32, 0)}, "has wrong shape"),
}


@pytest.mark.parametrize("name", FATAL)
def test_llama_cpp_dies_elsewhere(name: str, tmp_path: Path, cache: Path) -> None:
    """What passes the check and ends llama.cpp's process does so in another one."""
    change, reason = FATAL[name]

    with pytest.raises(ModelError, match=reason) as caught:
        LocalModel.load(str(tiny(tmp_path / "fatal.gguf", change)))
    assert str(caught.value).isprintable()
    assert not list(cache.rglob("tried/*"))


def test_a_file_that_takes_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that llama.cpp does not finish loading is given up."""
    monkeypatch.setattr(subprocess_call, "_MIN_SECONDS", 3)
    endless = {"tokenizer.ggml.model": (STRING, "rwkv")}

    with pytest.raises(ModelError, match="takes more than 3 s"):
        probe_kernels(ProbeRequest(str(tiny(tmp_path / "endless.gguf", endless))))


def test_a_file_is_tried_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was loaded once is not tried again, under whatever name; what is new is."""
    one = tiny(tmp_path / "one.gguf")
    two = tiny(tmp_path / "two.gguf")
    new = tiny(tmp_path / "new.gguf", {"llama.context_length": (UINT32, 256)})
    tried: list[str] = []

    def remember(what: ProbeRequest) -> Kernels:
        tried.append(Path(what.path).name)
        return what.kernels

    monkeypatch.setattr(probe_cache, "probe_kernels", remember)
    for path in (one, two, new):
        LocalModel.load(str(path)).close()
    assert tried == ["one.gguf", "new.gguf"]


def test_weights_that_are_no_numbers(tmp_path: Path, cache: Path) -> None:
    """A header may be fine and the weights not: that is told when the first token is drawn."""
    path = tiny(tmp_path / "nan.gguf", weight=float("nan"))

    with LocalModel.load(str(path)) as model, pytest.raises(DecodingError, match="not finite"):
        TabularGenerator("name", model).generate(subject="x", rows=1)


def test_a_damaged_model_on_the_command_line(tmp_path: Path, run: Callable[..., Any]) -> None:
    """Exit code 1, a line and a hint; nothing that llama.cpp says about itself."""
    change, reason = FATAL["experts"]
    tiny(tmp_path / "fatal.gguf", change)
    done = run(
        "generate", "name", "-m", "fatal.gguf", "-q", SYNTHGEN_LOCAL_CACHE=str(tmp_path / "c")
    )

    assert (done.code, done.out) == (1, "")
    assert done.err.splitlines() == [
        f"Error: fatal.gguf cannot be loaded: {reason}.",
        "Hint: Download the file again, or use another model.",
    ]
