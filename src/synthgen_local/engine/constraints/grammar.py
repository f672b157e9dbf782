"""What may follow in a row, token by token: the question that the decoder asks before a draw.

`Constraint` is that question. `Grammar` answers it for many rows of one llguidance
grammar; other modules answer it for texts that no grammar can say. Knows token ids and
bytes, not models or prompts.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import llguidance.numpy as lln
import numpy as np
from llguidance import LLExecutor, LLMatcher, LLParserLimits, LLTokenizer
from numpy.typing import NDArray

from ...errors import DecodingError
from ..backends.protocol import Logits
from ..bitmask import Mask, has, masks, write, write_tokens

_LIMITS = LLParserLimits(step_lexer_fuel=20_000_000, max_lexer_states=1_000_000)
"""Room for regular expressions with many states, such as the multiples of 13753."""


_BORDERS = frozenset(b'"\t\n')  # of strings in JSON, and of values in lines


class Constraint(Protocol):
    """One row on its way. Used by one thread."""

    @property
    def is_terminated(self) -> bool:
        """Whether the row is whole: nothing is asked of it any more but its text."""
        ...

    @property
    def matcher(self) -> LLMatcher | None:
        """The grammar that says what may come next, or None for a constraint without one."""
        ...

    def fill_bitmask(self, mask: Mask) -> None:
        """Leave in a mask what may come next; it holds what the matcher says, if there is one.

        Raises DecodingError if the grammar has come to no good.
        """
        ...

    @property
    def needs_full_logits(self) -> bool:
        """Whether `process_logits` reads logits of tokens that the mask leaves out."""
        ...

    @property
    def validate_token(self) -> Callable[[int], bool] | None:
        """Says of a token whether it may come next, for less than a mask; None: ask for the mask.

        Not None only where most of what might come before the last token is likely to be what may
        come after it.
        """
        ...

    @property
    def process_logits(self) -> Callable[[Logits], Logits] | None:
        """Says which logits to draw from, shape (vocabulary,): the model's, or a changed copy.

        None if they are always the model's: then draws need not wait for it.
        """
        ...

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:
        """Accept a drawn token; return the tokens that must follow it, already accepted.

        `stream` is the row's own, for choices that are not a token.
        """
        ...

    def text(self) -> str:
        """What has been written."""
        ...

    def close(self) -> None:
        """The row is over, or will start again from the beginning."""
        ...


class Masks:
    """What may come next in each of at most `rows` rows, asked of their grammars in one call.

    It leaves the interpreter to other contexts once a pass, and not for each row. More threads
    than one bring nothing: rows of one grammar share a lexer, and wait for each other.

    Example: `Masks(32, vocabulary=49152).of([grammar.start()]).shape == (1, 1536)`
    """

    def __init__(self, rows: int, vocabulary: int) -> None:
        self._masks = masks(rows, vocabulary)
        self._everything = masks(1, vocabulary)[0]
        write(self._everything, np.ones(vocabulary, dtype=bool))
        self._executor = LLExecutor(num_threads=1)

    def of(self, constraints: Sequence[Constraint | None]) -> NDArray[np.int32]:
        """Return the mask of each constraint, or of all tokens; the next call writes over them.

        Raises DecodingError if a grammar has come to no good.
        """
        found = self._masks[: len(constraints)]
        matchers = [
            (matcher, row)
            for row, constraint in enumerate(constraints)
            if constraint is not None and (matcher := constraint.matcher) is not None
        ]
        if matchers:
            lln.fill_next_token_bitmask_par(self._executor, matchers, found)
        unasked = [row for row, constraint in enumerate(constraints) if constraint is None]
        found[unasked] = self._everything  # at once: numpy frees the interpreter's lock each time
        for constraint, mask in zip(constraints, found, strict=True):
            if constraint is not None:
                constraint.fill_bitmask(mask)
        return found


class Grammar:
    """A grammar for many rows: `forced_prefix` are the tokens that every row begins with.

    `serialised` is llguidance's form. Rows may start in several threads, each of which compiles it
    once: copies of a matcher share what they learn under a lock, and threads that shared it would
    wait for each other at every mask. Without `fast_forward`, each token after the prefix is
    sampled, even where the mask allows one token only: its logit is then known.

    Raises DecodingError if llguidance cannot use it.

    Example: `Grammar(model.tokenizer, LLMatcher.grammar_from_lark('start: "a"')).start().text()`
    """

    def __init__(
        self, tokenizer: LLTokenizer, serialised: str, *, fast_forward: bool = True
    ) -> None:
        self.tokenizer = tokenizer
        self.fast_forward = fast_forward
        self._serialised = serialised
        self._thread = threading.local()
        first = self._compile()
        self._unused = deque([first.deep_copy()])  # the first thread need not compile it again
        self.forced_prefix: tuple[int, ...] = tuple(_checked(first).compute_ff_tokens())

    def start(self) -> GrammarConstraint:
        """A row that has its head."""
        if not hasattr(self._thread, "fresh"):
            self._thread.fresh, self._thread.idle = self._own(), deque()
        idle = self._thread.idle
        if idle:
            matcher = idle.pop()
            matcher.reset()
        else:
            matcher = self._thread.fresh.deep_copy()
        if not _checked(matcher).consume_tokens(self.forced_prefix):
            reason = matcher.get_error().splitlines()[0]
            raise DecodingError(f"The grammar refuses its own head: {reason}")
        return GrammarConstraint(self, matcher, idle)

    def _own(self) -> LLMatcher:
        try:
            return self._unused.pop()
        except IndexError:
            return self._compile()

    def _compile(self) -> LLMatcher:
        return LLMatcher(self.tokenizer, self._serialised, log_level=0, limits=_LIMITS)


def _checked(matcher: LLMatcher) -> LLMatcher:
    """LLMatcher never raises: ask it."""
    if matcher.is_error():
        raise DecodingError(f"The grammar cannot be used: {matcher.get_error()}")
    return matcher


class GrammarConstraint:
    """A row of a grammar."""

    needs_full_logits = False
    process_logits = None

    def __init__(self, grammar: Grammar, matcher: LLMatcher, idle: deque[LLMatcher]) -> None:
        self._tokenizer = grammar.tokenizer
        self._fast_forward = grammar.fast_forward
        self._tokens = list(grammar.forced_prefix)
        self.matcher = matcher
        self._idle = idle  # matchers keep what they learnt of the grammar: the next row gains
        self._within = False  # a string, as far as the last token says

    @property
    def validate_token(self) -> Callable[[int], bool] | None:
        """The grammar's word on one token, within a string."""
        return self._allows if self._within else None

    @property
    def is_terminated(self) -> bool:
        """Whether the grammar admits nothing more."""
        return bool(self.matcher.is_stopped())

    def fill_bitmask(self, mask: Mask) -> None:  # noqa: ARG002
        """The grammar's mask."""
        self._check()

    def _allows(self, token: int) -> bool:
        valid = int(self.matcher.validate_tokens([token]))
        self._check()
        return valid == 1

    def _check(self) -> None:
        if self.matcher.is_error():
            reason = self.matcher.get_error().splitlines()[0]
            raise DecodingError(
                f"The grammar cannot go on: {reason}", hint="Simplify the field's pattern."
            )

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:  # noqa: ARG002
        """Accept a token and what the grammar forces after it."""
        matcher = self.matcher
        matcher.consume_token(token)
        forced: list[int] = []
        if self._fast_forward and not matcher.is_stopped():
            forced = matcher.compute_ff_tokens()
        if forced:
            matcher.consume_tokens(forced)
        self._tokens += [token, *forced]
        self._within = not forced and not _BORDERS.intersection(self.piece(token))
        return forced

    def piece(self, token: int) -> bytes:
        """The bytes that a token writes; an end token writes none."""
        tokenizer = self._tokenizer
        return b"" if token in tokenizer.eos_tokens else tokenizer.decode_bytes([token])

    def text(self) -> str:
        """The row, without the end token."""
        return b"".join(map(self.piece, self._tokens)).decode()

    def close(self) -> None:
        """Leave the matcher to another row."""
        self._idle.append(self.matcher)


