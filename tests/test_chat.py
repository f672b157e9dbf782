"""Answers to conversations: free text and records, together, alone and in pieces."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pydantic import BaseModel, Field

from synthgen_local import Bounds, DecodingError, LocalModel, UsageError
from synthgen_local.generators.chat import Answer, Chat
from synthgen_local.prompting.prompts import Message
from synthgen_local.schema import RowSchema, compile_schema

HELLO = [Message("user", "Hello")]
MANY = [[Message("user", f"Say {i}")] for i in range(12)]


class City(BaseModel):
    """A city of few letters."""

    name: str = Field(description="its name", max_length=12)
    size: int = Field(ge=0, le=999)


class Code(BaseModel):
    """A record of plain letters."""

    code: str = Field(pattern="^[a-z]{3,9}$")
    size: int = Field(ge=0, le=999)


def grammar(schema: type[BaseModel] = City) -> Any:
    return compile_schema(RowSchema.of(schema), Bounds())


def answer(chat: Chat, seed: int = 0) -> Answer:
    return chat.generate([HELLO], seed=seed)[0]


def ended(model: LocalModel) -> tuple[int, Answer]:
    """A seed and its answer, of some length, that the model ended."""
    chat = Chat(model, max_tokens=2000, temperature=1)
    answers = ((seed, answer(chat, seed)) for seed in range(50))
    return next((s, a) for s, a in answers if a.finish == "stop" and a.tokens > 20)


@pytest.mark.parametrize("form", [None, City])
def test_answers_are_those_of_the_conversations(
    random_model: LocalModel, form: type[BaseModel] | None
) -> None:
    """Answers come in order: what begins the batch is what each would get alone."""
    chat = Chat(random_model, max_tokens=30, grammar=form and grammar(form))
    together = chat.generate(MANY, seed=5)

    assert together[0] == chat.generate(MANY[:1], seed=5)[0]
    assert together[:5] == chat.generate(MANY[:5], seed=5)
    assert [a.prompt_tokens for a in together] == [
        len(random_model.engine.tokenize(chat.prompt_text(messages))) for messages in MANY
    ]
    assert len({a.text for a in together}) == len(MANY)


@pytest.mark.parametrize("batch", [1, 3, 12])
def test_a_batch_is_one_by_one(random_model: LocalModel, batch: int) -> None:
    """How many conversations are answered together changes no answer."""
    assert Chat(random_model, batch=batch).generate(MANY) == Chat(random_model).generate(MANY)


def test_at_temperature_0_a_batch_is_each_alone(random_model: LocalModel) -> None:
    """Without chance, an answer depends on its conversation only."""
    chat = Chat(random_model, temperature=0, max_tokens=40)

    assert chat.generate(MANY) == [chat.generate([messages])[0] for messages in MANY]


def test_seeds(random_model: LocalModel) -> None:
    """The same seed gives the same answers, another seed others."""
    chat = Chat(random_model)

    assert chat.generate(MANY, seed=1) == chat.generate(MANY, seed=1)
    assert chat.generate(MANY, seed=1) != chat.generate(MANY, seed=2)


def test_an_answer_ends_where_the_model_ends_it(random_model: LocalModel) -> None:
    """The end token ends an answer that has tokens left."""
    seed, whole = ended(random_model)
    shorter = Chat(random_model, max_tokens=whole.tokens + 1, temperature=1)

    assert answer(shorter, seed) == whole


@pytest.mark.parametrize("most", [1, 7, 20])
def test_max_tokens(random_model: LocalModel, most: int) -> None:
    """What is cut at the most tokens has that many, says so, and begins like the whole."""
    seed, whole = ended(random_model)
    cut = answer(Chat(random_model, max_tokens=most, temperature=1), seed)

    assert (cut.finish, cut.tokens) == ("length", most)
    assert whole.text.startswith(cut.text)


def test_an_end_at_the_last_token_is_an_end(random_model: LocalModel) -> None:
    """Nothing was cut of an answer that the model ended with its last token."""
    seed, whole = ended(random_model)

    assert answer(Chat(random_model, max_tokens=whole.tokens, temperature=1), seed) == whole


@pytest.mark.parametrize("length", [1, 2])
def test_stop(random_model: LocalModel, length: int) -> None:
    """An answer ends before the first of the stops, and that is no cut."""
    seed, whole = ended(random_model)
    stop = whole.text[8 : 8 + length]
    found = answer(
        Chat(random_model, max_tokens=2000, temperature=1, stop=["no such stop", stop]), seed
    )

    assert (found.text, found.finish) == (whole.text.partition(stop)[0], "stop")
    assert found.tokens < whole.tokens


def test_answers_of_a_grammar_are_records(random_model: LocalModel) -> None:
    """With a grammar every answer is a whole record, however few `max_tokens` are."""
    answers = Chat(random_model, grammar=grammar(), max_tokens=1, temperature=1).generate(MANY)

    assert [City.model_validate_json(a.text).model_dump_json() for a in answers] == [
        a.text for a in answers
    ]
    assert {a.finish for a in answers} == {"stop"}


@pytest.mark.parametrize("form", [None, Code])
@pytest.mark.parametrize("seed", range(4))
def test_a_stream_is_the_answer_in_pieces(
    random_model: LocalModel, form: type[BaseModel] | None, seed: int
) -> None:
    """Pieces come one after another and make up the answer of the same seed."""
    chat = Chat(random_model, max_tokens=60, temperature=1, grammar=form and grammar(form))
    pieces = list(chat.stream(HELLO, seed=seed))

    assert "".join(pieces) == answer(chat, seed).text
    assert all(pieces)
    assert len(pieces) > 5


@pytest.mark.parametrize(
    "length",
    [1, 3],
)
def test_a_stream_has_no_stop_in_it(random_model: LocalModel, length: int) -> None:
    """What may yet be a stop is not given out."""
    seed, whole = ended(random_model)
    chat = Chat(random_model, max_tokens=2000, temperature=1, stop=[whole.text[8 : 8 + length]])

    assert "".join(chat.stream(HELLO, seed=seed)) == answer(chat, seed).text


def test_a_stream_of_a_grammar_may_have_any_character(random_model: LocalModel) -> None:
    """Characters of several tokens come whole."""
    chat = Chat(random_model, grammar=grammar(), temperature=1)

    for seed in range(5):
        assert "".join(chat.stream(HELLO, seed=seed)) == answer(chat, seed).text


def test_a_stream_may_be_left() -> None:
    """Leaving a stream early ends its threads."""
    with LocalModel.load("random", threads=1) as model:
        before = threading.active_count()
        stream = Chat(model, max_tokens=10**6, stop=["no such stop"]).stream(HELLO)
        next(stream)
        stream.close()

        assert threading.active_count() == before


def test_an_error_reaches_the_reader_of_a_stream(
    random_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fails in the stream's thread is raised where it is read."""
    monkeypatch.setattr(
        "synthgen_local.engine.constraints.free_text.FreeTextConstraint.accept_token",
        lambda *_: 1 / 0,
    )

    with pytest.raises(ZeroDivisionError):
        list(Chat(random_model).stream(HELLO))


