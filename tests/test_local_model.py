"""A loaded model: what it refuses once it is closed, and in a process that was forked."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from synthgen_local import Extractor, LocalModel, TabularGenerator, TextGenerator
from synthgen_local.engine.backends.protocol import ContextSize
from synthgen_local.errors import DecodingError, ModelError
from synthgen_local.generators.chat import Chat
from synthgen_local.prompting.prompts import Message

USES: dict[str, Callable[[dict[str, Any]], object]] = {
    "generate": lambda made: made["rows"].generate(),
    "stream": lambda made: list(made["rows"].stream()),
    "a stream that had not begun": lambda made: list(made["idle"]),
    "a stream that had begun": lambda made: list(made["begun"]),
    "another generator": lambda made: TabularGenerator("name", made["model"]),
    "a text": lambda made: made["texts"]({"city": "Lima"}),
    "records": lambda made: made["records"]("Amara Obi"),
    "an answer": lambda made: made["chat"].generate([[Message("user", "Hello")]]),
    "tokens": lambda made: made["engine"].tokenize("text"),
    "a tokenizer": lambda made: made["engine"].tokenizer.tokenize_str("text"),
    "a context": lambda made: made["engine"].open_context(ContextSize(1, 64, 1)),
    "tables of the vocabulary": lambda made: made["model"].vocabulary,
}


@pytest.fixture(scope="module", params=["random", "smollm2-135m-instruct"])
def closed(request: pytest.FixtureRequest, weights: Path) -> dict[str, Any]:
    """What was made of a model while it was open."""
    with LocalModel.load(request.param, threads=1) as model:
        rows = TabularGenerator("name", model)
        made = {
            "model": model,
            "engine": model.engine,
            "rows": rows,
            "idle": rows.stream("", 3),
            "begun": rows.stream("", 300),
            "texts": TextGenerator(model),
            "records": Extractor("name", model),
            "chat": Chat(model),
        }
        next(made["begun"])
    model.close()
    return made


@pytest.mark.model
@pytest.mark.parametrize("use", USES)
def test_a_closed_model_is_an_error(closed: dict[str, Any], use: str) -> None:
    """Whatever uses a model after its `with` block raises DecodingError; closing twice is fine."""
    if closed["model"].name == "random" and use in {"tokens", "a tokenizer", "a context"}:
        assert USES[use](closed) is not None  # there are no weights to free
        return
    with pytest.raises(DecodingError, match="closed"):
        USES[use](closed)


@pytest.mark.model
@pytest.mark.parametrize("reuse", [True, False], ids=["the same model", "another model"])
def test_weights_are_not_used_across_a_fork(reuse: bool) -> None:
    """A forked process is refused at once, where OpenMP would wait for threads that it lost."""
    with LocalModel.load("smollm2-135m-instruct", threads=2) as model:
        TabularGenerator("name", model).generate()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                used = model if reuse else LocalModel.load("smollm2-135m-instruct")
                TabularGenerator("name", used).generate()
            except (DecodingError, ModelError) as error:
                code = 0 if "fork" in str(error) and "spawn" in error.hint else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
