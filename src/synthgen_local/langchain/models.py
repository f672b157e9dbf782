"""LangChain's two kinds of language model, answered by this package's engine.

Knows LangChain's messages and callbacks, not schemas' grammars or prompts of generators.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from langchain_core.callbacks import CallbackManager, CallbackManagerForLLMRun
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    LLMResult,
)
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import get_config_list, run_in_executor
from langchain_core.utils.function_calling import convert_to_json_schema
from pydantic import AliasChoices, BaseModel, ConfigDict, Field

from ..chat import Answer, Chat
from ..errors import UsageError
from ..extract import Extractor
from ..local_model import LocalModel, Weights
from ..parser import schema_in
from ..prompts import Message
from ..schema import RowSchema, compile_schema
from ..schema.grammar import write_value

_ROLES = {"human": "user", "ai": "assistant", "system": "system"}


@dataclass(frozen=True)
class _Form:
    """What format instructions ask for, and the rest of the prompt, which it is to be about."""

    json_schema: dict[str, Any]
    passage: str
    grounded: bool

    @property
    def key(self) -> str:
        """Equal for what is decoded under one grammar."""
        return f"{self.grounded} {json.dumps(self.json_schema)}"


class LocalSettings(BaseModel):
    """What both kinds of model take.

    `model` is a name of the catalog (the default model if empty), a .gguf file,
    `user/repo:QUANT` or `random`; `local_model` is one that is loaded already. The same `seed`
    gives the same answers. A prompt that carries format instructions with a JSON Schema is
    answered by an instance of it; if it asks to extract, or with `grounded`, its strings are
    taken word for word from the prompt.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str = Field(default="", validation_alias=AliasChoices("model", "model_name"))
    temperature: float = Field(default=0.7, ge=0)
    max_tokens: int = Field(default=256, ge=1)
    stop: list[str] | None = None
    seed: int = Field(default=0, ge=0)
    grounded: bool | None = None
    batch_size: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    gpu_layers: int | None = None
    weights: Weights = "fast"
    local_model: LocalModel | None = Field(default=None, exclude=True, repr=False)

    @property
    def _llm_type(self) -> str:
        return "synthgen-local"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model": self.model, "temperature": self.temperature, "seed": self.seed}

    @property
    def local(self) -> LocalModel:
        """The weights; instances with equal settings share them."""
        if self.local_model is not None:
            return self.local_model
        return _load(self.model, self.gpu_layers, self.threads, self.weights)

    def chat(self, stop: Sequence[str] | None = None, schema: RowSchema | None = None) -> Chat:
        """How these settings answer."""
        return Chat(
            self.local,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            stop=[*(self.stop or ()), *(stop or ())],
            grammar=None if schema is None else compile_schema(schema),
            batch=self.batch_size,
        )

    def answers(
        self,
        conversations: Sequence[Sequence[Message]],
        stop: Sequence[str] | None = None,
        schema: RowSchema | None = None,
    ) -> list[Answer]:
        """Answer conversations together, in their order."""
        if schema is not None:
            return self.chat(stop, schema).answers(conversations, seed=self.seed)
        forms = [_form(messages, self.grounded) for messages in conversations]
        groups: dict[str, list[int]] = {}
        for index, form in enumerate(forms):
            groups.setdefault("" if form is None else form.key, []).append(index)
        found: dict[int, Answer] = {}
        for members in groups.values():
            alike = [conversations[index] for index in members]
            asked = [form for index in members if (form := forms[index])]
            if asked:
                answers = self._instances(alike, asked)
            else:
                answers = self.chat(stop).answers(alike, seed=self.seed)
            found |= zip(members, answers, strict=True)
        return [found[index] for index in range(len(conversations))]

    def _instances(
        self, conversations: Sequence[Sequence[Message]], forms: Sequence[_Form]
    ) -> list[Answer]:
        """Instances of the schema that all these prompts' format instructions hold."""
        schema = RowSchema.of(forms[0].json_schema)
        if not forms[0].grounded:
            return self.chat(schema=schema).answers(conversations, seed=self.seed)
        extractor = Extractor(schema, self.local, least=1, most=1, batch=self.batch_size)
        found = extractor([form.passage for form in forms], seed=self.seed)
        texts = [write_value(records[0]) for records in found]
        tokenize = self.local.engine.tokenize
        return [
            Answer(text, "stop", len(tokenize(messages[-1].content)), len(tokenize(text)))
            for messages, text in zip(conversations, texts, strict=True)
        ]


