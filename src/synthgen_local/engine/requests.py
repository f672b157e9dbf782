"""The records of generation: a request, an attempt at one row, its completion and the finished row.

Knows rows by their numbers, and token ids. Knows no models, schemas or files.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from ..rejection import Rejection
from .constraints.protocol import Constraint

if TYPE_CHECKING:
    from .constraints.grammar import Grammar
    from .constraints.null_rates import NullRates

Value = TypeVar("Value")
Other = TypeVar("Other")

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
    rejections: tuple[Rejection, ...] = ()

    def retry(self, reason: Rejection) -> Attempt:
        """Return the next attempt at the same row, which has its own random stream.

        Example: `Attempt(7).retry(Rejection("short")) == Attempt(7, (Rejection("short"),))`
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

    reason: Rejection
    final: bool = False


@dataclass(frozen=True)
class Row(Generic[Value]):
    """A finished row: its value and how it was generated.

    `made` is False if every attempt was rejected; `value` is None then, but a row may also be
    null. `rejections` has one reason for each rejected attempt. `tokens`, `sampled_tokens`,
    `log_weight` and `text` are those of the last attempt's `Completion`.

    Example: `Row(0, "Ada", made=True).rejections == ()`
    """

    number: int
    value: Value | None
    made: bool
    rejections: tuple[Rejection, ...] = ()
    tokens: int = 0
    sampled_tokens: int = 0
    log_weight: float | None = None
    text: str = ""

    @classmethod
    def of(
        cls, last: Completion, verdict: Accepted[Value] | Rejected, rejections: Sequence[Rejection]
    ) -> Row[Value]:
        """Return the row whose last completion got this verdict.

        Example: `Row.of(completion, Accepted("Ada"), ()).value == "Ada"`
        """
        return cls(
            last.attempt.row,
            verdict.value if isinstance(verdict, Accepted) else None,
            isinstance(verdict, Accepted),
            tuple(rejections),
            last.tokens,
            last.sampled_tokens,
            last.log_weight,
            last.text,
        )

    def with_value(self, value: Other | None) -> Row[Other]:
        """Return the row with another form of its value; a row that was not made keeps none.

        Example: `Row(0, 7, made=True).with_value("7").value == "7"`
        """
        return replace(cast("Row[Other]", self), value=value if self.made else None)


def made_values(rows: Generator[Row[Value]]) -> Generator[Value]:
    """Yield the values of the rows that were made; close `rows` in the end.

    Example: `list(made_values(model.decode(request, 10, check, attempts=1)))`
    """
    with closing(rows):
        for row in rows:
            if row.made:
                yield cast("Value", row.value)


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
