"""Data sets of texts: one for each input, and, where that is asked for, read back.

A text that is verified is extracted again and compared with its fields; one that does not
say them is written anew. Joins the text generator and the extractor and adds no model call of
its own.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, create_model

from ..data.frames import records_of
from ..errors import PromptError, UsageError
from ..local_model import LocalModel
from ..schema import RowSchema
from .async_generation import collect_in_thread
from .extract import Extractor
from .spans import json_fields
from .text import TEMPERATURE, Mentions, Text, TextGenerator

ROUNDS = 5
"""How often a text is written at most so that it reads back as its fields."""


_MOST = 64  # records that the fields of one text may hold


@dataclass
class _Kept:
    """The best text of an input so far, and what it reads back as.

    `agreement` is 2 if that is its fields, 1 if only lists come in another order, else 0.
    """

    text: Text
    records: Sequence[Any]
    agreement: int


class DatasetGenerator:
    """Writes one text for each input, all with the same preferences.

    With `verify`, a schema, every text is extracted again by it and compared with its fields,
    lists in any order, or, if they are `ordered`, as they are; a text that differs is written
    anew, up to `rounds` times in all, and each item says whether it `agrees`. `mentions`,
    `temperature` and `batch` are TextGenerator's.

    Raises SchemaError for a schema that cannot be used.

    Example: `DatasetGenerator(model, {"style": "informal"})([{"Actor": "Tom Hanks"}])`
    """

    def __init__(
        self,
        model: LocalModel,
        preferences: Mapping[str, Any] | None = None,
        *,
        verify: RowSchema | type[BaseModel] | dict[str, Any] | str | None = None,
        rounds: int = ROUNDS,
        ordered: bool = False,
        mentions: Mentions = "exact",
        temperature: float = TEMPERATURE,
        batch: int | None = None,
    ) -> None:
        if rounds < 1:
            raise UsageError(f"{rounds} rounds write nothing.", hint="Ask for 1 or more.")
        self._preferences = preferences
        self._rounds = rounds
        self._wanted = 2 if ordered else 1
        self._texts = TextGenerator(model, mentions=mentions, temperature=temperature, batch=batch)
        self._extractor = (
            None if verify is None else Extractor(verify, model, most=_MOST, batch=batch)
        )

    def __call__(self, inputs: Iterable[Any], *, seed: int = 0) -> list[dict[str, Any]]:
        """Return what `generate` returns.

        Example: `generator([{"Actor": "Tom Hanks"}, {"Actor": "Tom Hardy"}])[1]["text"]`
        """
        return self.generate(inputs, seed=seed)

    async def agenerate(self, inputs: Iterable[Any], *, seed: int = 0) -> list[dict[str, Any]]:
        """Return what `generate` returns, from a thread; cancelling the task stops it."""
        return await collect_in_thread(lambda: self.stream(inputs, seed=seed))

    def generate(self, inputs: Iterable[Any], *, seed: int = 0) -> list[dict[str, Any]]:
        """Return `{"fields", "preferences", "text", "spans"}` for each input, in their order.

        Verified items also have "records", what was read back, and "agrees".

        Raises PromptError for fields that no text can hold or, naming the input, that the
        schema refuses.

        Example: `generator.generate([{"Actor": "Tom Hanks"}], seed=1)[0]["text"]`
        """
        return list(self.stream(inputs, seed=seed))

    def stream(self, inputs: Iterable[Any], *, seed: int = 0) -> Generator[dict[str, Any]]:
        """Yield what `generate` returns, item by item.

        Verified items are yielded when all rounds are over.

        Example: `for item in generator.stream([["blue"], ["red"]]): print(item["text"])`
        """
        if self._extractor is None:
            with closing(self._texts.stream(inputs, self._preferences, seed=seed)) as texts:
                yield from (text.as_dict() for text in texts)
            return
        kept = self._verified(list(records_of(inputs)), self._extractor, seed)
        dump = self._extractor.schema.dump
        for item in kept:
            yield {
                **item.text.as_dict(),
                "records": [dump(record) for record in item.records],
                "agrees": item.agreement >= self._wanted,
            }

    def _verified(self, inputs: Sequence[Any], extractor: Extractor, seed: int) -> list[_Kept]:
        dump = extractor.schema.dump
        expected = [_expected(item, extractor.schema, n) for n, item in enumerate(inputs, 1)]
        kept: dict[int, _Kept] = {}
        for attempt in range(self._rounds):
            missing = [
                index
                for index in range(len(inputs))
                if index not in kept or kept[index].agreement < self._wanted
            ]
            if not missing:
                break
            chosen = [inputs[index] for index in missing]
            stream = seed if attempt == 0 else _seed(seed, attempt)
            with closing(self._texts.stream(chosen, self._preferences, seed=stream)) as texts:
                written = list(texts)
            read = extractor([text.text for text in written])
            for index, text, records in zip(missing, written, read, strict=True):
                agreement = _compare([dump(record) for record in records], expected[index])
                if index not in kept or agreement > kept[index].agreement:
                    kept[index] = _Kept(text, records, agreement)
        return [kept[index] for index in range(len(inputs))]


def schema_of(inputs: Sequence[Any]) -> type[BaseModel] | None:
    """Return a model of records that all have the same fields of text, numbers or lists of text.

    None if the inputs are not such records.

    Example: `schema_of([{"Actor": "Tom Hanks", "Film": ["Big"]}]).model_fields.keys()`
    """
    records = [json_fields(item) for item in inputs]
    if not records or not all(isinstance(record, dict) and record for record in records):
        return None
    fields: dict[str, Any] = {}
    for name in records[0]:
        kinds = {_kind(record.get(name)) for record in records}
        if len(kinds) != 1 or None in kinds or not name.isidentifier() or name.startswith("_"):
            return None
        fields[name] = (kinds.pop(), ...)
    if any(record.keys() != records[0].keys() for record in records):
        return None
    return create_model("Record", __config__=ConfigDict(protected_namespaces=()), **fields)


def agreement(dataset: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of verified texts that read back as their fields.

    Example: `agreement([{"agrees": True}, {"agrees": False}]) == 0.5`
    """
    return sum(bool(item["agrees"]) for item in dataset) / max(1, len(dataset))


def _kind(value: Any) -> Any:
    match value:
        case bool() | int() | float() | str():
            return type(value)
        case [str(), *_] if all(isinstance(item, str) for item in value):
            return list[str]
    return None


def _expected(fields: Any, schema: RowSchema, number: int) -> list[Any]:
    """The records that a text about these fields should read back as."""
    values = json_fields(fields)
    records = values if isinstance(values, list) else [values]
    try:
        return [schema.dump(schema.read(value)) for value in records]
    except ValueError as error:
        raise PromptError(
            f"Input {number} is not a {schema.name}: {error}",
            hint="Verify with the schema of the fields.",
        ) from None


def _compare(found: list[Any], expected: list[Any]) -> int:
    if found == expected:
        return 2
    return int(sorted(map(_canonical, found)) == sorted(map(_canonical, expected)))


def _canonical(value: Any) -> str:
    """JSON text that is the same for lists in any order."""
    return json.dumps(_sorted(value), sort_keys=True, ensure_ascii=False)


def _sorted(value: Any) -> Any:
    match value:
        case dict():
            return {key: _sorted(item) for key, item in value.items()}
        case list():
            return sorted((_sorted(item) for item in value), key=_canonical)
    return value


def _seed(seed: int, attempt: int) -> int:
    return int(np.random.SeedSequence([seed, attempt]).generate_state(1)[0])
