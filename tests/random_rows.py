"""Rows of a grammar from random logits, for tests."""

from __future__ import annotations

from synthgen_local.engine.backends.random_model import RandomModel
from synthgen_local.engine.constraints.grammar import Grammar
from synthgen_local.engine.parallel_plan import ParallelPlan
from synthgen_local.engine.requests import Accepted, Completion, GenerationRequest, Rejected
from synthgen_local.engine.workers import decode_shards
from synthgen_local.rejection import Rejection
from synthgen_local.schema import RowGrammar
from synthgen_local.schema.grammar.tsv import Lines


def decode(grammar: RowGrammar, salt: int, rows: int, lines: Lines | None = None) -> list[str]:
    """Texts of rows from random logits, each accepted by the schema at its first attempt."""
    model = RandomModel(salt)
    written = lines or grammar
    tokens = Grammar(model.tokenizer, written.serialised)
    job = GenerationRequest.from_grammar(tokens, model.tokenize("?"), written.longest, seed=salt)

    def check(decoded: Completion) -> Accepted[str] | Rejected:
        text = lines.read(decoded.text) if lines else decoded.text
        try:
            grammar.schema.parse(text)
        except ValueError as error:
            return Rejected(Rejection.from_error(error))
        return Accepted(text)

    finished = list(
        decode_shards(model, job, [range(rows)], ParallelPlan(1, rows, 1), check, attempts=1)
    )
    assert [row.rejections for row in finished] == [()] * rows
    assert all(len(row.text.encode()) <= written.longest for row in finished)
    return [str(row.value) for row in finished]
