"""outlines' generators and output types on this engine, with the real package."""

from __future__ import annotations

import json
import subprocess
import sys
from ast import literal_eval
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union

import outlines
import pytest
from genson import SchemaBuilder
from outlines import grammars, types
from outlines.inputs import Chat
from pydantic import BaseModel, Field, TypeAdapter
from typing_extensions import TypedDict
from validated import Even, Never

from synthgen_local import (
    DecodingError,
    LocalModel,
    SchemaError,
    TabularGenerator,
    UsageError,
)
from synthgen_local.outlines import OutlinesLocal, from_local
from synthgen_local.prompting.prompts import Message
from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.grammar.text_grammar import TextGrammar

PROMPTS = [f"Say {number}" for number in range(8)]
READY_MADE = [name for name in types.__all__ if isinstance(getattr(types, name), types.Regex)]
NESTED = types.CFG('start: "x" | "(" start ")"')
FLAT = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}


class City(BaseModel):
    """A record with outlines' terms as types and as annotations."""

    zip: Annotated[str, types.Regex(r"\d{5}")]
    mail: types.email = Field(description="who to write to")
    books: list[types.isbn] = Field(max_length=2)
    side: types.Choice(["north", 'the "south"'])
    rank: Annotated[str, types.Regex("[a-z]+"), Field(max_length=4)]
    packed: types.JsonSchema({**FLAT, "additionalProperties": False})


@dataclass
class Point:
    """A place."""

    x: int
    up: bool


class Named(TypedDict):
    """A name."""

    name: Literal["a", "b"]


def act(left: int, right: Literal["x"] = "x") -> None:
    """What a model may call."""


class Act(Enum):
    """Calls and constants together."""

    call = partial(act)
    none = "none"


@pytest.fixture(scope="module")
def random(random_model: LocalModel) -> OutlinesLocal:
    """Random logits as one of outlines' models."""
    return from_local(random_model, temperature=1)


def genson() -> SchemaBuilder:
    builder = SchemaBuilder()
    builder.add_object({"x": 1})
    return builder


def one_of(*texts: str) -> Callable[[str], Any]:
    return texts.index


def validated(kind: Any) -> Callable[[str], Any]:
    return TypeAdapter(kind).validate_json


def whole(term: Any) -> Callable[[str], Any]:
    return term.validate


FORMS: list[tuple[Any, Callable[[str], Any]]] = [
    (int, int),
    (float, float),
    (str, json.loads),
    (bool, one_of("True", "False")),
    (date, date.fromisoformat),
    (time, time.fromisoformat),
    (datetime, datetime.fromisoformat),
    (Annotated[date, Field(ge=date(2020, 2, 1), lt=date(2020, 3, 1))], date.fromisoformat),
    (dict, json.loads),
    (list[int], validated(list[int])),
    (dict[str, bool], validated(dict[str, bool])),
    (tuple[int, bool], validated(tuple[int, bool])),
    (Annotated[int, Field(ge=3, le=4)], one_of("3", "4")),
    (Literal["a", 3, True, None], one_of("a", "3", "True", "None")),
    (Optional[int], literal_eval),
    (Union[Literal["many"], int], lambda text: text == "many" or int(text)),
    (City, City.model_validate_json),
    (Point, validated(Point)),
    (Named, validated(Named)),
    (City | Point, validated(City | Point)),
    (act, lambda text: act(**json.loads(text))),
    (Act, lambda text: text == "none" or act(**json.loads(text))),
    (Even, Even.model_validate_json),
    (genson(), validated(dict[str, int])),
    ("yes", one_of("yes")),
    (1.5, one_of("1.5")),
    (types.Choice(["red", "light blue", 7]), one_of("red", "light blue", "7")),
    (types.Choice([int, "none"]), lambda text: text == "none" or int(text)),
    (types.Regex(r"[a-z]{3}-\d/\d"), whole(types.Regex(r"[a-z]{3}-\d/\d"))),
    (types.Regex(r"\p{Lu}x"), lambda text: text[0].isupper() or 1 / 0),
    (types.Regex("a") | None, one_of("a", "None")),
    (types.between(1, 2, types.digit) + "!", whole(types.between(1, 2, types.digit) + "!")),
    (types.either("y", NESTED), lambda text: text == "y" or text.strip("()") == "x"),
    (NESTED, lambda text: (text.strip("()") == "x") or 1 / 0),
    (types.CFG(grammars.arithmetic), TextGrammar.of_lark(grammars.arithmetic).parse),
    (types.JsonSchema(FLAT), lambda text: int(json.loads(text)["x"])),
    (types.locale.us.phone_number, whole(types.locale.us.phone_number)),
]


