"""What is left of a run where passes are fast: one is recorded, and played back with short ones.

    python benchmarks/replay.py --milliseconds 3

On a GPU a pass is short, and the host's part of the time long: masks, draws, and waiting for the
interpreter's lock. Here the logits of a run on the CPU come back, and a pass is a sleep of so many
milliseconds. It is no GPU: a pass takes as long however many rows it has, no logits travel, no
batch is laid out, a context draws with a CPU's threads, and cores are those of this machine.
A recording is 0.2 MB for each token of SmolLM2's, 1 MB of Gemma's.
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
import ours
from gpu import measure
from works import WORKS

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
    """Logits by what was read before them."""

    def __init__(self) -> None:
        self.found: dict[int, Logits] = {}
        self.places: dict[int, int] = {}
        self.logits = np.empty((0, 0), np.float32)

    def end(self) -> None:
        """Lay all logits out one after the other, as those of one long pass."""
        self.places = {key: place for place, key in enumerate(self.found)}
        self.logits = np.empty((len(self.places), len(next(iter(self.found.values())))), np.float32)
        for key, place in self.places.items():
            self.logits[place] = self.found.pop(key)


class _Histories:
    """A number for what each slot has read."""

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
    """A context that keeps all logits; the rest is its own."""

    def __init__(self, context: Any, recording: Recording) -> None:
        self._context = context
        self._found = recording.found
        self._histories = _Histories(context.size.slots)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """The prompt."""
        logits: Logits = self._context.prefill(tokens)
        return self._found.setdefault(hash(tuple(tokens)), logits.copy())

    def fork(self, slot: int) -> None:
        """A row begins."""
        self._histories.fork(slot)
        self._context.fork(slot)

    def decode(self, steps: Sequence[Step]) -> Logits:
        """A pass with all logits."""
        logits: Logits = self._context.decode([step._replace(mask=None) for step in steps])
        keys = self._histories.advance(steps)
        kept = [
            self._found.setdefault(key, of.copy()) for key, of in zip(keys, logits, strict=True)
        ]
        return np.array(kept)  # rows of equal histories draw from the same, as they will again

    def decode_and_sample(
        self, steps: Sequence[Step], outputs: Sequence[int], inputs: SamplingInputs
    ) -> tuple[list[Logits], list[Sample]]:
        """A pass with all logits, and the draws."""
        return decode_then_sample(cast("Context", self), steps, outputs, inputs)


class _Played(ctypes.Structure):
    """`recording` in `replay.c`."""

    _fields_ = (("seconds", ctypes.c_double), ("logits", ctypes.c_void_p))


class Player:
    """A context whose passes were made before."""

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
        """The prompt."""
        found: Logits = self._recording.logits[self._recording.places[hash(tuple(tokens))]]
        return found

    def save_prefix(self) -> bytes:
        """Nothing is kept."""
        return b""

    def load_prefix(self, state: bytes, length: int) -> None:
        """Nothing is kept."""

    def fork(self, slot: int) -> None:
        """A row begins."""
        self._histories.fork(slot)

    def release(self, slot: int) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is kept."""

    def decode(self, steps: Sequence[Step]) -> Logits:
        """A pass without draws."""
        start = time.perf_counter()
        logits: Logits = self._recording.logits[self._places(steps)]
        time.sleep(max(0.0, self._pause - (time.perf_counter() - start)))
        return logits

    def sample(self, logits: Sequence[Logits], inputs: SamplingInputs) -> list[Sample]:
        """Draws without a pass."""
        return self._draws.rows(logits, inputs, threads=self.size.threads)

    def decode_and_sample(
        self, steps: Sequence[Step], outputs: Sequence[int], inputs: SamplingInputs
    ) -> tuple[list[Logits], list[Sample]]:
        """A pass and its draws."""
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


def compiled(folder: Path) -> Any:
    """`replay.c` as a library."""
    source, target = Path(__file__).with_suffix(".c"), folder / "replay.so"
    options = ["-O2", "-shared", "-fPIC", f"-I{build._headers()}"]
    build._run([*build._compiler(), *options, str(source), "-o", str(target)])
    return ctypes.CDLL(str(target))


def recorded(model: LocalModel, make: ours.Make, rows: int, seed: int) -> Recording:
    """Make rows, and keep the logits that they were drawn from.

    Example: `recorded(model, ours.prepare(model, BILLING), rows=64, seed=0)`
    """
    recording, engine = Recording(), cast("Any", model.engine)
    opened = engine.open_context
    engine.open_context = lambda size: Recorder(opened(size), recording)
    try:
        make(rows, seed)
    finally:
        engine.open_context = opened
    recording.end()
    return recording


@contextmanager
def playing(model: LocalModel, recording: Recording, seconds: float) -> Iterator[None]:
    """Let a model make the recorded rows again, with passes of so many seconds.

    Example: `with playing(model, recording, 0.003): make(64, 0)`
    """
    engine = cast("Any", model.engine)
    opened, draws = engine.open_context, engine._draws
    with tempfile.TemporaryDirectory() as folder:
        library = compiled(Path(folder))
        engine.open_context = partial(
            Player, recording=recording, draws=draws, library=library, pause=seconds
        )
        try:
            yield
        finally:
            engine.open_context = opened


def main() -> None:
    """Record a run, play it back, and print its rate and where its time goes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--work", default="billing", choices=["billing", "letters"])
    parser.add_argument("--contexts", type=int, default=8)
    parser.add_argument("--rows", type=int, default=32, help="in flight in each context")
    parser.add_argument("--each", type=int, default=4, help="rows that each slot makes")
    parser.add_argument("--milliseconds", nargs="+", type=float, default=[3.0], help="of a pass")
    options = parser.parse_args()
    work = WORKS[options.work]
    with LocalModel.load(options.model) as model:
        make = ours.prepare(model, work)
        recording = recorded(model, make, options.contexts * options.rows * options.each, seed=0)
        for milliseconds in options.milliseconds:
            with playing(model, recording, milliseconds / 1000):
                found = measure(
                    model, make, options.contexts, options.rows, options.each, parts_of=work
                )
            print(f"{milliseconds} ms a pass: {found}", flush=True)


if __name__ == "__main__":
    main()
