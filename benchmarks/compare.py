"""Peers side by side: rows a second, valid rows and memory, in interleaved runs.

    python benchmarks/compare.py --works billing --rounds 3 --write

Each round runs every contender and the ceilings once, each in a fresh process, in an order that
turns from round to round. Absolute rates swing with whatever else a machine does, so the figure to
look at is the ratio within a round, and of those the median. A contender that is not installed
stands in the table as missing. `--write` puts the table into `benchmarks/README.md`.
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

import ours
from assignment import CORES, Assignment, Figures, Missing
from ceiling import OF_LLAMA_CPP
from contenders import CONTENDERS
from peers import PYTHON, SERVER
from table import US, US_JSON, Round, Section, shares, table
from works import FLAT, WORKS, RowWork

from synthgen_local import LocalModel
from synthgen_local.loading import weight_formats
from synthgen_local.models.resolve import find

HERE = Path(__file__).parent
MODELS = ("smollm2-135m-instruct", "gemma-3-270m")
CEILING = "ceiling"
_OURS = {US, US_JSON}
_SERVERS = {"llama-server", "llama-server-optimised"}
_ELSEWHERE = {"guidance", "langchain"}  # in the peers' environment
_ROWS = {"billing": (2048, 64, 4), "letters": (1024, 32, 2), "texts": (64, 64, 4)}
"""Rows of a work: of ours, of a server with many slots, and of who makes one at a time."""
_FORMATS = [name for name, made in weight_formats.FORMATS.items() if made.file_type is not None]
_SAMPLE = 8  # our texts that tell how long a peer's are to be


def main() -> None:
    """Run the rounds, print the table and the parts of our time, and write them if asked to."""
    options = _options()
    with TemporaryDirectory() as folder:
        _compare(options, Path(folder))


def _compare(options: argparse.Namespace, folder: Path) -> None:
    sections, parts = [], []
    for name in options.models:
        for task in _assignments(name, options, folder):
            rounds = [_round(task, number, options) for number in range(options.rounds)]
            sections.append(Section(name, task.work, rounds))
            parts.append(_parts(task, options))
    text = table(sections) + "\n\nWhere our time goes:\n\n" + "\n".join(parts)
    print(text)
    if options.write:
        _write(text)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--models", nargs="+", default=MODELS)
    parser.add_argument("--works", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, help="rows of everybody; else many of the fast")
    parser.add_argument("--ours", type=int, help="rows of ours, where a GPU makes many a second")
    parser.add_argument("--limit", type=int, default=600, help="seconds that one run may take")
    parser.add_argument(
        "--format", choices=_FORMATS, help="of the second server's weights, else what we open"
    )
    parser.add_argument("--llama-server", type=Path, default=SERVER, help="the binary")
    parser.add_argument("--peers-python", type=Path, default=PYTHON, help="of their environment")
    parser.add_argument("--write", action="store_true", help="put the table into README.md")
    return parser.parse_args()


def _assignments(name: str, options: argparse.Namespace, folder: Path) -> list[Assignment]:
    """The works as the contenders get them: the prompts are made by this project, once."""
    with LocalModel.load(name) as model:
        optimised = _optimised(model, options.format, folder)
        return [_assignment(model, work, optimised, options) for work in options.works]


def _optimised(model: LocalModel, format_name: str | None, folder: Path) -> str:
    """The weights of the second server: written in a format, else what this project opens."""
    if not format_name:
        opened = model.load_plan.path if model.load_plan else None
        return str(opened) if opened and opened != model.path else ""
    target = folder / f"{model.name}-{format_name}.gguf"
    weight_formats.write(find(model.name), target, format_name, threads=CORES)
    return str(target)


def _assignment(
    model: LocalModel, name: str, optimised: str, options: argparse.Namespace
) -> Assignment:
    work = WORKS[name]
    prompts = ours.prompts(model, work)
    if isinstance(work, RowWork):
        tokens = work.longest
    else:
        texts = ours.prepare(model, work)(_SAMPLE, 0)
        tokens = sum(len(model.engine.tokenize(text.text)) for text in texts) // len(texts)
    return Assignment(
        contender="",
        work=name,
        model=model.name,
        weights=str(find(model.name)),
        optimised=optimised,
        prompts=prompts,
        context=max(len(model.engine.tokenize(prompt)) for prompt in prompts) + tokens + 32,
        tokens=tokens,
        rows=options.rows or options.ours or _ROWS[name][0],
        seed=0,
        server=str(options.llama_server),
    )


def _round(task: Assignment, number: int, options: argparse.Namespace) -> Round:
    flat = task.work in FLAT  # other rows are JSON anyway
    contenders = [name for name in options.contenders if flat or name != US_JSON]
    names = [CEILING, OF_LLAMA_CPP, *contenders]
    turned = names[number % len(names) :] + names[: number % len(names)]
    answers = {}
    for name in turned:
        answers[name] = _run(replace(task, contender=name, seed=number), options)
        said = _said(answers[name])
        print(f"{task.model}, {task.work}, round {number + 1}: {name} {said}", file=sys.stderr)
    rates = [answers.pop(name) for name in (CEILING, OF_LLAMA_CPP)]
    results = {name: answers[name] for name in contenders}
    return Round(results, *(rate if isinstance(rate, float) else 0.0 for rate in rates))


def _run(task: Assignment, options: argparse.Namespace) -> Any:
    """Figures or Missing; of a ceiling, a number."""
    if task.contender in (CEILING, OF_LLAMA_CPP):
        return _start(HERE / "ceiling.py", task, sys.executable, options.limit)
    python = options.peers_python if task.contender in _ELSEWHERE else sys.executable
    task = replace(task, rows=options.rows or _rows(task, options.ours))
    answer = _start(HERE / "contenders.py", task, python, options.limit)
    if isinstance(answer, Missing):
        return answer
    return Missing(**answer) if "reason" in answer else Figures(**answer)


def _rows(task: Assignment, of_ours: int | None) -> int:
    ours, served, alone = _ROWS[task.work]
    if task.contender in _OURS:
        return of_ours or ours
    return served if task.contender in _SERVERS else alone


def _start(script: Path, task: Assignment, python: str | Path, limit: int) -> Any:
    """What a script prints last, read as JSON, or why there is none."""
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


def _said(answer: Any) -> str:
    match answer:
        case Figures():
            return f"{answer.rate:.2f} rows/s, {answer.valid} of {answer.rows} valid"
        case Missing():
            return f"missing: {answer.reason}"
    return f"{answer:.0f} tokens/s"


def _parts(task: Assignment, options: argparse.Namespace) -> str:
    parts = _start(HERE / "parts.py", task, sys.executable, options.limit)
    section = f"- {task.model}, {task.work}"
    return f"{section}: {parts.reason}" if isinstance(parts, Missing) else shares(section, parts)


def _write(text: str) -> None:
    readme = HERE / "README.md"
    arguments = " ".join(sys.argv[1:])
    made = (
        f"Made by `python benchmarks/compare.py {arguments}` on {CORES} cores of a {_processor()}."
    )
    before, _, rest = readme.read_text(encoding="utf-8").partition("<!-- table -->\n")
    _, end, after = rest.partition("<!-- end -->")
    assert end, "benchmarks/README.md has lost its marks"
    readme.write_text(f"{before}<!-- table -->\n{text}\n\n{made}\n{end}{after}", encoding="utf-8")


def _processor() -> str:
    """The processor's name and its widest vectors: they decide the rates."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.is_file() else ""
    name = re.search(r"model name\s*:\s*(.+)", text)
    widest = next((flag for flag in ("avx512f", "avx2", "avx") if f" {flag}" in text), "no AVX")
    return f"{name[1] if name else platform.machine()} ({widest})"


if __name__ == "__main__":
    main()
