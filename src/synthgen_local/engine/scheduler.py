"""Slots and KV cells of one context: which sequences start, run, are preempted and end.

Knows how many tokens sequences have; knows no logits. Decisions depend on the request and the
rows' numbers alone, never on timing.
"""

from __future__ import annotations

from collections.abc import Iterator

from .backends.protocol import Context
from .requests import Attempt, Completion, GenerationRequest, RowQueue
from .sampling import row_stream
from .sequence import KVSegment, RunningSequence


class Scheduler:
    """The running sequences of one context, and the queue that they come from.

    `free_cells` is the number of KV cells that no sequence holds.

    Example: `Scheduler(context, request, RowQueue(range(10))).start_sequences()`
    """

    def __init__(self, context: Context, request: GenerationRequest, queue: RowQueue) -> None:
        self._context = context
        self._request = request
        self._queue = queue
        self._slots = list(range(context.size.slots))
        self.free_cells = context.size.cells - len(request.prompt)
        self._branches = 0
        self._running: list[RunningSequence] = []

    @property
    def is_idle(self) -> bool:
        """True if no sequence is running."""
        return not self._running

    def start_sequences(self) -> list[RunningSequence]:
        """Start a sequence in each free slot while the queue has attempts; return the new ones."""
        started: list[RunningSequence] = []
        while self._slots and (attempt := self._queue.pop()) is not None:
            started.append(self._start(attempt, self._slots.pop()))
        self._running += started
        return started

    def _start(self, attempt: Attempt, slot: int) -> RunningSequence:
        init = self._request.init_sequence(attempt.row)
        stream = row_stream(self._request.seed, attempt.row, len(attempt.rejections))
        if not init.constraint.is_terminated:
            self._context.fork(slot)
        return RunningSequence(
            attempt,
            slot,
            init.constraint,
            stream,
            pending=init.suffix,
            tokens=len(init.suffix),
            has_log_weight=self._request.log_weights.includes(attempt.row),
        )

    def schedule(self) -> list[list[RunningSequence]]:
        """Return groups of equal sequences for the next pass, after preempting until all fit.

        The youngest sequence is preempted first. It starts again with the same random stream, so
        its row is the same. The oldest always runs, because one row of the maximum length fits.
        """
        while True:
            groups: dict[tuple[int, tuple[int, ...]], list[RunningSequence]] = {}
            for sequence in self._running:
                groups.setdefault((sequence.branch, sequence.pending), []).append(sequence)
            if sum(len(pending) for _, pending in groups) <= self.free_cells:
                return list(groups.values())
            preempted = self._running.pop()
            self._release(preempted)
            self._queue.requeue(preempted.attempt)

    def allocate(self, groups: list[list[RunningSequence]]) -> None:
        """Account for the KV cells that the pending tokens of each group take."""
        for sequences in groups:
            self._branches += 1
            cells = len(sequences[0].pending)
            self.free_cells -= cells
            segment = KVSegment(cells, len(sequences))
            for sequence in sequences:
                sequence.branch = self._branches
                sequence.segments.append(segment)

    def pop_finished(self) -> Iterator[Completion]:
        """Yield completions of terminated sequences, whose slots and cells are free then."""
        finished = [each for each in self._running if each.constraint.is_terminated]
        if not finished:
            return
        self._running = [each for each in self._running if not each.constraint.is_terminated]
        for sequence in finished:
            completion = sequence.complete()
            self._release(sequence)
            yield completion

    def _release(self, sequence: RunningSequence) -> None:
        sequence.constraint.close()
        self._context.release(sequence.slot)
        for segment in sequence.segments:
            segment.users -= 1
            if segment.users == 0:
                self.free_cells += segment.cells
        self._slots.append(sequence.slot)
