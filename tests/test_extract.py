"""Records out of passages: grounded whatever the model, and right with a real one."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from llguidance import LLMatcher
from pydantic import BaseModel, Field
from validated import Even, Never

from synthgen_local import DecodingError, LocalModel, PromptError, TooFewRowsError, UsageError
from synthgen_local.engine.backends.random_model import RandomModel
from synthgen_local.engine.requests import Accepted
from synthgen_local.generators.extract import ATTEMPTS, Extractor
from synthgen_local.schema import Bounds
from synthgen_local.schema.grammar.lark import write_grammar

WORDS = [
    "Tom Hanks", "1999", "naïve", "café", "東京", "😀", '"', "\\", "\n", "it's", "5.2", "-", ",",
    ". ", "and", "Straße", "{x}", "\\n", "Forrest Gump",
]  # fmt: skip


class Person(BaseModel):
    """A record with free strings at every depth, and values that have a form of their own."""

    name: str = Field(description="who it is")
    year: str | None = Field(pattern=r"^\d{4}$")
    tags: list[str] = Field(max_length=3)
    home: dict[Literal["town", "land"], str]
    mood: Literal["glad", "sad"]
    age: int = Field(ge=0, le=99)


class Film(BaseModel):
    """An actor and films."""

    Actor: str
    Film: list[str]


def passages(count: int, seed: int) -> list[str]:
    stream = random.Random(seed)
    return [" ".join(stream.choices(WORDS, k=stream.randint(1, 12))) for _ in range(count)]


def strings(person: Person) -> Iterator[str]:
    """The free strings of a record."""
    yield person.name
    yield from filter(None, [person.year])
    yield from person.tags
    yield from person.home.values()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_every_string_is_in_its_passage(random_model: LocalModel, temperature: float) -> None:
    """Of 40 random passages, each record is valid and every string is there word for word."""
    texts = passages(40, 1)
    found = Extractor(Person, random_model, temperature=temperature, most=3)(texts)

    assert len(found) == 40
    assert sum(map(len, found)) > 20
    for text, records in zip(texts, found, strict=True):
        assert all(isinstance(record, Person) for record in records)
        assert [s for record in records for s in strings(record) if s not in text] == []
        if "1999" not in text:
            assert {record.year for record in records} <= {None}


def test_without_grounding_strings_are_free(random_model: LocalModel) -> None:
    """`grounded=False` lets the model write what is not there."""
    extractor = Extractor("name", random_model, grounded=False, least=1, temperature=1)

    assert any(row.name not in "Tom Hanks" for row in extractor("Tom Hanks"))


def test_one_passage_or_many(random_model: LocalModel) -> None:
    """A string gives a list of records, a list a list for each passage, in their order."""
    texts = [f"word{i}" for i in range(12)]
    extractor = Extractor("name", random_model, least=1, most=1)

    assert [row.name for row in extractor("word7")] == ["word7"]
    assert [[row.name for row in rows] for rows in extractor(texts)] == [[text] for text in texts]
    assert list(extractor.stream(iter(texts))) == extractor(texts)
    assert extractor([]) == []
    assert list(extractor.stream([])) == []


def test_a_json_schema_gives_dicts(random_model: LocalModel) -> None:
    """Records of a JSON Schema are dicts."""
    schema = {"properties": {"name": {"type": "string"}}, "required": ["name"]}

    assert Extractor(schema, random_model, least=1, most=1)("Tom") == [{"name": "Tom"}]


@pytest.mark.parametrize(("least", "most"), [(0, 1), (0, 3), (2, 3), (2, 2)])
def test_least_and_most(random_model: LocalModel, least: int, most: int) -> None:
    """A passage has `least` to `most` records, and any number between them can come."""
    extractor = Extractor("name", random_model, least=least, most=most, temperature=1)

    found = extractor([f"Tom Hanks {number}" for number in range(80)])

    assert {len(records) for records in found} == {*range(least, most + 1)}


@pytest.mark.parametrize("text", ["", " \n ", "...", '"'])
def test_a_passage_without_words_has_no_record(random_model: LocalModel, text: str) -> None:
    """Where no string can be taken from there is no record; an error names it if one must be."""
    texts = ["Tom", text]

    assert Extractor("name", random_model, temperature=1)(texts)[1] == []
    with pytest.raises(PromptError, match="Passage 2 ") as caught:
        Extractor("name", random_model, least=1)(texts)
    assert caught.value.hint


def test_what_is_turned_down_is_drawn_anew(random_model: LocalModel) -> None:
    """At a temperature above 0 a passage is read again until the validators are content."""
    extractor = Extractor(Even, random_model, least=1, most=1, temperature=1)
    found = extractor(["Tom"] * 12)

    assert len(found) == 12
    assert {record.number % 2 for records in found for record in records} == {0}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_what_is_always_turned_down_is_an_error(
    random_model: LocalModel, temperature: float
) -> None:
    """No passage is read for ever: the error names it and the validator's reason."""
    extractor = Extractor(Never, random_model, least=1, temperature=temperature)

    with pytest.raises(
        TooFewRowsError, match=rf"^Passage 1: .* {ATTEMPTS} .*never right"
    ) as caught:
        extractor(["Tom", "Bob"])
    assert caught.value.hint


def test_seeds(random_model: LocalModel) -> None:
    """The same seed gives the same records, another seed others; at 0 the seed is nothing."""
    texts = passages(6, 2)
    warm = Extractor(Person, random_model, temperature=1)
    cold = Extractor(Person, random_model)

    assert warm(texts, seed=1) == warm(texts, seed=1)
    assert warm(texts, seed=1) != warm(texts, seed=2)
    assert cold(texts, seed=1) == cold(texts, seed=2)