class LimitedConstraint:
    """A constraint of no certain length, ended within `most` tokens.

    From half of them on it ends where it may; `cut` says that it could not. `end_tokens` are the
    model's.

    Example: `LimitedConstraint(grammar.start(), most=100, end_tokens=tokenizer.eos_tokens)`
    """

    validate_token = None

    def __init__(self, constraint: Constraint, most: int, end_tokens: Sequence[int]) -> None:
        self._constraint = constraint
        self._left = most
        self._late = most // 2
        self._end_tokens = np.array(end_tokens, dtype=np.int64)
        self.needs_full_logits = constraint.needs_full_logits
        self.process_logits = constraint.process_logits
        self.close = constraint.close
        self.cut = most <= 0 and not constraint.is_terminated

    @property
    def is_terminated(self) -> bool:
        """Whether the row is whole, or cut."""
        return self.cut or self._constraint.is_terminated

    @property
    def matcher(self) -> LLMatcher | None:
        """The constraint's own."""
        return self._constraint.matcher

    def fill_bitmask(self, mask: Mask) -> None:
        """The constraint's own tokens; late, only its ends if there are any."""
        self._constraint.fill_bitmask(mask)
        if self._left <= self._late:
            ends = self._end_tokens[has(mask, self._end_tokens)]
            if len(ends):
                write_tokens(mask, ends)

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:
        """Accept a token and what must follow it, as far as there is room."""
        forced = self._constraint.accept_token(token, stream)
        room = self._left - 1
        self._left = room - len(forced)
        self.cut = self._left <= 0 and not self._constraint.is_terminated
        return forced[:room]

    def text(self) -> str:
        """What has been written; nothing if it was cut within a character."""
        try:
            return self._constraint.text()
        except UnicodeDecodeError:
            if self.cut:
                return ""
            raise


class EmptyConstraint:
    """A row that is over before it has begun, without a token. A `Constraint`.

    Example: `EmptyConstraint().is_terminated`
    """

    is_terminated = True
    matcher = None
    needs_full_logits = False
    validate_token = None
    process_logits = None

    def fill_bitmask(self, mask: Mask) -> None:
        """Nobody asks."""

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:  # noqa: ARG002
        """Nothing can be taken."""
        return ()

    def text(self) -> str:
        """No text."""
        return ""

    def close(self) -> None:
        """Nothing to give back."""
