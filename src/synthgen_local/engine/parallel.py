"""One job over several contexts, one thread each.

Contexts share the loaded weights and nothing else; on a CPU, one context for each core
beats one context with all cores, because no pass waits for another core at a barrier.
Row `r` belongs to context `r mod contexts`, so timing decides nothing but the order in
which rows come out.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Generic, TypeVar

from ..errors import DecodingError
from .decoder import Decoded, Decoder, Job, RowQueue
from .model import Context, ContextSize, Model

Value = TypeVar("Value")

_ROWS_A_CONTEXT = 32  # in flight; more makes the shared cache longer than the wider batch is worth
_FEWEST_ROWS = 4  # for fewer, a second context's prefill costs more than it brings
_GPU_ROWS = 128


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
    """The check turned the row down; it will be drawn anew."""

    reason: str


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """The end of one row: its value, or None if every attempt was turned down."""

    row: int
    value: Value | None
    rejections: tuple[str, ...]
    decoded: Decoded


def plan(model: Model, rows: int, *, batch: int | None, threads: int) -> Layout:
    """Divide `rows` over contexts.

    `batch` is the number of rows in flight in all contexts together; None lets the
    machine decide.

    Example: 64 rows on 2 threads: `Layout(contexts=2, slots=32, threads=1)`
    """
    if model.on_gpu:
        return Layout(1, max(1, min(rows, batch or _GPU_ROWS)), threads)
    in_flight = min(rows, batch or _ROWS_A_CONTEXT * threads)
    contexts = max(1, min(threads, in_flight // _FEWEST_ROWS))
    return Layout(contexts, max(1, -(-in_flight // contexts)), max(1, threads // contexts))


def decode_rows(
    model: Model,
    job: Job,
    rows: range,
    layout: Layout,
    check: Callable[[Decoded], Accepted[Value] | Rejected],
    *,
    attempts: int,
) -> Generator[Outcome[Value]]:
    """Yield an outcome for each of `rows`, in the order in which they finish.

    `check` runs in the thread that decoded the row. A row that it rejects is drawn anew
    from a random stream of its own, at most `attempts` times in all. Closing the iterator
    stops all contexts after the pass that they are in.
    """
    outcomes: queue.Queue[Outcome[Value] | BaseException | None] = queue.Queue(maxsize=1024)
    stop = threading.Event()

    def work(decoder: Decoder, part: range) -> None:
        try:
            for outcome in _outcomes(decoder, part, check, attempts, stop):
                outcomes.put(outcome)
        except BaseException as error:  # handed to the caller's thread below
            outcomes.put(error)
        finally:
            outcomes.put(None)

    parts = [rows[index :: layout.contexts] for index in range(layout.contexts)]
    with ExitStack() as contexts:
        opened = [
            contexts.enter_context(closing(model.open_context(_size(model, job, layout, part))))
            for part in parts
        ]
        threads = [
            threading.Thread(target=work, args=args, daemon=True)
            for args in zip(_decoders(job, layout, opened), parts, strict=True)
        ]
        for thread in threads:
            thread.start()
        running = len(threads)
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
            for thread in threads:
                thread.join()


def _decoders(job: Job, layout: Layout, contexts: Sequence[Context]) -> Iterator[Decoder]:
    """One decoder a context: the first evaluates the prompt, the others copy it."""
    first = Decoder(contexts[0], job, threads=layout.threads * layout.contexts)
    yield first
    for context in contexts[1:]:
        yield Decoder(context, job, like=first)


def _outcomes(
    decoder: Decoder,
    rows: range,
    check: Callable[[Decoded], Accepted[Value] | Rejected],
    attempts: int,
    stop: threading.Event,
) -> Iterator[Outcome[Value]]:
    """The rows of one context."""
    pending = RowQueue(rows)
    for decoded in decoder.run(pending, stop.is_set):
        verdict = check(decoded)
        ticket = decoded.ticket
        if isinstance(verdict, Accepted):
            yield Outcome(ticket.row, verdict.value, ticket.rejections, decoded)
        elif len(ticket.rejections) + 1 < attempts:
            pending.put_back(ticket.again(verdict.reason))
        else:
            yield Outcome(ticket.row, None, (*ticket.rejections, verdict.reason), decoded)


def _size(model: Model, job: Job, layout: Layout, part: range) -> ContextSize:
    """Room for one row of the greatest length and for the usual length of all others."""
    if len(job.prompt) + job.longest > model.context_length:
        raise DecodingError(
            f"The prompt ({len(job.prompt)} tokens) and the longest possible row ({job.longest}) "
            f"exceed the model's context of {model.context_length} tokens.",
            hint="Give the longest fields a smaller max_length, or use fewer examples.",
        )
    slots = max(1, min(layout.slots, len(part)))
    usual = min(job.longest, job.usual)
    cells = len(job.prompt) + job.longest + (slots - 1) * usual
    return ContextSize(slots=slots, cells=-(-cells // 256) * 256, threads=layout.threads)
