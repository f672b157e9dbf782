"""What all tests share: no network, no user's cache, and the models.

The default model's weights are required, not optional: CI fetches them before the tests,
so a test that needs them fails without them.
"""

from __future__ import annotations

import json
import os
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
from synthgen_local.models.resolve import cache_folder, find

ROOT = Path(__file__).parents[1]
WEIGHTS = "smollm2-135m-instruct"
CACHE = cache_folder()

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


settings.register_profile("same", derandomize=True, database=None)  # the same examples each run
settings.load_profile("same")


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no test reach beyond this machine."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1"}:
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)


@pytest.fixture(scope="session")
def weights() -> Path:
    """The default model's file."""
    return find(WEIGHTS)


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
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Our kernels, compiled for this machine."""
    compiled = compile_kernels(tmp_path_factory.mktemp("compiled"))
    assert compiled is not None
    return compiled


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ran]:
    """Run `synthgen-local` as a user does, in a folder of its own."""

    def call(*arguments: str, stdin: str = "", **environment: str) -> Ran:
        env = {**os.environ, "SYNTHGEN_LOCAL_CACHE": str(CACHE), "NO_COLOR": "1", "COLUMNS": "100"}
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
