"""Where our time goes: prompt, forward passes, masks, draws, checks, and slots that were idle.

Clocks are put around what the decoder calls, from outside: the engine has none. They cost a
thousandth, and so this run is not the one whose rate is compared. Knows the engine's interfaces.
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
from dataclasses import replace
from typing import Any, cast

import numpy as np
import ours
from assignment import Assignment
from numpy.typing import NDArray
from works import WORKS, Work

from synthgen_local import LocalModel
from synthgen_local.engine import decoder
from synthgen_local.engine.constraint import Constraint, Masks
from synthgen_local.engine.model import Logits, Step

PARTS = ("prompt", "decode", "mask", "draw", "check")


class Clock:
    """Seconds of each part, over all contexts, and slots in flight at each pass."""

    def __init__(self, contexts: int) -> None:
        self.contexts = contexts
        self.seconds: dict[str, float] = defaultdict(float)
        self.last: dict[int, float] = {}  # when each thread ended its last pass
        self.busy = 0.0  # slots times seconds
        self.slots = 0.0
        self._adding = threading.Lock()

    @contextmanager
    def measuring(self, part: str) -> Iterator[None]:
        """Count what is done inside as `part`.

        Example: `with clock.measuring("draw"): ...`
        """
        start = time.perf_counter()
        yield
        self.add(part, time.perf_counter() - start)

    def add(self, part: str, seconds: float) -> None:
        """Count seconds.

        Example: `clock.add("draw", 0.001)`
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
    """A context whose passes are counted; the rest is its own."""

    def __init__(self, context: Any, clock: Clock) -> None:
        self._context = context
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        part = getattr(self._context, name)
        return _timed(part, "draw", self._clock) if name == "draw" else part

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
        rows = sum(len(step.slots) for step in steps)
        self._clock.add_pass(time.perf_counter() - start, rows, self._context.size.slots)
        return logits


class TimedConstraint:
    """A constraint that counts what it takes to steer and to go on; the rest is its own."""

    def __init__(self, constraint: Any, clock: Clock) -> None:
        self._constraint = constraint
        self._clock = clock

    def __getattr__(self, name: str) -> Any:
        part = getattr(self._constraint, name)
        return _timed(part, "mask", self._clock) if name in ("steer", "take") else part


class TimedMasks(Masks):
    """Masks that are counted."""

    clock: Clock

    def of(self, constraints: Sequence[Constraint | None]) -> NDArray[np.int32]:
        """What may come next."""
        with self.clock.measuring("mask"):
            return super().of(constraints)


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

    def timed_decode(job: decoder.Job, rows: int, check: Any, **options: Any) -> Any:
        def start(row: int) -> decoder.Start:
            begun = job.start(row)
            constraint: Any = TimedConstraint(begun.constraint, clock)
            return replace(begun, constraint=constraint)

        return decode(replace(job, start=start), rows, _timed(check, "check", clock), **options)

    watching.engine.open_context = lambda size: TimedContext(opened(size), clock)
    watching.decode = timed_decode
    TimedMasks.clock = clock
    cast("Any", decoder).Masks = TimedMasks
    try:
        yield
    finally:
        cast("Any", decoder).Masks = Masks
        del watching.engine.open_context, watching.decode


def parts(model: LocalModel, work: Work, rows: int, seed: int) -> dict[str, float]:
    """Return the share of each part in the time of all contexts, and of idle slots in all slots.

    The parts make 1: `wait` is for the context that ends last, `other` is opening
    contexts and what the decoder does itself.

    Example: `parts(model, BILLING, 64, seed=0)["decode"]`
    """
    clock = Clock(model.layout(rows).contexts)
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
