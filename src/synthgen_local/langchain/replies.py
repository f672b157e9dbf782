"""One call of a chat model: its settings, tools and format, and the messages that answer it.

Joins settings, tools and structures; knows nothing of callbacks.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ToolCall
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk

from ..errors import UsageError
from ..generators.chat import Answer, Chat
from ..prompting.prompts import Message
from ..schema.grammar.json_text import write_value
from .messages import CALL, read_messages
from .options import settle
from .settings import LocalSettings, instructions
from .structured import Structure
from .tools import Tools

_ASKED = ("tools", "tool_choice", "parallel_tool_calls", "strict", "response_format")
_TRACING = ("stream", "ls_structured_output_format", "structured_output_format")  # LangChain's own
_OPTIONS = (*LocalSettings.model_fields, *_ASKED)


@dataclass(frozen=True)
class Request:
    """What one call asks for, of one conversation or of several.

    Example: `Request.of(ChatLocal(), None, {"temperature": 0}).replies([[HumanMessage("Hi")]])`
    """

    settings: LocalSettings
    tools: Tools | None
    structure: Structure | None

    @classmethod
    def of(
        cls,
        settings: LocalSettings,
        stop: Sequence[str] | None,
        options: Mapping[str, Any],
        *,
        together: int | None = None,
    ) -> Request:
        """Read the options of a call; `together` limits how many rows are decoded at once.

        Raises UsageError for an option that is none, or for options that contradict each other. A
        stop of the settings is one of free text: under a schema it has no effect.
        """
        asked, own = read_options(settings, options)
        if together is not None:
            own["batch_size"] = min(
                together, own.get("batch_size", settings.batch_size or together)
            )
        called = settings.called(own, stop)
        structure = Structure.of_format(asked.get("response_format"))
        tools = None
        if "tools" in asked or "tool_choice" in asked:
            tools = Tools.of(
                asked.get("tools", ()),
                asked.get("tool_choice"),
                parallel=bool(asked.get("parallel_tool_calls")),
                room=called.local.engine.context_length // 2,
            )
        if tools is not None and structure is not None:
            raise UsageError(
                "A call has either tools or a response_format.", hint="Leave one of them out."
            )
        if stop and (structure is not None or (tools is not None and tools.choice != "auto")):
            raise UsageError(
                "An answer under a schema ends by itself: it takes no stop.", hint="Leave it out."
            )
        return cls(called, tools, structure)

    def replies(self, conversations: Sequence[Sequence[BaseMessage]]) -> list[AIMessage]:
        """Answer conversations together, in their order."""
        read = [self._prompt(messages) for messages in conversations]
        if self.tools is not None:
            return self._with_tools(read, self.tools)
        if self.structure is None:
            answers = self.settings.answers(read)
        else:
            answers = self._structured(self.structure).generate(read, seed=self._seed)
        return self._numbered([self._message(answer) for answer in answers])

    def outcomes(
        self, conversations: Sequence[Sequence[BaseMessage]]
    ) -> list[AIMessage | Exception]:
        """Answer conversations together; where that fails, each by itself, or with its error."""
        try:
            return list(self.replies(conversations))
        except Exception as error:
            if len(conversations) == 1:
                return [error]
            return [found for one in conversations for found in self.outcomes([one])]

    def stream(self, messages: Sequence[BaseMessage]) -> Iterator[AIMessageChunk]:
        """Yield an answer in pieces; the last has the metadata, and calls come whole."""
        prompt = self._prompt(messages)
        calling = self.tools is not None and self.tools.choice != "auto"
        if calling or (self.structure is None and instructions(prompt, self.settings.grounded)):
            yield from _pieces(self.replies([messages])[0])
            return
        if self.structure is not None:
            chat = self._structured(self.structure)
        else:
            chat = self._free() if self.tools is not None else self.settings.chat()
        written = ""
        pieces = chat.stream(prompt, seed=self._seed)
        while True:
            try:
                piece = next(pieces)
            except StopIteration as end:
                answer: Answer = end.value
                break
            written += piece
            yield AIMessageChunk(content=piece)
        if self.tools is not None:
            message = self._finished(answer, prompt, self.tools)
        else:
            message = self._message(answer)
        yield from _pieces(message, said=written)

    @property
    def _seed(self) -> int:
        return self.settings.seed_of_call()

    def _prompt(self, messages: Sequence[BaseMessage]) -> list[Message]:
        read = read_messages(messages)
        if self.tools is None:
            return read
        said = self.tools.prompt
        if read and read[0].role == "system":
            return [Message("system", f"{read[0].content}\n\n{said}"), *read[1:]]
        return [Message("system", said), *read]

    def _structured(self, structure: Structure) -> Chat:
        return self.settings.chat(self.settings.rows(structure.rows))

    def _free(self) -> Chat:
        """Words, up to a call."""
        chat = self.settings.chat()
        return replace(chat, stop=[*chat.stop, CALL])

    def _with_tools(self, prompts: Sequence[Sequence[Message]], tools: Tools) -> list[AIMessage]:
        if tools.choice != "auto":
            answers = self.settings.chat(tools.grammar).generate(prompts, seed=self._seed)
            made = [
                self._message(answer, tools.calls(answer.text, _about(prompt, self._seed)))
                for answer, prompt in zip(answers, prompts, strict=True)
            ]
            return self._numbered(made)
        answers = self._free().generate(prompts, seed=self._seed)
        return self._numbered([
            self._finished(answer, prompt, tools)
            for answer, prompt in zip(answers, prompts, strict=True)
        ])  # fmt: skip

    def _finished(self, answer: Answer, prompt: Sequence[Message], tools: Tools) -> AIMessage:
        """An answer in words; if it ended where a call begins, with the call."""
        about = _about(prompt, self._seed)
        if answer.stop != CALL:
            return self._message(answer, tools.calls(answer.text, about))
        call = self.settings.chat(tools.grammar).generate([prompt], seed=self._seed)[0]
        whole = replace(call, text=answer.text, tokens=answer.tokens + call.tokens)
        return self._message(whole, tools.calls(call.text, about), said=answer.text)

    def _numbered(self, messages: list[AIMessage]) -> list[AIMessage]:
        """Answers of one run are drawn row by row: it takes the row to repeat one."""
        if len(messages) > 1:
            for index, message in enumerate(messages):
                message.response_metadata["batch_index"] = index
        return messages

    def _message(
        self, answer: Answer, calls: Sequence[ToolCall] = (), *, said: str = ""
    ) -> AIMessage:
        return AIMessage(
            content=said if calls else answer.text,
            tool_calls=list(calls),
            response_metadata={
                "finish_reason": "tool_calls" if calls else answer.finish,
                "model_name": self.settings.local.name,
                "model_provider": "synthgen-local",
                "seed": self.settings.seed,
            },
            usage_metadata=UsageMetadata(
                input_tokens=answer.prompt_tokens,
                output_tokens=answer.tokens,
                total_tokens=answer.prompt_tokens + answer.tokens,
            ),
        )


def read_options(
    settings: LocalSettings, options: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the options of a call, and those of them that are settings.

    Raises UsageError for an option that is none.

    Example: `read_options(ChatLocal(), {"seed": 1})[1] == {"seed": 1}`
    """
    given = {name: value for name, value in options.items() if name not in _TRACING}
    asked = settle(given, _OPTIONS, of=type(settings).__name__)
    return asked, {name: value for name, value in asked.items() if name not in _ASKED}


def _about(prompt: Sequence[Message], seed: int) -> str:
    return f"{seed} {[(message.role, message.content) for message in prompt]}"


def _pieces(message: AIMessage, said: str = "") -> Generator[AIMessageChunk]:
    """What of an answer is not said yet: its words, each call's name and arguments, and the end."""
    if rest := str(message.text)[len(said) :]:
        yield AIMessageChunk(content=rest)
    for index, call in enumerate(message.tool_calls):
        written = write_value(call["args"])
        for chunk in (
            tool_call_chunk(name=call["name"], args="", id=call["id"], index=index),
            tool_call_chunk(args=written, index=index),
        ):
            yield AIMessageChunk(content="", tool_call_chunks=[chunk])
    yield AIMessageChunk(
        content="",
        response_metadata=message.response_metadata,
        usage_metadata=message.usage_metadata,
        chunk_position="last",
    )
