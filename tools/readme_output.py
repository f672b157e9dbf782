"""Update the program output that README.md and docs/quickstart.md show.

    python tools/readme_output.py

Each output stands in the block after a `<!-- build: ... -->` comment, which names the build of
llama.cpp, the kernels and the threads that produced it: rows are reproducible within these only.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODEL = "smollm2-135m-instruct"
_BLOCK = re.compile(r"<!-- build: (.*?) -->\n```(console|json)\n(.*?)```", re.DOTALL)


def find_output(text: str) -> tuple[str, list[str], str]:
    """Return the build, the command and the output of a document's first marked block.

    The command of a block without one is the demo of `make demo`.
    """
    found = _BLOCK.search(text)
    if not found:
        raise LookupError("the document has no <!-- build: ... --> block")
    body = found[3].replace("\\\n", " ")
    if found[2] == "json":
        return found[1], [sys.executable, "examples/medical_billing.py"], body
    line, _, output = body.partition("\n")
    arguments = shlex.split(line.removeprefix("$ synthgen-local "))
    return found[1], [sys.executable, "-m", "synthgen_local", *arguments], output


def run(command: list[str]) -> str:
    """Return the stdout of a command that is run in the repository's root."""
    return subprocess.run(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True
    ).stdout


def build() -> str:
    """Return the build and the number of threads with which the default model is opened."""
    from synthgen_local import LocalModel

    with LocalModel.load(MODEL) as model:
        return f"{model.engine.build}, {model.threads} threads"


def main() -> None:
    """Run each command and replace its output."""
    for path in (ROOT / "README.md", ROOT / "docs" / "quickstart.md"):
        text = path.read_text(encoding="utf-8")
        _, command, old = find_output(text)
        found = _BLOCK.search(text)
        assert found
        body = found[3].removesuffix(old) + run(command)
        block = f"<!-- build: {build()} -->\n```{found[2]}\n{body}```"
        path.write_text(text.replace(found[0], block), encoding="utf-8")


if __name__ == "__main__":
    main()
