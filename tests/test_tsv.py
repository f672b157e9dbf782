"""Rows that a model writes as lines of values without keys."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from medical_billing import EXAMPLES, MedicalBilling
from pydantic import UUID4, BaseModel, Field, PlainSerializer
from random_rows import decode

from synthgen_local import FewShotPrompt, LocalModel, TabularGenerator, UsageError
from synthgen_local.schema import RowSchema, compile_schema
from synthgen_local.schema.grammar.json_text import write_value
from synthgen_local.schema.grammar.tsv import Lines

ASK: dict[str, Any] = {"subject": "medical_billing", "extra": "the name must be chosen at random"}


class Flat(BaseModel):
    """One of each kind of value that a line may have."""

    name: str = Field(max_length=6)
    kind: Literal["plain", 'a "quoted" \\ one']
    code: str = Field(pattern="^[A-Z]{2}-[0-9]+$", max_length=6)
    born: date
    key: UUID4
    price: Decimal = Field(max_digits=6, decimal_places=2)
    count: int
    ratio: float
    mail: str | None = Field(max_length=3)
    flag: bool | None
    mixed: Literal["null", 7, True]


class Nested(BaseModel):
    """Not flat: it has a list."""

    names: list[str]


def lines_of(model: type[BaseModel]) -> Lines:
    lines = Lines.of(compile_schema(RowSchema.of(model)).ir)
    assert lines is not None
    return lines


@settings(max_examples=40, deadline=None)
@given(salt=st.integers(0, 2**32 - 1))
def test_rows_of_lines_are_valid(salt: int) -> None:
    """Whatever the logits are, a line is a row of the schema, and is written as it was read."""
    grammar = compile_schema(RowSchema.of(Flat))
    lines = lines_of(Flat)
    for text in decode(grammar, salt, 3, lines):
        record = json.loads(text)
        line = lines.write(record)
        assert line is not None
        assert json.loads(lines.read(line)) == record


def test_a_line_has_no_keys_and_few_quotes() -> None:
    """Plain strings stand bare; what may be no string stands as JSON."""
    record = {
        "name": 'Al"',
        "kind": "plain",
        "code": "AB-1",
        "born": "2001-02-03",
        "key": "2b7c2f6e-0e6f-4f5a-9d43-0b6a4f0c1d2e",
        "price": "12.50",
        "count": 3,
        "ratio": 0.5,
        "mail": None,
        "flag": True,
        "mixed": "null",
    }

    line = lines_of(Flat).write(record)

    assert line == (
        'Al"\tplain\t"AB-1"\t2001-02-03\t2b7c2f6e-0e6f-4f5a-9d43-0b6a4f0c1d2e\t12.50\t3\t0.5\t'
        'null\ttrue\t"null"'
    )
    assert lines_of(Flat).read(f"{line}\n") == write_value(record)


class Shortened(BaseModel):
    """A string that is dumped as something else."""

    name: Annotated[str, PlainSerializer(len)]


class Defaults(BaseModel):
    """Every field may be left out of an example."""

    name: str = "Ada"
    age: int = 36


def test_a_serializer_does_not_change_an_example(random_model: LocalModel) -> None:
    """An example stands in the prompt in the form in which its schema reads it, as rows do."""
    prompt = FewShotPrompt(examples=[Shortened(name="Ada")])
    generator = TabularGenerator(Shortened, random_model, prompt=prompt)

    assert generator.layout == "lines"
    assert generator.prompt_text().endswith("name\nAda\n")


def test_an_empty_object_is_an_example(random_model: LocalModel) -> None:
    """What it leaves out has its default."""
    prompt = FewShotPrompt(examples=["{}"])
    generator = TabularGenerator(Defaults, random_model, prompt=prompt)

    assert generator.prompt_text().endswith("name\tage\nAda\t36\n")


def test_other_keys_are_no_line() -> None:
    """A record with a key too many or too few is not cut to fit."""
    assert lines_of(MedicalBilling).write(RECORD | {"more": 1}) is None
    assert lines_of(MedicalBilling).write({"patient_id": 1}) is None


ODD = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=12)


@given(name=ODD, mail=st.none() | ODD, kind=st.sampled_from(["", 'a "b"', "\u2028", "null"]))
def test_a_line_is_read_as_it_was_written(name: str, mail: str | None, kind: str) -> None:
    """Whatever a string holds that is no control character, in bare cells and in JSON ones."""
    schema = {
        "properties": {
            "name": {"type": "string"},
            "mail": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "kind": {"enum": ["", 'a "b"', "\u2028", "null"]},
            "none": {"type": "string", "maxLength": 0},
        },
        "required": ["name", "mail", "kind", "none"],
    }
    lines = Lines.of(compile_schema(RowSchema.of(schema)).ir)
    record = {"name": name, "mail": mail, "kind": kind, "none": ""}
    assert lines is not None
    line = lines.write(record)

    assert line is not None
    assert json.loads(lines.read(f"{line}\n")) == record


def test_a_string_that_would_break_the_line_is_not_written() -> None:
    """A tab or a line feed belongs to the line and not to a value."""
    assert lines_of(MedicalBilling).write(RECORD | {"patient_name": "Ada\tLovelace"}) is None
    assert lines_of(MedicalBilling).write(RECORD | {"patient_name": "Ada\nLovelace"}) is None


RECORD = {
    "patient_id": 1,
    "patient_name": "Ada",
    "diagnosis_code": "J20.9",
    "procedure_code": "99203",
    "total_charge": 500.0,
    "insurance_claim_amount": 350.0,
}


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "integer"}},
        {"properties": {"a": {"type": "integer"}}, "additionalProperties": False},
        {"properties": {"a": {"type": "object"}}, "required": ["a"]},
        {"properties": {"a\tb": {"type": "integer"}}, "required": ["a\tb"]},
    ],
)
def test_what_is_not_flat_has_no_lines(schema: dict[str, Any]) -> None:
    """Lists, objects, keys that may be left out and keys with a tab stay JSON."""
    assert Lines.of(compile_schema(RowSchema.of(schema)).ir) is None


def test_flat_schemas_are_written_as_lines(random_model: LocalModel) -> None:
    """The prompt ends with the keys and the examples, one line each, as the model's own words."""
    prompt = FewShotPrompt(examples=EXAMPLES)
    generator = TabularGenerator(MedicalBilling, random_model, prompt=prompt)

    assert generator.layout == "lines"
    assert generator.prompt_text(**ASK) == (
        "Write records.\n"
        "Synthetic data about medical_billing.\n"
        "Make sure of this: the name must be chosen at random.\n"
        "patient_id\tpatient_name\tdiagnosis_code\tprocedure_code\ttotal_charge\t"
        "insurance_claim_amount\n"
        "123456\tJohn Doe\tJ20.9\t99203\t500.0\t350.0\n"
        "789012\tJohnson Smith\tM54.5\t99213\t150.0\t120.0\n"
        "345678\tEmily Stone\tE11.9\t99214\t300.0\t250.0\n"
    )


