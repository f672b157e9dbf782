"""Measure throughput on a GPU by contexts and running sequences in each.

    python benchmarks/gpu.py --contexts 1 2 4 8 --rows 64 128 255

Each configuration makes billing rows in the compact layout, the same number for each slot, after
the upper bounds of `upper_bound.py`. The default is in `engine/parallel_plan.py`.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import Any, cast

import synthgen
from time_profile import PARTS, measure_parts
from upper_bound import measure_prefill
from workloads import WORKLOADS, Workload

from synthgen_local import LocalModel
from synthgen_local.engine.parallel_plan import ParallelPlan


def main() -> None:
    """Print the upper bounds, then a line for each configuration."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--workload", default="billing", choices=WORKLOADS)
    parser.add_argument("--contexts", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--rows", nargs="+", type=int, default=[64, 128, 255])
    parser.add_argument("--each", type=int, default=8, help="rows for each slot")
    parser.add_argument("--parts", action="store_true", help="print the time profile")
    parser.add_argument("--no-upper-bound", action="store_true")
    options = parser.parse_args()
    with LocalModel.load(options.model) as model:
        print(f"{model.engine.build}, {model.threads} threads", flush=True)
        for contexts in () if options.no_upper_bound else options.contexts:
            _set_plan(model, contexts, 1)
            rate = measure_prefill(model, seconds=2)
            print(f"upper bound, {contexts} contexts: {rate:.0f} tokens/s", flush=True)
        workload = WORKLOADS[options.workload]
        parts_of = workload if options.parts else None
        make = synthgen.prepare(model, workload)
        make(64, 1)
        for contexts, rows in itertools.product(options.contexts, options.rows):
            found = measure(model, make, contexts, rows, options.each, parts_of=parts_of)
            print(f"{contexts} contexts of {rows}: {found}", flush=True)


def _set_plan(model: LocalModel, contexts: int, rows: int) -> None:
    """Fix the parallel plan of a model."""
    plan = ParallelPlan(contexts, rows, max(1, model.threads // contexts))
    cast("Any", model).parallel_plan = lambda _rows, _batch=None: plan


def measure(
    model: LocalModel,
    make: synthgen.Make,
    contexts: int,
    rows: int,
    each: int,
    *,
    parts_of: Workload | None,
) -> str:
    """Return the throughput of `each` rows for each slot, and the time profile of `parts_of`.

    Example: `measure(model, make, 8, 32, each=4, parts_of=None)`
    """
    _set_plan(model, contexts, rows)
    count = contexts * rows * each
    start = time.perf_counter()
    made = make(count, 0)
    seconds = time.perf_counter() - start
    tokens = sum(row.tokens for row in made)
    rates = f"{count / seconds:.1f} rows/s, {tokens / seconds:.0f} tokens/s"
    if parts_of is None:
        return rates
    shares = measure_parts(model, parts_of, count, seed=0)
    where = ", ".join(f"{part} {shares[part]:.0%}" for part in (*PARTS, "wait", "other"))
    return f"{rates}; {where}, idle slots {shares['idle slots']:.0%}"


if __name__ == "__main__":
    main()
