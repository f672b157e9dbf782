"""LangChain's names, call for call, with the real langchain-core."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.example_selectors import LengthBasedExampleSelector
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import (
    AIMessage,
    ChatMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
)
from langchain_core.output_parsers import PydanticOutputParser as TheirParser
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, FewShotPromptTemplate, PromptTemplate
from medical_billing import EXAMPLES, MedicalBilling
from pydantic import BaseModel, Field
from validated import Never

from synthgen_local import LocalModel, PromptError, SchemaError, TabularGenerator, UsageError
from synthgen_local.engine.constraints.text_rules import ends_sentence, places
from synthgen_local.generators.spans import leaves
from synthgen_local.langchain import (
    OPENAI_TEMPLATE,
    SYNTHETIC_FEW_SHOT_PREFIX,
    SYNTHETIC_FEW_SHOT_SUFFIX,
    ChatLocal,
    DatasetGenerator,
    LocalLLM,
    PydanticOutputParser,
    SyntheticDataGenerator,
    TextChain,
    create_data_generation_chain,
    create_data_generator,
    create_extraction_chain_pydantic,
    create_openai_data_generator,
)

ASK: dict[str, Any] = {"subject": "medical_billing", "extra": "the name is chosen at random"}
HANKS = {"Actor": "Tom Hanks", "Film": ["Forrest Gump", "Toy Story"]}
HARDY = {"Actor": "Tom Hardy", "Film": ["Inception", "Dunkirk"]}
PASSAGE = "Tom Hanks starred in Forrest Gump and Toy Story."


class Actor(BaseModel):
    """What is read out of texts."""

    Actor: str = Field(description="name of an actor")
    Film: list[str] = Field(description="names of films they starred in")


class Pet(BaseModel):
    """A short record."""

    name: str = Field(max_length=8)
    age: int = Field(ge=0, le=30)


class PetDict(TypedDict):
    """A short record as a dict."""

    name: str
    tame: bool


PET = Pet.model_json_schema()
UNTITLED = {"properties": {"tame": {"type": "boolean"}}, "required": ["tame"]}


class Calls(BaseCallbackHandler):
    """Counts what a model reports."""

    def __init__(self) -> None:
        self.seen: Counter[str] = Counter()

    def on_chat_model_start(self, *_: Any, **__: Any) -> None:
        """Count a start."""
        self.seen["start"] += 1

    def on_llm_end(self, *_: Any, **__: Any) -> None:
        """Count an end."""
        self.seen["end"] += 1

    def on_llm_error(self, *_: Any, **__: Any) -> None:
        """Count an error."""
        self.seen["error"] += 1

    def on_chain_end(self, *_: Any, **__: Any) -> None:
        """Count a chain's end."""
        self.seen["chain"] += 1


def template(**options: Any) -> FewShotPromptTemplate:
    return FewShotPromptTemplate(
        **{
            "prefix": SYNTHETIC_FEW_SHOT_PREFIX,
            "examples": copy.deepcopy(EXAMPLES),
            "suffix": SYNTHETIC_FEW_SHOT_SUFFIX,
            "input_variables": ["subject", "extra"],
            "example_prompt": OPENAI_TEMPLATE,
            **options,
        }
    )


def billing(model: LocalModel, prompt: Any = None, **options: Any) -> SyntheticDataGenerator:
    return create_data_generator(
        output_schema=MedicalBilling,
        llm=ChatLocal(temperature=1, seed=0, local_model=model),
        prompt=prompt or template(),
        **options,
    )


def mentions_all(text: str, fields: Any) -> bool:
    return all(places(leaf.text, text) for leaf in leaves(fields))


@pytest.fixture
def chat(random_model: LocalModel) -> ChatLocal:
    """A chat model with random logits."""
    return ChatLocal(temperature=1, max_tokens=24, seed=0, local_model=random_model)


@pytest.fixture
def llm(random_model: LocalModel) -> LocalLLM:
    """A text model with random logits."""
    return LocalLLM(max_tokens=24, seed=0, local_model=random_model)


