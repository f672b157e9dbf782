"""Many rows, decoded together after one prompt.

The decoder knows token ids, logits and constraints; what the text of a row means is
somebody else's business. In each forward pass every row in flight takes the token
that was drawn for it and all tokens that its constraint then forces; logits are asked
for where a token is drawn and nowhere else. What all rows share is evaluated once, rows
whose tokens are still equal are evaluated as one, a finished row's last tokens are never
evaluated, and its slot is given to the next row before the next pass.

What happens depends on the job and the row numbers alone, never on timing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from ..errors import DecodingError
from .backends.protocol import Context, ContextSize, Logits, Model, Step
from .bitmask import Mask, have_most
from .constraints.grammar import Grammar
from .constraints.null_rates import NullRates
from .constraints.protocol import BatchBitmask, Constraint
from .sampling import Draw, DrawInputs, row_stream

_USUAL = 128  # tokens a row is expected to take where its bound is far above
_SAMPLE = 16
CELLS = 256
"""A context's cells come in as many."""


def weigh_all(row: int) -> bool:  # noqa: ARG001
    """Every row's `log_weight` is wanted, for which a model must compute all logits of each draw.

    Example: `weigh_all(7)`
    """
    return True


def weigh_some(row: int) -> bool:
    """Those of a sample are: of the first rows of a run, and of every sixteenth.

    Example: `weigh_some(7)`
    """
    return row < _SAMPLE or row % _SAMPLE == 0


def weigh_none(row: int) -> bool:  # noqa: ARG001
    """Nobody asks.

    Example: `not weigh_none(7)`
    """
    return False


@dataclass(frozen=True)
class Start:
    """How a row begins: tokens that it alone reads before the first draw, and what may follow."""

    suffix: tuple[int, ...]
    constraint: Constraint


