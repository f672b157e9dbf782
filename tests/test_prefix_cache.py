"""Evaluated prompts that are kept on disk."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from medical_billing import EXAMPLES, MedicalBilling

from synthgen_local import FewShotPrompt, LocalModel, TabularGenerator
from synthgen_local.engine.prefix import Prefix
from synthgen_local.loading.prefix_cache import PrefixKey, load_prefix, save_prefix
from synthgen_local.models.store import cache_dir

ASK: dict[str, Any] = {"subject": "medical_billing", "rows": 4, "seed": 3}


@pytest.fixture
def kept(model: LocalModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LocalModel:
    """Real weights, and a cache of their own for prefixes."""
    monkeypatch.setattr("synthgen_local.loading.prefix_cache.cache_dir", lambda: tmp_path)
    return LocalModel(
        model.engine,
        path=model.path,
        load_plan=model.load_plan,
        threads=model.threads,
        keep_prefixes=True,
    )


def rows(model: LocalModel) -> list[Any]:
    prompt = FewShotPrompt(examples=EXAMPLES)
    return list(TabularGenerator(MedicalBilling, model, prompt=prompt).generate(**ASK))


def test_a_kept_prompt_is_not_evaluated_again(
    model: LocalModel, kept: LocalModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run reads what the first has left, and rows are those of any run."""
    usual, first = rows(model), rows(kept)
    (file,) = (tmp_path / "prefixes").glob("*.npz")
    assert file.stat().st_mode & 0o077 == 0, "others could read the examples"
    monkeypatch.setattr(Prefix, "prefill", lambda *_, **__: pytest.fail("it was evaluated again"))

    assert rows(kept) == first == usual


def test_a_damaged_file_is_not_used(kept: LocalModel, tmp_path: Path) -> None:
    """A bit that has changed is found before llama.cpp sees it; the prompt is evaluated again."""
    first = rows(kept)
    (file,) = (tmp_path / "prefixes").glob("*.npz")
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)

    assert rows(kept) == first


def test_nothing_is_kept_unasked(model: LocalModel) -> None:
    """Examples may be somebody's patients: no run leaves its prompt behind."""
    rows(model)

    assert not (cache_dir() / "prefixes").exists()


def test_the_environment_asks_for_it(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SYNTHGEN_LOCAL_KEEP_PREFIXES=1 is for all runs."""
    monkeypatch.setenv("SYNTHGEN_LOCAL_KEEP_PREFIXES", "1")
    saved: list[PrefixKey] = []
    monkeypatch.setattr("synthgen_local.local_model.save_prefix", lambda key, _: saved.append(key))

    with LocalModel.load(str(weights)) as loaded:
        rows(loaded)

    assert len(saved) == 1


def test_what_a_killed_run_has_left_is_deleted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A scratch file holds examples too."""
    monkeypatch.setattr("synthgen_local.loading.prefix_cache.cache_dir", lambda: tmp_path)
    left = tmp_path / "prefixes" / ".new-left"
    left.parent.mkdir()
    left.touch()
    os.utime(left, (0, 0))
    save_prefix(PrefixKey("weights", "build", 1, (1,)), Prefix(b"state", np.zeros(8, np.float32)))

    assert [file.suffix for file in left.parent.iterdir()] == [".npz"]


def test_the_folder_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was not used for longest goes first."""
    monkeypatch.setattr("synthgen_local.loading.prefix_cache.cache_dir", lambda: tmp_path)
    monkeypatch.setattr("synthgen_local.loading.prefix_cache._MAX_SIZE", 10_000)
    logits = np.zeros(8, dtype=np.float32)
    keys = [PrefixKey("weights", "build", 1, (number,)) for number in range(4)]
    for key in keys:
        save_prefix(key, Prefix(bytes(3_000), logits))

    assert load_prefix(keys[0]) is None
    assert load_prefix(keys[3]) is not None
