"""One contender does one work in this process; the figures go to stdout as JSON.

Run by `compare.py`, each time in a fresh process, with the assignment on stdin: so no peer's
process loads anything of this project's weights, and a peer may have an environment of its own,
in which this project is not installed. All get the same pydantic model, the same prompts and all
cores, but this project asks for flat rows in words of its own, and LangChain words its prompts
itself; rows at temperature 1, texts at this project's, without top-k, top-p or min-p where the
contender lets them be left out. The clock starts when the model is loaded and the grammar compiled.
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

from assignment import CORES, Assignment, Figures, Made, Missing
from llama_server import SLOTS, serve
from memory import peak
from works import WORKS, RowWork, TextWork

TEXT_TEMPERATURE = 0.7  # this project's own for texts
_ALL = -1  # layers are on the GPU, where this build of llama.cpp has one
_WITHOUT_TEMPLATE = "{% for message in messages %}{{ message['content'] }}\n{% endfor %}"


@dataclass(frozen=True)
class Ready:
    """A contender whose model is loaded: its name and version, what makes all, what it held."""

    label: str
    make: Callable[[], list[Made]]
    peak: Callable[[], int] = peak


Contender: TypeAlias = Callable[[Assignment], AbstractContextManager[Ready]]


@contextmanager
def synthgen_local(task: Assignment) -> Iterator[Ready]:
    """This project, as a user calls it."""
    from ours import prepare

    from synthgen_local import LocalModel

    with LocalModel.load(task.model) as model:
        make = prepare(model, WORKS[task.work])
        yield Ready("synthgen-local", lambda: make(task.rows, task.seed))


@contextmanager
def synthgen_local_json(task: Assignment) -> Iterator[Ready]:
    """This project, its rows decoded as JSON: what all peers do."""
    from ours import prepare

    from synthgen_local import LocalModel

    with LocalModel.load(task.model) as model:
        make = prepare(model, WORKS[task.work], "json")
        yield Ready("synthgen-local --layout json", lambda: make(task.rows, task.seed))


@contextmanager
def llama_cpp_python(task: Assignment) -> Iterator[Ready]:
    """llama-cpp-python's `Llama`, with its grammar made from the JSON Schema."""
    from llama_cpp import LlamaGrammar

    work, llama = WORKS[task.work], _llama(task)
    options = _options(task, llama)
    if isinstance(work, RowWork):
        options["grammar"] = LlamaGrammar.from_json_schema(_json_schema(work), verbose=False)
    prompts = [llama.tokenize(prompt.encode(), special=True) for prompt in task.prompts]

    def make(number: int) -> str:
        answer = llama.create_completion(prompts[number % len(prompts)], **options)
        text: str = answer["choices"][0]["text"]
        return text

    with closing(llama):
        yield Ready(_named("llama-cpp-python"), _one_by_one(task, make))


@contextmanager
def outlines(task: Assignment) -> Iterator[Ready]:
    """Outlines with llama.cpp and its default back end, the generator kept between rows."""
    import outlines as package

    work, llama = WORKS[task.work], _llama(task)
    schema = work.schema if isinstance(work, RowWork) else None
    generator = package.Generator(package.from_llamacpp(llama), schema)
    options = _options(task, llama)
    with closing(llama):
        yield Ready(
            _named("outlines"),
            _one_by_one(task, lambda number: str(generator(task.prompt(number), **options))),
        )


@contextmanager
def guidance(task: Assignment) -> Iterator[Ready]:
    """Guidance with llama.cpp, as its documentation has it, without the display of each token."""
    import guidance as package

    work = WORKS[task.work]
    model = package.models.LlamaCpp(
        task.weights,
        echo=False,
        n_ctx=task.context,
        n_threads=CORES,
        n_gpu_layers=_ALL,
        seed=task.seed,
    )
    answer = (
        package.json(name="answer", schema=work.schema, temperature=1.0, max_tokens=task.tokens)
        if isinstance(work, RowWork)
        else package.gen(name="answer", temperature=TEXT_TEMPERATURE, max_tokens=task.tokens)
    )

    def make(number: int) -> str:
        return str((model + task.prompt(number) + answer)["answer"])

    yield Ready(_named("guidance"), _one_by_one(task, make))


@contextmanager
def langchain(task: Assignment) -> Iterator[Ready]:
    """LangChain's generators on its chat model of llama.cpp, with the prompts that they bring.

    Its generator of rows asks a remote service for structure; here the chat model's own `grammar`
    gives it. Jinja, because a row that was made becomes an example, and its braces would be read
    as variables.
    """
    from langchain_community.chat_models import ChatLlamaCpp
    from llama_cpp import LlamaGrammar

    work = WORKS[task.work]
    rows = isinstance(work, RowWork)
    options = {"grammar": LlamaGrammar.from_json_schema(_json_schema(work))} if rows else {}
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
    make = _chain_of_rows if isinstance(work, RowWork) else _chain_of_texts
    yield Ready(_named("langchain-experimental"), make(chat, task))


@contextmanager
def llama_server(task: Assignment) -> Iterator[Ready]:
    """llama.cpp's server, all its slots busy, on the weights as they are shipped."""
    with _served(task, task.weights, "") as ready:
        yield ready


@contextmanager
def llama_server_optimised(task: Assignment) -> Iterator[Ready]:
    """The same on the weights that this project writes for itself, or has been asked to write."""
    if not task.optimised:
        raise FileNotFoundError("this project reads these weights as they are shipped, too")
    with _served(task, task.optimised, ", other weights") as ready:
        yield ready


