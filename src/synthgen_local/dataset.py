"""Data sets of texts: one for each input, and, where that is asked for, read back.

A text that is verified is extracted again and compared with its fields; one that does not
say them is written anew. Joins the text generator and the extractor and adds no model call of
its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import BaseModel

from .errors import PromptError, UsageError
from .extract import Extractor
from .fields import json_fields
from .local_model import LocalModel
from .schema import RowSchema
from .text import TEMPERATURE, Mentions, Text, TextGenerator

ROUNDS = 5
"""How often a text is written at most so that it reads back as its fields."""


@dataclass
class _Kept:
    """The best text of an input so far, and what it reads back as."""

    text: Text
    records: list[Any]
    agrees: bool


class DatasetGenerator:
    """Writes one text for each input, all with the same preferences.

    With `verify`, a schema, every text is extracted again by it and compared with its fields,
    lists in any order; a text that differs is written anew, up to `rounds` times, and each
    item says whether it `agrees`. `mentions`, `temperature` and `batch` are TextGenerator's.

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
        mentions: Mentions = "exact",
        temperature: float = TEMPERATURE,
        batch: int | None = None,
    ) -> None:
        if rounds < 1:
            raise UsageError(f"{rounds} rounds write nothing.", hint="Ask for 1 or more.")
        self._preferences = preferences
        self._rounds = rounds
        self._texts = TextGenerator(model, mentions=mentions, temperature=temperature, batch=batch)
        self._extractor = None if verify is None else Extractor(verify, model, batch=batch)

    def __call__(self, inputs: Iterable[Any], *, seed: int = 0) -> list[dict[str, Any]]:
        """Return `{"fields", "preferences", "text", "spans"}` for each input, in their order.

        Verified items also have "records", what was read back, and "agrees".

        Raises PromptError for fields that no text can hold or, naming the input, that the
        schema refuses.

        Example: `generator([{"Actor": "Tom Hanks"}, {"Actor": "Tom Hardy"}])[1]["text"]`
        """
        if self._extractor is None:
            with closing(self._texts.texts(inputs, self._preferences, seed=seed)) as texts:
                return [text.as_dict() for text in texts]
        kept = self._verified(list(inputs), self._extractor, seed)
        dump = self._extractor.schema.dump
        return [
            {
                **item.text.as_dict(),
                "records": [dump(record) for record in item.records],
                "agrees": item.agrees,
            }
            for item in kept
        ]

    def _verified(self, inputs: Sequence[Any], extractor: Extractor, seed: int) -> list[_Kept]:
        expected = [_expected(item, extractor.schema, n) for n, item in enumerate(inputs, 1)]
        kept: dict[int, _Kept] = {}
        for attempt in range(self._rounds):
            missing = [i for i in range(len(inputs)) if i not in kept or not kept[i].agrees]
            if not missing:
                break
            chosen = [inputs[i] for i in missing]
            stream = seed if attempt == 0 else _seed(seed, attempt)
            with closing(self._texts.texts(chosen, self._preferences, seed=stream)) as texts:
                written = list(texts)
            read = extractor([text.text for text in written])
            for index, text, records in zip(missing, written, read, strict=True):
                found = sorted(_canonical(extractor.schema.dump(record)) for record in records)
                agrees = found == expected[index]
                if agrees or index not in kept:
                    kept[index] = _Kept(text, records, agrees)
        return [kept[i] for i in range(len(inputs))]


def agreement(dataset: Sequence[Mapping[str, Any]]) -> float:
    """Return the share of verified texts that read back as their fields.

    Example: `agreement([{"agrees": True}, {"agrees": False}]) == 0.5`
    """
    return sum(bool(item["agrees"]) for item in dataset) / max(1, len(dataset))


def _expected(fields: Any, schema: RowSchema, number: int) -> list[str]:
    """The records that a text about these fields should read back as."""
    values = json_fields(fields)
    try:
        instances = [
            schema.read(value) for value in (values if isinstance(values, list) else [values])
        ]
    except ValueError as error:
        raise PromptError(
            f"Input {number} is not a {schema.name}: {error}",
            hint="Verify with the schema of the fields.",
        ) from None
    return sorted(_canonical(schema.dump(instance)) for instance in instances)


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