@pytest.mark.filterwarnings("ignore:The function name")  # outlines' own, of a partial
@pytest.mark.parametrize(("kind", "read"), FORMS, ids=lambda value: repr(value)[:40])
def test_texts_are_of_their_type(
    random: OutlinesLocal, kind: Any, read: Callable[[str], Any]
) -> None:
    """Whatever the logits are, an answer is one of its output type's, as outlines writes it."""
    for text in outlines.Generator(random, kind).batch(PROMPTS[:4], max_tokens=100):
        assert isinstance(text, str)
        read(text)


@pytest.mark.parametrize("name", READY_MADE)
def test_ready_made_types(random: OutlinesLocal, name: str) -> None:
    """Each of outlines' own expressions is matched by the whole of every answer."""
    term = getattr(types, name)

    assert all(map(term.matches, outlines.Generator(random, term).batch(PROMPTS)))


def test_free_text_ends_in_time(random: OutlinesLocal) -> None:
    """Without an output type the text is free, up to the most tokens or a stop."""
    text = outlines.Generator(random)(PROMPTS[0], max_tokens=30)
    stopped = random(PROMPTS[0], max_tokens=30, stop=text[5])

    assert 0 < len(text.encode()) <= 30
    assert stopped == text[: text.index(text[5])]


def test_a_batch_is_one_by_one(random: OutlinesLocal) -> None:
    """How many are decoded together changes no answer, and the first is what it is alone."""
    ask = outlines.Generator(random, City)
    together = ask.batch(PROMPTS)

    assert together == ask.batch(PROMPTS, batch=1) == ask.batch(PROMPTS, batch=3)
    assert together[0] == ask(PROMPTS[0])
    assert ask.batch(PROMPTS, temperature=0) == [ask(one, temperature=0) for one in PROMPTS]
    assert ask.batch([]) == []


def test_seeds(random: OutlinesLocal, random_model: LocalModel) -> None:
    """The same seed gives the same text, another one another."""
    ask = outlines.Generator(random, types.email)

    assert ask("Who?", seed=7) == ask("Who?", seed=7) != ask("Who?", seed=8)
    assert from_local(random_model, temperature=1, seed=7)("Who?", types.email) == ask(
        "Who?", seed=7
    )


@pytest.mark.parametrize("kind", [None, City, types.isbn, NESTED, Literal["red", "blue"]])
def test_a_stream_is_the_answer_in_pieces(random: OutlinesLocal, kind: Any) -> None:
    """Pieces of a stream, joined, are what a call returns."""
    options = {"max_tokens": 60, "seed": 2}
    pieces = list(outlines.Generator(random, kind).stream("Hello", **options))

    assert "".join(pieces) == random("Hello", kind, **options)
    assert len(pieces) > 1 or kind in (NESTED, Literal["red", "blue"])


def test_refused_answers_are_drawn_anew_or_an_error(random: OutlinesLocal) -> None:
    """A type's own validators hold; where they never do, that is said, also after a stream."""
    assert all(json.loads(text)["number"] % 2 == 0 for text in random.batch(PROMPTS, Even))
    with pytest.raises(DecodingError, match=r"Prompt 1 has no valid answer: number: .*never right"):
        random("Hello", Never)
    stream = random.stream("Hello", Never)
    with pytest.raises(DecodingError, match="The stream has no valid answer"):
        list(stream)


