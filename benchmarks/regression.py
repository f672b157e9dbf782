"""Compare the throughput of two versions of this project, in interleaved runs.

    python benchmarks/regression.py OLD_SRC NEW_SRC

OLD_SRC and NEW_SRC are `src` folders of two checkouts. Each round runs both versions once, each in
a fresh process, in alternating order. Prints the median of the ratios new / old for each workload
and exits with 1 if one is below `--minimum`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

_ROWS = {"billing": 1024, "letters": 256}
_PROGRAM = """
import json, sys, time
sys.path.insert(0, sys.argv[1])
from workloads import WORKLOADS
from synthgen_local import FewShotPrompt, LocalModel, TabularGenerator
workload, rows, model = WORKLOADS[sys.argv[2]], int(sys.argv[3]), sys.argv[4]
with LocalModel.load(model) as model:
    prompt = FewShotPrompt(examples=workload.examples)
    generator = TabularGenerator(workload.schema, model, prompt=prompt)
    generator.generate(workload.subject, 16, extra=workload.extra, seed=1)
    start = time.perf_counter()
    made = generator.generate(workload.subject, rows, extra=workload.extra, seed=0)
    print(json.dumps(len(made) / (time.perf_counter() - start)))
"""


def measure(source: Path, workload: str, rows: int, model: str) -> float:
    """Return the throughput in rows/s of the version in `source`, in a fresh process.

    Example: `measure(Path("src"), "billing", 64, "random")`
    """
    arguments = [str(Path(__file__).parent), workload, str(rows), model]
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *arguments],
        env={**os.environ, "PYTHONPATH": str(source.resolve())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return float(json.loads(done.stdout.splitlines()[-1]))


def compare(
    old: Path, new: Path, workload: str, *, rows: int, model: str, rounds: int
) -> list[float]:
    """Return the ratio new / old of each round.

    Example: `compare(Path("old/src"), Path("src"), "billing", rows=64, model="random", rounds=1)`
    """
    ratios = []
    for number in range(rounds):
        sources = {"old": old, "new": new}
        order = list(sources) if number % 2 == 0 else list(sources)[::-1]
        rates = {name: measure(sources[name], workload, rows, model) for name in order}
        ratios.append(rates["new"] / rates["old"])
        print(f"{workload}, round {number + 1}: {rates['old']:.2f}, {rates['new']:.2f} rows/s")
    return ratios


def main() -> int:
    """Print the median ratio of each workload; return 1 if one is below the minimum."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--workloads", nargs="+", choices=_ROWS, default=list(_ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="rows of each run; default: by workload")
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--minimum", type=float, default=0.9)
    options = parser.parse_args()
    failed = False
    for workload in options.workloads:
        rows = options.rows or _ROWS[workload]
        ratios = compare(
            options.old, options.new, workload,
            rows=rows, model=options.model, rounds=options.rounds,
        )  # fmt: skip
        ratio = statistics.median(ratios)
        failed |= ratio < options.minimum
        print(f"{workload}: {ratio:.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
