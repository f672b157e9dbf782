"""Measure the upper bound of throughput: tokens/s of prefill alone.

The weights are opened as in a job: one context and one thread for each core, a prompt of one full
batch of distinct tokens, logits for its last token only, with and without flash attention,
whichever is faster. No decoder that evaluates each token once can exceed it; divided by the tokens
of a row it is a bound in rows/s. The bound of llama.cpp uses its own kernels on the shipped file.
Knows the engine, not rows. Run by `compare.py` in a fresh process.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from contextlib import closing
from typing import Any

import numpy as np
from results_table import LLAMA_CPP_BOUND
from run_spec import RunSpec

from synthgen_local import LocalModel
from synthgen_local.engine.backends.protocol import ContextSize, Model

_BATCH, _GPU_BATCH = 512, 2048  # the engine's
_ROWS = 64  # enough for a context on each core
SECONDS = 4.0


def upper_bound(model: LocalModel, seconds: float = SECONDS) -> float:
    """Return tokens/s over all cores with the faster attention.

    Example: `upper_bound(LocalModel.load("random"), seconds=0.1)`
    """
    engine: Any = model.engine
    rates = []
    for flash in (True, False):
        engine.flash = flash
        rates.append(measure_prefill(model, seconds))
    return max(rates)


def measure_prefill(model: LocalModel, seconds: float = SECONDS) -> float:
    """Return tokens/s over all cores.

    Example: `measure_prefill(LocalModel.load("random"), seconds=0.1)`
    """
    layout = model.parallel_plan(_ROWS)
    ready = threading.Barrier(layout.contexts)
    rates = [0.0] * layout.contexts

    def measure(index: int) -> None:
        tokens = _distinct(model.engine, seed=index)
        size = ContextSize(1, len(tokens), layout.threads)
        with closing(model.engine.open_context(size)) as context:
            context.prefill(tokens)  # warm-up
            ready.wait()
            start, passes = time.perf_counter(), 0
            while time.perf_counter() < start + seconds:
                context.prefill(tokens)
                passes += 1
            rates[index] = passes * len(tokens) / (time.perf_counter() - start)

    threads = [threading.Thread(target=measure, args=(i,)) for i in range(layout.contexts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def _distinct(model: Model, seed: int) -> list[int]:
    """Return a batch of distinct tokens."""
    tokens = np.random.default_rng(seed).permutation(model.tokenizer.vocab_size)
    return [int(token) for token in tokens[: _GPU_BATCH if model.on_gpu else _BATCH]]


def main() -> None:
    """Print the rate as JSON."""
    task = RunSpec.read(sys.stdin.read())
    plain = task.system == LLAMA_CPP_BOUND
    if plain:
        os.environ["CC"] = ""  # disables this project's kernels
    with LocalModel.load(task.model, weights="as-shipped" if plain else "fast") as model:
        print(json.dumps(upper_bound(model)))


if __name__ == "__main__":
    main()