@pytest.mark.parametrize("batch", [1, 3])
def test_batches_change_nothing(random_model: LocalModel, batch: int) -> None:
    """Passages read together give what they give one by one."""
    texts = passages(5, 3)
    extractor = Extractor(Person, random_model, batch=batch)

    assert extractor(texts) == [extractor(text) for text in texts]


@pytest.mark.parametrize(
    "options",
    [{"temperature": -1}, {"least": 3, "most": 2}, {"least": -1}, {"most": 0}, {"batch": 0}],
)
def test_options_that_make_no_sense(random_model: LocalModel, options: dict[str, Any]) -> None:
    """They are errors with a hint, before anything is read."""
    with pytest.raises(UsageError) as caught:
        Extractor("name", random_model, **options)
    assert caught.value.hint


def test_prompt_text(random_model: LocalModel) -> None:
    """The prompt shows the records' form, what the fields mean, and the passage last."""
    prompt = Extractor(Person, random_model).prompt_text("Tom {x}")

    assert prompt.endswith(
        'Format: [{"name":"...","year":"...","tags":["..."],"home":{"...":"..."},'
        '"mood":"glad|sad","age":0}]\n- name: who it is\nText: Tom {x}\n'
    )


@pytest.mark.model
def test_a_real_model_reads_films(model: LocalModel) -> None:
    """Two sentences give their actor and films, each passage its own."""
    found = Extractor(Film, model)([
        'Tom Hanks starred in "Forrest Gump" and "Toy Story".',
        'Tom Hardy was great in "Dunkirk" and "Inception". Everybody said so.',
        'The award went to Meryl Streep for "Doubt" and "The Post".',
    ])  # fmt: skip

    assert found == [
        [Film(Actor="Tom Hanks", Film=["Forrest Gump", "Toy Story"])],
        [Film(Actor="Tom Hardy", Film=["Dunkirk", "Inception"])],
        [Film(Actor="Meryl Streep", Film=["Doubt", "The Post"])],
    ]


@pytest.mark.model
def test_a_passage_longer_than_the_context(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused by its number before anything is decoded."""
    monkeypatch.setattr(LocalModel, "decode", lambda *_, **__: pytest.fail("decoded"))

    with pytest.raises(DecodingError, match=r"^Passage 2 ") as caught:
        Extractor(Film, model)(["Tom", "word " * 9000])
    assert caught.value.hint


@pytest.fixture
def small() -> LocalModel:
    """Random logits in a context of 4,000 bytes."""
    engine = RandomModel()
    engine.context_length = 4000
    return LocalModel(engine)


@pytest.mark.parametrize(
    ("texts", "left_out"),
    [
        (["Tom", "word " * 9000, "Bob"], [1]),
        (["word " * 9000] * 2, [0, 1]),
        (["Tom", "\ud800", "Bob"], [1]),
        (["Tom", "Bob", "word " * 9000], [2]),
    ],
)
def test_a_passage_that_cannot_be_read(
    small: LocalModel, texts: list[str], left_out: list[int]
) -> None:
    """A warning names it, its row is not made, and the others are as they are alone."""
    extractor = Extractor("name", small, least=1, most=1)
    with pytest.warns(UserWarning, match="^Passage") as caught:
        rows = list(extractor.rows(texts))

    assert [str(w.message).split()[1] for w in caught] == [str(row + 1) for row in left_out]
    assert [row.number for row in rows if not row.made] == left_out
    assert all(len(rows[number].rejections) == 1 for number in left_out)
    for row in rows:
        if row.made:
            assert row.value == extractor(texts[row.number])


def test_free_keys_are_parts_of_the_passage(random_model: LocalModel) -> None:
    """A key of a dict is grounded as its value is, and is never the prompt's own "..."."""
    schema = {"type": "object", "additionalProperties": {"type": "integer"}, "minProperties": 1}
    grounded = Extractor(schema, random_model, least=1, most=1)(["Bob 7, Al 9", "..."][:1] * 8)

    assert {key for [record] in grounded for key in record} <= {
        "Bob", "Bob 7", "7", "Al", "Al 9", "9", "Bob 7,", "7,", "Bob 7, Al", "Bob 7, Al 9",
        "7, Al", "7, Al 9", ", Al", ", Al 9",
    }  # fmt: skip
    free = Extractor(schema, random_model, grounded=False)
    lark = write_grammar(free._records("Bob", 0, 10))
    matcher = LLMatcher(RandomModel().tokenizer, LLMatcher.grammar_from_lark(lark))
    assert matcher.try_consume_tokens(list(b'[{"...":')) == len(b'[{"...')


@pytest.mark.parametrize(
    ("options", "notes"),
    [
        ({}, {"2 passages have as many as a limit allows: 8 records", "8 items at $.tags"}),
        ({"most": 8}, {"8 items at $.tags"}),
        ({"bounds": Bounds(max_items=8)}, {"8 records"}),
        ({"bounds": Bounds(max_items=8), "most": 8}, set()),
    ],
)
def test_a_limit_that_was_reached_is_named(
    random_model: LocalModel,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    notes: set[str],
) -> None:
    """There may be more than 8 records and items; nothing is said of a limit that was chosen."""
    schema = {"properties": {"tags": {"type": "array", "items": {"type": "string"}}}}
    extractor = Extractor(schema, random_model, **options)
    record = {"tags": ["a"] * 8}
    monkeypatch.setattr(extractor, "_check", lambda *_: Accepted([record] * 8))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert len(list(extractor.stream(["a", "b"]))) == 2

    said = [str(warning.message) for warning in caught]
    assert len(said) == len(notes)
    assert all(any(note in one for one in said) for note in notes)
