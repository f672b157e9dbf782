"""The decoding loop, on random logits: what it promises holds for any model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from llguidance import LLMatcher

from synthgen_local import DecodingError
from synthgen_local.engine import decoder
from synthgen_local.engine.backends.protocol import ContextSize, Logits, Step
from synthgen_local.engine.backends.random_model import RandomContext, RandomModel
from synthgen_local.engine.bitmask import flags
from synthgen_local.engine.constraints.grammar import Grammar
from synthgen_local.engine.decoder import Decoder
from synthgen_local.engine.parallel_plan import ParallelPlan, make_shards, plan_workers
from synthgen_local.engine.requests import (
    Accepted,
    Completion,
    GenerationRequest,
    LogWeightPolicy,
    Rejected,
    Row,
    RowQueue,
    SequenceInit,
)
from synthgen_local.engine.scheduler import Scheduler
from synthgen_local.engine.workers import decode_shards
from synthgen_local.rejection import Rejection

GRAMMAR = LLMatcher.grammar_from_lark('start: "{" /[a-z]{0,30}/ "}"')
LONGEST = 32
Check = Callable[[Completion], Accepted[str] | Rejected]


def job(seed: int = 0, grammar: str = GRAMMAR, longest: int = LONGEST) -> GenerationRequest:
    return GenerationRequest.from_grammar(
        Grammar(RandomModel().tokenizer, grammar), (1, 2, 3), longest, seed=seed
    )


def texts(seed: int, plan: ParallelPlan, rows: int = 24, cells: int = 0) -> list[str]:
    model = RandomModel()
    if cells:
        context = model.open_context(ContextSize(plan.slots, cells, 1))
        decoded = Decoder(context, job(seed)).run(RowQueue(range(rows)))
        return [row.text for row in sorted(decoded, key=lambda row: row.attempt.row)]
    rows = decode_shards(model, job(seed), make_shards(range(rows), plan), plan, accept, attempts=1)
    return [row.text for row in sorted(rows, key=lambda row: row.number)]


def accept(decoded: Completion) -> Accepted[str]:
    return Accepted(decoded.text)


def test_same_seed_same_rows() -> None:
    """The same seed gives the same rows, another seed others."""
    plan = ParallelPlan(2, 4, 1)

    assert texts(7, plan) == texts(7, plan)
    assert texts(7, plan) != texts(8, plan)


@pytest.mark.parametrize(
    "plan", [ParallelPlan(1, 1, 1), ParallelPlan(1, 5, 1), ParallelPlan(3, 2, 1)]
)
def test_a_row_does_not_depend_on_its_company(plan: ParallelPlan) -> None:
    """A row's stream comes from (seed, row number): batch and contexts do not change it."""
    assert texts(7, plan) == texts(7, ParallelPlan(1, 24, 1))


def test_rows_differ_within_a_run() -> None:
    """Each row has a random stream of its own."""
    assert len(set(texts(7, ParallelPlan(1, 8, 1)))) > 20


def test_rows_put_back_for_want_of_room_come_out_the_same() -> None:
    """With room for one row of the greatest length, more slots wait and lose nothing."""
    scarce = texts(7, ParallelPlan(1, 8, 1), cells=3 + LONGEST)

    assert scarce == texts(7, ParallelPlan(1, 8, 1))


def test_a_context_too_small_for_one_row_is_refused() -> None:
    """A row that may not fit is refused before it starts, not cut."""
    model = RandomModel()
    context = model.open_context(ContextSize(1, LONGEST, 1))

    with pytest.raises(DecodingError, match="do not fit"):
        Decoder(context, job())


def test_long_rows_are_begun_first() -> None:
    """A row that is expected to take long does not come last, when all other slots are idle."""
    begun: list[int] = []
    plain = job()

    def start(row: int) -> SequenceInit:
        begun.append(row)
        return plain.init_sequence(row)

    uneven = replace(plain, init_sequence=start, expected_tokens=[1, 3, 2, 3])
    rows = decode_shards(
        RandomModel(), uneven, [range(4)], ParallelPlan(1, 1, 1), accept, attempts=1
    )

    assert [row.number for row in rows] == begun == [1, 3, 2, 0]


def test_a_rejected_row_is_drawn_anew() -> None:
    """A rejected row gets a fresh stream, and its rejections are reported."""
    seen: list[str] = []

    def second_time(decoded: Completion) -> Accepted[str] | Rejected:
        seen.append(decoded.text)
        return (
            Accepted(decoded.text)
            if decoded.attempt.rejections
            else Rejected(Rejection("too soon"))
        )

    rows = list(
        decode_shards(
            RandomModel(), job(), [range(5)], ParallelPlan(1, 2, 1), second_time, attempts=3
        )
    )

    assert [row.rejections for row in rows] == [(Rejection("too soon"),)] * 5
    assert len(set(seen)) == 10


