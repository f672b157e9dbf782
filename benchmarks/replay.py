"""Measure the host's share of the time for short passes: record a run, replay it with sleeps.

    python benchmarks/replay.py --milliseconds 3

On a GPU a pass is short and the host's share is large: masks, sampling, waiting for the GIL. Here
the logits of a run on the CPU are replayed, and a pass is a sleep of the given milliseconds. The
simulation differs from a GPU: a pass takes the same time for any batch size, no logits are copied,
no batch is built, and sampling uses the CPU context's threads. A recording takes 0.2 MB for each
token of SmolLM2 and 1 MB for each token of Gemma.
"""

from __future__ import annotations

import argparse
import ctypes
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import llama_cpp
import numpy as np
import synthgen
from gpu import measure
from workloads import WORKLOADS

from synthgen_local import LocalModel
from synthgen_local.engine.backends.protocol import (
    Context,
    ContextSize,
    Logits,
    Step,
    decode_then_sample,
)
from synthgen_local.engine.compiled_sampler import CompiledSampler
from synthgen_local.engine.sampling import Sample, SamplingInputs
from synthgen_local.kernels import build


class Recording:
    """Logits by the hash of the tokens before them."""

    def __init__(self) -> None:
        self.found: dict[int, Logits] = {}
        self.places: dict[int, int] = {}
        self.logits = np.empty((0, 0), np.float32)

    def finish(self) -> None:
        """Move all logits into one array, as of one long pass."""
        self.places = {key: place for place, key in enumerate(self.found)}
        self.logits = np.empty((len(self.places), len(next(iter(self.found.values())))), np.float32)
        for key, place in self.places.items():
            self.logits[place] = self.found.pop(key)


class _Histories:
    """A hash of the tokens of each slot."""

    def __init__(self, slots: int) -> None:
        self._slots = [0] * slots

    def fork(self, slot: int) -> None:
        self._slots[slot] = 0

    def advance(self, steps: Sequence[Step]) -> list[int]:
        keys = []
        for step in steps:
            key = hash((self._slots[step.slots[0]], tuple(step.tokens)))
            for slot in step.slots:
                self._slots[slot] = key
            keys.append(key)
        return keys


class Recorder:
    """A context that records all logits."""

    def __init__(self, context: Any, recording: Recording) -> None:
        self._context = context
        self._found = recording.found
        self._histories = _Histories(context.size.slots)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Return the logits after the prompt."""
        logits: Logits = self._context.prefill(tokens)
        return self._found.setdefault(hash(tuple(tokens)), logits.copy())

    def fork(self, slot: int) -> None:
        """Start a row in a slot."""
        self._histories.fork(slot)
        self._context.fork(slot)

    def decode(self, steps: Sequence[Step]) -> Logits:
        """Run a pass with all logits."""
        logits: Logits = self._context.decode([step._replace(mask=None) for step in steps])
        keys = self._histories.advance(steps)
        kept = [
            self._found.setdefault(key, of.copy()) for key, of in zip(keys, logits, strict=True)
        ]
        return np.array(kept)  # rows of equal histories draw from the same, as they will again

    def decode_and_sample(
        self, steps: Sequence[Step], outputs: Sequence[int], inputs: SamplingInputs
    ) -> tuple[list[Logits], list[Sample]]:
        """Run a pass with all logits, and sample."""
        return decode_then_sample(cast("Context", self), steps, outputs, inputs)


class _Played(ctypes.Structure):
    """The struct `recording` of `replay.c`."""

    _fields_ = (("seconds", ctypes.c_double), ("logits", ctypes.c_void_p))


class Player:
    """A context that replays recorded passes."""

    def __init__(
        self,
        size: ContextSize,
        *,
        recording: Recording,
        draws: CompiledSampler,
        library: Any,
        pause: float,
    ) -> None:
        self.size = size
        self.sampling_seconds = 0.0
        self._recording = recording
        self._draws = draws
        self._play, self._find = (
            cast("int", ctypes.cast(function, ctypes.c_void_p).value)
            for function in (library.play, library.find)
        )
        self._pause = pause
        self._histories = _Histories(size.slots)

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Return the logits after the prompt."""
        found: Logits = self._recording.logits[self._recording.places[hash(tuple(tokens))]]
        return found

    def save_prefix(self) -> bytes:
        """Do nothing: there are no KV cells."""
        return b""

    def load_prefix(self, state: bytes, length: int) -> None:
        """Do nothing: there are no KV cells."""

    def fork(self, slot: int) -> None:
        """Start a row in a slot."""
        self._histories.fork(slot)

    def release(self, slot: int) -> None:
        """Do nothing: there are no KV cells."""

    def close(self) -> None:
        """Do nothing: there are no KV cells."""

    def decode(self, steps: Sequence[Step]) -> Logits:
        """Replay a pass without sampling."""
        start = time.perf_counter()
        logits: Logits = self._recording.logits[self._places(steps)]
        time.sleep(max(0.0, self._pause - (time.perf_counter() - start)))
        return logits

    def sample(self, logits: Sequence[Logits], inputs: SamplingInputs) -> list[Sample]:
        """Sample without a pass."""
        return self._draws.rows(logits, inputs, threads=self.size.threads)

    def decode_and_sample(
        self, steps: Sequence[Step], outputs: Sequence[int], inputs: SamplingInputs
    ) -> tuple[list[Logits], list[Sample]]:
        """Replay a pass and sample."""
        start, every = time.perf_counter(), self._recording.logits
        places = self._places(steps)
        chosen = [places[output] for output in outputs]
        draws = self._draws.prepare_pass(inputs, chosen, every.shape[1], threads=self.size.threads)
        pause = max(0.0, self._pause - (time.perf_counter() - start))
        played = _Played(pause, every.ctypes.data)
        if draws.make(self._play, self._find, ctypes.byref(played), llama_cpp.llama_batch()):
            raise InterruptedError("A pass was interrupted.")
        self.sampling_seconds += draws.seconds
        logits = [every[place] for place in chosen]
        return logits, draws.found(logits)

    def _places(self, steps: Sequence[Step]) -> list[int]:
        return [self._recording.places[key] for key in self._histories.advance(steps)]


