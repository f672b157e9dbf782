"""Options of LangChain's calls: each is honoured or refused by name; tools, seeds and caches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    HumanMessage,
    SystemMessage,
    ToolMessage,
)
from langchain_core.output_parsers import PydanticToolsParser, StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import tool
from pydantic import BaseModel, Field
from typing_extensions import TypedDict

from synthgen_local import LocalModel, PromptError, UsageError
from synthgen_local.langchain import (
    ChatLocal,
    LocalLLM,
    create_data_generation_chain,
    create_data_generator,
    create_extraction_chain,
    create_extraction_chain_pydantic,
    create_structured_output_runnable,
    replies,
)
from synthgen_local.langchain.messages import call_text, read_messages
from synthgen_local.langchain.tools import Tools

PASSAGE = "Tom Hanks starred in Forrest Gump."
PERSON = {
    "properties": {"name": {"type": "string"}, "height": {"type": "integer"}},
    "required": ["name"],
}


class Weather(BaseModel):
    """Tell the weather of a town."""

    city: str = Field(max_length=6, description="a town")
    days: int = Field(ge=1, le=3)


class WeatherDict(TypedDict):
    """Tell the weather of a town."""

    city: str


class Actor(BaseModel):
    """What is read out of texts."""

    name: str


class Cast(BaseModel):
    """Who is in a film."""

    names: list[str]


class Color(Enum):
    """A colour."""

    RED = "red"
    GREEN = "green"


@dataclass
class Point:
    """A place."""

    x: int
    up: bool


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def rest() -> str:
    """Do nothing."""
    return ""


OPENAI = {
    "type": "function",
    "function": {
        "name": "find",
        "description": "Find a node.",
        "parameters": {
            "$defs": {"node": {"type": "object", "properties": {"id": {"enum": [1, 2]}},
                               "required": ["id"], "additionalProperties": False}},
            "type": "object",
            "properties": {"node": {"$ref": "#/$defs/node"}},
            "required": ["node"],
        },
    },
}  # fmt: skip


@pytest.fixture
def chat(random_model: LocalModel) -> ChatLocal:
    """A chat model with random logits and no seed."""
    return ChatLocal(temperature=1, max_tokens=24, local_model=random_model)


WAYS: list[Callable[[ChatLocal, dict[str, Any]], Any]] = [
    lambda chat, options: chat.invoke("Hello", **options),
    lambda chat, options: chat.bind(**options).invoke("Hello"),
    lambda chat, options: chat.batch(["Hello"], **options)[0],
    lambda chat, options: asyncio.run(chat.ainvoke("Hello", **options)),
    lambda chat, options: asyncio.run(chat.abatch(["Hello"], **options))[0],
    lambda chat, options: "".join(str(c.content) for c in chat.stream("Hello", **options)),
    lambda chat, options: (ChatPromptTemplate.from_template("Hello") | chat.bind(**options)
                           | StrOutputParser()).invoke({}),
]  # fmt: skip
NAMES = ["invoke", "bind", "batch", "ainvoke", "abatch", "stream", "pipe"]


def said(answer: Any) -> str:
    return str(answer.content) if isinstance(answer, AIMessage) else str(answer)


# Options


@pytest.mark.parametrize("way", WAYS, ids=NAMES)
def test_options_of_a_call(chat: ChatLocal, way: Callable[..., Any]) -> None:
    """A call's temperature, seed and length count, by every way to call, in every spelling."""
    likeliest = chat.model_copy(update={"temperature": 0}).invoke("Hello").content
    seeded = chat.model_copy(update={"seed": 5}).invoke("Hello").content
    short = chat.model_copy(update={"seed": 5, "max_tokens": 3}).invoke("Hello").content

    assert said(way(chat, {"temperature": 0})) == likeliest
    assert said(way(chat, {"seed": 5})) == seeded
    assert short != seeded
    for name in ("max_tokens", "max_completion_tokens", "max_new_tokens", "n_predict"):
        assert said(way(chat, {"seed": 5, name: 3})) == short


