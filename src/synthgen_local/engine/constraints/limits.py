"""Constraints that end by themselves: a limit of tokens around another constraint, and none at all.

Knows tokens; knows no grammars.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from llguidance import LLMatcher

from ..bitmask import Mask, has, write_tokens
from .protocol import Constraint


class TokenLimitConstraint:
    """Another constraint, ended within `most` tokens. A `Constraint`.

    After half of the tokens it ends wherever the other constraint allows an end token; `cut` is
    true if it never did. `end_tokens` are the model's.

    Example: `TokenLimitConstraint(grammar.start(), most=100, end_tokens=tokenizer.eos_tokens)`
    """

    validate_token = None

    def __init__(self, constraint: Constraint, most: int, end_tokens: Sequence[int]) -> None:
        self._constraint = constraint
        self._remaining = most
        self._end_below = most // 2
        self._end_tokens = np.array(end_tokens, dtype=np.int64)
        self.needs_full_logits = constraint.needs_full_logits
        self.process_logits = constraint.process_logits
        self.close = constraint.close
        self.cut = most <= 0 and not constraint.is_terminated

    @property
    def is_terminated(self) -> bool:
        """True if the text is complete or cut."""
        return self.cut or self._constraint.is_terminated

    @property
    def matcher(self) -> LLMatcher | None:
        """The other constraint's matcher."""
        return self._constraint.matcher

    def fill_bitmask(self, mask: Mask) -> None:
        """Allow the other constraint's tokens; after half of the tokens only its end tokens."""
        self._constraint.fill_bitmask(mask)
        if self._remaining <= self._end_below:
            ends = self._end_tokens[has(mask, self._end_tokens)]
            if len(ends):
                write_tokens(mask, ends)

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:
        """Accept a token; return the fast-forward tokens that fit within the limit."""
        forced = self._constraint.accept_token(token, stream)
        allowed = self._remaining - 1
        self._remaining = allowed - len(forced)
        self.cut = self._remaining <= 0 and not self._constraint.is_terminated
        return forced[:allowed]

    def text(self) -> str:
        """Return the text so far; an empty one if it was cut within a character."""
        try:
            return self._constraint.text()
        except UnicodeDecodeError:
            if self.cut:
                return ""
            raise


class EmptyConstraint:
    """A sequence that is complete without any token. A `Constraint`.

    Example: `EmptyConstraint().is_terminated`
    """

    is_terminated = True
    matcher = None
    needs_full_logits = False
    validate_token = None
    process_logits = None

    def fill_bitmask(self, mask: Mask) -> None:
        """Do nothing: no token is sampled."""

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:  # noqa: ARG002
        """Return no tokens."""
        return ()

    def text(self) -> str:
        """Return an empty text."""
        return ""

    def close(self) -> None:
        """Release nothing."""