def test_a_grammar_ends_in_time_or_is_an_error(random: OutlinesLocal) -> None:
    """A text of a context-free grammar is whole within the most tokens; there is none in part."""
    long = types.CFG('start: "a"+')
    endless = types.CFG("start: /[é-ü]/ start")

    assert set(random("Hello", long, max_tokens=9)) == {"a"}
    for most in (1, 7):
        with pytest.raises(DecodingError, match="not a whole one"):
            random("Hello", endless, max_tokens=most)
    with pytest.raises(DecodingError, match="not a whole one"):
        random("Hello", types.CFG('start: "long enough" /[a-z]/'), max_tokens=5)


def test_conversations_are_inputs(random: OutlinesLocal) -> None:
    """outlines' Chat is read with its roles; a string is what the user says."""
    chat = Chat([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}])
    adapter = random.type_adapter

    assert adapter.format_input("Hi") == [Message("user", "Hi")]
    assert adapter.format_input(chat) == [Message("system", "Be brief."), Message("user", "Hi")]
    assert random(chat, int) == random(chat, int)
    for wrong in (7, ["Hi"], Chat([{"role": "user", "content": ["Hi", 7]}])):
        with pytest.raises(UsageError, match="reads no"):
            random(wrong)
    with pytest.raises(UsageError, match="no message"):
        random(Chat([]))


def test_options_that_make_no_sense(random: OutlinesLocal) -> None:
    """Unknown options, a stop for a typed text and impossible numbers are refused."""
    with pytest.raises(UsageError, match="does not take top_p"):
        random("Hello", top_p=0.9)
    with pytest.raises(UsageError, match="ends by itself"):
        random("Hello", int, stop="1")
    with pytest.raises(UsageError, match="below 0"):
        random("Hello", temperature=-1)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [("seed", -1), ("seed", 1.5), ("temperature", "hot"), ("max_tokens", "3"), ("batch", 0),
     ("stop", 5), ("max_tokens", 0)],
)  # fmt: skip
def test_values_that_make_no_sense(random: OutlinesLocal, name: str, wrong: Any) -> None:
    """An option's value of another kind is refused by name, in a call and by the constructor."""
    with pytest.raises(UsageError, match=name) as caught:
        random("Hello", **{name: wrong})
    assert caught.value.hint
    if name != "stop":
        with pytest.raises(UsageError, match=name):
            from_local(random.model, **{name: wrong})


def test_what_a_message_also_has(random: OutlinesLocal) -> None:
    """A key of a message that is not read is refused by name."""
    with pytest.raises(UsageError, match="tool_calls"):
        random(Chat([{"role": "user", "content": "Hi", "tool_calls": [1]}]))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (types.CFG("start: nothing"), "nothing"),
        (types.Regex("(a"), "not closed"),
        (types.Regex("a{1001}"), "matches no text"),
        (types.Regex("(?=a)b"), "matches no text"),
        (types.Regex(r"\p{L}\b"), "neither regular nor"),
        (types.at_least(2, NESTED), "CFG"),
        (object(), "does not know the type"),
        (lambda x: x, "annotation"),
    ],
)
def test_types_that_cannot_be(random: OutlinesLocal, kind: Any, said: str) -> None:
    """What has no text, or no grammar, is refused with the reason and a hint."""
    with pytest.raises(SchemaError, match=said) as caught:
        random("Hello", kind)

    assert caught.value.hint


def test_terms_as_whole_schemas() -> None:
    """A term is a schema: a JSON schema is itself, all others are strings."""
    zips = compile_schema(RowSchema.of(types.Regex(r"\d{5}")))
    sides = RowSchema.of(types.Choice(["a", "b"]))
    flat = RowSchema.of(types.JsonSchema(FLAT))

    assert (zips.certificate.guarantee, zips.schema.parse('"12345"')) == ("construction", "12345")
    with pytest.raises(ValueError, match="language"):
        zips.schema.parse('"x12345"')
    assert sides.json_schema == {"type": "string", "enum": ["a", "b"]}
    assert flat.json_schema == FLAT
    for term in (NESTED, types.Regex("a") + NESTED, types.Regex("a") | None):
        with pytest.raises(SchemaError, match=r"(CFG|None).* cannot stand inside"):
            RowSchema.of(term)


