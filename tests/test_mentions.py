"""Prose that holds values: what it promises holds for any logits and any order of draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from masks import allowed_by

from synthgen_local.engine.backends.protocol import ContextSize, Logits
from synthgen_local.engine.backends.random_model import RandomContext, RandomModel
from synthgen_local.engine.constraints import mentions
from synthgen_local.engine.constraints.mentions import MentionConstraint
from synthgen_local.engine.constraints.text_length import Length, MentionedValue, Range, most_tokens
from synthgen_local.engine.constraints.text_rules import (
    ends_sentence,
    fits_a_line,
    fits_a_value,
    places,
)
from synthgen_local.engine.constraints.vocabulary import VocabularyTable
from synthgen_local.engine.decoder import Decoder
from synthgen_local.engine.parallel_plan import ParallelPlan
from synthgen_local.engine.requests import (
    Accepted,
    Completion,
    GenerationRequest,
    RowQueue,
    SequenceInit,
)
from synthgen_local.engine.workers import decode_shards
from synthgen_local.prompting.length_limits import check_room

VOCABULARY = VocabularyTable(RandomModel().tokenizer)
END = VOCABULARY.end_tokens[0]
FREE = Length(Range(0, 300))
BLUE = ["blue", "caldo verde", "5"]
VALUES = st.lists(
    st.text("abcdeT 5.,-éß京😀!?Mr\"'\xa0\u202f\u3000", min_size=1, max_size=15).filter(
        lambda value: any(map(str.isalnum, value))
    ),
    max_size=7,
    unique=True,
)


class Leaning(RandomModel):
    """Random logits, and beside them what each token gains."""

    def __init__(self, gains: Mapping[int, float]) -> None:
        super().__init__()
        self._gains = np.zeros(self.tokenizer.vocab_size, dtype=np.float32)
        self._gains[list(gains)] = list(gains.values())

    def open_context(self, size: ContextSize) -> RandomContext:
        """A context that adds the gains."""
        context = super().open_context(size)
        drawn = context._logits
        context._logits = lambda history: drawn(history) + self._gains  # type: ignore[method-assign]
        return context


def entries(values: Sequence[str]) -> list[MentionedValue]:
    return [MentionedValue.of(value, VOCABULARY) for value in values]


def write(
    values: Sequence[str],
    length: Length = FREE,
    *,
    seed: int = 0,
    gains: Mapping[int, float] | None = None,
    temperature: float = 1.0,
    rows: int = 1,
) -> list[str]:
    """Texts of a model with these values, each checked for everything that is promised."""
    longest = most_tokens(entries(values), length)

    def start(row: int) -> SequenceInit:  # whose first token makes it different from the others
        return SequenceInit(
            (row,), MentionConstraint(VOCABULARY, entries(values), length, temperature=temperature)
        )

    job = GenerationRequest((1,), start, longest + 1, seed, temperature)
    context = Leaning(gains or {}).open_context(ContextSize(rows, (longest + 2) * rows, 1))
    found = sorted(
        Decoder(context, job).run(RowQueue(range(rows))), key=lambda row: row.attempt.row
    )
    for row in found:
        assert_kept(row.text, values, length)
        assert row.tokens <= longest
    return [row.text for row in found]


def assert_kept(text: str, values: Sequence[str], length: Length) -> None:
    """Compare a text with what was promised of it."""
    assert [value for value in values if not places(value, text)] == []
    assert length.holds(text, values), (text, length)
    assert ends_sentence(text)
    assert all(map(fits_a_value, text))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[str], Length]:
    """Values and a length that just holds them, or easily; see `lengths.check_room`."""
    values = draw(VALUES)
    held = entries(values)
    least = sum(entry.reserved for entry in held) + 1
    spare = draw(st.sampled_from([1, 2, 8, 40, 200]))
    words, sentences = Range(), Range()
    if draw(st.booleans()):
        minimum = draw(st.integers(0, spare // 5))
        enough = max(minimum, sum(entry.words for entry in held) + 1 + spare // 5)
        words = Range(minimum, draw(st.none() | st.integers(enough, enough + 20)))
    if draw(st.booleans()):
        minimum = draw(st.integers(0, spare // 5))
        most = st.integers(max(1, minimum), minimum + 3)
        sentences = Range(minimum, draw(st.none() | most))
    longest = least + spare
    length = Length(Range(draw(st.integers(0, longest)), longest), words, sentences)
    check_room(length, [(entry.value, entry) for entry in held])
    return values, length


@settings(max_examples=100, deadline=None)
@given(cases(), st.integers(0, 999), st.sampled_from([0.0, 0.7, 1.0]))
def test_every_text_keeps_its_promises(
    case: tuple[list[str], Length], seed: int, temperature: float
) -> None:
    """Values, length and end are right for random values, lengths and logits."""
    write(*case, seed=seed, temperature=temperature)


@settings(max_examples=100, deadline=None)
@given(cases(), st.text("abT5 .,-!\"'é", min_size=1, max_size=5), st.integers(0, 999))
def test_no_leaning_breaks_a_promise(
    case: tuple[list[str], Length], letters: str, seed: int
) -> None:
    """The same holds for a model that writes little but the letters of the values."""
    write(*case, seed=seed, gains=dict.fromkeys(letters.encode(), 8.0))


@settings(max_examples=150, deadline=None)
@given(cases(), st.data())
def test_no_choice_of_tokens_breaks_a_promise(
    case: tuple[list[str], Length], data: st.DataObject
) -> None:
    """Whatever allowed tokens are taken, one is allowed until the text is finished and right."""
    values, length = case
    prose, stream = MentionConstraint(VOCABULARY, entries(values), length), np.random.default_rng(0)
    liked = data.draw(st.lists(st.sampled_from(b"abT5 .,-!\"'"), min_size=1, max_size=3))
    tokens = 0
    while not prose.is_terminated:
        allowed = allowed_by(prose, VOCABULARY.size).nonzero()[0].tolist()
        assert allowed, (prose.text(), values, length)
        usual = [token for token in liked if token in allowed] or allowed
        token = usual[tokens % len(usual)] if tokens % 7 else allowed[tokens % len(allowed)]
        tokens += 1 + len(prose.accept_token(token, stream))

    assert_kept(prose.text(), values, length)
    assert tokens <= most_tokens(entries(values), length)


def accept(prose: MentionConstraint, text: str) -> None:
    """Write a text byte by byte, each allowed."""
    data = list(text.encode())
    while data:
        token = data.pop(0)
        assert allowed_by(prose, VOCABULARY.size)[token]
        forced = list(prose.accept_token(token, np.random.default_rng(0)))
        assert data[: len(forced)] == forced
        del data[: len(forced)]


def finish(prose: MentionConstraint, letter: str) -> str:
    """Write the letter wherever it is allowed, else the first token that is, to the end."""
    while not prose.is_terminated:
        allowed = allowed_by(prose, VOCABULARY.size).nonzero()[0].tolist()
        assert allowed, prose.text()
        token = ord(letter) if ord(letter) in allowed else allowed[0]
        prose.accept_token(token, np.random.default_rng(0))
    return prose.text()


@pytest.mark.parametrize(
    "value", ["10\xa0km", "1\u202f234,50\xa0€", "\u2009x", "x\u3000", "a\u2003b"]
)
def test_spaces_of_a_value_stand_in_the_text(value: str) -> None:
    """A value is written with the spaces that it has, and other spaces stand nowhere else."""
    for text in write(["Ada", value], Length(Range(0, 80), Range(3, 12)), rows=10):
        assert value in text
        assert all(map(fits_a_line, text.replace(value, "")))


@pytest.mark.parametrize("most", [1, 2, 3])
def test_a_stop_of_a_value_that_is_undone_ends_no_sentence_too_many(most: int) -> None:
    """Where a letter makes another word of a value, its stop counts: there must be room for it."""
    length = Length(Range(0, 300), sentences=Range(0, most))
    prose = MentionConstraint(VOCABULARY, entries(["Yo! Bob"]), length)
    accept(prose, "Yo! Bob")

    assert_kept(finish(prose, "s"), ["Yo! Bob"], length)


def test_a_stop_that_completes_a_value_is_no_end() -> None:
    """A stop that makes a value of the letters before it does not count as a sentence's."""
    length = Length(Range(0, 20), sentences=Range(3))
    prose = MentionConstraint(VOCABULARY, entries(["b?"]), length)
    accept(prose, "b? xxxxxxxxxx b")

    assert_kept(finish(prose, "?"), ["b?"], length)


