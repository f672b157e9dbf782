"""Run one workload with one system in this process; print the measurement as JSON.

Run by `compare.py`, each time in a fresh process, with the run specification on stdin: a peer loads
nothing of this project's weights and may have an environment of its own. All systems get the same
pydantic model, the same prompts and all cores; this project requests flat rows in its compact
layout, and LangChain writes its own prompts. Rows are sampled at temperature 1, texts at this
project's temperature, without top-k, top-p or min-p if the system allows it. Timing starts after
the model is loaded and the grammar compiled.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any, TypeAlias

from llama_server import SLOTS, serve
from peak_memory import peak_memory
from run_spec import CORES, Measurement, Missing, Output, RunSpec
from workloads import WORKLOADS, RowWorkload, TextWorkload

TEXT_TEMPERATURE = 0.7  # this project's own for texts
_ALL = -1  # layers are on the GPU, where this build of llama.cpp has one
_WITHOUT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


@dataclass(frozen=True)
class Ready:
    """A system with a loaded model; `make` makes all rows."""

    label: str
    make: Callable[[], list[Output]]
    peak: Callable[[], int] = peak_memory


System: TypeAlias = Callable[[RunSpec], AbstractContextManager[Ready]]


@contextmanager
def synthgen_local(task: RunSpec) -> Iterator[Ready]:
    """This project with its defaults."""
    from synthgen import prepare

    from synthgen_local import LocalModel

    with LocalModel.load(task.model) as model:
        make = prepare(model, WORKLOADS[task.workload])
        yield Ready("synthgen-local", lambda: make(task.rows, task.seed))


@contextmanager
def synthgen_local_json(task: RunSpec) -> Iterator[Ready]:
    """This project with rows decoded as JSON, as all peers do."""
    from synthgen import prepare

    from synthgen_local import LocalModel

    with LocalModel.load(task.model) as model:
        make = prepare(model, WORKLOADS[task.workload], "json")
        yield Ready("synthgen-local --layout json", lambda: make(task.rows, task.seed))


@contextmanager
def llama_cpp_python(task: RunSpec) -> Iterator[Ready]:
    """llama-cpp-python's `Llama` with a grammar from the JSON Schema."""
    from llama_cpp import LlamaGrammar

    workload, llama = WORKLOADS[task.workload], _llama(task)
    options = _options(task, llama)
    if isinstance(workload, RowWorkload):
        options["grammar"] = LlamaGrammar.from_json_schema(_json_schema(workload), verbose=False)
    prompts = [llama.tokenize(prompt.encode(), special=True) for prompt in task.prompts]

    def make(number: int) -> str:
        answer = llama.create_completion(prompts[number % len(prompts)], **options)
        text: str = answer["choices"][0]["text"]
        return text

    with closing(llama):
        yield Ready(_named("llama-cpp-python"), _one_by_one(task, make))


@contextmanager
def outlines(task: RunSpec) -> Iterator[Ready]:
    """Outlines on llama.cpp with its default back end; one generator for all rows."""
    import outlines as package

    workload, llama = WORKLOADS[task.workload], _llama(task)
    schema = workload.schema if isinstance(workload, RowWorkload) else None
    generator = package.Generator(package.from_llamacpp(llama), schema)
    options = _options(task, llama)
    with closing(llama):
        yield Ready(
            _named("outlines"),
            _one_by_one(task, lambda number: str(generator(task.prompt(number), **options))),
        )


@contextmanager
def guidance(task: RunSpec) -> Iterator[Ready]:
    """Guidance on llama.cpp as documented, without echo."""
    import guidance as package

    workload = WORKLOADS[task.workload]
    model = package.models.LlamaCpp(
        task.weights,
        echo=False,
        n_ctx=task.context,
        n_threads=CORES,
        n_gpu_layers=_ALL,
        seed=task.seed,
    )
    answer = (
        package.json(name="answer", schema=workload.schema, temperature=1.0, max_tokens=task.tokens)
        if isinstance(workload, RowWorkload)
        else package.gen(name="answer", temperature=TEXT_TEMPERATURE, max_tokens=task.tokens)
    )

    def make(number: int) -> str:
        return str((model + task.prompt(number) + answer)["answer"])

    yield Ready(_named("guidance"), _one_by_one(task, make))


