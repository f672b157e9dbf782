"""Texts about fields: every value word for word, the length kept, all texts decoded together.

Joins fields, preferences, prompts and the decoder. Knows nothing of schemas; `dataset.py`
reads texts back.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

from ..data.frames import records_of, without_missing
from ..engine.constraints.mentions import MentionConstraint
from ..engine.constraints.text_length import Length, MentionedValue, most_tokens
from ..engine.constraints.text_rules import ends_sentence, places
from ..engine.requests import (
    Accepted,
    Completion,
    GenerationRequest,
    Rejected,
    Row,
    SequenceInit,
    made_values,
)
from ..errors import DecodingError, PromptError, UsageError
from ..local_model import LocalModel, ShardSelection, check_sampling_options
from ..prompting.length_limits import Preferences, check_room, limits, read_preferences
from ..prompting.prompts import Prompt, few_shot, share
from ..rejection import Rejection
from .async_generation import collect_in_thread
from .spans import Leaf, Span, json_fields, leaves, shown, spans

Mentions: TypeAlias = Literal["exact", "free"]

TEMPERATURE = 0.7
"""What texts are drawn at: a small model keeps to its subject better than at 1."""

_TASK = (
    "Write a text about the given fields. Make it fluent, detailed and interesting. "
    "Mention every value exactly as it is given."
)
_USUAL = 0.3  # tokens a character: more than most English texts take
_ATTEMPTS = 1  # a text is right by construction; see _check


@dataclass(frozen=True)
class _Shot:
    fields: Any
    preferences: Mapping[str, Any]
    text: str


_SHOTS = (
    _Shot(
        {"city": "Lisbon", "dishes": ["bacalhau", "caldo verde"]},
        {},
        "Anyone who visits Lisbon soon learns to love its kitchen, from salty bacalhau to a warm "
        "bowl of caldo verde.",
    ),
    _Shot(
        {
            "Band": "The Paper Kites",
            "Song": ["Bloom", "Arms", "Featherstone", "Paint", "Willow Tree March"],
        },
        {"style": "casual"},
        'If you have never listened to The Paper Kites, start with "Bloom", because everybody '
        'falls for that one first. After that, "Arms" and "Featherstone" are great for a slow '
        'Sunday morning. "Paint" is what I put on when I cannot sleep, and "Willow Tree March" '
        "still gives me goosebumps after all these years.",
    ),
)


@dataclass(frozen=True)
class Text:
    """A text and every mention of its fields' values in it, in the fields' order."""

    fields: Any
    preferences: Mapping[str, Any] | None
    text: str
    spans: Sequence[Span]

    def as_dict(self) -> dict[str, Any]:
        """The text as JSON values: fields, preferences, text, spans."""
        return {
            "fields": self.fields,
            "preferences": self.preferences,
            "text": self.text,
            "spans": [asdict(span) for span in self.spans],
        }


@dataclass(frozen=True)
class _Plan:
    """What is known of a text before it is written."""

    fields: Any
    leaves: Sequence[Leaf]
    entries: Sequence[MentionedValue]
    length: Length


class TextGenerator:
    """Writes texts about fields with a local model.

    `mentions` of "exact" puts every value of the fields into the text word for word, whatever
    the model would say; "free" only asks for it. `temperature` 1 is the model's own
    distribution. `batch` is the number of texts written together; None lets the machine decide.

    Example: `TextGenerator(model)(fields={"actor": "Tom Hanks"}, preferences={"min_length": 80})`
    """

    def __init__(
        self,
        model: LocalModel,
        *,
        mentions: Mentions = "exact",
        temperature: float = TEMPERATURE,
        batch: int | None = None,
    ) -> None:
        check_sampling_options(temperature, batch, of="texts")
        if mentions not in ("exact", "free"):
            raise UsageError(f"Mentions cannot be {mentions!r}.", hint="They are exact or free.")
        self._model = model
        self._mentions = mentions
        self._temperature = temperature
        self._batch = batch

    def __call__(
        self, fields: Any, preferences: Mapping[str, Any] | None = None, *, seed: int = 0
    ) -> dict[str, Any]:
        """Return `{"fields", "preferences", "text", "spans"}` for one set of fields.

        `fields` is a list or a dict, as deep as JSON; spans are dicts of path, value, start
        and end (in characters), one for each mention of a value. `preferences` may name a length
        (see `read_preferences`); whatever else they say goes into the prompt.

        Raises PromptError for fields that no text can hold within that length, UsageError
        for a length that contradicts itself. The same seed gives the same text.

        Example: `generator({"actor": "Tom Hanks"}, {"style": "gossip"})["text"]`
        """
        with closing(self.stream([fields], preferences, seed=seed)) as texts:
            return next(texts).as_dict()

    def generate(
        self,
        inputs: Iterable[Any],
        preferences: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
    ) -> list[Text]:
        """Return a text for each of `inputs`, in their order. The same seed gives the same texts.

        Example: `[text.text for text in generator.generate([["blue"], ["red"]], seed=1)]`
        """
        return list(self.stream(inputs, preferences, seed=seed))

    async def agenerate(
        self,
        inputs: Iterable[Any],
        preferences: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
    ) -> list[Text]:
        """Return what `generate` returns, from a thread; cancelling the task stops it."""
        return await collect_in_thread(lambda: self.stream(inputs, preferences, seed=seed))

    def stream(
        self,
        inputs: Iterable[Any],
        preferences: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
    ) -> Generator[Text]:
        """Yield a text for each of `inputs`, in their order: of a table, for each row.

        Everything is checked before the first text is begun: PromptError names the input.

        Example: `for text in generator.stream([["blue"], ["red"]]): print(text.text)`
        """
        return made_values(self.rows(inputs, preferences, seed=seed))

    def rows(
        self,
        inputs: Iterable[Any],
        preferences: Mapping[str, Any] | None = None,
        *,
        seed: int = 0,
        selection: ShardSelection | None = None,
    ) -> Generator[Row[Text]]:
        """Yield the texts and how they were generated; of a `selection`, those of its shards."""
        wanted = read_preferences(preferences)
        for key in wanted.unread:
            warnings.warn(
                f"'{key}' is not a length that can be enforced; it goes into the prompt.",
                stacklevel=4,
            )
        originals = [without_missing(item) for item in records_of(inputs)]
        plans = [self._plan(item, wanted, index) for index, item in enumerate(originals)]
        if not plans:
            return (_ for _ in ())
        job = self._job(plans, wanted, seed)
        return self._texts(originals, plans, preferences, job, selection)

    def _plan(self, fields: Any, wanted: Preferences, index: int) -> _Plan:
        vocabulary = self._model.vocabulary
        try:
            values = json_fields(fields)
            found = leaves(values)
            entries = [MentionedValue.of(leaf.text, vocabulary) for leaf in found]
            due = list(dict.fromkeys(entries)) if self._mentions == "exact" else []
            length = limits(wanted.wishes, due)
            paths = [shown(leaf.path) for leaf in found]
            check_room(length, list(zip(paths, entries, strict=True)) if due else [])
        except PromptError as error:
            if index == 0:
                raise
            raise PromptError(f"Input {index + 1}: {error}", hint=error.hint) from None
        return _Plan(values, found, due, length)

    def _job(self, plans: Sequence[_Plan], wanted: Preferences, seed: int) -> GenerationRequest:
        engine, vocabulary = self._model.engine, self._model.vocabulary
        prefix, suffixes = share([
            self._prompt(plan.fields, wanted.rest).tokens(engine) for plan in plans
        ])  # fmt: skip
        needs = [
            len(suffix) + most_tokens(plan.entries, plan.length)
            for suffix, plan in zip(suffixes, plans, strict=True)
        ]
        for index, need in enumerate(needs):
            if len(prefix) + need > engine.context_length:
                raise DecodingError(
                    f"Input {index + 1} needs {len(prefix) + need} tokens with its text, and "
                    f"the model's context has {engine.context_length}.",
                    hint="Give it fewer fields, or a smaller maximum length.",
                )

        def start(row: int) -> SequenceInit:
            plan = plans[row]
            prose = MentionConstraint(
                vocabulary, plan.entries, plan.length, temperature=self._temperature
            )
            return SequenceInit(suffixes[row], prose)

        usual = [
            len(suffix) + int(_USUAL * plan.length.longest)
            for suffix, plan in zip(suffixes, plans, strict=True)
        ]
        return GenerationRequest(prefix, start, max(needs), seed, self._temperature, usual)

    def _texts(
        self,
        originals: Sequence[Any],
        plans: Sequence[_Plan],
        preferences: Mapping[str, Any] | None,
        job: GenerationRequest,
        selection: ShardSelection | None,
    ) -> Generator[Row[Text]]:
        def check(decoded: Completion) -> Accepted[str] | Rejected:
            """See that the promise was kept: a text that broke it would be a fault of ours."""
            plan, text = plans[decoded.attempt.row], decoded.text
            values = [entry.value for entry in plan.entries]
            kept = all(places(value, text) for value in values)
            if kept and plan.length.holds(text, values) and ends_sentence(text):
                return Accepted(text)
            return Rejected(Rejection("a value, the length or the end is missing"))

        rows = self._model.decode(
            job, len(plans), check, attempts=_ATTEMPTS, batch=self._batch, selection=selection
        )
        with closing(rows):
            for row in rows:
                if row.value is None:
                    raise DecodingError(
                        f"The text of input {row.number + 1} broke its promise: "
                        f"{row.rejections[-1]}.",
                        hint="This is a fault of synthgen-local: please report it.",
                    )
                plan, text = plans[row.number], row.value
                found = spans(plan.leaves, text)
                made = Text(originals[row.number], preferences, text, found)
                yield row.with_value(made)

    def prompt_text(self, fields: Any, preferences: Mapping[str, Any] | None = None) -> str:
        """Return the whole prompt of a text as the model sees it, chat template included.

        `fields` are JSON values.
        """
        return self._prompt(fields, preferences).text

    def _prompt(self, fields: Any, preferences: Mapping[str, Any] | None) -> Prompt:
        shots = ((_question(shot.fields, shot.preferences), shot.text) for shot in _SHOTS)
        messages = few_shot(_TASK, shots, _question(fields, preferences or {}))
        return Prompt.of(self._model.engine, messages)


def _question(fields: Any, preferences: Mapping[str, Any]) -> str:
    """Values stand as a text would have them, without quotes: so they are to be written."""
    asked = f"Preferences: {_inline(preferences)}\n" if preferences else ""
    return f"{asked}Fields:\n{_listed(fields)}"


def _listed(fields: Any) -> str:
    match fields:
        case dict():
            return "\n".join(f"{name}: {_inline(value)}" for name, value in fields.items())
        case list() if any(isinstance(item, dict | list) for item in fields):
            return "\n".join(map(_inline, fields))
    return _inline(fields)


def _inline(value: Any) -> str:
    match value:
        case str():
            return value
        case Mapping():
            return ", ".join(f"{name}: {_nested(item)}" for name, item in value.items())
        case list() | tuple():
            return ", ".join(map(_nested, value))
    return json.dumps(value, ensure_ascii=False, default=str)


def _nested(value: Any) -> str:
    text = _inline(value)
    return f"({text})" if isinstance(value, Mapping | list | tuple) else text