@pytest.mark.parametrize(
    "way", [*WAYS, lambda _, options: ChatLocal(**options)], ids=[*NAMES, "new"]
)
@pytest.mark.parametrize("name", ["top_p", "temprature", "n", "api_key", "frequency_penalty"])
def test_other_options_are_refused(chat: ChatLocal, way: Callable[..., Any], name: str) -> None:
    """An option that is no setting is an error that names it, with a hint, in every way."""
    with pytest.raises(UsageError, match=name) as caught:
        way(chat, {name: 0.9})

    assert caught.value.hint


def test_hints_and_what_asks_for_nothing(chat: ChatLocal) -> None:
    """A misspelt option is told the right one; None and neutral values ask for nothing."""
    with pytest.raises(UsageError) as caught:
        ChatLocal(temprature=1)  # type: ignore[call-arg]
    with pytest.raises(UsageError, match="twice"):
        chat.invoke("Hello", max_tokens=3, max_new_tokens=4)
    with pytest.raises(UsageError, match="temperature"):
        chat.bind(temperature=-1)

    neutral: dict[str, Any] = {"top_p": 1.0, "n": 1, "timeout": None, "temperature": None}
    assert caught.value.hint == "Did you mean temperature?"
    assert ChatLocal(**neutral).temperature == 0.7
    plain = chat.invoke("Hello", seed=1).content
    assert chat.invoke("Hello", **neutral, seed=1).content == plain


def test_options_of_the_text_model(random_model: LocalModel) -> None:
    """The text model honours and refuses options by name, too, in a batch as well."""
    llm = LocalLLM(temperature=1, max_tokens=24, local_model=random_model)
    once = llm.invoke("Hello", seed=3)

    assert llm.invoke("Hello", seed=3) == once == llm.bind(seed=3).batch(["Hello"])[0]
    assert len({llm.invoke("Hello") for _ in range(4)}) == 4
    assert len(llm.invoke("Hello", seed=3, max_new_tokens=2)) < len(once)
    for call in (lambda **o: llm.invoke("Hello", **o), llm.bind, LocalLLM):
        with pytest.raises(UsageError, match="tools"):
            call(tools=[add])


def test_a_stop_of_one_string(chat: ChatLocal) -> None:
    """A stop may be one string, in a call and in the settings."""
    whole = str(chat.invoke("Hello", seed=0).content)
    stop: Any = whole[3:6]

    assert chat.invoke("Hello", stop=stop, seed=0).content == whole[:3]
    assert chat.bind(stop=stop).batch(["Hello"], seed=0)[0].content == whole[:3]
    assert ChatLocal(stop=stop).stop == [stop]


@pytest.mark.parametrize("stop", [5, "", ["a", 5], [""]])
def test_what_is_no_stop(chat: ChatLocal, stop: Any) -> None:
    """A stop that is no string, or an empty one, is an error that names it."""
    with pytest.raises(UsageError, match="stop"):
        chat.invoke("Hello", stop=stop)


def test_a_stop_of_what_ends_by_itself(chat: ChatLocal) -> None:
    """A call with a schema or a forced tool takes no stop; one of the model is for free text."""
    for caller in (chat.with_structured_output(Color), chat.bind_tools([add], tool_choice="any")):
        with pytest.raises(UsageError, match="stop"):
            caller.invoke("Hello", stop=["x"])
    stopping = chat.model_copy(update={"stop": ["e"]})
    assert stopping.with_structured_output(Color).invoke("Hello") in Color


def test_configs(chat: ChatLocal) -> None:
    """A key that no config has is an error: LangChain drops it."""
    llm = LocalLLM(local_model=chat.local_model)
    for one in (chat, llm, create_data_generation_chain(chat)):
        with pytest.raises(UsageError, match="temperature"):
            one.with_config(temperature=0)
        with pytest.raises(UsageError, match="seed"):
            one.with_config({"seed": 1})  # type: ignore[typeddict-unknown-key]
        assert one.with_config({"tags": ["a"]}, run_name="b").config["tags"] == ["a"]


def test_a_structured_output_runnable(chat: ChatLocal) -> None:
    """LangChain's older name for structured answers, with a prompt and without."""
    prompt = PromptTemplate.from_template("Name a {thing}.")

    assert create_structured_output_runnable(Color, chat).invoke("Hello") in Color
    assert create_structured_output_runnable(Color, chat, prompt).invoke({"thing": "colour"})