def compile_replay(folder: Path) -> Any:
    """Compile `replay.c` to a shared library."""
    source, target = Path(__file__).with_suffix(".c"), folder / "replay.so"
    options = ["-O2", "-shared", "-fPIC", f"-I{build._headers()}"]
    build._run([*build._compiler(), *options, str(source), "-o", str(target)])
    return ctypes.CDLL(str(target))


def record_run(model: LocalModel, make: synthgen.Make, rows: int, seed: int) -> Recording:
    """Make rows and record the logits from which they are sampled.

    Example: `record_run(model, synthgen.prepare(model, BILLING), rows=64, seed=0)`
    """
    recording, engine = Recording(), cast("Any", model.engine)
    opened = engine.open_context
    engine.open_context = lambda size: Recorder(opened(size), recording)
    try:
        make(rows, seed)
    finally:
        engine.open_context = opened
    recording.finish()
    return recording


@contextmanager
def replay_run(model: LocalModel, recording: Recording, seconds: float) -> Iterator[None]:
    """Replay the recorded rows in the block, with passes of the given duration.

    Example: `with replay_run(model, recording, 0.003): make(64, 0)`
    """
    engine = cast("Any", model.engine)
    opened, draws = engine.open_context, engine._sampler
    with tempfile.TemporaryDirectory() as folder:
        library = compile_replay(Path(folder))
        engine.open_context = partial(
            Player, recording=recording, draws=draws, library=library, pause=seconds
        )
        try:
            yield
        finally:
            engine.open_context = opened


def main() -> None:
    """Record a run, replay it, and print its throughput and time profile."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--workload", default="billing", choices=["billing", "letters"])
    parser.add_argument("--contexts", type=int, default=8)
    parser.add_argument("--rows", type=int, default=32, help="running sequences in each context")
    parser.add_argument("--each", type=int, default=4, help="rows for each slot")
    parser.add_argument("--milliseconds", nargs="+", type=float, default=[3.0], help="of a pass")
    options = parser.parse_args()
    workload = WORKLOADS[options.workload]
    with LocalModel.load(options.model) as model:
        make = synthgen.prepare(model, workload)
        recording = record_run(model, make, options.contexts * options.rows * options.each, seed=0)
        for milliseconds in options.milliseconds:
            with replay_run(model, recording, milliseconds / 1000):
                found = measure(
                    model, make, options.contexts, options.rows, options.each, parts_of=workload
                )
            print(f"{milliseconds} ms a pass: {found}", flush=True)


if __name__ == "__main__":
    main()
