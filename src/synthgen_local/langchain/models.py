"""LangChain's two kinds of language model, answered by this package's engine.

Knows LangChain's callbacks and caches; what a call asks for is in `replies.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from typing import Any

from langchain_core.caches import BaseCache
from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.exceptions import OutputParserException
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.llms import BaseLLM
from langchain_core.load import dumps
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import (
    ChatGeneration,
    ChatGenerationChunk,
    ChatResult,
    Generation,
    LLMResult,
)
from langchain_core.runnables import Runnable, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import get_config_list, run_in_executor
from langchain_core.tools import BaseTool

from ..errors import UsageError
from ..prompting.prompts import Message
from .options import check_config
from .replies import Request, read_options
from .settings import LocalSettings
from .structured import Structure, check_method
from .tools import check_tools, chosen, openai_tool

_READY: ContextVar[AIMessage | Exception | None] = ContextVar("_READY", default=None)
"""The answer to the call in progress, where a batch was decoded before."""


class ChatLocal(LocalSettings, BaseChatModel):
    """A chat model of LangChain's that runs here.

    Every setting may also be given to a call, as in `invoke(question, temperature=0)`, or by
    `bind`; an option that is none is an error. Without a `seed`, equal prompts get other answers
    at every call, and `response_metadata["seed"]` repeats one; with a `seed`, or at temperature 0,
    equal prompts get equal answers. docs/langchain.md has all that is supported.

    Example: `ChatLocal(temperature=1).invoke("Name a colour.").content`
    """

    streaming: bool = False

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        ready = _READY.get()
        if isinstance(ready, Exception):
            raise ready
        if ready is None:
            ready = Request.of(self, stop, kwargs).replies([messages])[0]
        return ChatResult(generations=[ChatGeneration(message=ready)])

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        ready = _READY.get()
        if isinstance(ready, Exception):
            raise ready
        if ready is None:
            chunks = Request.of(self, stop, kwargs).stream(messages)
        else:
            chunks = iter([AIMessageChunk(**ready.model_dump(exclude={"type"}))])
        for message in chunks:
            chunk = ChatGenerationChunk(message=message)
            if run_manager:
                run_manager.on_llm_new_token(str(message.text), chunk=chunk)
            yield chunk

    def batch(
        self,
        inputs: list[LanguageModelInput],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        stop: list[str] | None = None,
        **kwargs: Any,
    ) -> list[AIMessage]:
        """Answer all inputs together: their rows share every forward pass."""
        if not inputs:
            return []
        configs = get_config_list(config, len(inputs))
        ready = self._decoded(inputs, stop, kwargs, configs[0].get("max_concurrency"))
        failed = [index for index, item in ready.items() if isinstance(item, Exception)]
        order = failed[:1] if failed and not return_exceptions else range(len(inputs))
        answers: list[Any] = []
        for index in order:
            token = _READY.set(ready.get(index))
            try:
                answers.append(self.invoke(inputs[index], configs[index], stop=stop, **kwargs))
            except Exception as error:
                if not return_exceptions:
                    raise
                answers.append(error)
            finally:
                _READY.reset(token)
        return answers

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

    def bind(self, **kwargs: Any) -> Any:
        """Return this model with options for all of its calls; what is none is an error.

        Example: `ChatLocal().bind(temperature=0, stop=["."]).invoke("Name a colour.")`
        """
        self.called(read_options(self, kwargs)[1], None)
        return super().bind(**kwargs)

    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return this model with a config for all of its calls; a key that is none is an error.

        Example: `ChatLocal().with_config(tags=["colours"]).invoke("Name a colour.")`
        """
        check_config(config, kwargs, of="ChatLocal")
        return super().with_config(config, **kwargs)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: Any = None,
        strict: bool | None = None,  # noqa: ARG002 arguments always follow their schema
        parallel_tool_calls: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return a model that may call tools, with arguments that follow their schemas.

        `tool_choice` "auto", None or False leaves it to the model to call or to answer in words;
        "any", "required" or True make it call one, a tool's name (or OpenAI's dict of it) this one,
        and "none" none. With `parallel_tool_calls` an answer may have up to four calls. Other
        options are those of a call.

        Raises UsageError for what is no tool, choice or option.

        Example: `ChatLocal().bind_tools([add], tool_choice="any").invoke("What is 2 + 3?")`
        """
        made = [openai_tool(tool) for tool in tools]
        names = check_tools(made, tool_choice)
        choice: dict[str, Any] = {"tool_choice": chosen(tool_choice, names)} if names else {}
        if parallel_tool_calls is not None:
            choice |= {"parallel_tool_calls": parallel_tool_calls}
        return self.bind(tools=made, **choice, **kwargs)  # type: ignore[no-any-return]

    def with_structured_output(
        self,
        schema: Any,
        *,
        include_raw: bool = False,
        method: str | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a model whose answers are instances of `schema`, by construction.

        `schema` is any type that pydantic validates (a model, a dataclass, a TypedDict, an Enum,
        a Literal, `list[int]`), a JSON Schema, an OpenAI function or tool, or a list such as
        "name, age int"; None, with the method "json_mode", is any object. `method` and `strict`
        make no difference: every answer is decoded under the schema. Other options are those of a
        call. An answer that a validator of the schema refuses is an OutputParserException, or,
        with `include_raw`, its "parsing_error".

        Example: `ChatLocal().with_structured_output(Joke).invoke("Tell me one about cats.")`
        """
        check_method(method)
        if "tools" in kwargs:
            raise UsageError("with_structured_output does not take tools.", hint="Use bind_tools.")
        if schema is None and method != "json_mode":
            raise UsageError("A structured answer needs a schema.", hint="Give it a type.")
        structure = Structure({"type": "object"} if schema is None else schema)

        def parse(message: AIMessage) -> Any:
            parsed, refusal = None, None
            try:
                parsed = structure.parse(str(message.text))
            except ValueError as error:
                refusal = OutputParserException(str(error), llm_output=str(message.text))
            if include_raw:
                return {"raw": message, "parsed": parsed, "parsing_error": refusal}
            if refusal is not None:
                raise refusal
            return parsed

        traced = {"kwargs": {"method": method, "strict": strict}, "schema": structure.traced}
        answer = self.bind(response_format=structure, ls_structured_output_format=traced, **kwargs)
        return answer | RunnableLambda(parse)  # type: ignore[no-any-return]

    def _decoded(
        self,
        inputs: Sequence[LanguageModelInput],
        stop: list[str] | None,
        options: dict[str, Any],
        together: int | None,
    ) -> dict[int, AIMessage | Exception]:
        """The answers to the inputs by their index, without those that are in LangChain's cache."""
        conversations = [self._convert_input(item).to_messages() for item in inputs]
        wanted = [
            index
            for index, messages in enumerate(conversations)
            if not self._is_cached(messages, stop, options)
        ]
        try:
            request = Request.of(self, stop, options, together=together)
            found = request.outcomes([conversations[index] for index in wanted])
        except Exception as error:  # each call reports it to its own callbacks
            return dict.fromkeys(wanted, error)
        return dict(zip(wanted, found, strict=True))

    def _is_cached(
        self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]
    ) -> bool:
        cache = self.cache if isinstance(self.cache, BaseCache) else get_llm_cache()
        if self.cache is False or cache is None:
            return False
        tracing = ("ls_structured_output_format", "structured_output_format")
        asked = {key: value for key, value in options.items() if key not in tracing}
        prompt = dumps([message.model_copy(update={"id": None}) for message in messages])
        return cache.lookup(prompt, self._get_llm_string(stop=stop, **asked)) is not None