def test_tools_arguments_do_not_repeat() -> None:
    """Lists of a call's arguments lose their repeats; other calls stay as they are."""
    tools = Tools.of([Cast], "any", parallel=True, room=1024)
    assert tools is not None

    repeated = f"[{call_text('Cast', {'names': ['a', 'b', 'a']})}]"
    assert tools.tidy(repeated) == f"[{call_text('Cast', {'names': ['a', 'b']})}]"
    plain = '[{"name":"Cast","arguments":{"names":[ "a" ]}}]'
    assert tools.tidy(plain) == plain


def test_another_model_for_a_call(chat: ChatLocal) -> None:
    """A call may name another model, and its answer says which it was."""
    named = chat.model_copy(update={"local_model": None, "model": "random"})

    assert named.invoke("Hello", model="random").response_metadata["model_name"] == "random"


# Seeds


def test_a_model_without_a_seed_varies(chat: ChatLocal) -> None:
    """Equal prompts get other answers; each reports the seed that repeats it."""
    answers = [chat.invoke("Hello") for _ in range(10)]
    again = [chat.invoke("Hello", seed=a.response_metadata["seed"]) for a in answers]
    batch = chat.batch(["Hello"] * 2)
    repeated = chat.batch(["Hello"] * 2, seed=batch[1].response_metadata["seed"])

    assert len({answer.content for answer in answers}) == 10
    assert [a.content for a in again] == [a.content for a in answers]
    assert [a.content for a in repeated] == [a.content for a in batch]
    assert batch[1].response_metadata["batch_index"] == 1


def test_a_seed_and_temperature_0_repeat(random_model: LocalModel) -> None:
    """With a seed, or at temperature 0, equal prompts get equal answers."""
    for options in ({"seed": 4}, {"temperature": 0}):
        chat = ChatLocal(max_tokens=24, local_model=random_model, **options)
        assert len({chat.invoke("Hello").content for _ in range(4)}) == 1


def test_a_configurable_field(chat: ChatLocal) -> None:
    """A setting may be a configurable field."""
    open_chat = chat.configurable_fields(seed=ConfigurableField(id="seed"))
    answers = [open_chat.with_config(configurable={"seed": 7}).invoke("Hello") for _ in range(2)]

    assert answers[0].content == answers[1].content == chat.invoke("Hello", seed=7).content


def test_the_cache(random_model: LocalModel) -> None:
    """LangChain's cache answers for invoke and batch, and tells settings apart."""
    cache = InMemoryCache()
    chat = ChatLocal(temperature=1, max_tokens=24, local_model=random_model, cache=cache)
    other = chat.model_copy(update={"max_tokens": 3})
    first = chat.invoke("Hello").content

    assert chat.invoke("Hello").content == first
    batch = chat.batch(["Hello", "Hi"])
    assert batch[0].content == first
    assert batch[1].content == chat.invoke("Hi").content
    assert other.invoke("Hello").content != first


def test_a_batch_returns_each_ones_error(chat: ChatLocal) -> None:
    """One conversation that cannot be read leaves the others their answers."""
    picture = HumanMessage([{"type": "image_url", "image_url": {"url": "data:,"}}])
    answers: list[Any] = chat.batch(["Hello", [picture], "Hi"], return_exceptions=True)

    assert [type(answer) for answer in answers] == [AIMessage, UsageError, AIMessage]
    with pytest.raises(UsageError, match="image_url"):
        chat.batch(["Hello", [picture]])


def test_a_stream_reports_its_tokens(chat: ChatLocal) -> None:
    """The pieces of a stream add up to the message of invoke."""
    pieces = list(chat.stream("Hello", seed=1))
    total = sum(pieces[1:], pieces[0])
    whole = chat.invoke("Hello", seed=1)

    assert isinstance(total, AIMessageChunk)
    assert total.usage_metadata == whole.usage_metadata
    assert total.response_metadata == whole.response_metadata


# Tools


