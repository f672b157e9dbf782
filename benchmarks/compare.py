"""Peers side by side: rows a second, valid rows and memory, in interleaved runs.

`python benchmarks/compare.py [--rounds N] [--rows N] [--peer-rows N] [--write]`

Each round runs every contender once, in a fresh process, in an order that turns from round
to round. Absolute rates swing with whatever else a machine does, so the figure to look at
is the ratio within a round, and of those the median. `--write` puts the table into
`benchmarks/README.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from contenders import CONTENDERS, prompt

HERE = Path(__file__).parent
US = "synthgen-local"
PACKAGES = {"llama-cpp-python": "llama-cpp-python", "outlines": "outlines"}

Figures = dict[str, float]


def main() -> None:
    """Run the rounds, print the table, and write it if asked to."""
    options = _options()
    text = prompt()
    rounds = [_round(number, options, text) for number in range(options.rounds)]
    table = _table(rounds)
    print(table)
    if options.write:
        _write(table, options)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, default=64, help="rows of this project")
    parser.add_argument("--peer-rows", type=int, default=8, help="rows of each peer")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    return parser.parse_args()


def _round(number: int, options: argparse.Namespace, text: str) -> dict[str, Figures]:
    names = list(CONTENDERS)
    turned = names[number % len(names) :] + names[: number % len(names)]
    results = {}
    for name in turned:
        rows = options.rows if name == US else options.peer_rows
        results[name] = _run(name, rows, number, text)
        rate = results[name]["rows"] / results[name]["seconds"]
        print(f"round {number + 1}: {name} {rate:.2f} rows/s", file=sys.stderr, flush=True)
    return results


def _run(name: str, rows: int, seed: int, text: str) -> Figures:
    command = [sys.executable, str(HERE / "contenders.py"), name, str(rows), str(seed)]
    result = subprocess.run(command, input=text, stdout=subprocess.PIPE, text=True, check=True)
    figures: Figures = json.loads(result.stdout.splitlines()[-1])
    return figures


def _table(rounds: list[dict[str, Figures]]) -> str:
    lines = [
        "| contender | rows/s, median (least to most) | we are faster by, median (least to most) "
        "| valid rows | peak memory |",
        "|---|--:|--:|--:|--:|",
    ]
    for name in CONTENDERS:
        runs = [results[name] for results in rounds]
        rates = [run["rows"] / run["seconds"] for run in runs]
        ours = [results[US]["rows"] / results[US]["seconds"] for results in rounds]
        ratios = [mine / rate for mine, rate in zip(ours, rates, strict=True)]
        made, valid = sum(run["rows"] for run in runs), sum(run["valid"] for run in runs)
        peak = max(run["peak"] for run in runs) / 1e6
        label = f"{name} {version(PACKAGES[name])}" if name in PACKAGES else f"**{name}**"
        faster = "" if name == US else _spread(ratios, "×")
        lines.append(
            f"| {label} | {_spread(rates)} | {faster} | {valid} of {made} | {peak:.0f} MB |"
        )
    return "\n".join(lines)


def _spread(values: list[float], unit: str = "") -> str:
    middle = statistics.median(values)
    return f"{middle:.2f}{unit} ({min(values):.2f} to {max(values):.2f})"


def _write(table: str, options: argparse.Namespace) -> None:
    readme = HERE / "README.md"
    command = (
        f"python benchmarks/compare.py --rounds {options.rounds} --rows {options.rows} "
        f"--peer-rows {options.peer_rows} --write"
    )
    cores = len(os.sched_getaffinity(0))
    text = f"{table}\n\nMade by `{command}` on {cores} cores of a {_processor()}."
    before, _, rest = readme.read_text(encoding="utf-8").partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end -->")
    assert end, "benchmarks/README.md has lost its marks"
    readme.write_text(f"{before}<!-- table -->\n{text}\n{end}{after}", encoding="utf-8")


def _processor() -> str:
    """The processor's name and its widest vectors: they decide the rates."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    name = re.search(r"model name\s*:\s*(.+)", text)
    widest = next((flag for flag in ("avx512f", "avx2", "avx") if f" {flag}" in text), "no AVX")
    return f"{name[1] if name else platform.machine()} ({widest})"


if __name__ == "__main__":
    main()
