"""LangChain's chains by their names: texts about fields, records out of texts.

Knows call shapes; texts and records come from `text.py` and `extract.py`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from langchain_core.callbacks import Callbacks
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor
from pydantic import BaseModel

from ..errors import PromptError, SynthgenError, UsageError
from ..generators.extract import Extractor
from ..generators.text import TextGenerator
from ..generators.verified_text import ROUNDS, schema_of
from ..generators.verified_text import DatasetGenerator as _DatasetGenerator
from ..schema import RowSchema
from .data_generators import Llm, settings_of
from .options import check_config, settle
from .settings import LocalSettings


class _Chain(Runnable[Any, dict[str, Any]]):
    """A chain that answers all of its inputs together.

    A call takes those of the model's settings that `options` names, and "return_only_outputs".
    """

    input_keys: ClassVar[tuple[str, ...]] = ()
    output_keys: ClassVar[tuple[str, ...]] = ("text",)
    options: ClassVar[tuple[str, ...]] = ("seed", "batch_size")

    def __init__(self, llm: Llm, *, tags: Sequence[str] | None = None) -> None:
        self._settings = settings_of(llm)
        self._tags = list(tags or ())

    def __call__(
        self,
        inputs: Any,
        return_only_outputs: bool = False,
        callbacks: Callbacks = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Do as `invoke` does, with callbacks, tags and metadata of the call."""
        config = _config(callbacks, tags, metadata, run_name)
        return self.invoke(inputs, config, return_only_outputs=return_only_outputs, **options)

    def run(
        self,
        *args: Any,
        callbacks: Callbacks = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **inputs: Any,
    ) -> Any:
        """Return what the chain makes of its input: one argument, or its keys by name.

        Example: `create_extraction_chain_pydantic(Actor, llm).run("Tom Hanks in Big")`
        """
        item = self._single(args, inputs)
        return self(item, callbacks=callbacks, tags=tags, metadata=metadata)[self.output_keys[0]]

    async def arun(
        self,
        *args: Any,
        callbacks: Callbacks = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **inputs: Any,
    ) -> Any:
        """Do as `run` does, in a thread of its own."""
        item = self._single(args, inputs)
        answer = await self.ainvoke(item, _config(callbacks, tags, metadata, None))
        return answer[self.output_keys[0]]

    def invoke(
        self,
        input: Any,  # noqa: A002 LangChain's name
        config: RunnableConfig | None = None,
        *,
        return_only_outputs: bool = False,
        **options: Any,
    ) -> dict[str, Any]:
        """Answer one input; an option that the chain does not take is an error."""
        settings = self._called(options)

        def answer(item: Any) -> dict[str, Any]:
            return self._shown(self._answers([item], settings)[0], only=return_only_outputs)

        return self._call_with_config(answer, input, self._tagged(config))

    def batch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Answer inputs in their order, decoded together."""
        return_only_outputs = bool(options.pop("return_only_outputs", False))
        settings = self._called(options)

        def answers(items: list[Any]) -> list[Any]:
            try:
                found: list[Any] = self._answers(items, settings)
            except SynthgenError as error:
                if not return_exceptions:
                    raise
                found = [error] if len(items) == 1 else [answers([item])[0] for item in items]
            return [
                item if isinstance(item, Exception) else self._shown(item, only=return_only_outputs)
                for item in found
            ]

        configs: Any = (
            [self._tagged(one) for one in config]
            if isinstance(config, list)
            else self._tagged(config)
        )
        return self._batch_with_config(
            answers, inputs, configs, return_exceptions=return_exceptions
        )

    async def abatch(
        self,
        inputs: list[Any],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **options: Any,
    ) -> list[dict[str, Any]]:
        """Do as `batch` does, in a thread of its own."""
        return await run_in_executor(
            None, self.batch, inputs, config, return_exceptions=return_exceptions, **options
        )

    def bind(self, **options: Any) -> Any:
        """Return this chain with options for all of its calls; what is none is an error."""
        self._called({k: v for k, v in options.items() if k != "return_only_outputs"})
        return super().bind(**options)

    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return this chain with a config for all of its calls; a key that is none is an error."""
        check_config(config, kwargs, of=type(self).__name__)
        return super().with_config(config, **kwargs)

    def _called(self, options: Mapping[str, Any]) -> LocalSettings:
        known = settle(options, self.options, of=type(self).__name__)
        return self._settings.called(known, None)

    def _single(self, args: Sequence[Any], inputs: Mapping[str, Any]) -> Any:
        if len(args) + bool(inputs) != 1:
            raise UsageError(
                "run takes one input, or its keys by name.",
                hint=f"This chain's keys: {', '.join(self.input_keys)}.",
            )
        if unknown := sorted(inputs.keys() - set(self.input_keys)):
            raise UsageError(
                f"{type(self).__name__} has no input {', '.join(unknown)}.",
                hint=f"Its keys: {', '.join(self.input_keys)}.",
            )
        return args[0] if args else dict(inputs)

    def _shown(self, answer: dict[str, Any], *, only: bool) -> dict[str, Any]:
        return {key: answer[key] for key in self.output_keys} if only else answer

    def _tagged(self, config: RunnableConfig | None) -> RunnableConfig | None:
        if not self._tags:
            return config
        given = config or {}
        return {**given, "tags": [*(given.get("tags") or ()), *self._tags]}

    def _answers(self, inputs: Sequence[Any], settings: LocalSettings) -> list[dict[str, Any]]:
        raise NotImplementedError


