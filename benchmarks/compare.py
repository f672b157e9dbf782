"""Compare this project with its peers: throughput, valid rows and memory, in interleaved runs.

    python benchmarks/compare.py --workloads billing --rounds 3 --write zen5

Each round runs every system and the upper bounds once, each in a fresh process, in an order that
rotates from round to round. Absolute rates vary with the load of the machine, so the figure to
compare is the median of the ratios within a round. A system that is not installed is listed as
missing. `--write NAME` writes `results/NAME.json`, from which `report.py` makes the documents.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import synthgen
from peers import PYTHON, SERVER
from report import RESULTS, render_section
from results_table import (
    LLAMA_CPP_BOUND,
    SYNTHGEN,
    SYNTHGEN_JSON,
    UPPER_BOUND,
    Round,
    Section,
    summarize,
)
from run_spec import CORES, Measurement, Missing, RunSpec
from systems import SYSTEMS
from workloads import FLAT, WORKLOADS, RowWorkload

from synthgen_local import LocalModel
from synthgen_local.loading import measurement, weight_formats
from synthgen_local.models.resolve import find

HERE = Path(__file__).parent
MODELS = ("smollm2-135m-instruct", "gemma-3-270m")
_OWN = {SYNTHGEN, SYNTHGEN_JSON}
_SERVERS = {"llama-server", "llama-server-optimised"}
_PEER_ENVIRONMENT = {"guidance", "langchain"}  # in the peers' environment
_ROWS = {"billing": (2048, 64, 4), "letters": (1024, 32, 2), "texts": (64, 64, 4)}
"""Rows of a workload: for this project, for a server with slots, for one row at a time."""
_FORMATS = [name for name, made in weight_formats.FORMATS.items() if made.file_type is not None]
_SAMPLE = 8  # texts whose mean length is the length asked of peers


def main() -> None:
    """Run the rounds, print the results and write them if asked to."""
    options = _options()
    with TemporaryDirectory() as folder:
        _compare(options, Path(folder))


def _compare(options: argparse.Namespace, folder: Path) -> None:
    sections, time_shares = [], []
    for name in options.models:
        for task in _assignments(name, options, folder):
            rounds = [_round(task, number, options) for number in range(options.rounds)]
            sections.append(Section(name, task.workload, rounds))
            time_shares.append(_profile(task, options))
    result = {
        "machine": f"{CORES} cores of a {_processor()}",
        "note": f"Written by `python benchmarks/compare.py {' '.join(sys.argv[1:])}`.",
        "records": summarize(sections),
        "time": [shares for shares in time_shares if shares],
    }
    print(render_section(result))
    if options.write:
        path = RESULTS / f"{options.write}.json"
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--workloads", nargs="+", choices=WORKLOADS, default=list(WORKLOADS))
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="rows of every system; default: by its speed")
    parser.add_argument("--own-rows", type=int, help="rows of this project")
    parser.add_argument("--limit", type=int, default=600, help="seconds for one run")
    parser.add_argument(
        "--format", choices=_FORMATS, help="weight format of the second server; default: as opened"
    )
    parser.add_argument("--llama-server", type=Path, default=SERVER, help="the binary")
    parser.add_argument(
        "--peers-python", type=Path, default=PYTHON, help="Python of their environment"
    )
    parser.add_argument("--write", metavar="NAME", help="write results/NAME.json")
    return parser.parse_args()


def _assignments(name: str, options: argparse.Namespace, folder: Path) -> list[RunSpec]:
    """The run specifications; the prompts are made once, by this project."""
    with LocalModel.load(name) as model:
        optimised = _optimised(model, options.format, folder)
        return [_assignment(model, workload, optimised, options) for workload in options.workloads]


def _optimised(model: LocalModel, format_name: str | None, folder: Path) -> str:
    """The weights of the second server: written in a format, or as this project opens them."""
    if not format_name:
        opened = model.load_plan.path if model.load_plan else None
        return str(opened) if opened and opened != model.path else ""
    target = folder / f"{model.name}-{format_name}.gguf"
    measurement.convert(find(model.name), target, format_name, threads=CORES)
    return str(target)


def _assignment(
    model: LocalModel, name: str, optimised: str, options: argparse.Namespace
) -> RunSpec:
    workload = WORKLOADS[name]
    prompts = synthgen.prompts(model, workload)
    if isinstance(workload, RowWorkload):
        tokens = workload.longest
    else:
        texts = synthgen.prepare(model, workload)(_SAMPLE, 0)
        tokens = sum(len(model.engine.tokenize(text.text)) for text in texts) // len(texts)
    return RunSpec(
        system="",
        workload=name,
        model=model.name,
        weights=str(find(model.name)),
        optimised=optimised,
        prompts=prompts,
        context=max(len(model.engine.tokenize(prompt)) for prompt in prompts) + tokens + 32,
        tokens=tokens,
        rows=options.rows or options.own_rows or _ROWS[name][0],
        seed=0,
        server=str(options.llama_server),
    )


def _round(task: RunSpec, number: int, options: argparse.Namespace) -> Round:
    flat = task.workload in FLAT  # other workloads are decoded as JSON in any case
    systems = [name for name in options.systems if flat or name != SYNTHGEN_JSON]
    names = [UPPER_BOUND, LLAMA_CPP_BOUND, *systems]
    rotated = names[number % len(names) :] + names[: number % len(names)]
    answers = {}
    for name in rotated:
        answers[name] = _run(replace(task, system=name, seed=number), options)
        summary = _describe(answers[name])
        print(
            f"{task.model}, {task.workload}, round {number + 1}: {name} {summary}", file=sys.stderr
        )
    rates = [answers.pop(name) for name in (UPPER_BOUND, LLAMA_CPP_BOUND)]
    results = {name: answers[name] for name in systems}
    return Round(results, *(rate if isinstance(rate, float) else 0.0 for rate in rates))


def _run(task: RunSpec, options: argparse.Namespace) -> Any:
    """Return a Measurement or Missing; for an upper bound, tokens/s."""
    if task.system in (UPPER_BOUND, LLAMA_CPP_BOUND):
        return _start(HERE / "upper_bound.py", task, sys.executable, options.limit)
    python = options.peers_python if task.system in _PEER_ENVIRONMENT else sys.executable
    task = replace(task, rows=options.rows or _rows(task, options.own_rows))
    answer = _start(HERE / "systems.py", task, python, options.limit)
    if isinstance(answer, Missing):
        return answer
    return Missing(**answer) if "reason" in answer else Measurement(**answer)


def _rows(task: RunSpec, own_rows: int | None) -> int:
    own, served, single = _ROWS[task.workload]
    if task.system in _OWN:
        return own_rows or own
    return served if task.system in _SERVERS else single


def _start(script: Path, task: RunSpec, python: str | Path, limit: int) -> Any:
    """Return the last line that a script prints, parsed as JSON, or Missing."""
    try:
        done = subprocess.run(
            [str(python), str(script)],
            input=task.write(),
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except FileNotFoundError:
        return Missing("not installed: make bench-peers")
    except subprocess.TimeoutExpired:
        return Missing(f"not done after {limit} s")
    if done.returncode:
        print(done.stderr, file=sys.stderr)
        return Missing(f"failed: {done.stderr.strip().splitlines()[-1][:200]}")
    return json.loads(done.stdout.splitlines()[-1])


def _describe(answer: Any) -> str:
    match answer:
        case Measurement():
            return f"{answer.rate:.2f} rows/s, {answer.valid} of {answer.rows} valid"
        case Missing():
            return f"missing: {answer.reason}"
    return f"{answer:.0f} tokens/s"


def _profile(task: RunSpec, options: argparse.Namespace) -> dict[str, Any] | None:
    shares = _start(HERE / "time_profile.py", task, sys.executable, options.limit)
    if isinstance(shares, Missing):
        return None
    return {"model": task.model, "workload": task.workload, "shares": shares}


def _processor() -> str:
    """Return the processor's name and its widest vector extension."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    name = re.search(r"model name\s*:\s*(.+)", text)
    widest = next((flag for flag in ("avx512f", "avx2", "avx") if f" {flag}" in text), "no AVX")
    return f"{name[1] if name else platform.machine()} ({widest})"


if __name__ == "__main__":
    main()
