"""One job over several contexts, one thread each.

Contexts share the loaded weights and nothing else; on a CPU, one context for each core
beats one context with all cores, because no pass waits for another core at a barrier. On a GPU
there is one for every other core: the host takes longer to prepare a pass than it takes the GPU.
Rows are cut into shards. A shard is decoded by one context from a clean state, so its rows are
the same whichever context takes it and when: timing decides nothing but the order in which rows
come out.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Generic, TypeVar, overload

from ..errors import DecodingError
from ..system.processes import check_threads, no_threads
from .backends.protocol import ContextSize, Model
from .decoder import CELLS, Decoded, Decoder, Job, Prefix, RowQueue

Value = TypeVar("Value")

ROWS_A_CONTEXT = 32
"""Rows in flight, where it was not measured that more are worth a longer cache."""

_WAVES = 2
_FEWEST_ROWS = 4  # for fewer, a second context's prefill costs more than it brings
GPU_ROWS = 256
"""The same on a GPU, in all contexts together."""
GPU_CONTEXTS = 8
"""At most; an H100 beside 16 cores did best with as many (`benchmarks/gpu.py`)."""

MOST_ROWS = 1_000_000_000
"""Of one run: each of its shards takes some bytes of memory before the first row is there."""
MOST_THREADS = 4096
"""Above it Linux itself refuses some."""

_ROWS_A_SLOT = 6
"""Of a shard, about. A run that is killed loses its unfinished shards; but each shard ends with
idle slots: 4 rows a slot made 1,024 rows of billing 5 to 8 % slower than 8."""
_FEW_SLOTS = 8  # a shard of fewer is as long as one of these
GRACE = 4.0
"""Seconds that shards in work have after a signal."""


@dataclass(frozen=True)
class Batch:
    """Rows that a context has in flight, and whether it computes flash attention (`llama.py`)."""

    rows: int = ROWS_A_CONTEXT
    flash: bool = True


@dataclass(frozen=True)
class Layout:
    """How many contexts, how many rows in flight in each, and threads for each."""

    contexts: int
    slots: int
    threads: int


@dataclass(frozen=True)
class Accepted(Generic[Value]):
    """The check took the row; `value` is what it made of it."""

    value: Value


@dataclass(frozen=True)
class Rejected:
    """The check turned the row down; it will be drawn anew, unless that is `final`."""

    reason: str
    final: bool = False


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """The end of one row; `accepted` is None if every attempt was turned down.

    A row's value may itself be None.
    """

    row: int
    accepted: Accepted[Value] | None
    rejections: tuple[str, ...]
    decoded: Decoded

    @property
    def value(self) -> Value | None:
        """The row's value; None if there is no row, or if the row is null."""
        return None if self.accepted is None else self.accepted.value


def values(outcomes: Generator[Outcome[Value]]) -> Generator[Value]:
    """Yield what outcomes hold, and close them in the end.

    Example: `list(values(model.decode(job, 10, check, attempts=1)))`
    """
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.accepted is not None:
                yield outcome.accepted.value


