"""What prompts say about fields."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from pydantic import BaseModel, Field

from synthgen_local import LocalModel, TabularGenerator
from synthgen_local.prompting.descriptions import describe
from synthgen_local.schema import RowSchema, compile_schema


class Town(BaseModel):
    """A town; nothing but `name` is described."""

    name: str = Field(
        description="In its own language.", title="Endonym", examples=["Bern", "Genf"]
    )
    river: str = "Aare"
    mayor_name: str | None = None
    tags: list[str] = []
    kind: Literal["town"] = Field("town", title="Kind")


class Trip(BaseModel):
    """Two towns."""

    start: Town = Field(title="Point of departure")
    end: Town


def described(schema: Any, room: int = 8192) -> dict[str, str]:
    grammar = compile_schema(RowSchema.of(schema))
    return dict(describe(grammar.schema.json_schema, grammar.ir, room))


def test_titles_examples_and_defaults() -> None:
    """A title, examples and a default are told; titles that only say the name are not."""
    assert described(Town) == {
        "name": 'Endonym. In its own language. (such as "Bern", "Genf")',
        "river": '(usually "Aare")',
        "kind": '(usually "town")',
    }


def test_each_type_is_described_once() -> None:
    """A type of two fields is described where it stands first."""
    assert list(described(Trip)) == ["start", "start.name", "start.river", "start.kind"]


def test_json_schema_says_so_too() -> None:
    """JSON Schema's keywords count as pydantic's do; long values and nulls are passed over."""
    city = {"type": "string", "title": "Home town", "examples": ["x" * 100, "Bern"]}
    schema = {"properties": {"city": city, "n": {"type": ["integer", "null"], "default": None}}}

    assert described(schema) == {"city": 'Home town (such as "Bern")'}


def test_nothing_is_said_of_plain_schemas() -> None:
    """Prompts of schemas without descriptions are what they were."""
    assert described("name, age int") == {}
    assert described({"properties": {"user_id": {"type": "integer", "title": "User Id"}}}) == {}


def test_the_prompt_has_them(random_model: LocalModel) -> None:
    """The prompt of a run names a field's examples."""
    assert '- river: (usually "Aare")' in TabularGenerator(Town, random_model).prompt_text()


def test_descriptions_that_do_not_fit() -> None:
    """Longer texts are cut at a word, the innermost are left out, and a warning says so."""
    properties = {f"f{n}": {"type": "integer", "description": "long " * 60} for n in range(50)}

    with pytest.warns(UserWarning, match="they are shortened and [0-9]+ left out"):
        found = described({"properties": properties}, room=1000)

    assert list(found) == [f"f{n}" for n in range(len(found))]
    assert found["f0"].endswith("long …")