class TextChain(_Chain):
    """Texts about fields: `{"fields", "preferences"}` in, the same and "text" out.

    Example: `TextChain(llm)({"fields": ["blue", "yellow"], "preferences": {}})["text"]`
    """

    input_keys = ("fields", "preferences")
    options = ("seed", "batch_size", "temperature")

    def _answers(self, inputs: Sequence[Any], settings: LocalSettings) -> list[dict[str, Any]]:
        """Write a text for each input; those with equal preferences together."""
        groups: dict[str, list[int]] = {}
        for index, item in enumerate(inputs):
            if not isinstance(item, Mapping) or "fields" not in item:
                raise PromptError("The input has no 'fields'.", hint="Give fields and preferences.")
            groups.setdefault(repr(item.get("preferences")), []).append(index)
        generator = TextGenerator(
            settings.local, temperature=settings.temperature, batch=settings.batch_size
        )
        texts: dict[int, str] = {}
        for members in groups.values():
            preferences = inputs[members[0]].get("preferences")
            fields = [inputs[index]["fields"] for index in members]
            written = generator.stream(fields, preferences, seed=settings.seed_of_call())
            texts |= {index: t.text for index, t in zip(members, written, strict=True)}
        return [
            {"fields": item["fields"], "preferences": None, **item, "text": texts[index]}
            for index, item in enumerate(inputs)
        ]


def create_data_generation_chain(llm: Llm, prompt: Any = None) -> TextChain:
    """Return a chain from fields and preferences to a text that mentions every value.

    Raises UsageError for a `prompt`: what the text is to be like is said by preferences.

    Example: `create_data_generation_chain(ChatLocal())({"fields": ["blue"], "preferences": {}})`
    """
    _no_prompt(prompt, "Say what the texts are to be like in preferences.")
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
        self._settings = settings_of(llm)
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
            for item in dataset(inputs, seed=settings.seed_of_call())
        ]