def test_a_row_is_given_up_after_its_attempts() -> None:
    """No row is tried for ever: after the bound it has no value."""
    rows: list[Row[str]] = list(
        decode_shards(
            RandomModel(),
            job(),
            [range(3)],
            ParallelPlan(1, 2, 1),
            lambda _: Rejected(Rejection("no")),
            attempts=4,
        )
    )

    assert [(row.value, len(row.rejections)) for row in rows] == [(None, 4)] * 3


def test_an_error_in_a_thread_reaches_the_caller() -> None:
    """What the check raises ends the run."""

    def broken(decoded: Completion) -> Accepted[str]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(
            decode_shards(
                RandomModel(), job(), [range(50)], ParallelPlan(2, 2, 1), broken, attempts=1
            )
        )


def test_closing_stops_the_threads() -> None:
    """A run that is left early leaves no thread behind."""
    rows = decode_shards(
        RandomModel(), job(), [range(10**6)], ParallelPlan(2, 4, 1), accept, attempts=1
    )
    next(rows)

    rows.close()

    assert list(rows) == []


def test_a_constant_row_needs_no_draw() -> None:
    """A grammar of one text is all forced."""
    constant = job(grammar=LLMatcher.grammar_from_lark('start: "same"'), longest=4)
    rows = list(
        decode_shards(
            RandomModel(), constant, [range(3)], ParallelPlan(1, 2, 1), accept, attempts=1
        )
    )

    assert [(row.text, row.sampled_tokens) for row in rows] == [("same", 0)] * 3


def test_a_row_may_end_by_the_end_token() -> None:
    """Where the grammar may stop or go on, the end token decides and is not part of the text."""
    grammar = LLMatcher.grammar_from_lark("start: /[ab]+/")
    model = RandomModel()
    context = model.open_context(ContextSize(4, 4000, 1))
    rows = list(Decoder(context, job(grammar=grammar, longest=500)).run(RowQueue(range(9))))

    assert all(set(row.text) <= {"a", "b"} and row.text for row in rows)


def test_log_weight_is_what_the_mask_left() -> None:
    """The reported weight is the log of the allowed mass, summed over drawn tokens."""
    row = next(Decoder(
        RandomModel().open_context(ContextSize(1, 99, 1)), job()
    ).run(RowQueue([0])))  # fmt: skip

    assert row.sampled_tokens <= row.tokens
    assert row.log_weight is not None
    assert row.log_weight < -row.sampled_tokens  # random logits leave a letter in 262 tokens little


class FrugalContext(RandomContext):
    """Computes what it is asked for: all else is no number."""

    asked = 0

    def decode(self, steps: Sequence[Step]) -> Logits:
        """The logits in each step's mask."""
        logits = super().decode(steps)
        for row, step in zip(logits, steps, strict=True):
            if step.mask is not None:
                row[~flags(step.mask, len(row))] = np.nan
                self.asked += 1
        return logits


@pytest.mark.parametrize("slots", [1, 7])
def test_what_nobody_weighs_is_not_looked_at(slots: int) -> None:
    """Rows are the same where only logits of what may come next are there."""
    every, some = job(), replace(job(), log_weights=LogWeightPolicy.SAMPLE)
    whole = RandomModel().open_context(ContextSize(slots, 900, 1))
    size, vocabulary = ContextSize(slots, 900, 1), RandomModel().tokenizer.vocab_size
    frugal = FrugalContext(size, vocabulary, salt=0)
    weighed = sorted(Decoder(whole, every).run(RowQueue(range(40))), key=number)
    drawn = sorted(Decoder(frugal, some).run(RowQueue(range(40))), key=number)

    assert [row.text for row in drawn] == [row.text for row in weighed]
    assert [row.log_weight for row in drawn] == [
        row.log_weight if n <= 16 or n == 32 else None for n, row in enumerate(weighed)
    ]
    assert frugal.asked > 40


def number(decoded: Completion) -> int:
    return decoded.attempt.row


def test_a_constraint_that_looks_beyond_its_mask_gets_all_logits() -> None:
    """A prose steers by what the model would say if it might."""
    size, vocabulary = ContextSize(4, 900, 1), RandomModel().tokenizer.vocab_size
    frugal = FrugalContext(size, vocabulary, salt=0)
    usual = job().init_sequence

    def start(row: int) -> SequenceInit:
        begun = usual(row)
        begun.constraint.needs_full_logits = row % 2 == 0  # type: ignore[misc]
        return begun

    looking = replace(job(), init_sequence=start, log_weights=LogWeightPolicy.NONE)
    rows = list(Decoder(frugal, looking).run(RowQueue(range(0, 40, 2))))
    assert frugal.asked == 0
    rows += list(Decoder(frugal, looking).run(RowQueue(range(1, 40, 2))))
    assert frugal.asked > 0
    assert {row.log_weight for row in rows} == {None}


def test_a_fork_is_the_prefix_evaluated_again() -> None:
    """Tokens after a fork see what they would see after the whole text."""
    model = RandomModel()
    whole, forked = (model.open_context(ContextSize(2, 99, 1)) for _ in range(2))
    expected = whole.prefill([1, 2, 3, 4])
    forked.prefill([1, 2])
    forked.fork(1)

    assert (forked.decode([Step([1], [3, 4])])[0] == expected).all()