@pytest.fixture
def decodes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each call of the engine decodes together."""
    counted: list[int] = []
    decode = LocalModel.decode

    def count(self: LocalModel, job: Any, rows: int, *args: Any, **options: Any) -> Any:
        counted.append(rows)
        return decode(self, job, rows, *args, **options)

    monkeypatch.setattr(LocalModel, "decode", count)
    return counted


@pytest.fixture
def prompts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The prompts of rows as the model reads them."""
    read: list[str] = []
    prompt = TabularGenerator._prompt

    def note(self: TabularGenerator, *args: Any, **options: Any) -> Any:
        made = prompt(self, *args, **options)
        read.append(made.text)
        return made

    monkeypatch.setattr(TabularGenerator, "_prompt", note)
    return read


# Rows


def test_rows_of_a_template(random_model: LocalModel) -> None:
    """`generate` returns as many instances as asked for, under either name of the factory."""
    rows = billing(random_model).generate(**ASK, runs=10)

    assert create_openai_data_generator is create_data_generator
    assert len(rows) == 10
    assert all(isinstance(row, MedicalBilling) for row in rows)


def test_calls_have_rows_of_their_own(random_model: LocalModel) -> None:
    """Each call returns its own, new rows, and `results` holds those of all calls."""
    generator = billing(random_model)
    first, second = (generator.generate(**ASK, runs=3) for _ in range(2))

    assert len(first) == len(second) == 3
    assert first != second
    assert generator.results == first + second
    assert billing(random_model).generate(**ASK, runs=3) == first


def test_a_seed_repeats_rows(random_model: LocalModel) -> None:
    """`seed` gives the same rows at every call, in the same order, in agenerate as well."""
    generator = billing(random_model)
    rows = generator.generate(**ASK, runs=6, seed=5)

    assert generator.generate(**ASK, runs=6, seed=5) == rows
    assert asyncio.run(generator.agenerate(**ASK, runs=6, seed=5)) == rows
    assert len(generator.results) == 18


def test_agenerate_beside_another(random_model: LocalModel) -> None:
    """Two coroutines of one generator get rows of their own, and cancelling one ends it."""
    generator = billing(random_model)

    async def both() -> list[list[Any]]:
        pair = [generator.agenerate("medical_billing", 4, "a name") for _ in range(2)]
        return await asyncio.gather(*pair)

    async def cancelled() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(generator.agenerate("medical_billing", 10**6), 0.3)

    first, second = asyncio.run(both())
    asyncio.run(asyncio.wait_for(cancelled(), 30))

    assert [len(first), len(second)] == [4, 4]
    assert first != second
    assert len(generator.results) == 8


def test_extra_may_be_absent(random_model: LocalModel, prompts: list[str]) -> None:
    """Without `extra`, or with None, the sentence that names it is left out."""
    for extra in ({}, {"extra": ""}, {"extra": None}):
        billing(random_model).generate(subject="medical_billing", runs=1, **extra)

    assert len(set(prompts)) == 1
    assert "Make sure" not in prompts[0]
    assert "None" not in prompts[0]


@pytest.mark.parametrize("kind", ["f-string", "jinja2"])
def test_custom_variables(random_model: LocalModel, prompts: list[str], kind: str) -> None:
    """Other variables of a template reach the prompt, in generate and in agenerate."""
    suffix = "Of {{subject}} in {{place}}:" if kind != "f-string" else "Of {subject} in {place}:"
    prompt = template(
        prefix="Rows.", suffix=suffix, template_format=kind, input_variables=["subject", "place"]
    )
    generator = billing(random_model, prompt)
    generator.generate("billing", 1, place="{Peru}")
    asyncio.run(generator.agenerate("billing", 1, place="{Peru}"))

    assert ["Of billing in {Peru}:" in text for text in prompts] == [True, True]


@pytest.mark.parametrize("kind", ["f-string", "jinja2"])
def test_a_missing_variable_is_an_error(random_model: LocalModel, kind: str) -> None:
    """A variable without a value is an error that names it and says what to do."""
    suffix = "In {place}." if kind == "f-string" else "In {{ place }}."
    generator = billing(random_model, template(suffix=suffix, template_format=kind))

    with pytest.raises(PromptError, match="place") as caught:
        generator.generate(**ASK, runs=1)
    with pytest.raises(PromptError, match="place"):
        asyncio.run(generator.agenerate(**ASK, runs=1))

    assert "place" in caught.value.hint


