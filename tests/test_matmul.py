"""Weights as our own kernels hold them, and the steps between products, against numpy.

Where a processor cannot multiply a format it is refused; what it computes is then not tested, but
skipped: int8 needs AMX or AVX-512 VNNI, bf16 AVX-512 BF16.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_kernels import EXAMPLES, Parameters, attended, defined, mask_of_rows, rounded, widened

from synthgen_local import DecodingError, LocalModel, ModelError
from synthgen_local.engine.backends.llamacpp import (
    LlamaModel,
    kernel_backend,
    repack_formats,
    vocabulary,
)
from synthgen_local.engine.backends.protocol import ContextSize, Step
from synthgen_local.engine.bitmask import masks, write_tokens
from synthgen_local.engine.logprobs import kl_divergence
from synthgen_local.kernels.build import PLAIN, Kernels
from synthgen_local.loading import (
    measurement,
    probe_cache,
    tuning,
    weight_formats,
)
from synthgen_local.loading.format_choice import MAX_KL
from synthgen_local.loading.measurement import Comparison, Measurement, Speed

GGML: Any = llama_cpp.llama_cpp._lib
F32, F16, Q8_0, I32, I64, BF16 = 0, 1, 8, 26, 27, 30
KINDS = {"float32": F32, "float16": F16, "uint16": BF16, "int32": I32, "int64": I64}
OFFERS = {"int8": 3, "bf16": 4}  # what is offered while weights are loaded: csrc/operators.h
HEADS = [b"output.weight", b"token_embd.weight"]
"""What the output head is called: beside bf16 it is held in 8 bits."""
_P, _I, _F, _L = ctypes.c_void_p, ctypes.c_int, ctypes.c_float, ctypes.c_int64
Array = NDArray[Any]


def _call(name: str, *arguments: Any, result: Any = _P) -> Any:
    """Call one of ggml's functions; numbers are what they are, all else is a pointer."""
    function = GGML[name]
    function.restype = result
    kinds = {int: _L, float: _F, bytes: ctypes.c_char_p}
    function.argtypes = [kinds.get(type(each), _P) for each in arguments]
    return function(*arguments)


