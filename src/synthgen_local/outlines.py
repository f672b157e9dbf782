"""outlines' kind of model, answered by this package's engine.

Knows outlines' inputs and output types, not how a grammar is written or a row decoded.
What outlines lets its back ends do is done by this package's own compiler and decoder.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from functools import partial
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from outlines.inputs import Chat as ChatInput
from outlines.models import VLLMOffline
from outlines.models.base import ModelTypeAdapter
from outlines.types import CFG, Choice, JsonSchema
from outlines.types.dsl import Alternatives, Term, python_types_to_terms, to_regex
from outlines.types.utils import is_enum, is_genson_schema_builder

from .errors import DecodingError, SchemaError, UsageError
from .generators.chat import Chat
from .local_model import LocalModel
from .prompting.prompts import Message
from .schema import RowSchema, compile_within
from .schema.grammar.text_grammar import TextGrammar

_ROLES = ("system", "user", "assistant")
_OPTIONS = {
    "temperature": "a number from 0",
    "max_tokens": "a whole number from 1",
    "stop": "a string or a list of strings",
    "seed": "a whole number from 0",
    "batch": "a whole number from 1",
}
_UNQUOTED: tuple[type, ...] = (date, datetime, time)  # as outlines writes them


class LocalTypeAdapter(ModelTypeAdapter):  # type: ignore[misc]
    """Inputs as messages, output types as grammars whose longest row takes `room` tokens.

    Example: `LocalTypeAdapter(1024).format_output_type(int).parse("7") == 7`
    """

    def __init__(self, room: int) -> None:
        self._room = room
        self._latest: tuple[Any, TextGrammar | None] = (None, None)

    def format_input(self, model_input: Any) -> list[Message]:
        """Return the messages of a prompt or of outlines' Chat.

        Raises UsageError for anything but text.

        Example: `adapter.format_input("Hello") == [Message("user", "Hello")]`
        """
        if isinstance(model_input, str):
            return [Message("user", model_input)]
        if not isinstance(model_input, ChatInput):
            raise UsageError(
                f"A local model reads no {type(model_input).__name__}.",
                hint="Give it a string or an outlines.inputs.Chat.",
            )
        return [_message(message) for message in model_input.messages]

    def format_output_type(self, output_type: Any = None) -> TextGrammar | None:
        """Return the grammar of an output type, None for free text.

        Raises SchemaError for a type that cannot be honoured.

        Example: `adapter.format_output_type(Literal["yes", "no"]).longest == 3`
        """
        if output_type is None:
            return None
        if self._latest[0] is not output_type:  # a generator asks for the same type again and again
            self._latest = (output_type, self._grammar(output_type))
        return self._latest[1]

    def _grammar(self, kind: Any) -> TextGrammar:
        if isinstance(kind, Term):
            return self._of_term(kind)
        origin = get_origin(kind)
        if origin in (Union, UnionType):
            return TextGrammar.of_any([self._grammar(option) for option in get_args(kind)])
        if origin is Literal:
            return TextGrammar.of_any([self._grammar(value) for value in get_args(kind)])
        if kind is None or kind is type(None):
            return TextGrammar.of_literal("None")
        if kind is bool:
            return TextGrammar.of_any([self._grammar(True), self._grammar(False)])
        if isinstance(kind, str | bool | int | float):
            return TextGrammar.of_literal(str(kind))
        if is_enum(kind) or is_genson_schema_builder(kind) or _is_function(kind):
            return self._of_term(_term(kind))
        return self._of_rows(kind)

    def _of_term(self, term: Term) -> TextGrammar:
        match term:
            case CFG():
                return TextGrammar.of_lark(term.definition)
            case JsonSchema():
                return self._of_rows(term)
            case Choice():
                return TextGrammar.of_any([self._grammar(item) for item in term.items])
            case Alternatives():
                return TextGrammar.of_any([self._grammar(option) for option in term.terms])
        try:
            return TextGrammar.of_pattern(to_regex(term))
        except TypeError as error:
            raise SchemaError(
                f"outlines' {type(term).__name__} holds what no regular expression says: {error}",
                hint="Let a CFG stand alone, or be one of several alternatives.",
            ) from error

    def _of_rows(self, kind: Any) -> TextGrammar:
        grammar = compile_within(RowSchema.of(kind), self._room)
        bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
        if isinstance(bare, type) and issubclass(bare, _UNQUOTED):
            return TextGrammar.of_unquoted(grammar)
        return TextGrammar.of_rows(grammar)


class OutlinesLocal(VLLMOffline):  # type: ignore[misc]
    """A model of outlines' that runs here; prompts of a batch share every forward pass.

    `outlines.Generator` knows models by their class alone, so this one descends from the one
    whose place it takes: a local engine that constrains by itself. Nothing of it is used.

    A call takes `temperature`, `max_tokens`, `stop`, `seed` and `batch` (how many are decoded
    together) where they differ from these; any other option is a UsageError. Equal prompts get
    equal answers until the call gives another `seed`. `max_tokens` limits free text and
    context-free grammars; all other types are bounded by their grammar.

    Example: `outlines.Generator(OutlinesLocal(local_model), int)("How many legs has a spider?")`
    """

    def __init__(
        self,
        model: LocalModel,
        *,
        temperature: float = 0.7,
        max_tokens: int = 256,
        seed: int = 0,
        batch: int | None = None,
    ) -> None:
        _check_options({"temperature": temperature, "max_tokens": max_tokens, "seed": seed})
        _check_options({} if batch is None else {"batch": batch})
        self.model = model
        self.type_adapter = LocalTypeAdapter(model.engine.context_length // 2)
        self._chat = Chat(model, temperature=temperature, max_tokens=max_tokens, batch=batch)
        self._seed = seed

    def generate(self, model_input: Any, output_type: Any = None, **inference_kwargs: Any) -> str:
        """Return one answer; see `generate_batch`.

        Example: `model.generate("Name a colour.", Literal["red", "blue"], seed=3)`
        """
        return self.generate_batch([model_input], output_type, **inference_kwargs)[0]

    def generate_batch(
        self, model_input: Sequence[Any], output_type: Any = None, **inference_kwargs: Any
    ) -> list[str]:
        """Return an answer to each prompt, in their order, decoded together.

        Raises SchemaError for a type that cannot be honoured, UsageError for an option or an
        input that makes no sense, DecodingError for a prompt that does not fit the context, or
        whose answers were refused again and again by the type's own checks.

        Example: `model.generate_batch(["Rome?", "Oslo?"], Literal["Italy", "Norway"])`
        """
        grammar = self.type_adapter.format_output_type(output_type)
        chat, seed = self._set(grammar, inference_kwargs)
        conversations = [self.type_adapter.format_input(one) for one in model_input]
        answers = chat.generate(conversations, seed=seed)
        for number, answer in enumerate(answers, 1):
            _check(grammar, answer.text, f"Prompt {number}")
        return [answer.text for answer in answers]

    def generate_stream(
        self, model_input: Any, output_type: Any = None, **inference_kwargs: Any
    ) -> Iterator[str]:
        """Yield an answer in pieces, as they are written.

        What a type's own checks refuse cannot be taken back: the last piece is then followed by a
        DecodingError. Raises what `generate_batch` raises.

        Example: `for piece in model.generate_stream("Tell me a story."): print(piece, end="")`
        """
        grammar = self.type_adapter.format_output_type(output_type)
        chat, seed = self._set(grammar, inference_kwargs)
        messages = self.type_adapter.format_input(model_input)
        return _checked(chat.stream(messages, seed=seed), grammar)

    def _set(self, grammar: TextGrammar | None, options: dict[str, Any]) -> tuple[Chat, int]:
        """How to answer, and the seed."""
        if unknown := options.keys() - set(_OPTIONS):
            raise UsageError(
                f"A local model does not take {', '.join(sorted(unknown))}.",
                hint=f"It takes {', '.join(_OPTIONS)}.",
            )
        if options.get("stop") and grammar is not None:
            raise UsageError(
                "An output type ends by itself.", hint="Leave out `stop`, or the output type."
            )
        chosen = {name: value for name, value in options.items() if value is not None}
        if isinstance(stop := chosen.get("stop"), str):
            chosen["stop"] = [stop]
        _check_options(chosen)
        seed = chosen.pop("seed", self._seed)
        return replace(self._chat, grammar=grammar, **chosen), seed


def from_local(
    model: LocalModel,
    *,
    temperature: float = 0.7,
    max_tokens: int = 256,
    seed: int = 0,
    batch: int | None = None,
) -> OutlinesLocal:
    """Return a loaded model as one of outlines', for `outlines.Generator`.

    Raises UsageError for a temperature or a number of tokens that makes no sense.

    Example: `outlines.Generator(from_local(LocalModel.load()), int)("How old is the moon?")`
    """
    return OutlinesLocal(
        model, temperature=temperature, max_tokens=max_tokens, seed=seed, batch=batch
    )


def _checked(pieces: Iterator[str], grammar: TextGrammar | None) -> Iterator[str]:
    written = ""
    for piece in pieces:
        written += piece
        yield piece
    _check(grammar, written, "The stream")


def _check(grammar: TextGrammar | None, text: str, whose: str) -> None:
    try:
        if grammar is not None:
            grammar.parse(text)
    except ValueError as error:
        raise DecodingError(
            f"{whose} has no valid answer: {error}.",
            hint="Take another seed, allow more max_tokens, or loosen the type.",
        ) from error


def _check_options(options: dict[str, Any]) -> None:
    """Raise UsageError that names an option with a value of another kind, or one too small."""
    for name, value in options.items():
        if name == "stop":
            right = isinstance(value, Sequence) and all(isinstance(stop, str) for stop in value)
        elif name == "temperature":
            right = isinstance(value, int | float) and not isinstance(value, bool)
        else:
            least = 0 if name == "seed" else 1
            right = isinstance(value, int) and not isinstance(value, bool) and value >= least
        if not right:
            raise UsageError(f"{name} cannot be {value!r}.", hint=f"It is {_OPTIONS[name]}.")


def _message(message: dict[str, Any]) -> Message:
    if strange := sorted(key for key in message.keys() - {"role", "content"} if message[key]):
        raise UsageError(
            f"A local model reads no {', '.join(strange)} of a message.",
            hint="A message has a role and content.",
        )
    role, content = message.get("role"), message.get("content")
    if role not in _ROLES or not isinstance(content, str):
        raise UsageError(
            f"A local model reads no {type(content).__name__} of the role {role}.",
            hint=f"Use text of {', '.join(_ROLES)}.",
        )
    return Message(role, content)


def _is_function(kind: Any) -> bool:
    """Whether a call of it is to be written: its arguments as JSON."""
    return inspect.isroutine(kind) or isinstance(kind, partial)


def _term(kind: Any) -> Term:
    try:
        return python_types_to_terms(kind)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"outlines cannot read {kind!r}: {error}", hint="Change it.") from error