class ChatLocal(LocalSettings, BaseChatModel):
    """A chat model of LangChain's that runs here.

    Example: `ChatLocal(temperature=1).invoke("Name a colour.").content`
    """

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        *,
        row_schema: RowSchema | None = None,
        **_: Any,
    ) -> ChatResult:
        answer = self.answers([_messages(messages)], stop, row_schema)[0]
        return ChatResult(generations=[ChatGeneration(message=self._message(answer))])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        *,
        row_schema: RowSchema | None = None,
        **_: Any,
    ) -> Iterator[ChatGenerationChunk]:
        conversation = _messages(messages)
        pieces: Iterator[str]
        if row_schema is None and _form(conversation):
            pieces = iter([self.answers([conversation], stop)[0].text])
        else:
            pieces = self.chat(stop, row_schema).stream(conversation, seed=self.seed)
        for piece in pieces:
            chunk = ChatGenerationChunk(message=AIMessageChunk(content=piece))
            if run_manager:
                run_manager.on_llm_new_token(piece, chunk=chunk)
            yield chunk

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        stop: list[str] | None = None,
        row_schema: RowSchema | None = None,
        **_: Any,
    ) -> list[AIMessage]:
        """Answer all inputs together: their rows share every forward pass."""
        if not inputs:
            return []
        conversations = [self._convert_input(item).to_messages() for item in inputs]
        runs = [
            CallbackManager.configure(
                one.get("callbacks"), self.callbacks, self.verbose, one.get("tags"), self.tags,
                one.get("metadata"), self.metadata,
            ).on_chat_model_start(
                self._serialized, [messages], one.get("run_id"), name=one.get("run_name")
            )[0]
            for one, messages in zip(
                get_config_list(config, len(inputs)), conversations, strict=True
            )
        ]  # fmt: skip
        try:
            answers = self.answers(list(map(_messages, conversations)), stop, row_schema)
        except Exception as error:
            for run in runs:
                run.on_llm_error(error, response=LLMResult(generations=[]))
            if return_exceptions:
                return [error] * len(inputs)  # type: ignore[list-item]
            raise
        messages = [self._message(answer) for answer in answers]
        for run, message in zip(runs, messages, strict=True):
            run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))
        return messages

    async def abatch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Do as `batch` does, in a thread of its own."""
        return await run_in_executor(
            None, self.batch, inputs, config, return_exceptions=return_exceptions, **kwargs
        )

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a model whose answers are instances of `schema`, by construction.

        `schema` is a pydantic model, a TypedDict, a JSON Schema or an OpenAI function.
        `method` and `strict` make no difference: every answer is decoded under the schema.
        An answer that a validator of the schema refuses is an OutputParserException, or, with
        `include_raw`, its "parsing_error".

        Example: `ChatLocal().with_structured_output(Joke).invoke("Tell me one about cats.")`
        """
        if unknown := kwargs.keys() - {"method", "strict"}:
            raise UsageError(
                f"with_structured_output does not take {', '.join(sorted(unknown))}.",
                hint="Give it a schema and include_raw.",
            )
        rows = _row_schema(schema)

        def parse(message: AIMessage) -> Any:
            parsed, refusal = None, None
            try:
                parsed = rows.parse(str(message.text))
            except ValueError as error:
                refusal = OutputParserException(str(error), llm_output=str(message.text))
            if include_raw:
                return {"raw": message, "parsed": parsed, "parsing_error": refusal}
            if refusal is not None:
                raise refusal
            return parsed

        return self.bind(row_schema=rows) | RunnableLambda(parse)

    def _message(self, answer: Answer) -> AIMessage:
        return AIMessage(
            content=answer.text,
            response_metadata={"finish_reason": answer.finish, "model_name": self.local.name},
            usage_metadata=UsageMetadata(
                input_tokens=answer.prompt_tokens,
                output_tokens=answer.tokens,
                total_tokens=answer.prompt_tokens + answer.tokens,
            ),
        )


class LocalLLM(LocalSettings, BaseLLM):
    """A text-in, text-out model of LangChain's that runs here; many prompts at once.

    Example: `LocalLLM().invoke("Name a colour.")`
    """

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **_: Any,
    ) -> LLMResult:
        answers = self.answers([[Message("user", prompt)] for prompt in prompts], stop)
        return LLMResult(
            generations=[
                [Generation(text=a.text, generation_info={"finish_reason": a.finish})]
                for a in answers
            ]
        )


@cache
def _load(name: str, gpu_layers: int | None, threads: int | None, weights: Weights) -> LocalModel:
    return LocalModel.load(name, gpu_layers=gpu_layers, threads=threads, weights=weights)


def _row_schema(schema: Any) -> RowSchema:
    if isinstance(schema, dict) and schema.keys() & {"properties", "$ref"}:
        return RowSchema.of(schema)  # a JSON Schema, which LangChain takes only with a title
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return RowSchema.of(schema)
    return RowSchema.of(convert_to_json_schema(schema))


def _form(messages: Sequence[Message], grounded: bool | None = None) -> _Form | None:
    """Read the format instructions of the last message, or of the system's."""
    for message in reversed(messages):
        last = message is messages[-1]
        if (last or message.role == "system") and (found := schema_in(message.content)):
            schema, rest = found
            passage = rest if last else messages[-1].content
            if grounded is None:
                grounded = "extract" in f"{rest}\n{passage}".lower()
            return _Form(schema, passage, grounded)
    return None


def _messages(messages: Sequence[BaseMessage]) -> list[Message]:
    for message in messages:
        if message.type not in _ROLES:
            raise UsageError(
                f"A local model reads no {message.type} messages.",
                hint="Use system, human and ai messages.",
            )
    return [Message(_ROLES[m.type], str(m.text)) for m in messages]
