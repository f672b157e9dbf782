"""A model is first loaded in another process; a build that dies of its own kernels goes without."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_gguf import Tiny

from synthgen_local import LocalModel, ModelError
from synthgen_local.kernels import build
from synthgen_local.kernels.build import PLAIN, Kernels
from synthgen_local.loading import probe
from synthgen_local.loading.probe import ProbeRequest, probe_kernels
from synthgen_local.system.subprocess_call import SubprocessDiedError


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path / "cache"))
    return Tiny().write(tmp_path / "tiny.gguf")


@pytest.fixture
def dies_repacked(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """A llama.cpp whose kernels for repacked weights end the process; what was tried."""
    tried: list[bool] = []

    def ask(_module: str, path: str, question: dict[str, Any]) -> None:
        tried.append(question["kernels"]["repack"])
        if question["kernels"]["repack"]:
            raise SubprocessDiedError(
                f"{path} cannot be loaded: llama.cpp ends with SIGSEGV on it."
            )

    monkeypatch.setattr(probe, "call_in_subprocess", ask)
    return tried


def test_a_model_that_comes_through_may_be_repacked(shipped: Path) -> None:
    """One process, one answer."""
    assert probe_kernels(ProbeRequest(str(shipped))) == PLAIN


def test_what_dies_repacked_is_tried_as_it_is(shipped: Path, dies_repacked: list[bool]) -> None:
    """Then the answer is that its weights must not be repacked."""
    assert not probe_kernels(ProbeRequest(str(shipped))).repack
    assert dies_repacked == [True, False]


def test_what_dies_either_way_is_refused(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error is the last process's."""

    def ask(*_: Any) -> None:
        raise SubprocessDiedError("llama.cpp ends with SIGABRT on it")

    monkeypatch.setattr(probe, "call_in_subprocess", ask)
    with pytest.raises(ModelError, match="SIGABRT"):
        probe_kernels(ProbeRequest(str(shipped)))


def test_what_is_refused_is_not_tried_again(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that says why knows better."""
    tried = []

    def ask(*_: Any) -> None:
        tried.append(1)
        raise ModelError("no vocabulary")

    monkeypatch.setattr(probe, "call_in_subprocess", ask)
    with pytest.raises(ModelError, match="no vocabulary"):
        probe_kernels(ProbeRequest(str(shipped)))
    assert len(tried) == 1


def test_a_build_that_dies_repacked_is_used_without_and_told_of(
    shipped: Path, dies_repacked: list[bool]
) -> None:
    """Each time it is loaded; it is tried once, and a manifest can tell by the build."""
    for _ in range(2):
        with (
            pytest.warns(UserWarning, match="crashes in its AMX kernels"),
            LocalModel.load(str(shipped), gpu_layers=0, weights="as-shipped") as model,
        ):
            assert re.search(r" kernels-\w+ without-repacking$", model.engine.build)
    assert dies_repacked == [True, True, False]  # our kernels are not what it dies of


def test_kernels_that_do_not_load_are_given_up(shipped: Path, tmp_path: Path) -> None:
    """The model is used without them."""
    library = tmp_path / "kernels.so"
    library.write_bytes(b"no library")
    assert (
        probe_kernels(ProbeRequest(str(shipped), kernels=Kernels(compiled=str(library)))) == PLAIN
    )


@pytest.mark.parametrize(
    ("file", "right", "wrong"),
    [
        ("attention_f16.c", "* a->scale", "* a->scale * 0.1f"),
        ("sample.c", "* q->inverse", "* 0.1f"),
        ("decode_and_sample.c", "outputs[row]", "0"),
    ],
)
def test_kernels_that_compute_wrongly_are_given_up(
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    right: str,
    wrong: str,
) -> None:
    """A compiler may be at fault, as GCC 12 is with AMX: what they predict is compared."""
    sources = tmp_path / "csrc"
    shutil.copytree(Path(build.__file__).parent / "csrc", sources)
    source = (sources / file).read_text()
    assert right in source
    (sources / file).write_text(source.replace(right, wrong))
    monkeypatch.setattr(build, "_sources", lambda: sorted(sources.iterdir()))
    build.compiled_hash.cache_clear()
    broken = Kernels(compiled=build.compile_kernels(tmp_path / "wrong"))
    build.compiled_hash.cache_clear()
    assert probe_kernels(ProbeRequest(str(weights), kernels=broken)) == PLAIN


def test_kernels_that_are_given_up_are_told_of(
    shipped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the model is loaded; it is tried once."""
    tried: list[object] = []

    def ask(_module: str, path: str, question: dict[str, Any]) -> None:
        tried.append(question["kernels"]["compiled"])
        if question["kernels"]["compiled"]:
            raise ModelError(f"{path} predicts something else.")

    monkeypatch.setattr(probe, "call_in_subprocess", ask)
    for _ in range(2):
        with (
            pytest.warns(UserWarning, match="failed the probe"),
            LocalModel.load(str(shipped), gpu_layers=0),
        ):
            pass
    assert tried[1:] == [None]