def test_terms_as_fields(random_model: LocalModel) -> None:
    """Fields of outlines' types hold whole matches, in tables as well."""
    rows = TabularGenerator(City, random_model, temperature=1).generate(rows=20)

    assert all(City.model_validate(row.model_dump()) == row for row in rows)
    assert all(len(row.zip) == 5 and len(row.rank) <= 4 for row in rows)
    assert {row.side for row in rows} == {"north", 'the "south"'}
    assert all(isinstance(json.loads(row.packed)["x"], int) for row in rows)


def test_a_context_free_grammar_is_no_field() -> None:
    """A grammar inside of a JSON string is refused by name."""

    class Wrong(BaseModel):
        text: Annotated[str, NESTED]

    with pytest.raises(SchemaError, match="outlines' CFG cannot stand inside of a JSON string"):
        RowSchema.of(Wrong)


def test_json_schemas_as_fields() -> None:
    """A field that is a JSON schema of outlines' is a string that holds JSON."""
    defined = {
        **FLAT,
        "$defs": {"n": {"type": "integer"}},
        "properties": {"x": {"$ref": "#/$defs/n"}},
    }

    class Packed(BaseModel):
        plain: types.JsonSchema(FLAT)
        referring: types.JsonSchema(defined)

    class Wrong(BaseModel):
        text: types.JsonSchema({"$ref": "#/$defs/none"})

    schema = RowSchema.of(Packed).json_schema["properties"]

    assert schema["plain"]["x-synthgen-contentSchema"] == FLAT
    assert schema["referring"]["pattern"].startswith("^")
    assert compile_schema(RowSchema.of(Packed))
    with pytest.raises(SchemaError, match="is no regular expression"):
        RowSchema.of(Wrong)


def test_look_ahead_holds_by_construction() -> None:
    """What must follow in the middle of an expression is in its grammar."""
    isbn = TextGrammar.of_lark(TextGrammar.of_pattern(types.isbn.pattern).lark)

    assert isbn.parse("978-3-16-148410-0")
    for wrong in ("9783161484100-", "12345678901", "97831614841001"):
        with pytest.raises(ValueError, match="not one of the grammar"):
            isbn.parse(wrong)


def test_bounds_of_texts() -> None:
    """A text that ends soon asks for little room."""
    assert TextGrammar.of_pattern("[a-z]{3}").longest == 32
    assert TextGrammar.of_pattern("[a-z]+").longest == 800
    assert TextGrammar.of_literal("né").longest == 3


def test_templates_and_applications(random: OutlinesLocal) -> None:
    """outlines' applications run on it as they are."""
    template = outlines.Template.from_string("How old is {{ name }}?")

    assert int(outlines.Application(template, int)(random, {"name": "Ada"})) is not None


def test_only_the_drop_in_imports_outlines(tmp_path: Path) -> None:
    """The package without its drop-in never loads outlines; the drop-in leaves no cache."""
    loaded = "print('outlines' in __import__('sys').modules)"
    used = "import synthgen_local.generators.chat, synthgen_local.schema;" + loaded
    dropped = "import synthgen_local.outlines;" + loaded
    home = {"HOME": str(tmp_path), "PATH": ""}
    said = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=home
        ).stdout
        for code in (used, dropped)
    ]

    assert said == ["False\n", "True\n"]
    assert not list(tmp_path.iterdir())


@pytest.mark.model
def test_a_real_model_answers(model: LocalModel) -> None:
    """With weights, each kind of type is answered, together, and sensibly where it can be."""
    local = from_local(model, temperature=0)
    where = outlines.Generator(local, Literal["Italy", "Norway"])
    sum_of_digits = types.CFG('start: DIGIT ("+" DIGIT)*\nDIGIT: /[1-9]/')

    asked = ["Is Rome in Italy or in Norway?", "Is Oslo in Italy or in Norway?"]

    assert where.batch(asked) == ["Italy", "Norway"]
    assert types.email.matches(local("What is the mail address of Ada Lovelace?", types.email))
    assert City.model_validate_json(local("Describe a city as JSON.", City))
    assert int(local("How many legs has a spider?", int)) > 0
    assert set(local("Calculate with 1 and 2.", sum_of_digits)) <= set("123456789+")
    assert "".join(local.stream("Say hello.", max_tokens=20)) == local("Say hello.", max_tokens=20)
