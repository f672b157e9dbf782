"""Our kernels: compiled where they run, and what they compute against numpy."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

import llama_cpp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from synthgen_local import DecodingError, LocalModel
from synthgen_local.engine.backends.llamacpp import LlamaModel, repack_formats
from synthgen_local.engine.backends.protocol import ContextSize, Step
from synthgen_local.engine.logprobs import kl_divergence
from synthgen_local.kernels import build
from synthgen_local.kernels.build import Kernels, compile_kernels

EXAMPLES = int(os.environ.get("SYNTHGEN_LOCAL_TEST_EXAMPLES", "60"))
"""How many random cases of a kernel are tested; sanitizers are slow."""
GGML: Any = llama_cpp.llama_cpp._lib
KINDS = {np.float32: 0, np.float16: 1, np.uint16: 30}  # of ggml's, the last one bfloat16


@pytest.fixture
def other_compiler(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A test that names its own compiler."""
    build.compiled_hash.cache_clear()
    yield monkeypatch
    build.compiled_hash.cache_clear()


def test_they_are_compiled_once(library: str) -> None:
    """A library that is there is used, and nobody else may read or change the folder."""
    path = Path(library)
    before = path.stat().st_mtime_ns
    assert compile_kernels(path.parent) == library
    assert path.stat().st_mtime_ns == before
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_the_folder_is_the_users_own(tmp_path: Path) -> None:
    """A library is code: nobody else may write there."""
    compile_kernels(tmp_path / "compiled")
    assert (tmp_path / "compiled").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o777, 0o770])
def test_a_folder_of_others_is_not_trusted(tmp_path: Path, mode: int) -> None:
    """Where the cache is shared, libraries are made for this process alone."""
    folder = tmp_path / "compiled"
    folder.mkdir()
    folder.chmod(mode)
    compiled = compile_kernels(folder)
    assert compiled is not None
    assert list(folder.iterdir()) == []
    assert Path(compiled).parent.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path) -> None:
    """A cache may be read-only."""
    (tmp_path / "file").touch()
    compiled = compile_kernels(tmp_path / "file" / "compiled")
    assert compiled is not None
    assert Path(compiled).is_file()


def test_no_compiler_is_an_error(tmp_path: Path, other_compiler: pytest.MonkeyPatch) -> None:
    """It says which one was looked for, and what to do."""
    other_compiler.setenv("CC", "no-such-compiler")
    with pytest.raises(DecodingError, match="no-such-compiler cannot be run") as caught:
        compile_kernels(tmp_path)
    assert "CC=" in caught.value.hint


def test_what_does_not_compile_is_an_error(
    tmp_path: Path, other_compiler: pytest.MonkeyPatch
) -> None:
    """Nothing is left behind."""
    other_compiler.setenv("CC", "cc -Dvector=1")
    with pytest.raises(DecodingError, match="cc says"):
        compile_kernels(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_without_a_compiler_a_model_runs_and_says_so(
    weights: Path, tmp_path: Path, other_compiler: pytest.MonkeyPatch
) -> None:
    """Slower, not otherwise."""
    other_compiler.setenv("CC", "no-such-compiler")
    other_compiler.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path))
    with (
        pytest.warns(UserWarning, match=r"no-such-compiler cannot be run.*Install a C compiler"),
        LocalModel.load(str(weights), weights="as-shipped"),
    ):
        pass


def test_whoever_wants_none_is_not_told(
    weights: Path, tmp_path: Path, other_compiler: pytest.MonkeyPatch
) -> None:
    """CC set to nothing asks for none."""
    other_compiler.setenv("CC", "")
    other_compiler.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path))
    assert compile_kernels(tmp_path) is None
    with LocalModel.load(str(weights), weights="as-shipped"):
        pass
    assert not (tmp_path / "compiled").exists()


def test_a_model_names_its_kernels(weights: Path, library: str) -> None:
    """They round in their own way: a manifest has to tell them."""
    with closing(LlamaModel(weights, gpu_layers=0, kernels=Kernels(compiled=library))) as model:
        assert Path(library).stem in model.build


def test_a_model_says_the_same_with_them(weights: Path, library: str) -> None:
    """Rows that share a prompt are predicted as llama.cpp predicts them, but for rounding."""
    with closing(LlamaModel(weights, gpu_layers=0, kernels=Kernels(compiled=library))) as model:
        prompt = model.tokenize("The capital of France is Paris. The capital of")
        found = []
        for model.flash in (True, False):
            with closing(model.open_context(ContextSize(20, 512, 1))) as context:
                context.prefill(prompt)
                for slot in range(20):
                    context.fork(slot)
                steps = [Step([slot], prompt[-2 - slot % 3 :]) for slot in range(20)]
                context.decode(steps)
                found.append(context.decode(steps).copy())
    assert not np.array_equal(*found)
    assert kl_divergence(*found).mean() < 0.03  # llama.cpp's own two attentions: 0.012


