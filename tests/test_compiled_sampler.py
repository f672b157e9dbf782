"""The compiled draws are numpy's, in a call of their own and in one with a pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import llama_cpp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import mask_of

from synthgen_local import DecodingError
from synthgen_local.engine import compiled_sampler
from synthgen_local.engine.backends.llamacpp import LlamaContext, LlamaModel, repack_formats
from synthgen_local.engine.backends.protocol import ContextSize, Logits, Step
from synthgen_local.engine.bitmask import Mask
from synthgen_local.engine.compiled_sampler import CompiledSampler
from synthgen_local.engine.sampling import Sample, SamplingInputs, sample, sample_row, sample_rows
from synthgen_local.kernels.build import Kernels


class DrawOne(Protocol):
    """A draw of one row."""

    def __call__(
        self,
        logits: Logits,
        mask: Mask,
        *,
        temperature: float,
        uniform: float,
        with_mass: bool = True,
    ) -> Sample:
        """Sample it."""
        ...


@pytest.fixture(scope="session")
def ours(library: str) -> DrawOne:
    """The compiled draw, of one row."""
    compiled = CompiledSampler(library)

    def one(
        logits: Logits, mask: Mask, *, temperature: float, uniform: float, with_mass: bool = True
    ) -> Sample:
        inputs = SamplingInputs(mask[None], temperature, [uniform], [with_mass])
        return compiled.rows([logits], inputs, threads=1)[0]

    return one


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    blocks=st.integers(1, 80),
    part=st.sampled_from([0.01, 0.5, 1.0]),
    spread=st.sampled_from([0.1, 3.0, 40.0]),
    temperature=st.sampled_from([0.0, 0.3, 1.0, 2.0]),
    uniform=st.floats(0, 1, exclude_max=True),
    with_mass=st.booleans(),
)
def test_a_draw_is_numpys(
    ours: DrawOne,
    seed: int,
    blocks: int,
    part: float,
    spread: float,
    temperature: float,
    uniform: float,
    with_mass: bool,
) -> None:
    """The same token and mass, up to rounding: the token's neighbours may differ by that.

    A draw that is not with_mass reads none of the logits that the mask leaves out.
    """
    stream = np.random.default_rng(seed)
    logits = stream.normal(0, spread, blocks * 16).astype(np.float32)
    allowed = stream.random(len(logits)) < part
    allowed[stream.integers(len(logits))] = True
    mask = mask_of(allowed)
    read = logits if with_mass else np.where(allowed, logits, np.float32(np.nan))
    mine = ours(read, mask, temperature=temperature, uniform=uniform, with_mass=with_mass)
    numpys = sample(read, mask, temperature=temperature, uniform=uniform, with_mass=with_mass)
    scaled = logits.astype(np.float64) / (temperature or 1)
    weights = np.exp(scaled - scaled.max())
    exact = np.log(weights[allowed].sum() / weights.sum())
    if with_mass:
        assert mine.log_allowed_mass == pytest.approx(exact, abs=1e-4)
    else:
        assert mine.log_allowed_mass is None
    assert allowed[mine.token]
    if mine.token != numpys.token:
        first, last = (
            sample(read, mask, temperature=temperature, uniform=each, with_mass=with_mass).token
            for each in (max(0.0, uniform - 1e-6), min(uniform + 1e-6, np.nextafter(1, 0)))
        )
        assert first <= mine.token <= last


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 17, 63])
@pytest.mark.parametrize("with_mass", [True, False])
def test_logits_that_are_no_numbers_are_refused(
    ours: DrawOne, bad: float, place: int, with_mass: bool
) -> None:
    """By whichever draw, wherever they are."""
    logits = np.zeros(64, np.float32)
    logits[place] = bad
    with pytest.raises(DecodingError, match="not finite"):
        ours(logits, mask_of(np.ones(64)), temperature=1.0, uniform=0.5, with_mass=with_mass)


@pytest.mark.parametrize("vocabulary", [48, 50])
def test_what_the_model_finds_impossible_is_weighed_among_itself(
    ours: DrawOne, vocabulary: int
) -> None:
    """Tokens below the reach of floats, and a vocabulary that does not fill vectors."""
    logits = np.full(vocabulary, -400, np.float32)
    logits[0], logits[7] = 0, -300
    allowed = np.ones(vocabulary)
    allowed[0] = 0
    found = ours(logits, mask_of(allowed), temperature=1.0, uniform=0.5)
    assert found.token == 7
    assert found.log_allowed_mass == pytest.approx(-300)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("with_mass", [True, False])
def test_where_nothing_is_possible(ours: DrawOne, temperature: float, with_mass: bool) -> None:
    """It is an error, and no token that is not allowed."""
    logits = np.full(64, -np.inf, np.float32)
    logits[0] = 0
    allowed = np.ones(64)
    allowed[0] = 0
    with pytest.raises(DecodingError, match="probability of zero"):
        ours(logits, mask_of(allowed), temperature=temperature, uniform=0.5, with_mass=with_mass)


def test_a_library_that_does_not_load(tmp_path: Path) -> None:
    """The error names the file that is to be deleted."""
    (tmp_path / "cut.so").write_bytes(b"cut")
    with pytest.raises(DecodingError, match=r"cut\.so cannot be loaded"):
        CompiledSampler(str(tmp_path / "cut.so"))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 20), threads=st.integers(1, 4))
def test_rows_are_drawn_as_each_alone(library: str, seed: int, rows: int, threads: int) -> None:
    """To the bit, whoever their neighbours and however many threads; what is left to numpy, too."""
    stream = np.random.default_rng(seed)
    logits = stream.normal(0, 3, (rows, 512)).astype(np.float32)
    logits[stream.integers(rows), 1:] = -400
    masks = np.array([mask_of(stream.random(512) < 0.5) for _ in range(rows)])
    masks[:, 0] = masks[:, 0] & ~1 | 2
    uniforms = stream.random(rows).tolist()
    with_mass = (stream.random(rows) < 0.5).tolist()
    drawn, inputs = CompiledSampler(library).rows, SamplingInputs(masks, 0.7, uniforms, with_mass)
    together = drawn(logits, inputs, threads=threads)
    alone = [
        drawn(
            [logits[n]],
            SamplingInputs(masks[n : n + 1], 0.7, uniforms[n : n + 1], with_mass[n : n + 1]),
            threads=threads,
        )
        for n in range(rows)
    ]
    assert [together] == [[draw for [draw] in alone]]
    numpys = sample_rows(logits, inputs)
    assert [draw.log_allowed_mass for draw in together] == [
        None if draw.log_allowed_mass is None else pytest.approx(draw.log_allowed_mass, abs=1e-4)
        for draw in numpys
    ]


@pytest.mark.parametrize("size", [64, 50])
@pytest.mark.parametrize("with_mass", [True, False])
def test_an_empty_mask_is_an_error(ours: DrawOne, size: int, with_mass: bool) -> None:
    """A grammar that allows nothing is to blame, not the weights."""
    nothing = np.zeros(size, np.float32), mask_of(np.zeros(size))
    with pytest.raises(DecodingError, match="no token is allowed"):
        ours(*nothing, temperature=1.0, uniform=0.5, with_mass=with_mass)


def test_a_logit_of_minus_infinity_is_no_weight(ours: DrawOne) -> None:
    """It is never drawn."""
    logits = np.zeros(64, np.float32)
    logits[::2] = -np.inf
    found = {
        ours(logits, mask_of(np.ones(64)), temperature=1.0, uniform=u / 200).token
        for u in range(200)
    }
    assert found == set(range(1, 64, 2))


ROWS = 6


def held_as(library: str) -> list[Kernels]:
    """Our kernels for attention alone, and with weights in each format that this machine holds."""
    plain = Kernels(compiled=library)
    return [plain, *(Kernels(compiled=library, weights=name) for name in repack_formats(plain))]


@pytest.fixture(scope="module")
def engines(weights: Path, library: str) -> Iterator[list[LlamaModel]]:
    """A model with each."""
    opened = [LlamaModel(weights, gpu_layers=0, kernels=kernels) for kernels in held_as(library)]
    yield opened
    for engine in opened:
        engine.close()


def begun(engine: LlamaModel, cells: int = 1024) -> LlamaContext:
    """A context of six rows after a prompt."""
    context = engine.open_context(ContextSize(ROWS, cells, 1))
    context.prefill(engine.tokenize("Once upon a time"))
    for slot in range(ROWS):
        context.fork(slot)
    return context


def steps_and_draws(
    engine: LlamaModel, seed: int, temperature: float
) -> tuple[list[Step], list[int], SamplingInputs]:
    """Rows of which two take the same tokens, and of three few logits are asked."""
    stream = np.random.default_rng(seed)
    masks = np.array([mask_of(stream.random(engine.vocabulary) < 0.1) for _ in range(ROWS)])
    with_mass = [True, False, False, False, False, True]
    tokens = stream.integers(1000, 2000, 40).tolist()
    steps = [
        Step([0, 1], tokens[:3]),
        *(Step([slot], tokens[slot : 2 * slot], masks[slot]) for slot in range(2, 5)),
        Step([5], tokens[:9]),
    ]
    inputs = SamplingInputs(masks, temperature, stream.random(ROWS).tolist(), with_mass)
    return steps, [0, 0, 1, 2, 3, 4], inputs


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_a_pass_and_its_draws_are_the_same_in_one_call(
    engines: list[LlamaModel], temperature: float
) -> None:
    """To the bit: logits, tokens and weights, whoever computes the logits."""
    for engine in engines:
        steps, outputs, inputs = steps_and_draws(engine, 0, temperature)
        with closing(begun(engine)) as context:
            every = context.decode(steps)
            apart = context.sample([every[output] for output in outputs], inputs)
            looked_at = [every[0].copy(), every[4].copy()]
        with closing(begun(engine)) as context:
            logits, draws = context.decode_and_sample(steps, outputs, inputs)
            assert draws == apart
            assert context.sampling_seconds > 0
            for one, other in zip(looked_at, (logits[1], logits[5]), strict=True):
                assert (one == other).all()
            later = [Step([slot], [found.token]) for slot, found in enumerate(draws)]
            assert np.isfinite(context.decode(later)).all()


def test_what_exceeds_a_pass_is_drawn_after_the_last(engines: list[LlamaModel]) -> None:
    """Rows of more tokens than a pass takes."""
    engine = engines[0]
    _, _, inputs = steps_and_draws(engine, 1, 1.0)
    steps = [Step([slot], [1000 + slot] * 100) for slot in range(ROWS)]
    with closing(begun(engine)) as context:
        logits, draws = context.decode_and_sample(steps, list(range(ROWS)), inputs)
    assert draws == context.sample(logits, inputs)


def test_what_the_library_leaves_to_numpy_is_drawn_after_a_pass(
    engines: list[LlamaModel],
) -> None:
    """A mask without tokens is an error that says so, and not a token."""
    steps, outputs, inputs = steps_and_draws(engines[0], 2, 1.0)
    inputs.masks[4] = 0
    with closing(begun(engines[0])) as context, pytest.raises(DecodingError, match="no token"):
        context.decode_and_sample(steps, outputs, inputs)


def test_what_is_left_to_numpy_is_drawn_from_each_rows_own_logits(
    engines: list[LlamaModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where allowed tokens are beyond the reach of floats, numpy draws, and for the right row."""
    steps, outputs, inputs = steps_and_draws(engines[0], 4, 0.005)
    left: list[int] = []

    def by_numpy(logits: Logits, inputs: SamplingInputs, row: int) -> Sample:
        left.append(row)
        return sample_row(logits, inputs, row)

    monkeypatch.setattr(compiled_sampler, "sample_row", by_numpy)
    with closing(begun(engines[0])) as context:
        logits, draws = context.decode_and_sample(steps, outputs, inputs)
        assert left
        assert [draws[row] for row in left] == [
            sample_row(logits[row], inputs, row) for row in left
        ]