@contextmanager
def langchain(task: RunSpec) -> Iterator[Ready]:
    """LangChain's generators on its llama.cpp chat model, with their own prompts.

    Its row generator relies on a remote service for structured output; here the chat model's
    `grammar` replaces it. Templates are Jinja, because generated rows become examples and their
    braces would be parsed as variables.
    """
    from langchain_community.chat_models import ChatLlamaCpp
    from llama_cpp import LlamaGrammar

    workload = WORKLOADS[task.workload]
    rows = isinstance(workload, RowWorkload)
    options = {"grammar": LlamaGrammar.from_json_schema(_json_schema(workload))} if rows else {}
    chat = ChatLlamaCpp(
        model_path=task.weights,
        n_ctx=2 * task.context,  # its examples grow
        n_batch=512,
        n_threads=CORES,
        n_gpu_layers=_ALL,
        seed=task.seed,
        max_tokens=task.tokens,
        temperature=1.0 if rows else TEXT_TEMPERATURE,
        top_k=0,
        top_p=1.0,
        repeat_penalty=1.0,
        verbose=False,
        **options,
    )
    _give_template(chat.client)
    make = _chain_of_rows if isinstance(workload, RowWorkload) else _chain_of_texts
    yield Ready(_named("langchain-experimental"), make(chat, task))


@contextmanager
def llama_server(task: RunSpec) -> Iterator[Ready]:
    """llama.cpp's server with all slots busy, on the shipped weights."""
    with _served(task, task.weights, "") as ready:
        yield ready


@contextmanager
def llama_server_optimised(task: RunSpec) -> Iterator[Ready]:
    """The same on weights in another format (`--format`, or as this project opens them)."""
    if not task.optimised:
        raise FileNotFoundError("no other weight format: pass --format")
    with _served(task, task.optimised, ", other weights") as ready:
        yield ready


SYSTEMS: dict[str, System] = {
    "synthgen-local": synthgen_local,
    "synthgen-local-json": synthgen_local_json,
    "llama-server": llama_server,
    "llama-server-optimised": llama_server_optimised,
    "llama-cpp-python": llama_cpp_python,
    "outlines": outlines,
    "guidance": guidance,
    "langchain": langchain,
}


@contextmanager
def _served(task: RunSpec, weights: str, note: str) -> Iterator[Ready]:
    workload = WORKLOADS[task.workload]
    request: dict[str, Any] = {
        "n_predict": task.tokens,
        "cache_prompt": True,
        "temperature": 1.0 if isinstance(workload, RowWorkload) else TEXT_TEMPERATURE,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
    }
    if isinstance(workload, RowWorkload):
        request["json_schema"] = workload.schema.model_json_schema()
    else:
        request["ignore_eos"] = True
    requests = [
        {**request, "prompt": task.prompt(number), "seed": task.seed * task.rows + number}
        for number in range(task.rows)
    ]
    with serve(task.server, weights, context=task.context, threads=CORES) as server:
        yield Ready(
            f"llama-server {_build(task.server)}, {SLOTS} slots{note}",
            lambda: [Output(text) for text in server.complete(requests)],
            server.peak_memory,
        )


def _build(server: str) -> str:
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version: (\S+)", said.stdout + said.stderr)
    return found[1] if found else ""


def _one_by_one(task: RunSpec, make: Callable[[int], str]) -> Callable[[], list[Output]]:
    return lambda: [Output(make(number)) for number in range(task.rows)]