class LocalLLM(LocalSettings, BaseLLM):
    """A text-in, text-out model of LangChain's that runs here; many prompts at once.

    Settings, seeds and options of a call are those of ChatLocal; it has no tools.

    Example: `LocalLLM().invoke("Name a colour.")`
    """

    def _generate(
        self,
        prompts: list[str],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> LLMResult:
        settings = self.called(kwargs, stop)
        answers = settings.answers([[Message("user", prompt)] for prompt in prompts])
        return LLMResult(
            generations=[
                [
                    Generation(
                        text=answer.text,
                        generation_info={"finish_reason": answer.finish, "seed": settings.seed},
                    )
                ]
                for answer in answers
            ]
        )

    def bind(self, **kwargs: Any) -> Any:
        """Return this model with options for all of its calls; what is none is an error.

        Example: `LocalLLM().bind(temperature=0).invoke("Name a colour.")`
        """
        self.called(kwargs, None)
        return super().bind(**kwargs)

    def with_config(self, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Return this model with a config for all of its calls; a key that is none is an error.

        Example: `LocalLLM().with_config(tags=["colours"]).invoke("Name a colour.")`
        """
        check_config(config, kwargs, of="LocalLLM")
        return super().with_config(config, **kwargs)


def create_structured_output_runnable(
    output_schema: Any, llm: ChatLocal, prompt: Any = None, **options: Any
) -> Runnable[Any, Any]:
    """Return a runnable whose answers are instances of `output_schema`.

    With a `prompt` its input are the prompt's variables. `options` are those of
    `ChatLocal.with_structured_output`.

    Example: `create_structured_output_runnable(Joke, ChatLocal()).invoke("One about cats.")`
    """
    answer = llm.with_structured_output(output_schema, **options)
    return answer if prompt is None else prompt | answer
