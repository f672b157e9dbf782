"""This project at work, as a user calls it: the prompts that all contenders get, and rows.

Knows this project's interface and the works, not the contenders.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from assignment import Made
from works import RowWork, TextWork, Work

from synthgen_local import FewShotPrompt, LocalModel, TabularGenerator, TextGenerator
from synthgen_local.generators.tabular import RowLayout

Make = Callable[[int, int], list[Made]]


def prepare(model: LocalModel, work: Work, layout: RowLayout = "auto") -> Make:
    """Return what makes so many rows with such a seed; all that is done once has been done.

    Example: `prepare(model, BILLING)(4, 0)`
    """
    return _rows(model, work, layout) if isinstance(work, RowWork) else _texts(model, work)


def prompts(model: LocalModel, work: Work) -> list[str]:
    """Return the prompts of a work, in the model's chat template if it has one; rows are JSON.

    Example: `prompts(model, BILLING)`
    """
    if isinstance(work, RowWork):
        return [_generator(model, work, "json").prompt_text(work.subject, work.extra)]
    generator = TextGenerator(model)
    return [generator.prompt_text(dict(record)) for record in work.records]


def _rows(model: LocalModel, work: RowWork, layout: RowLayout) -> Make:
    generator = _generator(model, work, layout)

    def make(count: int, seed: int) -> list[Made]:
        with closing(generator.rows(work.subject, count, extra=work.extra, seed=seed)) as rows:
            return [Made(row.value.model_dump_json(), row.tokens) for row in rows]

    return make


def _texts(model: LocalModel, work: TextWork) -> Make:
    generator = TextGenerator(model)
    model.vocabulary  # noqa: B018 tables of the vocabulary, made once a process

    def make(count: int, seed: int) -> list[Made]:
        records = [dict(work.record(number)) for number in range(count)]
        outcomes = generator.outcomes(records, {"max_length": work.longest}, seed=seed)
        with closing(outcomes):
            return [Made(o.value.text, o.completion.tokens) for o in outcomes if o.value]

    return make


def _generator(model: LocalModel, work: RowWork, layout: RowLayout) -> TabularGenerator:
    prompt = FewShotPrompt(examples=work.examples)
    return TabularGenerator(work.schema, model, prompt=prompt, layout=layout)
