"""The decoding loop: many rows after one shared prompt, by continuous batching.

In each forward pass every running sequence evaluates the token that was sampled for it and the
fast-forward tokens after it. Logits are computed only where a token is sampled. The shared prompt
is evaluated once, sequences whose tokens are still equal are evaluated as one, the last tokens of
a finished row are never evaluated, and its slot is given to the next row before the next pass.

Knows token ids, logits and constraints; does not know what a row's text means.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ..errors import DecodingError
from .backends.protocol import Context, Logits, Step
from .bitmask import Mask, allow_most
from .constraints.protocol import BatchBitmask
from .prefix import Prefix
from .requests import Completion, GenerationRequest, RowQueue
from .sampling import Sample, SamplingInputs
from .scheduler import Scheduler
from .sequence import RunningSequence


class Decoder:
    """Decodes rows of one request in one context.

    `prefix` is the evaluated prompt; without it the prompt is evaluated here.

    Raises DecodingError if a constraint allows no token, or if one row of the maximum length does
    not fit the context.

    Example: `for row in Decoder(context, request).run(RowQueue(range(10))): print(row.text)`
    """

    def __init__(
        self,
        context: Context,
        request: GenerationRequest,
        *,
        prefix: Prefix | None = None,
    ) -> None:
        self._context = context
        self._request = request
        if len(request.prompt) + request.max_tokens > context.size.cells:
            raise DecodingError(
                f"A row of {request.max_tokens} tokens and a prompt of {len(request.prompt)} "
                f"do not fit a context of {context.size.cells} tokens.",
                hint="Give the longest fields a smaller max_length, or use fewer examples.",
            )
        if prefix is None:
            self._prompt_logits = context.prefill(request.prompt).copy()
        else:
            context.load_prefix(prefix.state, len(request.prompt))
            self._prompt_logits = prefix.logits
        self._bitmasks = BatchBitmask(context.size.slots, len(self._prompt_logits))

    def run(
        self, queue: RowQueue, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[Completion]:
        """Yield rows as they finish, until the queue is empty or `cancelled()` is true.

        The consumer may queue an attempt again between two yields.
        """
        scheduler = Scheduler(self._context, self._request, queue)
        while not cancelled():
            while started := scheduler.start_sequences():
                self._sample_first(started)
                yield from scheduler.pop_finished()
            if scheduler.is_idle:
                return
            groups = scheduler.schedule()
            scheduler.allocate(groups)
            self._forward(groups)
            yield from scheduler.pop_finished()

    def _sample_first(self, started: Sequence[RunningSequence]) -> None:
        """Sample from the prompt's logits for new sequences without tokens of their own."""
        waiting = [each for each in started if not (each.pending or each.constraint.is_terminated)]
        if waiting:
            masks = self._bitmasks.fill([each.constraint for each in waiting])
            self._sample(waiting, [self._prompt_logits] * len(waiting), masks)

    def _forward(self, groups: list[list[RunningSequence]]) -> None:
        """Evaluate all pending tokens in one forward pass, and sample a token for each sequence.

        Bitmasks are filled before the pass, so that only the logits of allowed tokens need be
        computed; for opportunistic sequences all of them are.
        """
        sequences = [each for group in groups for each in group]
        masks = self._bitmasks.fill(
            [None if each.opportunistic else each.constraint for each in sequences]
        )
        firsts = accumulate(map(len, groups), initial=0)
        steps = [_step(group, masks[first]) for group, first in zip(groups, firsts, strict=False)]
        outputs = [index for index, group in enumerate(groups) for _ in group]
        if any(each.constraint.process_logits for each in sequences):
            logits = self._context.decode(steps)
            self._sample(sequences, [logits[output] for output in outputs], masks)
        else:
            inputs = self._inputs(sequences, masks)
            found, samples = self._context.decode_and_sample(steps, outputs, inputs)
            self._accept(sequences, found, masks, samples)

    def _sample(
        self,
        sequences: Sequence[RunningSequence],
        logits: Sequence[Logits],
        masks: NDArray[np.int32],
    ) -> None:
        """Sample a token for each sequence from its logits, which its constraint may process."""
        processed = [
            process(row) if (process := each.constraint.process_logits) else row
            for each, row in zip(sequences, logits, strict=True)
        ]
        samples = self._context.sample(processed, self._inputs(sequences, masks))
        self._accept(sequences, logits, masks, samples)

    def _inputs(
        self, sequences: Sequence[RunningSequence], masks: NDArray[np.int32]
    ) -> SamplingInputs:
        uniforms = [each.stream.random() for each in sequences]
        with_mass = [each.has_log_weight for each in sequences]
        return SamplingInputs(masks, self._request.temperature, uniforms, with_mass)

    def _accept(
        self,
        sequences: Sequence[RunningSequence],
        logits: Sequence[Logits],
        masks: NDArray[np.int32],
        samples: Sequence[Sample],
    ) -> None:
        """Let each sequence accept its token and the fast-forward tokens after it.

        An opportunistic token is sampled from all tokens. If it is invalid, a valid one is
        sampled in its place, so each token comes as often as if only valid ones had been there to
        sample from (rejection sampling; von Neumann, 1951). To validate one token costs less than
        to fill a bitmask (opportunistic masking; Beurer-Kellner et al., 2024, arXiv:2403.06988).
        """
        invalid = [
            (each, row)
            for each, row, broad, sample in zip(
                sequences, logits, allow_most(masks), samples, strict=True
            )
            if not each.accept(sample, broad)
        ]
        if invalid:
            again, rows = zip(*invalid, strict=True)
            self._sample(again, rows, self._bitmasks.fill([each.constraint for each in again]))


def _step(group: Sequence[RunningSequence], mask: Mask) -> Step:
    """The pending tokens of equal sequences, and the mask if no other logits are read."""
    masked = len(group) == 1 and not group[0].needs_full_logits
    return Step([each.slot for each in group], group[0].pending, mask if masked else None)
