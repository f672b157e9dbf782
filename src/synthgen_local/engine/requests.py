"""The records of generation: a request, an attempt at one row, its completion and its outcome.

Knows rows by their numbers, and token ids. Knows no models, schemas or files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar

from .constraints.protocol import Constraint

if TYPE_CHECKING:
    from .constraints.grammar import Grammar
    from .constraints.null_rates import NullRates

Value = TypeVar("Value")

_EXPECTED_TOKENS = 128  # of a row, where the maximum is far above
_SAMPLE = 16


class LogWeightPolicy(Enum):
    """The rows for which `log_weight` is computed, which needs the logits of all tokens.

    SAMPLE is the first 16 rows of a request and every sixteenth after them.
    """

    ALL = "all"
    SAMPLE = "sample"
    NONE = "none"

    def includes(self, row: int) -> bool:
        """Return whether the log-weight of a row is computed.

        Example: `LogWeightPolicy.SAMPLE.includes(7)`
        """
        if self is LogWeightPolicy.SAMPLE:
            return row < _SAMPLE or row % _SAMPLE == 0
        return self is LogWeightPolicy.ALL


@dataclass(frozen=True)
class SequenceInit:
    """The start of one sequence: tokens that follow the shared prompt, and the constraint."""

    suffix: tuple[int, ...]
    constraint: Constraint


@dataclass(frozen=True)
class GenerationRequest:
    """Everything that the rows of one request share.

    `prompt` is the token ids that every sequence begins with. `init_sequence` returns the start
    of a row's sequence by its number; several threads call it. `max_tokens` is the upper bound of
    one row's tokens after the prompt, `expected_tokens` an estimate for all rows, or one for each
    row. `temperature` 0 takes the likeliest token.
    """

    prompt: tuple[int, ...]
    init_sequence: Callable[[int], SequenceInit]
    max_tokens: int
    seed: int = 0
    temperature: float = 1.0
    expected_tokens: int | Sequence[int] = _EXPECTED_TOKENS
    log_weights: LogWeightPolicy = LogWeightPolicy.ALL

    def expected_length(self, row: int) -> int:
        """Return the number of tokens that a row is expected to take.

        Example: `request.expected_length(0)`
        """
        expected = self.expected_tokens
        return min(self.max_tokens, expected if isinstance(expected, int) else expected[row])

    @classmethod
    def from_grammar(
        cls,
        grammar: Grammar | NullRates,
        prompt: Iterable[int],
        max_tokens: int,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        expected_tokens: int = _EXPECTED_TOKENS,
        log_weights: LogWeightPolicy = LogWeightPolicy.ALL,
    ) -> GenerationRequest:
        """Return a request for rows of one grammar after one prompt.

        Tokens that every row of the grammar begins with become a part of the shared prompt.

        Example: `GenerationRequest.from_grammar(Grammar(model.tokenizer, text), [1, 2], 50)`
        """

        def init_sequence(_row: int) -> SequenceInit:
            return SequenceInit((), grammar.start())

        return cls(
            (*prompt, *grammar.forced_prefix),
            init_sequence,
            max_tokens - len(grammar.forced_prefix),
            seed,
            temperature,
            expected_tokens,
            log_weights,
        )


@dataclass(frozen=True)
class Attempt:
    """One attempt at a row; `rejections` are the reasons why earlier attempts were rejected."""

    row: int
    rejections: tuple[str, ...] = ()

    def retry(self, reason: str) -> Attempt:
        """Return the next attempt at the same row, which has its own random stream.

        Example: `Attempt(7).retry("too short") == Attempt(7, ("too short",))`
        """
        return Attempt(self.row, (*self.rejections, reason))


@dataclass(frozen=True)
class Completion:
    """The text of one attempt, decoded.

    `tokens` counts all tokens after the shared prompt, `sampled_tokens` those that were sampled;
    the others are the suffix and fast-forward tokens. `log_weight` is the sum over sampled tokens
    of the log of the allowed mass: 0 means that the constraint never excluded a token. It is None
    for rows that the request's `LogWeightPolicy` leaves out.
    """

    attempt: Attempt
    text: str
    tokens: int
    sampled_tokens: int
    log_weight: float | None


@dataclass(frozen=True)
class Accepted(Generic[Value]):
    """The verdict of a check that accepts a completion; `value` is made from its text."""

    value: Value


@dataclass(frozen=True)
class Rejected:
    """The verdict of a check that rejects a completion.

    The row is resampled while attempts remain, unless the rejection is `final`.
    """

    reason: str
    final: bool = False


@dataclass(frozen=True)
class Outcome(Generic[Value]):
    """The last completion of one row and its verdict.

    `accepted` is None if every attempt was rejected; a row's value may itself be None.
    `rejections` holds the reasons of all rejected attempts.
    """

    completion: Completion
    accepted: Accepted[Value] | None
    rejections: tuple[str, ...]

    @property
    def row(self) -> int:
        """The row's number."""
        return self.completion.attempt.row

    @property
    def value(self) -> Value | None:
        """The row's value; None if every attempt was rejected, or if the value is null."""
        return None if self.accepted is None else self.accepted.value


def accepted_values(outcomes: Generator[Outcome[Value]]) -> Generator[Value]:
    """Yield the values of accepted rows; close `outcomes` in the end.

    Example: `list(accepted_values(model.decode(request, 10, check, attempts=1)))`
    """
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.accepted is not None:
                yield outcome.accepted.value


class RowQueue:
    """A queue of attempts: rows in the order given, before them those that were queued again.

    Example: `RowQueue(range(3)).pop() == Attempt(0)`
    """

    def __init__(self, rows: Iterable[int]) -> None:
        self._rows = iter(rows)
        self._requeued: deque[Attempt] = deque()

    def pop(self) -> Attempt | None:
        """Return the next attempt, or None if the queue is empty."""
        if self._requeued:
            return self._requeued.popleft()
        row = next(self._rows, None)
        return None if row is None else Attempt(row)

    def requeue(self, attempt: Attempt) -> None:
        """Put an attempt at the front of the queue."""
        self._requeued.appendleft(attempt)