class Bench:
    """Tensors in the CPU's memory and in a buffer for weights, and our device to compute them."""

    def __init__(self, threads: int, held: str = "int8") -> None:
        self.held = held
        self.context = self._init(1 << 26, no_alloc=False)
        self.weights = self._init(1 << 20, no_alloc=True)
        self.device = _call("ggml_backend_dev_by_name", b"synthgen-local")
        self.backend = _call("ggml_backend_dev_init", self.device, b"")
        registry = _call("ggml_backend_dev_backend_reg", self.device)
        name = b"ggml_backend_set_n_threads"
        set_threads = _call("ggml_backend_reg_get_proc_address", registry, name)
        ctypes.CFUNCTYPE(None, _P, _I)(set_threads)(self.backend, threads)
        self.buffers: list[int] = []

    @staticmethod
    def _init(size: int, *, no_alloc: bool) -> int:
        init = GGML["ggml_init"]
        init.restype, init.argtypes = _P, [Parameters]
        return int(init(Parameters(size, None, no_alloc)))

    def close(self) -> None:
        """Free it all."""
        for buffer in self.buffers:
            _call("ggml_backend_buffer_free", buffer, result=None)
        _call("ggml_backend_free", self.backend, result=None)
        for context in (self.weights, self.context):
            _call("ggml_free", context, result=None)

    def tensor(self, array: Array) -> int:
        """A tensor of the CPU's with these numbers."""
        made = self._new(self.context, KINDS[array.dtype.name], array.shape)
        ctypes.memmove(_call("ggml_get_data", made), array.ctypes.data, array.nbytes)
        return made

    def weight(self, array: Array, kind: int, name: bytes = b"") -> int:
        """A tensor of weights in our buffer, written in a format of ggml's."""
        made = self._new(self.weights, kind, array.shape)
        _call("ggml_set_name", made, name)
        offer = next(iter(kernel_backend._loaded.values())).synthgen_local_enable_device
        offer(OFFERS[self.held])
        kind_of_buffer = _call("ggml_backend_dev_buffer_type", self.device)
        offer(0)
        self.buffers.append(
            _call("ggml_backend_alloc_ctx_tensors_from_buft", self.weights, kind_of_buffer)
        )
        data = array
        if kind != F32:
            size = _call("ggml_nbytes", made, result=ctypes.c_size_t)
            data = np.zeros(size, np.uint8)
            quantise = GGML["ggml_quantize_chunk"]
            quantise.restype = ctypes.c_size_t
            quantise.argtypes = [_I, _P, _P, _L, _L, _L, _P]
            source = np.ascontiguousarray(array, np.float32)
            quantise(kind, source.ctypes.data, data.ctypes.data, 0, *array.shape, None)
        set_tensor = GGML["ggml_backend_tensor_set"]
        set_tensor.restype = None
        set_tensor.argtypes = [_P, _P, ctypes.c_size_t, ctypes.c_size_t]
        set_tensor(made, data.ctypes.data, 0, data.nbytes)
        return made

    def compute(self, *nodes: int) -> bool:
        """Compute nodes in one pass, if our device takes the last of them."""
        takes = _call("ggml_backend_supports_op", self.backend, nodes[-1], result=ctypes.c_bool)
        if not takes:
            return False
        graph = _call("ggml_new_graph", self.context)
        for node in nodes:
            _call("ggml_build_forward_expand", graph, node, result=None)
        assert _call("ggml_backend_graph_compute", self.backend, graph, result=_I) == 0
        return True

    def read(self, node: int, *shape: int, kind: Any = np.float32) -> Array:
        """A tensor's numbers."""
        found = np.empty(shape, kind)
        ctypes.memmove(found.ctypes.data, _call("ggml_get_data", node), found.nbytes)
        return found

    @staticmethod
    def _new(context: int, kind: int, shape: tuple[int, ...]) -> int:
        new = GGML["ggml_new_tensor_4d"]
        new.restype, new.argtypes = _P, [_P, _I, _L, _L, _L, _L]
        sizes = [*reversed(shape), 1, 1, 1][:4]
        return int(new(context, kind, *sizes))


@pytest.fixture(scope="module")
def able(weights: Path, library: str) -> list[str]:
    """Formats that this machine can hold; our kernels are loaded."""
    with closing(LlamaModel(weights, gpu_layers=0, kernels=Kernels(compiled=library))):
        return repack_formats(Kernels(compiled=library))


@pytest.fixture(params=OFFERS)
def held(request: pytest.FixtureRequest, able: list[str]) -> str:
    """A format that this machine can hold."""
    if request.param not in able:
        pytest.skip(f"this processor does not multiply {request.param}")
    return str(request.param)


@pytest.fixture(scope="module")
def capable(able: list[str]) -> None:
    """A machine that can hold them as int8."""
    if "int8" not in able:
        pytest.skip("this processor does not multiply int8")


def in_cache(held: str, *arrays: Array) -> list[Array]:
    """Keys and values as they are in a cache beside such weights."""
    return [rounded(each) if held == "bf16" else each for each in arrays]


@pytest.fixture
def bench(capable: None) -> Iterator[Bench]:
    """One with a single thread."""
    with closing(Bench(1)) as made:
        yield made


