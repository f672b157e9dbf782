"""When the first row comes, and whether a row costs the same in a run of any length.

The first row is timed in a fresh process, from the import of this project on, of a model that was
measured and tried before: in a run of one row, and in one of 64 rows, which are under way at once.
Then come runs of more and more rows in one process, after one that is not counted.

    python benchmarks/lengths_of_runs.py --rows 100 1000 10000
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
    """Print seconds to the first row, then rows a second by the length of the run."""
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
