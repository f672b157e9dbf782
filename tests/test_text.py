"""Texts about fields: every value and every length, on random logits and on real weights."""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest

from synthgen_local import LocalModel, PromptError, SynthgenError
from synthgen_local.engine.constraints.text_length import Length, Range
from synthgen_local.engine.constraints.text_rules import ends_sentence, fits_a_line, places
from synthgen_local.errors import UsageError
from synthgen_local.generators.spans import json_fields, leaves
from synthgen_local.generators.text import Text, TextGenerator

WORDS = [
    "blue", "Tom Hanks", "Forrest Gump", "Mr. Fox", "Yahoo!", "5", "5.2", "42%", "naïve café",
    "東京", "Straße 7", "😀 ok", "O'Neil", 'the "Rex"', "AC/DC", "e.g. this", "a", "A. B. Cee",
    "art", "artist", "C++", "(x)", "-7", "1956-07-09",
]  # fmt: skip
LENGTHS: Mapping[str, Any] = {
    "minimum_length": 30,
    "max_length": 120,
    "max words": 40,
    "min sentences": 1,
    "max_sentences": 9,
}
LENGTH = Length(Range(30, 120), words=Range(0, 40), sentences=Range(1, 9))
ANY = Length(Range(0, 10_000))


def records(count: int, seed: int) -> list[Any]:
    """Random fields, each with a value at least."""
    stream = random.Random(seed)

    def fields(depth: int) -> Any:
        items = range(stream.randint(1, 2))
        if depth and stream.random() < 0.7:
            inner = [fields(depth - 1) for _ in items]
            return inner if stream.random() < 0.5 else {f"key {i}": inner[i] for i in items}
        return stream.choice([*WORDS, stream.randint(-9, 999), round(stream.random(), 3), True])

    return [[fields(2)] for _ in range(count)]


def assert_right(text: Text, length: Length = ANY) -> None:
    """Compare a text with everything that is promised of it."""
    found = leaves(json_fields(text.fields))
    values = [leaf.text for leaf in found]

    assert [value for value in values if not places(value, text.text)] == []
    labelled = dict.fromkeys((span.path, span.value) for span in text.spans)
    assert list(labelled) == [(leaf.path, leaf.text) for leaf in found]
    assert all(text.text[span.start : span.end] == span.value for span in text.spans)
    assert length.holds(text.text, values), (text.text, length)
    assert ends_sentence(text.text)
    assert all(map(fits_a_line, text.text))


@pytest.fixture(scope="module")
def many(random_model: LocalModel) -> list[Text]:
    """500 texts of random fields, in one run."""
    return list(TextGenerator(random_model).stream(records(500, 1), LENGTHS, seed=1))


def test_every_text_is_right(many: list[Text]) -> None:
    """Values word for word, lengths in every unit, spans: of 500 records, none is wrong."""
    assert len(many) == 500
    for text in many:
        assert_right(text, LENGTH)


def test_texts_come_in_the_order_of_their_inputs(many: list[Text]) -> None:
    """Each text carries its own fields as they were given, in their order."""
    assert [text.fields for text in many] == records(500, 1)
    assert {str(text.preferences) for text in many} == {str(LENGTHS)}


def test_same_seed_same_texts(random_model: LocalModel, many: list[Text]) -> None:
    """The same seed gives the same texts, in another batch too; another seed others."""
    generator = TextGenerator(random_model, batch=3)
    inputs = records(500, 1)[:6]

    again = list(generator.stream(inputs, LENGTHS, seed=2))
    assert list(TextGenerator(random_model).stream(inputs, LENGTHS, seed=2)) == again
    assert [text.text for text in again] != [text.text for text in many[:6]]


def test_a_call_is_one_text(random_model: LocalModel) -> None:
    """A call returns plain JSON values: fields, preferences, text and spans."""
    made = TextGenerator(random_model)({"a": ["blue"]}, {"style": "gossip"}, seed=3)
    text = made["text"]
    start = places("blue", text)[0][0]

    assert made == {
        "fields": {"a": ["blue"]},
        "preferences": {"style": "gossip"},
        "text": text,
        "spans": [{"path": "$.a[0]", "value": "blue", "start": start, "end": start + 4}],
    }
    [written] = TextGenerator(random_model).stream([{"a": ["blue"]}], {"style": "gossip"}, seed=3)
    assert written.as_dict() == made


