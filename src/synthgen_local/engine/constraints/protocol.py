"""The interface between the decoder and what may be written: `Constraint`, and batches of bitmasks.

The methods are those of vLLM's structured-output grammars and of Hugging Face's logits
processors. Knows token ids; knows no models, prompts or schemas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import llguidance.numpy as lln
import numpy as np
from llguidance import LLExecutor, LLMatcher
from numpy.typing import NDArray

from ..backends.protocol import Logits
from ..bitmask import Mask, masks, write


class Constraint(Protocol):
    """The state of one sequence: which tokens may come next. Used by one thread."""

    @property
    def is_terminated(self) -> bool:
        """True if the sequence is complete, so that nothing but `text` and `close` is called."""
        ...

    @property
    def matcher(self) -> LLMatcher | None:
        """The llguidance matcher that computes the bitmask, or None."""
        ...

    def fill_bitmask(self, mask: Mask) -> None:
        """Write the allowed tokens into a mask, which already holds what `matcher` allows.

        Raises DecodingError if the grammar is in an error state.
        """
        ...

    @property
    def needs_full_logits(self) -> bool:
        """True if `process_logits` reads logits of tokens that the mask does not allow."""
        ...

    @property
    def validate_token(self) -> Callable[[int], bool] | None:
        """A function that tells whether one token is allowed, cheaper than the mask, or None.

        It is offered only where the tokens allowed before the last token are likely to be allowed
        after it (opportunistic masking).
        """
        ...

    @property
    def process_logits(self) -> Callable[[Logits], Logits] | None:
        """The logits processor, (vocabulary,) to a changed copy or the same array.

        None if logits are never changed: then sampling need not wait for it.
        """
        ...

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:
        """Accept a sampled token; return the fast-forward tokens, which are accepted as well.

        `stream` is the row's random stream, for choices other than tokens.
        """
        ...

    def text(self) -> str:
        """Return the text of the accepted tokens."""
        ...

    def close(self) -> None:
        """Release resources; the sequence has ended or starts again from the beginning."""
        ...


class BatchBitmask:
    """Bitmasks of at most `rows` sequences, filled in one call of llguidance.

    The interpreter's lock is released once per forward pass instead of once per sequence. One
    thread is enough: sequences of one grammar share a lexer under a lock.

    Example: `BatchBitmask(32, vocabulary=49152).fill([grammar.start()]).shape == (1, 1536)`
    """

    def __init__(self, rows: int, vocabulary: int) -> None:
        self._masks = masks(rows, vocabulary)
        self._all_tokens = masks(1, vocabulary)[0]
        write(self._all_tokens, np.ones(vocabulary, dtype=bool))
        self._executor = LLExecutor(num_threads=1)

    def fill(self, constraints: Sequence[Constraint | None]) -> NDArray[np.int32]:
        """Return the mask of each constraint, of all tokens for None; valid until the next call.

        Raises DecodingError if a grammar is in an error state.
        """
        filled = self._masks[: len(constraints)]
        matchers = [
            (matcher, row)
            for row, constraint in enumerate(constraints)
            if constraint is not None and (matcher := constraint.matcher) is not None
        ]
        if matchers:
            lln.fill_next_token_bitmask_par(self._executor, matchers, filled)
        unconstrained = [row for row, constraint in enumerate(constraints) if constraint is None]
        # One assignment for all rows: numpy releases the interpreter's lock at each.
        filled[unconstrained] = self._all_tokens
        for constraint, mask in zip(constraints, filled, strict=True):
            if constraint is not None:
                constraint.fill_bitmask(mask)
        return filled