# ---- attention against its definition ----------------------------------------------------------


class Parameters(ctypes.Structure):
    """ggml_init_params."""

    _fields_ = (
        ("size", ctypes.c_size_t),
        ("memory", ctypes.c_void_p),
        ("no_alloc", ctypes.c_bool),
    )


def _declare(name: str, result: Any, *arguments: Any) -> Any:
    function = GGML[name]  # a function of its own: the declaration stays here
    function.restype, function.argtypes = result, list(arguments)
    return function


_P, _F, _L = ctypes.c_void_p, ctypes.c_float, ctypes.c_int64
ggml_init = _declare("ggml_init", _P, Parameters)
ggml_free = _declare("ggml_free", None, _P)
new_tensor = _declare("ggml_new_tensor_4d", _P, _P, ctypes.c_int, _L, _L, _L, _L)
get_data = _declare("ggml_get_data", _P, _P)
flash_attention = _declare("ggml_flash_attn_ext", _P, _P, _P, _P, _P, _P, _F, _F, _F)
new_graph = _declare("ggml_new_graph", _P, _P)
build_forward = _declare("ggml_build_forward_expand", None, _P, _P)
device_by_name = _declare("ggml_backend_dev_by_name", _P, ctypes.c_char_p)
open_device = _declare("ggml_backend_dev_init", _P, _P, ctypes.c_char_p)
takes = _declare("ggml_backend_supports_op", ctypes.c_bool, _P, _P)
compute = _declare("ggml_backend_graph_compute", ctypes.c_int, _P, _P)
free = _declare("ggml_backend_free", None, _P)
registry = _declare("ggml_backend_dev_backend_reg", _P, _P)
function_of = _declare("ggml_backend_reg_get_proc_address", _P, _P, ctypes.c_char_p)


Layer: TypeAlias = tuple[NDArray[np.float32], NDArray[Any], NDArray[Any]]
"""Queries [heads, queries, size], keys and values [heads, cells, size].

Keys and values of whole numbers of 16 bits are the upper halves of 32-bit floats: bfloat16.
"""


def attend(
    layer: Layer, mask: NDArray[np.float16], *, threads: int, cap: float = 0.0
) -> NDArray[np.float32] | None:
    """What our backend makes of a layer; None: not its."""
    found = attend_layers([layer], mask, threads=threads, cap=cap)
    return found[0] if found else None


def attend_layers(
    layers: Sequence[Layer], mask: NDArray[np.float16], *, threads: int, cap: float = 0.0
) -> list[NDArray[np.float32]] | None:
    """What it makes of several in one pass, who see the same; None: not its."""
    context = ggml_init(Parameters(1 << 26, None, False))
    device = device_by_name(b"synthgen-local attention")
    assert device, "not loaded"
    backend = open_device(device, None)
    set_threads = function_of(registry(device), b"ggml_backend_set_n_threads")
    ctypes.CFUNCTYPE(None, _P, ctypes.c_int)(set_threads)(backend, threads)

    def tensor(array: NDArray[Any]) -> int:
        made: int = new_tensor(context, KINDS[array.dtype.type], *reversed(array.shape), 1)
        ctypes.memmove(get_data(made), array.ctypes.data, array.nbytes)
        return made

    try:
        sight, graph, outs = tensor(mask[None]), new_graph(context), []
        for layer in layers:
            scale = layer[0].shape[2] ** -0.5
            out = flash_attention(context, *map(tensor, layer), sight, scale, 0.0, cap)
            if not takes(backend, out):
                return None
            build_forward(graph, out)
            outs.append(out)
        assert compute(backend, graph) == 0
        return [read(out, layer[0].shape) for out, layer in zip(outs, layers, strict=True)]
    finally:
        free(backend)
        ggml_free(context)