@pytest.mark.parametrize("value", ["Peru", lambda: "Peru"], ids=["text", "function"])
def test_partial_variables(random_model: LocalModel, prompts: list[str], value: Any) -> None:
    """A template's partial variables count, functions too, unless the call gives others."""
    prompt = template(suffix="In {place}.", partial_variables={"place": value})
    billing(random_model, prompt).generate(**ASK, runs=1)
    billing(random_model, prompt.partial(place="Chile")).generate(**ASK, runs=1)
    billing(random_model, prompt).generate(**ASK, runs=1, place="Cuba")

    for text, place in zip(prompts, ("Peru", "Chile", "Cuba"), strict=True):
        assert f"\nIn {place}.\n" in text


def test_the_callers_template_stays(random_model: LocalModel, prompts: list[str]) -> None:
    """Rows push no example out: every prompt has the user's, and the template is unchanged."""
    prompt = template()
    generator = billing(random_model, prompt)
    for _ in range(3):
        generator.generate(**ASK, runs=4)

    assert prompt == template()
    assert len(set(prompts)) == 1
    for name in ("John Doe", "Johnson Smith", "Emily Stone"):
        assert f"\t{name}\t" in prompts[0]


def test_examples_over_several_lines(random_model: LocalModel, prompts: list[str]) -> None:
    """An example of text may be broken anywhere between two words."""
    broken = [{"example": e["example"].replace(" Code:", "\n        Code:")} for e in EXAMPLES]
    for examples in (broken, EXAMPLES):
        billing(random_model, template(examples=examples)).generate(**ASK, runs=1)

    assert prompts[0] == prompts[1]


def test_other_templates(random_model: LocalModel, prompts: list[str]) -> None:
    """A PromptTemplate and plain text are prompts without examples; what is neither is refused."""
    for prompt in (PromptTemplate.from_template("A bill of {subject}."), "A bill of {subject}."):
        rows = billing(random_model, prompt).generate("a clinic", 2)
        assert all(isinstance(row, MedicalBilling) for row in rows)
    with pytest.raises(PromptError, match="ChatPromptTemplate") as caught:
        billing(random_model, ChatPromptTemplate.from_template("{subject}")).generate("a", 1)

    keys = "\t".join(MedicalBilling.model_fields)
    assert set(prompts) == {f"Write records.\nA bill of a clinic.\n{keys}\n"}
    assert caught.value.hint


def test_an_example_selector_chooses(random_model: LocalModel, prompts: list[str]) -> None:
    """The examples that a selector takes stand in the prompt, and no others."""
    selector = LengthBasedExampleSelector(
        examples=EXAMPLES, example_prompt=OPENAI_TEMPLATE, max_length=30
    )
    prompt = template(examples=None, example_selector=selector)
    billing(random_model, prompt).generate(**ASK, runs=1)

    assert "John Doe" in prompts[0]
    assert "Emily Stone" not in prompts[0]


def test_examples_of_several_keys(random_model: LocalModel, prompts: list[str]) -> None:
    """Examples are read as their own template writes them."""
    prompt = FewShotPromptTemplate(
        examples=[{"who": "Rex", "years": 3, "unused": "x"}],
        example_prompt=PromptTemplate.from_template("name: {who}, age: {years}"),
        suffix="Another one of {subject}:",
    )
    pets = create_data_generator(Pet, ChatLocal(local_model=random_model), prompt)

    assert all(isinstance(pet, Pet) for pet in pets.generate("pets", 3))
    assert "\nname\tage\nRex\t3\n" in prompts[0]


def test_rows_of_a_json_schema(random_model: LocalModel) -> None:
    """A JSON Schema as `output_schema` gives dicts."""
    llm = ChatLocal(local_model=random_model)
    rows = create_data_generator(PET, llm, "Pets.").generate("pets", 3)

    assert [Pet(**row).model_dump() for row in rows] == rows


def test_an_output_parser_reads_rows(random_model: LocalModel) -> None:
    """`output_parser` gets each row as JSON text."""
    plain = billing(random_model, output_parser=StrOutputParser()).generate(**ASK, runs=2)
    read = billing(random_model, output_parser=TheirParser(pydantic_object=MedicalBilling))

    assert [MedicalBilling.model_validate_json(text) for text in plain] == read.generate(
        **ASK, runs=2
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda llm: create_data_generator(Pet, llm, template()),
        create_data_generation_chain,
        DatasetGenerator,
        lambda llm: create_extraction_chain_pydantic(Actor, llm),
    ],
    ids=["rows", "texts", "dataset", "extraction"],
)
def test_a_foreign_model_is_refused(make: Callable[[Any], Any]) -> None:
    """A model that does not run here is refused at once, by its name, with a hint."""
    with pytest.raises(UsageError, match="FakeListChatModel") as caught:
        make(FakeListChatModel(responses=["{}"]))

    assert "ChatLocal" in caught.value.hint


