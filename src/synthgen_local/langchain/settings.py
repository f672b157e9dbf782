"""What both kinds of LangChain's models take, and how they answer.

Knows settings and prompts of this package, not LangChain's messages.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..errors import UsageError
from ..generators.chat import Answer, Chat
from ..generators.extract import Extractor
from ..local_model import LocalModel, Weights
from ..prompting.output_parser import schema_in
from ..prompting.prompts import Message
from ..schema import RowGrammar, RowSchema, compile_within
from ..schema.grammar.json_text import write_value
from ..schema.grammar.text_grammar import TextGrammar
from .options import settle


@dataclass(frozen=True)
class Instructions:
    """What format instructions ask for, and the rest of the prompt, which it is to be about."""

    json_schema: dict[str, Any]
    passage: str
    grounded: bool

    @property
    def key(self) -> str:
        """Equal for what is decoded under one grammar."""
        return f"{self.grounded} {json.dumps(self.json_schema)}"


class LocalSettings(BaseModel):
    """What both kinds of model take; an option with another name is an error.

    `model` is a name of the catalog (the default model if empty), a .gguf file,
    `user/repo:QUANT` or `random`; `local_model` is one that is loaded already. Without a `seed`
    each call draws another answer, and reports the seed that it took; with one, the same prompt
    gets the same answer at every call. A prompt that carries format instructions with a JSON
    Schema is answered by an instance of it; if it asks to extract, or with `grounded`, its strings
    are taken word for word from the prompt.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    model: str = ""
    temperature: float = Field(default=0.7, ge=0, allow_inf_nan=False)
    max_tokens: int = Field(default=256, ge=1)
    stop: list[Annotated[str, Field(min_length=1)]] | None = None
    seed: int | None = Field(default=None, ge=0)
    grounded: bool | None = None
    batch_size: int | None = Field(default=None, ge=1)
    threads: int | None = Field(default=None, ge=1)
    gpu_layers: int | None = None
    weights: Weights = "fast"
    local_model: LocalModel | None = Field(default=None, exclude=True, repr=False)

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        """Refuse what is no setting: pydantic would ignore it."""
        return (
            settle(given, cls.model_fields, of=cls.__name__) if isinstance(given, dict) else given
        )

    @field_validator("stop", mode="before")
    @classmethod
    def _stops(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    @property
    def _llm_type(self) -> str:
        return "synthgen-local"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        """All that an answer depends on: LangChain's cache tells models apart by it."""
        params = {name: getattr(self, name) for name in LocalSettings.model_fields}
        loaded = params.pop("local_model")
        return params if loaded is None else {**params, "model": loaded.name}

    @property
    def local(self) -> LocalModel:
        """The weights; instances with equal settings share them."""
        if self.local_model is not None:
            return self.local_model
        return _load(self.model, self.gpu_layers, self.threads, self.weights)

    def called(self, options: Mapping[str, Any], stop: Sequence[str] | str | None) -> LocalSettings:
        """Return the settings of one call: these, changed by its options, and with a seed.

        `stop` is added to the stops of these. Raises UsageError for an option that is no setting
        or has an impossible value.

        Example: `settings.called({"temperature": 0}, stop=None).temperature == 0`
        """
        changes = settle(options, LocalSettings.model_fields, of=type(self).__name__)
        if "model" in changes:
            changes = {"local_model": None, **changes}
        own = {name: getattr(self, name) for name in LocalSettings.model_fields}
        try:
            made = LocalSettings.model_validate({**own, **changes})
            stops = LocalSettings(stop=stop).stop  # type: ignore[arg-type] # read as they are
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(map(str, first["loc"]))
            raise UsageError(f"{where}: {first['msg']}.", hint="Give it another value.") from None
        return made.model_copy(
            update={"stop": [*(made.stop or ()), *(stops or ())], "seed": made.seed_of_call()}
        )

    def seed_of_call(self) -> int:
        """Return the seed, or a random one if there is none.

        Example: `ChatLocal(seed=3).seed_of_call() == 3`
        """
        return secrets.randbits(31) if self.seed is None else self.seed

    def chat(self, grammar: RowGrammar | TextGrammar | None = None) -> Chat:
        """How these settings answer, freely or by a grammar."""
        return Chat(
            self.local,
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            stop=self.stop or (),
            grammar=grammar,
            batch=self.batch_size,
        )

    def rows(self, schema: RowSchema) -> RowGrammar:
        """Return the grammar of a schema's records, which leave a quarter of the context free."""
        return compile_within(schema, self.local.engine.context_length * 3 // 4)

    def answers(self, conversations: Sequence[Sequence[Message]]) -> list[Answer]:
        """Answer conversations together, in their order; `seed` must be set."""
        seed = self.seed_of_call()
        asked = [instructions(messages, self.grounded) for messages in conversations]
        groups: dict[str, list[int]] = {}
        for index, form in enumerate(asked):
            groups.setdefault("" if form is None else form.key, []).append(index)
        found: dict[int, Answer] = {}
        for members in groups.values():
            alike = [conversations[index] for index in members]
            forms = [form for index in members if (form := asked[index])]
            if forms:
                answers = self._instances(alike, forms, seed)
            else:
                answers = self.chat().generate(alike, seed=seed)
            found |= zip(members, answers, strict=True)
        return [found[index] for index in range(len(conversations))]

    def _instances(
        self,
        conversations: Sequence[Sequence[Message]],
        forms: Sequence[Instructions],
        seed: int,
    ) -> list[Answer]:
        """Instances of the schema that all these prompts' format instructions hold."""
        schema = RowSchema.of(forms[0].json_schema)
        if not forms[0].grounded:
            return self.chat(self.rows(schema)).generate(conversations, seed=seed)
        extractor = Extractor(schema, self.local, least=1, most=1, batch=self.batch_size)
        found = extractor([form.passage for form in forms], seed=seed)
        texts = [write_value(records[0]) for records in found]
        tokenize = self.local.engine.tokenize
        return [
            Answer(text, "stop", len(tokenize(messages[-1].content)), len(tokenize(text)))
            for messages, text in zip(conversations, texts, strict=True)
        ]


@cache
def _load(name: str, gpu_layers: int | None, threads: int | None, weights: Weights) -> LocalModel:
    return LocalModel.load(name, gpu_layers=gpu_layers, threads=threads, weights=weights)


def instructions(messages: Sequence[Message], grounded: bool | None = None) -> Instructions | None:
    """Read the format instructions of the last message, or of the system's.

    Example: `instructions([Message("user", "Hello")]) is None`
    """
    for message in reversed(messages):
        last = message is messages[-1]
        if (last or message.role == "system") and (found := schema_in(message.content)):
            schema, rest = found
            passage = rest if last else messages[-1].content
            if grounded is None:
                grounded = "extract" in f"{rest}\n{passage}".lower()
            return Instructions(schema, passage, grounded)
    return None