def test_a_value_is_not_forced_before_its_room_is_needed() -> None:
    """With room left anything may follow; near the bound, only what is due."""
    prose = MentionConstraint(VOCABULARY, entries(["blue"]), Length(Range(0, 60)))
    accept(prose, "x.y")

    assert allowed_by(prose, VOCABULARY.size)[list(b'xyz,.!"- ')].all()
    accept(prose, "y" * 48)
    assert allowed_by(prose, VOCABULARY.size).nonzero()[0].tolist() == sorted(b" ,")


def test_values_against_the_model() -> None:
    """A model that never begins a value by itself still writes all of them."""
    gains = dict.fromkeys({entry.bare[0] for entry in entries(BLUE)} | {ord(" ")}, -50.0)

    write(BLUE, gains=gains, rows=4)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_text_does_not_end_early(temperature: float) -> None:
    """A model that wants to end at once writes its values and its least length first."""
    length = Length(Range(120, 400), words=Range(10), sentences=Range(2))

    write(BLUE, length, gains={END: 50.0}, rows=4, temperature=temperature)


@pytest.mark.parametrize("token", [ord("\n"), ord("\r"), END])
def test_a_line_break_is_an_end(token: int) -> None:
    """What a model gives to a line break goes to its end token."""
    prose = MentionConstraint(VOCABULARY, [], FREE)
    accept(prose, "Yes.")
    logits: Logits = np.zeros(VOCABULARY.size, dtype=np.float32)
    logits[token] = 9

    assert allowed_by(prose, VOCABULARY.size)[END]
    assert prose.process_logits(logits).argmax() == END


