"""Tools that a model may call: their grammar, what a prompt says of them, and calls read back.

Knows tools and grammars, not messages or settings. The arguments of a call are decoded under the
tool's schema.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

from langchain_core.messages import ToolCall
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel

from ..errors import SchemaError, UsageError
from ..prompting.descriptions import describe
from ..prompting.skeleton import outline
from ..schema import RowGrammar, RowSchema, compile_within
from ..schema.grammar.json_text import write_value
from ..schema.grammar.text_grammar import TextGrammar
from ..schema.repeated_items import once, without_repeats
from .messages import CALL, call_text

AnyTool: TypeAlias = Mapping[str, Any] | type | Callable[..., Any] | BaseTool

MOST_CALLS = 4
"""Calls that one answer may have with `parallel_tool_calls`."""

_WORDS = {"auto": "auto", "any": "required", "required": "required", "none": "none"}
_PLAIN = {"type", "properties", "required", "title", "description", "$defs", "definitions"}


def openai_tool(tool: AnyTool) -> dict[str, Any]:
    """Return a tool in OpenAI's form, with a schema that keeps all that its types say.

    A tool is a pydantic model, a TypedDict, a function, a BaseTool, or a dict in the form of
    OpenAI or Anthropic, or a JSON Schema with a title. Raises UsageError for anything else.

    Example: `openai_tool(add)["function"]["name"] == "add"`
    """
    try:
        made = convert_to_openai_tool(tool)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        name = getattr(tool, "__name__", type(tool).__name__)
        raise UsageError(
            f"{name} is no tool: {str(error).splitlines()[0] if str(error) else 'unknown form'}",
            hint="Give a pydantic model, a function, a BaseTool or a dict in OpenAI's form.",
        ) from error
    function = made.get("function")
    if made.get("type") != "function" or not isinstance(function, dict) or not function.get("name"):
        raise UsageError(
            f"A local model has no tool of the type {made.get('type')}.",
            hint='Give {"type": "function", "function": {"name": ..., "parameters": ...}}.',
        )
    model = tool.tool_call_schema if isinstance(tool, BaseTool) else tool
    if isinstance(model, type) and issubclass(model, BaseModel):  # LangChain's drops bounds
        function = {**function, "parameters": RowSchema.of(model).json_schema}
    return {"type": "function", "function": function}


def chosen(choice: Any, names: Sequence[str]) -> str:
    """Return what `tool_choice` says: "auto", "required", "none", or the name of a tool.

    Raises UsageError for what is none of these.

    Example: `chosen(True, ["add"]) == "required"`
    """
    if isinstance(choice, dict):
        function = choice.get("function")
        named = function.get("name") if isinstance(function, dict) else choice.get("name")
        choice = named or choice.get("type")
    if choice is None or isinstance(choice, bool):
        return "required" if choice else "auto"
    if choice in names:
        return str(choice)
    if isinstance(choice, str) and choice in _WORDS:
        return _WORDS[choice]
    raise UsageError(
        f"tool_choice cannot be {choice!r}.",
        hint=f"It is auto, any, required, none or a tool's name: {', '.join(names) or 'none'}.",
    )


@dataclass(frozen=True)
class _Tool:
    """One tool and the grammar of its arguments."""

    name: str
    description: str
    arguments: RowGrammar
    room: int  # bytes for what the fields mean

    @property
    def lark(self) -> str:
        """The grammar of a whole call."""
        head, _, _ = call_text(self.name, 0).rpartition("0}")
        start = f"start: {json.dumps(head, ensure_ascii=False)} arguments {json.dumps('}')}\n"
        return f"{start}arguments: %lark {{\n{self.arguments.lark}\n}}\n"

    @property
    def longest(self) -> int:
        """A bound in bytes of a whole call."""
        return len(call_text(self.name, {}).encode()) + self.arguments.longest

    @property
    def prompt(self) -> str:
        """What a prompt says of it."""
        form = write_value(outline(self.arguments.ir))
        described = describe(self.arguments.schema.json_schema, self.arguments.ir, self.room)
        fields = "".join(f"\n  - {path}: {text}" for path, text in described)
        about = f": {' '.join(self.description.split())}" if self.description else ""
        return f"- {self.name}{about} Arguments: {form}{fields}"


@dataclass(frozen=True)
class Tools:
    """What may be called, and whether an answer has to.

    `choice` is "auto", "required" or the name of a tool; `room` is how many tokens a call may take.

    Example: `Tools.of([add], "any", parallel=False, room=1024).grammar`
    """

    tools: tuple[_Tool, ...]
    choice: str
    parallel: bool

    @classmethod
    def of(
        cls, tools: Sequence[AnyTool], choice: Any, *, parallel: bool, room: int
    ) -> Tools | None:
        """Return the tools of a call; None if there are none to be called.

        Raises UsageError for what is no tool and for a choice where there are none, SchemaError
        for arguments that cannot be honoured.

        Example: `Tools.of([], None, parallel=False, room=1024) is None`
        """
        made = [openai_tool(tool) for tool in tools]
        names = check_tools(made, choice)
        word = chosen(choice, names)
        if not made or word == "none":
            return None
        if word in names:
            made = [tool for tool in made if tool["function"]["name"] == word]
        return _compiled(json.dumps(made), word, parallel, room)

    @cached_property
    def grammar(self) -> TextGrammar:
        """The grammar of an answer that is a call, or several as a list."""
        calls = [TextGrammar(tool.lark, tool.longest, self.parse) for tool in self.tools]
        one = TextGrammar.of_any(calls)
        if not self.parallel:
            return TextGrammar(one.lark, one.longest, self.parse, self.tidy)
        more = f'("," call){{0,{MOST_CALLS - 1}}}'
        lark = f'start: "[" call {more} "]"\ncall: %lark {{\n{one.lark}\n}}\n'
        longest = None if one.longest is None else (one.longest + 1) * MOST_CALLS + 2
        return TextGrammar(lark, longest, self.parse, self.tidy)

    @cached_property
    def prompt(self) -> str:
        """What the system says of them."""
        listed = "\n".join(tool.prompt for tool in self.tools)
        form = call_text("...", {})
        if self.parallel:
            form = f"[{form}]"
        if self.choice == "auto":
            return (
                f"You may call these tools:\n{listed}\n"
                f"To call, write {CALL}{form}</tool_call>. Otherwise answer in words."
            )
        return f"Call these tools:\n{listed}\nAnswer as JSON: {form}"

    def parse(self, text: str) -> list[dict[str, Any]]:
        """Return the name and the arguments of each call in an answer.

        Raises ValueError for what is no call, or one whose arguments its tool refuses.

        Example: `tools.parse('{"name":"add","arguments":{"a":1}}')[0]["name"] == "add"`
        """
        said = json.loads(text)
        calls: list[dict[str, Any]] = []
        for call in said if isinstance(said, list) else [said]:
            if not isinstance(call, dict):
                raise ValueError("it is no call")
            arguments = call.get("arguments", call.get("parameters"))
            self._check(call.get("name"), arguments)
            calls.append({"name": call["name"], "args": arguments})
        if len(calls) > 1 and not self.parallel:
            raise ValueError("it has several calls")
        return calls

    def tidy(self, text: str) -> str:
        """Return an answer without what lists of its arguments repeat.

        Raises ValueError as `parse` does.

        Example: `tools.tidy('{"name":"add","arguments":{"a":1}}')`
        """
        shapes = {tool.name: tool.arguments.ir for tool in self.tools}
        said = self.parse(text)
        kept = [
            {**call, "args": without_repeats(call["args"], shapes[call["name"]], once)}
            for call in said
        ]
        if kept == said:
            return text
        calls = [call_text(call["name"], call["args"]) for call in kept]
        written = f"[{','.join(calls)}]" if self.parallel else calls[0]
        try:
            self.parse(written)
        except ValueError:  # what only a check of all items says
            return text
        return written

    def _check(self, name: Any, arguments: Any) -> None:
        """Raise ValueError if no tool of this name takes the arguments."""
        refusal = ValueError("it names no tool")
        for tool in self.tools:
            if tool.name == name:
                try:
                    tool.arguments.schema.parse(json.dumps(arguments))
                except ValueError as error:
                    refusal = error
                else:
                    return
        raise refusal

    def calls(self, text: str, about: str) -> list[ToolCall]:
        """Return the calls in an answer, none if it is a text.

        A call's id hangs on its answer and on `about`, which tells conversations apart.

        Example: `tools.calls("Good morning.", "1") == []`
        """
        try:
            parsed = self.parse(text)
        except (ValueError, RecursionError):
            return []
        made: list[ToolCall] = []
        for number, call in enumerate(parsed):
            key = hashlib.blake2b(f"{number} {text} {about}".encode(), digest_size=12)
            named = ToolCall(name=call["name"], args=call["args"], id=f"call_{key.hexdigest()}")
            made.append({**named, "type": "tool_call"})
        return made


def check_tools(tools: Sequence[Mapping[str, Any]], choice: Any) -> list[str]:
    """Return the names of tools in OpenAI's form.

    Raises UsageError for a choice where there are no tools.

    Example: `check_tools([openai_tool(add)], "any") == ["add"]`
    """
    names = [str(tool["function"]["name"]) for tool in tools]
    if chosen(choice, names) not in ("auto", "none") and not names:
        raise UsageError("tool_choice asks for a tool and there is none.", hint="Give it tools.")
    return names


@lru_cache(maxsize=64)
def _compiled(tools: str, choice: str, parallel: bool, room: int) -> Tools:
    """Compiling takes longer than a short call: conversations ask for the same tools."""
    return Tools(
        tuple(_tool(tool["function"], room) for tool in json.loads(tools)), choice, parallel
    )


def _tool(function: Mapping[str, Any], room: int) -> _Tool:
    name = str(function["name"])
    parameters = dict(function.get("parameters") or {})
    if parameters.keys() <= _PLAIN:
        parameters = {"properties": {}, **parameters, "type": "object"}
        parameters["additionalProperties"] = False
    try:
        arguments = compile_within(RowSchema.of({**parameters, "title": name}), room)
    except SchemaError as error:
        raise SchemaError(f"The tool {name}: {error}", hint=error.hint) from error
    return _Tool(name, str(function.get("description") or ""), arguments, 2 * room)
