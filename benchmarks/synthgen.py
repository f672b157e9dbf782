"""This project as a system under test, and the prompts that all systems get.

Knows this project's interface and the workloads, not the peers.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from run_spec import Output
from workloads import RowWorkload, TextWorkload, Workload

from synthgen_local import FewShotPrompt, LocalModel, TabularGenerator, TextGenerator
from synthgen_local.generators.tabular import RowLayout

Make = Callable[[int, int], list[Output]]


def prepare(model: LocalModel, workload: Workload, layout: RowLayout = "auto") -> Make:
    """Return a function (rows, seed) -> outputs; one-time work is done before it returns.

    Example: `prepare(model, BILLING)(4, 0)`
    """
    return (
        _rows(model, workload, layout)
        if isinstance(workload, RowWorkload)
        else _texts(model, workload)
    )


def prompts(model: LocalModel, workload: Workload) -> list[str]:
    """Return the prompts of a workload, in the model's chat template if it has one; rows are JSON.

    Example: `prompts(model, BILLING)`
    """
    if isinstance(workload, RowWorkload):
        return [_generator(model, workload, "json").prompt_text(workload.subject, workload.extra)]
    generator = TextGenerator(model)
    return [generator.prompt_text(dict(record)) for record in workload.records]


def _rows(model: LocalModel, workload: RowWorkload, layout: RowLayout) -> Make:
    generator = _generator(model, workload, layout)

    def make(count: int, seed: int) -> list[Output]:
        with closing(
            generator.rows(workload.subject, count, extra=workload.extra, seed=seed)
        ) as rows:
            return [Output(row.value.model_dump_json(), row.tokens) for row in rows if row.value]

    return make


def _texts(model: LocalModel, workload: TextWorkload) -> Make:
    generator = TextGenerator(model)
    model.vocabulary  # noqa: B018 tables of the vocabulary, made once a process

    def make(count: int, seed: int) -> list[Output]:
        records = [dict(workload.record(number)) for number in range(count)]
        rows = generator.rows(records, {"max_length": workload.longest}, seed=seed)
        with closing(rows):
            return [Output(row.value.text, row.tokens) for row in rows if row.value]

    return make


def _generator(model: LocalModel, workload: RowWorkload, layout: RowLayout) -> TabularGenerator:
    prompt = FewShotPrompt(examples=workload.examples)
    return TabularGenerator(workload.schema, model, prompt=prompt, layout=layout)