def test_an_impossible_schema_is_refused(random_model: LocalModel) -> None:
    """A schema that cannot be used is an error when the generator is made."""
    with pytest.raises(SchemaError):
        create_data_generator({"type": 5}, ChatLocal(local_model=random_model), "x")


# Texts about fields


@pytest.mark.parametrize(
    "inputs",
    [
        {"fields": ["blue", "yellow"], "preferences": {}},
        {"fields": {"colors": ["blue", "yellow"]}, "preferences": {"style": "forecast"}},
        {"fields": HANKS, "preferences": None},
        {"fields": [HANKS, HARDY]},
    ],
)
def test_a_text_about_fields(chat: ChatLocal, inputs: dict[str, Any]) -> None:
    """Called, invoked and awaited alike: the inputs and a text with every value in it."""
    chain = create_data_generation_chain(chat)
    before = copy.deepcopy(inputs)
    answer = chain(inputs)

    assert list(answer) == ["fields", "preferences", "text"]
    assert answer["fields"] == before["fields"]
    assert answer["preferences"] == before.get("preferences")
    assert mentions_all(answer["text"], inputs["fields"])
    assert chain.invoke(inputs) == answer
    assert asyncio.run(chain.ainvoke(inputs)) == answer
    assert inputs == before


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_batch_of_texts(chat: ChatLocal, decodes: list[int], asynchronous: bool) -> None:
    """Texts with equal preferences are written together and come in the order of the inputs."""
    chain = create_data_generation_chain(chat)
    inputs = [
        {"fields": [word], "preferences": {"style": style}}
        for word, style in zip(["red", "blue", "green"], ["calm", "loud", "calm"], strict=True)
    ]
    answers = asyncio.run(chain.abatch(inputs)) if asynchronous else chain.batch(inputs)

    assert decodes == [2, 1]
    assert [{"fields": a["fields"], "preferences": a["preferences"]} for a in answers] == inputs
    assert all(mentions_all(answer["text"], answer["fields"]) for answer in answers)


def test_a_chain_is_a_runnable(chat: ChatLocal) -> None:
    """A chain goes into a pipe, tells its callbacks, and returns errors if asked to."""
    calls = Calls()
    chain = create_data_generation_chain(chat)
    piped = chain | (lambda answer: answer["text"])

    assert "blue" in piped.invoke({"fields": ["blue"]}, {"callbacks": [calls]})
    chain.batch([{"fields": ["a"]}, {"fields": ["b"]}], {"callbacks": [calls]})
    assert calls.seen["chain"] == 5
    assert isinstance(chain.batch([{}], return_exceptions=True)[0], PromptError)
    with pytest.raises(PromptError, match="fields"):
        chain.invoke({"preferences": {}})


def test_a_dataset(chat: ChatLocal, decodes: list[int]) -> None:
    """A text for each set of fields, in order, with three keys, all of one run."""
    preferences = {"style": "informal", "minimal length": 100}
    dataset = DatasetGenerator(chat, preferences)([HANKS, HARDY, ["x"]])

    assert decodes == [3]
    assert [set(item) for item in dataset] == [{"fields", "preferences", "text"}] * 3
    assert [item["fields"] for item in dataset] == [HANKS, HARDY, ["x"]]
    assert all(item["preferences"] == preferences for item in dataset)
    assert all(len(item["text"]) >= 100 for item in dataset)
    assert all(mentions_all(item["text"], item["fields"]) for item in dataset)
    assert DatasetGenerator(chat)([]) == []


def test_a_loaded_model_will_do(random_model: LocalModel) -> None:
    """A LocalModel may stand wherever a chat model does."""
    chain = create_data_generation_chain(random_model)

    assert isinstance(chain, TextChain)
    assert "blue" in chain({"fields": ["blue"]})["text"]


# Records out of text


def grounded_in(record: Actor, text: str) -> bool:
    return all(part in text for part in (record.Actor, *record.Film))