@dataclass(frozen=True)
class Job:
    """What all rows of a run share.

    `prompt` is the token ids that every row begins with, `start` begins a row by its number
    and is called in several threads. `longest` is the most tokens that one row can take
    beside the prompt, `usual` a guess at what most take, or one for each row. `temperature` 0
    takes the likeliest token. `weighed` says of which rows, by number, `log_weight` is found.
    """

    prompt: tuple[int, ...]
    start: Callable[[int], Start]
    longest: int
    seed: int = 0
    temperature: float = 1.0
    usual: int | Sequence[int] = _USUAL
    weighed: Callable[[int], bool] = weigh_all

    def expected(self, row: int) -> int:
        """How many tokens a row is likely to take.

        Example: `job.expected(0)`
        """
        usual = self.usual if isinstance(self.usual, int) else self.usual[row]
        return min(self.longest, usual)

    @classmethod
    def of_grammar(
        cls,
        grammar: Grammar | NullRates,
        prompt: Iterable[int],
        longest: int,
        *,
        seed: int = 0,
        temperature: float = 1.0,
        usual: int = _USUAL,
        weighed: Callable[[int], bool] = weigh_all,
    ) -> Job:
        """Rows of one grammar after one prompt; what every row begins with is read once.

        Example: `Job.of_grammar(Grammar(model.tokenizer, serialised), [1, 2], longest=50)`
        """

        def start(_row: int) -> Start:
            return Start((), grammar.start())

        prefix = (*prompt, *grammar.forced_prefix)
        return cls(
            prefix, start, longest - len(grammar.forced_prefix), seed, temperature, usual, weighed
        )


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

    `tokens` counts all that were read for it, `drawn` those of them that were drawn and not
    forced. `log_weight` is the sum over drawn tokens of the log of the mass that the
    constraint left to the model: 0 means that it never got in the model's way. None if the job
    did not ask.
    """

    ticket: Ticket
    text: str
    tokens: int
    drawn: int
    log_weight: float | None


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
    constraint: Constraint
    stream: np.random.Generator
    pending: tuple[int, ...]
    tokens: int
    weighed: bool
    branch: int = 0  # rows of one branch have read the same tokens; 0 is the bare prompt
    segments: list[_Segment] = field(default_factory=list)
    drawn: int = 0
    log_weight: float = 0.0
    guesses: bool = False  # its next token is drawn before it is known what may come next

    @property
    def asks_all(self) -> bool:
        """Whether logits are wanted of tokens that may not come next."""
        return self.weighed or self.guesses or self.constraint.needs_full_logits

    def accept(self, drawn: Draw, most: bool) -> bool:
        """Accept a token and what is then forced, unless it is a guess that may not come next.

        `most` says whether it was drawn from most of all tokens.
        """
        guessed, self.guesses = self.guesses, False
        validate = self.constraint.validate_token
        if guessed and validate and not validate(drawn.token):
            return False
        self.pending = (drawn.token, *self.constraint.accept_token(drawn.token, self.stream))
        self.tokens += len(self.pending)
        self.drawn += 1
        self.log_weight += drawn.log_allowed or 0.0
        if self.constraint.validate_token and not self.weighed:
            self.guesses = most
        return True


@dataclass(frozen=True)
class Prefix:
    """A job's prompt as a context holds it once it is evaluated, and what follows from it."""

    state: bytes
    logits: Logits

    @classmethod
    def of(cls, model: Model, job: Job, *, threads: int) -> Prefix:
        """Evaluate the prompt of a job in a context and a thread of its own.

        With the thread ends its team of OpenMP's threads, which else would count as one too many
        beside those that decode (`parallel.plan`).

        Example: `Prefix.of(model, job, threads=2)`
        """
        cells = -(-max(1, len(job.prompt)) // CELLS) * CELLS

        def evaluate() -> Prefix:
            with closing(model.open_context(ContextSize(1, cells, threads))) as context:
                logits = context.prefill(job.prompt).copy()
                return cls(context.save_prefix(), logits)

        with ThreadPoolExecutor(1) as alone:
            return alone.submit(evaluate).result()


class Decoder:
    """Decodes rows of one job in one context.

    `prefix` is the job's prompt, if it has been evaluated before.

    Raises DecodingError if a constraint leaves no token, or if one row of the greatest
    length does not fit the context.

    Example: `for row in Decoder(context, job).run(RowQueue(range(10))): print(row.text)`
    """

    def __init__(
        self,
        context: Context,
        job: Job,
        *,
        prefix: Prefix | None = None,
    ) -> None:
        self._context = context
        self._job = job
        if len(job.prompt) + job.longest > context.size.cells:
            raise DecodingError(
                f"A row of {job.longest} tokens does not fit beside a prompt of {len(job.prompt)} "
                f"in a context of {context.size.cells}.",
                hint="Give the longest fields a smaller max_length, or use fewer examples.",
            )
        if prefix is None:
            self._first_logits = context.prefill(job.prompt).copy()
        else:
            context.load_prefix(prefix.state, len(job.prompt))
            self._first_logits = prefix.logits
        self._free_cells = context.size.cells - len(job.prompt)
        self._branches = 0
        self._masks = BatchBitmask(context.size.slots, len(self._first_logits))

    def run(
        self, queue: RowQueue, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[Decoded]:
        """Yield rows as they finish, until the queue is empty or `cancelled()` is true.

        The consumer may put a row back between two yields.
        """
        active: list[_Row] = []
        slots = list(range(self._context.size.slots))
        while not cancelled():
            while begun := self._begin(queue, slots):
                active += begun
                yield from self._finished(active, slots)
            if not active:
                return
            self._pass(self._fitting(active, slots, queue))
            yield from self._finished(active, slots)

    def _begin(self, queue: RowQueue, slots: list[int]) -> list[_Row]:
        """Begin a row in each free slot, as long as there are rows.

        Those without tokens of their own draw their first from the prompt's logits.
        """
        rows: list[_Row] = []
        while slots and (ticket := queue.pop()) is not None:
            rows.append(self._start(ticket, slots.pop()))
        drawing = [row for row in rows if not (row.pending or row.constraint.is_terminated)]
        if drawing:
            masks = self._masks.fill([row.constraint for row in drawing])
            self._draw(drawing, [self._first_logits] * len(drawing), masks)
        return rows

    def _start(self, ticket: Ticket, slot: int) -> _Row:
        start = self._job.start(ticket.row)
        stream = row_stream(self._job.seed, ticket.row, len(ticket.rejections))
        if not start.constraint.is_terminated:
            self._context.fork(slot)
        suffix, weighed = start.suffix, self._job.weighed(ticket.row)
        return _Row(ticket, slot, start.constraint, stream, suffix, len(suffix), weighed)

    def _pass(self, groups: list[list[_Row]]) -> None:
        """One forward pass over all rows in flight, and a draw for each.

        What may come next is found before it, so that no other logits need be computed; but for
        rows that guess.
        """
        drawing = [row for rows in groups for row in rows]
        masks = self._masks.fill([None if row.guesses else row.constraint for row in drawing])
        firsts = accumulate(map(len, groups), initial=0)
        steps = [_step(rows, masks[first]) for rows, first in zip(groups, firsts, strict=False)]
        self._account(groups, steps)
        outputs = [index for index, rows in enumerate(groups) for _ in rows]
        if any(row.constraint.process_logits for row in drawing):
            every = self._context.decode(steps)
            self._draw(drawing, [every[output] for output in outputs], masks)
        else:
            inputs = self._inputs(drawing, masks)
            logits, draws = self._context.decode_and_draw(steps, outputs, inputs)
            self._take(drawing, logits, masks, draws)

    def _account(self, groups: list[list[_Row]], steps: list[Step]) -> None:
        """Rows have read what the steps hold: whose cells it takes, and which are still equal."""
        for rows, step in zip(groups, steps, strict=True):
            self._branches += 1
            self._free_cells -= len(step.tokens)
            segment = _Segment(len(step.tokens), len(rows))
            for row in rows:
                row.branch = self._branches
                row.segments.append(segment)

    def _draw(
        self, rows: Sequence[_Row], logits: Sequence[Logits], masks: NDArray[np.int32]
    ) -> None:
        """Draw a token for each row from its logits, as its constraint steers them."""
        steered = [
            process(found) if (process := row.constraint.process_logits) else found
            for row, found in zip(rows, logits, strict=True)
        ]
        draws = self._context.draw(steered, self._inputs(rows, masks))
        self._take(rows, logits, masks, draws)

    def _inputs(self, rows: Sequence[_Row], masks: NDArray[np.int32]) -> DrawInputs:
        uniforms = [row.stream.random() for row in rows]
        return DrawInputs(masks, self._job.temperature, uniforms, [row.weighed for row in rows])

    def _take(
        self,
        rows: Sequence[_Row],
        logits: Sequence[Logits],
        masks: NDArray[np.int32],
        draws: Sequence[Draw],
    ) -> None:
        """Let each row take what was drawn and what is then forced, and leave both pending.

        A guess is drawn from all tokens. If it may come next it stands, else a token that may is
        drawn in its place: so each comes as often as if only those had been there to draw from
        (rejection sampling; von Neumann, 1951). To ask about one token costs less than a mask
        (Beurer-Kellner et al., 2024, arXiv:2403.06988, call this opportunistic masking).
        """
        refused = [
            (row, found)
            for row, found, most, drawn in zip(rows, logits, have_most(masks), draws, strict=True)
            if not row.accept(drawn, most)
        ]
        if refused:
            again, found = zip(*refused, strict=True)
            self._draw(again, found, self._masks.fill([row.constraint for row in again]))

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
        row.constraint.close()
        self._context.release(row.slot)
        for segment in row.segments:
            segment.users -= 1
            if segment.users == 0:
                self._free_cells += segment.cells

    def _finished(self, active: list[_Row], slots: list[int]) -> Iterator[Decoded]:
        """Yield the rows that are whole, without them in `active`, their slots free."""
        finished = [row for row in active if row.constraint.is_terminated]
        active[:] = [row for row in active if not row.constraint.is_terminated]
        for row in finished:
            text = row.constraint.text()
            self._release(row)
            slots.append(row.slot)
            log_weight = row.log_weight if row.weighed else None
            yield Decoded(row.ticket, text, row.tokens, row.drawn, log_weight)


def _step(rows: Sequence[_Row], mask: Mask) -> Step:
    """What rows of equal history take together, and the first one's mask if it is all they ask."""
    alone = len(rows) == 1 and not rows[0].asks_all
    return Step([row.slot for row in rows], rows[0].pending, mask if alone else None)
