"""Where our time goes: prompt, forward passes, masks, draws, checks, and slots that were idle.

Clocks are put around what the decoder calls, from outside and a few times a pass, not for each
row; draws within a pass are told by the engine, which alone can. This run is not the one whose rate
is compared. A part's time has in it what its threads wait for cores and for the interpreter's lock,
but for those draws, which wait for no lock. Knows the engine's interfaces.
Run by `compare.py` in a fresh process, with the assignment on stdin.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import ours
from assignment import Assignment
from numpy.typing import NDArray
from works import WORKS, Work

from synthgen_local import LocalModel
from synthgen_local.engine import decoder, workers
from synthgen_local.engine.backends.protocol import Logits, Step
from synthgen_local.engine.constraints.protocol import BatchBitmask, Constraint
from synthgen_local.engine.requests import GenerationRequest
from synthgen_local.engine.sampling import Sample, SamplingInputs

PARTS = ("prompt", "decode", "mask", "draw", "check")


class Clock:
    """Seconds of each part, over all contexts, and slots in flight at each pass.

    What is done within a part as another counts as that one alone.
    """

    def __init__(self, contexts: int) -> None:
        self.contexts = contexts
        self.seconds: dict[str, float] = defaultdict(float)
        self.last: dict[int, float] = {}  # when each thread ended its last pass
        self.busy = 0.0  # slots times seconds
        self.slots = 0.0
        self._adding = threading.Lock()
        self._within: dict[int, float] = defaultdict(float)  # seconds already counted, by thread

    @contextmanager
    def measuring(self, part: str) -> Iterator[None]:
        """Count what is done inside as `part`.

        Example: `with clock.measuring("draw"): ...`
        """
        thread = threading.get_ident()
        before = self._within[thread]
        start = time.perf_counter()
        yield
        seconds = time.perf_counter() - start
        with self._adding:
            self.seconds[part] += seconds - (self._within[thread] - before)
        self._within[thread] = before + seconds

    def add(self, part: str, seconds: float) -> None:
        """Count seconds that are no part of another.

        Example: `clock.add("prompt", 0.1)`
        """
        with self._adding:
            self.seconds[part] += seconds

    def add_pass(self, seconds: float, rows: int, slots: int) -> None:
        """Count a forward pass of so many rows in a context of so many slots.

        Example: `clock.add_pass(0.01, 30, 32)`
        """
        with self._adding:
            self.seconds["decode"] += seconds
            self.busy += rows * seconds
            self.slots += slots * seconds
            self.last[threading.get_ident()] = time.perf_counter()


class TimedContext:
    """A context whose passes and draws are counted; the rest is its own."""

    def __init__(self, context: Any, clock: Clock) -> None:
        self._context = context
        self._clock = clock
        self.size = context.size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """The prompt, which all cores read before the first context is opened."""
        start = time.perf_counter()
        logits: Logits = self._context.prefill(tokens)
        self._clock.add("prompt", self._clock.contexts * (time.perf_counter() - start))
        return logits

    def decode(self, steps: Sequence[Step]) -> Logits:
        """One forward pass."""
        start = time.perf_counter()
        logits: Logits = self._context.decode(steps)
        self._add_pass(steps, time.perf_counter() - start)
        return logits

    def sample(self, logits: Sequence[Logits], inputs: SamplingInputs) -> list[Sample]:
        """Draws that are no part of a pass."""
        with self._clock.measuring("draw"):
            draws: list[Sample] = self._context.sample(logits, inputs)
        return draws

    def decode_and_sample(
        self, steps: Sequence[Step], outputs: Sequence[int], inputs: SamplingInputs
    ) -> tuple[list[Logits], list[Sample]]:
        """A forward pass, and draws that tell themselves how long they took."""
        start, before = time.perf_counter(), self._drawn
        found: tuple[list[Logits], list[Sample]]
        found = self._context.decode_and_sample(steps, outputs, inputs)
        drawing = self._drawn - before
        self._clock.add("draw", drawing)
        self._add_pass(steps, time.perf_counter() - start - drawing)
        return found

    @property
    def _drawn(self) -> float:
        """Seconds within passes until now; the random model's draws count as passes."""
        return getattr(self._context, "sampling_seconds", 0.0)

    def _add_pass(self, steps: Sequence[Step], seconds: float) -> None:
        rows = sum(len(step.slots) for step in steps)
        self._clock.add_pass(seconds, rows, self._context.size.slots)


class TimedMasks(BatchBitmask):
    """Masks that are counted."""

    clock: Clock

    def fill(self, constraints: Sequence[Constraint | None]) -> NDArray[np.int32]:
        """What may come next."""
        with self.clock.measuring("mask"):
            return super().fill(constraints)


class TimedDecoder(decoder.Decoder):
    """A decoder that counts what rows do with their logits beside the draw: steer, and go on."""

    clock: Clock

    def _sample(self, *args: Any) -> None:
        with self.clock.measuring("mask"):
            super()._sample(*args)

    def _inputs(self, *args: Any) -> SamplingInputs:
        with self.clock.measuring("mask"):
            return super()._inputs(*args)

    def _accept(self, *args: Any) -> None:
        with self.clock.measuring("mask"):
            super()._accept(*args)


def _timed(function: Callable[..., Any], part: str, clock: Clock) -> Callable[..., Any]:
    def call(*args: Any, **options: Any) -> Any:
        with clock.measuring(part):
            return function(*args, **options)

    return call


@contextmanager
def watched(model: LocalModel, clock: Clock) -> Iterator[None]:
    """Put the clock around what the decoder calls, and take it away again.

    Example: `with watched(model, clock): list(generator.stream(runs=10))`
    """
    opened, decode = model.engine.open_context, model.decode
    watching = cast("Any", model)

    def timed_decode(request: GenerationRequest, rows: int, check: Any, **options: Any) -> Any:
        return decode(request, rows, _timed(check, "check", clock), **options)

    watching.engine.open_context = lambda size: TimedContext(opened(size), clock)
    watching.decode = timed_decode
    TimedMasks.clock = TimedDecoder.clock = clock
    cast("Any", decoder).BatchBitmask = TimedMasks
    cast("Any", workers).Decoder = TimedDecoder
    try:
        yield
    finally:
        cast("Any", decoder).BatchBitmask = BatchBitmask
        cast("Any", workers).Decoder = decoder.Decoder
        watching.engine.open_context = opened
        del watching.decode


def parts(model: LocalModel, work: Work, rows: int, seed: int) -> dict[str, float]:
    """Return the share of each part in the time of all contexts, and of idle slots in all slots.

    The parts make 1: `wait` is for the context that ends last, `other` is opening
    contexts and what the decoder does itself.

    Example: `parts(model, BILLING, 64, seed=0)["decode"]`
    """
    clock = Clock(model.parallel_plan(rows).contexts)
    make = ours.prepare(model, work)
    with watched(model, clock):
        start = time.perf_counter()
        make(rows, seed)
        end = time.perf_counter()
    whole = (end - start) * clock.contexts
    shares = {part: clock.seconds[part] / whole for part in PARTS}
    shares["wait"] = sum(end - last for last in clock.last.values()) / whole
    shares["other"] = 1 - sum(shares.values())
    shares["idle slots"] = 1 - clock.busy / clock.slots if clock.slots else 0.0
    return shares


def main() -> None:
    """Print the shares as JSON."""
    task = Assignment.read(sys.stdin.read())
    with LocalModel.load(task.model) as model:
        print(json.dumps(parts(model, WORKS[task.work], task.rows, task.seed)))


if __name__ == "__main__":
    main()
