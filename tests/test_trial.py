"""A model is first loaded in another process; a build that dies of its own kernels goes without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tiny_gguf import Tiny

from synthgen_local import LocalModel, ModelError
from synthgen_local.engine import trial
from synthgen_local.engine.apart import DiedError
from synthgen_local.engine.trial import Trial, hold


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path / "cache"))
    return Tiny().write(tmp_path / "tiny.gguf")


@pytest.fixture
def dies_repacked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A llama.cpp whose kernels for repacked weights end the process; what was tried."""
    tried: list[bool] = []

    def ask(_module: str, path: str, question: dict[str, Any]) -> None:
        tried.append(question["repack"])
        if question["repack"]:
            raise DiedError(f"{path} cannot be loaded: llama.cpp ends with SIGSEGV on it.")

    monkeypatch.setattr(trial, "ask", ask)
    return tried


def test_a_model_that_comes_through_may_be_repacked(shipped: Path) -> None:
    """One process, one answer."""
    assert hold(Trial(str(shipped)))


def test_what_dies_repacked_is_tried_as_it_is(shipped: Path, dies_repacked: list[bool]) -> None:
    """Then the answer is that its weights must not be repacked."""
    assert not hold(Trial(str(shipped)))
    assert dies_repacked == [True, False]


def test_what_dies_either_way_is_refused(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the last process's."""

    def ask(*_: Any) -> None:
        raise DiedError("llama.cpp ends with SIGABRT on it")

    monkeypatch.setattr(trial, "ask", ask)
    with pytest.raises(ModelError, match="SIGABRT"):
        hold(Trial(str(shipped)))


def test_what_is_refused_is_not_tried_again(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that says why knows better."""
    tried = []

    def ask(*_: Any) -> None:
        tried.append(1)
        raise ModelError("no vocabulary")

    monkeypatch.setattr(trial, "ask", ask)
    with pytest.raises(ModelError, match="no vocabulary"):
        hold(Trial(str(shipped)))
    assert len(tried) == 1


def test_a_build_that_dies_repacked_is_used_without_and_told_of(
    shipped: Path, dies_repacked: list[bool]
) -> None:
    """Each time it is loaded; it is tried once, and a manifest can tell by the build."""
    for _ in range(2):
        with (
            pytest.warns(UserWarning, match="dies of its AMX kernels"),
            LocalModel.load(str(shipped), gpu_layers=0) as model,
        ):
            assert model.engine.build.endswith("without-repacking")
    assert dies_repacked == [True, False]
