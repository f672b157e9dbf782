"""Test that the batch size does not change the distribution of rows.

Compares rows decoded one at a time with rows at the default batch size. The seeds differ, so the
samples are independent. A field passes if p is at least 0.01 over all fields (Bonferroni). The job
with the default batch size is then repeated and must produce the same rows.

    python benchmarks/batch_invariance.py --rows 2000
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from two_samples import p_value

from synthgen_local import Dataset, FewShotPrompt, LocalModel, TabularGenerator

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from medical_billing import EXAMPLES, MedicalBilling

_LEAST = 0.01


def main() -> None:
    """Print the p-value of each field and whether all pass."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, default=2000)
    options = parser.parse_args()
    with LocalModel.load(options.model) as model:
        alone = _rows(model, options.rows, batch=1, seed=1)
        together = _rows(model, options.rows, batch=None, seed=2)
        again = _rows(model, options.rows, batch=None, seed=2)
    fields = list(MedicalBilling.model_fields)
    found = {}
    for name in fields:
        samples = [[getattr(row, name) for row in rows] for rows in (alone, together)]
        found[name] = p_value(samples[0], samples[1], rounds=2000)
        print(f"{name}: p = {found[name]:.3f}")
    passes = min(found.values()) * len(fields) >= _LEAST
    print("one distribution" if passes else "NOT one distribution")
    print("the same rows again" if again == together else "NOT the same rows again")
    sys.exit(0 if passes and again == together else 1)


def _rows(model: LocalModel, count: int, *, batch: int | None, seed: int) -> Dataset:
    start = time.monotonic()
    prompt = FewShotPrompt(examples=EXAMPLES)
    generator = TabularGenerator(MedicalBilling, model, prompt=prompt, batch=batch)
    extra = "the name must be chosen at random"
    rows = generator.generate("medical_billing", count, extra=extra, seed=seed)
    seconds = time.monotonic() - start
    print(f"batch {batch or 'chosen'}: {count} rows in {seconds:.0f} s", flush=True)
    return rows


if __name__ == "__main__":
    main()