def read(out: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """What a layer came to, [heads, queries, size]."""
    heads, queries, size = shape
    flat = ctypes.cast(get_data(out), ctypes.POINTER(ctypes.c_float))
    found = np.ctypeslib.as_array(flat, shape=(queries, heads, size))
    return found.transpose(1, 0, 2).copy()


def defined(
    queries: NDArray[np.float32],
    keys: NDArray[np.floating[Any]],
    values: NDArray[np.floating[Any]],
    mask: NDArray[np.float16],
) -> NDArray[np.float64]:
    """Softmax of the scaled products, plus the mask, times the values."""
    group = len(queries) // len(keys)
    k, v = (np.repeat(each.astype(np.float64), group, axis=0) for each in (keys, values))
    scores = queries.astype(np.float64) @ k.transpose(0, 2, 1) * queries.shape[2] ** -0.5
    scores += mask.astype(np.float64)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    found: NDArray[np.float64] = weights @ v
    return found


def mask_of_rows(
    stream: np.random.Generator, queries: int, shared: int, own: int
) -> NDArray[np.float16]:
    """The mask of rows that share some cells and have some of their own, wherever those lie."""
    cells = -(-(shared + own * queries) // 32) * 32
    mask = np.full((queries, cells), -np.inf, np.float16)
    places = stream.permutation(cells)
    mask[:, places[:shared]] = 0
    for query in range(queries):
        mask[query, places[shared + own * query : shared + own * (query + 1)]] = 0
    mask[stream.integers(queries), places[-1]] = stream.choice([0, -1.5])  # a mask may also lean
    if queries > 1:
        mask[1, places[shared : shared + own]] = 0  # two rows may share more
    return mask


def attended(
    stream: np.random.Generator, groups: tuple[int, int], shape: tuple[int, ...], size: int
) -> tuple[NDArray[np.float32], NDArray[np.float16], NDArray[np.float16]]:
    """Queries, keys and values of heads that share keys in groups, for a mask of that shape."""
    heads, group = groups
    queries, cells = shape
    q = stream.normal(size=(heads * group, queries, size)).astype(np.float32)
    k, v = stream.normal(size=(2, heads, cells, size)).astype(np.float16)
    return q, k, v


@pytest.fixture(scope="module")
def loaded(weights: Path, library: str) -> Iterator[None]:
    """llama.cpp knows our backend."""
    with closing(LlamaModel(weights, gpu_layers=0, kernels=Kernels(compiled=library))):
        yield


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 70),
    shared=st.integers(0, 90),
    own=st.integers(1, 12),
    groups=st.tuples(st.integers(1, 3), st.integers(1, 6)),
    size=st.sampled_from([64, 128, 256]),
    threads=st.integers(1, 3),
)
def test_attention_is_what_it_is_defined_to_be(
    loaded: None,
    seed: int,
    queries: int,
    shared: int,
    own: int,
    groups: tuple[int, int],
    size: int,
    threads: int,
) -> None:
    """Whatever rows share, wherever their own cells lie, and however many threads there are."""
    stream = np.random.default_rng(seed)
    mask = mask_of_rows(stream, queries, shared, own)
    q, k, v = attended(stream, groups, mask.shape, size)
    found = attend((q, k, v), mask, threads=threads)
    assert found is not None
    np.testing.assert_allclose(found, defined(q, k, v, mask), rtol=1e-4, atol=1e-5)


@pytest.fixture
def in_bfloat16(loaded: None, library: str) -> None:
    """A processor that can."""
    if "bf16" not in repack_formats(Kernels(compiled=library)):
        pytest.skip("this processor has no products of bfloat16")


def rounded(array: NDArray[Any]) -> NDArray[np.uint16]:
    """The nearest bfloat16 of each, ties to even."""
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def cached(array: NDArray[np.float32], kind: type[Any], library: str) -> NDArray[Any]:
    """Keys or values of 16 bits; whole numbers are bfloat16, where the processor can."""
    if kind is not np.uint16:
        return array.astype(kind)
    if "bf16" not in repack_formats(Kernels(compiled=library)):
        pytest.skip("this processor has no products of bfloat16")
    return rounded(array)


def widened(array: NDArray[np.uint16]) -> NDArray[np.float32]:
    """What is in bfloat16, in 32 bits."""
    return (array.astype(np.uint32) << 16).view(np.float32)


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 70),
    shared=st.sampled_from([0, 1, 7, 63, 64, 65, 150]),
    own=st.integers(1, 40),
    groups=st.tuples(st.integers(1, 3), st.integers(1, 8)),
    size=st.sampled_from([64, 128, 256]),
    threads=st.integers(1, 3),
    rising=st.booleans(),
)
def test_attention_in_bfloat16_is_what_it_is_defined_to_be(
    in_bfloat16: None,
    seed: int,
    queries: int,
    shared: int,
    own: int,
    groups: tuple[int, int],
    size: int,
    threads: int,
    *,
    rising: bool,
) -> None:
    """But for the rounding of weights to 8 bits; where scores grow from block to block, too."""
    stream = np.random.default_rng(seed)
    mask = mask_of_rows(stream, queries, shared, own)
    q, k, v = attended(stream, groups, mask.shape, size)
    if rising:
        k += np.linspace(0, 1, k.shape[1], dtype=k.dtype)[:, None] * np.sign(q[:1, :1]).astype(
            k.dtype
        )
    q, keys, values = widened(rounded(q)), rounded(k), rounded(v)
    found = attend((q, keys, values), mask, threads=threads)
    assert found is not None
    expected = defined(q, widened(keys), widened(values), mask)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2**-8 * np.abs(v).max())


