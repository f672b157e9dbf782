"""Which kernels a model runs with: llama.cpp's as it was compiled, and ours, compiled here.

The sources in `c/` are compiled once for this processor and this llama.cpp, whose own headers they
need, by a C compiler such as llama.cpp was compiled with. Knows compilers and files; `llama.py`
loads what comes out.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import platform
import re
import shlex
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from importlib.util import find_spec
from pathlib import Path

from ..errors import DecodingError
from ..system.permissions import exposed, is_private, make_private

_NATIVE = "-march=native" if platform.machine() in {"x86_64", "AMD64"} else "-mcpu=native"
_OPTIONS = ("-std=gnu11", "-O3", _NATIVE, "-ffp-contract=fast", "-fno-math-errno")
_SHARED = ("-shared", "-fPIC", "-fvisibility=hidden")
TESTED_LLAMA_CPP = ((0, 3, 36), (0, 3, 37))
"""Versions of llama-cpp-python that the kernels were tested with: the first, and the end."""
_HEADERS = ("ggml.h", "ggml-backend.h", "llama.h")
_SECONDS = 120  # compiling takes one
_SLOWER = "Attention and draws are slower than they could be"
_HINT = "Install a C compiler, name it with CC, or set CC= to leave it at that."


@dataclass(frozen=True)
class Kernels:
    """What a model may use, beside what llama.cpp always does.

    Without `repack` weights stay as they are in the file, and llama.cpp's kernels for weights that
    it has arranged anew, AMX among them, are not used. `compiled` is a library that
    `compile_kernels` made, None for llama.cpp's own attention and numpy's draws. With `weights`
    that library also holds the weights, in the format of that name, and multiplies them: `int8`,
    integers of 8 bits with a scale for 192 of a row, or `bf16`, whose output head has 8 bits, too
    (`csrc/matmul.c`).

    Example: `Kernels(repack=False)`
    """

    repack: bool = True
    compiled: str | None = None
    weights: str = ""


PLAIN = Kernels()
"""llama.cpp as it was compiled, and nothing else."""


@cache
def library_hash() -> str:
    """Return a hash of llama.cpp's kernels as they were compiled, without loading them.

    Options and compilers change how fast they are, and on what they die.

    Example: `library_hash()`
    """
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(_libraries().glob("*ggml-cpu*")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


@cache
def compiled_hash() -> str:
    """Return a hash of the kernels that are compiled here, without compiling them.

    It hangs on the sources, the compiler, this processor, and llama.cpp. Empty if `CC` is set to
    nothing, and so asks for none. Raises DecodingError if there is no compiler.

    Example: `compiled_hash()`
    """
    if not _compiler():
        return ""
    command, macros = _command()
    digest = hashlib.blake2b(
        os.fsencode(" ".join([*command, *_SHARED, library_hash()])), digest_size=8
    )
    digest.update(macros)
    for source in _sources():
        digest.update(source.read_bytes())
    try:
        for file in (_base(), *(_headers() / name for name in _HEADERS)):
            digest.update(file.read_bytes())
    except OSError as error:
        raise _failed("llama.cpp's headers are not where llama-cpp-python puts them") from error
    return digest.hexdigest()


def compile_kernels(folder: Path, note: Callable[[str], None] = lambda _: None) -> str | None:
    """Return a library of the sources in `c/`, compiled into a folder unless it is there.

    A library is code: where another user can change the folder, a parent of it or the file (see
    `private.py`), or programs may not run from there, it lies in one that ends with this process.
    None if `CC` is set to nothing. Raises DecodingError if they cannot be compiled, or if there is
    no such folder.

    Example: `compile_kernels(Path("compiled"))`
    """
    name = compiled_hash()
    if not name:
        return None
    _check_version()
    try:
        folder = _usable(folder)
        target = folder / f"kernels-{name}.so"
        if not (target.is_file() and is_private(target)):
            note("Compiling kernels for this processor, once")
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _compile(Path(scratch), target)
    except OSError as error:
        raise _failed(str(error)) from error
    return str(target)


def _check_version() -> None:
    """Raise DecodingError if the kernels were not tested with the installed llama-cpp-python."""
    installed = version("llama-cpp-python")
    numbers = tuple(int(part) for part in re.findall(r"\d+", installed)[:3])
    first, end = TESTED_LLAMA_CPP
    if not first <= numbers < end:
        known, below = (".".join(map(str, bound)) for bound in TESTED_LLAMA_CPP)
        raise DecodingError(
            f"{_SLOWER}: the kernels were tested with llama-cpp-python >= {known}, < {below}; "
            f"{installed} is installed.",
            hint="Install a tested version, or set CC= to run without the kernels.",
        )


def _usable(folder: Path) -> Path:
    """The folder, or one that ends with this process: private, and where programs may run."""
    if make_private(folder) and not _forbids_programs(folder):
        return folder
    other = Path(_passing().name)
    if not is_private(other):
        raise _failed(f"other users can change {exposed(other)}")
    if _forbids_programs(other):
        raise DecodingError(
            f"{_SLOWER}: no program may run from {folder.parent} or {other.parent} (noexec).",
            hint="Set SYNTHGEN_LOCAL_CACHE or TMPDIR to a folder of another file system, "
            "or set CC= to leave it at that.",
        )
    return other


def _forbids_programs(folder: Path) -> bool:
    """Whether its file system is mounted noexec: no library can be loaded from there."""
    return bool(os.statvfs(folder).f_flag & getattr(os, "ST_NOEXEC", 0))


@cache
def _passing() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory(prefix="synthgen-local-")
    atexit.register(folder.cleanup)
    return folder


def _compile(scratch: Path, target: Path) -> None:
    made = scratch / target.name
    for source in _sources():
        (scratch / source.name).write_bytes(source.read_bytes())
    command, _ = _command()
    written = [str(scratch / source.name) for source in _sources() if source.name.endswith(".c")]
    linked = ["-o", str(made), str(_base())]
    _run([*command, *_SHARED, f"-I{_headers()}", *written, *linked])
    made.chmod(0o700)
    made.replace(target)


def _command() -> tuple[list[str], bytes]:
    """The compiler with its options, and the macros that tell its version and this processor.

    Apple's knows no OpenMP: attention then has one thread in each context.
    """
    command = [*_compiler(), *_OPTIONS]
    ask = ["-dM", "-E", "-x", "c", os.devnull]
    try:
        return [*command, "-fopenmp"], _run([*command, "-fopenmp", *ask])
    except DecodingError:
        return command, _run([*command, *ask])


def _compiler() -> list[str]:
    """The words of `CC`. Raises DecodingError if a quote in it is not closed."""
    try:
        return shlex.split(os.environ.get("CC", "cc"))
    except ValueError as error:
        raise _failed(f"CC is no command line: {error}") from error


def _sources() -> list[Traversable]:
    return sorted((files(__package__) / "csrc").iterdir(), key=lambda source: source.name)


def _libraries() -> Path:
    package = find_spec("llama_cpp")
    return Path((package and package.origin) or "").parent / "lib"


def _base() -> Path:
    base = min(_libraries().glob("libggml-base.*"), default=None)
    if base is None:
        raise _failed("llama.cpp's libraries are not where llama-cpp-python puts them")
    return base


def _headers() -> Path:
    return _libraries().parents[1] / "include"


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(f"no C compiler, {command[0]} cannot be run") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise _failed(f"{command[0]} says {next((x for x in said if 'error' in x), said[0])}")
    return done.stdout


def _failed(why: str) -> DecodingError:
    return DecodingError(f"{_SLOWER}: {why}.", hint=_HINT)
