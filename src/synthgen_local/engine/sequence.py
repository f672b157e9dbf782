"""A running sequence: the tokens of one row while it is decoded.

Knows token ids and constraints; knows no contexts or other sequences.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .constraints.protocol import Constraint
from .requests import Attempt, Completion
from .sampling import Sample


@dataclass
class KVSegment:
    """KV cells that several sequences share; they are free when no sequence uses them."""

    cells: int
    users: int


@dataclass
class RunningSequence:
    """A sequence that holds a slot and KV cells.

    `pending` are tokens that were sampled or follow without a choice, but are not evaluated yet.
    Sequences of one `branch` have the same evaluated tokens; 0 is the prompt alone. If
    `opportunistic`, the next token is sampled without a bitmask and validated afterwards.
    """

    attempt: Attempt
    slot: int
    constraint: Constraint
    stream: np.random.Generator
    pending: tuple[int, ...]
    tokens: int
    has_log_weight: bool
    branch: int = 0
    segments: list[KVSegment] = field(default_factory=list)
    sampled_tokens: int = 0
    log_weight: float = 0.0
    opportunistic: bool = False

    @property
    def needs_full_logits(self) -> bool:
        """True if logits are read of tokens that may not come next."""
        return self.has_log_weight or self.opportunistic or self.constraint.needs_full_logits

    def accept(self, sample: Sample, broad_mask: bool) -> bool:
        """Accept a sampled token and its fast-forward tokens; return False for an invalid one.

        Only a token that was sampled opportunistically can be invalid. `broad_mask` says whether
        most tokens were allowed: then the next one is worth sampling opportunistically, too.
        """
        opportunistic, self.opportunistic = self.opportunistic, False
        validate_token = self.constraint.validate_token
        if opportunistic and validate_token and not validate_token(sample.token):
            return False
        fast_forward = self.constraint.accept_token(sample.token, self.stream)
        self.pending = (sample.token, *fast_forward)
        self.tokens += len(self.pending)
        self.sampled_tokens += 1
        self.log_weight += sample.log_allowed_mass or 0.0
        if self.constraint.validate_token and not self.has_log_weight:
            self.opportunistic = broad_mask
        return True

    def complete(self) -> Completion:
        """Return the sequence's text and counts; its constraint is terminated."""
        return Completion(
            self.attempt,
            self.constraint.text(),
            self.tokens,
            self.sampled_tokens,
            self.log_weight if self.has_log_weight else None,
        )