@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ("any", {"add", "Weather", "WeatherDict", "rest", "find"}),
        ("required", {"add", "Weather", "WeatherDict", "rest", "find"}),
        (True, {"add", "Weather", "WeatherDict", "rest", "find"}),
        ({"type": "any"}, {"add", "Weather", "WeatherDict", "rest", "find"}),
        ("rest", {"rest"}),
        ({"type": "function", "function": {"name": "find"}}, {"find"}),
        ({"type": "tool", "name": "Weather"}, {"Weather"}),
    ],
)
def test_calls_of_tools(chat: ChatLocal, choice: Any, names: set[str]) -> None:
    """Whatever the logits are, a call names a tool, and its arguments follow the tool's schema."""
    bound = chat.bind_tools([add, Weather, WeatherDict, rest, OPENAI], tool_choice=choice)
    answers = bound.batch(["Hello"] * 6)
    check: dict[str, Callable[..., Any]] = {
        "add": lambda **args: add.invoke(args),
        "Weather": Weather,
        "WeatherDict": lambda city: city,
        "rest": rest,
        "find": lambda node: {1: 1, 2: 2}[node["id"]],
    }

    for answer in answers:
        (call,) = answer.tool_calls
        assert call["name"] in names
        check[call["name"]](**call["args"])
        assert answer.content == ""
        assert answer.response_metadata["finish_reason"] == "tool_calls"
        assert call["id"]


def test_a_model_may_answer_or_call(chat: ChatLocal, monkeypatch: pytest.MonkeyPatch) -> None:
    """By "auto" a model answers in words, or, where it begins a call, calls after them."""
    bound = chat.bind_tools([Weather])
    words = str(bound.invoke("Hello", seed=1).content)
    silent = chat.bind_tools([Weather], tool_choice="none").invoke("Hello", seed=1)
    monkeypatch.setattr(replies, "CALL", words[2:4])  # now it begins a call there
    answer = bound.invoke("Hello", seed=1)
    pieces = list(bound.stream("Hello", seed=1))

    assert silent.tool_calls == []
    assert silent.content == chat.invoke("Hello", seed=1).content
    assert answer.content == words[:2]
    assert Weather(**answer.tool_calls[0]["args"])
    total = sum(pieces[1:], pieces[0])
    assert isinstance(total, AIMessageChunk)
    assert (total.content, total.tool_calls) == (answer.content, answer.tool_calls)
    assert total.usage_metadata == answer.usage_metadata


def test_calls_are_streamed(chat: ChatLocal) -> None:
    """A stream has a call as chunks of its name and its arguments, awaited as well."""
    bound = chat.bind_tools([Weather], tool_choice="any")

    async def awaited() -> list[Any]:
        return [piece async for piece in bound.astream("Hello", seed=2)]

    for pieces in (list(bound.stream("Hello", seed=2)), asyncio.run(awaited())):
        chunks = [chunk for piece in pieces for chunk in piece.tool_call_chunks]
        assert chunks[0]["name"] == "Weather"
        total = sum(pieces[1:], pieces[0])
        assert total.tool_calls == bound.invoke("Hello", seed=2).tool_calls


def test_several_calls_are_asked_for(chat: ChatLocal) -> None:
    """With `parallel_tool_calls` an answer may have several calls, with ids of their own."""
    bound = chat.bind_tools([add, rest], tool_choice="any", parallel_tool_calls=True)
    answers = bound.batch(["Hello"] * 8, seed=0)
    single = chat.bind_tools([add], tool_choice="any", parallel_tool_calls=False).invoke("Hello")

    assert max(len(answer.tool_calls) for answer in answers) > 1
    assert min(len(answer.tool_calls) for answer in answers) > 0
    for answer in answers:
        assert len({call["id"] for call in answer.tool_calls}) == len(answer.tool_calls)
    assert len(single.tool_calls) == 1


def test_a_parser_reads_calls(chat: ChatLocal) -> None:
    """LangChain's parser makes instances of calls."""
    chain = chat.bind_tools([Weather], tool_choice="Weather") | PydanticToolsParser(tools=[Weather])

    assert isinstance(chain.invoke("Hello")[0], Weather)