def worthwhile(batch: int, rows: int, *, threads: int) -> int:
    """Return how many of so many rows to have in flight, where `batch` of them are fastest.

    Slots that all begin at once idle until the longest row ends: they are to be filled twice, or
    there are `ROWS_A_CONTEXT` of them for each thread.

    Example: `worthwhile(128, 200, threads=2) == 100`
    """
    return min(batch, max(threads * ROWS_A_CONTEXT, rows // _WAVES))


def plan(model: Model, rows: int, *, batch: int, threads: int) -> Layout:
    """Divide `rows` over contexts; `batch` of them are in flight in all contexts together.

    Fewer contexts than threads have several threads each, of which one is left out: with as many
    threads in teams as there are cores, libgomp counts the program's own as one too many, and they
    sleep at each barrier instead of waiting awake. A pass over one row then takes 5 times as long.
    On a GPU they have other things to do, and none is left out.

    Example: 64 rows on 2 threads: `Layout(contexts=2, slots=32, threads=1)`
    """
    in_flight = min(rows, batch)
    most = max(2, min(GPU_CONTEXTS, threads // 2)) if model.on_gpu else threads
    contexts = max(1, min(most, in_flight // _FEWEST_ROWS))
    each = threads if contexts == threads or model.on_gpu else threads - 1
    return Layout(contexts, max(1, -(-in_flight // contexts)), max(1, each // contexts))


class Shards(Sequence[range]):
    """Rows in shards of `length`, of which the last may be shorter; none is in memory.

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

    __hash__ = None  # type: ignore[assignment] # as lists have none


def cut(rows: range, layout: Layout) -> Shards:
    """Cut rows into shards of equal length, the last one may be shorter, for all contexts alike.

    Example: `cut(range(10), Layout(2, 32, 1)) == [range(0, 5), range(5, 10)]`
    """
    usual = _ROWS_A_SLOT * max(layout.slots, _FEW_SLOTS)
    rounds = max(1, round(len(rows) / (usual * layout.contexts)))
    length = max(1, -(-len(rows) // (rounds * layout.contexts)))
    return Shards(rows, length)


class Halt:
    """A wish to end a run early: no shard is begun any more, those in work get `GRACE` seconds.

    Example: `halt.request()` in a signal handler
    """

    def __init__(self) -> None:
        self._since: float | None = None

    def request(self) -> None:
        """Ask for the end."""
        self._since = self._since or time.monotonic()

    @property
    def requested(self) -> bool:
        """Whether the end is wished for."""
        return self._since is not None

    @property
    def expired(self) -> bool:
        """Whether the moment is over."""
        return self._since is not None and time.monotonic() > self._since + GRACE


def decode_shards(
    model: Model,
    job: Job,
    shards: Sequence[range],
    layout: Layout,
    check: Callable[[Decoded], Accepted[Value] | Rejected],
    *,
    attempts: int,
    halt: Halt | None = None,
    prefix: Callable[[], Prefix] | None = None,
) -> Generator[Outcome[Value]]:
    """Yield an outcome for each row of `shards`, in the order in which they finish.

    `prefix` evaluates the job's prompt, or knows it; it is called when the first outcome is asked
    for, so that whoever closes the iterator waits for it.

    `check` runs in the thread that decoded the row. A row that it rejects is drawn anew
    from a random stream of its own, at most `attempts` times in all. Closing the iterator
    stops all contexts after the pass that they are in; after `halt` it ends by itself.
    """
    outcomes: queue.Queue[Outcome[Value] | BaseException | None] = queue.Queue(maxsize=1024)
    stop = threading.Event()
    ending = halt or Halt()
    threads_together = layout.threads * layout.contexts
    check_threads(threads_together)
    evaluated = prefix() if prefix else Prefix.of(model, job, threads=threads_together)
    left = iter(shards)
    taking = threading.Lock()

    def work() -> None:
        try:
            while not (stop.is_set() or ending.requested):
                with taking:
                    shard = next(left, None)
                if shard is None:
                    break
                with closing(model.open_context(_size(model, job, layout, shard))) as context:
                    decoder = Decoder(context, job, prefix=evaluated)
                    rows = RowQueue(_longest_first(job, shard))
                    cancelled = lambda: stop.is_set() or ending.expired  # noqa: E731
                    for outcome in _outcomes(decoder, rows, check, attempts, cancelled):
                        outcomes.put(outcome)
        except BaseException as error:  # handed to the caller's thread below
            outcomes.put(error)
        finally:
            outcomes.put(None)

    threads = [
        threading.Thread(target=work, daemon=True) for _ in range(min(layout.contexts, len(shards)))
    ]
    running = started = _start(threads)
    try:
        while running:
            item = outcomes.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                yield item
    finally:
        stop.set()
        while running:  # a thread may be waiting for room in the queue
            running -= outcomes.get() is None
        for thread in threads[:started]:
            thread.join()


def _start(threads: Sequence[threading.Thread]) -> int:
    """Start as many threads as the system allows, and return how many; one does all work, too."""
    for started, thread in enumerate(threads):
        try:
            thread.start()
        except RuntimeError as error:
            if started == 0:
                raise no_threads() from error
            return started
    return len(threads)


def _outcomes(
    decoder: Decoder,
    pending: RowQueue,
    check: Callable[[Decoded], Accepted[Value] | Rejected],
    attempts: int,
    cancelled: Callable[[], bool],
) -> Iterator[Outcome[Value]]:
    """The rows of one shard."""
    for decoded in decoder.run(pending, cancelled):
        verdict = check(decoded)
        ticket = decoded.ticket
        if isinstance(verdict, Accepted):
            yield Outcome(ticket.row, verdict, ticket.rejections, decoded)
        elif not verdict.final and len(ticket.rejections) + 1 < attempts:
            pending.put_back(ticket.again(verdict.reason))
        else:
            yield Outcome(ticket.row, None, (*ticket.rejections, verdict.reason), decoded)


def _longest_first(job: Job, shard: range) -> list[int]:
    """A shard's rows as they are begun: a long one that comes last leaves all other slots idle."""
    return sorted(shard, key=job.expected, reverse=True)


def _size(model: Model, job: Job, layout: Layout, shard: range) -> ContextSize:
    """Room for one row of the greatest length and for the usual length of all others."""
    if len(job.prompt) + job.longest > model.context_length:
        raise DecodingError(
            f"The prompt ({len(job.prompt)} tokens) and the longest possible row ({job.longest}) "
            f"exceed the model's context of {model.context_length} tokens.",
            hint="Give the longest fields a smaller max_length, or use fewer examples.",
        )
    slots = max(1, min(layout.slots, len(shard)))
    others = sum(map(job.expected, _longest_first(job, shard)[: slots - 1]))
    cells = len(job.prompt) + job.longest + others
    return ContextSize(slots=slots, cells=-(-cells // CELLS) * CELLS, threads=layout.threads)
