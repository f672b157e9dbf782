"""What is recorded of a model on a kind of machine, and what is opened because of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_gguf import UINT32, Tiny

from synthgen_local import LocalModel, ModelError, UsageError
from synthgen_local.engine.parallel_plan import BatchSettings
from synthgen_local.loading import (
    load_plan,
    measurement,
    tuning,
    tuning_record,
)
from synthgen_local.loading.measurement import DEFAULT_BATCH, Comparison, Measurement, Speed
from synthgen_local.models import store
from synthgen_local.system.subprocess_call import SubprocessDiedError

Run = Callable[..., Any]
WIDE = BatchSettings(64)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def shipped(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that says that it is Q4_1, and measurements without a clock."""

    def measure(name: str, asked: Comparison, size: int) -> Measurement:
        kl = {"as-shipped": 0.0, "q4_0": 0.2, "f16": 0.001}.get(name, 0.002)
        speeds = [Speed(each, 200.0 if each == WIDE else 100.0) for each in asked.batches]
        return Measurement(name, size, kl, 1.0 if name == "as-shipped" else 2.0, speeds)

    monkeypatch.setattr(measurement, "measure_format", measure)
    monkeypatch.setattr(load_plan, "likely_format", lambda _kernels: "f16")
    model = Tiny()
    model.keys["general.file_type"] = (UINT32, 3)
    return model.write(tmp_path / "tiny.gguf")


def test_a_small_quantised_file_is_expanded_at_first_use(shipped: Path, cache: Path) -> None:
    """It is measured once; then the record decides, and no two openings differ."""
    first = load_plan.choose_load_plan(shipped, threads=1)
    record = next((cache / "optimised").glob("*.json"))
    written = record.stat().st_mtime_ns

    assert load_plan.choose_load_plan(shipped, threads=1) == first
    assert (first.format, first.batch) == ("f16", BatchSettings(12, flash=False))
    assert first.path.parent == record.parent
    assert json.loads(record.read_text())["sha256"] == store.sha256_of(first.path)
    assert record.stat().st_mtime_ns == written
    assert sorted(path.suffix for path in record.parent.iterdir()) == [".gguf", ".json"]


def test_what_is_kept_is_not_forgotten_for_another_format(shipped: Path) -> None:
    """Trying one more format compares it with those that were tried before."""
    assert tuning.optimise(shipped, ["f16"], threads=1).format == "f16"
    assert tuning.optimise(shipped, ["q4_0"], threads=1).format == "f16"


