"""The ceiling: tokens a second where nothing is drawn and nothing is read twice.

The same weights, opened as a run opens them: a context for each core, one thread each, a prompt of
one full batch of distinct tokens, logits for its last token alone, with and without flash
attention, whichever is faster. No decoder that evaluates each
token once can be faster; divided by the tokens of a row it is a rate of rows. The ceiling of
llama.cpp is that of its own kernels on the file as shipped. Knows the engine, not rows. Run by
`compare.py` in a fresh process, with the assignment on stdin.
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
from assignment import Assignment

from synthgen_local import LocalModel
from synthgen_local.engine.backends.protocol import ContextSize, Model

_BATCH, _GPU_BATCH = 512, 2048  # the engine's
_ROWS = 64  # enough for a context on each core
SECONDS = 4.0
OF_LLAMA_CPP = "ceiling-of-llama.cpp"


def ceiling(model: LocalModel, seconds: float = SECONDS) -> float:
    """Return tokens a second over all cores, with the attention that is faster at it.

    Example: `ceiling(LocalModel.load("random"), seconds=0.1)`
    """
    engine: Any = model.engine
    rates = []
    for flash in (True, False):
        engine.flash = flash
        rates.append(prefill_rate(model, seconds))
    return max(rates)


def prefill_rate(model: LocalModel, seconds: float = SECONDS) -> float:
    """Return tokens a second over all cores.

    Example: `prefill_rate(LocalModel.load("random"), seconds=0.1)`
    """
    layout = model.parallel_plan(_ROWS)
    ready = threading.Barrier(layout.contexts)
    rates = [0.0] * layout.contexts

    def work(index: int) -> None:
        tokens = _distinct(model.engine, seed=index)
        size = ContextSize(1, len(tokens), layout.threads)
        with closing(model.engine.open_context(size)) as context:
            context.prefill(tokens)  # the first pass touches the weights
            ready.wait()
            start, passes = time.perf_counter(), 0
            while time.perf_counter() < start + seconds:
                context.prefill(tokens)
                passes += 1
            rates[index] = passes * len(tokens) / (time.perf_counter() - start)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(layout.contexts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(rates)


def _distinct(model: Model, seed: int) -> list[int]:
    """A batch of tokens of which none comes twice, if the vocabulary has as many."""
    tokens = np.random.default_rng(seed).permutation(model.tokenizer.vocab_size)
    return [int(token) for token in tokens[: _GPU_BATCH if model.on_gpu else _BATCH]]


def main() -> None:
    """Print the rate as JSON."""
    task = Assignment.read(sys.stdin.read())
    plain = task.contender == OF_LLAMA_CPP
    if plain:
        os.environ["CC"] = ""  # asks for none of our kernels
    with LocalModel.load(task.model, weights="as-shipped" if plain else "fast") as model:
        print(json.dumps(ceiling(model)))


if __name__ == "__main__":
    main()