def test_a_conversation_that_is_too_long(
    random_model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is refused by its number before anything is decoded, alone and in a stream."""
    monkeypatch.setattr(random_model.engine, "context_length", 40, raising=False)
    monkeypatch.setattr(LocalModel, "decode", lambda *_, **__: pytest.fail("decoded"))
    chat = Chat(random_model, max_tokens=20)
    long = [Message("user", "x" * 20)]

    with pytest.raises(DecodingError, match=r"^Conversation 2 ") as caught:
        chat.generate([HELLO, long])
    assert caught.value.hint
    with pytest.raises(DecodingError, match=r"^Conversation 1 "):
        list(chat.stream(long))


def test_empty_conversations(random_model: LocalModel) -> None:
    """No conversations have no answers; a conversation without a message is an error."""
    chat = Chat(random_model)

    assert chat.generate([]) == []
    with pytest.raises(UsageError, match="no message"):
        chat.generate([HELLO, []])
    with pytest.raises(UsageError, match="no message"):
        list(chat.stream([]))


@pytest.mark.parametrize("options", [{"temperature": -0.1}, {"max_tokens": 0}])
def test_options_that_make_no_sense(random_model: LocalModel, options: dict[str, Any]) -> None:
    """They are errors with a hint."""
    with pytest.raises(UsageError) as caught:
        Chat(random_model, **options)
    assert caught.value.hint


def test_prompts_of_a_base_model(random_model: LocalModel) -> None:
    """Without a chat template, lines stand for messages; a record's form ends the last one."""
    messages = [Message("system", "Be kind"), *HELLO, Message("assistant", "Hi"), *HELLO]

    assert Chat(random_model).prompt_text(messages) == "Be kind\nHello\nHi\n\nHello\n"
    assert Chat(random_model, grammar=grammar()).prompt_text(messages) == (
        "Be kind\nHello\nHi\n\nHello\n\nAnswer as JSON in this form: "
        '{"name":"...","size":0}\n- name: its name\n'
    )