def test_extraction(chat: ChatLocal, decodes: list[int]) -> None:
    """`run` gives instances with strings of the text, `invoke` the same under "text"."""
    chain = create_extraction_chain_pydantic(pydantic_schema=Actor, llm=chat)
    found = chain.run(PASSAGE)

    assert all(isinstance(record, Actor) and grounded_in(record, PASSAGE) for record in found)
    assert chain.invoke(PASSAGE) == chain({"input": PASSAGE}) == {"input": PASSAGE, "text": found}
    assert asyncio.run(chain.ainvoke({"input": PASSAGE}))["text"] == found
    decodes.clear()
    batch = chain.batch([PASSAGE, {"input": "Tom Hardy."}])
    assert [item["input"] for item in batch] == [PASSAGE, "Tom Hardy."]
    assert decodes == [2]


# The chat model


@pytest.mark.parametrize(
    "asked",
    [
        "Hello",
        [HumanMessage("Hello")],
        [("system", "Be brief."), ("human", "Hello"), ("ai", "Hi."), ("human", "Bye")],
        [SystemMessage("Be brief."), HumanMessage([{"type": "text", "text": "Hello"}])],
    ],
)
def test_a_chat_answers(chat: ChatLocal, asked: Any) -> None:
    """Text and messages get an AIMessage with what was counted; the same again if repeated."""
    answer = chat.invoke(asked)

    assert isinstance(answer, AIMessage)
    assert answer.content == chat.invoke(asked).content
    assert answer.response_metadata["model_name"] == "random"
    assert answer.response_metadata["finish_reason"] in {"stop", "length"}
    assert answer.usage_metadata is not None
    assert 0 < answer.usage_metadata["output_tokens"] <= 24
    assert answer.usage_metadata["input_tokens"] > 4
    assert answer.content == asyncio.run(chat.ainvoke(asked)).content


def test_a_system_message_is_read(chat: ChatLocal) -> None:
    """What the system says changes the answer."""
    answers = {chat.invoke([("system", s), ("human", "Hello")]).content for s in "abc"}

    assert len(answers) == 3


def test_a_remove_message_is_refused(chat: ChatLocal) -> None:
    """A message that no model reads is an error with a hint, and so is a picture."""
    for strange, name in (
        (RemoveMessage(id="1"), "remove"),
        (HumanMessage([{"type": "image_url", "image_url": {"url": "data:,"}}]), "image_url"),
        (ChatMessage("Hello", role="judge"), "judge"),
    ):
        with pytest.raises(UsageError, match=name) as caught:
            chat.invoke([strange])
        assert caught.value.hint


@pytest.mark.parametrize("asynchronous", [False, True])
def test_a_batch_is_what_invoke_gives(
    random_model: LocalModel, decodes: list[int], asynchronous: bool
) -> None:
    """A batch is decoded in one go, and the likeliest answers are those of invoke, in order."""
    chat = ChatLocal(temperature=0, max_tokens=24, local_model=random_model)
    asked: list[Any] = ["Hello", "Hi", "Bye", "Hello"]
    answers = asyncio.run(chat.abatch(asked)) if asynchronous else chat.batch(asked)

    assert decodes == [4]
    assert [a.content for a in answers] == [chat.invoke(text).content for text in asked]
    assert [a.usage_metadata for a in answers] == [chat.invoke(t).usage_metadata for t in asked]


def test_a_batch_is_drawn_row_by_row(chat: ChatLocal) -> None:
    """Above temperature 0, one prompt many times gets answers of its own each, by the seed."""
    asked: list[Any] = ["Hello"] * 4
    answers = [answer.content for answer in chat.batch(asked)]

    assert len(set(answers)) == 4
    assert answers[0] == chat.invoke("Hello").content
    assert answers == [answer.content for answer in chat.batch(asked)]
    reseeded = chat.model_copy(update={"seed": 1}).batch(asked)
    assert answers != [answer.content for answer in reseeded]


def test_an_empty_batch(chat: ChatLocal) -> None:
    """No inputs get no answers."""
    assert chat.batch([]) == []
    assert asyncio.run(chat.abatch([])) == []


def test_a_stream_is_the_answer_in_pieces(chat: ChatLocal) -> None:
    """The pieces of a stream, awaited or not, join to the answer of invoke."""

    async def pieces() -> list[str]:
        return [str(chunk.content) async for chunk in chat.astream("Hello")]

    whole = chat.invoke("Hello").content
    streamed = [str(chunk.content) for chunk in chat.stream("Hello")]

    assert "".join(streamed) == whole
    assert "".join(asyncio.run(pieces())) == whole
    assert len(streamed) > 2