def test_numbers_that_are_none_are_recorded(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A format that spoils the logits is not kept, and its record can be read."""

    def measure(name: str, asked: Comparison, size: int) -> Measurement:
        kl = 0.0 if name == "as-shipped" else float("nan")
        return Measurement(name, 1, kl, 2.0, [Speed(batch, 1.0) for batch in asked.batches])

    monkeypatch.setattr(measurement, "measure_format", measure)
    tuning.optimise(shipped, ["f16"], threads=1)
    tuned = tuning_record.read_record(shipped)

    assert tuned is not None
    assert tuned.format == "as-shipped"


def test_what_does_not_pay_is_recorded_as_well(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file as shipped is then opened without another look."""

    def measure(name: str, _asked: Comparison, _size: int) -> Measurement:
        return Measurement(name, 1, 0.0, 1.0, [Speed(DEFAULT_BATCH, 1.0)])

    monkeypatch.setattr(measurement, "measure_format", measure)
    assert load_plan.choose_load_plan(shipped, threads=1) == load_plan.LoadPlan(shipped)

    monkeypatch.setattr(measurement, "convert", None)
    assert load_plan.choose_load_plan(shipped, threads=1) == load_plan.LoadPlan(shipped)
    tuned = tuning_record.read_record(shipped)
    assert tuned is not None
    assert tuned.verdicts() == {
        "as-shipped": "kept",
        "f16": "less than 1.1 times as fast as shipped",
    }


def test_a_failure_at_first_use_is_told(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model runs as it is, a warning says why, and nothing is recorded."""

    def fail(*_: Any, **__: Any) -> None:
        raise ModelError("no room")

    monkeypatch.setattr(measurement, "convert", fail)

    with pytest.warns(UserWarning, match="as shipped, which is slower: no room"):
        assert load_plan.choose_load_plan(shipped, threads=1) == load_plan.LoadPlan(shipped)
    assert tuning_record.read_record(shipped) is None


def test_a_format_that_llama_cpp_dies_of_is_not_kept(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others are measured all the same, and the record says why it was not."""
    measure = measurement.measure_format

    def dies_of_one(name: str, asked: Comparison, size: int) -> Measurement:
        if name == "q8_0":
            raise SubprocessDiedError("llama.cpp ends with SIGSEGV on it")
        return measure(name, asked, size)

    monkeypatch.setattr(measurement, "measure_format", dies_of_one)
    tuned = tuning.optimise(shipped, ["f16", "q8_0"], threads=1)

    assert tuned.format == "f16"
    assert tuned.refused == {"q8_0": "llama.cpp crashes on it"}


def test_optimising_chooses_format_and_batch(shipped: Path) -> None:
    """What was asked for replaces what was found at first use, and is not measured twice."""
    before = load_plan.choose_load_plan(shipped, threads=1)
    notes: list[str] = []
    tuned = tuning.optimise(shipped, ["q4_0", "q8_0", "f16"], threads=1, note=notes.append)
    again = tuning.optimise(shipped, ["f16"], threads=1, note=notes.append)

    assert (tuned.format, tuned.batch) == ("f16", WIDE)
    assert tuned == again
    assert len([note for note in notes if note.startswith("Measuring")]) == 4
    assert tuned.verdicts()["q4_0"] == "changes the model: KL above 0.01"
    assert load_plan.choose_load_plan(shipped, threads=1).batch == WIDE
    assert before.path == tuned.path(shipped)


def test_the_record_decides_how_a_model_is_loaded(shipped: Path) -> None:
    """Its file and its rows a context; `as-shipped` and `batch` overrule it."""
    tuned = tuning.optimise(shipped, ["f16"], threads=1)

    with LocalModel.load(str(shipped), threads=2, gpu_layers=0) as model:
        assert model.load_plan == load_plan.LoadPlan(tuned.path(shipped), "f16", WIDE)
        assert (model.batch_size(1000), model.batch_size(1000, 7)) == (128, 7)
        assert [model.batch_size(rows) for rows in (10, 128, 200, 256)] == [64, 64, 100, 128]
    with LocalModel.load(str(shipped), threads=2, gpu_layers=0, weights="as-shipped") as model:
        assert model.load_plan == load_plan.LoadPlan(shipped)
        assert model.batch_size(1000) == 64


def test_attention_is_what_was_measured_or_asked_for(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch that is faster without flash attention turns it off; `flash_attn` overrules it."""
    few = BatchSettings(12, flash=False)

    def measure(name: str, asked: Comparison, size: int) -> Measurement:
        speeds = [Speed(batch, 200.0 if batch == few else 100.0) for batch in asked.batches]
        return Measurement(name, 1, 0.0, 1.0, speeds)

    monkeypatch.setattr(measurement, "measure_format", measure)
    monkeypatch.setattr(measurement, "quick_batches", lambda _kernels: (few, DEFAULT_BATCH))
    found = {}
    for asked in ("auto", "on", "off"):
        with LocalModel.load(str(shipped), threads=2, gpu_layers=0, flash_attn=asked) as model:
            found[asked] = (model.flash_attn, model.batch_size(1000))

    assert found == {"auto": ("off", 24), "on": ("on", 24), "off": ("off", 24)}
    with pytest.raises(UsageError, match="flash_attn cannot be 'yes'"):
        LocalModel.load(str(shipped), flash_attn="yes")  # type: ignore[arg-type]


def test_a_file_that_is_gone_is_not_passed_by(shipped: Path) -> None:
    """What was chosen is opened or nothing; writing it again or forgetting it are ways out."""
    path = tuning.optimise(shipped, ["f16"], threads=1).path(shipped)
    path.unlink()

    with pytest.raises(ModelError, match="missing or truncated"):
        load_plan.choose_load_plan(shipped, threads=1)
    assert tuning.optimise(shipped, ["f16"], threads=1).path(shipped).is_file()
    path.unlink()
    assert len(tuning_record.delete_optimised(shipped)) == 1
    assert load_plan.choose_load_plan(shipped, threads=1).path == path


def test_a_changed_byte_is_found(shipped: Path) -> None:
    """The optimised file is hashed by `verify` as the shipped one is."""
    path = tuning.optimise(shipped, ["f16"], threads=1).path(shipped)
    tuning_record.verify_optimised(shipped)
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    with pytest.raises(ModelError, match="is damaged"):
        tuning_record.verify_optimised(shipped)


@pytest.mark.parametrize(
    ("bound", "value", "reason"),
    [
        ("MAX_FILE_SIZE", 1000, "above the bound"),
        ("_RESERVED", 1 << 60, "the disk has 0.0 GB left"),
        ("_memory", lambda: 1000, "half of this machine's memory"),
    ],
)
def test_bounds(
    bound: str, value: Any, reason: str, shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No file is written that is too large for the bound, the disk or the memory."""
    monkeypatch.setattr(tuning, bound, value)

    with pytest.raises(ModelError, match=reason):
        tuning.optimise(shipped, ["f16"], threads=1)


def test_formats_by_name(shipped: Path) -> None:
    """One that is not known is an error of usage."""
    with pytest.raises(UsageError, match="Unknown format: q9"):
        tuning.optimise(shipped, ["q9"], threads=1)


def test_the_command(run: Run, tmp_path: Path) -> None:
    """Table and note for people, JSON for programs; what it wrote can be listed and forgotten."""
    Tiny().write(tmp_path / "tiny.gguf")
    settings = {"SYNTHGEN_LOCAL_CACHE": str(tmp_path / "cache")}
    run("models", "add", "tiny.gguf", **settings)
    ask = ("models", "optimise", "tiny", "--threads", "1")

    shown = run(*ask, "--formats", "f16", **settings)
    told = json.loads(run(*ask, "--formats", "f16", "--json", **settings).out)
    wrong = run(*ask, "--formats", "q9", **settings)
    listed = run("models", "list", "--json", **settings)
    gone = run("models", "optimise", "tiny", "--forget", **settings)

    assert (shown.code, wrong.code, gone.code) == (0, 2, 0), shown.err
    assert "KL, nats a token" in shown.out
    assert "Measuring f16" in shown.err
    assert list(told["verdicts"]) == ["as-shipped", "f16"]
    assert list(told["verdicts"].values()).count("kept") == 1
    assert "optimised" in json.loads(listed.out)[-1]
    assert not list((tmp_path / "cache" / "optimised").iterdir())
