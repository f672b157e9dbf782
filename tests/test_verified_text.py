"""Data sets: a text for each input, and what its text reads back as."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from pydantic import BaseModel

from synthgen_local import LocalModel, PromptError, UsageError
from synthgen_local.generators.extract import Extractor
from synthgen_local.generators.verified_text import DatasetGenerator, agreement


class Film(BaseModel):
    """An actor and films."""

    Actor: str
    Film: list[str]


TOM = {"Actor": "Tom Hanks", "Film": ["Forrest Gump", "Toy Story"]}
MERYL = {"Actor": "Meryl Streep", "Film": ["Doubt"]}
ANN = {"Actor": "Ann Obi", "Film": ["Bloom", "Arms"]}
SHORT = {"max_length": 60}
Records = list[dict[str, Any]]


class FakeReader:
    """Stands for an extractor: reads what it was told to, round for round."""

    def __init__(self, *rounds: Sequence[Records]) -> None:
        self.rounds = iter(rounds)
        self.seen: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> list[list[Film]]:
        """Read this round's texts."""
        self.seen.append(list(texts))
        return [[Film(**record) for record in records] for records in next(self.rounds)]


def fake(monkeypatch: pytest.MonkeyPatch, *rounds: Sequence[Records]) -> FakeReader:
    reader = FakeReader(*rounds)
    monkeypatch.setattr(Extractor, "__call__", lambda _, texts: reader(texts))
    return reader


def plain(record: dict[str, Any]) -> tuple[str, list[str]]:
    """A record as it is compared: its films in any order."""
    return record["Actor"], sorted(record["Film"])


@pytest.mark.parametrize("preferences", [None, SHORT])
def test_a_text_for_each_input(random_model: LocalModel, preferences: Any) -> None:
    """Each item has its fields, the preferences, and a text with every value, in order."""
    inputs = [TOM, ["blue"], MERYL, {"a": {"b": 7}}]
    generator = DatasetGenerator(random_model, preferences)
    items = generator(iter(inputs), seed=3)

    assert [set(item) for item in items] == [{"fields", "preferences", "text", "spans"}] * 4
    assert [item["fields"] for item in items] == inputs
    assert {str(item["preferences"]) for item in items} == {str(preferences)}
    assert [[span["value"] for span in item["spans"]] for item in items] == [
        ["Tom Hanks", "Forrest Gump", "Toy Story"],
        ["blue"],
        ["Meryl Streep", "Doubt"],
        ["7"],
    ]
    assert all(
        item["text"][span["start"] : span["end"]] == span["value"]
        for item in items
        for span in item["spans"]
    )
    assert items == generator(inputs, seed=3)
    assert items != generator(inputs, seed=4)


@pytest.mark.parametrize("rounds", [1, 2])
def test_verified_items_say_whether_they_agree(random_model: LocalModel, rounds: int) -> None:
    """With `verify` each item has the records of its own text too, and the verdict on them."""
    inputs = [TOM, MERYL, ANN]
    generator = DatasetGenerator(random_model, SHORT, verify=Film, rounds=rounds)
    items = generator(inputs)

    assert [item["fields"] for item in items] == inputs
    assert [item["records"] for item in items] == [
        [film.model_dump() for film in records]
        for records in Extractor(Film, random_model)([item["text"] for item in items])
    ]
    assert [item["agrees"] for item in items] == [
        list(map(plain, item["records"])) == [plain(item["fields"])] for item in items
    ]


@pytest.mark.parametrize(
    ("fields", "records", "agrees"),
    [
        (TOM, [TOM], True),
        (TOM, [{**TOM, "Film": TOM["Film"][::-1]}], True),
        ([TOM, ANN], [ANN, TOM], True),
        (Film(Actor="Ann Obi", Film=["Bloom", "Arms"]), [ANN], True),
        (TOM, [], False),
        (TOM, [TOM, ANN], False),
        (TOM, [TOM, TOM], False),
        (TOM, [{**TOM, "Film": TOM["Film"][:1]}], False),
        (TOM, [{**TOM, "Film": [*TOM["Film"], "Toy Story"]}], False),
        (TOM, [{**TOM, "Actor": "Tom"}], False),
        ([TOM, ANN], [TOM], False),
    ],
)
def test_what_agrees(
    random_model: LocalModel,
    monkeypatch: pytest.MonkeyPatch,
    fields: Any,
    records: Records,
    agrees: bool,
) -> None:
    """Records and their lists may come in any order; nothing may be missing, nothing be more."""
    fake(monkeypatch, [records])
    [item] = DatasetGenerator(random_model, verify=Film, rounds=1)([fields])

    assert (item["records"], item["agrees"]) == (records, agrees)


