"""Which kernels llama.cpp computes with: as it was compiled, and attention that is compiled here.

`attention.c` is compiled once for this processor and this llama.cpp, whose own headers it needs, by
the C compiler that llama.cpp was compiled with too. Knows compilers and files; `llama.py` lets
llama.cpp load what comes out.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from ..errors import DecodingError

_NATIVE = "-march=native" if platform.machine() in {"x86_64", "AMD64"} else "-mcpu=native"
_OPTIONS = ("-std=gnu11", "-O3", _NATIVE, "-ffp-contract=fast", "-fno-math-errno")
_LIBRARY = ("-shared", "-fPIC", "-fvisibility=hidden", "-w")
_SECONDS = 120  # compiling takes one
_HINT = "Install a C compiler, name it with CC, or set CC= to leave it at that."


@dataclass(frozen=True)
class Kernels:
    """What llama.cpp may use, beside what it always does.

    Without `repack` weights stay as they are in the file, and kernels for weights that were
    arranged anew, AMX among them, are not used. `attention` is a library that `compile_attention`
    made, None for llama.cpp's own; a process that has loaded it once uses it for all its contexts.

    Example: `Kernels(repack=False)`
    """

    repack: bool = True
    attention: str | None = None


PLAIN = Kernels()
"""llama.cpp as it was compiled."""


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
def attention_hash() -> str:
    """Return a hash of the attention that is compiled here, without compiling it.

    It hangs on the source, the compiler, this processor, and llama.cpp. Empty if `CC` is set to
    nothing, and so asks for none. Raises DecodingError if there is no compiler.

    Example: `attention_hash()`
    """
    compiler = _compiler()
    if not compiler:
        return ""
    macros = _run([*compiler, *_OPTIONS, "-dM", "-E", "-x", "c", os.devnull])  # of this processor
    parts = (_source(), macros, library_hash().encode())
    return hashlib.blake2b(b"\0".join(parts), digest_size=8).hexdigest()


def compile_attention(folder: Path) -> str | None:
    """Return a library of `attention.c`, compiled into a folder unless it is there.

    None if `CC` is set to nothing. Raises DecodingError if it cannot be compiled.

    Example: `compile_attention(Path("compiled"))`
    """
    name = attention_hash()
    if not name:
        return None
    target = folder / f"attention-{name}.so"
    if not target.is_file():
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                _compile(Path(scratch), target)
        except OSError as error:
            raise _failed(str(error)) from error
    return str(target)


def _compile(scratch: Path, target: Path) -> None:
    source, made = scratch / "attention.c", scratch / target.name
    source.write_bytes(_source())
    base = min(_libraries().glob("libggml-base.*"), default=None)
    if base is None:
        raise _failed("llama.cpp's libraries are not where llama-cpp-python puts them")
    command = [
        *_compiler(),
        *_OPTIONS,
        *_LIBRARY,
        f"-I{_libraries().parents[1] / 'include'}",
        str(source),
        "-o",
        str(made),
        str(base),
    ]
    try:
        _run([*command, "-fopenmp"])
    except (
        DecodingError
    ):  # Apple's compiler knows no OpenMP: then each context has one thread for it
        _run(command)
    made.replace(target)


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CC", "cc"))


def _source() -> bytes:
    return (files(__package__) / "attention.c").read_bytes()


def _libraries() -> Path:
    package = find_spec("llama_cpp")
    return Path((package and package.origin) or "").parent / "lib"


def _run(command: list[str]) -> bytes:
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _failed(f"no C compiler, {command[0]} cannot be run") from error
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["nothing"]
        raise _failed(f"{command[0]} says {said[0]}")
    return done.stdout


def _failed(why: str) -> DecodingError:
    return DecodingError(f"Attention is llama.cpp's own, which is slower: {why}.", hint=_HINT)
