"""LangChain's messages as a prompt's, calls of tools and their results among them.

Knows messages, not models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    BaseMessage,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)

from ..errors import UsageError
from ..prompting.prompts import Message
from ..schema.grammar.json_text import write_value

CALL = "<tool_call>"
"""How a model says that a call of a tool follows."""

_ROLES: tuple[tuple[type[BaseMessage], str], ...] = (
    (HumanMessage, "user"),
    (AIMessage, "assistant"),
    (SystemMessage, "system"),
)
_OTHER_ROLES = {"human": "user", "ai": "assistant", "developer": "system"}
_SILENT = ("tool_use", "tool_call", "function_call", "reasoning", "thinking", "redacted_thinking")
"""Blocks of a model's own message: calls are its `tool_calls`, and thoughts are not shown again."""


def read_messages(messages: Sequence[BaseMessage]) -> list[Message]:
    """Return the messages of a prompt; a call of a tool and its result are text in it.

    Raises UsageError for messages and parts of them that a local model cannot read.

    Example: `read_messages([HumanMessage("Hello")]) == [Message("user", "Hello")]`
    """
    names: dict[str | None, str] = {}
    read: list[Message] = []
    for message in messages:
        if isinstance(message, AIMessage):
            names |= {call["id"]: call["name"] for call in message.tool_calls}
            read.append(Message("assistant", _said(message)))
        elif isinstance(message, ToolMessage | FunctionMessage):
            result = _result(message, names)
            if read and read[-1].role == "user" and read[-1].content.endswith(_END):
                result = f"{read.pop().content}\n{result}"  # templates want roles to alternate
            read.append(Message("user", result))
        else:
            read.append(Message(_role(message), _text(message)))
    return read


_END = "</tool_response>"


def call_text(name: str, arguments: Any) -> str:
    """Return a call as a model writes it.

    Example: `call_text("add", {"a": 1}) == '{"name":"add","arguments":{"a":1}}'`
    """
    return write_value({"name": name, "arguments": arguments})


def _said(message: AIMessage) -> str:
    calls = [f"{CALL}{call_text(c['name'], c['args'])}</tool_call>" for c in message.tool_calls]
    return "\n".join(part for part in (_text(message), *calls) if part)


def _result(message: ToolMessage | FunctionMessage, names: dict[str | None, str]) -> str:
    name, failed = message.name or "", False
    if isinstance(message, ToolMessage):
        name = name or names.get(message.tool_call_id, "")
        failed = message.status == "error"
    whose = f"{name} failed".strip() if failed else name
    return f"<tool_response>\n{whose}{': ' if whose else ''}{_text(message)}\n{_END}"


def _role(message: BaseMessage) -> str:
    for kind, role in _ROLES:
        if isinstance(message, kind):
            return role
    if isinstance(message, ChatMessage):
        role = _OTHER_ROLES.get(message.role, message.role)
        if role in ("user", "assistant", "system"):
            return role
        raise UsageError(
            f"A local model reads no messages of the role {message.role}.",
            hint="Use user, assistant and system.",
        )
    raise UsageError(
        f"A local model reads no {message.type} messages.",
        hint="Use system, human, ai and tool messages.",
    )


def _text(message: BaseMessage) -> str:
    """The text of a message, which is refused if it holds anything else."""
    if isinstance(message.content, str):
        return message.content
    silent = _SILENT if isinstance(message, AIMessage) else ()
    for block in message.content:
        kind = "text" if isinstance(block, str) else block.get("type", "untyped")
        if kind != "text" and kind not in silent:
            raise UsageError(
                f"A local model reads text, and no {kind} block of a message.",
                hint="Say it in words.",
            )
    return str(message.text)
