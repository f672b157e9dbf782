"""Install the peers: llama-server, built from llama-cpp-python's sources, and an environment.

    python benchmarks/peers.py

The server comes from the llama.cpp that the installed llama-cpp-python contains, so that all
systems use the same kernels. guidance and LangChain get an environment of their own, with the same
llama-cpp-python. All goes through pip's configured index into `benchmarks/.peers`, and building
takes about a quarter of an hour on 2 cores, once. Knows no peer's interface.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from importlib.metadata import version
from pathlib import Path

FOLDER = Path(__file__).parent / ".peers"
PYTHON = FOLDER / "venv" / "bin" / "python"
SERVER = FOLDER / "llama-server"
_LLAMA = "llama-cpp-python"
_PACKAGES = ("guidance", "langchain-community", "langchain-experimental", "cmake", "ninja")
_STATIC = {  # one file without a web page, downloads or encryption
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
}


def main() -> None:
    """Install the missing parts."""
    exact = f"{_LLAMA}=={version(_LLAMA)}"
    if not PYTHON.is_file():
        venv.create(FOLDER / "venv", with_pip=True)
    _pip("install", "--no-cache-dir", exact, *_PACKAGES)  # pip's own may lack make's options
    if not SERVER.is_file():
        with tempfile.TemporaryDirectory() as scratch:
            _build(_sources(exact, Path(scratch)), Path(scratch) / "build")


def _sources(requirement: str, folder: Path) -> Path:
    """Return the folder of llama.cpp in the source distribution."""
    _pip("download", "--no-deps", "--no-binary", _LLAMA, "--dest", str(folder), requirement)
    archive = next(folder.glob("*.tar.gz"))
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    return next(folder.glob("*/vendor/llama.cpp"))


def _build(sources: Path, build: Path) -> None:
    """Compile the server for this processor and move its binary into place."""
    cmake = str(PYTHON.with_name("cmake"))
    options = [f"-D{name}={value}" for name, value in _STATIC.items()]
    path = f"{PYTHON.parent}{os.pathsep}{os.environ['PATH']}"  # Ninja lies there
    for arguments in (
        ["-S", str(sources), "-B", str(build), "-G", "Ninja", *options],
        ["--build", str(build), "--target", "llama-server"],
    ):
        subprocess.run([cmake, *arguments], check=True, env={**os.environ, "PATH": path})
    shutil.move(build / "bin" / "llama-server", SERVER)


def _pip(*arguments: str) -> None:
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", "--quiet", *arguments]
    subprocess.run(command, check=True, stdout=sys.stderr)


if __name__ == "__main__":
    main()