def test_stops(chat: ChatLocal) -> None:
    """An answer ends before a stop of the call or of the settings."""
    whole = str(chat.invoke("Hello").content)
    stop = whole[3:6]
    settled = chat.model_copy(update={"stop": [stop]})

    for answer in (chat.invoke("Hello", stop=[stop]), chat.batch(["Hello"], stop=[stop])[0]):
        assert answer.content == whole[:3]
        assert answer.response_metadata["finish_reason"] == "stop"
    assert settled.invoke("Hello").content == whole[:3]


def test_a_stream_never_begins_a_stop(chat: ChatLocal) -> None:
    """A stream gives no character of a stop, though a stop is written over several tokens."""
    whole = str(chat.invoke("Hello").content)
    pieces = [str(chunk.content) for chunk in chat.stream("Hello", stop=[whole[3:6]])]

    assert "".join(pieces) == whole[:3]


def test_callbacks(chat: ChatLocal) -> None:
    """Callbacks hear of each answer, by invoke, in a batch and in an awaited one."""
    calls = Calls()
    chat.invoke("Hello", {"callbacks": [calls]})
    chat.batch(["Hello", "Hi"], {"callbacks": [calls]})
    asyncio.run(chat.abatch(["Hello"], {"callbacks": [calls]}))

    assert calls.seen == {"start": 4, "end": 4}


def test_a_failing_batch(chat: ChatLocal) -> None:
    """Callbacks hear of an error, and it is returned instead of raised if asked for."""
    calls = Calls()
    asked: list[Any] = [[RemoveMessage(id="1")]]

    assert isinstance(chat.batch(asked, return_exceptions=True)[0], UsageError)
    with pytest.raises(UsageError):
        chat.batch(asked, {"callbacks": [calls]})
    assert calls.seen == {"start": 1, "error": 1}


def test_a_pipe_is_decoded_together(chat: ChatLocal, decodes: list[int]) -> None:
    """`prompt | model | parser` in a batch is one run of the engine, and is reported."""
    calls = Calls()
    chain = ChatPromptTemplate.from_template("About {topic}.") | chat | StrOutputParser()
    answers = chain.batch([{"topic": t} for t in ("cats", "dogs")], {"callbacks": [calls]})
    awaited = asyncio.run(chain.abatch([{"topic": t} for t in ("cats", "dogs")]))

    assert all(isinstance(answer, str) for answer in answers)
    assert awaited == answers
    assert decodes == [2, 2]
    assert calls.seen["start"] == calls.seen["end"] == 2


def test_equal_settings_share_weights() -> None:
    """Models of equal settings have the same weights; other weights are loaded anew."""
    one, two = ChatLocal(model="random"), LocalLLM(model="random", temperature=0)

    assert one.local is two.local
    other: dict[str, Any] = {"model_name": "random", "threads": 1}
    assert ChatLocal(**other).local is not one.local