@pytest.mark.parametrize("held", OFFERS)
def test_where_the_processor_cannot_they_are_refused(
    weights: Path,
    library: str,
    able: list[str],
    held: str,
) -> None:
    """In one line, and nothing is computed in another way; where it can a model names them."""
    kernels = Kernels(compiled=library, weights=held)
    if held not in able:
        with pytest.raises(ModelError, match=f"do not support {held} weights"):
            LlamaModel(weights, gpu_layers=0, kernels=kernels)
        return
    with closing(LlamaModel(weights, gpu_layers=0, kernels=kernels)) as model:
        assert model.build.endswith(f"{Path(library).stem} {held}")
    assert repack_formats(PLAIN) == []


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32 - 1),
    tokens=st.integers(1, 90),
    rows=st.integers(1, 100),
    values=st.integers(1, 30).map(lambda n: 32 * n),
    kind=st.sampled_from([F32, F16, BF16, Q8_0]),
    threads=st.integers(1, 3),
    name=st.sampled_from([b"blk.0.ffn_up.weight", *HEADS]),
)
def test_a_product_is_that_of_the_weights(
    held: str,
    *,
    seed: int,
    tokens: int,
    rows: int,
    values: int,
    kind: int,
    threads: int,
    name: bytes,
) -> None:
    """Within what the format leaves out, for any number of tokens, rows and values."""
    stream = np.random.default_rng(seed)
    scale, mean = stream.choice([1e-3, 1, 30]), stream.choice([0, 2])
    w = (scale * stream.normal(mean, 1, (rows, values))).astype(np.float32)
    x = stream.normal(0, 1, (tokens, values)).astype(np.float32)
    x[0, 0] = stream.choice([0, 1, 100])  # an outlier
    with closing(Bench(threads, held)) as bench:
        read = bench.tensor(x)
        out = _call("ggml_mul_mat", bench.context, bench.weight(w, kind, name), read)
        assert bench.compute(out)
        found = bench.read(out, tokens, rows)
    if held == "bf16":
        most = np.abs(x) @ np.abs(w).T
        bound = (
            (kind == Q8_0) * np.abs(x).sum(axis=1)[:, None] * np.abs(w).max() / 254
        )  # the file's
        if name in HEADS:
            bound = bound + (1e-5 + (kind in {BF16, Q8_0}) * 2**-9) * most
            bound += 6 * np.sqrt(sum(map(_variance, _parts(w, 32), _parts(x, 32))))
        else:  # 8 bits of a weight and of an activation
            bound = bound + 2**-7 * most
        assert (np.abs(found - x @ w.T) <= bound + 1e-30).all()
        return
    steps = np.array([np.abs(part).max(axis=1) for part in _parts(w, 192)]).T / 127
    bound = (
        sum(
            steps[:, [i]] * np.sqrt((part**2).sum(axis=1))[None, :]
            for i, part in enumerate(_parts(x, 192))
        )
        + np.abs(w).max() * np.abs(x).max() * np.sqrt(values) * 2**-13
    )
    assert (np.abs(found - x @ w.T) <= 2 * bound.T).all()


def test_tokens_may_lie_in_more_dimensions(capable: None) -> None:
    """As they do in models that keep a state for each row."""
    stream = np.random.default_rng(0)
    w, x = stream.normal(size=(20, 64)), stream.normal(size=(3, 7, 64))
    with closing(Bench(1)) as bench:
        weight = bench.weight(w.astype(np.float32), F32)
        out = _call("ggml_mul_mat", bench.context, weight, bench.tensor(x.astype(np.float32)))
        assert bench.compute(out)
        np.testing.assert_allclose(bench.read(out, 3, 7, 20), x @ w.T, atol=0.3)


def _parts(array: Array, width: int) -> list[Array]:
    return [array[:, start : start + width] for start in range(0, array.shape[1], width)]


def _variance(w: Array, x: Array) -> Array:
    """That of products, where both are rounded to 127 steps of their largest."""
    of_w = (np.abs(w).max(axis=1, keepdims=True) / 127) ** 2 / 12
    of_x = (np.abs(x).max(axis=1, keepdims=True) / 127) ** 2 / 12
    found: Array = (x**2 + of_x) @ (w**2 + of_w).T - x**2 @ (w**2).T
    return found


@pytest.mark.parametrize("name", [b"", HEADS[0]])
def test_a_token_gives_the_same_in_any_company(held: str, name: bytes) -> None:
    """What a token gives does not hang on those that it is computed with."""
    stream = np.random.default_rng(0)
    w = stream.normal(size=(48, 576)).astype(np.float32)
    x = stream.normal(size=(70, 576)).astype(np.float32)
    found = []
    for part in (x, x[5:6], x[5:40]):
        with closing(Bench(1, held)) as bench:
            weight = bench.weight(w, F32, name)
            out = _call("ggml_mul_mat", bench.context, weight, bench.tensor(part))
            assert bench.compute(out)
            found.append(bench.read(out, len(part), 48))
    assert np.array_equal(found[0][5:6], found[1])
    assert np.array_equal(found[0][5:40], found[2])