@pytest.mark.parametrize("preferences", [None, {}])
def test_no_preferences(random_model: LocalModel, preferences: dict[str, Any] | None) -> None:
    """Preferences may be missing, and are given back as they came."""
    [text] = TextGenerator(random_model).stream([["blue"]], preferences)

    assert text.preferences == preferences
    assert_right(text, Length(Range(0, 300)))


@pytest.mark.parametrize(
    ("preferences", "length"),
    [
        ({"min_length": 100}, Length(Range(100, 300))),
        ({"maximum length": 30}, Length(Range(0, 30))),
        ({"length": "20 words"}, Length(Range(0, 300), words=Range(18, 22))),
        ({"sentences": 3}, Length(Range(0, 450), sentences=Range(3, 3))),
        ({"min_length": 55, "max_length": 55}, Length(Range(55, 55))),
    ],
)
def test_lengths_are_kept(
    random_model: LocalModel, preferences: dict[str, Any], length: Length
) -> None:
    """Every unit of length, bounded from below or above or to the character."""
    texts = list(TextGenerator(random_model).stream([["blue"], ["Mr. Fox"], ["5"]], preferences))

    assert len(texts) == 3
    for text in texts:
        assert_right(text, length)


def test_a_length_that_cannot_be_read_warns(random_model: LocalModel) -> None:
    """What looks like a length and is none goes into the prompt, with a warning."""
    with pytest.warns(UserWarning, match="'how long' is not a length") as caught:
        made = TextGenerator(random_model)(["blue"], {"how long": "very"})

    assert len(caught) == 1
    assert made["preferences"] == {"how long": "very"}


def test_free_mentions_force_nothing(random_model: LocalModel) -> None:
    """With free mentions values are only asked for; spans say which of them are there."""
    generator = TextGenerator(random_model, mentions="free")
    texts = list(generator.stream([["caldo verde", ","]] * 8, LENGTHS))

    assert any(len(text.spans) < 2 for text in texts)
    for text in texts:
        assert LENGTH.holds(text.text)
        assert not places("caldo verde", text.text)
        assert all(text.text[span.start : span.end] == span.value for span in text.spans)


def test_leaves_that_are_no_text(random_model: LocalModel) -> None:
    """Numbers, booleans and dates are written as JSON writes them; null is left out."""
    values = {"n": 5, "x": 0.25, "b": False, "d": date(1956, 7, 9), "none": None, "empty": ""}
    [text] = TextGenerator(random_model).stream([values])

    assert [span.value for span in text.spans] == ["5", "0.25", "false", "1956-07-09"]
    assert_right(text)


def test_a_value_that_is_given_twice_stands_once_at_least(random_model: LocalModel) -> None:
    """Equal values need one place and take what places there are."""
    [text] = TextGenerator(random_model).stream(
        [["blue", "blue", "a blue sky"]], {"max_length": 40}
    )

    assert [span.value for span in text.spans] == ["blue", "blue", "a blue sky"]
    assert_right(text)


def test_values_of_one_token_or_of_many_are_given_back(random_model: LocalModel) -> None:
    """A text may hold a value longer than most texts are."""
    value = "word " * 80 + "end"
    [text] = TextGenerator(random_model).stream([[value, "w"]])

    assert_right(text)


@pytest.mark.parametrize(
    ("fields", "preferences", "error", "message"),
    [
        ([], None, PromptError, "hold no value"),
        ({"a": [None, ""]}, None, PromptError, "hold no value"),
        (["x" * 40], {"max_length": 30}, PromptError, r"\$\[0\] has 40 characters"),
        ({"a": "b\nc"}, None, PromptError, r"\$\.a cannot stand in a line of text: .*U\+000A"),
        ([float("nan")], None, PromptError, r"\$\[0\] is not a number"),
        ([object()], None, PromptError, "not JSON"),
        (["a"], {"min_length": 10, "max_length": 9}, UsageError, "10 to 9 characters"),
        (["a"], {"min_length": -1}, UsageError, "min_length is -1"),
        (["a"], {"min_length": 2_000_000}, SynthgenError, "context"),
    ],
)
def test_what_cannot_be_written_is_refused(
    random_model: LocalModel,
    fields: Any,
    preferences: dict[str, Any] | None,
    error: type[SynthgenError],
    message: str,
) -> None:
    """An error of one line with a hint, before anything is decoded."""
    with pytest.raises(error, match=message) as caught:
        TextGenerator(random_model)(fields, preferences)

    assert caught.value.hint
    assert "\n" not in str(caught.value)


