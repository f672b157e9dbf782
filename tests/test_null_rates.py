"""How often values are null."""

from __future__ import annotations

from typing import Annotated, Any, Optional

import numpy as np
import pytest
from masks import allowed_by
from pydantic import BaseModel, Field

from synthgen_local import LocalModel, SchemaError, TabularGenerator, UsageError
from synthgen_local.engine.constraints.grammar import Grammar
from synthgen_local.engine.constraints.null_rates import NullRates
from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.null_rates import NullPlace, has_nulls

ROWS = 300


class Visit(BaseModel):
    """Something that may be missing, and may miss something."""

    note: str | None = Field(max_length=4)
    marks: list[int | None] = Field(min_length=1, max_length=3)


class Guest(BaseModel):
    """A null in every place that may have one."""

    mail: Optional[Annotated[str, Field(max_length=5)]] = None
    rare: int | None = Field(json_schema_extra={"nullRate": 0.1})
    never: bool | None = Field(json_schema_extra={"nullRate": 0})
    visit: Visit | None
    by_day: dict[Annotated[str, Field(max_length=3)], int | None] = Field(max_length=2)
    always: None


def rows(model: LocalModel, **options: Any) -> list[Guest]:
    return list(TabularGenerator(Guest, model, **options).generate(rows=ROWS, seed=1))


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


def test_optional_values_are_null_at_their_rates(random_model: LocalModel) -> None:
    """Each place has its own rate, even chance where it says none; 0 is never."""
    made = rows(random_model)
    visits = [guest.visit for guest in made if guest.visit is not None]

    assert share([guest.mail is None for guest in made]) == pytest.approx(0.5, abs=0.09)
    assert share([guest.rare is None for guest in made]) == pytest.approx(0.1, abs=0.06)
    assert share([guest.visit is None for guest in made]) == pytest.approx(0.5, abs=0.09)
    assert share([visit.note is None for visit in visits]) == pytest.approx(0.5, abs=0.12)
    marks = [mark is None for visit in visits for mark in visit.marks]
    days = [day is None for guest in made for day in guest.by_day.values()]
    assert share(marks) == pytest.approx(0.5, abs=0.12)
    assert share(days) == pytest.approx(0.5, abs=0.12)
    assert not any(guest.never is None for guest in made)


@pytest.mark.parametrize("rate", [0.0, 0.8, 1.0])
def test_the_usual_rate_is_the_callers(random_model: LocalModel, rate: float) -> None:
    """`null_rate` holds where a field says nothing; a field's own rate goes before it."""
    made = rows(random_model, null_rate=rate)

    assert share([guest.mail is None for guest in made]) == pytest.approx(rate, abs=0.08)
    assert share([guest.rare is None for guest in made]) == pytest.approx(0.1, abs=0.06)


def test_rates_hold_at_any_temperature(random_model: LocalModel) -> None:
    """A temperature sharpens the model's choices, and not the chance of null."""
    made = rows(random_model, temperature=0.3)

    assert share([guest.mail is None for guest in made]) == pytest.approx(0.5, abs=0.09)


def test_none_leaves_null_to_the_model(random_model: LocalModel) -> None:
    """Without a rate the draw is the model's own, as at temperature 0."""
    schema = RowSchema.of({"type": ["string", "null"], "maxLength": 3})
    grammar = compile_schema(schema)
    tokens, table = (
        Grammar(random_model.engine.tokenizer, grammar.serialised),
        random_model.vocabulary,
    )
    free = NullRates(tokens, table, NullPlace([grammar.ir], usual=None), temperature=1.0).start()
    even = NullRates(tokens, table, NullPlace([grammar.ir], usual=0.5), temperature=1.0).start()
    greedy = NullRates(tokens, table, NullPlace([grammar.ir], usual=0.5), temperature=0).start()
    logits = np.random.default_rng(0).normal(size=tokens.tokenizer.vocab_size).astype(np.float32)
    for row in (free, even, greedy):
        allowed_by(row, len(logits))
    assert (free.process_logits(logits) == logits).all()
    assert greedy.process_logits is None
    assert (even.process_logits(logits) != logits).any()


def test_a_type_list_is_optional_too(random_model: LocalModel) -> None:
    """JSON Schema's own way of saying Optional has the same rates."""
    schema = {
        "properties": {"n": {"type": ["integer", "null"], "nullRate": 0.25}},
        "required": ["n"],
    }
    made = TabularGenerator(schema, random_model).generate(rows=ROWS)

    assert share([row["n"] is None for row in made]) == pytest.approx(0.25, abs=0.08)


