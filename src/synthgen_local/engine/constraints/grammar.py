"""A llguidance grammar as the constraint of many sequences.

Knows token ids and bytes; knows no models or prompts.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np
from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from ...errors import DecodingError
from ..bitmask import Mask

_LIMITS = LLParserLimits(step_lexer_fuel=20_000_000, max_lexer_states=1_000_000)
"""Limits that admit regular expressions with many states, such as the multiples of 13753."""

_STRING_BORDERS = frozenset(b'"\t\n')  # of strings in JSON, and of values in the compact layout


class Grammar:
    """A grammar for many sequences; all begin with the tokens of `forced_prefix`.

    `serialised` is llguidance's form. Each thread that starts sequences compiles the grammar once:
    copies of a matcher share their lexer under a lock, and threads that shared it would wait for
    each other at every mask. Without `fast_forward`, each token after the prefix is sampled, even
    where the mask allows one token only: its logit is then known.

    Raises DecodingError if llguidance refuses the grammar.

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
        self._unused = deque([first.deep_copy()])  # saves the first thread a compilation
        self.forced_prefix: tuple[int, ...] = tuple(_checked(first).compute_ff_tokens())

    def start(self) -> GrammarConstraint:
        """Return the constraint of a new sequence, which has accepted the forced prefix."""
        if not hasattr(self._thread, "fresh"):
            self._thread.fresh, self._thread.idle = self._new_matcher(), deque()
        idle = self._thread.idle
        if idle:
            matcher = idle.pop()
            matcher.reset()
        else:
            matcher = self._thread.fresh.deep_copy()
        if not _checked(matcher).consume_tokens(self.forced_prefix):
            reason = matcher.get_error().splitlines()[0]
            raise DecodingError(f"The grammar rejects its forced prefix: {reason}")
        return GrammarConstraint(self, matcher, idle)

    def _new_matcher(self) -> LLMatcher:
        try:
            return self._unused.pop()
        except IndexError:
            return self._compile()

    def _compile(self) -> LLMatcher:
        return LLMatcher(self.tokenizer, self._serialised, log_level=0, limits=_LIMITS)


def _checked(matcher: LLMatcher) -> LLMatcher:
    """Return a matcher, or raise its error: LLMatcher itself never raises."""
    if matcher.is_error():
        raise DecodingError(f"The grammar cannot be used: {matcher.get_error()}")
    return matcher


class GrammarConstraint:
    """A sequence of a grammar. A `Constraint`."""

    needs_full_logits = False
    process_logits = None

    def __init__(self, grammar: Grammar, matcher: LLMatcher, idle: deque[LLMatcher]) -> None:
        self._tokenizer = grammar.tokenizer
        self._fast_forward = grammar.fast_forward
        self._tokens = list(grammar.forced_prefix)
        self.matcher = matcher
        self._idle = idle  # a reused matcher keeps its lexer's states
        self._in_string = False  # judged by the last token alone

    @property
    def validate_token(self) -> Callable[[int], bool] | None:
        """The matcher's check of one token, within strings only."""
        return self._allows if self._in_string else None

    @property
    def is_terminated(self) -> bool:
        """True if the grammar allows no further token."""
        return bool(self.matcher.is_stopped())

    def fill_bitmask(self, mask: Mask) -> None:  # noqa: ARG002
        """Leave the matcher's mask as it is."""
        self._check()

    def _allows(self, token: int) -> bool:
        valid = int(self.matcher.validate_tokens([token]))
        self._check()
        return valid == 1

    def _check(self) -> None:
        if self.matcher.is_error():
            reason = self.matcher.get_error().splitlines()[0]
            raise DecodingError(
                f"The grammar cannot continue: {reason}", hint="Simplify the field's pattern."
            )

    def accept_token(self, token: int, stream: np.random.Generator) -> Sequence[int]:  # noqa: ARG002
        """Accept a token and the grammar's fast-forward tokens after it."""
        matcher = self.matcher
        matcher.consume_token(token)
        forced: list[int] = []
        if self._fast_forward and not matcher.is_stopped():
            forced = matcher.compute_ff_tokens()
        if forced:
            matcher.consume_tokens(forced)
        self._tokens += [token, *forced]
        self._in_string = not forced and not _STRING_BORDERS.intersection(self.token_bytes(token))
        return forced

    def token_bytes(self, token: int) -> bytes:
        """Return the bytes of a token; none for an end token."""
        tokenizer = self._tokenizer
        return b"" if token in tokenizer.eos_tokens else tokenizer.decode_bytes([token])

    def text(self) -> str:
        """Return the text without the end token."""
        return b"".join(map(self.token_bytes, self._tokens)).decode()

    def close(self) -> None:
        """Return the matcher to the thread's pool."""
        self._idle.append(self.matcher)