def test_a_slot_may_take_several_steps() -> None:
    """One after the other, as if they had been one."""
    model = RandomModel()
    once, twice = (model.open_context(ContextSize(2, 99, 1)) for _ in range(2))
    for context in (once, twice):
        context.prefill([1])
        context.fork(0)
    steps = twice.decode([Step([0], [2]), Step([0], [3])])

    assert (steps[1] == once.decode([Step([0], [2, 3])])[0]).all()
    assert (steps[0] != steps[1]).any()


def test_each_thread_compiles_a_grammar_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows of two threads share no matcher, whose lock would make them wait; those of one do."""
    compiled: list[Grammar] = []
    compile_ = Grammar._compile
    monkeypatch.setattr(Grammar, "_compile", lambda self: compiled.append(self) or compile_(self))
    grammar, both = Grammar(RandomModel().tokenizer, GRAMMAR), Barrier(2)

    def matchers(_: int) -> list[LLMatcher]:
        both.wait()
        own = [grammar.start() for _ in range(3)]
        for row in own:
            row.close()
        again = [grammar.start().matcher for _ in range(3)]
        assert again == [row.matcher for row in reversed(own)]
        return again

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(matchers, range(2))
    assert len(compiled) == 2
    assert not set(map(id, one)) & set(map(id, other))


@pytest.mark.parametrize(
    ("rows", "batch", "threads", "plan"),
    [
        (64, 64, 2, ParallelPlan(2, 32, 1)),
        (1, 64, 2, ParallelPlan(1, 1, 1)),
        (8, 64, 8, ParallelPlan(2, 4, 3)),
        (10, 64, 2, ParallelPlan(2, 5, 1)),
        (1000, 20, 2, ParallelPlan(2, 10, 1)),
        (1000, 1, 8, ParallelPlan(1, 1, 7)),
    ],
)
def test_plan(rows: int, batch: int, threads: int, plan: ParallelPlan) -> None:
    """One context for each core; for fewer rows fewer, whose threads leave one out."""
    assert plan_workers(RandomModel(), rows, batch=batch, threads=threads) == plan


@pytest.mark.parametrize(
    ("rows", "batch", "threads", "plan"),
    [
        (1000, 256, 16, ParallelPlan(8, 32, 2)),
        (1000, 256, 64, ParallelPlan(8, 32, 8)),
        (1000, 256, 4, ParallelPlan(2, 128, 2)),
        (10, 256, 16, ParallelPlan(2, 5, 8)),
        (1, 256, 1, ParallelPlan(1, 1, 1)),
    ],
)
def test_plan_on_a_gpu(rows: int, batch: int, threads: int, plan: ParallelPlan) -> None:
    """A context for every other core, up to as many as a GPU was found to keep up with."""
    model: Any = RandomModel()
    model.on_gpu = True
    assert plan_workers(model, rows, batch=batch, threads=threads) == plan


@pytest.mark.parametrize("steered", [0, 1, 2])
def test_only_rows_that_are_not_steered_draw_with_their_pass(steered: int) -> None:
    """None, every other one or all of them: rows come out as they do alone."""
    usual, together = job().init_sequence, 0

    def start(row: int) -> SequenceInit:
        begun = usual(row)
        if row % 2 < steered:
            begun.constraint.process_logits = np.negative  # type: ignore[misc, assignment]
        return begun

    def made(slots: int) -> list[Completion]:
        nonlocal together
        context, together = RandomModel().open_context(ContextSize(slots, 900, 1)), 0
        both = context.decode_and_sample

        def counting(*arguments: Any) -> Any:
            nonlocal together
            together += 1
            return both(*arguments)

        context.decode_and_sample = counting  # type: ignore[method-assign]
        rows = Decoder(context, replace(job(), init_sequence=start)).run(RowQueue(range(12)))
        return sorted(rows, key=number)

    assert made(slots=4) == made(slots=1)
    assert (together > 0) == (steered < 2)


def test_rows_of_equal_text_are_evaluated_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows share a forward pass until they differ, and their cells are free when all are done."""
    model = RandomModel()
    context = model.open_context(ContextSize(20, 2000, 1))
    evaluated = 0
    decode = context.decode

    def counting(steps: list[Step]) -> Logits:
        nonlocal evaluated
        evaluated += sum(len(step.tokens) for step in steps)
        return decode(steps)

    context.decode = counting  # type: ignore[method-assign, assignment]
    grammar = LLMatcher.grammar_from_lark('start: /[a-f]/ "a long constant middle" /[a-f]/ "end"')
    schedulers: list[Scheduler] = []

    class Recorded(Scheduler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            schedulers.append(self)

    monkeypatch.setattr(decoder, "Scheduler", Recorded)
    request = job(grammar=grammar)
    rows = list(Decoder(context, request).run(RowQueue(range(20))))

    heads = {row.text[0] for row in rows}
    assert 1 < len(heads) < 20
    assert evaluated == len(heads) * len("a" + "a long constant middle")
    assert [each.free_cells for each in schedulers] == [2000 - len(request.prompt)]
