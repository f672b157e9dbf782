"""The kernels are safe in a user's process: layouts, versions, warnings and memory errors."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import USER_CACHE

from synthgen_local import DecodingError, LocalModel
from synthgen_local.engine import compiled_sampler
from synthgen_local.engine.backends.llamacpp import kernel_backend
from synthgen_local.engine.compiled_sampler import CompiledSampler
from synthgen_local.kernels import build
from synthgen_local.kernels.build import compile_kernels

SOURCES = Path(build.__file__).parent / "csrc"
MIRROR = "ggml_backend_abi.h"


def exchange_text(file: Path, right: str, wrong: str) -> None:
    """Replace a text that a file has once or more, the first time."""
    text = file.read_text()
    assert right in text
    file.write_text(text.replace(right, wrong, 1))


def swap_with_next(file: Path, member: str) -> None:
    """Exchange the line of a struct's member with the line after it."""
    lines = file.read_text().splitlines(keepends=True)
    at = next(i for i, line in enumerate(lines) if f"(*{member})" in line)
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    file.write_text("".join(lines))


def check_layout(folder: Path) -> None:
    """Compile the check of the layouts alone, and run it."""
    library = folder / "check.so"
    include = f"-I{build._headers()}"
    options = ["-std=gnu11", "-shared", "-fPIC", include, "-D_Static_assert(...)=extern int unused"]
    source, base = str(folder / "check_abi.c"), str(build._base())
    subprocess.run([*build._compiler(), *options, source, base, "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.synthgen_local_check_abi.restype = ctypes.c_char_p
    loaded.synthgen_local_check_abi.argtypes = [ctypes.c_void_p]
    kernel_backend.check_abi(loaded)


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """The check and the mirror in a folder of their own."""
    for name in ("check_abi.c", MIRROR):
        shutil.copy(SOURCES / name, tmp_path)
    return tmp_path


def test_the_layout_of_ggmls_structs_is_the_installed_one(changed: Path) -> None:
    """The mirror as it is."""
    check_layout(changed)


@pytest.mark.parametrize(
    ("right", "wrong", "differing"),
    [
        ("  void *offload_op;", "", "ggml_backend_device"),
        ("  void *set_tensor_2d;", "  void *set_tensor_2d, *inserted;", "ggml_backend_buffer"),
        ("  void *event_wait;", "", "ggml_backend"),
        ("API_VERSION = 2", "API_VERSION = 3", "GGML_BACKEND_API_VERSION"),
    ],
)
def test_inserted_and_removed_members_are_found(
    changed: Path, right: str, wrong: str, differing: str
) -> None:
    """Data behind them lies elsewhere than the public functions say."""
    exchange_text(changed / MIRROR, right, wrong)
    with pytest.raises(DecodingError, match=f"another layout of {differing} "):
        check_layout(changed)


@pytest.mark.parametrize(
    ("member", "differing"),
    [
        ("set_tensor", "ggml_backend_buffer_i"),
        ("supports_op", "ggml_backend_device_i"),
        ("get_tensor_async", "ggml_backend_i"),
        ("get_device", "ggml_backend_reg_i"),
        ("get_alloc_size", "ggml_backend_buffer_type_i"),
    ],
)
def test_reordered_members_are_found(changed: Path, member: str, differing: str) -> None:
    """Public functions call another one than that of their name."""
    swap_with_next(changed / MIRROR, member)
    with pytest.raises(DecodingError, match=f"another layout of {differing} "):
        check_layout(changed)


def test_another_struct_of_samples_is_refused(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python and C have to agree on its size."""

    class Longer(compiled_sampler._SamplingBatch):
        _fields_ = (("more", ctypes.c_int64),)

    CompiledSampler(library)
    monkeypatch.setattr(compiled_sampler, "_SamplingBatch", Longer)
    with pytest.raises(DecodingError, match="another struct"):
        CompiledSampler(library)


def test_a_model_runs_without_kernels_of_another_layout(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning, and llama.cpp's own kernels."""
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path / "cache"))
    sources = tmp_path / "csrc"
    shutil.copytree(SOURCES, sources)
    exchange_text(sources / MIRROR, "API_VERSION = 2", "API_VERSION = 3")
    monkeypatch.setattr(build, "_sources", lambda: sorted(sources.iterdir()))
    build.compiled_hash.cache_clear()
    with (
        pytest.warns(UserWarning, match="without the compiled kernels") as warned,
        LocalModel.load(str(weights), weights="as-shipped") as model,
    ):
        assert "kernels-" not in model.engine.build
    build.compiled_hash.cache_clear()
    assert len(warned) == 1


@pytest.mark.parametrize("installed", ["0.3.35", "0.3.37", "0.4.0", "1.0"])
def test_a_version_that_was_not_tested_runs_without_kernels(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, installed: str
) -> None:
    """The message names the tested versions and the installed one."""
    monkeypatch.setattr(build, "version", lambda _name: installed)
    monkeypatch.setenv("SYNTHGEN_LOCAL_CACHE", str(tmp_path))
    with (
        pytest.warns(UserWarning, match=rf">= 0.3.36, < 0.3.37; {installed} is installed"),
        LocalModel.load(str(weights), weights="as-shipped") as model,
    ):
        assert "kernels-" not in model.engine.build


@pytest.mark.parametrize("level", ["native", "x86-64-v4", "x86-64-v3"])
def test_the_sources_compile_without_warnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """Also the parts that this processor does not use."""
    if level != "native" and build._NATIVE != "-march=native":
        pytest.skip("levels of x86-64 alone")
    options = [option.replace("=native", f"={level}") for option in build._OPTIONS]
    monkeypatch.setattr(build, "_OPTIONS", options)
    monkeypatch.setenv("CC", "cc -Wall -Wextra -Werror")
    build.compiled_hash.cache_clear()
    assert compile_kernels(tmp_path / "compiled")
    build.compiled_hash.cache_clear()


_WITHOUT_OPTIMISATION = """
import sys, pytest
from synthgen_local.kernels import build
build._OPTIONS = tuple(option.replace("-O3", "-O1") for option in build._OPTIONS)
sys.exit(pytest.main(["-p", "no:cacheprovider", *sys.argv[1:]]))
"""


def test_the_sources_have_no_errors_that_sanitizers_find(tmp_path: Path) -> None:
    """Tests of attention, products and sampling, with kernels of AddressSanitizer and UBSan."""
    asan = subprocess.run(
        ["cc", "-print-file-name=libasan.so"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(asan).is_absolute():
        pytest.skip("the compiler has no AddressSanitizer")
    options = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer"
    environment = {
        **os.environ,
        "CC": f"cc {options}",
        "LD_PRELOAD": asan,
        "ASAN_OPTIONS": "detect_leaks=0,verify_asan_link_order=0",
        "OMP_NUM_THREADS": "2",
        "SYNTHGEN_LOCAL_TEST_EXAMPLES": "5",
        "SYNTHGEN_LOCAL_CACHE": str(USER_CACHE),  # where the outer session copied its models from
    }
    tests = Path(__file__).parent
    files = [str(tests / name) for name in ("test_kernels.py", "test_matmul.py")]
    chosen = "defined or product or norms or gates or positions or rows_are or sees_nothing"
    command = [sys.executable, "-c", _WITHOUT_OPTIMISATION, "-q", "-x", *files]
    ran = subprocess.run(
        [*command, "-k", chosen, f"--basetemp={tmp_path / 'inner'}"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert "passed" in ran.stdout
