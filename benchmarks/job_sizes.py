"""Measure the latency of the first row, and throughput by the number of rows of a job.

The first row is timed in a fresh process, from the import of this project, with a model that was
probed and measured before: in a job of one row and in one of 64 rows, which run concurrently. Then
jobs of increasing size run in one process, after a warm-up that is not counted.

    python benchmarks/job_sizes.py --rows 100 1000 10000
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from synthgen_local import FewShotPrompt, LocalModel, TabularGenerator

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from medical_billing import EXAMPLES, MedicalBilling

_FIRST = """
import time
start = time.perf_counter()
import sys
sys.path.insert(0, {examples!r})
from medical_billing import EXAMPLES, MedicalBilling
from synthgen_local import FewShotPrompt, LocalModel, TabularGenerator
with LocalModel.load({model!r}) as model:
    generator = TabularGenerator(MedicalBilling, model, prompt=FewShotPrompt(examples=EXAMPLES))
    rows = generator.stream("medical_billing", {rows})
    next(rows)
    print(time.perf_counter() - start)
    rows.close()
"""


def main() -> None:
    """Print seconds to the first row, then rows/s by job size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", nargs="+", type=int, default=[100, 1000, 10000])
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    for rows in (1, 64):
        found = sorted(_first(options.model, rows) for _ in range(options.repeats))
        print(
            f"first of {rows}: {found[len(found) // 2]:.2f} s ({found[0]:.2f} to {found[-1]:.2f})"
        )
    _runs(options.model, options.rows)


def _first(model: str, rows: int) -> float:
    program = _FIRST.format(examples=sys.path[0], model=model, rows=rows)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def _runs(name: str, lengths: list[int]) -> None:
    with LocalModel.load(name) as model:
        prompt = FewShotPrompt(examples=EXAMPLES)
        generator = TabularGenerator(MedicalBilling, model, prompt=prompt)
        generator.generate("medical_billing", 24)
        for length in lengths:
            start = time.perf_counter()
            with closing(generator.rows("medical_billing", length, seed=length)) as rows:
                tokens = sum(row.tokens for row in rows)
            seconds = time.perf_counter() - start
            rates = f"{length / seconds:.2f} rows/s, {tokens / seconds:.0f} tokens/s"
            print(f"{length} rows: {rates}, {tokens / length:.1f} tokens a row", flush=True)


if __name__ == "__main__":
    main()