@pytest.mark.parametrize(
    ("tools", "options", "named"),
    [
        ([add], {"tool_choice": "subtract"}, "subtract"),
        ([], {"tool_choice": "any"}, "tool_choice"),
        ([5], {}, "int"),
        ([{"type": "web_search"}], {}, "web_search"),
        ([add], {"top_p": 0.5}, "top_p"),
        ([add], {"response_format": Color, "tool_choice": "any"}, "response_format"),
    ],
)
def test_tools_that_cannot_be(
    chat: ChatLocal, tools: Sequence[Any], options: dict[str, Any], named: str
) -> None:
    """What is no tool, choice or option is refused by name, with a hint."""
    with pytest.raises(UsageError, match=named) as caught:
        chat.bind_tools(tools, **options).invoke("Hello")

    assert caught.value.hint


def test_calls_in_a_conversation(chat: ChatLocal) -> None:
    """A call and its results stand in the prompt as text, and an answer follows."""
    called = AIMessage("Wait.", tool_calls=[{"name": "add", "args": {"a": 2}, "id": "1"}])
    messages = [
        SystemMessage("Be brief."), HumanMessage("2 + 2?"), called,
        ToolMessage("4", tool_call_id="1"), ToolMessage("no", tool_call_id="1", status="error"),
    ]  # fmt: skip
    read = read_messages(messages)

    assert [message.role for message in read] == ["system", "user", "assistant", "user"]
    assert read[2].content == ('Wait.\n<tool_call>{"name":"add","arguments":{"a":2}}</tool_call>')
    assert "add: 4" in read[3].content
    assert "add failed: no" in read[3].content
    assert chat.bind_tools([add]).invoke(messages).content
    assert chat.invoke([*messages[:2], AIMessageChunk("4"), HumanMessage("Sure?")]).content


# Structured answers


@pytest.mark.parametrize(
    ("schema", "right"),
    [
        (Color, lambda v: isinstance(v, Color)),
        (Color | None, lambda v: v is None or isinstance(v, Color)),
        (Literal["a", "b"], lambda v: v in ("a", "b")),
        (int, lambda v: type(v) is int),
        (list[Color], lambda v: all(isinstance(item, Color) for item in v)),
        (Point, lambda v: isinstance(v, Point)),
        (WeatherDict, lambda v: set(v) == {"city"}),
        (add, lambda v: set(v) == {"a", "b"}),
        ({"enum": ["a", "b"]}, lambda v: v in ("a", "b")),
        ({"type": "array", "items": {"type": "integer"}, "maxItems": 2}, lambda v: len(v) <= 2),
        (OPENAI, lambda v: v["node"]["id"] in (1, 2)),
        ({"name": "p", "strict": True, "schema": PERSON}, lambda v: isinstance(v["name"], str)),
        ("name, age int", lambda v: type(v.age) is int),
    ],
    ids=[
        "enum",
        "optional",
        "literal",
        "int",
        "list",
        "dataclass",
        "typeddict",
        "tool",
        "options",
        "array",
        "openai tool",
        "json_schema",
        "fields",
    ],
)
def test_every_kind_of_schema(chat: ChatLocal, schema: Any, right: Callable[..., bool]) -> None:
    """A structured answer is an instance of its schema, whatever kind that is."""
    for options in ({}, {"method": "json_schema", "strict": True}):
        raw = chat.with_structured_output(schema, include_raw=True, **options).invoke("Hello")
        assert raw["parsing_error"] is None
        assert right(raw["parsed"])
    assert right(chat.with_structured_output(schema).invoke("Hello"))