class ExtractionChain(_Chain):
    """Records of a schema out of text: `{"input": text}` in, the same and "text" out.

    Reading is at temperature 0, whatever the model's is: the likeliest records are wanted.
    """

    input_keys = ("input",)
    options = ("seed", "batch_size", "grounded")

    def __init__(self, schema: Any, llm: Llm, *, tags: Sequence[str] | None = None) -> None:
        super().__init__(llm, tags=tags)
        self._schema, self._absent = _extracted(schema)
        self._extractor = lru_cache(maxsize=4)(self._made)
        self._of(self._settings)

    def _of(self, settings: LocalSettings) -> Extractor:
        grounded = settings.grounded is not False
        return self._extractor(grounded, settings.batch_size)

    def _made(self, grounded: bool, batch: int | None) -> Extractor:
        return Extractor(self._schema, self._settings.local, grounded=grounded, batch=batch)

    def _answers(self, inputs: Sequence[Any], settings: LocalSettings) -> list[dict[str, Any]]:
        texts = [_passage(item) for item in inputs]
        found = self._of(settings)(texts, seed=settings.seed_of_call())
        return [
            {"input": text, "text": [self._told(record) for record in records]}
            for text, records in zip(texts, found, strict=True)
        ]

    def _told(self, record: Any) -> Any:
        """A record without the properties that the text does not tell."""
        if not self._absent:
            return record
        return {k: v for k, v in record.items() if v is not None or k not in self._absent}


def create_extraction_chain(
    schema: Any,
    llm: Llm,
    prompt: Any = None,
    tags: Sequence[str] | None = None,
    verbose: bool = False,
) -> ExtractionChain:
    """Return a chain from a text to a list of dicts with the properties of a JSON Schema.

    A property that is not required and that the text does not tell is left out. Raises
    SchemaError for a schema that cannot be used, UsageError for a `prompt` or `verbose`.

    Example: `create_extraction_chain({"properties": {"name": {"type": "string"}}}, llm).run(text)`
    """
    _no_prompt(prompt, "Say what a property is in its description.")
    _not_verbose(verbose=verbose)
    return ExtractionChain(schema, llm, tags=tags)


def create_extraction_chain_pydantic(
    pydantic_schema: type[BaseModel] | dict[str, Any],
    llm: Llm,
    prompt: Any = None,
    verbose: bool = False,
) -> ExtractionChain:
    """Return a chain from a text to the instances in it, with strings taken from the text.

    Raises SchemaError for a schema that cannot be used, UsageError for a `prompt` or `verbose`.

    Example: `create_extraction_chain_pydantic(pydantic_schema=Actor, llm=llm).run(text)`
    """
    _no_prompt(prompt, "Say what a field is in its description.")
    _not_verbose(verbose=verbose)
    return ExtractionChain(pydantic_schema, llm)


def _config(
    callbacks: Callbacks,
    tags: list[str] | None,
    metadata: dict[str, Any] | None,
    run_name: str | None,
) -> RunnableConfig:
    config: RunnableConfig = {}
    if callbacks is not None:
        config["callbacks"] = callbacks
    if tags is not None:
        config["tags"] = tags
    if metadata is not None:
        config["metadata"] = metadata
    if run_name is not None:
        config["run_name"] = run_name
    return config


def _extracted(schema: Any) -> tuple[Any, frozenset[str]]:
    """A schema as it is read, and the properties that may be absent: those are null then."""
    if not isinstance(schema, Mapping) or not isinstance(schema.get("properties"), Mapping):
        return schema, frozenset()
    required = schema.get("required", ())
    absent = frozenset(name for name in schema["properties"] if name not in required)
    properties = {
        name: {"anyOf": [inner, {"type": "null"}]} if name in absent else inner
        for name, inner in schema["properties"].items()
    }
    whole = {**schema, "type": "object", "properties": properties, "required": [*properties]}
    return RowSchema.of(whole), absent


def _passage(item: Any) -> str:
    text = item.get("input") if isinstance(item, Mapping) else item
    if not isinstance(text, str):
        raise PromptError("The input is no text.", hint='Give a string, or {"input": text}.')
    return text


def _no_prompt(prompt: Any, hint: str) -> None:
    if prompt is not None:
        raise UsageError("This chain does not take a prompt: it has its own.", hint=hint)


def _not_verbose(*, verbose: bool) -> None:
    if verbose:
        raise UsageError(
            "This chain does not take verbose: it prints nothing.", hint="Use a callback."
        )
