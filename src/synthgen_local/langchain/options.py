"""Names of options: those that are settings, under any name in use, and those that are refused.

Knows names and values, not models. No option is ignored: each is taken or is an error, unless its
value asks for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

from langchain_core.runnables.config import CONFIG_KEYS

from ..errors import UsageError

ALIASES = {
    "model_name": "model",
    "model_path": "model",
    "max_completion_tokens": "max_tokens",
    "max_output_tokens": "max_tokens",
    "max_new_tokens": "max_tokens",
    "n_predict": "max_tokens",
    "num_predict": "max_tokens",
    "stop_sequences": "stop",
    "n_threads": "threads",
    "num_thread": "threads",
}
"""Other libraries' names of settings."""

_DRAW = "Tokens are drawn from the model's own distribution: only temperature changes it."
_MANY = "Give batch() the prompt as often as you want answers."
_LOCAL = "Nothing is sent over a network: leave it out."
_OWN_NAME = "Give each option by its own name."
_SCHEMA = "Use with_structured_output, or response_format."
_TOOLS = "Use bind_tools."
_CONTEXT = "The context is as long as the model's: leave it out."

_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "top_p": ((1,), _DRAW),
    "top_k": ((0, -1), _DRAW),
    "min_p": ((0,), _DRAW),
    "typical_p": ((1,), _DRAW),
    "tfs_z": ((1,), _DRAW),
    "mirostat": ((0,), _DRAW),
    "frequency_penalty": ((0,), _DRAW),
    "presence_penalty": ((0,), _DRAW),
    "repeat_penalty": ((1,), _DRAW),
    "repetition_penalty": ((1,), _DRAW),
    "logit_bias": (({},), _DRAW),
    "n": ((1,), _MANY),
    "best_of": ((1,), _MANY),
    "logprobs": ((False,), "Tokens' probabilities are not reported."),
    "top_logprobs": ((0,), "Tokens' probabilities are not reported."),
    "api_key": ((), _LOCAL),
    "base_url": ((), _LOCAL),
    "timeout": ((), _LOCAL),
    "request_timeout": ((), _LOCAL),
    "max_retries": ((), _LOCAL),
    "user": ((), _LOCAL),
    "stream_usage": ((True, False), ""),  # streams report their tokens
    "model_kwargs": (({},), _OWN_NAME),
    "extra_body": (({},), _OWN_NAME),
    "grammar": (("",), _SCHEMA),
    "format": (("",), _SCHEMA),
    "functions": (([],), _TOOLS),
    "function_call": ((), _TOOLS),
    "n_ctx": ((0,), _CONTEXT),
    "num_ctx": ((), _CONTEXT),
}
"""Options of other libraries: values that ask for nothing, and what to do instead."""


def settle(given: Mapping[str, Any], known: Collection[str], *, of: str) -> dict[str, Any]:
    """Return options under the names of `known` ones, without those that ask for nothing.

    `of` is what they were given to. Raises UsageError that names what is not taken, or what is
    given twice with different values.

    Example: `settle({"max_new_tokens": 3}, ["max_tokens"], of="ChatLocal") == {"max_tokens": 3}`
    """
    taken: dict[str, Any] = {}
    refused: list[str] = []
    for name, value in given.items():
        meant = name if name in known else ALIASES.get(name, name)
        if meant not in known:
            if not _asks_for_nothing(name, value):
                refused.append(name)
        elif meant in taken and taken[meant] != value:
            raise UsageError(
                f"{of} was given {meant} twice, with different values.", hint="Give it once."
            )
        elif value is not None:
            taken[meant] = value
    if refused:
        raise UsageError(f"{of} does not take {', '.join(refused)}.", hint=_hint(refused[0], known))
    return taken


def check_config(config: Mapping[str, Any] | None, more: Mapping[str, Any], *, of: str) -> None:
    """Raise UsageError for a key that no config has: LangChain would drop it.

    Example: `check_config({"tags": ["a"]}, {"run_name": "b"}, of="ChatLocal")`
    """
    if unknown := sorted({*(config or ()), *more} - {*CONFIG_KEYS}):
        raise UsageError(
            f"A config of {of} has no {', '.join(unknown)}.",
            hint="Options of the model are given to bind() or to the call.",
        )


def _asks_for_nothing(name: str, value: Any) -> bool:
    if name not in _REFUSED:
        return False
    return value is None or any(
        value == neutral and isinstance(value, bool) == isinstance(neutral, bool)
        for neutral in _REFUSED[name][0]
    )


def _hint(name: str, known: Collection[str]) -> str:
    if name in _REFUSED:
        return _REFUSED[name][1]
    names = [*known, *(alias for alias, meant in ALIASES.items() if meant in known)]
    if near := get_close_matches(name, names, n=1, cutoff=0.7):
        return f"Did you mean {near[0]}?"
    return f"It takes {', '.join(sorted(known))}." if known else "Leave it out."