NULLABLE = {"type": ["integer", "null"], "nullRate": 0.1}


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": ["a", None], "nullRate": 0.1},
        {"anyOf": [{"const": None}, {"const": 3}], "nullRate": 0.1},
        {"$ref": "#/$defs/n", "$defs": {"n": NULLABLE}},
        {"allOf": [NULLABLE]},
        Optional[Annotated[int, Field(json_schema_extra={"nullRate": 0.1})]],
    ],
    ids=str,
)
def test_a_rate_holds_wherever_it_stands(schema: Any) -> None:
    """Null has its rate among constants, behind a reference, and on the inside of Optional."""
    shape = compile_schema(RowSchema.of(schema)).ir

    assert NullPlace([shape], usual=0.5).null_rate == 0.1


def test_a_wrong_rate_is_refused_where_null_is_not_allowed() -> None:
    """A rate is read even where it has nothing to say."""
    with pytest.raises(SchemaError, match=r"^\$: keyword 'nullRate'"):
        compile_schema(RowSchema.of({"type": "integer", "nullRate": 7}))


@pytest.mark.parametrize("rate", [-0.1, 1.5, "often", True])
def test_a_wrong_rate_is_refused(random_model: LocalModel, rate: Any) -> None:
    """A rate is a number from 0 to 1; the field's path is named."""
    schema = {"properties": {"n": {"type": ["integer", "null"], "nullRate": rate}}}

    with pytest.raises(SchemaError, match=r"\$\.n: keyword 'nullRate'"):
        compile_schema(RowSchema.of(schema))
    if not isinstance(rate, str | bool):
        with pytest.raises(UsageError, match="null rate"):
            TabularGenerator(Guest, random_model, null_rate=rate)


def test_rows_without_optional_values_are_not_steered() -> None:
    """Only where null is one of several possibilities is there a question."""
    assert has_nulls(compile_schema(RowSchema.of(Guest)).ir)
    assert not has_nulls(compile_schema(RowSchema.of("name, age int")).ir)
    assert not has_nulls(compile_schema(RowSchema.of({"const": None})).ir)


def test_keys_with_quotes_keep_their_rates(random_model: LocalModel) -> None:
    """A key is compared as it is meant, not as it is escaped."""
    key = 'a "b" \\ é'
    schema = {
        "properties": {key: {"type": ["integer", "null"], "nullRate": 1}, "c": {"type": "null"}},
        "required": [key, "c"],
    }
    made = TabularGenerator(schema, random_model).generate(rows=20)

    assert made == [{key: None, "c": None}] * 20


class Contact(BaseModel):
    """Fields of which examples have few or many."""

    fax: int | None
    mail: int | None
    stated: int | None = Field(json_schema_extra={"nullRate": 0.5})
    sizes: list[int | None] = Field(max_length=2)


def contacts(number: int) -> list[dict[str, Any]]:
    """Examples of which nine tenths have no fax, all have mail, and none has what is stated."""
    return [
        {"fax": 5 if n % 10 == 0 else None, "mail": n, "stated": None, "sizes": [None, None]}
        for n in range(number)
    ]


def test_examples_say_how_often_a_field_is_null(random_model: LocalModel) -> None:
    """Ten or more examples have the rate of rows, which stands in the certificate."""
    generator = TabularGenerator(Contact, random_model, examples=contacts(20))
    made = list(generator.generate(rows=ROWS, seed=1))

    assert share([row.fax is None for row in made]) == pytest.approx(0.9, abs=0.06)
    assert not any(row.mail is None for row in made)
    assert share([row.stated is None for row in made]) == pytest.approx(0.5, abs=0.09)
    assert all(size is None for row in made for size in row.sizes)
    rates = {
        c.path: c.value for c in generator.grammar.certificate.bounds if c.keyword == "nullRate"
    }
    assert rates == {"$.fax": 0.9, "$.mail": 0.0, "$.sizes[*]": 1.0}


@pytest.mark.parametrize(("number", "options"), [(9, {}), (20, {"null_rate": 0.5})])
def test_few_examples_and_given_rates(
    number: int, options: dict[str, Any], random_model: LocalModel
) -> None:
    """Nine examples are too few, and a rate that is given goes before that of examples."""
    generator = TabularGenerator(Contact, random_model, examples=contacts(number), **options)
    made = list(generator.generate(rows=ROWS, seed=1))

    assert share([row.mail is None for row in made]) == pytest.approx(0.5, abs=0.09)
    bounds = generator.grammar.certificate.bounds
    assert "$.mail" not in {c.path for c in bounds if c.keyword == "nullRate"}
