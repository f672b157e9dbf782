"""Workers: shards of one request, decoded by several contexts with a thread each.

A shard is decoded by one context from a clean state, so its rows are the same whichever worker
takes it and when. Timing decides nothing but the order in which rows come out. Knows threads and
shards; knows no files.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from queue import Queue
from typing import Generic, TypeAlias, TypeVar

from ..errors import DecodingError
from ..system.processes import check_threads, no_threads
from .backends.protocol import ContextSize, Model, round_up_cells
from .decoder import Decoder
from .parallel_plan import ParallelPlan
from .prefix import Prefix
from .requests import Accepted, Completion, GenerationRequest, Rejected, Row, RowQueue
from .stop_request import StopRequest

Value = TypeVar("Value")
Check: TypeAlias = Callable[[Completion], Accepted[Value] | Rejected]

_QUEUED_ROWS = 1024


def decode_shards(
    model: Model,
    request: GenerationRequest,
    shards: Sequence[range],
    plan: ParallelPlan,
    check: Check[Value],
    *,
    attempts: int,
    stop: StopRequest | None = None,
    prefix: Callable[[], Prefix] | None = None,
) -> Generator[Row[Value]]:
    """Yield the rows of `shards` in the order in which they finish.

    `prefix` returns the evaluated prompt. It is called when the first row is asked for, so
    that closing the iterator waits for it.

    `check` is called in the thread that decoded the row. A row that it rejects is resampled with
    a random stream of its own, at most `attempts` times in all. Closing the iterator stops all
    contexts after their current pass. After `stop` the iterator ends by itself.

    Example: `decode_shards(model, request, [range(8)], ParallelPlan(1, 8, 1), check, attempts=1)`
    """
    threads = plan.threads * plan.contexts
    check_threads(threads)
    evaluated = prefix() if prefix else Prefix.prefill(model, request, threads=threads)
    workers = _Workers(
        model, request, evaluated, plan, iter(shards), check, attempts, stop or StopRequest()
    )
    yield from workers.rows(min(plan.contexts, len(shards)))


@dataclass(eq=False)
class _Workers(Generic[Value]):
    """Threads that take shards one by one and put finished rows into one queue.

    A worker puts None when it ends, and an exception if it fails.
    """

    model: Model
    request: GenerationRequest
    prefix: Prefix
    plan: ParallelPlan
    shards: Iterator[range]
    check: Check[Value]
    attempts: int
    stop: StopRequest
    closed: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    queue: Queue[Row[Value] | BaseException | None] = field(
        default_factory=lambda: Queue(maxsize=_QUEUED_ROWS)
    )

    def rows(self, workers: int) -> Generator[Row[Value]]:
        """Start the workers, yield their rows, and wait for their end."""
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(workers)]
        running = started = _start(threads)
        try:
            while running:
                item = self.queue.get()
                if item is None:
                    running -= 1
                elif isinstance(item, BaseException):
                    raise item
                else:
                    yield item
        finally:
            self.closed.set()
            while running:  # a worker may be waiting for space in the queue
                running -= self.queue.get() is None
            for thread in threads[:started]:
                thread.join()

    def _work(self) -> None:
        try:
            while (shard := self._next_shard()) is not None:
                self._decode(shard)
        except BaseException as error:  # raised in the caller's thread by `rows`
            self.queue.put(error)
        finally:
            self.queue.put(None)

    def _next_shard(self) -> range | None:
        if self.closed.is_set() or self.stop.requested:
            return None
        with self.lock:
            return next(self.shards, None)

    def _is_cancelled(self) -> bool:
        return self.closed.is_set() or self.stop.expired

    def _decode(self, shard: range) -> None:
        """Decode a shard's rows, the longest first, and resample those that are rejected."""
        size = _context_size(self.model, self.request, self.plan, shard)
        rows = RowQueue(_longest_first(self.request, shard))
        with closing(self.model.open_context(size)) as context:
            decoder = Decoder(context, self.request, prefix=self.prefix)
            for completion in decoder.run(rows, self._is_cancelled):
                verdict, attempt = self.check(completion), completion.attempt
                if isinstance(verdict, Accepted):
                    self.queue.put(Row.of(completion, verdict, attempt.rejections))
                elif not verdict.final and len(attempt.rejections) + 1 < self.attempts:
                    rows.requeue(attempt.retry(verdict.reason))
                else:
                    rejections = (*attempt.rejections, verdict.reason)
                    self.queue.put(Row.of(completion, verdict, rejections))


def _start(threads: Sequence[threading.Thread]) -> int:
    """Start as many threads as the system allows, and return how many; one is enough."""
    for started, thread in enumerate(threads):
        try:
            thread.start()
        except RuntimeError as error:
            if started == 0:
                raise no_threads() from error
            return started
    return len(threads)


def _longest_first(request: GenerationRequest, shard: range) -> list[int]:
    """A shard's rows in the order in which they start: a long row at the end leaves slots idle."""
    return sorted(shard, key=request.expected_length, reverse=True)


def _context_size(
    model: Model, request: GenerationRequest, plan: ParallelPlan, shard: range
) -> ContextSize:
    """The cells of one row of the maximum length and of the expected length of all others."""
    prompt, longest = len(request.prompt), request.max_tokens
    if prompt + longest > model.context_length:
        raise DecodingError(
            f"The prompt ({prompt} tokens) and the longest possible row ({longest} tokens) "
            f"exceed the model's context of {model.context_length} tokens.",
            hint="Give the longest fields a smaller max_length, or use fewer examples.",
        )
    slots = max(1, min(plan.slots, len(shard)))
    others = sum(map(request.expected_length, _longest_first(request, shard)[: slots - 1]))
    return ContextSize(slots, round_up_cells(prompt + longest + others), plan.threads)