CONTENDERS: dict[str, Contender] = {
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
def _served(task: Assignment, weights: str, note: str) -> Iterator[Ready]:
    work = WORKS[task.work]
    request: dict[str, Any] = {
        "n_predict": task.tokens,
        "cache_prompt": True,
        "temperature": 1.0 if isinstance(work, RowWork) else TEXT_TEMPERATURE,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
    }
    if isinstance(work, RowWork):
        request["json_schema"] = work.schema.model_json_schema()
    else:
        request["ignore_eos"] = True
    requests = [
        {**request, "prompt": task.prompt(number), "seed": task.seed * task.rows + number}
        for number in range(task.rows)
    ]
    with serve(task.server, weights, context=task.context, threads=CORES) as server:
        yield Ready(
            f"llama-server {_build(task.server)}, {SLOTS} slots{note}",
            lambda: [Made(text) for text in server.complete(requests)],
            server.peak,
        )


def _build(server: str) -> str:
    said = subprocess.run([server, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"version: (\S+)", said.stdout + said.stderr)
    return found[1] if found else ""


def _one_by_one(task: Assignment, make: Callable[[int], str]) -> Callable[[], list[Made]]:
    return lambda: [Made(make(number)) for number in range(task.rows)]


def _chain_of_rows(chat: Any, task: Assignment) -> Callable[[], list[Made]]:
    from langchain_core.prompts import FewShotPromptTemplate, PromptTemplate
    from langchain_experimental.tabular_synthetic_data.base import SyntheticDataGenerator
    from langchain_experimental.tabular_synthetic_data.prompts import (
        SYNTHETIC_FEW_SHOT_PREFIX,
        SYNTHETIC_FEW_SHOT_SUFFIX,
    )

    work = WORKS[task.work]
    assert isinstance(work, RowWork)
    template = FewShotPromptTemplate(
        prefix=_as_jinja(SYNTHETIC_FEW_SHOT_PREFIX),
        examples=[dict(example) for example in work.examples],
        suffix=_as_jinja(SYNTHETIC_FEW_SHOT_SUFFIX),
        input_variables=["subject", "extra"],
        example_prompt=PromptTemplate.from_template("{example}"),
        template_format="jinja2",
    )
    generator = SyntheticDataGenerator(template=template, llm=chat)
    return lambda: [
        Made(text)
        for text in generator.generate(subject=work.subject, extra=work.extra, runs=task.rows)
    ]


def _chain_of_texts(chat: Any, task: Assignment) -> Callable[[], list[Made]]:
    from langchain_experimental.synthetic_data import DatasetGenerator

    work = WORKS[task.work]
    assert isinstance(work, TextWork)
    without_end = {str(chat.client.token_eos()): -100}
    generator = DatasetGenerator(chat.bind(logit_bias=without_end, min_p=0.0))
    fields = [list(work.record(number).values()) for number in range(task.rows)]
    return lambda: [Made(answer["text"]) for answer in generator(fields)]


def _as_jinja(template: str) -> str:
    return re.sub(r"\{(\w+)\}", r"{{\1}}", template)


def _give_template(llama: Any) -> None:
    """Let a model without a chat template read messages as plain text, as the others do."""
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    if "tokenizer.chat_template" not in llama.metadata:
        end = llama.detokenize([llama.token_eos()], special=True).decode()
        formatter = Jinja2ChatFormatter(_WITHOUT_TEMPLATE, eos_token=end, bos_token="")
        llama.chat_handler = formatter.to_chat_handler()


def _llama(task: Assignment) -> Any:
    from llama_cpp import Llama

    return Llama(
        task.weights,
        n_ctx=task.context,
        n_threads=CORES,
        n_gpu_layers=_ALL,
        verbose=False,
        seed=task.seed,
    )


def _options(task: Assignment, llama: Any) -> dict[str, Any]:
    """The model's own distribution, as this project draws from it; texts do not end early."""
    rows = isinstance(WORKS[task.work], RowWork)
    return {
        "max_tokens": task.tokens,
        "temperature": 1.0 if rows else TEXT_TEMPERATURE,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "repeat_penalty": 1.0,
        "logit_bias": None if rows else {str(llama.token_eos()): -100},
    }


def _json_schema(work: Any) -> str:
    return json.dumps(work.schema.model_json_schema())


def _named(package: str) -> str:
    return f"{package} {version(package)}"


def run(task: Assignment) -> Figures:
    """Do the work and count what is right.

    Example: `run(Assignment.read(sys.stdin.read()))`
    """
    with CONTENDERS[task.contender](task) as ready:
        start = time.perf_counter()
        made = ready.make()
        seconds = time.perf_counter() - start
        held = ready.peak()
    work = WORKS[task.work]
    valid = sum(work.is_valid(row.text, number) for number, row in enumerate(made))
    tokens = sum(row.tokens for row in made) / max(1, len(made))
    return Figures(ready.label, len(made), valid, seconds, tokens, held)


def main() -> None:
    """Read the assignment, print the figures, or why there are none."""
    try:
        result: Figures | Missing = run(Assignment.read(sys.stdin.read()))
    except (ImportError, FileNotFoundError) as error:
        result = Missing(str(error))
    print(json.dumps(asdict(result)))


if __name__ == "__main__":
    main()
