"""Loads a model in another process first: on files that it dislikes llama.cpp ends the process.

What is done there is what a run does: load, tokenize, fill a context, fork, decode. A file that
comes through is then loaded here. Knows files and the engine, not which files were tried before.
"""

from __future__ import annotations

import hashlib
import sys
from dataclasses import asdict, dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from .apart import DiedError, answer, ask


@dataclass(frozen=True)
class Trial:
    """What to try: a file, on as many layers of the GPU as it is to run on.

    `repack` as in `LlamaModel`.
    """

    path: str
    gpu_layers: int | None = None
    repack: bool = True


def hold(trial: Trial) -> bool:
    """Try a model in a process of its own; return whether weights may be repacked.

    Some builds of llama.cpp die of the kernels for repacked weights and are sound without them:
    GCC 12 leaves the configuration of AMX's tiles unwritten (GCC's bug 114098, llama.cpp's pull
    request 26954). So what dies is tried once more without.

    Raises ModelError if it cannot be loaded there, or if the process dies either way, or hangs.

    Example: `hold(Trial("model.gguf"))`
    """
    try:
        ask(__name__, trial.path, asdict(trial))
    except DiedError:
        if not trial.repack:
            raise
        hold(replace(trial, repack=False))
        return False
    return trial.repack


@cache
def library_hash() -> str:
    """Return a hash of llama.cpp's kernels as they were compiled, without loading them.

    Options and compilers change how fast they are, and on what they die.

    Example: `library_hash()`
    """
    package = find_spec("llama_cpp")
    libraries = Path(package.origin or "").parent.glob("lib/*ggml-cpu*") if package else ()
    digest = hashlib.blake2b(digest_size=8)
    for file in sorted(libraries):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def carry_out(trial: Trial) -> None:
    """Do with a model what a run does. Raises ModelError or DecodingError, if it gets to it.

    Example: `carry_out(Trial("model.gguf"))`
    """
    from .llama import LlamaModel
    from .model import ContextSize, Step

    model = LlamaModel(Path(trial.path), gpu_layers=trial.gpu_layers, repack=trial.repack)
    try:
        every = model.tokenize(_EVERY_BYTE)
        tokens = every[:8] or [0]
        context = model.open_context(ContextSize(slots=4, cells=256, threads=1))
        try:
            context.prefill(tokens)
            for slot in range(4):
                context.fork(slot)
            context.decode([Step([0, 1], tokens[:2]), Step([2], tokens[:1])])
        finally:
            context.close()
    finally:
        model.close()


_EVERY_BYTE = "".join(map(chr, [*range(1, 0x180), *range(0x800, 0xD800, 0x400), 0xE000, 0xFFFD]))
_EVERY_BYTE += "".join(map(chr, range(0x10000, 0x110000, 0x10000)))
"""Each byte that UTF-8 uses: llama.cpp does not bear a vocabulary that cannot spell one of them."""


if __name__ == "__main__":
    sys.exit(answer(lambda **trial: carry_out(Trial(**trial))))
