"""How many contexts a GPU wants, and how many rows in flight in each: rows and tokens a second.

    python benchmarks/gpu.py --contexts 1 2 4 8 --rows 64 128 255

Each width makes rows of billing as lines, as many for each slot; before them come the ceilings of
`ceiling.py`. What is fastest stands in `engine/parallel.py`.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any, cast

import ours
from ceiling import prefill_rate
from parts import PARTS, parts
from works import WORKS, Work

from synthgen_local import LocalModel
from synthgen_local.engine.parallel_plan import ParallelPlan


def main() -> None:
    """Print the ceiling, then a line for each width."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--work", default="billing", choices=WORKS)
    parser.add_argument("--contexts", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--rows", nargs="+", type=int, default=[64, 128, 255])
    parser.add_argument("--each", type=int, default=8, help="rows that each slot makes")
    parser.add_argument("--parts", action="store_true", help="where the time goes, too")
    parser.add_argument("--no-ceiling", action="store_true")
    options = parser.parse_args()
    with LocalModel.load(options.model) as model:
        print(f"{model.engine.build}, {model.threads} threads", flush=True)
        for contexts in () if options.no_ceiling else options.contexts:
            _lay_out(model, contexts, 1)
            rate = prefill_rate(model, seconds=2)
            print(f"ceiling, {contexts} contexts: {rate:.0f} tokens/s", flush=True)
        work = WORKS[options.work]
        parts_of = work if options.parts else None
        make = ours.prepare(model, work)
        make(64, 1)
        for contexts, rows in itertools.product(options.contexts, options.rows):
            found = measure(model, make, contexts, rows, options.each, parts_of=parts_of)
            print(f"{contexts} contexts of {rows}: {found}", flush=True)


def _lay_out(model: LocalModel, contexts: int, rows: int) -> None:
    """Let a model decode so, whatever it would choose."""
    plan = ParallelPlan(contexts, rows, max(1, model.threads // contexts))
    cast("Any", model).plan = lambda _rows, _batch=None: plan


def measure(
    model: LocalModel,
    make: ours.Make,
    contexts: int,
    rows: int,
    each: int,
    *,
    parts_of: Work | None,
) -> str:
    """Make so many rows a slot; say how fast, and where the time of `parts_of` goes, if asked.

    Example: `measure(model, make, 8, 32, each=4, parts_of=None)`
    """
    _lay_out(model, contexts, rows)
    count = contexts * rows * each
    start = time.perf_counter()
    made = make(count, 0)
    seconds = time.perf_counter() - start
    tokens = sum(row.tokens for row in made)
    rates = f"{count / seconds:.1f} rows/s, {tokens / seconds:.0f} tokens/s"
    if parts_of is None:
        return rates
    shares = parts(model, parts_of, count, seed=0)
    where = ", ".join(f"{part} {shares[part]:.0%}" for part in (*PARTS, "wait", "other"))
    return f"{rates}; {where}, idle slots {shares['idle slots']:.0%}"


if __name__ == "__main__":
    main()
