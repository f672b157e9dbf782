"""LangChain's synthetic-data generators and chains, by their names, over this package's own.

Knows call shapes; rows, texts and records come from `tabular.py`, `text.py` and `extract.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from langchain_core.output_parsers import BaseOutputParser
from langchain_core.prompts import BasePromptTemplate
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor
from pydantic import BaseModel

from ..dataset import ROUNDS, schema_of
from ..dataset import DatasetGenerator as _DatasetGenerator
from ..errors import PromptError, UsageError
from ..extract import Extractor
from ..local_model import LocalModel
from ..schema import RowSchema
from ..tabular import TabularGenerator
from ..text import TEMPERATURE, TextGenerator
from .models import LocalSettings
from .prompts import few_shot_prompt

Llm: TypeAlias = LocalSettings | LocalModel


class SyntheticDataGenerator:
    """Rows of a schema from a template of LangChain's.

    `results` holds the rows of all calls so far. Made by `create_data_generator`.
    """

    def __init__(
        self,
        template: BasePromptTemplate[Any] | str,
        llm: Llm,
        schema: RowSchema,
        output_parser: BaseOutputParser[Any] | None = None,
    ) -> None:
        self.template = template
        self.llm = llm
        self.results: list[Any] = []
        self._schema = schema
        self._parser = output_parser
        self._calls = 0

    def generate(
        self, subject: str, runs: int, extra: str = "", *, seed: int | None = None, **variables: Any
    ) -> list[Any]:
        """Return `runs` new instances in row order.

        `extra` and other `variables` fill the template. Each call draws other rows than the
        one before it, the same in the next program; with `seed`, the same at every call.

        Example: `generator.generate(subject="medical_billing", extra="", runs=10)`
        """
        seed = self._seed(seed)
        return self._taken(
            self._generator(subject, extra, variables).generate(runs=runs, seed=seed)
        )

    async def agenerate(
        self, subject: str, runs: int, extra: str = "", *, seed: int | None = None, **variables: Any
    ) -> list[Any]:
        """Do as `generate` does, in a thread of its own; cancelling it stops the run."""
        seed = self._seed(seed)
        generator = await asyncio.to_thread(self._generator, subject, extra, variables)
        return self._taken(await generator.agenerate(runs=runs, seed=seed))

    def _seed(self, chosen: int | None) -> int:
        seed = _settings(self.llm).seed + self._calls if chosen is None else chosen
        self._calls += 1
        return seed

    def _taken(self, rows: Sequence[Any]) -> list[Any]:
        parser = self._parser
        taken = [row if parser is None else parser.parse(self._text(row)) for row in rows]
        self.results += taken
        return taken

    def _generator(
        self, subject: str, extra: str, variables: Mapping[str, Any]
    ) -> TabularGenerator:
        settings = _settings(self.llm)
        prompt = few_shot_prompt(self.template, {"subject": subject, "extra": extra, **variables})
        return TabularGenerator(
            self._schema,
            settings.local,
            prompt=prompt,
            temperature=settings.temperature,
            batch=settings.batch_size,
        )

    def _text(self, row: Any) -> str:
        from ..schema.grammar import write_value

        return write_value(self._schema.dump(row))


def create_data_generator(
    output_schema: type[BaseModel] | dict[str, Any],
    llm: Llm,
    prompt: BasePromptTemplate[Any] | str,
    output_parser: BaseOutputParser[Any] | None = None,
) -> SyntheticDataGenerator:
    """Return a generator of rows of `output_schema`.

    `prompt` is a FewShotPromptTemplate or a PromptTemplate; a sentence that names a variable
    without a value is left out. Raises SchemaError for a schema that cannot be used, UsageError
    for a model that does not run here.

    Example: `create_data_generator(output_schema=MedicalBilling, llm=ChatLocal(), prompt=prompt)`
    """
    _settings(llm)
    return SyntheticDataGenerator(prompt, llm, RowSchema.of(output_schema), output_parser)


create_openai_data_generator = create_data_generator


class _Chain(Runnable[Any, dict[str, Any]]):
    """A chain that answers all of its inputs together."""

    def __call__(self, inputs: Any) -> dict[str, Any]:
        """Do as `invoke` does."""
        return self.invoke(inputs)

    def invoke(
        self,
        input: Any,  # noqa: A002 LangChain's name
        config: RunnableConfig | None = None,
        **_: Any,
    ) -> dict[str, Any]:
        """Answer one input."""
        return self._call_with_config(self._answer, input, config)

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **_: Any,
    ) -> list[dict[str, Any]]:
        """Answer inputs in their order, decoded together."""
        return self._batch_with_config(
            self._answers, inputs, config, return_exceptions=return_exceptions
        )

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **_: Any,
    ) -> list[dict[str, Any]]:
        """Do as `batch` does, in a thread of its own."""
        return await run_in_executor(
            None, self.batch, inputs, config, return_exceptions=return_exceptions
        )

    def _answer(self, item: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self._answers([item])[0]
        return answer

    def _answers(self, inputs: list[Any]) -> list[Any]:
        raise NotImplementedError


class TextChain(_Chain):
    """Texts about fields: `{"fields", "preferences"}` in, the same and "text" out.

    Example: `TextChain(llm)({"fields": ["blue", "yellow"], "preferences": {}})["text"]`
    """

    input_keys = ("fields", "preferences")
    output_keys = ("text",)

    def __init__(self, llm: Llm) -> None:
        settings = _settings(llm)
        self._seed = settings.seed
        self._generator = TextGenerator(
            settings.local, temperature=settings.temperature, batch=settings.batch_size
        )

    def _answers(self, inputs: list[Any]) -> list[Any]:
        """Write a text for each input; those with equal preferences together."""
        groups: dict[str, list[int]] = {}
        for index, item in enumerate(inputs):
            if "fields" not in item:
                raise PromptError("The input has no 'fields'.", hint="Give fields and preferences.")
            groups.setdefault(repr(item.get("preferences")), []).append(index)
        texts: dict[int, str] = {}
        for members in groups.values():
            preferences = inputs[members[0]].get("preferences")
            fields = [inputs[index]["fields"] for index in members]
            written = self._generator.texts(fields, preferences, seed=self._seed)
            texts |= {index: t.text for index, t in zip(members, written, strict=True)}
        return [
            {"fields": item["fields"], "preferences": None, **item, "text": texts[index]}
            for index, item in enumerate(inputs)
        ]


def create_data_generation_chain(llm: Llm) -> TextChain:
    """Return a chain from fields and preferences to a text that mentions every value.

    Example: `create_data_generation_chain(ChatLocal())({"fields": ["blue"], "preferences": {}})`
    """
    return TextChain(llm)


class DatasetGenerator:
    """One text for each set of fields, all with the same preferences.

    Where all sets have the same fields, of text, numbers or lists of text, each text is read
    back and, up to `rounds` times, written anew until it says its fields in their order;
    `rounds` of 1 writes each text once.

    Example: `DatasetGenerator(ChatLocal(), {"style": "informal"})([{"actor": "Tom Hanks"}])`
    """

    def __init__(
        self,
        llm: Llm,
        sentence_preferences: Mapping[str, Any] | None = None,
        *,
        rounds: int = ROUNDS,
    ) -> None:
        self.generator = create_data_generation_chain(llm)
        self.sentence_preferences = dict(sentence_preferences or {})
        self._settings = _settings(llm)
        self._rounds = rounds

    def __call__(self, fields_collection: Sequence[Any]) -> list[dict[str, Any]]:
        """Return `{"fields", "preferences", "text"}` for each, in order."""
        settings, inputs = self._settings, list(fields_collection)
        dataset = _DatasetGenerator(
            settings.local,
            self.sentence_preferences,
            verify=schema_of(inputs) if self._rounds > 1 else None,
            rounds=self._rounds,
            ordered=True,
            temperature=settings.temperature,
            batch=settings.batch_size,
        )
        return [
            {key: item[key] for key in ("fields", "preferences", "text")}
            for item in dataset(inputs, seed=settings.seed)
        ]


class ExtractionChain(_Chain):
    """Records of a schema out of text: `{"input": text}` in, the same and "text" out."""

    input_keys = ("input",)
    output_keys = ("text",)

    def __init__(self, schema: type[BaseModel] | dict[str, Any], llm: Llm) -> None:
        settings = _settings(llm)
        self._seed = settings.seed
        self._extractor = Extractor(schema, settings.local, batch=settings.batch_size)

    def run(self, text: str) -> list[Any]:
        """Return the instances that a text holds.

        Example: `create_extraction_chain_pydantic(Actor, llm).run("Tom Hanks in Big")`
        """
        records: list[Any] = self.invoke(text)["text"]
        return records

    def _answers(self, inputs: list[Any]) -> list[Any]:
        texts = [item if isinstance(item, str) else item["input"] for item in inputs]
        found = self._extractor(texts, seed=self._seed)
        return [
            {"input": text, "text": list(records)}
            for text, records in zip(texts, found, strict=True)
        ]


def create_extraction_chain_pydantic(
    pydantic_schema: type[BaseModel] | dict[str, Any], llm: Llm
) -> ExtractionChain:
    """Return a chain from a text to the instances in it, with strings taken from the text.

    Example: `create_extraction_chain_pydantic(pydantic_schema=Actor, llm=llm).run(text)`
    """
    return ExtractionChain(pydantic_schema, llm)


def _settings(llm: Any) -> LocalSettings:
    if isinstance(llm, LocalSettings):
        return llm
    if isinstance(llm, LocalModel):
        return LocalSettings(local_model=llm, temperature=TEMPERATURE)
    raise UsageError(
        f"{type(llm).__name__} does not run on this engine.",
        hint="Use ChatLocal or LocalLLM of synthgen_local.langchain.",
    )
