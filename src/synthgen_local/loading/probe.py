"""A probe: a first load of a model's file in a subprocess, because llama.cpp may abort on it.

The subprocess does what a job does: it loads, tokenizes, prefills, forks and decodes. Knows files
and the engine; does not know which files were probed before.
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
from ..engine.logprobs import kl_divergence
from ..engine.sampling import SamplingInputs, sample_rows
from ..errors import ModelError
from ..kernels.build import PLAIN, Kernels
from ..system.subprocess_call import SubprocessDiedError, call_in_subprocess, serve

_MAX_KL = 0.1
"""The maximum KL divergence, in nats per token, between compiled kernels and llama.cpp's.

Rounding moves predictions by some hundredths, wrong results by whole nats."""
_PROMPT_TOKENS = 40
_SLOTS, _UNIFORMS = 4, (0.1, 0.5, 0.9)
_ROUNDING = 1e-3  # nats
_EVERY_BYTE = "".join(map(chr, [*range(1, 0x180), *range(0x800, 0xD800, 0x400), 0xE000, 0xFFFD]))
_EVERY_BYTE += "".join(map(chr, range(0x10000, 0x110000, 0x10000)))
"""Each byte of UTF-8: llama.cpp aborts on a vocabulary that cannot spell one of them."""


@dataclass(frozen=True)
class ProbeRequest:
    """A file to probe, the number of layers on the GPU, and the kernels to use."""

    path: str
    gpu_layers: int | None = None
    kernels: Kernels = PLAIN


def probe_kernels(request: ProbeRequest) -> Kernels:
    """Probe a model in a subprocess; return the kernels that work with it.

    Some builds of llama.cpp crash in the kernels for repacked weights and work without them: GCC
    12 leaves the configuration of AMX tiles unwritten (GCC's bug 114098, llama.cpp's pull request
    26954). So a file that crashes is probed again without them. Compiled kernels are given up if
    they cannot be loaded, crash, or compute other predictions.

    Raises ModelError if the model cannot be loaded, or if the subprocess hangs or crashes with
    all kernels.

    Example: `probe_kernels(ProbeRequest("model.gguf"))`
    """
    wanted, plainest = request.kernels, Kernels(repack=False)
    for kernels in dict.fromkeys(
        [wanted, replace(wanted, compiled=None), replace(wanted, repack=False), plainest]
    ):
        try:
            call_in_subprocess(__name__, request.path, asdict(replace(request, kernels=kernels)))
        except SubprocessDiedError:
            if kernels == plainest:
                raise
        except ModelError:
            if kernels.compiled is None:
                raise
        else:
            return kernels
    raise AssertionError("the last kernels are the plainest")


def run_probe(request: ProbeRequest) -> None:
    """Use a model as a job does, in the subprocess.

    Raises ModelError or DecodingError for a model that cannot be used, unless llama.cpp aborts.

    Example: `run_probe(ProbeRequest("model.gguf"))`
    """
    from ..engine.backends.llamacpp import LlamaModel

    kernels = request.kernels
    model = LlamaModel(Path(request.path), gpu_layers=request.gpu_layers, kernels=kernels)
    with closing(model):
        tokens = model.tokenize(_EVERY_BYTE)[:_PROMPT_TOKENS] or [0]
        model.flash = False
        plain = _predict(model, tokens)
        model.flash = True
        found = _predict(model, tokens)
        if not kernels.compiled or not np.isfinite(plain).all():
            return
        moved = 0.0 if model.on_gpu else kl_divergence(plain, found).mean()
        if not (moved <= _MAX_KL and _samples_agree(model, tokens, found.shape[1])):
            raise ModelError(
                f"{request.path} has other predictions with the kernels compiled on this machine.",
                hint="Set CC= to run without them.",
            )


@contextmanager
def _forked(model: Model, tokens: Sequence[int]) -> Iterator[Context]:
    """A context with a forked sequence in each slot."""
    with closing(model.open_context(ContextSize(_SLOTS, cells=256, threads=1))) as context:
        context.prefill(tokens)
        for slot in range(_SLOTS):
            context.fork(slot)
        yield context


def _predict(model: Model, tokens: Sequence[int]) -> Logits:
    """The logits of sequences that share a prompt, and some of them more tokens."""
    with _forked(model, tokens) as context:
        context.decode([Step([0, 1], tokens[:2]), Step([2], tokens[:1]), Step([3], tokens[-9:])])
        return context.decode([Step([slot], tokens[-1:]) for slot in range(_SLOTS)]).copy()


def _samples_agree(model: Model, tokens: Sequence[int], vocabulary: int) -> bool:
    """Whether compiled kernels sample the tokens that numpy samples, up to rounding."""
    outputs = [slot for slot in range(_SLOTS) for _ in _UNIFORMS]
    masks = bitmask.masks(len(outputs), vocabulary)
    for row in masks:
        bitmask.write(row, np.arange(vocabulary) % 3 > 0)
    with_mass = [row % 2 == 0 for row in range(len(outputs))]
    inputs = SamplingInputs(masks, 1.0, _UNIFORMS * _SLOTS, with_mass)
    with _forked(model, tokens) as context:
        steps = [Step([slot], tokens[slot : slot + 1] or tokens[:1]) for slot in range(_SLOTS)]
        logits, samples = context.decode_and_sample(steps, outputs, inputs)
        expected = sample_rows(logits, inputs)
    pairs = list(zip(samples, expected, strict=True))
    near = all(
        abs((one.log_allowed_mass or 0) - (two.log_allowed_mass or 0)) < _ROUNDING
        for one, two in pairs
    )
    return near and sum(one.token != two.token for one, two in pairs) <= 1


def _serve_probe(path: str, gpu_layers: int | None, kernels: dict[str, Any]) -> None:
    run_probe(ProbeRequest(path, gpu_layers, Kernels(**kernels)))


if __name__ == "__main__":
    sys.exit(serve(_serve_probe))
