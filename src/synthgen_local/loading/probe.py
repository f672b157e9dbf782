"""Loads a model in another process first: on files that it dislikes llama.cpp ends the process.

What is done there is what a run does: load, tokenize, fill a context, fork, decode. A file that
comes through is then loaded here. Knows files and the engine, not which files were tried before.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import bitmask
from ..engine.backends.protocol import Context, ContextSize, Logits, Model, Step
from ..engine.sampling import SamplingInputs, sample_rows
from ..errors import ModelError
from ..kernels.build import PLAIN, Kernels
from ..system.subprocess_call import SubprocessDiedError, call_in_subprocess, serve
from .weight_formats import divergence

_MOST_KL = 0.1
"""Nats a token that kernels which were compiled here may move the model: rounding moves it by some
hundredths, and what is computed wrongly by whole ones."""


@dataclass(frozen=True)
class ProbeRequest:
    """What to try: a file, on as many layers of the GPU as it is to run on, with some kernels."""

    path: str
    gpu_layers: int | None = None
    kernels: Kernels = PLAIN


def probe_kernels(trial: ProbeRequest) -> Kernels:
    """Try a model in a process of its own; return the kernels that it comes through with.

    Some builds of llama.cpp die of the kernels for repacked weights and are sound without them:
    GCC 12 leaves the configuration of AMX's tiles unwritten (GCC's bug 114098, llama.cpp's pull
    request 26954). So what dies is tried once more without. Kernels that were compiled here are
    given up where they are not loaded, or the process dies of them, or they compute something else.

    Raises ModelError if it cannot be loaded there, or if the process dies either way, or hangs.

    Example: `probe_kernels(ProbeRequest("model.gguf"))`
    """
    wanted = trial.kernels
    for kernels in dict.fromkeys(
        [
            wanted,
            replace(wanted, compiled=None),
            replace(wanted, repack=False),
            Kernels(repack=False),
        ]
    ):
        last = kernels == Kernels(repack=False)
        try:
            call_in_subprocess(__name__, trial.path, asdict(replace(trial, kernels=kernels)))
        except SubprocessDiedError:
            if last:
                raise
        except ModelError:
            if kernels.compiled is None:
                raise
        else:
            return kernels
    raise AssertionError("the last kernels are the plainest")


def run_probe(trial: ProbeRequest) -> None:
    """Do with a model what a run does. Raises ModelError or DecodingError, if it gets to it.

    Example: `run_probe(ProbeRequest("model.gguf"))`
    """
    from ..engine.backends.llamacpp import LlamaModel

    model = LlamaModel(Path(trial.path), gpu_layers=trial.gpu_layers, kernels=trial.kernels)
    with closing(model):
        every = model.tokenize(_EVERY_BYTE)
        tokens = every[:_PROMPT] or [0]
        model.flash = False
        plain = _predict(model, tokens)
        model.flash = True
        found = _predict(model, tokens)
        if not trial.kernels.compiled or not np.isfinite(plain).all():
            return
        moved = 0.0 if model.on_gpu else divergence(plain, found).mean()
        if not (moved <= _MOST_KL and _draws_alike(model, tokens, found.shape[1])):
            raise ModelError(
                f"{trial.path} predicts something else with kernels that were compiled here.",
                hint="Set CC= to do without.",
            )


@contextmanager
def _forked(model: Model, tokens: Sequence[int]) -> Iterator[Context]:
    """Rows after one prompt."""
    with closing(model.open_context(ContextSize(_SLOTS, cells=256, threads=1))) as context:
        context.prefill(tokens)
        for slot in range(_SLOTS):
            context.fork(slot)
        yield context


def _predict(model: Model, tokens: Sequence[int]) -> Logits:
    """What follows in rows that share a prompt, and partly more than that."""
    with _forked(model, tokens) as context:
        context.decode([Step([0, 1], tokens[:2]), Step([2], tokens[:1]), Step([3], tokens[-9:])])
        return context.decode([Step([slot], tokens[-1:]) for slot in range(_SLOTS)]).copy()


def _draws_alike(model: Model, tokens: Sequence[int], vocabulary: int) -> bool:
    """Whether what the model draws after a pass is what numpy draws, but for rounding."""
    outputs = [slot for slot in range(_SLOTS) for _ in _UNIFORMS]
    masks = bitmask.masks(len(outputs), vocabulary)
    for row in masks:
        bitmask.write(row, np.arange(vocabulary) % 3 > 0)
    with_mass = [row % 2 == 0 for row in range(len(outputs))]
    inputs = SamplingInputs(masks, 1.0, _UNIFORMS * _SLOTS, with_mass)
    with _forked(model, tokens) as context:
        steps = [Step([slot], tokens[slot : slot + 1] or tokens[:1]) for slot in range(_SLOTS)]
        logits, ours = context.decode_and_sample(steps, outputs, inputs)
        numpys = sample_rows(logits, inputs)
    pairs = list(zip(ours, numpys, strict=True))
    near = all(
        abs((one.log_allowed_mass or 0) - (two.log_allowed_mass or 0)) < _ROUNDING
        for one, two in pairs
    )
    return near and sum(one.token != two.token for one, two in pairs) <= 1


def _serve_probe(path: str, gpu_layers: int | None, kernels: dict[str, Any]) -> None:
    run_probe(ProbeRequest(path, gpu_layers, Kernels(**kernels)))


_PROMPT = 40  # tokens
_SLOTS, _UNIFORMS = 4, (0.1, 0.5, 0.9)
_ROUNDING = 1e-3  # nats
_EVERY_BYTE = "".join(map(chr, [*range(1, 0x180), *range(0x800, 0xD800, 0x400), 0xE000, 0xFFFD]))
_EVERY_BYTE += "".join(map(chr, range(0x10000, 0x110000, 0x10000)))
"""Each byte that UTF-8 uses: llama.cpp does not bear a vocabulary that cannot spell one of them."""


if __name__ == "__main__":
    sys.exit(serve(_serve_probe))
