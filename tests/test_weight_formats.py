"""Which format is kept: a rule over measurements, and what they measure with real weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthgen_local import ModelError
from synthgen_local.engine.logprobs import kl_divergence
from synthgen_local.engine.parallel_plan import BatchSettings
from synthgen_local.loading.format_choice import (
    MAX_KL,
    MIN_GAIN,
    SPEED_TOLERANCE,
    choose_batch,
    choose_format,
    explain_choice,
)
from synthgen_local.loading.measurement import (
    DEFAULT_BATCH,
    Comparison,
    Measurement,
    Speed,
    convert,
    measure_format,
)
from synthgen_local.loading.weight_formats import AS_SHIPPED, FORMATS

FEW, NARROW, WIDE = BatchSettings(12, flash=False), BatchSettings(16), BatchSettings(64)
SHIPPED = Measurement(AS_SHIPPED, 100, 0.0, 1.0, [])
NUMBERS = st.floats(0, 4, allow_nan=False)
FOUND = st.lists(
    st.builds(
        Measurement, st.sampled_from(sorted(FORMATS)), st.integers(1, 9), NUMBERS, NUMBERS,
        st.just([]),
    ),
    unique_by=lambda found: found.format,
)  # fmt: skip


@given(FOUND)
def test_what_is_kept_is_near_and_fast(found: list[Measurement]) -> None:
    """It is within the bounds, no other that is too is faster by more than noise, or as fast."""
    chosen = choose_format([SHIPPED, *found])
    fit = [each for each in found if each.kl <= MAX_KL and each.gain >= MIN_GAIN]

    assert (chosen is None) == (not fit)
    if chosen:
        assert chosen in fit
        top = max(each.gain for each in fit)
        assert chosen.gain >= top * (1 - SPEED_TOLERANCE)
        assert all(each.kl >= chosen.kl for each in fit if each.gain >= top * (1 - SPEED_TOLERANCE))


@given(FOUND)
def test_one_is_kept_and_each_other_told_why_not(found: list[Measurement]) -> None:
    """Of all formats and the file as shipped exactly one is kept."""
    chosen = choose_format([SHIPPED, *found])

    verdicts = [explain_choice(each, chosen) for each in (SHIPPED, *found)]

    assert verdicts.count("kept") == 1
    assert all(verdicts)


def test_a_model_that_says_no_numbers_is_not_kept() -> None:
    """A divergence that is not a number is within no bound."""
    assert choose_format([Measurement("q4_0", 1, float("nan"), 3.0, [])]) is None


@pytest.mark.parametrize(
    ("speeds", "batch"),
    [
        ({}, DEFAULT_BATCH),
        ({NARROW: 900.0, DEFAULT_BATCH: 1000.0, WIDE: 1015.0}, DEFAULT_BATCH),
        ({NARROW: 990.0, DEFAULT_BATCH: 1000.0, WIDE: 1045.0}, WIDE),
        ({NARROW: 1200.0, DEFAULT_BATCH: 1000.0, WIDE: 1100.0}, NARROW),
        ({DEFAULT_BATCH: 1000.0, NARROW: 990.0, FEW: 985.0}, FEW),
    ],
)
def test_the_batch_is_the_narrowest_of_the_fast(
    speeds: dict[BatchSettings, float], batch: BatchSettings
) -> None:
    """Those close to the best are as fast as it is."""
    assert choose_batch([Speed(*each) for each in speeds.items()]) == batch


def test_divergence() -> None:
    """It is 0 for the same distribution, however its logits are shifted, and exact for others."""
    halves = np.log(np.array([[0.5, 0.5]], dtype=np.float32))
    other = np.log(np.array([[0.25, 0.75]], dtype=np.float32))

    assert kl_divergence(halves, halves + 7).max() == pytest.approx(0, abs=1e-6)
    assert kl_divergence(halves, other)[0] == pytest.approx(
        0.5 * np.log(2) + 0.5 * np.log(2 / 3), abs=1e-6
    )


@pytest.mark.model
def test_sixteen_bits_keep_the_distribution_and_four_do_not(weights: Path, tmp_path: Path) -> None:
    """The bound lets a change of rounding pass and refuses Q4_1 that was written as Q4_0."""
    found = {}
    for name in ("f16", "q4_0"):
        target = tmp_path / f"{name}.gguf"
        convert(weights, target, name, threads=2)
        asked, size = Comparison(str(weights), str(target), [FEW], 1, 1), target.stat().st_size
        found[name] = measure_format(name, asked, size)
        assert size < FORMATS[name].size(134_515_008) * 1.05
        target.unlink()

    assert 0 < found["f16"].kl < MAX_KL < found["q4_0"].kl
    assert found["f16"].speed(FEW)
    assert found["f16"].speed(DEFAULT_BATCH) is None


def test_a_file_that_cannot_be_written_in_another_format(tmp_path: Path) -> None:
    """It is an error of this process, wherever llama.cpp gave up."""
    (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))

    with pytest.raises(ModelError):
        convert(tmp_path / "bad.gguf", tmp_path / "f16.gguf", "f16", threads=1)
