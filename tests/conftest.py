"""Fixtures of all tests: no network, a cache for each test, and the models.

No test reads or writes the user's caches. The default model's weights are linked into the cache of
each test that is marked `model`, and of no other; a test that asks for a fixture which needs them
is marked here. The weights are required, not optional: `make model` fetches them before the tests,
and a test that needs them fails without them.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from synthgen_local import LocalModel
from synthgen_local.kernels.build import compile_kernels
from synthgen_local.models.resolve import cache_dir, find
from synthgen_local.system.permissions import is_private

ROOT = Path(__file__).parents[1]
WEIGHTS = "smollm2-135m-instruct"
USER_CACHE = cache_dir()

sys.path.insert(0, str(ROOT / "examples"))


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[Any]:
        """Stdout read as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


# The same examples in each run, and no limit of time.
settings.register_profile("same", derandomize=True, database=None, deadline=None)
settings.load_profile("same")


@pytest.fixture(autouse=True)
def no_network(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test reach beyond this machine.

    The test's patches are undone before its cache is removed: `monkeypatch` follows `own_cache`.
    """
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1"}:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that uses the default model's weights."""
    for item in items:
        if "weights" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.model)


@pytest.fixture(scope="session", autouse=True)
def kernels_cache(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A cache that holds the compiled kernels alone, kept for later runs of the tests."""
    folder = kept_folder(pytestconfig, tmp_path_factory, "kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGEN_LOCAL_CACHE", str(folder))
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("hub")))
        patch.delenv("XDG_CACHE_HOME", raising=False)
        compiled = compile_kernels(folder / "compiled")
        for file in (folder / "compiled").glob("*.so"):
            if str(file) != compiled:
                file.unlink()  # of other sources
        yield folder


@pytest.fixture(scope="session")
def model_cache(
    kernels_cache: Path, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A cache with the default model, which was loaded once: its trial and its plan are in it.

    From then on it is the cache of fixtures that several tests share.
    """
    folder = kept_folder(pytestconfig, tmp_path_factory, "model")
    shutil.rmtree(folder / "compiled", ignore_errors=True)
    shutil.copytree(kernels_cache, folder, dirs_exist_ok=True)
    shutil.copytree(USER_CACHE / "models", folder / "models", dirs_exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGEN_LOCAL_CACHE", str(USER_CACHE))
        file = find(WEIGHTS)
        (folder / file.name).unlink(missing_ok=True)
        (folder / file.name).symlink_to(file)
        patch.setenv("SYNTHGEN_LOCAL_CACHE", str(folder))
        LocalModel.load(WEIGHTS).close()
        yield folder


def kept_folder(config: pytest.Config, tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder in pytest's cache, or of this run alone where other users could write to that."""
    if pytest_cache := getattr(config, "cache", None):
        folder: Path = pytest_cache.mkdir(f"synthgen-local-{name}")
        folder.chmod(0o700)
        if is_private(folder):
            return folder
    return tmp_path_factory.mktemp(name)


@pytest.fixture(autouse=True)
def own_cache(
    request: pytest.FixtureRequest, kernels_cache: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """A cache of the test's own, removed behind it."""
    needs_model = request.node.get_closest_marker("model")
    filled = request.getfixturevalue("model_cache") if needs_model else kernels_cache
    folder = tmp_path_factory.getbasetemp() / "cache"
    shutil.copytree(filled, folder, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNTHGEN_LOCAL_CACHE", str(folder))
        yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def weights(model_cache: Path) -> Path:
    """The default model's file."""
    return next(model_cache.glob("*.gguf"))


@pytest.fixture(scope="session")
def model(weights: Path) -> Iterator[LocalModel]:
    """The default model, loaded once."""
    with LocalModel.load(WEIGHTS) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def random_model() -> Iterator[LocalModel]:
    """Random logits: whatever holds for them holds for any model."""
    with LocalModel.load("random", threads=2) as loaded:
        yield loaded


@pytest.fixture(scope="session")
def library(kernels_cache: Path) -> str:
    """The kernels, compiled for this machine."""
    compiled = compile_kernels(kernels_cache / "compiled")
    assert compiled is not None
    return compiled


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ran]:
    """Run `synthgen-local` as a user does, in a folder of its own."""

    def call(*arguments: str, stdin: str = "", **environment: str) -> Ran:
        env = {**os.environ, "NO_COLOR": "1", "COLUMNS": "100"}
        result = subprocess.run(
            [sys.executable, "-m", "synthgen_local", *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env=env | environment,
            input=stdin,
            check=False,
            timeout=300,
        )
        return Ran(result.returncode, result.stdout, result.stderr)

    return call