def _chain_of_rows(chat: Any, task: RunSpec) -> Callable[[], list[Output]]:
    from langchain_core.prompts import FewShotPromptTemplate, PromptTemplate
    from langchain_experimental.tabular_synthetic_data.base import SyntheticDataGenerator
    from langchain_experimental.tabular_synthetic_data.prompts import (
        SYNTHETIC_FEW_SHOT_PREFIX,
        SYNTHETIC_FEW_SHOT_SUFFIX,
    )

    workload = WORKLOADS[task.workload]
    assert isinstance(workload, RowWorkload)
    template = FewShotPromptTemplate(
        prefix=_as_jinja(SYNTHETIC_FEW_SHOT_PREFIX),
        examples=[dict(example) for example in workload.examples],
        suffix=_as_jinja(SYNTHETIC_FEW_SHOT_SUFFIX),
        input_variables=["subject", "extra"],
        example_prompt=PromptTemplate.from_template("{example}"),
        template_format="jinja2",
    )
    generator = SyntheticDataGenerator(template=template, llm=chat)
    return lambda: [
        Output(text)
        for text in generator.generate(
            subject=workload.subject, extra=workload.extra, runs=task.rows
        )
    ]


def _chain_of_texts(chat: Any, task: RunSpec) -> Callable[[], list[Output]]:
    from langchain_experimental.synthetic_data import DatasetGenerator

    workload = WORKLOADS[task.workload]
    assert isinstance(workload, TextWorkload)
    without_end = {str(chat.client.token_eos()): -100}
    generator = DatasetGenerator(chat.bind(logit_bias=without_end, min_p=0.0))
    fields = [list(workload.record(number).values()) for number in range(task.rows)]
    return lambda: [Output(answer["text"]) for answer in generator(fields)]


def _as_jinja(template: str) -> str:
    return re.sub(r"\{(\w+)\}", r"{{\1}}", template)


def _give_template(llama: Any) -> None:
    """Give a model without a chat template one that writes messages as plain text."""
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    if "tokenizer.chat_template" not in llama.metadata:
        end = llama.detokenize([llama.token_eos()], special=True).decode()
        formatter = Jinja2ChatFormatter(_WITHOUT_TEMPLATE, eos_token=end, bos_token="")
        llama.chat_handler = formatter.to_chat_handler()


def _llama(task: RunSpec) -> Any:
    from llama_cpp import Llama

    return Llama(
        task.weights,
        n_ctx=task.context,
        n_threads=CORES,
        n_gpu_layers=_ALL,
        verbose=False,
        seed=task.seed,
    )


def _options(task: RunSpec, llama: Any) -> dict[str, Any]:
    """Return options that sample the model's own distribution; texts do not end early."""
    rows = isinstance(WORKLOADS[task.workload], RowWorkload)
    return {
        "max_tokens": task.tokens,
        "temperature": 1.0 if rows else TEXT_TEMPERATURE,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "logit_bias": None if rows else {str(llama.token_eos()): -100},
    }


def _json_schema(workload: Any) -> str:
    return json.dumps(workload.schema.model_json_schema())


def _named(package: str) -> str:
    return f"{package} {version(package)}"


def run(task: RunSpec) -> Measurement:
    """Run the workload and count valid rows.

    Example: `run(RunSpec.read(sys.stdin.read()))`
    """
    with SYSTEMS[task.system](task) as ready:
        start = time.perf_counter()
        made = ready.make()
        seconds = time.perf_counter() - start
        held = ready.peak()
    workload = WORKLOADS[task.workload]
    valid = sum(workload.is_valid(row.text, number) for number, row in enumerate(made))
    tokens = sum(row.tokens for row in made) / max(1, len(made))
    return Measurement(ready.label, len(made), valid, seconds, tokens, held)


def main() -> None:
    """Read the run specification; print the measurement, or the reason for a missing one."""
    try:
        result: Measurement | Missing = run(RunSpec.read(sys.stdin.read()))
    except (ImportError, FileNotFoundError) as error:
        result = Missing(str(error))
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