def test_only_texts_that_differ_are_written_anew(
    random_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A text that agrees is kept, and so is the first of those that never do."""
    reader = fake(monkeypatch, [[], [MERYL], []], [[], [ANN]], [[TOM]])
    generator = DatasetGenerator(random_model, SHORT, verify=Film, rounds=3)
    items = generator([TOM, MERYL, ANN])

    first, second, third = reader.seen
    assert [len(first), len(second), len(third)] == [3, 2, 1]
    assert [item["text"] for item in items] == [third[0], first[1], second[1]]
    assert [item["agrees"] for item in items] == [True] * 3
    assert len({first[0], second[0], third[0]}) == 3


def test_rounds_end_with_the_first_text_where_none_agrees(
    random_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the last round the first text stays, with what it read back as."""
    reader = fake(monkeypatch, [[MERYL]], [[ANN]])
    [item] = DatasetGenerator(random_model, SHORT, verify=Film, rounds=2)([TOM])

    assert (item["text"], item["records"]) == (reader.seen[0][0], [MERYL])
    assert item["agrees"] is False


def test_no_inputs(random_model: LocalModel) -> None:
    """No inputs make no texts."""
    assert DatasetGenerator(random_model)([]) == []
    assert DatasetGenerator(random_model, verify=Film)([]) == []


@pytest.mark.parametrize("bad", [["blue"], {"Actor": "secret"}, [TOM, {"Film": ["secret"]}]])
def test_fields_that_the_schema_refuses(
    random_model: LocalModel, monkeypatch: pytest.MonkeyPatch, bad: Any
) -> None:
    """They are an error before any text is written, which names the input and quotes no value."""
    monkeypatch.setattr(LocalModel, "decode", lambda *_, **__: pytest.fail("decoded"))

    with pytest.raises(PromptError, match=r"^Input 2 is not a Film: ") as caught:
        DatasetGenerator(random_model, verify=Film)([TOM, bad])
    assert caught.value.hint
    assert "secret" not in str(caught.value)


def test_no_rounds(random_model: LocalModel) -> None:
    """Fewer rounds than one are an error with a hint."""
    with pytest.raises(UsageError, match="0 rounds") as caught:
        DatasetGenerator(random_model, rounds=0)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("verdicts", "share"), [([], 0.0), ([True], 1.0), ([True, False, True, True], 0.75)]
)
def test_agreement(verdicts: list[bool], share: float) -> None:
    """The share of items that agree; of none it is 0."""
    assert agreement([{"agrees": verdict} for verdict in verdicts]) == share


def test_equal_numbers_agree(random_model: LocalModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers that are equal agree however they are written."""
    schema = {"properties": {"n": {"type": "number"}}, "required": ["n"]}
    monkeypatch.setattr(Extractor, "__call__", lambda *_: [[{"n": 1}]])
    [item] = DatasetGenerator(random_model, verify=schema, rounds=1)([{"n": 1.0}])

    assert item["agrees"]


@pytest.mark.model
def test_a_real_model_writes_and_reads_back(model: LocalModel) -> None:
    """Texts about films hold every value, and agree exactly when they read back as their fields."""
    inputs = [TOM, MERYL, {"Actor": "Tom Hardy", "Film": ["Dunkirk"]}]
    items = DatasetGenerator(model, {"max_length": 90}, verify=Film, rounds=2)(inputs)

    assert [item["fields"] for item in items] == inputs
    for item in items:
        assert len(item["text"]) <= 90
        assert [span["value"] for span in item["spans"]] == [
            item["fields"]["Actor"],
            *item["fields"]["Film"],
        ]
        expected = list(map(plain, item["records"])) == [plain(item["fields"])]
        assert item["agrees"] is expected
    assert agreement(items) > 0