def test_a_pass_and_its_draws_are_one_call(
    engines: list[LlamaModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither of the two is called by itself."""
    steps, outputs, inputs = steps_and_draws(engines[0], 5, 1.0)
    with closing(begun(engines[0])) as context:
        for owner, name in ((llama_cpp, "llama_decode"), (CompiledSampler, "rows")):
            monkeypatch.delattr(owner, name)
        context.decode_and_sample(steps, outputs, inputs)


def test_a_pass_that_fails_draws_nothing(engines: list[LlamaModel]) -> None:
    """A full cache is llama.cpp's error, whoever asks."""
    for engine in engines:
        _, _, inputs = steps_and_draws(engine, 3, 1.0)
        outputs = list(range(ROWS))
        steps = [Step([slot], [1000] * 40) for slot in range(ROWS)]
        with closing(begun(engine, cells=256)) as context:
            context.decode_and_sample(steps, outputs, inputs)
            with pytest.raises(DecodingError, match="stopped with status 1"):
                context.decode_and_sample(steps, outputs, inputs)
        with closing(begun(engine)) as context:
            assert np.isfinite(context.decode([Step([0], [1000])])).all()


def test_each_row_needs_its_inputs(library: str) -> None:
    """Where there are more rows than masks nothing is read beyond them."""
    logits = np.zeros((2, 64), np.float32)
    inputs = SamplingInputs(mask_of(np.ones(64))[None], 1.0, [0.5], [True])
    with pytest.raises(ValueError, match="Each row"):
        CompiledSampler(library).rows(list(logits), inputs, threads=1)
    with pytest.raises(ValueError, match="Each row"):
        CompiledSampler(library).prepare_pass(inputs, [0, 1], 64, threads=1)
    with pytest.raises(ValueError, match="Each row"):
        sample_rows(list(logits), inputs)
