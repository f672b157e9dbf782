"""The division of rows over contexts, threads and shards, and the batch size.

Contexts share the loaded weights and nothing else. On a CPU one context for each core is faster
than one context with all cores, because no forward pass waits for another core at a barrier. On a
GPU there is one context for every two cores: the host takes longer to prepare a pass than the GPU
takes to compute it. Knows numbers; knows no requests or texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from .backends.protocol import Model

DEFAULT_BATCH_SIZE = 32
"""Sequences that a context runs at once, unless a measurement chose another number."""
GPU_BATCH_SIZE = 256
"""Sequences that run at once on a GPU, in all contexts together."""
GPU_CONTEXTS = 8
"""The maximum number of contexts on a GPU: the best on an H100 with 16 cores."""
MAX_ROWS = 1_000_000_000
"""The maximum number of rows of a job: each shard takes some bytes of memory from the start."""
MAX_THREADS = 4096
"""The maximum number of threads; Linux refuses some above it."""

_WAVES = 2
_MIN_ROWS = 4  # of a context: for fewer, another context's prefill costs more than it saves
# A shard has about as many rows for each slot. A job that is killed loses its unfinished shards,
# but each shard ends with idle slots: with 4 rows a slot, 1,024 rows took 5 to 8 % longer than
# with 8.
_ROWS_PER_SLOT = 6
_MIN_SLOTS = 8  # a plan with fewer slots makes shards as long as one with this number


@dataclass(frozen=True)
class BatchSettings:
    """The batch size of a context in rows, and whether it computes flash attention."""

    rows: int = DEFAULT_BATCH_SIZE
    flash: bool = True


@dataclass(frozen=True)
class ParallelPlan:
    """The number of contexts, and of slots and threads in each."""

    contexts: int
    slots: int
    threads: int


def choose_batch_size(batch: int, rows: int, *, threads: int) -> int:
    """Return how many of `rows` sequences to run at once if `batch` is the fastest number.

    Slots that start together idle until the longest row ends. So there are either enough rows to
    fill each slot twice, or at most `DEFAULT_BATCH_SIZE` slots for each thread.

    Example: `choose_batch_size(128, 200, threads=2) == 100`
    """
    return min(batch, max(threads * DEFAULT_BATCH_SIZE, rows // _WAVES))


def plan_workers(model: Model, rows: int, *, batch: int, threads: int) -> ParallelPlan:
    """Return how to divide `rows` over contexts, of which `batch` run at once in all contexts.

    With fewer contexts than threads, each context has several threads, and one thread is left
    out: if teams have as many threads as there are cores, libgomp counts the program's own thread
    as one too many and lets all sleep at each barrier instead of spinning. A pass over one row
    then takes 5 times as long. On a GPU no thread is left out.

    Example: `plan_workers(model, 64, batch=64, threads=2) == ParallelPlan(2, 32, 1)`
    """
    running = min(rows, batch)
    most = max(2, min(GPU_CONTEXTS, threads // 2)) if model.on_gpu else threads
    contexts = max(1, min(most, running // _MIN_ROWS))
    each = threads if contexts == threads or model.on_gpu else threads - 1
    return ParallelPlan(contexts, max(1, -(-running // contexts)), max(1, each // contexts))


class Shards(Sequence[range]):
    """A sequence of shards of `length` rows, computed on access; the last may be shorter.

    Example: `list(Shards(range(5), 3)) == [range(0, 3), range(3, 5)]`
    """

    def __init__(self, rows: range, length: int) -> None:
        self._rows = rows
        self._length = length

    def __len__(self) -> int:
        return (len(self._rows) + self._length - 1) // self._length

    @overload
    def __getitem__(self, index: int) -> range: ...
    @overload
    def __getitem__(self, index: slice) -> list[range]: ...
    def __getitem__(self, index: int | slice) -> range | list[range]:
        numbers = range(len(self))[index]
        if isinstance(numbers, range):
            return [self[number] for number in numbers]
        start = numbers * self._length
        return self._rows[start : start + self._length]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment] # unhashable, as a list is


def make_shards(rows: range, plan: ParallelPlan) -> Shards:
    """Divide rows into shards of equal length; all contexts decode the same number of shards.

    Example: `make_shards(range(10), ParallelPlan(2, 32, 1)) == [range(0, 5), range(5, 10)]`
    """
    expected = _ROWS_PER_SLOT * max(plan.slots, _MIN_SLOTS)
    rounds = max(1, round(len(rows) / (expected * plan.contexts)))
    length = max(1, -(-len(rows) // (rounds * plan.contexts)))
    return Shards(rows, length)
