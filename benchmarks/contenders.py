"""One contender makes rows of MedicalBilling in this process; the figures go to stdout as JSON.

Run by `compare.py`, each time in a fresh process: `python contenders.py NAME ROWS SEED`, with
the prompt on stdin, so that a peer's process never loads anything of this project's weights.
All get the same weights file, the same prompt, the same pydantic model, temperature 1
without top-k, top-p or min-p, and both cores. The clock starts when the model is loaded
and the grammar compiled.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from synthgen_local import FewShotPrompt, LocalModel, TabularGenerator
from synthgen_local.models.sources import find

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
from medical_billing import EXAMPLES, MedicalBilling

MODEL = "smollm2-135m-instruct"
SUBJECT, EXTRA = "medical_billing", "the name must be chosen at random"
LONGEST = 300  # tokens; a peer's row that is not closed by then is cut and not valid
UNCHANGED: dict[str, Any] = {  # the model's own distribution, as this project draws from it
    "max_tokens": LONGEST,
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
}
CORES = len(os.sched_getaffinity(0))

Rows = Callable[[int], Iterator[str]]


def synthgen_local(seed: int, _prompt: str) -> tuple[Rows, Callable[[], None]]:
    """This project, as a user calls it."""
    model = LocalModel.load(MODEL)
    generator = _generator(model)

    def rows(count: int) -> Iterator[str]:
        for row in generator.stream(SUBJECT, count, extra=EXTRA, seed=seed):
            yield row.model_dump_json()

    return rows, model.close


def llama_cpp_python(seed: int, prompt: str) -> tuple[Rows, Callable[[], None]]:
    """llama-cpp-python's `Llama` with its grammar made from the JSON Schema."""
    from llama_cpp import LlamaGrammar

    llama = _llama(seed)
    schema = json.dumps(MedicalBilling.model_json_schema())
    grammar = LlamaGrammar.from_json_schema(schema, verbose=False)
    tokens = llama.tokenize(prompt.encode(), special=True)

    def rows(count: int) -> Iterator[str]:
        for _ in range(count):
            answer = llama.create_completion(tokens, grammar=grammar, **UNCHANGED)
            yield answer["choices"][0]["text"]

    return rows, llama.close


def outlines(seed: int, prompt: str) -> tuple[Rows, Callable[[], None]]:
    """Outlines with llama.cpp and its default back end, the generator kept between rows."""
    import outlines as package

    llama = _llama(seed)
    generator = package.Generator(package.from_llamacpp(llama), MedicalBilling)

    def rows(count: int) -> Iterator[str]:
        for _ in range(count):
            yield generator(prompt, **UNCHANGED)

    return rows, llama.close


CONTENDERS = {
    "synthgen-local": synthgen_local,
    "llama-cpp-python": llama_cpp_python,
    "outlines": outlines,
}


def _generator(model: LocalModel) -> TabularGenerator:
    return TabularGenerator(MedicalBilling, model, prompt=FewShotPrompt(examples=EXAMPLES))


def _llama(seed: int) -> Any:
    from llama_cpp import Llama

    return Llama(str(find(MODEL)), n_ctx=2048, n_threads=CORES, verbose=False, seed=seed)


def prompt() -> str:
    """Return the prompt that all contenders get, chat template included."""
    with LocalModel.load(MODEL) as model:
        return _generator(model).prompt_text(SUBJECT, EXTRA)


def main(name: str, count: int, seed: int) -> None:
    """Make the rows and print rows, valid rows, seconds and peak memory in bytes."""
    rows, close = CONTENDERS[name](seed, sys.stdin.read())
    loaded = _peak()
    start = time.perf_counter()
    texts = list(rows(count))
    seconds = time.perf_counter() - start
    close()
    valid = sum(map(_is_valid, texts))
    figures = {
        "rows": len(texts),
        "valid": valid,
        "seconds": seconds,
        "loaded": loaded,
        "peak": _peak(),
    }
    print(json.dumps(figures))


def _is_valid(text: str) -> bool:
    try:
        MedicalBilling.model_validate_json(text)
    except ValidationError:
        return False
    return True


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