@pytest.mark.parametrize("letter", ["a", " ", ".", "e", '"', ","])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_one_letter_for_ever_ends(letter: str, temperature: float) -> None:
    """A model that repeats one letter for ever still writes its values and ends."""
    length = Length(Range(50, 200), words=Range(3, 40), sentences=Range(1, 9))

    write(BLUE, length, gains={ord(letter): 100.0}, rows=3, temperature=temperature)


@pytest.mark.parametrize(("first", "second"), [("blue", "red"), ("red", "blue")])
def test_the_order_is_the_models(first: str, second: str) -> None:
    """Of two values that may come, the one that the model prefers comes first."""
    for text in write(["blue", "red"], gains={ord(second[0]): -9.0}, temperature=0, rows=8):
        assert places(first, text)[0] < places(second, text)[0]


def test_same_seed_same_text() -> None:
    """The same seed gives the same texts, another seed others."""
    assert write(BLUE, seed=1, rows=2) == write(BLUE, seed=1, rows=2)
    assert write(BLUE, seed=1, rows=2) != write(BLUE, seed=2, rows=2)


def test_a_text_does_not_depend_on_its_company() -> None:
    """Rows of values and suffixes of their own come out the same in any batch."""
    values = [["blue"], ["red", "5"], [], ["caldo verde"], ["Mr. Fox"]]

    def start(row: int) -> SequenceInit:
        return SequenceInit((row, 2), MentionConstraint(VOCABULARY, entries(values[row]), FREE))

    def texts(plan: ParallelPlan) -> dict[int, str | None]:
        job = GenerationRequest((1,), start, 400, seed=3)
        rows = decode_shards(RandomModel(), job, [range(5)], plan, as_text, attempts=1)
        return {row.number: row.value for row in rows}

    alone = texts(ParallelPlan(1, 1, 1))

    assert texts(ParallelPlan(2, 3, 1)) == alone
    for row, text in alone.items():
        assert_kept(text or "", values[row], FREE)


def as_text(decoded: Completion) -> Accepted[str]:
    return Accepted(decoded.text)


def test_steering_leaves_the_logits_as_they_were() -> None:
    """`process_logits` returns a copy: rows of equal tokens share their logits."""
    prose = MentionConstraint(VOCABULARY, entries(["blue"]), FREE)
    logits: Logits = np.zeros(VOCABULARY.size, dtype=np.float32)

    assert prose.process_logits(logits)[ord("b")] > 0
    assert not logits.any()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two words.", True),
        ("Word.", False),
        ("Three or four words.", False),
        ("Two words", False),
        ("Go. Now. ", False),
        ("Twoooooooooooooooooo words.", False),
        ("Mr. Fox.", True),
    ],
)
def test_a_length_holds(text: str, expected: bool) -> None:
    """A length is kept if characters, words and sentences all are."""
    length = Length(Range(6, 20), words=Range(2, 3), sentences=Range(1, 1))

    assert length.holds(text, ["Mr. Fox"]) == expected


def test_most_tokens() -> None:
    """A text of a byte vocabulary takes a token a character, and some for each value."""
    assert most_tokens([], Length(Range(0, 100))) == 116
    assert most_tokens(entries(["blue"]), Length(Range(0, 100))) == 116 + len(" blue") + 2


def test_a_value_that_stands_is_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many values only those are looked for at each token that are due, or may be undone."""
    looks: list[str] = []

    def counted(value: str, text: str) -> list[tuple[int, int]]:
        looks.append(value)
        return places(value, text)

    monkeypatch.setattr(mentions, "places", counted)
    values = [f"value{number}" for number in range(40)]
    texts = write(values, Length(Range(0, 1000)))

    assert all(places(value, text) for value in values for text in texts)
    assert len(looks) < 0.8 * len(values) * sum(map(len, texts))