def test_an_error_names_its_input(random_model: LocalModel) -> None:
    """Of many inputs, the one that is wrong is named by its number before the first text."""
    with pytest.raises(PromptError, match=r"^Input 3: The value at \$\.name ") as caught:
        TextGenerator(random_model).stream([["a"], ["b"], {"name": "Jane\tRoe"}])

    assert caught.value.hint
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize("options", [{"temperature": -1}, {"mentions": "most"}, {"batch": 0}])
def test_options_are_checked(random_model: LocalModel, options: dict[str, Any]) -> None:
    """Options that make no sense are an error with a hint."""
    with pytest.raises(UsageError) as caught:
        TextGenerator(random_model, **options)

    assert caught.value.hint


def test_no_inputs(random_model: LocalModel) -> None:
    """No inputs are no texts and no error."""
    assert list(TextGenerator(random_model).stream([])) == []


def test_texts_may_be_left(random_model: LocalModel) -> None:
    """Leaving the texts early ends their threads."""
    before = threading.active_count()
    texts = TextGenerator(random_model).stream([["blue"]] * 40)
    next(texts)
    texts.close()

    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({"Stadt": "Köln"}, "Stadt: Köln"),
        (["blue", 3, None, True], "blue, 3, null, true"),
        ({"a": ["x", "y"], "b": {"c": 1.5}}, "a: x, y\nb: c: 1.5"),
        ([{"a": "x", "b": ["y", "z"]}, {"a": "w"}], "a: x, b: (y, z)\na: w"),
        ([["x", "y"], "z"], "x, y\nz"),
    ],
)
def test_the_prompt_shows_fields_and_preferences(
    random_model: LocalModel, fields: Any, shown: str
) -> None:
    """A prompt ends with the preferences and the fields, each value as a text would have it."""
    prompt = TextGenerator(random_model).prompt_text(fields, {"style": "gossip"})

    assert prompt.endswith(f"\nPreferences: style: gossip\nFields:\n{shown}\n")


@pytest.mark.model
def test_the_default_model_keeps_its_promises(model: LocalModel) -> None:
    """Real logits and a vocabulary of words change nothing of what is promised."""
    texts = list(TextGenerator(model).stream(records(12, 2), LENGTHS, seed=1))

    assert len(texts) == 12
    for text in texts:
        assert_right(text, LENGTH)


@pytest.mark.model
@pytest.mark.parametrize(
    ("fields", "preferences", "least"),
    [
        (["blue", "yellow"], {}, 0),
        ({"colors": ["blue", "yellow"]}, {"style": "Make it in a style of a weather forecast."}, 0),
        ({"actor": "Tom Hanks", "movies": ["Forrest Gump", "Green Mile"]}, None, 0),
        (
            [
                {"actor": "Tom Hanks", "movies": ["Forrest Gump", "Green Mile"]},
                {"actor": "Mads Mikkelsen", "movies": ["Hannibal", "Another round"]},
            ],
            {"minimum_length": 200, "style": "gossip"},
            200,
        ),
    ],
)
def test_the_notebook_of_langchain(
    model: LocalModel, fields: Any, preferences: dict[str, Any] | None, least: int
) -> None:
    """The calls of LangChain's notebook mention every value and are as long as was asked."""
    made = TextGenerator(model)(fields=fields, preferences=preferences)

    assert made["fields"] == fields
    assert made["preferences"] == preferences
    mentioned = dict.fromkeys(span["value"] for span in made["spans"])
    assert list(mentioned) == [leaf.text for leaf in leaves(fields)]
    assert all(made["text"][s["start"] : s["end"]] == s["value"] for s in made["spans"])
    assert len(made["text"]) >= least