def test_formats_of_a_call(chat: ChatLocal) -> None:
    """`response_format` is OpenAI's or a schema; options of a structured answer count."""
    wanted = {"type": "json_schema", "json_schema": {"name": "c", "schema": {"enum": ["a"]}}}
    structured = chat.with_structured_output(int, seed=3)

    assert chat.invoke("Hello", response_format=wanted).content == '"a"'
    assert str(chat.invoke("Hello", response_format={"type": "json_object"}).content)[0] == "{"
    assert structured.invoke("Hello") == structured.invoke("Hello")
    for wrong in ({"method": "xml"}, {"top_p": 0.1}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            chat.with_structured_output(int, **wrong)


# Chains and generators


def test_options_of_chains(chat: ChatLocal) -> None:
    """Chains honour the settings that they use, by call and bind, and refuse others by name."""
    texts = create_data_generation_chain(chat)
    found = create_extraction_chain_pydantic(Actor, chat)
    blue = {"fields": ["blue"]}

    assert texts.invoke(blue, seed=1) == texts(blue, seed=1) == texts.bind(seed=1).invoke(blue)
    assert texts.invoke(blue, seed=1) != texts.invoke(blue, seed=2)
    assert texts.batch([blue], temperature=0) == [texts.invoke(blue, temperature=0)]
    assert list(texts(blue, return_only_outputs=True)) == ["text"]
    for chain, item in ((texts, blue), (found, PASSAGE)):
        for call in (chain.invoke, chain.__call__, lambda x, c=chain, **o: c.batch([x], **o)):
            with pytest.raises(UsageError, match="top_p"):
                call(item, top_p=0.5)
        with pytest.raises(UsageError, match="max_tokens"):
            chain.bind(max_tokens=3)


def test_run(chat: ChatLocal) -> None:
    """Every chain has `run` and `arun`, with one input or its keys."""
    seeded = chat.model_copy(update={"seed": 0})
    texts = create_data_generation_chain(seeded)
    found = create_extraction_chain_pydantic(Actor, seeded)
    blue = {"fields": ["blue"], "preferences": {}}

    assert texts.run(blue) == texts.run(**blue) == texts(blue)["text"]
    assert asyncio.run(texts.arun(**blue)) == texts.run(blue)
    assert found.run(PASSAGE) == found.run(input=PASSAGE) == found.run({"input": PASSAGE})
    assert asyncio.run(found.arun(PASSAGE)) == found.run(PASSAGE)
    with pytest.raises(UsageError, match="one input"):
        texts.run()
    with pytest.raises(UsageError, match="preference"):
        texts.run(fields=["blue"], preference={})
    with pytest.raises(PromptError, match="fields"):
        texts.run("fields")


def test_an_extraction_by_json_schema(chat: ChatLocal) -> None:
    """`create_extraction_chain` takes a dict of properties and gives dicts out of the text."""
    chain = create_extraction_chain(PERSON, chat, tags=["people"])
    found = [person for records in chain.batch([PASSAGE] * 6) for person in records["text"]]

    assert found
    for person in found:
        assert {"name"} <= set(person) <= {"name", "height"}
        assert person["name"] in PASSAGE
        assert person.get("height", 0) is not None
    for wrong in ({"prompt": PromptTemplate.from_template("{input}")}, {"verbose": True}):
        with pytest.raises(UsageError, match=next(iter(wrong))):
            create_extraction_chain(PERSON, chat, **wrong)


def test_a_variable_that_no_template_names(chat: ChatLocal) -> None:
    """A variable of `generate` that the template does not name is refused by name."""
    generator = create_data_generator(Weather, chat, "Weather of {subject}.")

    with pytest.raises(UsageError, match="temperature"):
        generator.generate("towns", 1, temperature=0)
    rows = generator.generate("towns", 2)
    assert generator.generate("towns", 2, seed=generator.seeds[-1]) == rows


def test_an_extra_that_no_template_names(chat: ChatLocal) -> None:
    """`extra` is a sentence at the end of a template that does not name it, braces and all."""
    generator = create_data_generator(Weather, chat, "Weather of {subject}.")
    asked = generator._generator("towns", "use {short} names", {}).prompt_text()

    assert "\nMake sure of this: use {short} names.\n" in asked
    assert len(generator.generate("towns", 1, extra="use {short} names")) == 1


def test_chains_that_fail_in_part(chat: ChatLocal) -> None:
    """An input that a chain cannot take leaves the others their answers."""
    answers: list[Any] = create_data_generation_chain(chat).batch(
        [{"fields": ["blue"]}, {}], return_exceptions=True
    )

    assert "blue" in answers[0]["text"]
    assert isinstance(answers[1], PromptError)