@pytest.mark.parametrize(
    ("size", "kind", "cap", "ours"),
    [
        (64, np.float16, 0.0, True),
        (64, np.float16, 30.0, False),
        (40, np.float16, 0.0, False),
        (64, np.float32, 0.0, False),
    ],
)
def test_attention_of_another_kind_is_left_to_llama_cpp(
    loaded: None,
    *,
    size: int,
    kind: type[np.floating[Any]],
    cap: float,
    ours: bool,
) -> None:
    """A cap on scores, heads that do not fill vectors, keys of 32 bits."""
    queries, keys = np.zeros((2, 3, size), np.float32), np.zeros((1, 32, size), kind)
    found = attend((queries, keys, keys), np.zeros((3, 32), np.float16), threads=1, cap=cap)
    assert (found is not None) == ours


@pytest.mark.parametrize("group", [1, 3, 4, 7])
def test_layers_may_have_other_numbers_of_heads(in_bfloat16: None, group: int) -> None:
    """What rows see is found once a pass, but chunks are as wide as a layer's heads let them be."""
    stream = np.random.default_rng(group)
    mask = mask_of_rows(stream, 70, 65, 12)
    layers = []
    for groups in ((1, group), (2, 3), (1, 4), (1, group)):
        q, k, v = attended(stream, groups, mask.shape, 64)
        layers.append((widened(rounded(q)), rounded(k), rounded(v)))
    found = attend_layers(layers, mask, threads=1)
    assert found is not None
    for (queries, keys, values), one in zip(layers, found, strict=True):
        expected = defined(queries, widened(keys), widened(values), mask)
        np.testing.assert_allclose(one, expected, atol=0.04)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("kind", [np.float16, np.uint16])
@pytest.mark.parametrize("place", ["queries", "keys", "values"])
def test_attention_over_what_is_no_number_is_none(
    loaded: None, library: str, place: str, kind: type[Any], *, own: bool
) -> None:
    """A damaged file is found by its logits, so they must not come out as numbers."""
    arrays = {
        "queries": np.ones((2, 3, 64), np.float32),
        "keys": np.ones((1, 32, 64), np.float32),
        "values": np.ones((1, 32, 64), np.float32),
    }
    arrays[place][0, 1] = np.nan
    keys, values = (cached(arrays[name], kind, library) for name in ("keys", "values"))
    mask = np.zeros((3, 32), np.float16)
    if own:
        mask[[0, 2]] = -np.inf
    found = attend((arrays["queries"], keys, values), mask, threads=1)
    assert found is not None
    assert np.isnan(found[0, 1]).all()


@pytest.mark.parametrize("kind", [np.float16, np.uint16])
def test_a_query_that_sees_nothing_gives_nothing(
    loaded: None, library: str, kind: type[Any]
) -> None:
    """No division by nothing, and its neighbours see what they see."""
    cache = cached(np.ones((1, 32, 64), np.float32), kind, library)
    mask = np.zeros((3, 32), np.float16)
    mask[1] = -np.inf
    found = attend((np.ones((2, 3, 64), np.float32), cache, cache), mask, threads=1)
    assert found is not None
    assert np.array_equal(found[:, 1], np.zeros((2, 64)))
    np.testing.assert_allclose(found[:, [0, 2]], 1, atol=2**-8)


def test_options_make_another_library(library: str, other_compiler: pytest.MonkeyPatch) -> None:
    """A compiler's arguments may be what a wrong one needs."""
    other_compiler.setenv("CC", "cc -fno-tree-vectorize")
    assert build.compiled_hash() not in library


def test_a_library_that_others_may_write_is_compiled_anew(tmp_path: Path) -> None:
    """Somebody else may have put it there."""
    compiled = Path(compile_kernels(tmp_path / "compiled") or "")
    whole = compiled.read_bytes()
    compiled.write_bytes(b"planted")
    compiled.chmod(0o777)
    compile_kernels(tmp_path / "compiled")
    assert compiled.read_bytes() == whole
