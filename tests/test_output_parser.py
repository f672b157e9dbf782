"""Answers read back as records, and format instructions found again in prompts."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.output_parsers import PydanticOutputParser
from pydantic import BaseModel, Field

from synthgen_local import OutputError
from synthgen_local.prompting.output_parser import RecordParser, schema_in


class Actor(BaseModel):
    """An actor's films."""

    Actor: str
    Film: list[str] = Field(description="films named in {this} text")


class Cat(BaseModel):
    """A kind."""

    kind: Literal["cat"]


class Dog(BaseModel):
    """Another kind."""

    kind: Literal["dog"]


class Pet(BaseModel):
    """A record whose kind is told by a tag."""

    pet: Annotated[Cat | Dog, Field(discriminator="kind")]


TOM = Actor(Actor="Tom {Hanks}", Film=['The "Post"'])
JSON = TOM.model_dump_json()
SPACED = TOM.model_dump_json(indent=2)


@pytest.mark.parametrize(
    "answer",
    [
        JSON,
        f"\n{SPACED}\n",
        f"```json\n{SPACED}\n```",
        f"```\n{JSON}\n```",
        f"Of course! Here it is: {JSON} I hope it helps {{you}}.",
        f'{{"Actor": "Nobody"}} or rather {JSON} but not {{"Actor": "Last", "Film": []}}',
        f"{{ {JSON}",
        f"[{JSON}]",
    ],
)
def test_parse(answer: str) -> None:
    """The first JSON object that the schema takes is the record, whatever stands around it."""
    assert RecordParser(Actor).parse(answer) == TOM


@settings(deadline=None, max_examples=50)
@given(st.text("ab{}[]:,` \n", max_size=30), st.text(max_size=20), st.lists(st.text(max_size=9)))
def test_parse_passes_over_words(words: str, name: str, films: list[str]) -> None:
    """Any words may stand before a record, braces among them, and any text inside it."""
    record = Actor(Actor=name, Film=films)

    assert RecordParser(Actor).parse(words + record.model_dump_json()) == record


def test_records_of_a_json_schema_are_dicts() -> None:
    """A parser of a JSON Schema gives the dict, checked."""
    parser = RecordParser({"properties": {"n": {"type": "integer"}}, "required": ["n"]})

    assert parser.parse('so {"n": 3}') == {"n": 3}
    with pytest.raises(OutputError, match="n: type"):
        parser.parse('{"n": "three"}')


@pytest.mark.parametrize(
    ("schema", "answer", "reason"),
    [
        (Actor, "secret", "no JSON object"),
        (Actor, "", "no JSON object"),
        (Actor, '{"Actor": "secret", "Film', "no JSON object"),
        (Actor, '["secret"]', "no JSON object"),
        (Actor, '{"Actor": "secret"}', "Film: Field required"),
        (Actor, '{"Actor": "secret", "Film": "secret"}', "Film: Input should be a valid array"),
        ("age int", '{"age": "secret"}', "age: Input should be a valid integer"),
        ("born date", '{"born": "secret"}', "born: Input should be a valid date"),
        (Pet, '{"pet": {"kind": "secret"}}', "pet: the tag is none of "),
    ],
)
def test_what_cannot_be_parsed(schema: Any, answer: str, reason: str) -> None:
    """The error says what is wrong and what to do, and quotes no value of the answer."""
    with pytest.raises(OutputError, match=reason) as caught:
        RecordParser(schema).parse(answer)

    assert caught.value.hint
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("schema", [Actor, Pet, "name, age int", {"properties": {"é": {}}}])
def test_instructions_are_found_again(schema: Any) -> None:
    """The schema comes back out of a prompt as it went in, with the rest of the prompt."""
    parser = RecordParser(schema)
    prompt = f"Who? ```\ncode\n``` {parser.get_format_instructions()}\nText: {{x}} ```\nmore\n```"

    assert schema_in(prompt) == (
        {"type": "object", **parser.schema.json_schema},
        "Who? ```\ncode\n``` \nText: {x} ```\nmore\n```",
    )


@pytest.mark.parametrize(
    ("before", "description"), [("", "in ```ticks```"), ("An open ```\nfence. ", "plain")]
)
def test_backticks_hide_no_schema(before: str, description: str) -> None:
    """Backticks in a description, or before the instructions, change nothing."""
    schema = {"type": "object", "properties": {"x": {"description": description}}}
    instructions = RecordParser(schema).get_format_instructions()

    assert schema_in(f"{before}{instructions} end") == (schema, f"{before} end")


def test_instructions_of_langchain_are_understood() -> None:
    """LangChain's own instructions give the model's schema and leave the rest of the prompt."""
    instructions = PydanticOutputParser(pydantic_object=Actor).get_format_instructions()
    found = schema_in(f"Read this.\n{instructions}\nText: Tom")

    assert found is not None
    assert found[1] == "Read this.\n\nText: Tom"
    assert found[0]["type"] == "object"
    assert RecordParser(found[0]).parse(JSON) == json.loads(JSON)
    with pytest.raises(OutputError, match="required"):
        RecordParser(found[0]).parse("{}")


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "Who is it?",
        'Who? ```\n{"properties": {}}\n```',
        f"{RecordParser(Actor).get_format_instructions().partition('```')[0]}Nothing follows.",
        RecordParser(Actor).get_format_instructions().replace("{", "(", 1),
        RecordParser(Actor).get_format_instructions().replace("properties", "props"),
    ],
)
def test_prompts_without_instructions(prompt: str) -> None:
    """A prompt with no instructions, or with no schema after them, has none."""
    assert schema_in(prompt) is None
