"""Loads a model in another process first: on files that it dislikes llama.cpp ends the process.

What is done there is what a run does: load, tokenize, fill a context, fork, decode. A file that
comes through is then loaded here. The 16-bit file is written there too. Knows files and the
engine, not which files were tried before.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from ..errors import ModelError, SynthgenError
from ..processes import leave_no_core, python

_LEAST_SECONDS = 60
_BYTES_A_SECOND = 20_000_000  # a slow disk: what a file of that size may take
_HINT = "Fetch it again, or use another model."


@dataclass(frozen=True)
class Trial:
    """What to try: a file, on as many layers of the GPU as it is to run on.

    With `expanded` its weights are also written there, see `engine/llama.py`, by `threads`.
    """

    path: str
    gpu_layers: int | None = None
    expanded: str = ""
    threads: int = 1


def hold(trial: Trial) -> None:
    """Try a model in a process of its own.

    Raises ModelError if it cannot be loaded there, or if the process dies or hangs.

    Example: `hold(Trial("model.gguf"))`
    """
    patience = _LEAST_SECONDS + Path(trial.path).stat().st_size / _BYTES_A_SECOND
    try:
        done = subprocess.run(
            **python(__name__),
            input=json.dumps(asdict(trial)).encode(),
            stdout=subprocess.PIPE,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ModelError(
            f"{trial.path} cannot be loaded: it takes more than {patience:.0f} s.", hint=_HINT
        ) from None
    if done.returncode == 0:
        return
    try:
        message, hint = json.loads(done.stdout)
    except ValueError:
        message, hint = f"{trial.path} cannot be loaded: {_end(done.returncode)}.", _HINT
    raise ModelError(message, hint=hint)


def _end(code: int) -> str:
    """How a process ended that said nothing."""
    if code >= 0:
        return "something fails on it that knows no reason"
    return f"llama.cpp ends with {signal.Signals(-code).name} on it"


def carry_out(trial: Trial) -> None:
    """Do with a model what a run does. Raises ModelError or DecodingError, if it gets to it.

    Example: `carry_out(Trial("model.gguf"))`
    """
    from .llama import LlamaModel, expand
    from .model import ContextSize, Step

    model = LlamaModel(Path(trial.path), gpu_layers=trial.gpu_layers)
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
    if trial.expanded:
        expand(Path(trial.path), Path(trial.expanded), threads=trial.threads)


_EVERY_BYTE = "".join(map(chr, [*range(1, 0x180), *range(0x800, 0xD800, 0x400), 0xE000, 0xFFFD]))
_EVERY_BYTE += "".join(map(chr, range(0x10000, 0x110000, 0x10000)))
"""Each byte that UTF-8 uses: llama.cpp does not bear a vocabulary that cannot spell one of them."""


def _main() -> int:
    leave_no_core()
    try:
        carry_out(Trial(**json.load(sys.stdin)))
    except SynthgenError as error:
        print(json.dumps([str(error), error.hint]))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
