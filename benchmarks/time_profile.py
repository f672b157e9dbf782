"""Profile this project's time: prefill, forward passes, masks, sampling, checks, idle slots.

Timers wrap the calls of the decoder, a few for each pass; the engine itself reports the time of
sampling within a pass. The profiled run is not the one whose throughput is compared. The time of a
part includes waiting for a core and for the GIL, except for sampling within a pass. Knows the
engine's interfaces.
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
import synthgen
from numpy.typing import NDArray
from run_spec import RunSpec
from workloads import WORKLOADS, Workload

from synthgen_local import LocalModel
from synthgen_local.engine import decoder, workers
from synthgen_local.engine.backends.protocol import Logits, Step
from synthgen_local.engine.constraints.protocol import BatchBitmask, Constraint
from synthgen_local.engine.requests import GenerationRequest
from synthgen_local.engine.sampling import Sample, SamplingInputs

PARTS = ("prompt", "decode", "mask", "draw", "check")


class Clock:
    """Seconds of each part over all contexts, and occupied slots by time.

    The time of a nested part counts for the nested part only.
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
        """Add the time of the block to `part`.

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
        """Add seconds to a part.

        Example: `clock.add("prompt", 0.1)`
        """
        with self._adding:
            self.seconds[part] += seconds

    def add_pass(self, seconds: float, rows: int, slots: int) -> None:
        """Add a forward pass of `rows` running sequences in a context with `slots` slots.

        Example: `clock.add_pass(0.01, 30, 32)`
        """
        with self._adding:
            self.seconds["decode"] += seconds
            self.busy += rows * seconds
            self.slots += slots * seconds
            self.last[threading.get_ident()] = time.perf_counter()


class TimedContext:
    """A context with timed passes and sampling."""

    def __init__(self, context: Any, clock: Clock) -> None:
        self._context = context
        self._clock = clock
        self.size = context.size

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)

    def prefill(self, tokens: Sequence[int]) -> Logits:
        """Prefill the prompt; all contexts wait for it."""
        start = time.perf_counter()
        logits: Logits = self._context.prefill(tokens)
        self._clock.add("prompt", self._clock.contexts * (time.perf_counter() - start))
        return logits

    def decode(self, steps: Sequence[Step]) -> Logits:
        """Run a forward pass."""
        start = time.perf_counter()
        logits: Logits = self._context.decode(steps)
        self._add_pass(steps, time.perf_counter() - start)
        return logits

    def sample(self, logits: Sequence[Logits], inputs: SamplingInputs) -> list[Sample]:
        """Sample outside of a pass."""
        with self._clock.measuring("draw"):
            draws: list[Sample] = self._context.sample(logits, inputs)
        return draws

    def decode_and_sample(
        self, steps: Sequence[Step], outputs: Sequence[int], inputs: SamplingInputs
    ) -> tuple[list[Logits], list[Sample]]:
        """Run a forward pass and sample; the context reports the time of sampling."""
        start, before = time.perf_counter(), self._drawn
        found: tuple[list[Logits], list[Sample]]
        found = self._context.decode_and_sample(steps, outputs, inputs)
        drawing = self._drawn - before
        self._clock.add("draw", drawing)
        self._add_pass(steps, time.perf_counter() - start - drawing)
        return found

    @property
    def _drawn(self) -> float:
        """Seconds of sampling within passes so far; 0 for the random model."""
        return getattr(self._context, "sampling_seconds", 0.0)

    def _add_pass(self, steps: Sequence[Step], seconds: float) -> None:
        rows = sum(len(step.slots) for step in steps)
        self._clock.add_pass(seconds, rows, self._context.size.slots)


class TimedMasks(BatchBitmask):
    """A batch bitmask with timed fills."""

    clock: Clock

    def fill(self, constraints: Sequence[Constraint | None]) -> NDArray[np.int32]:
        """Fill the bitmasks of the constraints."""
        with self.clock.measuring("mask"):
            return super().fill(constraints)


class TimedDecoder(decoder.Decoder):
    """A decoder with timed constraint work: logits processing and accepting tokens."""

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
def timed_model(model: LocalModel, clock: Clock) -> Iterator[None]:
    """Install timers around the decoder's calls, and remove them at the end.

    Example: `with timed_model(model, clock): list(generator.stream(rows=10))`
    """
    opened, decode = model.engine.open_context, model.decode
    patched = cast("Any", model)

    def timed_decode(request: GenerationRequest, rows: int, check: Any, **options: Any) -> Any:
        return decode(request, rows, _timed(check, "check", clock), **options)

    patched.engine.open_context = lambda size: TimedContext(opened(size), clock)
    patched.decode = timed_decode
    TimedMasks.clock = TimedDecoder.clock = clock
    cast("Any", decoder).BatchBitmask = TimedMasks
    cast("Any", workers).Decoder = TimedDecoder
    try:
        yield
    finally:
        cast("Any", decoder).BatchBitmask = BatchBitmask
        cast("Any", workers).Decoder = decoder.Decoder
        patched.engine.open_context = opened
        del patched.decode


def measure_parts(model: LocalModel, workload: Workload, rows: int, seed: int) -> dict[str, float]:
    """Return the share of each part in the time of all contexts, and the share of idle slots.

    The parts add up to 1: `wait` is waiting for the last context to finish, `other` is opening
    contexts and the decoder's own work.

    Example: `measure_parts(model, BILLING, 64, seed=0)["decode"]`
    """
    clock = Clock(model.parallel_plan(rows).contexts)
    make = synthgen.prepare(model, workload)
    with timed_model(model, clock):
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
    task = RunSpec.read(sys.stdin.read())
    with LocalModel.load(task.model) as model:
        print(json.dumps(measure_parts(model, WORKLOADS[task.workload], task.rows, task.seed)))


if __name__ == "__main__":
    main()
