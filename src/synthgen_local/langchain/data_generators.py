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
from pydantic import BaseModel

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
        if seed is None:
            seed = _settings(self.llm).seed + self._calls
        self._calls += 1
        rows = self._generator(subject, extra, variables).generate(runs=runs, seed=seed)
        if self._parser is not None:
            rows = [self._parser.parse(self._text(row)) for row in rows]
        self.results += rows
        return rows

    async def agenerate(
        self, subject: str, runs: int, extra: str = "", *, seed: int | None = None, **variables: Any
    ) -> list[Any]:
        """Do as `generate` does, in a thread of its own."""
        return await asyncio.to_thread(self.generate, subject, runs, extra, seed=seed, **variables)

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


class TextChain(Runnable[dict[str, Any], dict[str, Any]]):
    """Texts about fields: `{"fields", "preferences"}` in, the same and "text" out."""

    input_keys = ("fields", "preferences")
    output_keys = ("text",)

    def __init__(self, llm: Llm) -> None:
        settings = _settings(llm)
        self._seed = settings.seed
        self._generator = TextGenerator(
            settings.local, temperature=settings.temperature, batch=settings.batch_size
        )

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """Return one text.

        Example: `chain({"fields": ["blue", "yellow"], "preferences": {}})["text"]`
        """
        return self.invoke(inputs)

    def invoke(
        self,
        input: dict[str, Any],  # noqa: A002 LangChain's name
        config: RunnableConfig | None = None,  # noqa: ARG002
        **_: Any,
    ) -> dict[str, Any]:
        """Return one text."""
        return self.batch([input])[0]

    def batch(
        self,
        inputs: list[dict[str, Any]],
        config: RunnableConfig | list[RunnableConfig] | None = None,  # noqa: ARG002
        *,
        return_exceptions: bool = False,
        **_: Any,
    ) -> list[dict[str, Any]]:
        """Return a text for each input; those with equal preferences are written together."""
        groups: dict[str, list[int]] = {}
        for index, item in enumerate(inputs):
            if "fields" not in item:
                raise PromptError("The input has no 'fields'.", hint="Give fields and preferences.")
            groups.setdefault(repr(item.get("preferences")), []).append(index)
        outputs: dict[int, dict[str, Any]] = {}
        for members in groups.values():
            preferences = inputs[members[0]].get("preferences")
            fields = [inputs[index]["fields"] for index in members]
            try:
                for index, text in zip(
                    members,
                    self._generator.texts(fields, preferences, seed=self._seed),
                    strict=True,
                ):
                    outputs[index] = {**inputs[index], "text": text.text}
            except Exception as error:
                if not return_exceptions:
                    raise
                outputs |= dict.fromkeys(members, error)  # type: ignore[arg-type]
        return [outputs[index] for index in range(len(inputs))]


def create_data_generation_chain(llm: Llm) -> TextChain:
    """Return a chain from fields and preferences to a text that mentions every value.

    Example: `create_data_generation_chain(ChatLocal())({"fields": ["blue"], "preferences": {}})`
    """
    return TextChain(llm)


class DatasetGenerator:
    """One text for each set of fields, all with the same preferences.

    Example: `DatasetGenerator(ChatLocal(), {"style": "informal"})([{"actor": "Tom Hanks"}])`
    """

    def __init__(self, llm: Llm, sentence_preferences: Mapping[str, Any] | None = None) -> None:
        self.generator = create_data_generation_chain(llm)
        self.sentence_preferences = dict(sentence_preferences or {})

    def __call__(self, fields_collection: Sequence[Any]) -> list[dict[str, Any]]:
        """Return `{"fields", "preferences", "text"}` for each, in order."""
        return self.generator.batch([
            {"fields": fields, "preferences": self.sentence_preferences}
            for fields in fields_collection
        ])  # fmt: skip


class ExtractionChain(Runnable[Any, dict[str, Any]]):
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
        return self._extractor(text, seed=self._seed)

    def __call__(self, inputs: Any) -> dict[str, Any]:
        """Return the records of one text."""
        return self.invoke(inputs)

    def invoke(
        self,
        input: Any,  # noqa: A002 LangChain's name
        config: RunnableConfig | None = None,  # noqa: ARG002
        **_: Any,
    ) -> dict[str, Any]:
        """Return the records of one text under "text"."""
        return self.batch([input])[0]

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,  # noqa: ARG002
        *,
        return_exceptions: bool = False,
        **_: Any,
    ) -> list[dict[str, Any]]:
        """Return the records of each text; all are read together."""
        texts = [item if isinstance(item, str) else item["input"] for item in inputs]
        try:
            found = self._extractor(texts, seed=self._seed)
        except Exception as error:
            if return_exceptions:
                return [error] * len(inputs)  # type: ignore[list-item]
            raise
        return [
            {"input": text, "text": records} for text, records in zip(texts, found, strict=True)
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
