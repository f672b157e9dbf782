"""Many rows of one grammar, decoded together after one prompt.

The decoder knows token ids, logits and a grammar; what the text of a row means is
somebody else's business. In each forward pass every row in flight takes the token
that was drawn for it and all tokens that the grammar then forces; logits are asked
for where a token is drawn and nowhere else. The head that all rows share belongs to
the prefix, rows whose texts are still equal are evaluated as one, a finished row's last
tokens are never evaluated, and its slot is given to the next row before the next pass.

What happens depends on the job and the row numbers alone, never on timing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import llguidance.numpy as lln
import numpy as np
from llguidance import LLMatcher, LLParserLimits
from numpy.typing import NDArray

from ..errors import DecodingError
from .model import Context, Logits, Model, Step
from .sampling import allowed_tokens, draw, row_stream

_LIMITS = LLParserLimits(step_lexer_fuel=20_000_000, max_lexer_states=1_000_000)
"""Room for regular expressions with many states, such as the multiples of 13753."""


@dataclass(frozen=True)
class Job:
    """What all rows of a run share.

    `prompt` is token ids; `grammar` is llguidance's serialised grammar; `longest` is
    the most tokens that one row can take; `temperature` 0 takes the likeliest token.
    """

    prompt: tuple[int, ...]
    grammar: str
    longest: int
    seed: int = 0
    temperature: float = 1.0


@dataclass(frozen=True)
class Ticket:
    """A row to decode; `rejections` says why its earlier attempts were turned down."""

    row: int
    rejections: tuple[str, ...] = ()

    def again(self, reason: str) -> Ticket:
        """The same row for a fresh attempt, with its own random stream."""
        return Ticket(self.row, (*self.rejections, reason))


@dataclass(frozen=True)
class Decoded:
    """A finished row.

    `tokens` counts all of the row, `drawn` those that were not forced. `log_weight` is
    the sum over drawn tokens of the log of the mass that the grammar left to the model:
    0 means that the grammar never got in the model's way.
    """

    ticket: Ticket
    text: str
    tokens: int
    drawn: int
    log_weight: float


class RowQueue:
    """Rows still to decode, in order; rows to be decoded again come first."""

    def __init__(self, rows: Iterable[int]) -> None:
        self._fresh = iter(rows)
        self._again: deque[Ticket] = deque()

    def pop(self) -> Ticket | None:
        """The next row, or None when there is none left."""
        if self._again:
            return self._again.popleft()
        row = next(self._fresh, None)
        return None if row is None else Ticket(row)

    def put_back(self, ticket: Ticket) -> None:
        """Decode this one next."""
        self._again.appendleft(ticket)


@dataclass
class _Segment:
    """Cells of the cache that several rows share; they are free when no row uses them."""

    cells: int
    users: int


@dataclass
class _Row:
    """A row in flight. `pending` tokens are drawn or forced but not yet evaluated."""

    ticket: Ticket
    slot: int
    matcher: LLMatcher
    stream: np.random.Generator
    tokens: list[int]
    branch: int = 0  # rows of one branch have equal texts so far; 0 is the bare prefix
    pending: tuple[int, ...] = ()
    segments: list[_Segment] = field(default_factory=list)
    drawn: int = 0
    log_weight: float = 0.0


class Decoder:
    """Decodes rows of one job in one context.

    `threads` evaluate the prompt; with `like`, a decoder of the same job in another context,
    it is copied from there.

    Raises DecodingError if the grammar cannot be used, if it leaves no token, or if one
    row of the greatest length does not fit the context.

    Example: `for row in Decoder(model, context, job).run(RowQueue(range(10))): print(row.text)`
    """

    def __init__(
        self,
        model: Model,
        context: Context,
        job: Job,
        *,
        threads: int | None = None,
        like: Decoder | None = None,
    ) -> None:
        self._model = model
        self._context = context
        self._job = job
        self._matchers: dict[int, LLMatcher] = {}
        self._mask = lln.allocate_token_bitmask(1, model.tokenizer.vocab_size)
        self._head = self._matcher(0).compute_ff_tokens()
        prefix = [*job.prompt, *self._head]
        if len(prefix) + job.longest - len(self._head) > context.size.cells:
            raise DecodingError(
                f"A row of {job.longest} tokens does not fit beside a prompt of {len(job.prompt)} "
                f"in a context of {context.size.cells}.",
                hint="Give the longest fields a smaller max_length, or use fewer examples.",
            )
        if like is None:
            self._first_logits = context.prefill(prefix, threads=threads).copy()
        else:
            context.copy_prefix(like._context)
            self._first_logits = like._first_logits
        self._free_cells = context.size.cells - len(prefix)
        self._branches = 0

    def run(
        self, queue: RowQueue, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[Decoded]:
        """Yield rows as they finish, until the queue is empty or `cancelled()` is true.

        The consumer may put a row back between two yields.
        """
        active: list[_Row] = []
        slots = list(range(self._context.size.slots))
        while not cancelled():
            while slots and (ticket := queue.pop()) is not None:
                row = self._start(ticket, slots.pop())
                if row.matcher.is_stopped():
                    slots.append(row.slot)
                    yield self._finish(row)
                else:
                    active.append(row)
            if not active:
                return
            self._pass(self._fitting(active, slots, queue))
            finished = [row for row in active if row.matcher.is_stopped()]
            active = [row for row in active if not row.matcher.is_stopped()]
            for row in finished:
                slots.append(row.slot)
                yield self._finish(row)

    def _start(self, ticket: Ticket, slot: int) -> _Row:
        """Begin a row: its first token is drawn from the prefix's own logits."""
        job, matcher = self._job, self._matcher(slot)
        stream = row_stream(job.seed, ticket.row, len(ticket.rejections))
        if not matcher.consume_tokens(self._head):
            raise DecodingError(f"The grammar refuses its own head: {matcher.get_error()}")
        row = _Row(ticket, slot, matcher, stream, tokens=list(self._head))
        if not matcher.is_stopped():
            self._context.fork(slot)
            self._draw(row, self._first_logits, self._allowed(row))
        return row

    def _pass(self, groups: list[list[_Row]]) -> None:
        """One forward pass over all rows in flight, and a draw for each."""
        steps = [Step([row.slot for row in rows], rows[0].pending) for rows in groups]
        logits = self._context.decode(steps)
        for rows, step, row_logits in zip(groups, steps, logits, strict=True):
            self._branches += 1
            self._free_cells -= len(step.tokens)
            segment = _Segment(len(step.tokens), len(rows))
            allowed = self._allowed(rows[0])
            for row in rows:
                row.branch = self._branches
                row.segments.append(segment)
                self._draw(row, row_logits, allowed)

    def _allowed(self, row: _Row) -> NDArray[np.uint8]:
        """What the grammar allows next; the same for all rows of a branch."""
        lln.fill_next_token_bitmask(row.matcher, self._mask)
        allowed = allowed_tokens(self._mask[0], self._model.tokenizer.vocab_size)
        if row.matcher.is_error() or not allowed.any():
            reason = (row.matcher.get_error() or "no token is allowed").splitlines()[0]
            raise DecodingError(
                f"The grammar cannot go on: {reason}", hint="Simplify the field's pattern."
            )
        return allowed

    def _draw(self, row: _Row, logits: Logits, allowed: NDArray[np.uint8]) -> None:
        """Draw a token, take what the grammar then forces, and leave both pending."""
        matcher, temperature = row.matcher, self._job.temperature
        drawn = draw(logits, allowed, temperature=temperature, uniform=row.stream.random())
        matcher.consume_token(drawn.token)
        forced = [] if matcher.is_stopped() else matcher.compute_ff_tokens()
        if forced:
            matcher.consume_tokens(forced)
        row.pending = (drawn.token, *forced)
        row.tokens += row.pending
        row.drawn += 1
        row.log_weight += drawn.log_allowed

    def _fitting(self, active: list[_Row], slots: list[int], queue: RowQueue) -> list[list[_Row]]:
        """Rows to be evaluated as one, after putting back the youngest until all fit.

        A row that is put back starts over with the same random stream, so it comes out
        as it would have; the oldest always goes on, because one row of the greatest
        length fits.
        """
        while True:
            groups: dict[tuple[int, tuple[int, ...]], list[_Row]] = {}
            for row in active:
                groups.setdefault((row.branch, row.pending), []).append(row)
            if sum(len(pending) for _, pending in groups) <= self._free_cells:
                return list(groups.values())
            row = active.pop()
            self._release(row)
            slots.append(row.slot)
            queue.put_back(row.ticket)

    def _release(self, row: _Row) -> None:
        self._context.release(row.slot)
        for segment in row.segments:
            segment.users -= 1
            if segment.users == 0:
                self._free_cells += segment.cells

    def _finish(self, row: _Row) -> Decoded:
        self._release(row)
        tokenizer = self._model.tokenizer
        ends = set(tokenizer.eos_tokens)
        tokens = [token for token in row.tokens if token not in ends]
        text = tokenizer.decode_bytes(tokens).decode()
        return Decoded(row.ticket, text, len(row.tokens), row.drawn, row.log_weight)

    def _matcher(self, slot: int) -> LLMatcher:
        """The slot's own matcher, at the start of the grammar. LLMatcher never raises: ask it."""
        matcher = self._matchers.get(slot)
        if matcher is None:
            matcher = LLMatcher(
                self._model.tokenizer, self._job.grammar, log_level=0, limits=_LIMITS
            )
            self._matchers[slot] = matcher
        else:
            matcher.reset()
        if matcher.is_error():
            raise DecodingError(f"The grammar cannot be used: {matcher.get_error()}")
        return matcher