@pytest.mark.parametrize(
    "wrong", [{"temperature": -1}, {"max_tokens": 0}, {"batch_size": 0}, {"seed": -1}]
)
def test_nonsense_is_refused(wrong: dict[str, Any]) -> None:
    """A setting that makes no sense is an error at once."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ChatLocal(**wrong)


# Structured answers


@pytest.mark.parametrize(
    ("schema", "kind", "keys"),
    [
        (Pet, Pet, {"name", "age"}),
        (PET, dict, {"name", "age"}),
        (UNTITLED, dict, {"tame"}),
        (PetDict, dict, {"name", "tame"}),
        ({"name": "pet", "description": "a pet", "parameters": PET}, dict, {"name", "age"}),
    ],
)
def test_structured_answers(
    chat: ChatLocal, decodes: list[int], schema: Any, kind: type, keys: set[str]
) -> None:
    """Answers are instances of a model, or dicts of a schema; a batch of them is one run."""
    structured = chat.with_structured_output(schema)
    answers = [structured.invoke("A pet."), *structured.batch(["A pet.", "Another."])]

    assert [type(answer) for answer in answers] == [kind] * 3
    assert all(set(dict(answer)) == keys for answer in answers)
    assert decodes == [1, 2]


def test_a_structured_stream(chat: ChatLocal) -> None:
    """A structured answer may be streamed: its pieces, cut within characters, give the instance."""
    structured = chat.with_structured_output(Pet)

    assert list(structured.stream("A pet.")) == [structured.invoke("A pet.")]


def test_structured_answers_with_the_message(chat: ChatLocal) -> None:
    """`include_raw` gives the message, the instance, and what a validator said."""
    raw, parsed, error = chat.with_structured_output(Pet, include_raw=True).invoke("x").values()
    refused = chat.with_structured_output(Never, include_raw=True).invoke("x")

    assert Pet.model_validate_json(raw.content) == parsed
    assert error is None
    assert refused["parsed"] is None
    assert isinstance(refused["parsing_error"], OutputParserException)
    with pytest.raises(OutputParserException, match="never right"):
        chat.with_structured_output(Never).invoke("x")


def test_options_of_structured_answers(chat: ChatLocal) -> None:
    """`method` and `strict` are taken, another option is refused."""
    assert chat.with_structured_output(Pet, method="json_mode", strict=True).invoke("x")
    with pytest.raises(UsageError, match="tools"):
        chat.with_structured_output(Pet, tools=[])


# Format instructions


def instructed(parser: TheirParser[Any], task: str) -> PromptTemplate:
    return PromptTemplate(
        template=task + "\n{format_instructions}\n{text}\n",
        input_variables=["text"],
        partial_variables={"format_instructions": parser.get_format_instructions()},
    )


def test_format_instructions_are_kept(chat: ChatLocal, llm: LocalLLM) -> None:
    """A prompt with LangChain's instructions is answered by what its parser reads."""
    parser = TheirParser(pydantic_object=Pet)
    prompt = instructed(parser, "Invent a pet.")
    asked = prompt.format_prompt(text="It is a dog.").to_string()

    assert isinstance(parser.parse(llm.invoke(asked)), Pet)
    assert isinstance(parser.parse("".join(llm.stream(asked))), Pet)
    assert isinstance(parser.parse(str(chat.invoke(asked).content)), Pet)
    assert isinstance((prompt | chat | parser).invoke({"text": "It is a dog."}), Pet)
    assert "".join(str(c.content) for c in chat.stream(asked)) == chat.invoke(asked).content


def test_extracting_takes_the_prompts_words(llm: LocalLLM, decodes: list[int]) -> None:
    """Where the prompt says to extract, every string comes from it; a batch is one run."""
    parser = TheirParser(pydantic_object=Actor)
    chain = instructed(parser, "Extract fields from a given text.") | llm | parser
    texts = [PASSAGE, "Tom Hardy was in Dunkirk."]
    found = chain.batch([{"text": text} for text in texts])

    assert decodes == [2]
    for record, text in zip(found, texts, strict=True):
        assert grounded_in(record, f"Extract fields from a given text.\n\n{text}\n")


@pytest.mark.parametrize("grounded", [True, False])
def test_grounded_may_be_chosen(random_model: LocalModel, grounded: bool) -> None:
    """`grounded` decides where strings come from, whatever the prompt says."""
    llm = LocalLLM(local_model=random_model, grounded=grounded)
    parser = TheirParser(pydantic_object=Actor)
    task = "Read." if grounded else "Extract."
    record = (instructed(parser, task) | llm | parser).invoke({"text": PASSAGE})

    assert grounded_in(record, f"{task}\n\n{PASSAGE}\n") == grounded


def test_instructions_of_the_system(chat: ChatLocal) -> None:
    """Instructions may stand in the system's message: the last message is the passage then."""
    parser = TheirParser(pydantic_object=Actor)
    prompt = ChatPromptTemplate.from_messages([
        ("system", "Extract what the text says.\n{form}"), ("human", "{text}"),
    ]).partial(form=parser.get_format_instructions())  # fmt: skip

    assert grounded_in((prompt | chat | parser).invoke({"text": PASSAGE}), PASSAGE)


def test_instructions_among_other_prompts(chat: ChatLocal) -> None:
    """In a batch, prompts with and without instructions get their own answers, in order."""
    parser = PydanticOutputParser(pydantic_object=Pet)
    asked = instructed(parser, "A pet.").format(text="")
    answers = chat.batch(["Hello", asked, "Hi", asked])

    assert all(isinstance(parser.parse(answer), Pet) for answer in answers[1::2])
    assert answers[0].content == chat.invoke("Hello").content