def test_a_head_may_read_what_other_weights_read(held: str) -> None:
    """Each has activations of its own kind, whatever was multiplied before."""
    stream = np.random.default_rng(0)
    w = stream.normal(size=(40, 128)).astype(np.float32)
    x = stream.normal(size=(5, 128)).astype(np.float32)
    with closing(Bench(1, held)) as bench:
        read = bench.tensor(x)
        names = [b"", HEADS[0], b""]
        outs = [_call("ggml_mul_mat", bench.context, bench.weight(w, F32, n), read) for n in names]
        assert bench.compute(*outs)
        found = [bench.read(out, 5, 40) for out in outs]
    assert np.array_equal(found[0], found[2])
    np.testing.assert_allclose(found[1], x @ w.T, atol=0.5)


@pytest.mark.parametrize("name", [b"", HEADS[1]])
@pytest.mark.parametrize("where", ["weights", "activations"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_stays_none(held: str, where: str, bad: float, name: bytes) -> None:
    """A damaged file is found by its logits: they must not come out as numbers."""
    w, x = np.ones((16, 64), np.float32), np.ones((3, 64), np.float32)
    (w if where == "weights" else x)[1, 40] = bad
    with closing(Bench(1, held)) as bench:
        weight = bench.weight(w, F32, name)
        out = _call("ggml_mul_mat", bench.context, weight, bench.tensor(x))
        assert bench.compute(out)
        found = bench.read(out, 3, 16)
    spoilt = found[:, 1] if where == "weights" else found[1]
    assert not np.isfinite(spoilt).any()
    assert np.isfinite(found).sum() == found.size - spoilt.size


# ---- what is between products --------------------------------------------------------------------


def test_norms_sums_and_products(bench: Bench) -> None:
    """Row by row, with one row for all or one for each."""
    stream = np.random.default_rng(1)
    x = stream.normal(size=(5, 3, 64)).astype(np.float32)
    one, many = stream.normal(size=64).astype(np.float32), x[::-1].copy()
    a, b, c = bench.tensor(x), bench.tensor(one), bench.tensor(many)
    nodes = [
        _call("ggml_rms_norm", bench.context, a, 1e-5),
        _call("ggml_mul", bench.context, a, b),
        _call("ggml_add", bench.context, a, c),
        _call("ggml_scale", bench.context, a, 0.25),
    ]
    assert all(bench.compute(node) for node in nodes)
    found = [bench.read(node, *x.shape) for node in nodes]
    norm = x / np.sqrt((x.astype(np.float64) ** 2).mean(axis=-1, keepdims=True) + 1e-5)
    for mine, numpys in zip(found, [norm, x * one, x + many, x / 4], strict=True):
        np.testing.assert_allclose(mine, numpys, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", ["ggml_swiglu_split", "ggml_geglu_split"])
def test_gates(bench: Bench, name: str) -> None:
    """SiLU, and GELU as its usual approximation by tanh, of small and of large numbers."""
    x = np.linspace(-40, 40, 320, dtype=np.float32).reshape(5, 64)
    y = np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    node = _call(name, bench.context, bench.tensor(x), bench.tensor(y))
    assert bench.compute(node)
    wide = x.astype(np.float64)
    bend = wide if "swiglu" in name else 2 * np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)
    expected = wide / (1 + np.exp(-np.clip(bend, -500, 500))) * y
    np.testing.assert_allclose(bench.read(node, *x.shape), expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("neighbours", [True, False])
@pytest.mark.parametrize("turned", [64, 32])
def test_positions_turn_pairs(bench: Bench, turned: int, *, neighbours: bool) -> None:
    """RoFormer's rotation, of neighbours or of halves (arXiv 2104.09864); the rest stays."""
    x = np.random.default_rng(3).normal(size=(7, 2, 64)).astype(np.float32)
    positions = np.array([0, 1, 5, 5, 100, 999, 2047], np.int32)
    rope = GGML["ggml_rope_ext"]
    rope.restype, rope.argtypes = _P, [_P, _P, _P, _P, _I, _I, _I, _F, _F, _F, _F, _F, _F]
    mode, at = 0 if neighbours else 2, bench.tensor(positions)
    nodes = [
        rope(bench.context, bench.tensor(x), at, None, turned, mode, 0, base, 1.0, 0.0, 1.0, 0, 0)
        for base in (10000.0, 1e6)
    ]
    assert bench.compute(*nodes)
    for node, base in zip(nodes, (10000.0, 1e6), strict=True):
        angles = positions[:, None] * base ** (-2 * np.arange(turned // 2) / turned)
        part = np.exp(1j * angles)[:, None, :]
        first = slice(0, turned, 2) if neighbours else slice(0, turned // 2)
        second = slice(1, turned, 2) if neighbours else slice(turned // 2, turned)
        spun = (x[..., first] + 1j * x[..., second]) * part
        expected = x.copy()
        expected[..., first], expected[..., second] = spun.real, spun.imag
        np.testing.assert_allclose(bench.read(node, *x.shape), expected, atol=2e-3)


@pytest.mark.parametrize("kind", [np.float16, np.uint16])
def test_rows_are_taken_and_kept(bench: Bench, able: list[str], kind: type[Any]) -> None:
    """Rows of 32 bits by number; and rows of a cache, rounded to 16 bits or to bfloat16."""
    if kind is np.uint16 and "bf16" not in able:
        pytest.skip("this processor does not round to bfloat16")
    x = np.random.default_rng(4).normal(size=(6, 64)).astype(np.float32)
    cache, places = np.zeros((9, 64), kind), np.array([8, 0, 3, 2, 7, 5], np.int64)
    source, kept = bench.tensor(x), bench.tensor(cache)
    chosen = bench.tensor(np.array([4, 4, 0], np.int32))
    taken = _call("ggml_get_rows", bench.context, source, chosen)
    written = _call("ggml_set_rows", bench.context, kept, source, bench.tensor(places))
    assert bench.compute(taken)
    assert bench.compute(written)
    assert np.array_equal(bench.read(taken, 3, 64), x[[4, 4, 0]])
    cache[places] = rounded(x) if kind is np.uint16 else x
    assert np.array_equal(bench.read(kept, 9, 64, kind=kind), cache)


def test_what_is_of_another_kind_is_left_to_llama_cpp(bench: Bench) -> None:
    """Rows that do not fill vectors, and products of what is no weight."""
    odd = bench.tensor(np.zeros((2, 40), np.float32))
    x = bench.tensor(np.zeros((2, 64), np.float32))
    assert not bench.compute(_call("ggml_rms_norm", bench.context, odd, 1e-5))
    assert not bench.compute(_call("ggml_mul_mat", bench.context, x, x))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    seed=st.integers(0, 2**32 - 1),
    queries=st.integers(1, 40),
    shared=st.integers(0, 150),
    own=st.sampled_from([1, 5, 12, 40]),
    groups=st.tuples(st.integers(1, 2), st.integers(1, 6)),
    size=st.sampled_from([64, 256]),
    threads=st.integers(1, 3),
)
def test_attention_beside_such_products(
    held: str,
    *,
    seed: int,
    queries: int,
    shared: int,
    own: int,
    groups: tuple[int, int],
    size: int,
    threads: int,
) -> None:
    """Over a cache as it is beside them, it sees what each of a pass's masks says.

    A pass may be computed again with other masks at the same place.
    """
    stream = np.random.default_rng(seed)
    asked = [mask_of_rows(stream, queries, shared, own) for _ in range(4)]
    q, k, v = attended(stream, groups, asked[0].shape, size)
    bound = 1e-4
    if held == "bf16":
        q, k, v = (widened(rounded(each)) for each in (q, k, v))
        bound = 2**-8 * np.abs(v).max()
    with closing(Bench(threads, held)) as bench:
        tensors = [bench.tensor(each) for each in (q, *in_cache(held, k, v))]
        masks = [bench.tensor(mask) for mask in asked[:3]]
        layers = [
            _call("ggml_flash_attn_ext", bench.context, *tensors, mask, size**-0.5, 0.0, 0.0)
            for mask in masks + masks[::-1]  # the last of a pass is the first of the next
        ]
        for _ in range(2):
            assert bench.compute(*layers)
            shape = queries, len(q), size
            found = [bench.read(layer, *shape).transpose(1, 0, 2) for layer in layers]
            for layer, mask in zip(found, asked[:3] + asked[2::-1], strict=True):
                np.testing.assert_allclose(layer, defined(q, k, v, mask), atol=bound)
            assert np.array_equal(found[:3], found[:2:-1])
            asked[0] = asked[3]
            ctypes.memmove(_call("ggml_get_data", masks[0]), asked[0].ctypes.data, asked[0].nbytes)


def test_what_is_no_number_stays_none_beside_such_products(held: str) -> None:
    """A damaged file is found by its logits."""
    for place in range(3):
        arrays = [np.ones((2, 3, 64), np.float32), *np.ones((2, 1, 32, 64), np.float16)]
        arrays[place][0, 1] = np.nan
        arrays[1:] = in_cache(held, *arrays[1:])
        with closing(Bench(1, held)) as bench:
            tensors = [bench.tensor(each) for each in (*arrays, np.zeros((3, 32), np.float16))]
            out = _call("ggml_flash_attn_ext", bench.context, *tensors, 0.125, 0.0, 0.0)
            assert bench.compute(out)
            assert np.isnan(bench.read(out, 3, 2, 64)[1, 0]).all()


# ---- in a model -------------------------------------------------------------------------------


@pytest.mark.model
def test_a_model_stays_itself(weights: Path, library: str, held: str) -> None:
    """Its predictions stay within the bound of all formats, beside one that is held otherwise."""
    found = []
    ways = (Kernels(), Kernels(compiled=library, weights=held), Kernels(compiled=library))
    for kernels in ways:
        with closing(LlamaModel(weights, gpu_layers=0, kernels=kernels)) as model:
            tokens = model.tokenize("The bill of Maria Weber, born in 1961, is 120.50 euros, and")
            with closing(model.open_context(ContextSize(40, 512, 1))) as context:
                context.prefill(tokens[:3])
                context.fork(0)
                found.append(context.decode([Step([0], [token]) for token in tokens[3:]]).copy())
    assert (
        0 < kl_divergence(found[0], found[1]).mean() < 2 * MAX_KL
    )  # a few tokens: the bound is of many
    assert not np.array_equal(found[1], found[2])


@pytest.mark.model
def test_a_cache_is_of_the_weights_kind(
    weights: Path,
    library: str,
    held: str,
) -> None:
    """Beside bf16 it is in bfloat16, else in 16 bits, and takes no prefix of the other kind."""
    states: list[tuple[bytes, int]] = []
    for kernels in (Kernels(compiled=library, weights=held), Kernels(compiled=library)):
        with closing(LlamaModel(weights, gpu_layers=0, kernels=kernels)) as model:
            prompt = model.tokenize("The bill of Maria Weber")
            with closing(model.open_context(ContextSize(2, 256, 1))) as context:
                context.prefill(prompt)
                states.append((context.save_prefix(), len(prompt)))
                for number, state in enumerate(states):
                    another = number < len(states) - 1 and held == "bf16"
                    with pytest.raises(DecodingError) if another else nullcontext():
                        context.load_prefix(*state)


@pytest.mark.model
@pytest.mark.parametrize(("key", "value"), [("key_length", "40"), ("softcapping", "30.0")])
def test_a_cache_whose_attention_is_llama_cpps_is_as_it_likes_it(
    weights: Path,
    library: str,
    held: str,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    value: str,
) -> None:
    """Heads that do not fill vectors, and a cap on scores: in 16 bits, like one of its own."""
    read = vocabulary.read_metadata
    told = lambda model, asked: value if asked.endswith(key) else read(model, asked)  # noqa: E731
    monkeypatch.setattr(vocabulary, "read_metadata", told)
    state = b""
    for kernels in (Kernels(compiled=library), Kernels(compiled=library, weights=held)):
        with (
            closing(LlamaModel(weights, gpu_layers=0, kernels=kernels)) as model,
            closing(model.open_context(ContextSize(2, 256, 1))) as context,
        ):
            prompt = model.tokenize("The bill of Maria Weber")
            if state:
                context.load_prefix(state, len(prompt))
            context.prefill(prompt)
            state = context.save_prefix()


@pytest.mark.model
@pytest.mark.parametrize("threads", [1, 2])
def test_no_other_logits_are_computed_than_are_asked_for(
    weights: Path,
    library: str,
    held: str,
    threads: int,
) -> None:
    """Those are what they are among all others, to the bit, whoever asks for few or for all."""
    stream = np.random.default_rng(threads)
    with closing(
        LlamaModel(weights, gpu_layers=0, kernels=Kernels(compiled=library, weights=held))
    ) as model:
        text = model.tokenize("The bill of Maria Weber, born in 1961, is 120.50 euros, and")
        with closing(model.open_context(ContextSize(42, 1024, threads))) as context:
            for asking in (40, 23, 1):
                sizes = stream.choice([1, 30, 3000, model.vocabulary // 2], asking)
                asked = [stream.choice(model.vocabulary, n, replace=False) for n in sizes]
                steps = []
                for slot, tokens in enumerate(asked):
                    mask = masks(1, model.vocabulary)[0]
                    write_tokens(mask, tokens)
                    steps.append(Step([slot], text[slot % 9 :], None if slot % 5 == 1 else mask))
                found = []
                together = Step([asking, asking + 1], text[:2])
                for each in (steps, [step._replace(mask=None) for step in steps], steps):
                    context.prefill(text[:3])
                    for slot in range(asking + 2):
                        context.fork(slot)
                    found.append(context.decode([*each, together]).copy())
                few, every, again = found
                assert np.array_equal(few[-1], every[-1])
                for row, (step, tokens) in enumerate(zip(steps, asked, strict=True)):
                    some = slice(None) if step.mask is None else tokens
                    assert np.array_equal(few[row, some], every[row, some])
                    assert np.array_equal(again[row, some], every[row, some])


@pytest.mark.model
def test_what_pays_is_held(
    weights: Path,
    able: list[str],
    held: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file as shipped is opened, and held in the format that was measured to be fastest."""

    def measure(name: str, asked: Comparison, size: int) -> Measurement:
        speeds = [Speed(each, 100.0 + 100 * (name == held)) for each in asked.batches]
        return Measurement(name, size, 0.0, 1.0 + (name == held), speeds)

    monkeypatch.setattr(measurement, "measure_format", measure)
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path))
    ours = probe_cache.probe_once(weights, gpu_layers=0)
    assert weight_formats.likely_format(ours) == able[0]
    tuning.optimise(weights, able, threads=1, kernels=ours)
    with LocalModel.load(str(weights), gpu_layers=0) as model:
        assert model.load_plan is not None
        assert (model.load_plan.repacked_as, model.load_plan.path) == (held, model.path)
        assert model.engine.build.endswith(f" {held}")
    with LocalModel.load(str(weights), gpu_layers=0, weights="as-shipped") as model:
        assert not model.engine.build.endswith(tuple(OFFERS))
    assert [path.suffix for path in (tmp_path / "optimised").iterdir()] == [".json"]


def test_without_our_kernels_nothing_is_held(weights: Path) -> None:
    """A record of what they did is no reason to name a format that is not there."""
    with pytest.raises(ModelError, match="which are not available"):
        LlamaModel(weights, gpu_layers=0, kernels=Kernels(weights="bf16"))
