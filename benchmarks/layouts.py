"""Compare the compact layout with JSON: likelihood of held-out records, and variety of rows.

Likelihood: the negative log-likelihood, in nats, of held-out records of four kinds
(`data/held_out.jsonl`, invented) after three examples, by layout. Variety: rows of MedicalBilling
in each layout, by field: distinct values, values copied from an example, distance of the layouts.

    python benchmarks/layouts.py --rows 1000
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from two_samples import distance

from synthgen_local import FewShotPrompt, LocalModel, TabularGenerator
from synthgen_local.engine.backends.protocol import ContextSize, Step
from synthgen_local.generators.tabular import RowLayout
from synthgen_local.schema.grammar.json_text import write_value
from synthgen_local.schema.grammar.tsv import Lines

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from medical_billing import EXAMPLES, MedicalBilling

HELD_OUT = Path(__file__).parent / "data" / "held_out.jsonl"
EXAMPLES_OF_EACH = 3
LAYOUTS: tuple[RowLayout, ...] = ("json", "lines")


def main() -> None:
    """Print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, default=1000)
    options = parser.parse_args()
    with LocalModel.load(options.model) as model:
        _print_likelihood(model)
        _print_variety(model, options.rows)


def _print_likelihood(model: LocalModel) -> None:
    print("subject | layout | nats a record | tokens a record | tokens of the prompt")
    for line in HELD_OUT.read_text(encoding="utf-8").splitlines():
        workload = json.loads(line)
        records = workload["records"]
        prompt = FewShotPrompt(examples=records[:EXAMPLES_OF_EACH])
        for layout in LAYOUTS:
            generator = TabularGenerator(_schema(records), model, prompt=prompt, layout=layout)
            asked = model.engine.tokenize(
                generator.prompt_text(workload["subject"], workload["extra"])
            )
            texts = [_written(generator, record) for record in records[EXAMPLES_OF_EACH:]]
            costs, lengths = _costs(model, asked, texts)
            figures = f"{np.mean(costs):.1f} | {np.mean(lengths):.1f} | {len(asked)}"
            print(f"{workload['subject']} | {layout} | {figures}", flush=True)


def _schema(records: Sequence[dict[str, Any]]) -> dict[str, Any]:
    types = {str: "string", int: "integer", float: "number"}
    properties = {key: {"type": types[type(value)]} for key, value in records[0].items()}
    return {"properties": properties, "required": list(properties)}


def _written(generator: TabularGenerator, record: dict[str, Any]) -> str:
    """Return a record in the layout, with its terminator."""
    lines = Lines.of(generator.grammar.ir)
    if generator.layout == "json" or lines is None:
        return write_value(record)
    return f"{lines.write(record)}\n"


def _costs(
    model: LocalModel, prompt: Sequence[int], texts: Sequence[str]
) -> tuple[list[float], list[int]]:
    """Return the negative log-likelihood and the token count of each text after the prompt."""
    rows = [model.engine.tokenizer.tokenize_bytes(text.encode()) for text in texts]
    costs = [0.0] * len(rows)
    size = ContextSize(len(rows), len(prompt) + sum(map(len, rows)) + 256, model.threads)
    with closing(model.engine.open_context(size)) as context:
        first = context.prefill(prompt).copy()
        logits = [first] * len(rows)
        for slot in range(len(rows)):
            context.fork(slot)
        for position in range(max(map(len, rows))):
            running = [slot for slot, row in enumerate(rows) if position < len(row)]
            for slot in running:
                costs[slot] += _negative_log_probability(logits[slot], rows[slot][position])
            steps = [Step([slot], [rows[slot][position]]) for slot in running]
            for slot, after in zip(running, context.decode(steps).copy(), strict=True):
                logits[slot] = after
    return costs, [len(row) for row in rows]


def _negative_log_probability(logits: Any, token: int) -> float:
    scaled = logits.astype(np.float64)
    peak = scaled.max()
    return float(peak + np.log(np.exp(scaled - peak).sum()) - scaled[token])


def _print_variety(model: LocalModel, count: int) -> None:
    rows = {}
    for layout in LAYOUTS:
        prompt = FewShotPrompt(examples=EXAMPLES)
        generator = TabularGenerator(MedicalBilling, model, prompt=prompt, layout=layout)
        ask = "medical_billing", count
        rows[layout] = generator.generate(*ask, extra="the name must be chosen at random")
    known = " ".join(example["example"] for example in EXAMPLES)
    print("field | distinct, json | distinct, lines | of an example, json | lines | distance")
    for name in MedicalBilling.model_fields:
        columns = {key: [getattr(row, name) for row in made] for key, made in rows.items()}
        distinct = " | ".join(f"{len(set(column)) / count:.0%}" for column in columns.values())
        copied = " | ".join(
            f"{sum(_occurs_in(value, known) for value in column) / count:.0%}"
            for column in columns.values()
        )
        print(f"{name} | {distinct} | {copied} | {distance(*columns.values()):.2f}")
    for layout, made in rows.items():
        print(f"{layout}: {len({row.model_dump_json() for row in made})} of {count} rows distinct")


def _occurs_in(value: Any, text: str) -> bool:
    written = f"{value:g}" if isinstance(value, float) else str(value)
    return written != "" and written in text


if __name__ == "__main__":
    main()