def test_the_parser_takes_a_message() -> None:
    """This package's parser takes text and messages, and refuses what LangChain's does."""
    parser = PydanticOutputParser(pydantic_object=Pet)
    pet = Pet(name="Rex", age=3)

    assert parser.parse(pet.model_dump_json()) == pet
    assert parser.parse(AIMessage(pet.model_dump_json())) == pet
    assert parser.invoke(AIMessage(pet.model_dump_json())) == pet
    assert (
        parser.get_format_instructions()
        == TheirParser(pydantic_object=Pet).get_format_instructions()
    )
    with pytest.raises(OutputParserException):
        parser.parse(AIMessage("no pet"))


# The text model


def test_a_text_model(llm: LocalLLM, decodes: list[int]) -> None:
    """Text in, text out; many prompts are one run, with what LangChain's result holds."""
    result = llm.generate(["Hello", "Hi"])

    assert decodes == [2]
    assert llm.batch(["Hello", "Hi"]) == [g[0].text for g in result.generations]
    assert decodes == [2, 2]
    assert llm.invoke("Hello") == result.generations[0][0].text
    assert asyncio.run(llm.ainvoke("Hello")) == llm.invoke("Hello")
    assert isinstance((PromptTemplate.from_template("{a}") | llm).invoke({"a": "b"}), str)


def test_without_langchain_core() -> None:
    """Without langchain-core the import is an error that names the extra."""
    code = "import sys; sys.modules['langchain_core'] = None; import synthgen_local.langchain"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )

    assert ran.returncode == 1
    assert "ImportError: synthgen_local.langchain needs langchain-core" in ran.stderr
    assert "synthgen-local[langchain]" in ran.stderr


# Real weights


@pytest.mark.model
def test_langchains_own_integration_test(model: LocalModel) -> None:
    """Ten rows, each an instance, by generate and by agenerate."""
    generator = billing(model)
    calls: Sequence[list[Any]] = [
        generator.generate(**ASK, runs=10),
        asyncio.run(generator.agenerate(**ASK, runs=10)),
    ]

    for rows in calls:
        assert len(rows) == 10
        assert all(isinstance(row, MedicalBilling) for row in rows)
    assert len({row.patient_name for row in generator.results}) > 4


@pytest.mark.model
def test_from_fields_to_texts_and_back(model: LocalModel) -> None:
    """LangChain's walk-through: a dataset of texts, read back by a parser and by an extractor."""
    chat, llm = ChatLocal(temperature=0.7, local_model=model), LocalLLM(local_model=model)
    chain = create_data_generation_chain(chat)
    colours = chain({"fields": {"colours": ["blue", "yellow"]}, "preferences": {"style": "calm"}})
    preferences = {"style": "informal", "minimal length": 150}
    dataset = DatasetGenerator(chat, preferences)([HANKS, HARDY])
    parser = PydanticOutputParser(pydantic_object=Actor)
    prompt = instructed(parser, "Extract fields from a given text.")
    asked = prompt.format_prompt(text=dataset[0]["text"]).to_string()
    parsed = parser.parse(llm.invoke(asked))
    extractor = create_extraction_chain_pydantic(pydantic_schema=Actor, llm=chat)
    extracted = extractor.run(dataset[1]["text"])

    assert mentions_all(colours["text"], ["blue", "yellow"])
    for item, fields in zip(dataset, [HANKS, HARDY], strict=True):
        assert item["fields"] == fields
        assert len(item["text"]) >= 150
        assert mentions_all(item["text"], fields)
        assert ends_sentence(item["text"])
    assert isinstance(parsed, Actor)
    assert grounded_in(parsed, asked)
    assert all(isinstance(record, Actor) for record in extracted)
    assert all(grounded_in(record, dataset[1]["text"]) for record in extracted)


@pytest.mark.model
def test_a_real_structured_answer(model: LocalModel) -> None:
    """Real weights answer under the schema, and a plain question in a few words."""
    chat = ChatLocal(local_model=model, temperature=0, max_tokens=16)
    pets = chat.with_structured_output(Pet).batch(["A dog called Rex, 3.", "A cat called Tom, 5."])
    answer = chat.invoke([("system", "Be brief."), ("human", "What is the capital of France?")])

    assert all(isinstance(pet, Pet) for pet in pets)
    assert "Paris" in str(answer.content)