@pytest.mark.parametrize(
    ("schema", "prompt"),
    [
        (Nested, FewShotPrompt()),
        (MedicalBilling, FewShotPrompt(suffix="Write one more as JSON.")),
        (MedicalBilling, FewShotPrompt(examples=[RECORD | {"patient_name": "Ada\tByron"}])),
    ],
)
def test_other_rows_are_json(
    random_model: LocalModel, schema: type[BaseModel], prompt: FewShotPrompt
) -> None:
    """A schema that is not flat, words that ask for JSON, and an example with a tab in it."""
    assert TabularGenerator(schema, random_model, prompt=prompt).layout == "json"


def test_the_prompts_own_words_stay(random_model: LocalModel) -> None:
    """A caller's prefix and suffix are the question as they are."""
    prompt = FewShotPrompt(prefix="Invent bills.", suffix="Go on.")

    text = TabularGenerator(MedicalBilling, random_model, prompt=prompt).prompt_text()

    assert text.startswith("Write records.\nInvent bills.\nGo on.\npatient_id\t")


def test_lines_that_cannot_be_are_refused(random_model: LocalModel) -> None:
    """Who asks for lines of what is not flat is told why not."""
    with pytest.raises(UsageError, match="Nested has more than plain values"):
        TabularGenerator(Nested, random_model, layout="lines")
    with pytest.raises(UsageError, match="cannot be 'rows'"):
        TabularGenerator(Nested, random_model, layout="rows")  # type: ignore[arg-type]


@pytest.mark.parametrize("rate", [0.0, 0.2, 1.0])
def test_nulls_of_lines_have_their_rates(random_model: LocalModel, rate: float) -> None:
    """A value of a line is null as often as it would be in JSON."""
    rows = TabularGenerator(Flat, random_model, null_rate=rate, layout="lines").generate(rows=300)

    for name in ("mail", "flag"):
        share = sum(getattr(row, name) is None for row in rows) / len(rows)
        assert share == pytest.approx(rate, abs=0.08)


def test_lines_take_half_the_tokens(model: LocalModel) -> None:
    """Real weights write the same kind of rows with about half of the tokens."""
    prompt = FewShotPrompt(examples=EXAMPLES)
    tokens = {}
    for layout in ("json", "lines"):
        generator = TabularGenerator(MedicalBilling, model, prompt=prompt, layout=layout)
        rows = list(generator.rows(**ASK, rows=16))
        assert all(isinstance(row.value, MedicalBilling) for row in rows)
        tokens[layout] = sum(row.tokens for row in rows)

    assert tokens["lines"] < 0.7 * tokens["json"]
